"""Which days of a connection are done, as the books themselves say: pulled, checked, and every version's fate decided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

from ledger_pipeline.store.database import Connection
from ledger_pipeline.store.raw import PART_OF_DAY, Pull


@dataclass(frozen=True, slots=True)
class NightState:
    """`is_posted`: all of it is in the books. `is_closed`: it was pulled and checked, and its gate is closed. Neither: it is missing."""

    sync_date: date
    is_pulled: bool
    is_posted: bool
    is_closed: bool

    @property
    def is_missing(self) -> bool:
        """True when a run is needed that a person needn't do anything for."""
        return not self.is_posted and not self.is_closed


def states(connection: Connection, name: str, streams: Sequence[str], first: date, last: date) -> list[NightState]:
    """One per sync date from first to last, both included."""
    rows = connection.execute(
        """
        SELECT d.day::date,
               (SELECT count(DISTINCT p.stream) FROM raw.pull p
                 WHERE p.connection = %(name)s AND p.sync_date = d.day::date AND p.stream = ANY(%(streams)s) AND NOT p.notes ? %(part)s)
                = cardinality(%(streams)s::text[]),
               g.is_open,
               EXISTS (SELECT 1 FROM raw.pull p JOIN raw.seen s USING (pull_id) LEFT JOIN ops.fate f USING (raw_id)
                        WHERE p.connection = %(name)s AND p.sync_date = d.day::date AND f.raw_id IS NULL)
          FROM generate_series(%(first)s::date, %(last)s::date, interval '1 day') AS d (day)
          LEFT JOIN ops.gate g ON g.connection = %(name)s AND g.sync_date = d.day::date
         ORDER BY 1
        """,
        {"name": name, "streams": list(streams), "first": first, "last": last, "part": PART_OF_DAY},
    ).fetchall()
    return [
        NightState(
            day,
            is_pulled,
            bool(is_pulled and is_open and not has_undecided),
            bool(is_pulled and is_open is False),
        )
        for day, is_pulled, is_open, has_undecided in rows
    ]


_PULL = (
    *(
        "connection",
        "stream",
        "sync_date",
        "run_id",
        "started_at",
        "window_start",
        "window_end",
        "cursor_before",
        "cursor_after",
    ),
    *("pages", "records", "repeated", "landed", "expected", "calls", "retries", "notes", "pull_id"),
)


def pulled(
    connection: Connection, name: str, first: date, last: date, run_ids: Sequence[str], *, in_any_run: bool
) -> dict[tuple[str, date], Pull]:
    """The last pull by (stream, sync date) that ended in one of these runs; with `in_any_run` also of those that ended in any run after the day."""
    rows = connection.execute(
        f"SELECT DISTINCT ON (stream, sync_date) {', '.join(_PULL)} FROM raw.pull WHERE connection = %s AND sync_date BETWEEN %s AND %s "
        "AND (run_id = ANY(%s) OR (%s AND ended_at >= window_end AND NOT notes ? %s)) ORDER BY stream, sync_date, pull_id DESC",
        (name, first, last, list(run_ids), in_any_run, PART_OF_DAY),
    ).fetchall()
    found = [Pull(**dict(zip(_PULL, row, strict=True))) for row in rows]
    return {(pull.stream, pull.sync_date): pull for pull in found}


@dataclass(frozen=True, slots=True)
class Obstacle:
    """The last failure of a day. `is_gone`: the same step of the same stream has ended well since, for whatever day."""

    cause: str
    is_transient: bool
    error: str
    failed_at: datetime
    is_gone: bool

    @property
    def needs_somebody(self) -> bool:
        """True while trying again can't help."""
        return not self.is_transient and not self.is_gone


def obstacle(connection: Connection, name: str, day: date) -> Obstacle | None:
    """Why the day's last attempt failed; None when none did, or a later one of its step ended."""
    row = connection.execute(
        """
        SELECT l.cause, l.is_transient, l.error, l.ended_at,
               EXISTS (SELECT 1 FROM ops.sync_log o WHERE o.connection = l.connection AND o.step = l.step AND o.stream = l.stream
                          AND o.outcome = 'ended' AND o.started_at > l.ended_at)
          FROM ops.sync_log l
         WHERE l.connection = %s AND l.sync_date = %s AND l.outcome = 'failed'
         ORDER BY l.ended_at DESC LIMIT 1
        """,
        (name, day),
    ).fetchone()
    return Obstacle(*row) if row else None
