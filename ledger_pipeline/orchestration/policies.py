"""By when an asset must be up to date, as Dagster shows it: every day, in the zone of its entity."""

from datetime import timedelta

import dagster as dg

from ledger_pipeline.config import LedgerConfig
from ledger_pipeline.orchestration import calendar

HEALTH_WINDOW = timedelta(hours=1)
BOOKS_HOURS = 1
"""The books follow the last connection within so many hours."""


def of_ledger(config: LedgerConfig, name: str) -> dg.FreshnessPolicy:
    """A connection's entries: every day, so many hours after midnight in the entity's zone."""
    return _daily(config.freshness_hours(name), config.entity_of(name).time_zone)


def of_books(config: LedgerConfig) -> dg.FreshnessPolicy:
    """What follows from all connections: an hour after the last deadline, in the zone whose days end last."""
    hours = max(
        (config.freshness_hours(name) for name in config.connections if config.connections[name].is_enabled),
        default=config.freshness.hours,
    )
    return _daily(min(23, hours + BOOKS_HOURS), calendar.westernmost(config).key)


def _daily(hours: int, zone: str) -> dg.FreshnessPolicy:
    return dg.FreshnessPolicy.cron(f"0 {hours} * * *", timedelta(hours=hours), zone)


def of_health() -> dg.FreshnessPolicy:
    """Four looks may be missed."""
    return dg.FreshnessPolicy.time_window(HEALTH_WINDOW)
