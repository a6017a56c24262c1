"""Alerts are kept before they are sent: each occurrence once, what repeats folded, and per channel what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from ledger_pipeline.model.alert import Alert
from ledger_pipeline.store.database import Connection, lock

_COLUMNS = "kind, event_key, sentence, noticed_at, severity, connection, partition, link, run_id"


@dataclass(frozen=True, slots=True)
class Due:
    """An alert that waits for a channel; `repeats` counts the same trouble between the message before and this one."""

    alert_id: int
    alert: Alert
    attempts: int
    repeats: int


def keep(
    connection: Connection, alerts: Sequence[Alert], channels: Sequence[tuple[str, str]], window: timedelta
) -> list[Alert]:
    """Keep occurrences that are new, and queue for every channel (name, least severity) those that repeat nothing within the window.

    Returns what was new, folded or not.
    """
    new = []
    for alert in alerts:
        lock(connection, "alert", alert.fingerprint)
        earlier = connection.execute(
            "SELECT alert_id FROM ops.alert WHERE fingerprint = %s AND folded_into IS NULL AND noticed_at > %s "
            "ORDER BY noticed_at DESC LIMIT 1",
            (alert.fingerprint, alert.noticed_at - window),
        ).fetchone()
        row = connection.execute(
            "INSERT INTO ops.alert (event_key, fingerprint, kind, severity, connection, partition, sentence, link, run_id, noticed_at, "
            "folded_into) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (event_key) DO NOTHING RETURNING alert_id",
            (
                *(alert.event_key, alert.fingerprint, alert.kind, alert.severity, alert.connection, alert.partition),
                *(alert.sentence, alert.link, alert.run_id, alert.noticed_at, earlier[0] if earlier else None),
            ),
        ).fetchone()
        if row is None:
            continue
        new.append(alert)
        if earlier is None:
            queue(connection, int(row[0]), alert, channels)
    return new


def queue(connection: Connection, alert_id: int, alert: Alert, channels: Sequence[tuple[str, str]]) -> None:
    """One pending delivery per channel that takes the alert."""
    for name, least in channels:
        if least == "warning" or alert.severity == "error":
            connection.execute(
                "INSERT INTO ops.alert_delivery (alert_id, channel, next_at) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
                (alert_id, name, alert.noticed_at),
            )


def due(connection: Connection, channel: str, now: datetime) -> list[Due]:
    """What waits for a channel and may be tried now, oldest first."""
    rows = connection.execute(
        f"SELECT a.alert_id, d.attempts, {', '.join('a.' + c for c in _COLUMNS.split(', '))}, "
        "(SELECT count(*) FROM ops.alert f WHERE f.folded_into = (SELECT p.alert_id FROM ops.alert p WHERE p.fingerprint = a.fingerprint "
        " AND p.folded_into IS NULL AND p.alert_id < a.alert_id AND p.noticed_at > a.noticed_at - interval '1 day' "
        " ORDER BY p.alert_id DESC LIMIT 1)) "
        "FROM ops.alert_delivery d JOIN ops.alert a USING (alert_id) "
        "WHERE d.channel = %s AND d.state = 'pending' AND d.next_at <= %s ORDER BY a.alert_id",
        (channel, now),
    ).fetchall()
    return [Due(row[0], Alert(*row[2:11]), row[1], row[11]) for row in rows]


def sent(connection: Connection, channel: str, alert_ids: Sequence[int], message_id: str, now: datetime) -> None:
    """A message with these alerts was taken."""
    connection.execute(
        "UPDATE ops.alert_delivery SET state = 'sent', sent_at = %s, attempts = attempts + 1, message_id = %s, error = '' "
        "WHERE channel = %s AND alert_id = ANY(%s)",
        (now, message_id, channel, list(alert_ids)),
    )


def not_sent(
    connection: Connection, channel: str, alert_ids: Sequence[int], error: str, next_at: datetime, most: int
) -> None:
    """A message with these alerts wasn't taken: it is tried again at `next_at`, `most` times in all."""
    connection.execute(
        "UPDATE ops.alert_delivery SET attempts = attempts + 1, error = %s, next_at = %s, "
        "state = CASE WHEN attempts + 1 >= %s THEN 'failed' ELSE 'pending' END WHERE channel = %s AND alert_id = ANY(%s)",
        (error, next_at, most, channel, list(alert_ids)),
    )


def messages_since(connection: Connection, channel: str, since: datetime) -> tuple[int, datetime | None]:
    """(messages that a channel took since then, when it took the last)."""
    row = connection.execute(
        "SELECT count(DISTINCT message_id), max(sent_at) FROM ops.alert_delivery WHERE channel = %s AND state = 'sent' AND sent_at > %s",
        (channel, since),
    ).fetchone()
    return (row[0], row[1]) if row else (0, None)


def undelivered(connection: Connection, since: datetime) -> list[tuple[str, int, str]]:
    """(channel, alerts that it never took, its last error) of alerts since then."""
    return connection.execute(
        "SELECT d.channel, count(*), max(d.error) FROM ops.alert_delivery d JOIN ops.alert a USING (alert_id) "
        "WHERE d.state = 'failed' AND a.noticed_at > %s GROUP BY 1 ORDER BY 1",
        (since,),
    ).fetchall()
