"""From the table of alerts to the channels: few at once each by itself, many as a summary that names each, what fails again later."""

from __future__ import annotations

import logging
import random
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from ledger_pipeline.model.alert import Alert
from ledger_pipeline.operations.channels import AlertFailed, Channel, Message, open_channels
from ledger_pipeline.operations.settings import AlertsConfig
from ledger_pipeline.store import alerts as table
from ledger_pipeline.store.database import Connection, Database, key_of

log = logging.getLogger(__name__)

RATE_WINDOW = timedelta(minutes=10)
BETWEEN_SUMMARIES = timedelta(minutes=1)
MOST_ATTEMPTS = 10
FIRST_WAIT, LONGEST_WAIT = timedelta(seconds=30), timedelta(hours=1)

Clock = Callable[[], datetime]


def _now() -> datetime:
    return datetime.now(UTC)


def raise_alerts(database: Database, config: AlertsConfig, alerts: Sequence[Alert], clock: Clock = _now) -> list[Alert]:
    """Keep what is new, log it, and try the channels once. Returns what was new."""
    if not alerts:
        return []
    with database.connect() as connection:
        new = keep(connection, config, alerts)
    if new:
        deliver(database, config, clock)
    return new


def keep(connection: Connection, config: AlertsConfig, alerts: Sequence[Alert]) -> list[Alert]:
    """Keep what is new in the caller's transaction, and log it; `deliver` sends it once that has ended. Returns what was new."""
    channels = [(channel.name, channel.min_severity) for channel in open_channels(config)]
    new = table.keep(connection, alerts, channels, timedelta(minutes=config.same_minutes))
    for alert in new:
        level = logging.ERROR if alert.severity == "error" else logging.WARNING
        log.log(level, "%s: %s, %s: %s", alert.title, alert.connection or "–", alert.partition or "–", alert.sentence)
    return new


def deliver(database: Database, config: AlertsConfig, clock: Clock = _now) -> int:
    """Send what is due on every channel; one that fails doesn't hold another up. Returns how many alerts were sent."""
    total = 0
    for channel in open_channels(config):
        with database.connect(autocommit=True) as connection:
            key = key_of(("deliver", channel.name))
            held = connection.execute("SELECT pg_try_advisory_lock(%s)", (key,)).fetchone()
            if not held or not held[0]:
                continue  # another process serves this channel
            total += _serve(connection, channel, config, clock)
            connection.execute("SELECT pg_advisory_unlock(%s)", (key,))  # the session's end would let go a little later
    return total


def _serve(connection: Connection, channel: Channel, config: AlertsConfig, clock: Clock) -> int:
    waiting = table.due(connection, channel.name, clock())
    if not waiting:
        return 0
    used, last = table.messages_since(connection, channel.name, clock() - RATE_WINDOW)
    room = max(0, config.messages_per_ten_minutes - used)
    singly = len(waiting) if len(waiting) <= room else max(0, room - 1)
    done = 0
    for one in waiting[:singly]:
        if not _send(connection, channel, channel.of_one(one.alert, one.repeats), [one.alert_id], one.attempts, clock):
            return done  # it is down for now; the rest waits for the next time, without counting as tried
        done += 1
    rest = waiting[singly:]
    if not rest or (room == 0 and last is not None and clock() - last < BETWEEN_SUMMARIES):
        return done
    if len(rest) == 1:
        return done + _send(
            connection, channel, channel.of_one(rest[0].alert), [rest[0].alert_id], rest[0].attempts, clock
        )
    for message, count in channel.of_many([one.alert for one in rest]):
        part, rest = rest[:count], rest[count:]
        attempts = max(one.attempts for one in part)
        if not _send(connection, channel, message, [one.alert_id for one in part], attempts, clock):
            return done
        done += count
    return done


def _send(
    connection: Connection, channel: Channel, message: Message, ids: list[int], attempts: int, clock: Clock
) -> bool:
    try:
        channel.send(message)
    except AlertFailed as error:
        log.error("alert channel %s: %s", channel.name, error)
        wait = min(LONGEST_WAIT, FIRST_WAIT * 2**attempts) * random.uniform(0.8, 1.2)
        table.not_sent(connection, channel.name, ids, str(error), clock() + wait, MOST_ATTEMPTS)
        return False
    table.sent(connection, channel.name, ids, uuid.uuid4().hex, clock())
    return True
