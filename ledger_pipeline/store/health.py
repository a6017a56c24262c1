"""The history of health: every look at every subject, kept for a while."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from psycopg.types.json import Jsonb

from ledger_pipeline.store.database import Connection

State = Literal["ok", "warn", "fail", "sandbox"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What a look at a subject (`connection/stripe_us`, `database`, `disk`, `daemon`, `queue`) has found, in a sentence and in figures."""

    subject: str
    state: State
    sentence: str
    details: dict[str, Any] = field(default_factory=dict)


def keep(connection: Connection, findings: Sequence[Finding], at: datetime, keep_days: int) -> None:
    """Append a look, and forget what is older than `keep_days`."""
    for one in findings:
        connection.execute(
            "INSERT INTO ops.health (checked_at, subject, state, sentence, details) VALUES (%s, %s, %s, %s, %s)",
            (at, one.subject, one.state, one.sentence, Jsonb(one.details)),
        )
    connection.execute("DELETE FROM ops.health WHERE checked_at < %s", (at - timedelta(days=keep_days),))


def failing_since(connection: Connection, subject: str) -> datetime | None:
    """When the present row of failed looks began; None when the last look was no failure."""
    row = connection.execute(
        "SELECT min(checked_at) FROM ops.health WHERE subject = %(s)s AND state = 'fail' AND checked_at > coalesce("
        "(SELECT max(checked_at) FROM ops.health WHERE subject = %(s)s AND state <> 'fail'), '-infinity')",
        {"s": subject},
    ).fetchone()
    return row[0] if row else None


def history(connection: Connection, since: datetime) -> list[tuple[datetime, str, State]]:
    """(when, subject, state) of every look since then."""
    return connection.execute(
        "SELECT checked_at, subject, state FROM ops.health WHERE checked_at >= %s ORDER BY checked_at, subject",
        (since,),
    ).fetchall()


def last_record(connection: Connection, name: str) -> datetime | None:
    """When a connection's pull last brought something new."""
    row = connection.execute(
        "SELECT max(ended_at) FROM raw.pull WHERE connection = %s AND landed > 0", (name,)
    ).fetchone()
    return row[0] if row else None
