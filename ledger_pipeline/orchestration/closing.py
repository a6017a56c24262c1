"""Closing a month: begin, check, close, reopen. Plain functions over a Runtime; assets and commands call them, so do tests.

While a month is closing the nights post into the next open one, and people may still correct it. It is closed when every check holds or
somebody accepts a failing one with a reason, in one transaction that nothing is posted beside.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from ledger_pipeline.model.months import first_of_month, last_of_month
from ledger_pipeline.orchestration import closing_checks, currency
from ledger_pipeline.orchestration.closing_checks import DOCS, Check, Scope, feeding
from ledger_pipeline.orchestration.runtime import Runtime
from ledger_pipeline.store import events, periods
from ledger_pipeline.store.database import Connection
from ledger_pipeline.store.periods import Event, PeriodRefused

ATTEMPTS = 5
"""How often a close looks again because something was posted while it looked."""


@dataclass(frozen=True, slots=True)
class Closed:
    """A month that was closed: the event with its hash, and the checks as they were answered."""

    entity: str
    month: date
    event: Event
    checks: tuple[Check, ...]


class NotClosed(Exception):
    """Checks fail and nobody accepted them; the month stays in closing. `checks` are all of them."""

    def __init__(self, entity: str, month: date, checks: Sequence[Check]) -> None:
        self.checks = tuple(checks)
        self.failing = tuple(check for check in checks if not check.is_passed)
        said = "; ".join(f"{check.name}: {check.found}" for check in self.failing)
        super().__init__(f"period {month:%Y-%m} of {entity} stays in closing: {said}")


def check(runtime: Runtime, entity: str, month: date) -> list[Check]:
    """Every check of a month, in one snapshot; changes nothing. Raises PeriodRefused for an unknown entity."""
    return _examine(runtime, entity, first_of_month(month))[0]


def begin(runtime: Runtime, entity: str, month: date, by: str) -> Event:
    """open → closing: from now on the nights post past this month. Raises PeriodRefused."""
    _known(runtime, entity)
    with runtime.database.connect() as connection:
        return periods.record_event(connection, entity, month, "closing", by=by, at=runtime.clock())


def reopen(runtime: Runtime, entity: str, month: date, by: str, reason: str) -> Event:
    """closing or closed → open, for a reason. Raises PeriodRefused."""
    _known(runtime, entity)
    with runtime.database.connect() as connection:
        return periods.record_event(connection, entity, month, "reopened", by=by, at=runtime.clock(), reason=reason)


def close(runtime: Runtime, entity: str, month: date, by: str, accept: Mapping[str, str] | None = None) -> Closed:
    """open or closing → closed, after the month's currency run, when every check holds or `accept` (check → reason) takes it.

    Raises NotClosed with all checks when one fails, and the month stays in closing; PeriodRefused when it is closed already, when nobody
    is named, or when `accept` names an unknown check or no reason.
    """
    _known(runtime, entity)
    month, accept = first_of_month(month), accept or {}
    _refuse_acceptance(accept)
    _make_closing(runtime, entity, month, by)
    currency.run(runtime, entity, month, by, f"close-{uuid.uuid4()}")
    for _ in range(ATTEMPTS):
        found, seen = _examine(runtime, entity, month)
        checks = [_accepted(one, by, accept) for one in found]
        if not all(one.is_passed for one in checks):
            raise NotClosed(entity, month, checks)
        event = _record(runtime, entity, month, by, checks, seen)
        if event is not None:
            return Closed(entity, month, event, tuple(checks))
    raise PeriodRefused(f"period {month:%Y-%m} of {entity} changed whenever it had been checked; close it again")


def _known(runtime: Runtime, entity: str) -> None:
    if entity not in runtime.config.entities:
        raise PeriodRefused(f"unknown entity {entity!r}; known are {', '.join(runtime.config.entities)}")


def _refuse_acceptance(accept: Mapping[str, str]) -> None:
    for name, reason in accept.items():
        if name not in DOCS:
            raise PeriodRefused(f"unknown check {name!r}; known are {', '.join(DOCS)}")
        if name == "debits_equal_credits":
            raise PeriodRefused("debits_equal_credits can't be accepted: books that don't balance are broken")
        if not reason.strip():
            raise PeriodRefused(f"say why {name} is accepted")


def _make_closing(runtime: Runtime, entity: str, month: date, by: str) -> None:
    if not by.strip():
        raise PeriodRefused("say who closes the period")
    with runtime.database.connect() as connection:
        periods.lock_alone(connection, entity)
        now = periods.state(connection, entity, month)
        if now == "closed":
            raise PeriodRefused(f"period {month:%Y-%m} of {entity} is closed already; reopen it first")
        if now == "open":
            periods.record_event(connection, entity, month, "closing", by=by, at=runtime.clock())


def _accepted(check: Check, by: str, accept: Mapping[str, str]) -> Check:
    if check.holds or check.name not in accept:
        return check
    return replace(check, accepted=accept[check.name], accepted_by=by)


# what the checks have seen ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Seen:
    """Up to where the checks looked: the entity's last batch, and the month's pulls, gates and fates."""

    chain_no: int
    days: tuple[Any, ...]


_DAYS = """
    SELECT (SELECT max(pull_id) FROM raw.pull WHERE connection = ANY(%(names)s) AND sync_date BETWEEN %(first)s AND %(last)s),
           (SELECT max(checked_at) FROM ops.gate WHERE connection = ANY(%(names)s) AND sync_date BETWEEN %(first)s AND %(last)s),
           count(*), max(decided_at)
      FROM ops.fate WHERE connection = ANY(%(names)s) AND sync_date BETWEEN %(first)s AND %(last)s
"""
_POSTED_SINCE = """
    SELECT 1 FROM ledger.batch b JOIN ledger.entry e USING (batch_id)
     WHERE b.entity = %(entity)s AND b.chain_no > %(chain_no)s AND e.posted_on <= %(last)s LIMIT 1
"""


def _examine(runtime: Runtime, entity: str, month: date) -> tuple[list[Check], _Seen]:
    _known(runtime, entity)
    with runtime.database.connect("reader") as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        scope = Scope(runtime, connection, entity, month)
        last = scope.rows("SELECT coalesce(max(chain_no), 0) FROM ledger.batch WHERE entity = %(entity)s")
        return closing_checks.run(scope), _Seen(last[0][0], scope.rows(_DAYS)[0])


def _record(runtime: Runtime, entity: str, month: date, by: str, checks: Sequence[Check], seen: _Seen) -> Event | None:
    """Hash and close, alone; None when something that the checks depend on has changed since they looked."""
    scope = {"entity": entity, "names": feeding(runtime.config, entity), "first": month, "last": last_of_month(month)}
    with runtime.database.connect() as connection:
        periods.lock_alone(connection, entity)
        if _has_changed(connection, scope, seen):
            return None
        done = periods.record_event(
            connection, entity, month, "closed", by=by, at=runtime.clock(),
            closed=periods.content(connection, entity, month), checks=[one.as_json() for one in checks],
        )  # fmt: skip
        _tell_closed(runtime, connection, done)
        return done


def _tell_closed(runtime: Runtime, connection: Connection, done: Event) -> None:
    month = f"{done.month:%Y-%m}"
    data = {
        "entity": done.entity,
        "month": month,
        "entries": done.entry_count,
        "lines": done.line_count,
        "content_hash": done.content_hash.hex() if done.content_hash else None,
        "event_hash": done.hash.hex(),
    }
    endpoints, subject = runtime.config.told_of("period.closed"), f"{done.entity}/{month}"
    events.tell(connection, endpoints, "period.closed", done.entity, subject, data, done.happened_at)


def _has_changed(connection: Connection, scope: Mapping[str, Any], seen: _Seen) -> bool:
    if connection.execute(_POSTED_SINCE, {**scope, "chain_no": seen.chain_no}).fetchone():
        return True
    return connection.execute(_DAYS, scope).fetchone() != seen.days
