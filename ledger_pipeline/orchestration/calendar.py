"""When nights are: which day has ended in which zone, when its night is due, and by when it must be in the books. DST-safe."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from ledger_pipeline.config import LedgerConfig

DAY = timedelta(days=1)


def start_of(day: date, zone: ZoneInfo) -> datetime:
    """Its first moment in a zone, as UTC."""
    return datetime.combine(day, time(), zone).astimezone(UTC)


def end_of(day: date, zone: ZoneInfo) -> datetime:
    """The first moment of the day that follows, as UTC."""
    return start_of(day + DAY, zone)


def last_ended(at: datetime, zone: ZoneInfo) -> date:
    """The calendar day that ended last in a zone."""
    return at.astimezone(zone).date() - DAY


def due_at(config: LedgerConfig, name: str, day: date) -> datetime:
    """When the schedule asks for a connection's day: at the first tick after its end."""
    from dagster._utils.schedules import (
        cron_string_iterator,  # the scheduler's own reading of cron; it has no public name
    )

    zone = config.entity_of(name).zone
    ends = end_of(day, zone)
    ticks: Iterator[datetime] = cron_string_iterator(
        ends.timestamp(), config.schedule.cron, config.schedule.time_zone or zone.key
    )
    return next(tick for tick in ticks if tick >= ends).astimezone(UTC)


def deadline_of(config: LedgerConfig, name: str, day: date) -> datetime:
    """By when a connection's day must be in the books."""
    zone = config.entity_of(name).zone
    following = day + DAY
    return datetime.combine(following, time(config.freshness_hours(name)), zone).astimezone(UTC)


def last_due(config: LedgerConfig, name: str, at: datetime) -> date:
    """The newest day whose deadline has passed."""
    day = last_ended(at, config.entity_of(name).zone)
    while deadline_of(config, name, day) > at:
        day -= DAY
    return day


def easternmost(config: LedgerConfig) -> ZoneInfo:
    """The entities' zone in which days end first: a day that has ended anywhere is a partition."""
    return max(_zones(config), key=_offset, default=ZoneInfo("UTC"))


def westernmost(config: LedgerConfig) -> ZoneInfo:
    """The entities' zone in which days end last: the books of a night wait for it."""
    return min(_zones(config), key=_offset, default=ZoneInfo("UTC"))


def _zones(config: LedgerConfig) -> list[ZoneInfo]:
    return sorted({entity.zone for entity in config.entities.values()}, key=lambda zone: zone.key)


def _offset(zone: ZoneInfo) -> tuple[timedelta, str]:
    """The larger of a year's offsets, so that the clocks' changes don't reorder zones."""
    offsets = [datetime(2026, month, 1, tzinfo=zone).utcoffset() or timedelta() for month in (1, 7)]
    return max(offsets), zone.key
