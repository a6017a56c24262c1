"""The sandbox's webhooks: what each system would have told, signed as it signs, and sent to a receiver.

What is told and how it is signed stands in `sources/<system>/sandbox_webhooks.py`; nothing here knows the receiver's code.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import requests

from ledger_pipeline.sandbox.wire import days_between, local_day, zone_of

if TYPE_CHECKING:
    from ledger_pipeline.sandbox.company import Company

TIMEOUT_SECONDS = 10
EVERY_SECONDS = 1.0
_PACKAGE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class Told:
    """One webhook before it is signed: when the change was made, its topic, the provider's id and the body."""

    at: datetime
    topic: str
    id: str
    body: bytes


@cache
def tellers() -> dict[str, ModuleType]:
    """The systems that send webhooks: `told(company, connection, day)` and `signed(told, connection, now)`, by name."""
    found = {}
    for path in sorted(_PACKAGE.glob("sources/*/sandbox_webhooks.py")):
        found[path.parent.name] = import_module(f"ledger_pipeline.sources.{path.parent.name}.sandbox_webhooks")
    return found


def told_between(company: Company, connection: str, since: datetime, until: datetime) -> Iterator[Told]:
    """What a connection's system tells of changes after `since` and up to `until`, in their order."""
    teller = tellers().get(company.connections[connection].system)
    if teller is None:
        return
    zone = zone_of(company, connection)
    for day in days_between(max(company.start, local_day(since, zone)), local_day(until, zone)):
        for one in sorted(teller.told(company, connection, day), key=lambda one: (one.at, one.id)):
            if since < one.at <= until:
                yield one


def send(company: Company, connection: str, told: Told, url: str, session: requests.Session, now: datetime) -> int:
    """Post one to `url`/{connection}; the status that the receiver answered, 0 when it didn't."""
    teller = tellers()[company.connections[connection].system]
    headers = {"Content-Type": "application/json", **teller.signed(told, connection, now)}
    try:
        answer = session.post(f"{url}/{connection}", told.body, headers=headers, timeout=TIMEOUT_SECONDS)
    except requests.ConnectionError:
        return 0
    return answer.status_code


def follow(
    company: Company, url: str, connections: list[str], seconds: float, hours: int = 0
) -> Iterator[Counter[tuple[str, int]]]:
    """Send what happens in real time, for so many seconds; after each round how many were sent, by connection and status.

    The first round sends what happened in the last `hours`.
    """
    sent: Counter[tuple[str, int]] = Counter()
    since, ends = datetime.now(UTC) - timedelta(hours=hours), time.monotonic() + seconds
    with requests.Session() as session:
        while time.monotonic() < ends:
            until = datetime.now(UTC)
            for connection in connections:
                for one in told_between(company, connection, since, until):
                    sent[connection, send(company, connection, one, url, session, datetime.now(UTC))] += 1
            since = until
            yield sent
            time.sleep(EVERY_SECONDS)


def coming(company: Company, connections: list[str], now: datetime) -> tuple[str, Told] | None:
    """The next webhook of these connections within two days, and whose it is."""
    found = [
        (name, one)
        for name in connections
        if (one := next(told_between(company, name, now, now + timedelta(days=2)), None)) is not None
    ]
    return min(found, key=lambda pair: pair[1].at, default=None)


def recent(company: Company, connection: str, until: datetime, hours: int = 24) -> list[Told]:
    """What was told in the last hours, for whoever wants to send it again."""
    return list(told_between(company, connection, until - timedelta(hours=hours), until))
