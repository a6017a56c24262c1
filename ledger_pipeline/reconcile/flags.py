"""Likely duplicates, found before a day is posted and never dropped: two equal payments may both be real, so a person is asked, once.

What repeats by habit isn't asked about: equal lines that are further apart than the next business day, and those of an established rhythm,
unless a day has more of them than any day before. What a person said is remembered.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import Any, Literal

from ledger_pipeline.model.money import format_minor
from ledger_pipeline.reconcile.calendar import Calendar
from ledger_pipeline.store import frames
from ledger_pipeline.store.database import Connection

What = Literal["charge", "line", "reference", "path", "statement"]
Decision = Literal["both_real", "duplicate"]
FLAGGED = ("processor_transaction", "bank_transaction")
"""Records that are looked at."""
HISTORY_DAYS = 35
"""Equal lines of so many days say whether there is a rhythm: on three days before, or more."""
RHYTHM = 3
REFERENCE_DAYS = 6
"""The same reference so many days later is no weekly payment."""
LINE_DAYS = 3
PATH_DAYS = 3
CHARGE_DAYS = 3
_Key = tuple[Any, ...]
_EMPTY_REFERENCES = frozenset({"", "notprovided", "nonref", "none", "na", "notavailable", "nichtangegeben"})


class DecisionRefused(Exception):
    """A word on a flag that doesn't allow it; says why."""


@dataclass(frozen=True, slots=True)
class Payment:
    """A bank line, or a charge: `account` is the line's bank role or the charge's order, `text` what it says, both as far as they identify it.

    `is_new` is of the day that is checked.
    """

    connection: str
    source_id: str
    raw_id: int
    account: str
    currency: str
    amount_minor: int
    on: date
    text: str
    reference: str = ""
    is_new: bool = False

    @property
    def id(self) -> tuple[str, str]:
        """Connection and id."""
        return self.connection, self.source_id


@dataclass(frozen=True, slots=True)
class Found:
    """Two payments that may be one; `later` is the one that would be left out. `pattern` is what they have in common, as a hash."""

    what: What
    later: Payment
    earlier: Payment
    pattern: str

    @property
    def reason(self) -> str:
        """Why they look alike: days, amounts and ids, no words of the bank."""
        money = format_minor(self.later.amount_minor, self.later.currency)
        days = (self.later.on - self.earlier.on).days
        when = "on the same day" if not days else f"{abs(days)} day{'' if abs(days) == 1 else 's'} apart"
        said = {
            "charge": f"two charges of {money} for order {self.later.account}, {when}",
            "line": f"two equal bank lines of {money}, {when}",
            "reference": f"two bank lines of {money} with the same reference, {when}",
            "statement": f"a bank line of {money} that stands from a statement which ends where this one begins: booked once, and perhaps two",
            "path": f"bank lines of {money} by two paths, {when}: one event, or two",
        }
        return said[self.what]


@dataclass(frozen=True, slots=True)
class Flag:
    """A kept flag, with the last word about it: decision, by whom and why are empty while nobody has spoken."""

    flag_id: int
    what: What
    entity: str
    record: str
    connection: str
    source_id: str
    happened_on: date
    twin_connection: str
    twin_source_id: str
    twin_on: date
    currency: str
    amount_minor: int
    reason: str
    sync_date: date
    noticed_at: datetime
    decision: Decision | None
    by_whom: str | None
    why: str | None
    decided_at: datetime | None


# what is alike -------------------------------------------------------------------------------------------------------------


def normal(text: str) -> str:
    """Letters and digits in lower case: what is left of a text that a bank prints now with, now without its marks."""
    return re.sub(r"[\W_]+", "", text.casefold())


def pattern(*parts: object) -> str:
    """What two payments have in common, without its words."""
    return hashlib.sha256("\x1f".join(map(str, parts)).encode()).hexdigest()


def alike_charges(charges: Iterable[Payment]) -> list[Found]:
    """Charges for one order and amount, under other ids; `text` is the payment object, which must differ."""
    found: list[Found] = []
    for key, group in _groups(charges, lambda c: (c.account, c.currency, c.amount_minor)):
        print_ = pattern("charge", *key)
        for a, b in pairwise(sorted(group, key=lambda c: (c.on, c.source_id))):
            if (a.is_new or b.is_new) and a.text != b.text and (b.on - a.on).days <= CHARGE_DAYS:
                found.append(Found("charge", b, a, print_))
    return found


def alike_lines(lines: Sequence[Payment], calendar: Calendar, real: Collection[str] = ()) -> list[Found]:
    """Bank lines of one connection: money out with equal words, and either way with an equal reference."""
    found: list[Found] = []
    for key, group in _groups(lines, lambda n: (n.account, n.currency, n.amount_minor, normal(n.text))):
        if key[2] < 0:
            found += _repeated("line", group, pattern("line", *key), real, lambda a, b: _is_next(calendar, a, b))
    for key, group in _groups(lines, lambda n: (n.account, n.currency, n.amount_minor, normal(n.reference))):
        if key[3] not in _EMPTY_REFERENCES:
            found += _repeated(
                "reference", group, pattern("reference", *key), real, lambda a, b: (b - a).days <= REFERENCE_DAYS
            )
    return found


def _is_next(calendar: Calendar, first: date, second: date) -> bool:
    return (second - first).days <= LINE_DAYS and calendar.between(first, second) <= 1


def _repeated(
    what: What, group: list[Payment], print_: str, real: Collection[str], is_near: Callable[[date, date], bool]
) -> Iterator[Found]:
    per_day = Counter(line.on for line in group)
    for a, b in pairwise(sorted(group, key=lambda line: (line.on, line.id))):
        if not (a.is_new or b.is_new) or not is_near(a.on, b.on):
            continue
        if a.on != b.on and print_ in real:
            continue
        before = [n for day, n in per_day.items() if b.on - timedelta(days=HISTORY_DAYS) <= day < b.on]
        if len(before) >= RHYTHM and (a.on != b.on or per_day[b.on] <= max(before)):
            continue
        yield Found(what, b, a, print_)


def near_paths(name: str, lines: Sequence[Payment]) -> list[Found]:
    """A new line of this connection, and one of another path with its amount on a day close by, where neither is met on its own day."""
    found = []
    for key, group in _groups(lines, lambda n: (n.account, n.currency, n.amount_minor)):
        counted = Counter((line.connection, line.on) for line in group)
        own = [line for line in group if line.connection == name]
        for path in sorted({line.connection for line in group} - {name}):
            theirs = [n for n in group if n.connection == path and counted[name, n.on] < counted[path, n.on]]
            for line in sorted(own, key=lambda n: (n.on, n.source_id)):
                if counted[path, line.on] >= counted[name, line.on]:
                    continue
                near = [n for n in theirs if 1 <= abs((n.on - line.on).days) <= PATH_DAYS]
                if near:
                    other = min(near, key=lambda n: (abs((n.on - line.on).days), n.id))
                    theirs.remove(other)
                    if line.is_new:
                        found.append(Found("path", line, other, pattern("path", *key)))
    return found


def _groups(payments: Iterable[Payment], key: Callable[[Payment], _Key]) -> list[tuple[_Key, list[Payment]]]:
    groups: dict[_Key, list[Payment]] = defaultdict(list)
    for one in payments:
        groups[key(one)].append(one)
    return [(k, group) for k, group in groups.items() if len(group) > 1 and any(one.is_new for one in group)]


# in the database -----------------------------------------------------------------------------------------------------------

_STANDS = """(EXISTS (SELECT 1 FROM ledger.live_entry e WHERE (e.connection, e.record, e.source_id) = (t.connection, %(record)s, t.source_id))
         OR EXISTS (SELECT 1 FROM recon.twin w WHERE (w.connection, w.record, w.source_id) = (t.connection, %(record)s, t.source_id)))"""
_IS_NEW = "(t.connection = %(name)s AND t.sync_date = %(day)s)"
_SPAN = """
    SELECT least(%(day)s, min(booked_on)), greatest(%(day)s, max(booked_on)) FROM staging.bank_transaction
     WHERE connection = %(name)s AND sync_date = %(day)s AND state = 'booked'
"""
_LINES = f"""
    SELECT DISTINCT ON (t.connection, t.source_id) t.connection, t.source_id, t.raw_id, t.bank_role, t.currency, t.amount_minor, t.booked_on,
           coalesce(t.description, ''), coalesce(t.reference, ''), {_IS_NEW}
      FROM staging.bank_transaction t
      JOIN (SELECT DISTINCT bank_role, currency, amount_minor FROM staging.bank_transaction
             WHERE connection = %(name)s AND sync_date = %(day)s AND state = 'booked') m USING (bank_role, currency, amount_minor)
     WHERE t.connection = ANY(%(paths)s) AND t.sync_date BETWEEN %(first)s AND %(last)s AND t.state = 'booked' AND ({_IS_NEW} OR {_STANDS})
     ORDER BY t.connection, t.source_id, {_IS_NEW} DESC, t.sync_date DESC, t.raw_id DESC
"""
_CHARGES = f"""
    SELECT DISTINCT ON (t.connection, t.source_id) t.connection, t.source_id, t.raw_id, t.order_id, t.currency, t.amount_minor,
           t.occurred_at::date, coalesce(t.source_object_id, t.source_id), '', {_IS_NEW}
      FROM staging.processor_transaction t
      JOIN (SELECT DISTINCT order_id, currency, amount_minor FROM staging.processor_transaction
             WHERE connection = %(name)s AND sync_date = %(day)s AND kind = 'charge' AND order_id IS NOT NULL) m
           USING (order_id, currency, amount_minor)
     WHERE t.connection = %(name)s AND t.sync_date BETWEEN %(first)s AND %(last)s AND t.kind = 'charge' AND ({_IS_NEW} OR {_STANDS})
     ORDER BY t.connection, t.source_id, {_IS_NEW} DESC, t.sync_date DESC, t.raw_id DESC
"""


def look(
    connection: Connection,
    name: str,
    day: date,
    records: Collection[str],
    calendar: Calendar,
    paths: Collection[str] = (),
    refused: Collection[int] = (),
) -> list[tuple[str, Found]]:
    """(record, what is alike) among a staged day and what stands around it; `paths` tell of the same events, `refused` payloads don't count."""
    found: list[tuple[str, Found]] = []
    scope: dict[str, Any] = {"name": name, "day": day, "paths": sorted({name, *paths})}
    if "processor_transaction" in records:
        far = timedelta(days=CHARGE_DAYS)
        scope |= {"record": "processor_transaction", "first": day - far, "last": day + far}
        charges = [p for row in connection.execute(_CHARGES, scope) if (p := Payment(*row)).raw_id not in refused]
        found += [("processor_transaction", one) for one in alike_charges(charges)]
    if "bank_transaction" in records:
        span = connection.execute(_SPAN, scope).fetchone()
        if span is None or span[0] is None:
            return found
        far = timedelta(days=HISTORY_DAYS)
        scope |= {"record": "bank_transaction", "first": span[0] - far, "last": span[1] + far}
        lines = [p for row in connection.execute(_LINES, scope) if (p := Payment(*row)).raw_id not in refused]
        own = [line for line in lines if line.connection == name]
        alike = alike_lines(own, calendar)
        real = _real(connection, {one.pattern for one in alike})
        alike = alike_lines(own, calendar, real) if real else alike
        again = _continued(connection, scope, refused)
        found += [("bank_transaction", one) for one in (*alike, *near_paths(name, lines), *again)]
    return found


_CONTINUED = """
    SELECT t.connection, t.source_id, t.raw_id, t.bank_role, t.currency, t.amount_minor, t.booked_on, '', '', true, e.origin_id
      FROM staging.bank_transaction t
      JOIN staging.document d USING (connection, sync_date, raw_id)
      JOIN staging.bank_balance o ON (o.connection, o.sync_date, o.raw_id, o.kind) = (t.connection, t.sync_date, t.raw_id, 'opening')
      JOIN ledger.live_entry e ON (e.connection, e.record, e.source_id) = (t.connection, 'bank_transaction', t.source_id)
       AND e.origin_id <> d.origin_id
     WHERE t.connection = %(name)s AND t.sync_date = %(day)s AND t.state = 'booked'
       AND EXISTS (SELECT 1 FROM staging.bank_balance c
                    WHERE c.connection = t.connection AND c.raw_id = e.raw_id AND c.kind = 'closing'
                      AND (c.account_id, c.currency, c.amount_minor) = (o.account_id, o.currency, o.amount_minor))
"""


def _continued(connection: Connection, scope: Mapping[str, Any], refused: Collection[int]) -> list[Found]:
    """Lines without an id of their own that stand from another statement, which this one continues: the same line, or an equal one?"""
    found = []
    for *row, other in connection.execute(_CONTINUED, scope):
        line = Payment(*row)
        if line.raw_id not in refused:
            twin = replace(line, source_id=other)
            found.append(Found("statement", line, twin, pattern("statement", line.source_id)))
    return found


def _real(connection: Connection, patterns: Collection[str]) -> set[str]:
    rows = connection.execute(
        "SELECT DISTINCT pattern FROM recon.flag_now WHERE pattern = ANY(%s) AND decision = 'both_real'",
        (sorted(patterns),),
    )
    return {row[0] for row in rows}


def keep(
    connection: Connection, entity: str, day: date, found: Sequence[tuple[str, Found]], run_id: str, at: datetime
) -> None:
    """Append what wasn't flagged before; a pair is asked about once, whatever it is alike in and whichever day finds it."""
    rows = [
        (
            *(one.what, entity, record, *one.later.id, one.later.raw_id, one.later.on, *one.earlier.id, one.earlier.on),
            *(one.later.currency, one.later.amount_minor, one.pattern, one.reason, day, run_id, at),
        )
        for record, one in found
    ]
    if not rows:
        return
    columns = (
        *(
            "what",
            "entity",
            "record",
            "connection",
            "source_id",
            "raw_id",
            "happened_on",
            "twin_connection",
            "twin_source_id",
            "twin_on",
        ),
        *("currency", "amount_minor", "pattern", "reason", "sync_date", "run_id", "noticed_at"),
    )
    connection.execute("CREATE TEMP TABLE new_flag (LIKE recon.flag) ON COMMIT DROP")
    connection.execute("ALTER TABLE new_flag ALTER COLUMN flag_id DROP NOT NULL")
    frames.insert_rows(connection, "pg_temp", "new_flag", columns, rows)
    names = ", ".join(columns)
    connection.execute(f"INSERT INTO recon.flag ({names}) SELECT {names} FROM new_flag ON CONFLICT DO NOTHING")
    connection.execute("DROP TABLE new_flag")


_FLAGS = """
    SELECT flag_id, what, entity, record, connection, source_id, happened_on, twin_connection, twin_source_id, twin_on, currency, amount_minor,
           reason, sync_date, noticed_at, decision, by_whom, why, decided_at
      FROM recon.flag_now
"""


def flags(
    connection: Connection, name: str | None = None, day: date | None = None, *, is_open: bool = True
) -> list[Flag]:
    """Kept flags in their order, of all connections or one, and of one sync date; those that wait for a person, or all."""
    rows = connection.execute(
        f"{_FLAGS} WHERE (%(name)s::text IS NULL OR connection = %(name)s) AND (%(day)s::date IS NULL OR sync_date = %(day)s) "
        "AND (NOT %(is_open)s OR decision IS NULL) ORDER BY flag_id",
        {"name": name, "day": day, "is_open": is_open},
    )
    return [Flag(*row) for row in rows]


def decide(
    connection: Connection, flag_id: int, decision: Decision, *, by: str, reason: str, at: datetime
) -> tuple[Flag, Decision | None]:
    """(the flag, the last word before): record what a person says. Raises DecisionRefused for an unknown flag or a word that stands already."""
    if not by.strip() or not reason.strip():
        raise DecisionRefused("a decision needs a name and a reason: they are recorded")
    rows = connection.execute(f"{_FLAGS} WHERE flag_id = %s", (flag_id,)).fetchall()
    if not rows:
        raise DecisionRefused(f"there is no flag {flag_id}; `ledger-pipeline duplicates` lists ids")
    flag = Flag(*rows[0])
    if flag.decision == decision:
        raise DecisionRefused(f"flag {flag_id} is decided so already, by {flag.by_whom}")
    connection.execute(
        "INSERT INTO recon.flag_decision (flag_id, decision, by_whom, reason, decided_at) VALUES (%s, %s, %s, %s, %s)",
        (flag_id, decision, by.strip(), reason.strip(), at),
    )
    return flag, flag.decision


def duplicates(connection: Connection, name: str) -> dict[tuple[str, str], str]:
    """(record, source id) → why, of a connection's records that a person called duplicates; a line that stands once anyway stays."""
    rows = connection.execute(
        "SELECT record, source_id, format('ignored by %%s: a duplicate of %%s/%%s/%%s: %%s', by_whom, twin_connection, record, twin_source_id, why) "
        "FROM recon.flag_now WHERE connection = %s AND decision = 'duplicate' AND what <> 'statement' ORDER BY flag_id",
        (name,),
    )
    return {(record, source_id): why for record, source_id, why in rows}


def days_of(connection: Connection, flag: Flag) -> list[date]:
    """The sync dates that decided the payload behind a flagged record: what a decision has to be applied to."""
    rows = connection.execute(
        """
        SELECT DISTINCT f.sync_date FROM ops.fate f
         WHERE f.fate <> 'superseded' AND (f.connection, f.stream, f.source_id) IN (
               SELECT connection, stream, origin_id FROM ledger.entry WHERE (connection, record, source_id) = (%(c)s, %(r)s, %(id)s)
               UNION SELECT connection, stream, source_id FROM raw.record
                      WHERE raw_id = (SELECT raw_id FROM recon.flag WHERE flag_id = %(flag)s))
         ORDER BY 1
        """,
        {"c": flag.connection, "r": flag.record, "id": flag.source_id, "flag": flag.flag_id},
    )
    return [row[0] for row in rows]
