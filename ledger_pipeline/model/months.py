"""Calendar months by their first day."""

from __future__ import annotations

from datetime import date, timedelta


def first_of_month(day: date) -> date:
    """The first day of a day's month."""
    return day.replace(day=1)


def following_month(day: date) -> date:
    """The first day of the month after a day's."""
    return (day.replace(day=1) + timedelta(days=32)).replace(day=1)


def preceding_month(day: date) -> date:
    """The first day of the month before a day's."""
    return (day.replace(day=1) - timedelta(days=1)).replace(day=1)


def last_of_month(day: date) -> date:
    """The last day of a day's month."""
    return following_month(day) - timedelta(days=1)


def months_of(first: date, last: date) -> list[date]:
    """First days of the months that a range touches, both ends included."""
    found, month = [], first.replace(day=1)
    while month <= last:
        found.append(month)
        month = following_month(month)
    return found
