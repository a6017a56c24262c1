"""Control totals tie by other paths than the entries, name what explains a difference, and find what doesn't."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from ledger_pipeline import sources
from ledger_pipeline.connect import convert
from ledger_pipeline.connect.mapping import Field, Mapping
from ledger_pipeline.connect.source import Options, Source, Stream
from ledger_pipeline.orchestration import quarantine, steps
from ledger_pipeline.orchestration.runtime import Runtime
from ledger_pipeline.reports import controls
from ledger_pipeline.reports.controls import Control
from ledger_pipeline.store.database import Database
from ledger_pipeline_tests.fakes import DAY, FakeCompany, Shelf, order

NEXT = DAY + timedelta(days=1)
THIRD = DAY + timedelta(days=2)


@pytest.fixture
def company(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeCompany:
    return FakeCompany(database, tmp_path, monkeypatch)


def of(runtime: Runtime, names: Sequence[str], first: date = DAY, last: date = THIRD) -> list[Control]:
    with runtime.database.connect("reader") as connection:
        return controls.of_entity(connection, "acme", names, first, last)


def figures(found: Sequence[Control], kind: str) -> list[tuple[str, Decimal, Decimal, Decimal, bool]]:
    return [(c.unit, c.theirs, c.ours, c.explained, c.holds) for c in found if c.kind == kind]


def as_owner(database: Database, query: str) -> None:
    with database.connect("owner") as connection:
        connection.execute(query)


# landed, counted -----------------------------------------------------------------------------------------------------------


def test_landed_versions_tie_to_fates_and_the_quarantined_ones_explain_the_rest(company: FakeCompany) -> None:
    company.run(order("o1", 1000), order("o2", 500, state="test"), order("o3", 300, net=1), order("o4", "x"))
    found = of(company.runtime, ["shop"])
    assert figures(found, "landed") == [
        ("records", 4, 2, 2, True),
        ("USD", Decimal("18.00"), Decimal("15.00"), Decimal("3.00"), True),
    ]
    assert [text.split(":")[0] for text in found[0].unposted] == ["o3", "o4"]
    raw_id = company.rows("SELECT raw_id FROM raw.record WHERE source_id = 'o4'")[0][0]
    quarantine.ignore(company.runtime, raw_id, by="Ann", reason="a test of the till", run_id="act")
    again = of(company.runtime, ["shop"])
    assert figures(again, "landed")[0] == ("records", 4, 2, 2, True)
    assert again[0].unposted[1] == "o4: ignored by Ann: a test of the till"


def test_a_lost_fate_and_an_altered_amount_do_not_tie(company: FakeCompany) -> None:
    company.run(order("o1", 1000), order("o2", 500))
    as_owner(company.database, "DELETE FROM ops.fate WHERE source_id = 'o2'")
    assert figures(of(company.runtime, ["shop"]), "landed") == [
        ("records", 2, 1, 0, False), ("USD", Decimal("15.00"), Decimal("10.00"), 0, False),
    ]  # fmt: skip
    company.post()
    as_owner(company.database, "UPDATE ops.fate SET control_amount = 6 WHERE source_id = 'o2'")
    assert [f[-1] for f in figures(of(company.runtime, ["shop"]), "landed")] == [True, False]


def test_two_versions_on_one_sync_date_tie(company: FakeCompany) -> None:
    company.run(order("o1", 1000))
    company.run(order("o1", 1200))
    assert figures(of(company.runtime, ["shop"]), "landed") == [
        ("records", 2, 2, 0, True), ("USD", Decimal("12.00"), Decimal("12.00"), 0, True),
    ]  # fmt: skip


def test_a_pull_that_falls_short_of_the_sources_count_is_not_offset_by_another_day(company: FakeCompany) -> None:
    for day, expected, more in ((DAY, 1, 0), (NEXT, 2, 0), (THIRD, 0, 1)):
        company.run(order(f"o{day.day}", 1000), day=day)
        with company.database.connect() as connection:
            connection.execute(
                "INSERT INTO raw.pull (pull_id, connection, stream, sync_date, run_id, started_at, ended_at, pages, records, repeated, landed, "
                "expected, calls, retries, notes) SELECT pull_id + 100, connection, stream, sync_date, run_id, started_at, ended_at, pages, "
                "records, repeated, landed, %s, calls, retries, jsonb_build_object('listed_more_than_counted', %s::int) "
                "FROM raw.pull WHERE sync_date = %s AND stream = 'orders'",
                (expected, more, day),
            )
            connection.execute(
                "INSERT INTO raw.seen SELECT pull_id + 100, raw_id FROM raw.seen JOIN raw.pull USING (pull_id) WHERE sync_date = %s AND expected IS NULL",
                (day,),
            )
    assert figures(of(company.runtime, ["shop"]), "counted") == [
        ("records", 1, 1, 0, True), ("records", 2, 1, 0, False), ("records", 0, 1, -1, True),
    ]  # fmt: skip


# what a bank states --------------------------------------------------------------------------------------------------------


def _map(target: str, path: str, converter: convert.Converter) -> Field:
    return Field(target, (path,), converter)


_KEYS = (_map("source_id", "id", convert.text), _map("currency", "currency", convert.currency))
BANK = (
    Mapping(
        "bank_transaction",
        "lines",
        (
            *_KEYS,
            Field("account_id", (), convert.constant("a1")),
            _map("booked_on", "on", convert.date_iso),
            Field("state", (), convert.constant("booked")),
            _map("amount_minor", "moved", convert.minor_units),
            Field("bank_role", (), convert.constant("bank:a1")),
            Field("role", (), convert.constant("uncategorised_expense")),
        ),
    ),
    Mapping(
        "bank_balance",
        "accounts",
        (
            *_KEYS,
            Field("account_id", (), convert.constant("a1")),
            _map("stated_on", "on?", convert.date_iso),
            Field("kind", (), convert.constant("current")),
            _map("amount_minor", "balance", convert.minor_units),
        ),
    ),
)


class Bank:
    """A connection at a bank that counts money out as positive and states its balance with or without a day."""

    def __init__(self, company: FakeCompany, monkeypatch: pytest.MonkeyPatch) -> None:
        self.shelf = Shelf()
        self.company = company
        source = Source(
            "fake",
            "Bank",
            streams=(
                Stream("lines", self.shelf.read, gone_without="on", control=("out", "currency"), control_unit="minor"),
                Stream("accounts", self.shelf.read),
            ),
            mappings=BANK,
            options=Options,
        )
        monkeypatch.setattr(sources, "load", lambda name: source)
        connections = {"bank": company.runtime.config.connections["shop"]}
        config = company.runtime.config.model_copy(update={"connections": connections})
        self.runtime = Runtime(config, company.runtime.folder, clock=lambda: company.now)

    def night(self, day: date, balance: int, *lines: dict[str, Any], is_dated: bool = False) -> None:
        self.company.now = datetime(day.year, day.month, day.day, 5, tzinfo=UTC) + timedelta(days=1)
        self.shelf.put("lines", *lines)
        dated = {"on": str(day)} if is_dated else {}
        self.shelf.put("accounts", {"id": "a1", "currency": "USD", "balance": balance, **dated})
        assert steps.run_day(self.runtime, "bank", day, f"night of {day}").error is None

    def movements(self) -> list[tuple[str, Decimal, Decimal, Decimal, bool]]:
        return figures(of(self.runtime, ["bank"]), "balance")


@pytest.fixture
def bank(company: FakeCompany, monkeypatch: pytest.MonkeyPatch) -> Bank:
    return Bank(company, monkeypatch)


def line(id_: str, moved: Any, on: date = DAY, out: int | None = None) -> dict[str, Any]:
    return {"id": id_, "on": str(on), "currency": "USD", "moved": moved, "out": -moved if out is None else out}


def test_a_balance_without_a_day_ties_to_what_the_pulls_knew(bank: Bank) -> None:
    """A line that the bank removes a day later is in the first balance and not in the second."""
    bank.night(DAY, 10000, line("l0", 500))
    bank.night(NEXT, 10700, line("l1", 400, NEXT), line("l2", 300, NEXT))
    bank.night(THIRD, 10350, {"id": "l2"}, line("l3", -50, THIRD))
    assert bank.movements() == [("USD", Decimal("3.50"), Decimal("3.50"), 0, True)]
    found = [c for c in of(bank.runtime, ["bank"], NEXT, NEXT) if c.kind == "balance"]
    assert [(c.theirs, c.ours) for c in found] == [(Decimal("7.00"), Decimal("7.00"))]


def test_a_quarantined_line_explains_what_the_bank_has_more_until_it_is_repaired(bank: Bank) -> None:
    bank.night(DAY, 10000, line("l0", 500))
    bank.night(NEXT, 9900, line("l1", "a", NEXT, out=100), line("l2", 0, NEXT))
    assert bank.movements() == [("USD", Decimal("-1.00"), 0, Decimal("-1.00"), True)]
    (found,) = (c for c in of(bank.runtime, ["bank"]) if c.kind == "balance")
    assert found.unposted[0].startswith("l1: quarantined: $.moved")
    bank.night(THIRD, 9900, line("l1", -100, NEXT))
    assert bank.movements() == [
        ("USD", Decimal("-1.00"), 0, Decimal("-1.00"), True), ("USD", 0, Decimal("-1.00"), Decimal("1.00"), True),
    ]  # fmt: skip


@pytest.mark.parametrize("is_dated", [False, True])
def test_a_line_that_never_came_does_not_tie(bank: Bank, is_dated: bool) -> None:
    bank.night(DAY, 10000, line("l0", 500), is_dated=is_dated)
    bank.night(NEXT, 10700, line("l1", 400, NEXT), is_dated=is_dated)
    bank.night(THIRD, 10750, line("l2", 50, THIRD), is_dated=is_dated)
    assert bank.movements() == [
        ("USD", Decimal("0.50"), Decimal("0.50"), 0, True), ("USD", Decimal("7.00"), Decimal("4.00"), 0, False),
    ]  # fmt: skip
    assert not all(c.holds for c in of(bank.runtime, ["bank"]))


def test_a_dated_balance_ties_by_the_lines_own_days(bank: Bank) -> None:
    """A line that comes a night late belongs to its own day."""
    bank.night(DAY, 10000, line("l0", 500), is_dated=True)
    bank.night(NEXT, 10700, line("l1", 400, NEXT), is_dated=True)
    bank.night(THIRD, 10750, line("l2", 300, NEXT), line("l3", 50, THIRD), is_dated=True)
    assert bank.movements() == [("USD", Decimal("7.50"), Decimal("7.50"), 0, True)]
