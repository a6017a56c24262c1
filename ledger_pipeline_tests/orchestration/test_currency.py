"""The month-end currency run on a company that keeps its books in pounds and sells in dollars."""

from __future__ import annotations

import json
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from ledger_pipeline.orchestration import currency
from ledger_pipeline.store.database import Database
from ledger_pipeline.store.proof import verify
from ledger_pipeline_tests.fakes import DAY, FakeCompany, ecb_rate, order

OCTOBER = date(2026, 10, 1)
NEXT = DAY + timedelta(days=1)
CLEARING = "order_clearing:till"
OLDER = {"updated": "2026-10-05T10:00:00Z"}
NEWER = {"updated": "2026-10-06T10:00:00Z"}


@pytest.fixture
def company(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeCompany:
    return FakeCompany(database, tmp_path, monkeypatch, base="GBP")


def refund(id_: str, amount: int, day: date) -> dict[str, Any]:
    return {"id": id_, "at": f"{day}T15:00:00Z", "amount": amount}


def run(company: FakeCompany, month: date = OCTOBER) -> currency.Ran:
    return currency.run(company.runtime, "acme", month, "Ann", "run-1")


def held(company: FakeCompany, role: str, through: date) -> tuple[int, int]:
    """(amount, base) of a role in dollars."""
    rows = company.rows(
        "SELECT coalesce(sum(amount_minor), 0)::bigint, coalesce(sum(base_minor), 0)::bigint FROM ledger.line "
        "WHERE role = %s AND currency = 'USD' AND posted_on <= %s", role, through
    )  # fmt: skip
    return rows[0][0], rows[0][1]


def gains(company: FakeCompany) -> dict[tuple[str, date], int]:
    """Gain (income positive) by record and day, of all entries that stand."""
    rows = company.rows(
        "SELECT e.record, e.posted_on, -sum(l.base_minor)::bigint FROM ledger.live_entry e JOIN ledger.line l USING (entry_id) "
        "WHERE l.role = 'fx_gain_loss' GROUP BY 1, 2"
    )
    return {(record, day): gain for record, day, gain in rows}


def pounds(minor: int, day: date) -> int:
    rate = ecb_rate("USD", "GBP", day)
    return int((Decimal(minor) * rate.numerator / rate.denominator).quantize(Decimal(1)))


def test_what_is_settled_is_realised_on_its_day_and_what_is_open_is_revalued(company: FakeCompany) -> None:
    company.run(order("o1", 100_000), order("o2", 50_000))
    company.run(order("o1", 100_000, refunds=[refund("r1", 100_000, NEXT)]), day=NEXT)
    ran = run(company)
    carried = pounds(100_000, DAY) + pounds(50_000, DAY)
    relief = round(Decimal(carried) * 2 / 3)
    realised = pounds(100_000, NEXT) - relief
    left = carried - relief
    unrealised = pounds(50_000, date(2026, 10, 30)) - left
    assert (ran.realised_minor, ran.unrealised_minor) == (realised, unrealised)
    assert gains(company) == {
        ("realised_gain", NEXT): realised,
        ("revaluation", date(2026, 10, 31)): unrealised,
        ("revaluation_reversal", date(2026, 11, 1)): -unrealised,
    }
    assert held(company, CLEARING, date(2026, 10, 31)) == (50_000, pounds(50_000, date(2026, 10, 30)))
    assert held(company, CLEARING, date(2026, 11, 30)) == (50_000, left)
    assert verify(company.database).count == 0


def test_a_settled_balance_carries_nothing(company: FakeCompany) -> None:
    company.run(order("o1", 123_457))
    company.run(order("o1", 123_457, refunds=[refund("r1", 123_457, NEXT)]), day=NEXT)
    run(company)
    assert held(company, CLEARING, date(2026, 10, 31)) == (0, 0)


def test_a_second_run_books_nothing(company: FakeCompany) -> None:
    company.run(order("o1", 100_000))
    assert not currency.is_current(company.runtime, "acme", OCTOBER)
    assert run(company).posted.batch_ids
    assert currency.is_current(company.runtime, "acme", OCTOBER)
    again = run(company)
    assert (again.posted.batch_ids, again.posted.unchanged) == ([], 2)
    assert company.rows("SELECT action, by_whom FROM ops.action") == [("currency run", "Ann")]


def test_a_late_record_corrects_the_run(company: FakeCompany) -> None:
    company.run(order("o1", 100_000, **OLDER))
    run(company)
    company.run(order("o1", 150_000, **NEWER), day=NEXT)
    run(company)
    kinds = company.rows(
        "SELECT record, kind, count(*) FROM ledger.entry WHERE connection = 'books:acme' GROUP BY 1, 2 ORDER BY 1, 2"
    )
    assert kinds == [
        (record, kind, 1)
        for record in ("revaluation", "revaluation_reversal")
        for kind in ("original", "replacement", "reversal")
    ]
    assert held(company, CLEARING, date(2026, 10, 31)) == (150_000, pounds(150_000, date(2026, 10, 30)))
    assert company.rows(
        "SELECT fate, count(*) FROM ops.fate WHERE connection = 'books:acme' GROUP BY 1 ORDER BY 1"
    ) == [
        ("posted", 1),
        ("superseded", 1),
    ]
    assert verify(company.database).count == 0


def test_a_gain_that_a_correction_takes_away_is_reversed(company: FakeCompany) -> None:
    both = order("o1", 100_000, refunds=[refund("r1", 100_000, NEXT)], updated="2026-10-06T09:00:00Z")
    company.run(order("o1", 100_000, **OLDER))
    company.run(both, day=NEXT)
    run(company)
    assert ("realised_gain", NEXT) in gains(company)
    company.run(order("o1", 100_000, updated="2026-10-07T10:00:00Z"), day=NEXT + timedelta(days=1))
    run(company)
    assert ("realised_gain", NEXT) not in gains(company)
    assert held(company, CLEARING, date(2026, 11, 30)) == (100_000, pounds(100_000, DAY))
    assert verify(company.database).count == 0


def test_the_computation_is_kept_as_the_source_of_the_entry(company: FakeCompany) -> None:
    company.run(order("o1", 100_000))
    run(company)
    ((payload,),) = company.rows(
        "SELECT r.payload::text FROM raw.record r JOIN ledger.entry e USING (raw_id) WHERE e.record = 'revaluation'"
    )
    said = json.loads(payload)
    (pool,) = said["pools"]
    assert (said["month"], pool["role"], pool["currency"], pool["amount_minor"]) == (
        "2026-10",
        CLEARING,
        "USD",
        100_000,
    )
    rate = ecb_rate("USD", "GBP", date(2026, 10, 31))
    assert pool["rate"] == f"{rate.numerator}/{rate.denominator}"
    assert pool["value_base_minor"] - pool["carried_base_minor"] == pool["gain_base_minor"]


def test_the_next_month_starts_from_what_was_carried(company: FakeCompany) -> None:
    company.run(order("o1", 100_000))
    run(company)
    november = date(2026, 11, 1)
    ran = run(company, november)
    assert ran.not_revalued == [f"{CLEARING}: 1000.00 USD (no ECB rate for GBP on 2026-11-30: that of 2026-11-02 isn't known yet; "
                                "the history covers 1999-01-04 to 2026-10-30 (`ledger-pipeline rates refresh` fetches newer ones))"]  # fmt: skip
    with company.database.connect() as connection:
        connection.execute(
            "INSERT INTO ledger.rate VALUES ('2026-11-30', 'USD', 1.2, 'test', now()), ('2026-11-30', 'GBP', 0.9, 'test', now())"
        )
    run(company, november)
    assert held(company, CLEARING, date(2026, 11, 30)) == (100_000, 75_000)
    assert held(company, CLEARING, date(2026, 12, 1)) == (100_000, pounds(100_000, DAY))


def test_a_closed_month_is_not_touched_by_a_later_run(company: FakeCompany) -> None:
    company.run(order("o1", 100_000, **OLDER))
    run(company)
    with company.database.connect("owner") as connection:
        connection.execute(
            "INSERT INTO ledger.period (entity, month, state, changed_by) VALUES ('acme', '2026-10-01', 'closed', 'me')"
        )
    before = company.rows("SELECT * FROM ledger.line WHERE posted_on < '2026-11-01' ORDER BY entry_id, line_no")
    company.run(order("o1", 150_000, **NEWER), day=NEXT)
    assert currency.is_current(company.runtime, "acme", OCTOBER)
    run(company, date(2026, 11, 1))
    assert company.rows("SELECT * FROM ledger.line WHERE posted_on < '2026-11-01' ORDER BY entry_id, line_no") == before
    assert held(company, CLEARING, date(2026, 11, 30))[0] == 150_000


def test_income_keeps_the_rate_of_its_day(company: FakeCompany) -> None:
    company.run(order("o1", 100_000))
    before = company.rows("SELECT sum(base_minor) FROM ledger.line WHERE role = 'sales'")
    run(company)
    assert company.rows("SELECT sum(base_minor) FROM ledger.line WHERE role = 'sales'") == before
