"""Events for others: written in the transaction that does what they tell of, then delivered endpoint by endpoint, in order per subject."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from psycopg.rows import class_row

from ledger_pipeline.store.database import Connection

EventType = Literal["entry.posted", "payout.reconciled", "invoice.paid", "gate.closed", "period.closed"]
Outcome = Literal["delivered", "failed", "gone"]

_TO_OUTBOX = """
INSERT INTO ops.outbox (event_no, endpoint, subject, due_at)
SELECT made.event_no, endpoint, made.subject, %(at)s FROM made CROSS JOIN unnest(%(endpoints)s::text[]) AS endpoint
"""


def tell(
    connection: Connection,
    endpoints: Sequence[str],
    type_: EventType,
    entity: str,
    subject: str,
    data: Mapping[str, Any],
    at: datetime,
) -> None:
    """One event for those endpoints, in the caller's transaction; nothing where nobody wants it."""
    if not endpoints:
        return
    connection.execute(
        "WITH made AS (INSERT INTO ops.event (type, entity, subject, data, happened_at) "
        f"VALUES (%(type)s, %(entity)s, %(subject)s, %(data)s, %(at)s) RETURNING event_no, subject) {_TO_OUTBOX}",
        {
            "type": type_,
            "entity": entity,
            "subject": subject,
            "data": json.dumps(data, default=str),
            "at": at,
            "endpoints": list(endpoints),
        },
    )


def last_closed(connection: Connection, subject: str) -> tuple[str, list[str]] | None:
    """(fingerprint, reasons) of the last gate.closed that was told of a connection's day."""
    row = connection.execute(
        "SELECT data ->> 'fingerprint', data -> 'closed_by' FROM ops.event WHERE type = 'gate.closed' AND subject = %s "
        "ORDER BY event_no DESC LIMIT 1",
        (subject,),
    ).fetchone()
    return (row[0], row[1]) if row else None


def entries_posted(connection: Connection, endpoints: Sequence[str], batch_ids: Sequence[int], at: datetime) -> None:
    """`entry.posted` for every entry of the batches, in one statement however many there are."""
    if not endpoints or not batch_ids:
        return
    connection.execute(
        f"""
        WITH debits AS (
          SELECT entry_id, json_object_agg(currency, minor) AS by_currency
            FROM (SELECT l.entry_id, l.currency, coalesce(sum(l.amount_minor) FILTER (WHERE l.amount_minor > 0), 0) AS minor
                    FROM ledger.entry e JOIN ledger.line l USING (entry_id) WHERE e.batch_id = ANY(%(batches)s) GROUP BY 1, 2) sums
           GROUP BY 1),
        made AS (
          INSERT INTO ops.event (type, entity, subject, data, happened_at)
          SELECT 'entry.posted', e.entity, concat_ws('/', e.entity, e.connection, e.record, e.source_id),
                 json_build_object('entry_id', e.entry_id, 'batch_id', e.batch_id, 'entity', e.entity, 'connection', e.connection,
                   'record', e.record, 'source_id', e.source_id, 'rule', e.rule, 'kind', e.kind, 'version', e.version,
                   'occurred_on', e.occurred_on, 'posted_on', e.posted_on, 'corrects_entry_id', e.corrects_entry_id,
                   'debit_minor', d.by_currency, 'fingerprint', encode(e.fingerprint, 'hex')),
                 %(at)s
            FROM ledger.entry e JOIN debits d USING (entry_id) WHERE e.batch_id = ANY(%(batches)s) ORDER BY e.entry_id
          RETURNING event_no, subject)
        {_TO_OUTBOX}
        """,
        {"batches": list(batch_ids), "at": at, "endpoints": list(endpoints)},
    )


SettledType = Literal["payout.reconciled", "invoice.paid"]
SETTLED: Mapping[SettledType, str] = {"payout.reconciled": "payout_in_transit", "invoice.paid": "accounts_receivable"}
"""What a match that comes to zero on a role is told as."""


def settled(
    connection: Connection,
    type_: SettledType,
    endpoints: Sequence[str],
    run_id: str,
    at: datetime,
    match_id: int | None = None,
) -> None:
    """For what a run matched on the type's role (or for one accepted match), where it comes to zero with a bank line or a charge in it.

    An invoice is paid where something that a customer owes is in it: a sale or an invoice. A credit note that is paid out is none.
    """
    if not endpoints:
        return
    connection.execute(
        f"""
        WITH made AS (
          INSERT INTO ops.event (type, entity, subject, data, happened_at)
          SELECT %(type)s, l.entity, concat_ws('/', l.entity, 'match', l.match_id),
                 json_build_object('match_id', l.match_id, 'entity', l.entity, 'role', l.role, 'currency', l.currency, 'kind', l.kind,
                   'decided_by', CASE l.decided_by WHEN 'engine' THEN 'engine' ELSE 'person' END,
                   'amount_minor', sum(m.amount_minor) FILTER (WHERE m.amount_minor > 0),
                   'members', json_agg(json_build_object('connection', m.connection, 'record', m.record, 'source_id', m.source_id,
                                                         'amount_minor', m.amount_minor) ORDER BY m.connection, m.record, m.source_id)),
                 %(at)s
            FROM recon.live_match l JOIN recon.member m USING (match_id)
           WHERE l.state = 'matched' AND split_part(l.role, ':', 1) = %(role)s
             AND (l.match_id = %(match)s
                  OR %(match)s::bigint IS NULL AND EXISTS (SELECT 1 FROM recon.member n WHERE n.match_id = l.match_id AND n.run_id = %(run)s))
           GROUP BY l.match_id, l.entity, l.role, l.currency, l.kind, l.decided_by
          HAVING sum(m.amount_minor) = 0 AND bool_or(m.record IN ('bank_transaction', 'processor_transaction'))
             AND (%(type)s <> 'invoice.paid' OR bool_or(m.record IN ('sale', 'invoice') AND m.amount_minor > 0))
           ORDER BY l.match_id
          RETURNING event_no, subject)
        {_TO_OUTBOX}
        """,
        {
            "type": type_,
            "role": SETTLED[type_],
            "run": run_id,
            "match": match_id,
            "at": at,
            "endpoints": list(endpoints),
        },
    )


# delivery ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Due:
    """An event that an endpoint is to get now; `data` is JSON text."""

    event_no: int
    event_id: str
    type: str
    data: str
    happened_at: datetime
    attempts: int


def due(connection: Connection, endpoint: str, now: datetime, limit: int) -> list[Due]:
    """What is due, at most one event per subject: the earliest, so that later ones wait for it."""
    with connection.cursor(row_factory=class_row(Due)) as cursor:
        cursor.execute(
            """
            SELECT o.event_no, e.event_id, e.type, e.data::text AS data, e.happened_at, o.attempts
              FROM ops.outbox o JOIN ops.event e USING (event_no)
             WHERE o.endpoint = %(endpoint)s AND o.state = 'pending' AND o.due_at <= %(now)s
               AND NOT EXISTS (SELECT 1 FROM ops.outbox p WHERE p.endpoint = o.endpoint AND p.subject = o.subject
                                                            AND p.state = 'pending' AND p.event_no < o.event_no)
             ORDER BY o.event_no LIMIT %(limit)s
            """,
            {"endpoint": endpoint, "now": now, "limit": limit},
        )
        return cursor.fetchall()


def is_any_due(connection: Connection, endpoints: Sequence[str], now: datetime) -> bool:
    """Whether an enabled one of the endpoints has something to get now."""
    off = disabled(connection)
    row = connection.execute(
        "SELECT EXISTS (SELECT 1 FROM ops.outbox WHERE endpoint = ANY(%s) AND state = 'pending' AND due_at <= %s)",
        ([name for name in endpoints if name not in off], now),
    ).fetchone()
    return bool(row and row[0])


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt. `next_at` is None when there is no further one; `error` names no URL, because its path may be a key."""

    event_no: int
    endpoint: str
    number: int
    outcome: Outcome
    status: int | None
    error: str
    duration_ms: int
    attempted_at: datetime
    next_at: datetime | None = None


def record(connection: Connection, attempts: Sequence[Attempt]) -> None:
    """Log attempts and say what follows from them."""
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO ops.delivery (event_no, endpoint, attempt, outcome, status, error, duration_ms, attempted_at) "
            "VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
            [
                (a.event_no, a.endpoint, a.number, a.outcome, a.status, a.error, a.duration_ms, a.attempted_at)
                for a in attempts
            ],
        )
        cursor.executemany(
            "UPDATE ops.outbox SET attempts = %s, state = %s, due_at = coalesce(%s, due_at) WHERE event_no = %s AND endpoint = %s",
            [
                (
                    a.number,
                    "delivered" if a.outcome == "delivered" else "pending" if a.next_at else "failed",
                    a.next_at,
                    a.event_no,
                    a.endpoint,
                )
                for a in attempts
            ],
        )


def disabled(connection: Connection) -> dict[str, str]:
    """Endpoints that get nothing until a person enables them, and why."""
    rows = connection.execute(
        "SELECT endpoint, reason FROM (SELECT DISTINCT ON (endpoint) endpoint, event, reason FROM ops.endpoint_event "
        "ORDER BY endpoint, endpoint_event_no DESC) e WHERE event = 'disabled'"
    )
    return dict(rows.fetchall())


def failing_since(connection: Connection, endpoint: str) -> datetime | None:
    """When the first attempt failed since an endpoint took an event or was enabled; None when the last attempt was taken."""
    taken = connection.execute(
        "SELECT max(at) FROM ((SELECT attempted_at AS at FROM ops.delivery WHERE endpoint = %(endpoint)s AND outcome = 'delivered' "
        "ORDER BY delivery_no DESC LIMIT 1) UNION ALL (SELECT happened_at FROM ops.endpoint_event WHERE endpoint = %(endpoint)s "
        "ORDER BY endpoint_event_no DESC LIMIT 1)) t",
        {"endpoint": endpoint},
    ).fetchone()
    row = connection.execute(
        "SELECT min(attempted_at) FROM ops.delivery WHERE endpoint = %s AND attempted_at > %s",
        (endpoint, (taken and taken[0]) or datetime.min.replace(tzinfo=UTC)),
    ).fetchone()
    return row[0] if row else None


def switch(
    connection: Connection, endpoint: str, event: Literal["disabled", "enabled"], reason: str, at: datetime
) -> None:
    """Disable or enable an endpoint."""
    connection.execute(
        "INSERT INTO ops.endpoint_event (endpoint, event, reason, happened_at) VALUES (%s, %s, %s, %s)",
        (endpoint, event, reason, at),
    )


def redeliver(connection: Connection, event_ids: Sequence[str], endpoint: str | None, at: datetime) -> int:
    """Make events due again for the endpoints that they were for, or for that one; how many that are."""
    return connection.execute(
        """
        INSERT INTO ops.outbox (event_no, endpoint, subject, due_at)
        SELECT e.event_no, t.endpoint, e.subject, %(at)s
          FROM ops.event e CROSS JOIN LATERAL
               (SELECT o.endpoint FROM ops.outbox o WHERE o.event_no = e.event_no AND %(endpoint)s::text IS NULL
                UNION SELECT %(endpoint)s::text WHERE %(endpoint)s::text IS NOT NULL) t
         WHERE e.event_id = ANY(%(ids)s)
        ON CONFLICT (event_no, endpoint) DO UPDATE SET state = 'pending', attempts = 0, due_at = excluded.due_at
        """,
        {"ids": list(event_ids), "endpoint": endpoint, "at": at},
    ).rowcount


@dataclass(frozen=True, slots=True)
class Listed:
    """An event and how far its delivery to an endpoint is; `status` and `error` are of the last attempt."""

    event_id: str
    type: str
    subject: str
    happened_at: datetime
    endpoint: str
    state: str
    attempts: int
    due_at: datetime
    status: int | None
    error: str | None


def listed(connection: Connection, state: str | None, limit: int) -> list[Listed]:
    """The newest events, each endpoint in a row of its own."""
    with connection.cursor(row_factory=class_row(Listed)) as cursor:
        cursor.execute(
            """
            SELECT e.event_id, e.type, e.subject, e.happened_at, o.endpoint, o.state, o.attempts, o.due_at, d.status, d.error
              FROM ops.outbox o JOIN ops.event e USING (event_no)
              LEFT JOIN LATERAL (SELECT status, error FROM ops.delivery WHERE event_no = o.event_no AND endpoint = o.endpoint
                                  ORDER BY delivery_no DESC LIMIT 1) d ON true
             WHERE %(state)s::text IS NULL OR o.state = %(state)s
             ORDER BY o.event_no DESC, o.endpoint LIMIT %(limit)s
            """,
            {"state": state, "limit": limit},
        )
        return cursor.fetchall()


def history(connection: Connection, event_id: str) -> list[tuple[Any, ...]]:
    """(endpoint, attempt, outcome, status, error, duration in ms, attempted at) of an event, in order."""
    return connection.execute(
        "SELECT d.endpoint, d.attempt, d.outcome, d.status, d.error, d.duration_ms, d.attempted_at "
        "FROM ops.delivery d JOIN ops.event e USING (event_no) WHERE e.event_id = %s ORDER BY d.delivery_no",
        (event_id,),
    ).fetchall()
