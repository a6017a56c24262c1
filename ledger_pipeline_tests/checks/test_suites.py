"""Each kind of expectation fails on a row made for it and names its payload; the gate closes above the limit and not below."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from ledger_pipeline.checks import suites
from ledger_pipeline.checks.suites import Outcome, expectations_of
from ledger_pipeline.model.records import RECORDS
from ledger_pipeline.orchestration import steps
from ledger_pipeline.store.database import Database
from ledger_pipeline.store.gate import GateClosed
from ledger_pipeline_tests.fakes import DAY, NOON, FakeCompany, order, row, tables

END = datetime(2026, 10, 6, tzinfo=UTC)
BAD, GOOD = 7, 1


def sound() -> dict[str, list[dict[str, Any]]]:
    """Two payloads without a fault: raw_ids 1 and 7."""
    return {
        "sale": [row("sale", n, f"s{n}", total_minor=1050) for n in (GOOD, BAD)],
        "sale_line": [row("sale_line", n, f"s{n}", net_minor=1000) for n in (GOOD, BAD)],
        "sale_tax": [row("sale_tax", n, f"s{n}", amount_minor=50) for n in (GOOD, BAD)],
        "sale_tender": [row("sale_tender", n, f"s{n}", amount_minor=1050) for n in (GOOD, BAD)],
        "processor_transaction": [
            row("processor_transaction", n, f"t{n}", amount_minor=100, fee_minor=3) for n in (GOOD, BAD)
        ],
        "bank_transaction": [row("bank_transaction", n, f"b{n}", amount_minor=5) for n in (GOOD, BAD)],
        "pay_run": [row("pay_run", n, f"p{n}", gross_minor=9, net_minor=7) for n in (GOOD, BAD)],
        "pay_run_line": [
            row("pay_run_line", n, f"p{n}", amount_minor=amount, role=role)
            for n in (GOOD, BAD)
            for role, amount in (
                ("wages", 9),
                ("wages_payable", -4),
                ("wages_payable:uk", -3),
                ("payroll_tax_withheld", -2),
            )
        ],
    }


def check(
    record: str, rows: dict[str, list[dict[str, Any]]], *, null: tuple[str, str] | None = None
) -> dict[str, Outcome]:
    made = tables(**rows)
    if null is not None:
        name, column = null
        values = [
            None if raw_id == BAD else v
            for raw_id, v in zip(made[name]["raw_id"].to_pylist(), made[name][column].to_pylist(), strict=True)
        ]
        at = made[name].schema.get_field_index(column)
        made[name] = made[name].set_column(at, column, pa.array(values, made[name].schema.field(column).type))
    return {o.name: o for o in suites.check(RECORDS[record], made, window_end=END)}


@pytest.mark.parametrize("record", RECORDS)
def test_sound_rows_meet_every_expectation(record: str) -> None:
    found = suites.check(RECORDS[record], tables(**sound()), window_end=END)
    assert [o.name for o in found if not o.is_met] == []
    assert [o.name for o in found] == [e.name for e in expectations_of(RECORDS[record])]


CASES: list[tuple[str, str, dict[str, Any]]] = [
    ("sale", "state is known", {"state": "half paid"}),
    ("sale", "currency is an ISO 4217 code", {"currency": "USX"}),
    ("sale", "presentment_currency is an ISO 4217 code", {"presentment_currency": "eur"}),
    ("sale", "total_minor is at least 0", {"total_minor": -1}),
    ("sale", "total_minor is the sum of its parts (lines − discounts + taxes = total)", {"total_minor": 1049}),
    ("sale", "total_minor is the sum of its parts (captured tenders + unpaid = total)", {"unpaid_minor": 1}),
    ("sale", "occurred_at lies inside the window", {"occurred_at": END + timedelta(days=4)}),
    ("sale", "occurred_at lies inside the window", {"occurred_at": datetime(1999, 12, 31, tzinfo=UTC)}),
    ("sale_line", "quantity is at least 0", {"quantity": -1}),
    ("sale_line", "discount_minor is at least 0", {"discount_minor": -5}),
    ("sale_line", "its sale exists", {"source_id": "s99"}),
    ("sale_tender", "settled_minor is at least 0", {"settled_minor": -1}),
    ("processor_transaction", "kind is known", {"kind": "gift"}),
    ("processor_transaction", "net_minor is the sum of its parts (amount − fee = net)", {"net_minor": 96}),
    ("pay_run", "net_minor is the sum of its parts (credits on wages_payable = net)", {"net_minor": 8}),
    ("bank_transaction", "state is known", {"state": "maybe"}),
    ("bank_transaction", "booked_on lies inside the window", {"booked_on": date(2030, 1, 1)}),
]


@pytest.mark.parametrize(("record", "expectation", "change"), CASES)
def test_a_row_that_breaks_an_expectation_is_named_by_its_payload(
    record: str, expectation: str, change: dict[str, Any]
) -> None:
    rows = sound()
    rows[record] = [one | change if one["raw_id"] == BAD else one for one in rows[record]]
    outcomes = suites.check(RECORDS[record], tables(**rows), window_end=END)
    failed = [o for o in outcomes if o.name == expectation and not o.is_met]
    assert failed
    assert {o.failing for o in failed} == {(BAD,)}
    assert not any(GOOD in o.failing for o in outcomes)


def test_every_kind_of_expectation_has_a_row_that_breaks_it() -> None:
    wanted = {(r.name, e.kind, next(iter(e.arguments.values()))) for r in RECORDS.values() for e in expectations_of(r)}
    assert {kind for _, kind, _ in wanted} == {"in_set", "between", "equal", "unique"}
    assert all(any(e.name == name for e in expectations_of(RECORDS[record])) for record, name, _ in CASES)


@pytest.mark.parametrize(
    ("record", "column"),
    [("sale", "order_number"), ("sale", "currency"), ("sale_line", "role"), ("sale_tax", "amount_minor")],
)
def test_a_missing_required_field_is_named_by_its_payload(record: str, column: str) -> None:
    found = check(record, sound(), null=(record, column))["required fields are present"]
    assert (found.is_met, found.failing) == (False, (BAD,))
    assert column in found.examples[0]


def test_two_payloads_that_say_different_things_of_one_record_both_fail() -> None:
    rows = sound()
    rows["bank_transaction"] = [row("bank_transaction", n, "b1", amount_minor=n) for n in (1, 2)]
    assert check("bank_transaction", rows)["source_id is unique"].failing == (1, 2)


def test_a_record_delivered_twice_alike_is_no_duplicate() -> None:
    rows = sound()
    rows["bank_transaction"] = [row("bank_transaction", n, "b1", amount_minor=5) for n in (1, 2)]
    assert check("bank_transaction", rows)["source_id is unique"].is_met


def test_parts_count_only_in_their_own_payload() -> None:
    rows = sound()
    rows["sale_tax"].append(row("sale_tax", 3, "s1", amount_minor=999))
    assert all(o.is_met for o in check("sale", rows).values())


def test_the_grace_for_the_banks_dates_is_two_days() -> None:
    for days, is_met in ((2, True), (3, False)):
        rows = {
            "bank_transaction": [row("bank_transaction", amount_minor=1, booked_on=END.date() + timedelta(days=days))]
        }
        assert check("bank_transaction", rows)["booked_on lies inside the window"].is_met is is_met


def test_no_rows_fail_nothing_and_need_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suites, "_library", lambda: pytest.fail("Great Expectations was asked"))
    assert all(o.is_met and o.rows == 0 for o in suites.check(RECORDS["sale"], tables(), window_end=END))


# the day ------------------------------------------------------------------------------------------------------


@pytest.fixture
def company(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeCompany:
    return FakeCompany(database, tmp_path, monkeypatch, limit=0.1)


def orders(good: int, bad: int) -> list[dict[str, Any]]:
    return [order(f"g{n}") for n in range(good)] + [order(f"b{n}", net=999) for n in range(bad)]


def test_a_failing_row_is_quarantined_and_the_others_go_on(company: FakeCompany) -> None:
    day = company.run(order("o1"), order("o2", 1000, net=999), order("o3", state="half paid"))
    assert day.posted is not None
    assert [(i, fate) for i, fate, _ in company.fates()] == [
        ("o1", "posted"),
        ("o2", "quarantined"),
        ("o3", "quarantined"),
    ]
    assert company.balances() == {"order_clearing:till": 1000, "sales": -1000}
    told = company.rows("SELECT source_id, stage, record, path, reason FROM ops.quarantine ORDER BY source_id")
    name = "total_minor is the sum of its parts (lines − discounts + taxes = total)"
    assert told[0][:4] == ("o2", "check", "sale", name)
    assert told[0][4].endswith("failed (lines − discounts + taxes = total)")
    assert told[1][3] == "state is known"


def test_a_failing_part_quarantines_its_whole_payload(company: FakeCompany) -> None:
    company.run(
        order("o1", refunds=[{"id": "r1", "at": (NOON + timedelta(days=9)).isoformat(), "amount": 1}]), order("o2")
    )
    assert [(i, fate) for i, fate, _ in company.fates()] == [("o1", "quarantined"), ("o2", "posted")]
    assert company.rows("SELECT count(*) FROM ledger.entry WHERE origin_id = 'o1'") == [(0,)]


@pytest.mark.parametrize(
    ("good", "bad", "is_open"), [(27, 3, True), (26, 4, False), (18, 2, True), (17, 3, False), (1, 18, True)]
)
def test_a_share_of_quarantined_records_above_the_limit_closes_the_gate(
    company: FakeCompany, good: int, bad: int, is_open: bool
) -> None:
    day = company.run(*orders(good, bad))
    assert day.checked is not None
    assert day.checked.is_open is is_open
    assert (day.posted is not None) is is_open
    if not is_open:
        said = f"{bad} of {good + bad} records are quarantined, more than the limit of 10%"
        assert day.checked.closed_by == [said]
        assert day.error == f"shop 2026-10-05: the gate is closed: {said}"
        assert company.entries() == []
        assert company.fates() == []


def test_a_closed_gate_stays_closed_for_posting_alone(company: FakeCompany) -> None:
    company.prepare(*orders(10, 20))
    with pytest.raises(GateClosed, match="the gate is closed"):
        company.post()


def test_a_gate_closes_for_its_day_and_connection_only(company: FakeCompany) -> None:
    company.prepare(*orders(10, 20))
    assert company.run(order("o1"), name="other").posted is not None
    assert company.run(order("o2"), day=DAY + timedelta(days=1)).posted is not None


def test_what_was_repaired_passes_when_it_is_pulled_again(company: FakeCompany) -> None:
    company.run(*orders(10, 20))
    assert company.run(*(order(f"{'b' if n < 20 else 'g'}{n % 20}") for n in range(30))).posted is not None
    assert company.rows("SELECT count(*) FROM ledger.entry") == [(30,)]


def test_a_failed_expectation_of_the_whole_batch_closes_the_gate(company: FakeCompany) -> None:
    for n in range(3):
        company.prepare(*(order(f"h{n}-{k}") for k in range(20)), day=DAY - timedelta(days=3 - n))
    checked = company.prepare(*(order(f"o{n}") for n in range(1300)))
    assert checked.closed_by == ["document: volume is like its history"]
    with pytest.raises(GateClosed, match="volume is like its history"):
        company.post()


def test_too_little_history_says_nothing_of_the_volume(company: FakeCompany) -> None:
    checked = company.prepare(*(order(f"o{n}") for n in range(100)))
    volume = next(o for o in checked.outcomes if o.name == "volume is like its history")
    assert volume.is_met
    assert "Too little history" in volume.doc
    assert steps.MINIMUM_FOR_SHARE == 20
