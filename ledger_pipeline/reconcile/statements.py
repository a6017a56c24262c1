"""Statement reconciliation: every balance that a bank states against the ledger's account at that moment; the first day that differs is named.

The ledger may begin after the account did. Then the first stated balance says what the ledger lacks, and every later one must lack the same;
once an opening balance is posted to the account, none may lack anything. No source states a processor's balance yet: what a processor's
transactions come to is held against the ledger by the control totals.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Literal

from ledger_pipeline.model.accounts import CLEARING_ROLES
from ledger_pipeline.model.money import DIGITS, format_minor
from ledger_pipeline.store.database import Connection

Why = Literal["quarantined", "ignored", "unmatched"]
MOST_NAMED = 20
"""Lines that are named around a day; their sums count all of them."""


@dataclass(frozen=True, slots=True)
class Balance:
    """What the bank states for a day, and what the ledger's account then holds: minor units, positive is the company's money.

    A balance with a date holds at the end of `day`. One without holds when it was pulled (`at`), for the sync date `day`.
    """

    day: date
    stated_minor: int
    ledger_minor: int
    is_opened: bool
    sync_date: date
    at: datetime
    is_dated: bool

    @property
    def lacks_minor(self) -> int:
        """What the bank has more than the ledger."""
        return self.stated_minor - self.ledger_minor


@dataclass(frozen=True, slots=True)
class Line:
    """A bank line near the first day that differs. `explains_minor` is what it makes the bank have more; None where its money is unknown.

    Quarantined and ignored lines aren't in the books, unmatched ones stand in them against a clearing account and belong to nothing.
    """

    source_id: str
    day: date
    why: Why
    note: str
    explains_minor: int | None


@dataclass(frozen=True, slots=True)
class Account:
    """An account at a connection in one currency, with its stated balances in their order; `lines` are around the first that differs."""

    entity: str
    connection: str
    account_id: str
    currency: str
    balances: tuple[Balance, ...]
    lines: tuple[Line, ...] = ()
    missing_minor: int = 0

    @property
    def opening_minor(self) -> int:
        """What the ledger lacks from the start; 0 where an opening balance is posted before the first stated one."""
        first = self.balances[0]
        return 0 if first.is_opened else first.lacks_minor

    def difference_minor(self, balance: Balance) -> int:
        """What the bank has more than the ledger and the opening difference."""
        return balance.lacks_minor - (0 if balance.is_opened else self.opening_minor)

    @property
    def differing(self) -> tuple[Balance, ...]:
        """The stated balances that the ledger misses."""
        return tuple(one for one in self.balances if self.difference_minor(one))

    @property
    def first(self) -> Balance | None:
        """The first that differs."""
        return next((one for one in self.balances if self.difference_minor(one)), None)

    @property
    def last_agreeing(self) -> Balance | None:
        """The one before the first that differs; None where that is the first of all, or none differs."""
        if self.first is None:
            return None
        at = self.balances.index(self.first)
        return self.balances[at - 1] if at else None

    @property
    def is_explained(self) -> bool:
        """What isn't in the books, or one line alone, comes to the difference of the first day."""
        if self.first is None:
            return False
        off = self.difference_minor(self.first)
        return off == self.missing_minor or any(line.explains_minor == off for line in self.lines)

    @property
    def said(self) -> str:
        """`differs from 2026-10-07 by 3.00 USD, agreed on 2026-10-06; not explained by what is around it`; empty where nothing differs."""
        if self.first is None:
            return ""
        off = format_minor(self.difference_minor(self.first), self.currency)
        since = f", agreed on {self.last_agreeing.day}" if self.last_agreeing else ""
        return f"differs from {self.first.day} by {off}{since}; {'' if self.is_explained else 'not '}explained by what is around it"


def of_entity(
    connection: Connection, entity: str, connections: Sequence[str], through: date | None = None
) -> list[Account]:
    """Every account for which one of the connections states a balance until the end of a day, in the order of the connections.

    An account is the role `bank:<account id>` in this entity, and what these connections post to it in others.
    """
    arguments = {"entity": entity, "names": list(connections), "through": through or date.max}
    found: dict[tuple[str, str, str], list[Balance]] = defaultdict(list)
    for name, account, currency, *facts in connection.execute(_BALANCES, arguments):
        found[name, account, currency].append(Balance(*facts))
    made = [Account(entity, *key, tuple(balances)) for key, balances in found.items()]
    return sorted(
        (_with_lines(connection, one) for one in made),
        key=lambda one: (connections.index(one.connection), one.account_id, one.currency),
    )


_STATED = """
    stated AS (
      SELECT DISTINCT ON (b.connection, b.account_id, b.currency, coalesce(b.stated_on, b.sync_date), b.stated_on IS NULL)
             b.connection, b.account_id, b.currency, coalesce(b.stated_on, b.sync_date) AS day, b.stated_on IS NOT NULL AS is_dated,
             b.amount_minor, CASE WHEN b.stated_on IS NULL THEN b.sync_date ELSE r.sync_date END AS sync_date,
             coalesce((SELECT max(q.started_at) FROM raw.pull q
                        WHERE (q.connection, q.sync_date, q.run_id) = (p.connection, p.sync_date, p.run_id)), r.fetched_at) AS at
        FROM staging.bank_balance b JOIN raw.record r USING (raw_id)
        LEFT JOIN LATERAL (SELECT p.* FROM raw.pull p JOIN raw.seen s USING (pull_id)
                            WHERE p.connection = b.connection AND p.sync_date = b.sync_date AND s.raw_id = b.raw_id
                            ORDER BY p.pull_id DESC LIMIT 1) p ON true
       WHERE b.connection = ANY(%(names)s) AND b.kind IN ('closing', 'current') AND coalesce(b.stated_on, b.sync_date) <= %(through)s
       ORDER BY b.connection, b.account_id, b.currency, coalesce(b.stated_on, b.sync_date), b.stated_on IS NULL,
                b.kind = 'closing' DESC, b.sync_date DESC, b.raw_id DESC),
    account AS (
      SELECT connection, account_id, currency, 'bank:' || account_id AS role, bool_or(is_dated) AS is_dated FROM stated GROUP BY 1, 2, 3),
"""
"""One per day, a closing balance before a current one, then the last word. Where an account has dated balances, only these count.

A run's lines are known with its undated balance, so the last of its pulls dates that.
"""
_KNOWN = """
    coalesce((SELECT min(n.fetched_at) FROM raw.record n JOIN ops.quarantine q USING (raw_id)
               WHERE (n.connection, n.stream, n.source_id) = (r.connection, r.stream, r.source_id) AND n.fetched_at < r.fetched_at),
             r.fetched_at)
"""
"""Since when a record of the bank is money of the account for the pulls: a repaired one since it first came."""
_LINES = f"""
    line AS MATERIALIZED (
      SELECT a.connection, a.account_id, a.currency, a.is_dated, e.occurred_on, l.amount_minor,
             CASE WHEN a.is_dated OR e.connection <> a.connection THEN NULL
                  WHEN e.kind = 'reversal' THEN coalesce(
                    (SELECT n.fetched_at FROM ledger.entry c JOIN raw.record n USING (raw_id)
                      WHERE (c.connection, c.stream, c.origin_id) = (e.connection, e.stream, e.origin_id)
                        AND c.kind = 'replacement' AND c.corrects_entry_id = e.corrects_entry_id LIMIT 1),
                    (SELECT min(n.fetched_at) FROM raw.record n
                      WHERE (n.connection, n.stream, n.source_id) = (e.connection, e.stream, e.origin_id) AND n.fetched_at > r.fetched_at),
                    r.fetched_at)
                  WHEN e.kind = 'original' THEN {_KNOWN} ELSE r.fetched_at END AS known_at,
             EXISTS (SELECT 1 FROM ledger.line o WHERE o.entry_id = l.entry_id AND o.role = 'opening_balance') AS is_opening
        FROM account a
        JOIN ledger.line l ON l.role = a.role AND l.currency = a.currency
        JOIN ledger.entry e USING (entry_id) JOIN raw.record r USING (raw_id)
       WHERE l.entity = %(entity)s OR e.connection = a.connection),
"""
_BALANCES = f"""
    WITH {_STATED} {_LINES}
    moved AS (
      SELECT connection, account_id, currency, is_dated, occurred_on, known_at, sum(amount_minor) AS amount_minor,
             bool_or(is_opening) AS is_opening
        FROM line GROUP BY 1, 2, 3, 4, 5, 6),
    event AS (
      SELECT connection, account_id, currency, is_dated, day, sync_date, at, amount_minor AS stated_minor, 0 AS moved_minor, false AS is_opening,
             CASE WHEN is_dated THEN day::timestamp ELSE at AT TIME ZONE 'UTC' END AS key, 2 AS turn
        FROM stated JOIN account USING (connection, account_id, currency, is_dated)
       UNION ALL
      SELECT m.connection, m.account_id, m.currency, m.is_dated, NULL, NULL, NULL, NULL, m.amount_minor, m.is_opening,
             CASE WHEN m.is_dated THEN m.occurred_on::timestamp
                  WHEN m.known_at IS NOT NULL THEN m.known_at AT TIME ZONE 'UTC'
                  ELSE coalesce((SELECT min(s.at) FROM stated s
                                  WHERE (s.connection, s.account_id, s.currency) = (m.connection, m.account_id, m.currency)
                                    AND s.day >= m.occurred_on) AT TIME ZONE 'UTC', 'infinity') END, 1
        FROM moved m),
    run AS (
      SELECT *, sum(moved_minor) OVER so_far AS ledger_minor, bool_or(is_opening) OVER so_far AS is_opened
        FROM event WINDOW so_far AS (PARTITION BY connection, account_id, currency ORDER BY key, turn ROWS UNBOUNDED PRECEDING))
    SELECT connection, account_id, currency, day, stated_minor, ledger_minor::bigint, is_opened, sync_date, at, is_dated
      FROM run WHERE turn = 2 ORDER BY connection, account_id, currency, key
"""
"""A line counts from its own day where balances are dated; else from when the pulls know it, another connection's from its own day."""


# around the first day that differs ---------------------------------------------------------------------------------------------


def _with_lines(connection: Connection, account: Account) -> Account:
    """The account with what may explain its first difference."""
    first = account.first
    if first is None:
        return account
    before = account.last_agreeing
    arguments = {
        "entity": account.entity,
        "connection": account.connection,
        "account": account.account_id,
        "currency": account.currency,
        "is_dated": first.is_dated,
        "after": before.day if before else date.min,
        "until": first.day,
        "sync_from": before.sync_date if before else date.min,
        "sync_until": first.sync_date,
        "known_after": before.at if before else None,
        "known_until": first.at,
        "role": f"bank:{account.account_id}",
        "clearing": list(CLEARING_ROLES),
    }
    missing = list(_missing(connection.execute(_UNPOSTED, arguments).fetchall(), account.currency))
    unmatched = [
        Line(source_id, day, "unmatched", f"nothing on {role} belongs to it", -amount)
        for source_id, day, amount, role in connection.execute(_UNMATCHED, arguments)
    ]
    total = sum(line.explains_minor or 0 for line in missing if line.why == "quarantined" or _is_by_person(line))
    off = account.difference_minor(first)
    lines = sorted((*missing, *unmatched), key=lambda one: (one.explains_minor != off, one.day, one.source_id))
    return replace(account, lines=tuple(lines[:MOST_NAMED]), missing_minor=total)


def _is_by_person(line: Line) -> bool:
    """Left out by a person; what a rule ignores (pending lines) is no booked money."""
    return line.note.startswith("ignored by ")


def _missing(rows: Iterable[tuple[Any, ...]], currency: str) -> Iterable[Line]:
    for source_id, day, fate, reason, staged, stated in rows:
        amount = staged if staged is not None else _in_minor(stated, currency)
        yield Line(source_id, day, fate, reason, amount)


def _in_minor(amount: Decimal | None, currency: str) -> int | None:
    """Minor units; None where it isn't a whole number of them."""
    if amount is None or currency not in DIGITS:
        return None
    scaled = amount.scaleb(DIGITS[currency])
    return int(scaled) if scaled == scaled.to_integral_value() else None


_NEAR = """
    CASE WHEN NOT %(is_dated)s THEN (%(known_after)s::timestamptz IS NULL OR r.fetched_at > %(known_after)s) AND r.fetched_at <= %(known_until)s
         ELSE {dated} END
"""
_UNPOSTED = f"""
    WITH sign AS (
      SELECT d.stream, CASE WHEN sum(d.control_amount * t.amount_minor) < 0 THEN -1 ELSE 1 END AS of
        FROM staging.document d JOIN staging.bank_transaction t USING (connection, sync_date, raw_id)
       WHERE d.connection = %(connection)s GROUP BY 1)
    SELECT coalesce(t.source_id, r.source_id), coalesce(t.booked_on, r.sync_date), f.fate, f.reason, t.amount_minor, f.control_amount * s.of
      FROM raw.record r JOIN ops.fate f USING (raw_id) JOIN sign s ON s.stream = r.stream
      LEFT JOIN staging.bank_transaction t ON (t.connection, t.sync_date, t.raw_id) = (r.connection, r.sync_date, r.raw_id)
     WHERE r.connection = %(connection)s AND f.fate IN ('quarantined', 'ignored')
       AND (t.raw_id IS NULL OR t.account_id = %(account)s)
       AND coalesce(t.currency, f.control_currency, %(currency)s) = %(currency)s
       AND {
    _NEAR.format(
        dated="CASE WHEN t.raw_id IS NULL THEN r.sync_date BETWEEN %(sync_from)s AND %(sync_until)s "
        "ELSE t.booked_on > %(after)s AND t.booked_on <= %(until)s END"
    )
}
     ORDER BY r.raw_id, t.source_id
"""
"""What isn't staged has the source's own amount, with the sign that the source gives to the lines that were staged."""
_UNMATCHED = f"""
    SELECT e.source_id, min(e.occurred_on), sum(l.amount_minor)::bigint, min(c.role)
      FROM ledger.entry e JOIN raw.record r USING (raw_id) JOIN ledger.line l USING (entry_id)
      JOIN LATERAL (SELECT c.role, c.currency FROM ledger.line c
                     WHERE c.entry_id = e.entry_id AND split_part(c.role, ':', 1) = ANY(%(clearing)s) LIMIT 1) c ON true
     WHERE e.connection = %(connection)s AND e.record = 'bank_transaction' AND l.role = %(role)s AND l.currency = %(currency)s
       AND NOT EXISTS (SELECT 1 FROM recon.used u
                        WHERE (u.entity, u.role, u.currency, u.connection, u.record, u.source_id)
                            = (e.entity, c.role, c.currency, e.connection, e.record, e.source_id))
       AND {_NEAR.format(dated="e.occurred_on > %(after)s AND e.occurred_on <= %(until)s")}
     GROUP BY e.source_id HAVING sum(l.amount_minor) <> 0 ORDER BY 1
"""
