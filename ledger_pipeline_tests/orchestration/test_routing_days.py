"""A shop of one entity sells for another: each books its part, and what they owe each other is equal and opposite."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from ledger_pipeline.orchestration import replay
from ledger_pipeline.store.database import Database
from ledger_pipeline.store.proof import verify
from ledger_pipeline_tests.fakes import DAY, FakeCompany, gone, order

UK = {"entity": "other_ltd", "when": {"jurisdiction": ["GB"]}}
NEWER = {"updated": "2026-10-06T10:00:00Z"}
OLDER = {"updated": "2026-10-05T10:00:00Z"}

Make = Callable[..., FakeCompany]


@pytest.fixture
def company(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeCompany:
    return FakeCompany(database, tmp_path, monkeypatch, route=[UK])


def balances(company: FakeCompany) -> dict[tuple[str, str], int]:
    rows = company.rows("SELECT entity, role, sum(amount_minor)::bigint FROM ledger.line GROUP BY 1, 2")
    return {(entity, role): amount for entity, role, amount in rows if amount}


def test_the_seller_books_the_sale_and_the_collector_the_money(company: FakeCompany) -> None:
    done = company.run(order("o1", 1000), order("o2", 700, country="GB"))
    assert balances(company) == {
        ("acme", "order_clearing:till"): 1700,
        ("acme", "sales"): -1000,
        ("acme", "intercompany:other_ltd"): -700,
        ("other_ltd", "intercompany:acme"): 700,
        ("other_ltd", "sales"): -700,
    }
    assert done.posted is not None
    assert len(done.posted.posted.batch_ids) == 2
    assert company.fates() == [("o1", "posted", ""), ("o2", "posted", "")]
    assert verify(company.database).count == 0


def test_each_entity_has_its_own_day_and_its_own_base(company: FakeCompany) -> None:
    """Noon in New York's clocks is the next day in Tokyo's from 15:00 UTC on."""
    company.run(order("o2", 700, country="GB", at="2026-10-05T16:00:00+00:00"))
    assert company.rows("SELECT entity, occurred_on FROM ledger.entry ORDER BY 1") == [
        ("acme", DAY),
        ("other_ltd", DAY + timedelta(days=1)),
    ]
    base = dict(company.rows("SELECT entity, max(base_minor) FROM ledger.line GROUP BY 1"))
    assert base["acme"] == 700
    assert 400 < base["other_ltd"] < 700  # pounds


def test_a_refund_follows_its_order(company: FakeCompany) -> None:
    refund = {"id": "r1", "at": "2026-10-05T15:00:00Z", "amount": 200}
    company.run(order("o2", 700, country="GB", refunds=[refund]))
    assert balances(company) == {
        ("acme", "order_clearing:till"): 500,
        ("acme", "intercompany:other_ltd"): -500,
        ("other_ltd", "intercompany:acme"): 500,
        ("other_ltd", "sales"): -700,
        ("other_ltd", "sales_returns"): 200,
    }


@pytest.mark.parametrize(("before", "after"), [("GB", "US"), ("US", "GB")])
def test_an_order_that_is_routed_anew_leaves_nothing_behind(company: FakeCompany, before: str, after: str) -> None:
    company.run(order("o1", 900, country=before, **OLDER))
    company.run(order("o1", 900, country=after, **NEWER), day=DAY + timedelta(days=1))
    whole = {("acme", "order_clearing:till"): 900, ("acme", "sales"): -900}
    split = {
        ("acme", "order_clearing:till"): 900,
        ("acme", "intercompany:other_ltd"): -900,
        ("other_ltd", "intercompany:acme"): 900,
        ("other_ltd", "sales"): -900,
    }
    assert balances(company) == (whole if after == "US" else split)
    assert verify(company.database).count == 0


def test_a_vanished_order_is_reversed_in_both_books(company: FakeCompany) -> None:
    company.run(order("o1", 900, country="GB", **OLDER))
    company.run(gone("o1"), day=DAY + timedelta(days=1))
    assert balances(company) == {}
    assert company.rows("SELECT entity, count(*) FROM ledger.entry GROUP BY 1 ORDER BY 1") == [
        ("acme", 2),
        ("other_ltd", 2),
    ]


def test_a_rerun_posts_nothing_twice(company: FakeCompany) -> None:
    company.run(order("o1", 900, country="GB"))
    again = company.run(order("o1", 900, country="GB"))
    assert again.posted is not None
    assert again.posted.posted.batch_ids == []


def test_what_one_of_the_two_cannot_book_is_booked_by_neither(company: FakeCompany) -> None:
    """The seller's pounds have no rate on a day after the history; the collector would need none."""
    late = date(2027, 3, 1)
    company.now = company.now.replace(year=2027, month=3, day=2)
    company.run(
        order("o1", 900, country="GB", at="2027-03-01T12:00:00+00:00"),
        order("o2", 100, at="2027-03-01T12:00:00+00:00"),
        day=late,
    )
    assert balances(company) == {("acme", "order_clearing:till"): 100, ("acme", "sales"): -100}
    (first, second) = company.fates()
    assert first[:2] == ("o1", "quarantined")
    assert "no rate: no ECB rate for GBP on 2027-03-01" in first[2]
    assert second[:2] == ("o2", "posted")


def test_a_closed_month_of_one_entity_moves_only_its_own_entry(company: FakeCompany) -> None:
    with company.database.connect("owner") as connection:
        connection.execute(
            "INSERT INTO ledger.period (entity, month, state, changed_by) VALUES ('other_ltd', '2026-10-01', 'closed', 'me')"
        )
    company.run(order("o1", 900, country="GB"))
    found: list[tuple[Any, ...]] = company.rows(
        "SELECT entity, posted_on, is_prior_period FROM ledger.entry ORDER BY 1"
    )
    assert found == [("acme", DAY, False), ("other_ltd", date(2026, 11, 1), True)]


@pytest.mark.parametrize(("before", "after"), [([], [UK]), ([UK], [])])
def test_a_changed_route_moves_nothing_until_somebody_asks(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: list[Any], after: list[Any]
) -> None:
    FakeCompany(database, tmp_path, monkeypatch, route=before).run(order("o1", 900, country="GB"))
    company = FakeCompany(database, tmp_path, monkeypatch, route=after)
    entries = company.entries()
    company.run(order("o1", 900, country="GB"))
    assert company.entries() == entries
    shown = replay.replay(company.runtime, "shop", DAY, DAY)
    sign = 1 if after else -1
    assert {(m.entity, m.account, m.amount_minor) for m in shown.moved} == {
        ("acme", "1190", -900 * sign),
        ("acme", "4000", 900 * sign),
        ("other_ltd", "1190", 900 * sign),
        ("other_ltd", "4000", -900 * sign),
    }
