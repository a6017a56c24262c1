"""Events out: what is due is posted to its endpoint, signed as Standard Webhooks says; every attempt is logged and failures come again.

A subject's later event waits until the earlier one was delivered or given up. Delivery is at least once: an answer that was lost leads to
the same event under the same id again.
"""

from __future__ import annotations

import ipaddress
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import requests

from ledger_pipeline import config as configuration
from ledger_pipeline.config import ConfigError, LedgerConfig
from ledger_pipeline.connect.redact import remember_address
from ledger_pipeline.connect.webhook import standard_headers, standard_key
from ledger_pipeline.model.alert import Alert
from ledger_pipeline.store import events
from ledger_pipeline.store.database import Connection, Database
from ledger_pipeline.store.events import Attempt, Due

SCHEDULE = tuple(timedelta(seconds=s) for s in (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400))
"""How long after each failed attempt the next one comes (Standard Webhooks' example); ten attempts over three days."""
LONGEST_WAIT = timedelta(days=1)
SILENT = timedelta(days=3)
"""An endpoint that takes nothing for so long is disabled when an event is given up."""
AT_ONCE = 8
ROUND = 64
CONNECT_SECONDS, READ_SECONDS = 5, 15
_LOCK = "hashtextextended(%s, 7305202612)"

Keep = Callable[[Connection, list[Alert]], object]
"""Keeps alerts in the transaction of what they tell of."""


def no_alerts(connection: Connection, alerts: list[Alert]) -> None:
    """For whoever looks at the outbox himself."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where events go. The URL is a secret, as it is at Zapier, Make and n8n: only the name is ever shown."""

    name: str
    url: str
    secrets: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Endpoint({self.name})"


def endpoints(config: LedgerConfig) -> list[Endpoint]:
    """With URL and secrets as they are now; raises ConfigError for an address that isn't https (or loopback) and for a bad secret."""
    found, mistakes = [], []
    for name, given in config.events.items():
        try:
            url = str(configuration.resolve(given.url))
            secrets = tuple(str(one) for one in configuration.resolve(list(given.secrets)) if one)
        except ConfigError as error:
            mistakes += [f"events.{name}: {one}" for one in error.mistakes]
            continue
        if not _is_allowed(url):
            mistakes.append(f"events.{name}.url: only https, or http on loopback, without user and password")
        if not secrets:
            mistakes.append(f"events.{name}.secrets: none is set")
        for secret in secrets:
            try:
                standard_key(secret)
            except ValueError as error:
                mistakes.append(f"events.{name}.secrets: {error}")
        found.append(Endpoint(name, url, secrets))
    if mistakes:
        raise ConfigError(mistakes)
    return found


def _is_allowed(url: str) -> bool:
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        if parts.username or parts.password or not host:
            return False
        return parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(host))
    except ValueError:
        return False


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def body_of(one: Due) -> bytes:
    """`{"type", "timestamp", "data"}`, the same bytes at every attempt."""
    head = json.dumps({"type": one.type, "timestamp": one.happened_at.astimezone(UTC).isoformat()})
    return f'{head[:-1]}, "data": {one.data}}}'.encode()


def deliver(
    database: Database,
    to: Sequence[Endpoint],
    *,
    seconds: float = 240.0,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    keep: Keep = no_alerts,
) -> Counter[tuple[str, str]]:
    """Deliver what is due for at most so many seconds; attempts by endpoint and outcome. An endpoint that another process serves is left out.

    `keep` gets an alert of every endpoint that is disabled, and one of each type of event that an endpoint's round gives up.
    """
    until = time.monotonic() + seconds
    counts: Counter[tuple[str, str]] = Counter()
    for endpoint in to:
        remember_address(endpoint.url)
    with ThreadPoolExecutor(max(len(to), 1), thread_name_prefix="endpoint") as pool:
        for one in pool.map(lambda endpoint: _serve(database, endpoint, until, clock, keep), to):
            counts.update(one)
    return counts


def _serve(
    database: Database, endpoint: Endpoint, until: float, clock: Callable[[], datetime], keep: Keep
) -> Counter[tuple[str, str]]:
    """One endpoint, round by round: each holds at most one event of a subject."""
    with database.connect(autocommit=True) as connection:
        row = connection.execute(f"SELECT pg_try_advisory_lock({_LOCK})", (endpoint.name,)).fetchone()
        if not row or not row[0]:
            return Counter()
        try:
            return _rounds(connection, endpoint, until, clock, keep)
        finally:
            connection.execute(f"SELECT pg_advisory_unlock({_LOCK})", (endpoint.name,))


def _rounds(
    connection: Connection, endpoint: Endpoint, until: float, clock: Callable[[], datetime], keep: Keep
) -> Counter[tuple[str, str]]:
    counts: Counter[tuple[str, str]] = Counter()
    sessions = threading.local()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        while time.monotonic() < until and endpoint.name not in events.disabled(connection):
            found = events.due(connection, endpoint.name, clock(), ROUND)
            if not found:
                break
            attempts = list(pool.map(lambda one: _attempt(endpoint, one, sessions, clock), found))
            with connection.transaction():
                events.record(connection, attempts)
                given_up = [pair for pair in zip(found, attempts, strict=True) if _is_given_up(pair[1])]
                reason = _end(connection, endpoint, attempts, bool(given_up), clock())
                if reason:
                    events.switch(connection, endpoint.name, "disabled", reason, clock())
                if reason or given_up:
                    keep(connection, _alerts(endpoint, given_up, reason, clock()))
            counts.update((endpoint.name, attempt.outcome) for attempt in attempts)
    return counts


def _is_given_up(attempt: Attempt) -> bool:
    return attempt.outcome == "failed" and attempt.next_at is None


def _end(
    connection: Connection, endpoint: Endpoint, attempts: Sequence[Attempt], is_given_up: bool, now: datetime
) -> str:
    """Why an endpoint gets nothing any more; empty when it goes on."""
    if any(attempt.outcome == "gone" for attempt in attempts):
        return "it answered 410 Gone"
    since = events.failing_since(connection, endpoint.name) if is_given_up else None
    return f"it took nothing for {SILENT.days} days" if since and now - since >= SILENT else ""


def _alerts(endpoint: Endpoint, given_up: Sequence[tuple[Due, Attempt]], reason: str, now: datetime) -> list[Alert]:
    """What is told of an endpoint's round, by name and type; the address is a secret."""
    name = endpoint.name
    by_type: dict[str, list[tuple[Due, Attempt]]] = {}
    for one, attempt in given_up:
        by_type.setdefault(one.type, []).append((one, attempt))
    found = [
        Alert(
            *("event_given_up", f"given_up:{name}:{pairs[0][0].event_id}:{now.isoformat()}"),
            f"{name}: {len(pairs)} {type_} given up after {pairs[-1][1].number} attempts ({pairs[-1][1].error}): "
            "`ledger-pipeline events list --state failed`.",
            now,
            about=(name, type_),
        )
        for type_, pairs in by_type.items()
    ]
    if reason:
        said = f"{name}: {reason}. It gets no events until `ledger-pipeline events enable {name} --by …`."
        found.append(Alert("endpoint_disabled", f"disabled:{name}:{now.isoformat()}", said, now, about=(name,)))
    return found


def _attempt(endpoint: Endpoint, one: Due, sessions: threading.local, clock: Callable[[], datetime]) -> Attempt:
    if not hasattr(sessions, "one"):
        sessions.one = requests.Session()
    at, began = clock(), time.monotonic()
    status, error, wait = _post(sessions.one, endpoint, one, at)
    outcome: events.Outcome = "delivered" if status and 200 <= status < 300 else "gone" if status == 410 else "failed"
    number = one.attempts + 1
    next_at = None
    if outcome == "gone":
        next_at = at  # it stays pending: whoever enables the endpoint again gets it
    elif outcome == "failed" and number <= len(SCHEDULE):
        planned = SCHEDULE[number - 1] * random.uniform(1, 1.1)
        next_at = at + max(planned, min(wait, LONGEST_WAIT))
    duration = int(1000 * (time.monotonic() - began))
    return Attempt(one.event_no, endpoint.name, number, outcome, status, error, duration, at, next_at)


def _post(session: requests.Session, endpoint: Endpoint, one: Due, at: datetime) -> tuple[int | None, str, timedelta]:
    """(status, error, what Retry-After asks for). Redirects aren't followed, and the answer's body isn't read."""
    body = body_of(one)
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "ledger-pipeline",
        **standard_headers(one.event_id, at, body, endpoint.secrets),
    }
    try:
        with session.post(
            endpoint.url,
            body,
            headers=headers,
            timeout=(CONNECT_SECONDS, READ_SECONDS),
            allow_redirects=False,
            stream=True,
        ) as answer:
            error = "" if answer.ok and answer.status_code < 300 else f"answered {answer.status_code}"
            return answer.status_code, error, _retry_after(answer.headers)
    except requests.RequestException as error:
        return None, type(error).__name__, timedelta(0)


def _retry_after(headers: Mapping[str, str]) -> timedelta:
    text = headers.get("Retry-After", "")
    return timedelta(seconds=int(text)) if text.isdigit() and len(text) < 7 else timedelta(0)
