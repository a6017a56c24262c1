"""The trial balance, the fates of a day, and the way from a figure back to its payload."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from ledger_pipeline.reports import fates, trial_balance
from ledger_pipeline.reports.trace import trace
from ledger_pipeline.reports.trial_balance import Row
from ledger_pipeline.store.database import Database
from ledger_pipeline_tests.fakes import DAY, FakeCompany, order

NEXT = DAY + timedelta(days=1)


@pytest.fixture
def company(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeCompany:
    made = FakeCompany(database, tmp_path, monkeypatch)
    made.run(order("o1", 1000), order("o2", 500, state="voided"), order("o3", "x"))
    made.run(order("o4", 70, at="2026-10-06T12:00:00Z"), day=NEXT)
    return made


def rows(company: FakeCompany, through: date | None = None, *, by_role: bool = False) -> list[Row]:
    with company.database.connect("reader") as connection:
        return trial_balance.of_entities(connection, through=through, by_role=by_role)


def test_a_trial_balance_counts_what_was_posted_until_its_day(company: FakeCompany) -> None:
    assert [(r.account, r.amount_minor, r.base_minor) for r in rows(company)] == [
        ("1150", 1070, 1070),
        ("4000", -1070, -1070),
    ]
    assert [(r.account, r.amount_minor) for r in rows(company, DAY)] == [("1150", 1000), ("4000", -1000)]
    assert rows(company, DAY - timedelta(days=1)) == []
    assert {r.role for r in rows(company, by_role=True)} == {"order_clearing:till", "sales"}


def test_a_trial_balance_that_is_not_zero_says_by_how_much(company: FakeCompany) -> None:
    found = rows(company)
    assert trial_balance.unbalanced(found) == []
    assert trial_balance.unbalanced(found[:1]) == ["acme: 1070 USD minor units", "acme: 1070 base minor units"]


def test_fates_are_counted_by_stream_and_day(company: FakeCompany) -> None:
    with company.database.connect("reader") as connection:
        one, both = fates.of_days(connection, DAY), fates.of_days(connection, DAY, NEXT)
    assert [(f.fate, f.currency, f.records, f.units, f.control) for f in one] == [
        ("ignored", "USD", 1, 1, Decimal("5.00")),
        ("posted", "USD", 1, 1, Decimal("10.00")),
        ("quarantined", None, 1, 1, None),
    ]
    (posted,) = (f for f in both if f.fate == "posted")
    assert (posted.connection, posted.stream, posted.records, posted.units) == ("shop", "orders", 2, 2)


def test_a_record_is_traced_from_its_entry_to_its_payload(company: FakeCompany) -> None:
    company.run(order("o1", 1200, updated="2026-10-07T00:00:00Z"), day=NEXT)
    with company.database.connect("reader") as connection:
        found = trace(connection, "o1")
        refused = trace(connection, "o3", with_payload=False)
        unknown = trace(connection, "o1", "other")
    assert [version["fate"] for version in found["versions"]] == ["superseded", "posted"]
    assert [version["payload"]["total"] for version in found["versions"]] == [1000, 1200]
    assert [entry["kind"] for entry in found["entries"]] == ["original", "reversal", "replacement"]
    assert [(line["role"], line["amount_minor"]) for line in found["entries"][2]["lines"]] == [
        ("order_clearing:till", 1200),
        ("sales", -1200),
    ]
    assert refused["versions"][0]["payload"] is None
    assert refused["versions"][0]["quarantine"][0]["path"] in ("$.total", "$")
    assert unknown == {"source_id": "o1", "versions": [], "entries": [], "matches": []}
