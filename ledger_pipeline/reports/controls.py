"""Control totals: what the sources themselves say, against what the books hold of it, per connection.

Four kinds, each with its two sides by different paths. `landed`: the versions that landed, their source rows and the money with which the
source counts them, against the fates. `counted`: the source's own count of a pull against the records that came. `balance`: what the bank
states between two days against the ledger's bank account. `processor`: the balance transactions and payouts as the processor tells them
against the ledger's processor balance and payouts in transit.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from decimal import Decimal
from itertools import pairwise
from typing import Any, Literal

from ledger_pipeline.model.money import DIGITS, from_minor
from ledger_pipeline.store.database import Connection

Kind = Literal["landed", "counted", "balance", "processor"]
MOST_NAMED = 20
"""Unposted versions that a control names; their figures count all of them."""


@dataclass(frozen=True, slots=True)
class Control:
    """One figure of the source, and the same figure by another path.

    `unit` is `records`, `rows` or a currency code; money is in major units. `explained` is the part of `theirs − ours` that versions which
    aren't in the books account for: quarantined ones and those that a person ignored; `unposted` names them.
    """

    connection: str
    stream: str
    kind: Kind
    what: str
    unit: str
    theirs: Decimal
    ours: Decimal
    explained: Decimal = Decimal(0)
    unposted: tuple[str, ...] = ()

    @property
    def difference(self) -> Decimal:
        """What the source has more than the books."""
        return self.theirs - self.ours

    @property
    def holds(self) -> bool:
        """Nothing differs that isn't explained."""
        return self.difference == self.explained


def of_entity(
    connection: Connection, entity: str, connections: Sequence[str], first: date, last: date
) -> list[Control]:
    """Controls of the connections that feed an entity, for sync dates from `first` to `last`.

    Besides those of `of_connections`, a bank account's stated balance is held against the ledger's whole balance in this entity where an
    opening balance was posted to it.
    """
    return _all(connection, connections, first, last, entity)


def of_connections(connection: Connection, connections: Sequence[str], first: date, last: date) -> list[Control]:
    """Controls of connections for sync dates from `first` to `last`, in the order of the connections; empty streams have none."""
    return _all(connection, connections, first, last, None)


def _all(connection: Connection, names: Sequence[str], first: date, last: date, entity: str | None) -> list[Control]:
    scope = _Scope(connection, tuple(names), first, last)
    found = [*_landed(scope), *_counted(scope), *_balances(scope, entity), *_processors(scope), *_payouts(scope)]
    return sorted(found, key=lambda c: names.index(c.connection))


@dataclass(frozen=True, slots=True)
class _Scope:
    connection: Connection
    names: tuple[str, ...]
    first: date
    last: date

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Of a query that may speak of %(names)s, %(first)s and %(last)s."""
        arguments = {"names": list(self.names), "first": self.first, "last": self.last}
        return self.connection.execute(query, arguments).fetchall()


_LANDED = "r.connection = ANY(%(names)s) AND r.sync_date BETWEEN %(first)s AND %(last)s"
_OPEN = "(f.fate = 'quarantined' OR (f.fate = 'ignored' AND f.reason LIKE 'ignored by %%'))"
"""Versions that should be in the books and aren't: quarantined, or ignored by a person (not by a rule)."""


# landed against fates ------------------------------------------------------------------------------------------------------


def _landed(scope: _Scope) -> Iterator[Control]:
    """Versions count for the sync date that they landed for; a fate moves on when a later night sees the same version again."""
    named = _named(scope)
    for name, stream, landed, units, decided, decided_units, unposted, unposted_units in scope.rows(
        f"""
        SELECT r.connection, r.stream, count(*), sum(r.units)::bigint, count(f.raw_id) FILTER (WHERE NOT {_OPEN}),
               coalesce(sum(f.units) FILTER (WHERE NOT {_OPEN}), 0)::bigint, count(*) FILTER (WHERE {_OPEN}),
               coalesce(sum(f.units) FILTER (WHERE {_OPEN}), 0)::bigint
          FROM raw.record r LEFT JOIN ops.fate f USING (raw_id) WHERE {_LANDED} GROUP BY 1, 2 ORDER BY 1, 2
        """
    ):
        who = tuple(named[name, stream])
        counts = Decimal(landed), Decimal(decided), Decimal(unposted)
        yield Control(name, stream, "landed", "landed versions", "records", *counts, who)
        if (units, decided_units) != (landed, decided):
            sizes = Decimal(units), Decimal(decided_units), Decimal(unposted_units)
            yield Control(name, stream, "landed", "their source rows", "rows", *sizes, who)
    for name, stream, currency, staged, decided, unposted in scope.rows(
        f"""
        SELECT r.connection, r.stream, d.control_currency, sum(d.control_amount),
               coalesce(sum(f.control_amount) FILTER (WHERE NOT {_OPEN}), 0), coalesce(sum(f.control_amount) FILTER (WHERE {_OPEN}), 0)
          FROM raw.record r JOIN staging.document d USING (connection, sync_date, raw_id) LEFT JOIN ops.fate f USING (raw_id)
         WHERE {_LANDED} AND d.control_currency IS NOT NULL GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
        """
    ):
        who = tuple(named[name, stream]) if unposted else ()
        yield Control(name, stream, "landed", "their amounts", currency, staged, decided, unposted, who)


def _named(scope: _Scope) -> dict[tuple[str, str], list[str]]:
    """`<source id>: <fate>: <reason>` of what isn't in the books, by connection and stream."""
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name, stream, source_id, fate, reason in scope.rows(
        "SELECT r.connection, r.stream, r.source_id, f.fate, f.reason FROM raw.record r JOIN ops.fate f USING (raw_id) "
        f"WHERE {_LANDED} AND {_OPEN} ORDER BY r.raw_id"
    ):
        if len(found[name, stream]) < MOST_NAMED:
            found[name, stream].append(_label(source_id, fate, reason))
    return found


def _label(source_id: str, fate: str, reason: str) -> str:
    return f"{source_id}: {reason}" if fate == "ignored" else f"{source_id}: {fate}: {reason}"


# the source's own count ----------------------------------------------------------------------------------------------------


def _counted(scope: _Scope) -> list[Control]:
    """The last pull of each day. A listing that grew while it was read brings more than was counted; its reader notes how many."""
    found = []
    for name, stream, day, expected, more, came in scope.rows(
        """
        SELECT p.connection, p.stream, p.sync_date, p.expected, coalesce((p.notes ->> 'listed_more_than_counted')::bigint, 0),
               (SELECT count(DISTINCT r.source_id) FROM raw.seen s JOIN raw.record r USING (raw_id) WHERE s.pull_id = p.pull_id)
          FROM (SELECT DISTINCT ON (connection, stream, sync_date) * FROM raw.pull
                 WHERE connection = ANY(%(names)s) AND sync_date BETWEEN %(first)s AND %(last)s
                 ORDER BY connection, stream, sync_date, pull_id DESC) p
         WHERE p.expected IS NOT NULL ORDER BY 1, 2, 3
        """
    ):
        found.append(
            Control(
                name, stream, "counted", f"the source's count: {day}", "records",
                Decimal(expected), Decimal(came), Decimal(-more), (f"{more} more were listed than counted",) if more else (),
            )
        )  # fmt: skip
    return _condensed(found, "the source's count", "day")


def _condensed(controls: Iterable[Control], what: str, noun: str) -> list[Control]:
    """Those of a stream and unit that tie without explanation as one sum; the others by themselves, so that nothing offsets another."""
    ties: dict[tuple[str, ...], list[Control]] = defaultdict(list)
    rest = []
    for one in controls:
        if one.difference == 0 == one.explained:
            ties[one.connection, one.stream, one.unit].append(one)
        else:
            rest.append(one)
    sums = [
        replace(
            group[0],
            what=f"{what}: {len(group)} {noun}{'s' if len(group) > 1 else ''}",
            theirs=_sum(c.theirs for c in group),
            ours=_sum(c.ours for c in group),
        )
        for group in ties.values()
    ]
    return sums + rest


def _of_money(
    name: str,
    stream: str,
    kind: Kind,
    what: str,
    currency: str,
    theirs: int,
    ours: int,
    explained: int = 0,
    unposted: Sequence[str] = (),
) -> Control:
    """A control from minor units."""
    money = [from_minor(minor, currency) for minor in (theirs, ours, explained)]
    return Control(name, stream, kind, what, currency, money[0], money[1], money[2], tuple(unposted))


def _sum(values: Iterable[Decimal]) -> Decimal:
    return sum(values, Decimal(0))


# what the bank states ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Stated:
    """A balance of an account: dated, it holds at the end of that day; undated, when it was pulled (`at`)."""

    sync_date: date
    on: date | None
    at: datetime
    amount_minor: int
    is_opening: bool = False


@dataclass(frozen=True, slots=True)
class _Moved:
    """A line on a bank's role: its day, and since when the pulls have known it."""

    on: date
    at: datetime
    amount_minor: int


@dataclass(frozen=True, slots=True)
class _Missing:
    """Money that the bank counts and the books don't, from its landing `since` until a decided version came (`until`)."""

    sync_date: date
    since: datetime
    until: datetime | None
    amount_minor: int
    label: str


@dataclass(slots=True)
class _Account:
    """An account in one currency, all in minor units."""

    stated: list[_Stated] = field(default_factory=list)
    moved: list[_Moved] = field(default_factory=list)


def _balances(scope: _Scope, entity: str | None) -> Iterator[Control]:
    """Each two consecutive stated balances against what the ledger's account moved between them."""
    accounts = _accounts(scope)
    missing = _missing(scope)
    for (name, account, currency), of in accounts.items():
        what = f"bank account {account}"
        found = []
        for before, after in pairwise(of.stated):
            if not scope.first <= after.sync_date <= scope.last:
                continue
            explained, who = _explained(missing[name, currency], before, after)
            theirs = after.amount_minor - before.amount_minor
            ours = sum(line.amount_minor for line in of.moved if _is_between(line, before, after))
            if theirs == ours:
                explained, who = 0, ()
            until = f"{what}: movement until {after.on or after.sync_date}"
            found.append(_of_money(name, "balances", "balance", until, currency, theirs, ours, explained, who))
        yield from _condensed(found, what, "movement")
        if entity is not None:
            yield from _absolute(scope, entity, name, account, currency, of.stated)


def _is_between(line: _Moved, before: _Stated, after: _Stated) -> bool:
    if after.on is None:
        return before.at < line.at <= after.at
    return (before.is_opening or before.on is None or before.on < line.on) and line.on <= after.on


def _explained(missing: Sequence[_Missing], before: _Stated, after: _Stated) -> tuple[int, tuple[str, ...]]:
    """What landed between the two balances without being posted, less what had and was repaired between them."""
    total, who = 0, []
    for one in missing:
        if after.on is not None:
            sign = int(one.until is None and before.sync_date <= one.sync_date <= after.sync_date)
        else:
            ends = one.until is not None and before.at < one.until <= after.at
            sign = int(before.at < one.since <= after.at) - int(ends)
        total += sign * one.amount_minor
        if sign:
            who.append(one.label)
    return total, tuple(who[:MOST_NAMED])


def _accounts(scope: _Scope) -> dict[tuple[str, str, str], _Account]:
    """By connection, account and currency: its stated balances in their order, and the ledger's lines."""
    found: dict[tuple[str, str, str], _Account] = defaultdict(_Account)
    for name, account, currency, day, on, at, amount, kind in scope.rows(_STATED):
        found[name, account, currency].stated.append(_Stated(day, on, at, amount, kind == "opening"))
    for of in found.values():
        of.stated = _in_order(of.stated)
    if found:
        for name, role, currency, on, at, amount in scope.rows(_MOVED):
            key = name, role.partition(":")[2], currency
            if key in found:
                found[key].moved.append(_Moved(on, at, amount))
    return found


def _in_order(stated: Sequence[_Stated]) -> list[_Stated]:
    """Dated balances by their day, the last word for each; else by the pull. An opening balance is where the first one starts from."""
    opening = [one for one in stated if one.is_opening][:1]
    rest = [one for one in stated if not one.is_opening]
    dated = {one.on: one for one in rest if one.on is not None}
    if dated:
        return opening + [dated[day] for day in sorted(dated)]
    return sorted(rest, key=lambda one: one.at)


_STATED = """
    SELECT b.connection, b.account_id, b.currency, CASE WHEN b.stated_on IS NULL THEN b.sync_date ELSE r.sync_date END, b.stated_on,
           coalesce((SELECT max(q.started_at) FROM raw.pull q WHERE (q.connection, q.sync_date, q.run_id) = (p.connection, p.sync_date, p.run_id)),
                    r.fetched_at), b.amount_minor, b.kind
      FROM staging.bank_balance b JOIN raw.record r USING (raw_id)
      LEFT JOIN LATERAL (SELECT p.* FROM raw.pull p JOIN raw.seen s USING (pull_id)
                          WHERE p.connection = b.connection AND p.sync_date = b.sync_date AND s.raw_id = b.raw_id
                          ORDER BY p.pull_id DESC LIMIT 1) p ON true
     WHERE b.connection = ANY(%(names)s) AND b.sync_date <= %(last)s AND b.kind IN ('opening', 'closing', 'current')
     ORDER BY b.connection, b.account_id, b.currency, b.stated_on NULLS LAST, b.kind <> 'opening', b.raw_id
"""
"""The lines of a night are known with its balance: both are of the same run, so the last of its pulls dates them."""
_MOVED = """
    SELECT e.connection, l.role, l.currency, e.occurred_on,
           CASE WHEN e.kind = 'reversal' THEN coalesce(
                (SELECT n.fetched_at FROM ledger.entry c JOIN raw.record n USING (raw_id)
                  WHERE (c.connection, c.stream, c.origin_id) = (e.connection, e.stream, e.origin_id)
                    AND c.kind = 'replacement' AND c.corrects_entry_id = e.corrects_entry_id),
                (SELECT min(n.fetched_at) FROM raw.record n
                  WHERE (n.connection, n.stream, n.source_id) = (e.connection, e.stream, e.origin_id) AND n.fetched_at > r.fetched_at),
                r.fetched_at) ELSE r.fetched_at END,
           l.amount_minor
      FROM ledger.entry e JOIN raw.record r USING (raw_id) JOIN ledger.line l USING (entry_id)
     WHERE e.connection = ANY(%(names)s) AND l.role LIKE 'bank:%%'
    UNION ALL
    SELECT t.connection, l.role, l.currency, e.occurred_on, r.fetched_at, l.amount_minor
      FROM recon.twin t JOIN raw.record r USING (raw_id)
      JOIN ledger.live_entry e ON (e.connection, e.record, e.source_id) = (t.twin_connection, t.record, t.twin_source_id)
      JOIN ledger.line l USING (entry_id)
     WHERE t.connection = ANY(%(names)s) AND l.role LIKE 'bank:%%'
"""
"""A reversal counts from when the version came that took its entry's place. What another path has posted of the same events counts, too."""


def _missing(scope: _Scope) -> dict[tuple[str, str], list[_Missing]]:
    """Bank lines that aren't in the books, by connection and currency.

    Their money is what was staged, else the source's amount, with the sign that the source gives to the lines that were staged.
    """
    found: dict[tuple[str, str], list[_Missing]] = defaultdict(list)
    query = f"""
        WITH sign AS (
          SELECT d.connection, d.stream, CASE WHEN sum(d.control_amount * t.amount_minor) < 0 THEN -1 ELSE 1 END AS of
            FROM staging.document d JOIN (SELECT connection, sync_date, raw_id, sum(amount_minor) AS amount_minor
                                            FROM staging.bank_transaction WHERE connection = ANY(%(names)s) GROUP BY 1, 2, 3) t
                 USING (connection, sync_date, raw_id) GROUP BY 1, 2)
        SELECT r.connection, coalesce(t.currency, f.control_currency), r.sync_date, r.fetched_at,
               (SELECT min(n.fetched_at) FROM raw.record n JOIN ops.fate g USING (raw_id)
                 WHERE (n.connection, n.stream, n.source_id) = (r.connection, r.stream, r.source_id)
                   AND n.fetched_at > r.fetched_at AND g.fate <> 'quarantined'),
               t.amount_minor, f.control_amount * coalesce(s.of, 1), r.source_id, f.fate, f.reason
          FROM raw.record r JOIN ops.fate f USING (raw_id)
          LEFT JOIN sign s ON (s.connection, s.stream) = (r.connection, r.stream)
          LEFT JOIN LATERAL (SELECT currency, sum(amount_minor)::bigint AS amount_minor FROM staging.bank_transaction t
                              WHERE (t.connection, t.sync_date, t.raw_id) = (r.connection, r.sync_date, r.raw_id) AND t.state = 'booked'
                              GROUP BY 1) t ON true
         WHERE r.connection = ANY(%(names)s) AND r.connection IN (SELECT connection FROM staging.bank_balance)
           AND ({_OPEN} OR (f.fate = 'superseded' AND EXISTS (SELECT 1 FROM ops.quarantine q WHERE q.raw_id = r.raw_id)))
         ORDER BY r.raw_id
    """
    for name, currency, day, since, until, staged, stated, source_id, fate, reason in scope.rows(query):
        amount = staged if staged is not None else _in_minor(stated, currency)
        if amount is not None:
            found[name, currency].append(_Missing(day, since, until, amount, _label(source_id, fate, reason)))
    return found


def _in_minor(amount: Decimal | None, currency: str | None) -> int | None:
    """Minor units; None where it isn't a whole number of them: no bank counts such money."""
    if amount is None or currency is None or currency not in DIGITS:
        return None
    scaled = amount.scaleb(DIGITS[currency])
    return int(scaled) if scaled == scaled.to_integral_value() else None


def _absolute(
    scope: _Scope, entity: str, name: str, account: str, currency: str, stated: Sequence[_Stated]
) -> Iterator[Control]:
    """The last stated balance against the ledger's whole account, where an opening balance was posted to it."""
    last = [one for one in stated if scope.first <= one.sync_date <= scope.last and not one.is_opening]
    if not last:
        return
    row = scope.connection.execute(
        """
        SELECT coalesce(sum(l.amount_minor) FILTER (WHERE %(on)s::date IS NULL OR e.occurred_on <= %(on)s), 0)::bigint,
               bool_or(EXISTS (SELECT 1 FROM ledger.line o WHERE o.entry_id = l.entry_id AND o.role = 'opening_balance'))
          FROM ledger.line l JOIN ledger.entry e USING (entry_id) JOIN raw.record r USING (raw_id)
         WHERE l.entity = %(entity)s AND l.role = %(role)s AND l.currency = %(currency)s AND (%(on)s::date IS NOT NULL OR r.fetched_at <= %(at)s)
        """,
        {"entity": entity, "role": f"bank:{account}", "currency": currency, "on": last[-1].on, "at": last[-1].at},
    ).fetchone()
    if row is None or not row[1]:
        return
    what = f"bank account {account}: the balance, {last[-1].on or last[-1].sync_date}"
    yield _of_money(name, "balances", "balance", what, currency, last[-1].amount_minor, row[0])


# what the processor tells --------------------------------------------------------------------------------------------------


def _processors(scope: _Scope) -> Iterator[Control]:
    """Amounts − fees of the balance transactions that landed, against the ledger's processor balance from these payloads."""
    staged = scope.rows(
        f"""
        SELECT t.connection, r.stream, t.processor, t.currency, sum(t.amount_minor - t.fee_minor)::bigint,
               coalesce(sum(t.amount_minor - t.fee_minor) FILTER (WHERE f.fate IN ('quarantined', 'ignored')), 0)::bigint,
               (array_agg(CASE f.fate WHEN 'ignored' THEN r.source_id || ': ' || f.reason ELSE r.source_id || ': quarantined: ' || f.reason END
                          ORDER BY r.raw_id) FILTER (WHERE f.fate IN ('quarantined', 'ignored')))[:{MOST_NAMED}]
          FROM staging.processor_transaction t JOIN raw.record r USING (connection, sync_date, raw_id) LEFT JOIN ops.fate f USING (raw_id)
         WHERE {_LANDED} AND f.fate IS DISTINCT FROM 'superseded' GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
        """
    )
    booked: dict[tuple[str, ...], int] = {
        row[:4]: row[4]
        for row in scope.rows(
            f"""
            SELECT r.connection, r.stream, split_part(l.role, ':', 2), l.currency, sum(l.amount_minor)::bigint
              FROM raw.record r JOIN ledger.entry e ON e.raw_id = r.raw_id
               AND (e.connection, e.stream, e.origin_id) = (r.connection, r.stream, r.source_id)
              JOIN ledger.line l USING (entry_id)
             WHERE {_LANDED} AND e.record = 'processor_transaction' AND l.role LIKE 'processor_balance:%%' GROUP BY 1, 2, 3, 4
            """
        )
    }
    for name, stream, processor, currency, theirs, explained, who in staged:
        ours = booked.pop((name, stream, processor, currency), 0)
        what = f"{processor}: amounts − fees"
        yield _of_money(name, stream, "processor", what, currency, theirs, ours, explained, who or ())
    for (name, stream, processor, currency), ours in booked.items():
        if ours:
            what = f"{processor}: nothing is staged of what the ledger's balance holds"
            yield _of_money(name, stream, "processor", what, currency, 0, ours)


def _payouts(scope: _Scope) -> list[Control]:
    """Every payout that was issued in the windows, as the list of payouts tells it, against what its own movements put in transit."""
    found = []
    for name, processor, payout, state, currency, amount, in_transit in scope.rows(_PAYOUTS):
        theirs = 0 if state in ("failed", "canceled") else amount
        what = f"{processor}: payout {payout} ({state}), in transit"
        found.append(_of_money(name, "payouts", "processor", what, currency, theirs, in_transit))
    return _condensed(found, "paid out", "payout")


_PAYOUTS = """
    SELECT p.connection, p.processor, p.source_id, p.state, p.currency, p.amount_minor,
           coalesce((SELECT sum(l.amount_minor)
                       FROM ledger.entry e JOIN ledger.line l USING (entry_id)
                      WHERE e.connection = p.connection AND e.record = 'processor_transaction' AND l.role = 'payout_in_transit'
                        AND l.currency = p.currency AND e.source_id IN (
                            SELECT t.source_id FROM staging.processor_transaction t
                             WHERE t.connection = p.connection AND t.kind IN ('payout', 'payout_failure')
                               AND p.source_id IN (t.source_object_id, t.payout_id))), 0)::bigint
           + coalesce((SELECT sum(l.amount_minor)
                         FROM staging.processor_transaction t
                         JOIN recon.twin w ON (w.connection, w.record, w.source_id, w.raw_id)
                                            = (t.connection, 'processor_transaction', t.source_id, t.raw_id)
                         JOIN ledger.live_entry e ON (e.connection, e.record, e.source_id) = (w.twin_connection, w.record, w.twin_source_id)
                         JOIN ledger.line l USING (entry_id)
                        WHERE t.connection = p.connection AND t.kind IN ('payout', 'payout_failure') AND l.role = 'payout_in_transit'
                          AND l.currency = p.currency AND p.source_id IN (t.source_object_id, t.payout_id)), 0)::bigint
      FROM (SELECT connection, min(window_start) AS start, max(window_end) AS until FROM raw.pull
             WHERE connection = ANY(%(names)s) AND sync_date BETWEEN %(first)s AND %(last)s GROUP BY 1) w
      JOIN LATERAL (SELECT DISTINCT ON (o.source_id) o.* FROM staging.payout o
                     WHERE o.connection = w.connection AND o.occurred_at >= w.start AND o.occurred_at < w.until
                     ORDER BY o.source_id, o.sync_date DESC, o.raw_id DESC) p ON true
     ORDER BY p.connection, p.source_id
"""
