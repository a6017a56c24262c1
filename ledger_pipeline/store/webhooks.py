"""Received webhooks: each stored once and for good, what of them still waits, and what was done about the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Literal

from ledger_pipeline.model.webhooks import Event
from ledger_pipeline.store.database import Connection

Outcome = Literal["pulled", "nothing to pull", "left to the night"]

# The lock is held until the commit, so that numbers are committed in their order and one number says what has been looked after.
STORE = """
WITH alone AS MATERIALIZED (SELECT pg_advisory_xact_lock(7305202611))
INSERT INTO ops.webhook_event (connection, event_id, topic, subject, occurred_at, received_at, secret_no, body_hash, body_size, body, once_by)
SELECT e.* FROM alone, unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::timestamptz[], %s::timestamptz[], %s::smallint[],
                              %b::bytea[], %s::integer[], %b::bytea[], %b::bytea[]) AS e
ON CONFLICT DO NOTHING
RETURNING connection, event_id
"""


def columns(events: Sequence[Event]) -> tuple[list[Any], ...]:
    """The events as the arguments of `STORE`."""
    return (
        [e.connection for e in events],
        [e.event_id for e in events],
        [e.topic for e in events],
        [e.subject for e in events],
        [e.occurred_at for e in events],
        [e.received_at for e in events],
        [e.secret_no for e in events],
        [e.body_hash for e in events],
        [e.body_size for e in events],
        [e.body for e in events],
        [e.once_by for e in events],
    )


@dataclass(slots=True)
class Waiting:
    """A connection's events that nobody has looked after: their numbers, and by local day the topics and the earliest change."""

    connection: str
    first: int
    through: int
    count: int
    oldest_at: datetime
    days: dict[date, dict[str, datetime]] = field(default_factory=dict)
    """day → topic → when the earliest of its changes was made."""


def waiting(connection: Connection, zones: Mapping[str, str]) -> list[Waiting]:
    """What waits, for connections with the time zone of their days; in the order of the names."""
    rows = connection.execute(
        """
        SELECT n.name, e.* FROM unnest(%s::text[], %s::text[]) AS n (name, zone) CROSS JOIN LATERAL
               (SELECT topic, (occurred_at AT TIME ZONE n.zone)::date AS day, min(occurred_at), min(event_no), max(event_no),
                       count(*), min(received_at)
                  FROM ops.webhook_event
                 WHERE connection = n.name
                   AND event_no > coalesce((SELECT max(through) FROM ops.webhook_mark WHERE connection = n.name), 0)
                 GROUP BY 1, 2) e
         ORDER BY 1, 3, 2
        """,
        (list(zones), list(zones.values())),
    )
    found: dict[str, Waiting] = {}
    for name, topic, day, since, first, last, count, oldest in rows:
        one = found.setdefault(name, Waiting(name, first, last, 0, oldest))
        one.first, one.through = min(one.first, first), max(one.through, last)
        one.count, one.oldest_at = one.count + count, min(one.oldest_at, oldest)
        one.days.setdefault(day, {})[topic] = since
    return list(found.values())


def mark(connection: Connection, name: str, through: int, outcome: Outcome, run_id: str, at: datetime) -> None:
    """The connection's events up to this number wait no longer."""
    connection.execute(
        "INSERT INTO ops.webhook_mark (connection, through, outcome, run_id, marked_at) VALUES (%s, %s, %s, %s, %s)",
        (name, through, outcome, run_id, at),
    )


@dataclass(frozen=True, slots=True)
class Standing:
    """A connection's webhooks in numbers. `oldest_secret_at`: when each secret (by number) last proved an event."""

    connection: str
    stored: int
    waiting: int
    last_received_at: datetime
    secrets: Mapping[int, datetime]


def standing(connection: Connection, since: datetime) -> list[Standing]:
    """Connections that received something since then."""
    rows = connection.execute(
        """
        SELECT e.connection, count(*), count(*) FILTER (WHERE e.event_no > coalesce(m.through, 0)), max(e.received_at),
               (SELECT json_object_agg(secret_no, last) FROM
                  (SELECT secret_no, max(received_at) AS last FROM ops.webhook_event
                    WHERE connection = e.connection AND received_at >= %(since)s GROUP BY 1) s)
          FROM ops.webhook_event e
          LEFT JOIN (SELECT connection, max(through) AS through FROM ops.webhook_mark GROUP BY 1) m USING (connection)
         WHERE e.received_at >= %(since)s GROUP BY e.connection ORDER BY 1
        """,
        {"since": since},
    )
    return [
        Standing(name, stored, waits, last, {int(n): datetime.fromisoformat(at) for n, at in secrets.items()})
        for name, stored, waits, last, secrets in rows
    ]
