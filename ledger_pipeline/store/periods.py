"""Periods: an entity's months are open, closing or closed. Every change is an event in a hash chain; what was closed is hashed line by line.

A month without events is open. The database refuses other transitions than these, and entries in a closed month, whatever the code does.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Literal

from psycopg import sql
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from ledger_pipeline.model.months import first_of_month, last_of_month
from ledger_pipeline.store.database import Connection

State = Literal["open", "closing", "closed"]
EventName = Literal["closing", "closed", "reopened"]

FIRST_HASH = bytes(32)
"""What the first event of an entity follows."""
_BECOMES: Mapping[EventName, State] = {"closing": "closing", "closed": "closed", "reopened": "open"}
_ALLOWED: Mapping[State, tuple[State, ...]] = {"open": ("closing",), "closing": ("closed", "open"), "closed": ("open",)}


class PeriodRefused(Exception):
    """A period can't be changed like this; says what it is and what it can't become."""


@dataclass(frozen=True, slots=True)
class Period:
    """A month (its first day) of an entity that was ever closed or began to be."""

    entity: str
    month: date
    state: State
    changed_at: datetime
    changed_by: str


@dataclass(frozen=True, slots=True)
class Content:
    """What is posted in a month: how much, and the SHA-256 over its lines in a fixed form (see `content`)."""

    entries: int
    lines: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class Event:
    """One change of a period: who, when, why; of a closing also what was closed and checked. Hashes are 32 bytes."""

    entity: str
    event_no: int
    month: date
    event: EventName
    happened_at: datetime
    by_whom: str
    reason: str
    entry_count: int | None
    line_count: int | None
    content_hash: bytes | None
    checks: Sequence[Mapping[str, Any]]
    previous_hash: bytes
    hash: bytes

    @property
    def becomes(self) -> State:
        """The state that the period has after it."""
        return _BECOMES[self.event]


_COLUMNS = "entity, event_no, month, event, happened_at, by_whom, reason, entry_count, line_count, content_hash, checks, previous_hash, hash"


def lock_shared(connection: Connection, entity: str) -> None:
    """No period of the entity changes until this transaction ends; waits for whoever changes one. For whoever posts."""
    connection.execute("SELECT ledger.lock_periods(%s, false)", (entity,))


def lock_alone(connection: Connection, entity: str) -> None:
    """Nothing of the entity is posted until this transaction ends; waits for postings under way. For whoever changes a period."""
    connection.execute("SELECT ledger.lock_periods(%s, true)", (entity,))


def state(connection: Connection, entity: str, month: date) -> State:
    """What a month is now."""
    row = connection.execute(
        "SELECT state FROM ledger.period WHERE entity = %s AND month = %s", (entity, first_of_month(month))
    ).fetchone()
    found: State = row[0] if row else "open"
    return found


def all_of(connection: Connection, entity: str | None = None) -> list[Period]:
    """Months that were ever closed or began to be, of one entity or all, the earliest first."""
    with connection.cursor(row_factory=class_row(Period)) as cursor:
        cursor.execute(
            "SELECT entity, month, state, changed_at, changed_by FROM ledger.period "
            "WHERE %(e)s::text IS NULL OR entity = %(e)s ORDER BY entity, month",
            {"e": entity},
        )
        return cursor.fetchall()


def entries_by_month(connection: Connection, entity: str) -> dict[date, int]:
    """How many entries are posted in each month (its first day) that has any."""
    rows = connection.execute(
        "SELECT date_trunc('month', posted_on)::date, count(*) FROM ledger.entry WHERE entity = %s GROUP BY 1 ORDER BY 1",
        (entity,),
    )
    return dict(rows.fetchall())


def history(connection: Connection, entity: str | None = None, month: date | None = None) -> list[Event]:
    """Every change in the order in which it happened; of one entity or all, of one month or all."""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM ledger.period_event WHERE (%(e)s::text IS NULL OR entity = %(e)s) "
        "AND (%(m)s::date IS NULL OR month = %(m)s) ORDER BY entity, event_no",
        {"e": entity, "m": first_of_month(month) if month else None},
    )
    return [_event(row) for row in rows]


def _event(row: Sequence[Any]) -> Event:
    values = dict(zip(_COLUMNS.split(", "), row, strict=True))
    for name in ("content_hash", "previous_hash", "hash"):
        values[name] = None if values[name] is None else bytes(values[name])
    return Event(**values | {"checks": tuple(values["checks"])})


def content(connection: Connection, entity: str, month: date) -> Content:
    """The month's entries and lines, counted, and the SHA-256 of its lines.

    Hashed are the bytes of COPY's text form in UTF-8: entry_id, line_no, posted_on (YYYY-MM-DD), account, role, currency, amount_minor and
    base_minor by tabs, a row a line, by entry and line number. An empty month has the hash of nothing. To be sure that nothing is added
    meanwhile, hold `lock_alone`, or read in one snapshot.
    """
    span = {"entity": entity, "first": first_of_month(month), "last": last_of_month(month)}
    where = "FROM ledger.line WHERE entity = %(entity)s AND posted_on BETWEEN %(first)s AND %(last)s"
    row = connection.execute(f"SELECT count(DISTINCT entry_id), count(*) {where}", span).fetchone()
    query = sql.SQL(
        "COPY (SELECT entry_id, line_no, to_char(posted_on, 'YYYY-MM-DD'), account, role, currency, amount_minor, base_minor "
        "FROM ledger.line WHERE entity = {} AND posted_on BETWEEN {} AND {} ORDER BY entry_id, line_no) TO STDOUT (ENCODING 'UTF8')"
    ).format(*(sql.Literal(value) for value in span.values()))
    digest = hashlib.sha256()
    with connection.cursor() as cursor, cursor.copy(query) as copy:
        for chunk in copy:
            digest.update(chunk)
    entries, lines = row or (0, 0)
    return Content(entries, lines, digest.digest())


def record_event(
    connection: Connection,
    entity: str,
    month: date,
    event: EventName,
    *,
    by: str,
    at: datetime,
    reason: str = "",
    closed: Content | None = None,
    checks: Sequence[Mapping[str, Any]] = (),
) -> Event:
    """Change a period: the next event of the entity's chain, under the lock that nobody else who posts or closes holds.

    `closed` is what a `closed` event closes; `checks` is JSON without floats. Raises PeriodRefused for a transition that isn't allowed.
    """
    if not by.strip():
        raise PeriodRefused("say who changes the period")
    if event == "reopened" and not reason.strip():
        raise PeriodRefused("say why the period is reopened")
    month = first_of_month(month)
    lock_alone(connection, entity)
    _refuse(entity, month, state(connection, entity, month), _BECOMES[event])
    row = connection.execute(
        "SELECT event_no, hash FROM ledger.period_event WHERE entity = %s ORDER BY event_no DESC LIMIT 1", (entity,)
    ).fetchone()
    number, previous = (row[0] + 1, bytes(row[1])) if row else (1, FIRST_HASH)
    entries, lines, lines_hash = (closed.entries, closed.lines, closed.hash) if closed else (None, None, None)
    made = Event(
        entity=entity, event_no=number, month=month, event=event, happened_at=at.astimezone(UTC), by_whom=by, reason=reason,
        entry_count=entries, line_count=lines, content_hash=lines_hash, checks=tuple(checks), previous_hash=previous, hash=b"",
    )  # fmt: skip
    values = (*_fields(made), Jsonb(list(made.checks)), previous, event_hash(made))
    marks = ", ".join(["%s"] * len(values))
    connection.execute(f"INSERT INTO ledger.period_event ({_COLUMNS}) VALUES ({marks})", values)
    return history(connection, entity, month)[-1]


def _refuse(entity: str, month: date, now: State, becomes: State) -> None:
    if becomes not in _ALLOWED[now]:
        raise PeriodRefused(f"period {month:%Y-%m} of {entity} is {now}: it can't become {becomes}")


def _fields(event: Event) -> tuple[Any, ...]:
    return (
        *(event.entity, event.event_no, event.month, event.event, event.happened_at, event.by_whom, event.reason),
        *(event.entry_count, event.line_count, event.content_hash),
    )


def event_hash(event: Event) -> bytes:
    """SHA-256 over the previous event's hash and all other fields as one JSON list: days and times in ISO 8601 (UTC, microseconds), bytes as hex."""
    fields = [*map(_plain, _fields(event)), list(event.checks)]
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(event.previous_hash + text.encode()).digest()


def _plain(value: Any) -> str | int | None:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds")
    if isinstance(value, date):
        return value.isoformat()
    return value.hex() if isinstance(value, bytes) else value


# proof -----------------------------------------------------------------------------------------------------------------

Fault = tuple[str, str, str]
"""(table, id there, what differs)."""


def faults(connection: Connection, entity: str | None = None) -> Iterator[Fault]:
    """What isn't as it was recorded: the chain of events, the states that they come to, and the lines of the months that are closed now.

    Call it in one snapshot. A month that was reopened may differ from what was closed then; only its latest state counts.
    """
    events = history(connection, entity)
    yield from _chain_faults(events)
    last = {(event.entity, event.month): event for event in events}
    yield from _state_faults(last, all_of(connection, entity))
    for event in last.values():
        if event.event == "closed":
            yield from _content_faults(event, content(connection, event.entity, event.month))


def _chain_faults(events: Sequence[Event]) -> Iterator[Fault]:
    before: Event | None = None
    states: dict[tuple[str, date], State] = {}
    for event in events:
        if before is None or before.entity != event.entity:
            before = None
        for what in _links(before, event, states.get((event.entity, event.month), "open")):
            yield "ledger.period_event", f"{event.entity}/{event.event_no}", what
        states[event.entity, event.month] = event.becomes
        before = event


def _links(before: Event | None, event: Event, was: State) -> Iterator[str]:
    """How an event follows the one before it in its entity's chain, and what its month was before it."""
    number, expected = (before.event_no, before.hash) if before else (0, FIRST_HASH)
    if event.event_no != number + 1:
        yield f"the chain has a gap: number {event.event_no} comes after {number}"
    if event.previous_hash != expected:
        after = f"event {number}" if before else "it is the first one left; before the first"
        yield f"its previous hash is {event.previous_hash.hex()}, but {after} has {expected.hex()}"
    if event_hash(event) != event.hash:
        yield "its hash isn't that of its fields and previous hash"
    if event.becomes not in _ALLOWED[was]:
        yield f"period {event.month:%Y-%m} was {was}: it couldn't become {event.becomes}"


def _state_faults(last: Mapping[tuple[str, date], Event], periods: Sequence[Period]) -> Iterator[Fault]:
    found = {(period.entity, period.month): period for period in periods}
    for key in sorted(last.keys() | found.keys()):
        period, event = found.get(key), last.get(key)
        id_ = f"{key[0]}/{key[1]:%Y-%m}"
        if event is None:
            yield "ledger.period", id_, f"it is {period.state if period else 'open'}, but no event made it so"
        elif period is None:
            yield "ledger.period", id_, f"it is missing, but event {event.event_no} made it {event.becomes}"
        elif period.state != event.becomes:
            yield "ledger.period", id_, f"it is {period.state}, but event {event.event_no} made it {event.becomes}"
        elif (period.changed_at, period.changed_by) != (event.happened_at, event.by_whom):
            yield "ledger.period", id_, f"who changed it and when isn't what event {event.event_no} says"


def _content_faults(event: Event, now: Content) -> Iterator[Fault]:
    id_ = f"{event.entity}/{event.month:%Y-%m}"
    if (now.entries, now.lines) != (event.entry_count, event.line_count):
        yield (
            "ledger.period",
            id_,
            f"it was closed with {event.entry_count} entries of {event.line_count} lines but holds {now.entries} of {now.lines}",
        )
    if event.content_hash is not None and now.hash != event.content_hash:
        yield "ledger.period", id_, f"its lines hash to {now.hash.hex()}, but {event.content_hash.hex()} was closed"
