"""The sync log: what every attempt and step of a run did, and why it failed. Appended when it ends; `ops.sync_log` shows it all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from psycopg.types.json import Jsonb

from ledger_pipeline.store.database import Connection, Database
from ledger_pipeline.store.raw import Pull

LONGEST_ERROR = 2000


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt or a step failed; `error` is redacted by whoever raised it."""

    cause: str
    is_transient: bool
    error: str


def keep_failed_pull(database: Database, pull: Pull, failure: Failure, ended_at: datetime) -> None:
    """An attempt that became no pull, with what it had done until then."""
    with database.connect() as connection:
        connection.execute(
            "INSERT INTO ops.pull_failure (pull_id, ended_at, pages, records, calls, retries, cause, is_transient, error) "
            "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
            (
                *(pull.pull_id, ended_at, pull.pages, pull.records, pull.calls, pull.retries),
                *(failure.cause, failure.is_transient, failure.error[:LONGEST_ERROR]),
            ),
        )


def keep_step(
    database: Database,
    name: str,
    sync_date: date,
    run_id: str,
    step: str,
    *,
    started_at: datetime,
    ended_at: datetime,
    details: Mapping[str, Any],
    failure: Failure | None = None,
) -> None:
    """Staging, checking or posting of a day."""
    with database.connect() as connection:
        connection.execute(
            "INSERT INTO ops.sync_step (run_id, connection, sync_date, step, started_at, ended_at, details, cause, is_transient, error) "
            "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            (
                *(run_id, name, sync_date, step, started_at, ended_at, Jsonb(dict(details))),
                *((failure.cause, failure.is_transient, failure.error[:LONGEST_ERROR]) if failure else ("", False, "")),
            ),
        )


COLUMNS = (
    *("run_id", "connection", "sync_date", "step", "stream", "started_at", "ended_at", "records", "landed", "calls"),
    *("retries", "pages", "outcome", "cause", "error", "details"),
)


def read(
    connection: Connection,
    *,
    name: str | None = None,
    first: date | None = None,
    last: date | None = None,
    run_id: str | None = None,
    limit: int = 100_000,
) -> list[dict[str, Any]]:
    """Rows of ops.sync_log in the order of their start; a run id may be given by its first characters."""
    rows = connection.execute(
        f"SELECT {', '.join(COLUMNS)} FROM ops.sync_log "
        "WHERE (%(name)s::text IS NULL OR connection = %(name)s) AND (%(first)s::date IS NULL OR sync_date >= %(first)s) "
        "AND (%(last)s::date IS NULL OR sync_date <= %(last)s) AND (%(run)s::text IS NULL OR starts_with(run_id, %(run)s)) "
        "ORDER BY started_at, run_id, connection, sync_date, stream LIMIT %(limit)s",
        {"name": name, "first": first, "last": last, "run": run_id, "limit": limit},
    ).fetchall()
    return [dict(zip(COLUMNS, row, strict=True)) for row in rows]
