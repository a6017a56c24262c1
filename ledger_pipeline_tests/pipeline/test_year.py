"""The sandbox company over months that are closed, with records that change or arrive after that: to the minor unit, in every currency."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path

import pytest

from ledger_pipeline.orchestration import currency
from ledger_pipeline.sandbox.gains import is_pooled, value
from ledger_pipeline.store import proof
from ledger_pipeline.store.database import Database
from ledger_pipeline_tests.conftest import serving
from ledger_pipeline_tests.pipeline.books import balances, count
from ledger_pipeline_tests.pipeline.year import Span, in_processes, span

WITH_AUTUMN = pytest.mark.xdist_group("autumn")
"""Tests that look at the booked autumn share a worker: booking it takes half a minute."""
OCTOBER, NOVEMBER, DECEMBER = date(2025, 10, 1), date(2025, 11, 1), date(2025, 12, 1)
LATE_DAY = date(2025, 10, 31)
"""The statement of that day is delivered on 10 November; October was closed in the night of the 3rd."""


@pytest.fixture(scope="module")
def autumn(tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], Database]) -> Iterator[Span]:
    """Seven weeks of the EUR account and the processor that pays into it; October and November are closed."""
    folder = tmp_path_factory.mktemp("autumn")
    with serving(folder / "files", start=date(2025, 10, 13), orders_per_day=8, late_days=10) as sandbox:
        booked = span(sandbox, folder, new_database(), ["stripe_uk", "bank_eur"])
        booked.run(date(2025, 11, 30), closing_day=3)
        booked.close(NOVEMBER, date(2025, 11, 30))
        yield booked


@WITH_AUTUMN
def test_the_autumn_ties_day_by_day_to_the_companys_own_books(autumn: Span) -> None:
    assert [(one.entity, one.month) for one in autumn.closings] == [("hp_uk", OCTOBER), ("hp_uk", NOVEMBER)]
    assert autumn.differences(date(2025, 11, 30)) == []
    assert count(autumn.runtime, "SELECT count(*) FROM ledger.entry") > 200


@WITH_AUTUMN
def test_what_arrives_after_the_close_stands_in_the_open_month_and_keeps_its_day(autumn: Span) -> None:
    with autumn.runtime.database.connect("reader") as connection:
        late = connection.execute(
            "SELECT DISTINCT connection, occurred_on, posted_on FROM ledger.entry WHERE is_prior_period AND kind = 'original'"
        ).fetchall()
    assert late == [("bank_eur", LATE_DAY, NOVEMBER)]


@WITH_AUTUMN
def test_each_month_has_its_gains_its_revaluation_and_the_reversal(autumn: Span) -> None:
    with autumn.runtime.database.connect("reader") as connection:
        posted = connection.execute(
            "SELECT record, posted_on FROM ledger.entry WHERE connection = 'books:hp_uk' AND record <> 'realised_gain' ORDER BY 2, 1"
        ).fetchall()
    assert posted == [
        ("revaluation", date(2025, 10, 31)),
        ("revaluation_reversal", NOVEMBER),
        ("revaluation", date(2025, 11, 30)),
        ("revaluation_reversal", DECEMBER),
    ]
    realised = (
        "SELECT count(*) FROM ledger.entry WHERE record = 'realised_gain' AND date_trunc('month', posted_on) = %s"
    )
    assert count(autumn.runtime, realised, OCTOBER) > 5
    assert count(autumn.runtime, realised, NOVEMBER) > 10
    assert currency.is_current(autumn.runtime, "hp_uk", NOVEMBER)


@WITH_AUTUMN
@pytest.mark.parametrize("last", [date(2025, 10, 31), date(2025, 11, 30)])
def test_at_a_months_end_foreign_money_is_worth_the_ecbs_rate(autumn: Span, last: date) -> None:
    held: dict[tuple[str, str], tuple[int, int]] = {}
    for (_, role, currency_, day), (amount, base) in balances(autumn.runtime).items():
        if day <= last and is_pooled(role, currency_, "GBP"):
            before = held.get((role, currency_), (0, 0))
            held[role, currency_] = (before[0] + amount, before[1] + base)
    assert {"order_clearing:stripe", "dispute_receivable"} <= {
        role for (role, _), (amount, _) in held.items() if amount
    }
    for (role, currency_), (amount, base) in held.items():
        assert base == value(amount, currency_, "GBP", last), role


@WITH_AUTUMN
def test_the_closed_months_are_proved(autumn: Span) -> None:
    assert proof.verify(autumn.runtime.database).findings == []
    assert count(autumn.runtime, "SELECT count(*) FROM ledger.period WHERE state = 'closed'") == 2


@pytest.mark.nightly
def test_thirteen_months_with_a_closed_year_tie_to_the_minor_unit_in_every_currency(
    tmp_path: Path, database: Database
) -> None:
    """Both entities, all connections, 396 nights; each month is closed in the night of the 10th of the next, the last in its own last."""
    start, last = date(2025, 10, 1), date(2026, 10, 31)
    with serving(tmp_path / "files", start=start, orders_per_day=8) as sandbox:
        booked = span(sandbox, tmp_path, database)
        workers = min(4, os.cpu_count() or 1)
        with in_processes(tmp_path / "ledger.yaml", booked.connections, workers) as run_night:
            booked.run(last, closing_day=10, run_night=run_night)
        booked.close(last.replace(day=1), last)
        assert len(booked.closings) == 26
        assert booked.differences(last) == []
        assert proof.verify(database).findings == []
        late = "SELECT count(*) FROM ledger.entry WHERE is_prior_period AND connection = %s"
        assert all(count(booked.runtime, late, name) >= 11 for name in ("shopify_us", "plaid_uk", "bank_eur"))
        assert count(booked.runtime, "SELECT count(DISTINCT currency) FROM ledger.line") == 6  # CAD EUR GBP JPY KWD USD
        assert max(key[3] for key in balances(booked.runtime)) == last + timedelta(days=1)
