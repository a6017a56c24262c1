"""The three measures by hand-made days: what lowers each, and what is kept of them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from ledger_pipeline.reports import measures
from ledger_pipeline.reports.measures import Measure, Subject
from ledger_pipeline.store.database import Database
from ledger_pipeline_tests.fakes import DAY, FakeCompany, order

SHOP = Subject("shop", "acme", "USD", "UTC")
NEXT = DAY + timedelta(days=1)


@pytest.fixture
def company(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeCompany:
    return FakeCompany(database, tmp_path, monkeypatch, limit=1.0)


def taken(company: FakeCompany, day: date = DAY, subject: Subject = SHOP) -> dict[str, Measure]:
    with company.database.connect("reader") as connection:
        return {one.measure: one for one in measures.of_day(connection, subject, day)}


def test_what_is_quarantined_undecided_or_missing_lowers_completeness(company: FakeCompany) -> None:
    company.run(order("o1", 1000), order("o2", 500, state="test"), order("o3", "x"))
    one = taken(company)["completeness"]
    assert (one.numerator, one.denominator, one.share) == (2, 3, Decimal("0.6667"))
    company.shelf.put("orders", order("o4", 10))
    company.pull()
    with company.database.connect() as connection:
        connection.execute(
            "INSERT INTO raw.pull (pull_id, connection, stream, sync_date, run_id, started_at, ended_at, pages, records, repeated, landed, "
            "expected, calls, retries) VALUES (nextval('raw.pull_id_seq'), 'shop', 'orders', %s, 'r', now(), now(), 1, 4, 0, 0, 6, 1, 0)",
            (DAY,),
        )
    one = taken(company)["completeness"]
    assert (one.numerator, one.denominator) == (2, 6)
    assert one.details == {"landed": 4, "quarantined": 1, "undecided": 1, "missing": 2}
    assert taken(company, NEXT)["completeness"].share is None


def test_timeliness_counts_from_the_end_of_the_local_day(company: FakeCompany) -> None:
    """Pulled at 05:00 UTC: 29 h after a day that ended there at midnight before, which in New York is 25 h, and 1 h after today's."""
    company.now = datetime(2026, 10, 7, 5, tzinfo=UTC)
    company.run(order("o1", at="2026-10-05T12:00:00Z"), order("o2", at="2026-10-06T12:00:00Z"), day=NEXT)
    one = taken(company, NEXT)["timeliness"]
    assert (one.numerator, one.denominator) == (1, 2)
    assert one.details == {"undated": 0, "p50_hours": "5.0", "p95_hours": "29.0"}
    new_york = taken(company, NEXT, Subject("shop", "acme", "USD", "America/New_York"))["timeliness"]
    assert (new_york.numerator, new_york.details["p95_hours"]) == (1, "25.0")
    company.now = datetime(2026, 10, 6, 23, tzinfo=UTC)
    company.run(order("o3", at="2026-10-05T12:00:00Z"), day=DAY)
    assert taken(company)["timeliness"].share == 1


def test_a_later_version_is_judged_by_its_time_of_change_or_not_at_all(company: FakeCompany) -> None:
    company.run(order("o1"), order("o2"))
    company.now += timedelta(days=1)
    company.run(order("o1", 7, updated="2026-10-06T12:00:00Z"), order("o2", 7), day=NEXT)
    one = taken(company, NEXT)["timeliness"]
    assert (one.numerator, one.denominator, one.details["undated"]) == (1, 1, 1)


def test_clearing_falls_by_what_is_open_for_more_than_three_days(company: FakeCompany) -> None:
    back = {"id": "r1", "at": "2026-10-06T12:00:00Z", "amount": 400}
    company.run(order("o1", 1000, refunds=[back]))
    company.run(order("o2", 500, at="2026-10-07T12:00:00Z"), day=NEXT)
    for days, numerator, denominator in (
        (0, 1000, 1000),
        (3, 1500, 1500),
        (4, 900, 1500),
        (6, 400, 1500),
        (31, 0, 500),
    ):
        one = taken(company, DAY + timedelta(days=days))["clearing"]
        assert (one.numerator * 100, one.denominator * 100) == (numerator, denominator), days
    assert taken(company, DAY + timedelta(days=4))["clearing"].details == {
        "currency": "USD",
        "open": [{"role": "order_clearing:till", "currency": "USD", "open": "6.00"}],
    }


def test_measures_are_kept_and_replaced_by_a_later_look(company: FakeCompany) -> None:
    company.run(order("o1", 1000), order("o2", "x"))
    for _ in range(2):
        with company.database.connect() as connection:
            measures.keep(connection, measures.of_day(connection, SHOP, DAY), company.now)
        company.run(order("o1", 1000))
        with company.database.connect("owner") as connection:
            connection.execute("UPDATE ops.fate SET fate = 'ignored' WHERE fate = 'quarantined'")
    with company.database.connect("reader") as connection:
        found = measures.history(connection, ["shop"], DAY, NEXT)
        none = measures.history(connection, ["other"], DAY, NEXT)
    assert [(m.measure, m.share) for m in found] == [("completeness", 1), ("timeliness", 1), ("clearing", 1)]
    assert (len(found), none) == (3, [])
