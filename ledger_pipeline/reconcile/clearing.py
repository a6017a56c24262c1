"""What stands on the accounts that are matched, read from the books: each record's amount, and by what the other side knows it.

A member is a record's net amount on a role in a currency, over all its entries, corrections included. So a late edit changes a member's
amount and not who it is. Bank lines that no rule knows are read besides: matching says where they belong.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from psycopg import sql

from ledger_pipeline.model.accounts import CLEARING_ROLES, DUE_ROLES, UNPLACED_ROLES
from ledger_pipeline.reconcile.engine import Member, Side
from ledger_pipeline.store.database import Connection

FAR = date(9999, 12, 31)
MATCHED_ROLES = tuple(dict.fromkeys((*CLEARING_ROLES, *DUE_ROLES)))
"""Roles whose members are matched: those that come to zero, and those that people and the bank settle."""
TRANSFER_ROLE = "transfer_in_transit"
OWN_ACCOUNT = "own account"
"""What two lines that say they are a transfer name each other by."""
_TRANSFER = frozenset(
    {"TRANSFER", "XFER", "TFR", "TRF", "UEBERTRAG", "ÜBERTRAG", "UMBUCHUNG", "VIREMENT", "OVERBOEKING"}
)


@dataclass(frozen=True, slots=True)
class Standing:
    """A record on a clearing account: amounts are in minor units, debit positive. `kind` is the processor's word for a transaction.

    `day` is when the other side should show it, `occurred_on` when it happened. `match_id` is the match that uses it.
    """

    connection: str
    record: str
    source_id: str
    role: str
    currency: str
    amount_minor: int
    base_minor: int
    occurred_on: date
    match_id: int | None
    kind: str = ""
    day: date = FAR
    keys: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    text: str = ""
    counterparty: str = ""
    batch: str = ""
    fee_minor: int = 0
    bank: str = ""

    @property
    def id(self) -> str:
        """Unique within an entity, role and currency."""
        return f"{self.connection}/{self.record}/{self.source_id}"

    @property
    def account(self) -> tuple[str, str]:
        """Role and currency."""
        return self.role, self.currency

    @property
    def side(self) -> Side:
        """Left is who says that money is due, right is who says that it came: shop and processor, processor and bank, the bank that it leaves and the other."""
        if self.role == TRANSFER_ROLE:
            return "left" if self.amount_minor > 0 else "right"
        is_right = self.record == "bank_transaction" or (
            self.record == "processor_transaction" and self.role.partition(":")[0] != "payout_in_transit"
        )
        return "right" if is_right else "left"

    def as_member(self, pool: str = "") -> Member:
        """For the engine."""
        return Member(
            *(self.id, self.side, self.amount_minor, self.currency, self.day),
            *(self.keys, self.references, self.text, self.counterparty, self.batch),
            pool=pool,
            account=self.bank if self.role == TRANSFER_ROLE else "",
        )

    def as_transfer(self, *, is_declared: bool = False) -> Standing:
        """As a half of a transfer; what a rule or its own text calls one names the own account."""
        one = replace(self, role=TRANSFER_ROLE)
        if not is_declared and not _TRANSFER & {word.upper() for word in re.findall(r"\w+", self.text)}:
            return one
        if one.side == "left":
            return replace(one, counterparty=OWN_ACCOUNT)
        return replace(one, text=f"{self.text} {OWN_ACCOUNT}")


@dataclass(frozen=True, slots=True)
class Clearing:
    """The matched accounts of an entity: what isn't zero.

    `free` are members without a match, `partial` the members of matches that don't come to zero, `residues` what all the rest leaves in
    base currency where amounts are zero (full matches, currency runs) by (role, currency). `records` are the kinds of record that ever
    moved an account.
    """

    entity: str
    free: tuple[Standing, ...]
    partial: Mapping[int, tuple[Standing, ...]]
    residues: Mapping[tuple[str, str], int]
    records: Mapping[tuple[str, str], frozenset[str]]


_NET = """
    net AS MATERIALIZED (
      SELECT e.connection, e.record, e.source_id, l.role, l.currency, sum(l.amount_minor)::bigint AS amount_minor,
             sum(l.base_minor)::bigint AS base_minor, max(e.entry_id) FILTER (WHERE e.kind <> 'reversal') AS entry_id
        FROM ledger.line l JOIN ledger.entry e USING (entry_id)
       WHERE l.entity = %(entity)s AND l.posted_on <= %(through)s AND split_part(l.role, ':', 1) = ANY(%(roles)s)
       GROUP BY 1, 2, 3, 4, 5),
    placed AS MATERIALIZED (
      SELECT n.*, u.match_id FROM net n
        LEFT JOIN (SELECT * FROM recon.used WHERE entity = %(entity)s) u USING (connection, record, source_id, role, currency)
       WHERE n.amount_minor <> 0 OR n.base_minor <> 0),
    sums AS (SELECT match_id, sum(amount_minor) AS amount_minor FROM placed WHERE match_id IS NOT NULL GROUP BY 1)
"""
_READ = f"""
    WITH {_NET}
    SELECT 'open' AS what, p.connection, p.record, p.source_id, p.role, p.currency, p.amount_minor, p.base_minor, e.occurred_on, p.match_id,
           e.raw_id, b.sync_date
      FROM placed p LEFT JOIN sums s USING (match_id) JOIN ledger.entry e USING (entry_id) JOIN ledger.batch b USING (batch_id)
     WHERE (p.match_id IS NULL AND p.amount_minor <> 0) OR s.amount_minor <> 0
    UNION ALL
    SELECT 'residue', NULL, NULL, NULL, p.role, p.currency, 0, sum(p.base_minor)::bigint, NULL, NULL, NULL, NULL
      FROM placed p LEFT JOIN sums s USING (match_id)
     WHERE (p.match_id IS NULL AND p.amount_minor = 0) OR s.amount_minor = 0
     GROUP BY p.role, p.currency HAVING sum(p.base_minor) <> 0
    UNION ALL
    SELECT DISTINCT 'moved', NULL, record, NULL, role, currency, 0, 0, NULL::date, NULL::bigint, NULL::bigint, NULL::date FROM net
     ORDER BY 1, 5, 6, 2, 3, 4
"""
_GONE = f"""
    WITH {_NET}
    SELECT u.match_id, min(format('%%s %%s', u.record, u.source_id))
      FROM recon.used u LEFT JOIN net n USING (connection, record, source_id, role, currency)
     WHERE u.entity = %(entity)s AND coalesce(n.amount_minor, 0) = 0 GROUP BY 1 ORDER BY 1
"""
_BALANCES = """
    SELECT role, currency, sum(amount_minor)::bigint, sum(base_minor)::bigint FROM ledger.line
     WHERE entity = %(entity)s AND posted_on <= %(through)s AND split_part(role, ':', 1) = ANY(%(roles)s) GROUP BY 1, 2
"""


def _scope(entity: str, through: date | None, roles: Sequence[str] = CLEARING_ROLES) -> dict[str, Any]:
    return {"entity": entity, "through": through or FAR, "roles": list(roles)}


def read(
    connection: Connection, entity: str, through: date | None = None, roles: Sequence[str] = CLEARING_ROLES
) -> Clearing:
    """What is posted on these roles (whatever their parameter) until a day (its end), or everything."""
    scope = _scope(entity, through, roles)
    found: dict[str, list[_Row]] = defaultdict(list)
    for what, *row in connection.execute(_READ, scope):
        found[what].append(tuple(row))
    residues = {(row[3], row[4]): row[6] for row in found["residue"]}
    records: dict[tuple[str, str], set[str]] = defaultdict(set)
    for row in found["moved"]:
        records[row[3], row[4]].add(row[1])
    standing = _described(connection, found["open"], records)
    partial: dict[int, list[Standing]] = defaultdict(list)
    for one in standing:
        if one.match_id is not None:
            partial[one.match_id].append(one)
    free = tuple(one for one in standing if one.match_id is None)
    moved = {account: frozenset(of) for account, of in records.items()}
    return Clearing(entity, free, {id_: tuple(of) for id_, of in partial.items()}, residues, moved)


_LIKE = """
    SELECT DISTINCT m.connection, m.record, m.source_id, u.role, u.currency, m.amount_minor, 0::bigint, e.occurred_on, u.match_id,
           e.raw_id, b.sync_date
      FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::bigint[], %s::date[])
           AS w (role, currency, connection, record, amount_minor, occurred_on)
      JOIN recon.used u USING (role, currency, connection, record)
      JOIN recon.member m USING (match_id, connection, record, source_id, amount_minor)
      JOIN ledger.live_entry e USING (entity, connection, record, source_id, occurred_on) JOIN ledger.batch b USING (batch_id)
"""


def matched_like(connection: Connection, free: Sequence[Standing]) -> list[Standing]:
    """Members of matches that have the account, connection, record, amount and day of one of these."""
    wanted = [one for one in free if one.record in ("bank_transaction", "processor_transaction")]
    if not wanted:
        return []
    columns = [
        [getattr(one, name) for one in wanted]
        for name in ("role", "currency", "connection", "record", "amount_minor", "occurred_on")
    ]
    rows = connection.execute(_LIKE, columns).fetchall()
    return _described(connection, rows, defaultdict(set))


def balances(
    connection: Connection, entity: str, through: date | None = None
) -> dict[tuple[str, str], tuple[int, int]]:
    """(amount, base) of every clearing account by (role, currency), straight from the lines; minor units, zeros left out."""
    rows = connection.execute(_BALANCES, _scope(entity, through))
    return {(role, currency): (amount, base) for role, currency, amount, base in rows if amount or base}


def gone(connection: Connection, entity: str) -> dict[int, str]:
    """Matches a member of which doesn't stand on the account any more, and which member."""
    return dict(connection.execute(_GONE, _scope(entity, None, MATCHED_ROLES)).fetchall())


_UNPLACED = """
    SELECT e.connection, e.record, e.source_id, l.role, l.currency, l.amount_minor, l.base_minor, e.occurred_on, NULL::bigint, e.raw_id,
           b.sync_date
      FROM ledger.live_entry e JOIN ledger.line l USING (entry_id) JOIN ledger.batch b USING (batch_id)
     WHERE l.entity = %s AND l.role = ANY(%s) AND e.record = 'bank_transaction' ORDER BY 1, 3
"""


def unplaced(connection: Connection, entity: str) -> list[Standing]:
    """Bank lines that stand where nobody knows what they are, on the role on which they stand."""
    rows = connection.execute(_UNPLACED, (entity, list(UNPLACED_ROLES))).fetchall()
    return _described(connection, rows, defaultdict(set))


# what is known about them --------------------------------------------------------------------------------------------------

_WANTED: Mapping[str, tuple[str, ...]] = {
    "sale": ("order_number",),
    "refund": ("order_id",),
    "processor_transaction": ("kind", "processor", "order_id", "source_object_id", "description", "fee_minor"),
    "bank_transaction": ("description", "reference", "bank_role"),
    "invoice": ("number", "due_on", "reduces"),
    "bill": ("number", "due_on", "reduces", "supplier_id"),
}
"""Columns of the staged records that say what they belong to."""
_Row = tuple[Any, ...]


def _described(
    connection: Connection, rows: Sequence[_Row], records: Mapping[tuple[str, str], Collection[str]]
) -> list[Standing]:
    """Members with their keys, from the staged version that their entry was made of, else from the newest one."""
    staged: dict[tuple[str, str, str], Mapping[str, Any]] = {}
    for record in _WANTED:
        staged |= _staged(connection, record, [row for row in rows if row[1] == record])
    payouts = _arrivals(connection, staged.values())
    made = []
    for row in rows:
        one = Standing(*row[:9])
        facts = staged.get((one.connection, one.record, one.source_id), {})
        made.append(_with_facts(one, facts, payouts, records[one.account]))
    return made


def _staged(connection: Connection, record: str, rows: Sequence[_Row]) -> dict[tuple[str, str, str], Mapping[str, Any]]:
    """Facts by member: by sync date and payload (indexed) where that is staged still, else by id."""
    if not rows:
        return {}
    columns = _WANTED[record]
    chosen = sql.SQL(", ").join(sql.SQL("s.{}").format(sql.Identifier(c)) for c in columns)
    table = sql.Identifier("staging", record)
    exact = sql.SQL(
        "SELECT s.connection, s.source_id, {} FROM unnest(%s::text[], %s::date[], %s::bigint[], %s::text[]) "
        "AS w (connection, sync_date, raw_id, source_id) JOIN {} s USING (connection, sync_date, raw_id, source_id)"
    ).format(chosen, table)
    wanted = [[row[0] for row in rows], [row[10] for row in rows], [row[9] for row in rows], [row[2] for row in rows]]
    found: dict[tuple[str, str, str], Mapping[str, Any]] = {
        (name, record, id_): dict(zip(columns, facts, strict=True))
        for name, id_, *facts in connection.execute(exact, wanted)
    }
    missing = [row for row in rows if (row[0], record, row[2]) not in found]
    if missing:
        newest = sql.SQL(
            "SELECT DISTINCT ON (s.connection, s.source_id) s.connection, s.source_id, {} FROM unnest(%s::text[], %s::text[]) "
            "AS w (connection, source_id) JOIN {} s USING (connection, source_id) ORDER BY s.connection, s.source_id, s.sync_date DESC, s.raw_id DESC"
        ).format(chosen, table)
        for name, id_, *facts in connection.execute(newest, [[r[0] for r in missing], [r[2] for r in missing]]):
            found[name, record, id_] = dict(zip(columns, facts, strict=True))
    return found


def _arrivals(connection: Connection, staged: Iterable[Mapping[str, Any]]) -> dict[str, date]:
    """When the bank should show a payout, as its processor last said it."""
    ids = sorted(
        {
            f["source_object_id"]
            for f in staged
            if f.get("kind") in ("payout", "payout_failure") and f["source_object_id"]
        }
    )
    rows = connection.execute(
        "SELECT DISTINCT ON (source_id) source_id, arrives_on FROM staging.payout WHERE source_id = ANY(%s) AND arrives_on IS NOT NULL "
        "ORDER BY source_id, sync_date DESC", (ids,)
    )  # fmt: skip
    return dict(rows.fetchall())


def _with_facts(
    one: Standing, facts: Mapping[str, Any], payouts: Mapping[str, date], records: Collection[str]
) -> Standing:
    def known(*names: str) -> tuple[str, ...]:
        return tuple(facts[name] for name in names if facts.get(name))

    day = one.occurred_on
    if one.record in ("sale", "refund"):
        order = one.source_id if one.record == "sale" else facts.get("order_id") or ""
        is_till = one.role.startswith("order_clearing:") and "processor_transaction" not in records
        batch = one.connection if is_till else ""
        return replace(
            one, day=day, keys=(f"order:{order}",) if order else (), references=known("order_number"), batch=batch
        )
    if one.record == "bank_transaction":
        text = " ".join(known("description", "reference"))
        line = replace(one, day=day, text=text, bank=facts.get("bank_role") or "")
        return line.as_transfer(is_declared=True) if one.role == TRANSFER_ROLE else line
    if one.record == "processor_transaction" and facts:
        behind = facts["source_object_id"] or ""
        is_payout = one.role.partition(":")[0] == "payout_in_transit"
        keys = (
            ((f"payout:{behind}",) if behind else ())
            if is_payout
            else tuple(f"order:{id_}" for id_ in known("order_id"))
        )
        return replace(
            one, kind=facts["kind"], day=payouts.get(behind, day) if is_payout else day, keys=keys, counterparty=facts["processor"],
            references=(behind,) if is_payout and behind else (), text="" if is_payout else facts["description"] or "",
            fee_minor=facts["fee_minor"],
        )  # fmt: skip
    if one.record in ("invoice", "bill"):
        is_due = one.role.partition(":")[0] in DUE_ROLES
        whose = f"{one.record}:{one.connection}/{facts.get('supplier_id') or ''}"
        return replace(
            one, day=(facts.get("due_on") if is_due else None) or day,
            keys=tuple(f"{whose}/{number}" for number in (known("reduces") or known("number"))),
            references=tuple(dict.fromkeys((*known("number", "reduces"), one.source_id))),
        )  # fmt: skip
    if one.record in _WANTED or one.connection.startswith("books:"):
        return replace(one, day=day)
    return replace(one, day=day, references=(one.source_id,))  # a pay run: the bank's text may name its id
