"""Shortens Dagster's log: steps, resources and messages of runs that ended long ago go, what its catalogue and the runs' list are made of stays.

Dagster can only forget a run whole, with its materializations, and then takes its partitions for missing. The books are not touched.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from ledger_pipeline.orchestration.storage import DAGSTER_DATABASE
from ledger_pipeline.store.database import Database

BATCH = 10_000
"""Events deleted in one transaction."""

STEPS = (
    *("ENGINE_EVENT", "STEP_WORKER_STARTING", "STEP_WORKER_STARTED", "STEP_START", "STEP_INPUT", "STEP_OUTPUT"),
    *("STEP_SUCCESS", "RESOURCE_INIT_STARTED", "RESOURCE_INIT_SUCCESS", "HANDLED_OUTPUT", "LOADED_INPUT"),
    *("LOGS_CAPTURED", "OBJECT_STORE_OPERATION"),
)
"""Types of events that go, besides plain messages. All others stay: materializations, observations, checks, a run's states, failures."""

_OLD = """
  FROM event_logs e JOIN runs r ON r.run_id = e.run_id
 WHERE r.status IN ('SUCCESS', 'FAILURE', 'CANCELED') AND r.update_timestamp < %(before)s AND e.id > %(after)s
   AND e.asset_key IS NULL AND (e.dagster_event_type IS NULL OR e.dagster_event_type = ANY(%(steps)s))
"""


def count(books: Database, before: datetime) -> int:
    """How many events `purge` would delete: those of runs that ended before `before` (UTC)."""
    with _log(books).connect("owner") as connection:
        row = connection.execute(f"SELECT count(*) {_OLD}", _arguments(before, 0)).fetchone()
    return int(row[0]) if row else 0


def purge(books: Database, before: datetime, batch: int = BATCH) -> Iterator[int]:
    """Delete them, oldest first, a bounded number per transaction; yields how many each one deleted. May be stopped at any time."""
    last = 0
    while True:
        with _log(books).connect("owner") as connection:
            deleted = connection.execute(
                f"WITH old AS (SELECT e.id {_OLD} ORDER BY e.id LIMIT %(batch)s) "
                "DELETE FROM event_logs WHERE id IN (SELECT id FROM old) RETURNING id",
                _arguments(before, last) | {"batch": batch},
            ).fetchall()
        if not deleted:
            return
        last = max(row[0] for row in deleted)
        yield len(deleted)


def _log(books: Database) -> Database:
    return books.with_name(DAGSTER_DATABASE)


def _arguments(before: datetime, after: int) -> dict[str, object]:
    return {"before": before.replace(tzinfo=None), "after": after, "steps": list(STEPS)}
