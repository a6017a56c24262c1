"""Business days across weekends and holidays."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from ledger_pipeline.reconcile.calendar import Calendar

FRIDAY, MONDAY = date(2026, 10, 9), date(2026, 10, 12)


def test_a_weekend_has_no_business_day() -> None:
    calendar = Calendar()
    assert [calendar.between(FRIDAY, FRIDAY + timedelta(days=n)) for n in range(5)] == [0, 0, 0, 1, 2]
    assert calendar.between(MONDAY, FRIDAY) == 1


def test_good_friday_and_easter_monday_are_targets_holidays() -> None:
    thursday, tuesday = date(2026, 4, 2), date(2026, 4, 7)
    assert Calendar().between(thursday, tuesday) == 1
    assert not Calendar().is_business_day(date(2026, 4, 3))
    assert Calendar("US").between(thursday, tuesday) == 3  # banks of the United States work on both


def test_the_day_after_so_many_business_days() -> None:
    assert Calendar().after(FRIDAY, 3) == date(2026, 10, 14)
    assert Calendar().after(FRIDAY, 0) == FRIDAY


def test_an_unknown_country_is_named() -> None:
    with pytest.raises(ValueError, match="'XX'"):
        Calendar("XX").between(FRIDAY, MONDAY)
