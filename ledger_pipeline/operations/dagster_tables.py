"""What Dagster's own database says about its daemons and its queue, read without Dagster: quick, with a time-out, also when its code can't load."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import psycopg

from ledger_pipeline.store.database import Database

DATABASE = "dagster"
ALWAYS = ("SENSOR", "SCHEDULER")
"""Daemons that every installation runs; others count once they have been seen within a week."""
LATELY = timedelta(days=7)
RESTS_SECONDS = {"SCHEDULER": 60}
"""How much longer than the others a healthy one may be silent: it wakes at each full minute only."""


@dataclass(frozen=True, slots=True)
class Heartbeats:
    """Seconds since each daemon's last heartbeat; empty where no daemon has ever run."""

    ages: dict[str, float]

    def dead(self, limit_seconds: float) -> list[str]:
        """Those that are silent for longer, by more than they rest."""
        return sorted(name for name, age in self.ages.items() if age > limit_seconds + RESTS_SECONDS.get(name, 0))


def heartbeats(database: Database, now: datetime) -> Heartbeats:
    """Raises psycopg.Error when the database can't be asked."""
    rows = _ask(database, "SELECT daemon_type, extract(epoch FROM timestamp)::double precision FROM daemon_heartbeats")
    ages = {name: now.timestamp() - at for name, at in rows}
    return Heartbeats({name: age for name, age in ages.items() if name in ALWAYS or age < LATELY.total_seconds()})


def queue(database: Database, now: datetime) -> tuple[int, float]:
    """(runs that wait in the queue, seconds that the oldest has waited)."""
    rows = _ask(
        database,
        "SELECT count(*), extract(epoch FROM min(create_timestamp))::double precision FROM runs WHERE status = 'QUEUED'",
    )
    [(count, oldest)] = rows or [(0, None)]
    return count, 0.0 if oldest is None else max(0.0, now.timestamp() - oldest)


def _ask(database: Database, query: str) -> list[tuple[Any, ...]]:
    """Rows; none when Dagster has no tables yet."""
    with psycopg.connect(
        database.with_name(DATABASE).url, connect_timeout=5, autocommit=True, application_name="ledger-pipeline-health"
    ) as connection:
        connection.execute("SET statement_timeout = '5s'; SET TIME ZONE 'UTC'")
        try:
            return connection.execute(query).fetchall()
        except psycopg.errors.UndefinedTable:
            return []
