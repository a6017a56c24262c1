"""Months: their ends in leap years and at a year's turn, and those that a range touches."""

from __future__ import annotations

from datetime import date

import pytest

from ledger_pipeline.model.months import first_of_month, following_month, last_of_month, months_of, preceding_month


@pytest.mark.parametrize(
    ("day", "before", "first", "last", "after"),
    [
        (date(2026, 10, 31), date(2026, 9, 1), date(2026, 10, 1), date(2026, 10, 31), date(2026, 11, 1)),
        (date(2026, 12, 1), date(2026, 11, 1), date(2026, 12, 1), date(2026, 12, 31), date(2027, 1, 1)),
        (date(2027, 1, 15), date(2026, 12, 1), date(2027, 1, 1), date(2027, 1, 31), date(2027, 2, 1)),
        (date(2028, 2, 29), date(2028, 1, 1), date(2028, 2, 1), date(2028, 2, 29), date(2028, 3, 1)),
        (date(2026, 2, 1), date(2026, 1, 1), date(2026, 2, 1), date(2026, 2, 28), date(2026, 3, 1)),
    ],
)
def test_a_month_and_its_neighbours(day: date, before: date, first: date, last: date, after: date) -> None:
    assert (preceding_month(day), first_of_month(day), last_of_month(day), following_month(day)) == (
        before,
        first,
        last,
        after,
    )


def test_the_months_of_a_range() -> None:
    assert months_of(date(2026, 11, 30), date(2027, 1, 1)) == [date(2026, 11, 1), date(2026, 12, 1), date(2027, 1, 1)]
    assert months_of(date(2026, 11, 2), date(2026, 11, 2)) == [date(2026, 11, 1)]
    assert months_of(date(2026, 11, 2), date(2026, 10, 31)) == []
