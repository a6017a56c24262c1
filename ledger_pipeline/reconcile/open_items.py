"""Why a clearing account isn't zero: every member or remainder that is open, with its age and one cause. They sum to the balance, always.

An unmatched member is a delay until the other side has had its usual time: the median of the account's last matches, and some days on top.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from statistics import median_high
from typing import Literal

from ledger_pipeline.model.money import format_minor
from ledger_pipeline.reconcile import clearing
from ledger_pipeline.reconcile.calendar import Calendar
from ledger_pipeline.reconcile.clearing import Clearing, Standing
from ledger_pipeline.reconcile.engine import Policy, is_two_sided
from ledger_pipeline.store.database import Connection

Cause = Literal[
    "timing", "payment missing", "order missing", "amount differs", "fee differs", "fx", "duplicate", "refund pending", "foreign"
]  # fmt: skip
CAUSES: Mapping[Cause, str] = {
    "timing": "The other side hasn't had its usual time yet, or shows it on a later day than the one that is looked at.",
    "payment missing": "An order without its payment, a payout or takings that the bank doesn't show.",
    "order missing": "A payment whose order isn't in the books, a deposit that nothing explains.",
    "amount differs": "Both sides show it, with other amounts.",
    "fee differs": "Both sides show it; what is between them is the fee, or within the tolerance for one.",
    "fx": "The other side has it in another currency; or amounts are zero and base amounts aren't, until the currency run.",
    "duplicate": "One side shows the same thing twice.",
    "refund pending": "The shop gave it back, the processor hasn't yet.",
    "foreign": "Nothing that is connected ever books the other side of this account: another tool or a person does.",
}
"""The causes, and what each says."""
CARD_DAYS = 1
"""A processor books within the usual delay and this many calendar days."""
BANK_DAYS = 3
"""A bank shows a payout within the usual delay and this many business days, at least this many after it was issued."""
TILL_DAYS = 10
"""Takings are paid in within this many business days."""
RECENT = 20
"""Matches of an account that say what its usual delay is."""


@dataclass(frozen=True, slots=True)
class OpenItem:
    """Amounts are in minor units, debit positive; `base_minor` in the entity's base currency.

    `what` names the records. A base-only item has the amount 0, no members and, as it belongs to the account as a whole, no age. `open_since`
    is the day of the oldest part that nothing has offset (FIFO), `expected_until` the last day on which the other side may still be on its way.
    """

    entity: str
    role: str
    currency: str
    amount_minor: int
    base_minor: int
    cause: Cause
    since: date
    age_days: int
    what: str
    note: str
    members: tuple[str, ...] = ()
    match_id: int | None = None
    side: str = ""
    open_since: date | None = None
    expected_until: date | None = None

    def is_explained(self, through: date) -> bool:
        """Rates explain it, or time does: at the end of the day the other side still has some of its usual time."""
        return self.cause == "fx" or (
            self.cause == "timing" and self.expected_until is not None and through <= self.expected_until
        )

    def open_days(self, through: date) -> int:
        """Days since what is left of it came to be, on the day that is looked at; 0 where only base amounts are left."""
        return 0 if self.open_since is None else (through - self.open_since).days


@dataclass(frozen=True, slots=True)
class _Delays:
    """By role, how long the other side usually takes: (business days, calendar days)."""

    usual: Mapping[str, tuple[int, int]]
    calendar: Calendar

    def due_on(self, one: Standing) -> date:
        """The last day on which the other side may still be on its way."""
        business, days = self.usual.get(one.role, (0, 0))
        if one.batch:
            return self.calendar.after(one.occurred_on, max(business + BANK_DAYS, TILL_DAYS))
        if one.role == clearing.TRANSFER_ROLE:
            return self.calendar.after(one.occurred_on, business + BANK_DAYS)
        if one.role.partition(":")[0] == "payout_in_transit":
            allowed = business + BANK_DAYS if one.side == "left" else CARD_DAYS
            return self.calendar.after(one.occurred_on, allowed)
        return one.occurred_on + timedelta(days=days + CARD_DAYS)


def of_entity(
    connection: Connection, entity: str, through: date, policy: Policy | None = None, books: Clearing | None = None
) -> list[OpenItem]:
    """What is open at the end of a day, the oldest first within role and currency. `books` saves reading them again."""
    limits = policy or Policy()
    found = books or clearing.read(connection, entity, through)
    delays = _Delays(_usual_delays(connection, entity, through, limits.calendar), limits.calendar)
    judge = _Judge(
        found, through, delays, limits.tolerance_minor, _twins(connection, found.free), _sizes(connection, found)
    )
    items = [judge.free(one) for one in found.free]
    items += [judge.partial(match_id, members) for match_id, members in found.partial.items()]
    items += [judge.residue(account, base) for account, base in found.residues.items()]
    return sorted(items, key=lambda i: (i.role, i.currency, i.since, i.what))


def differences(connection: Connection, entity: str, items: Iterable[OpenItem], through: date) -> list[str]:
    """Accounts whose open items don't sum to the balance, in amount and in base; none, ever."""
    sums: dict[tuple[str, str], tuple[int, int]] = defaultdict(lambda: (0, 0))
    for item in items:
        amount, base = sums[item.role, item.currency]
        sums[item.role, item.currency] = amount + item.amount_minor, base + item.base_minor
    balances = clearing.balances(connection, entity, through)
    return [
        f"{role} {currency}: open items {sums.get((role, currency), (0, 0))}, balance {balances.get((role, currency), (0, 0))}"
        for role, currency in sorted({*sums, *balances})
        if sums.get((role, currency), (0, 0)) != balances.get((role, currency), (0, 0))
    ]


class _Judge:
    """Finds the one cause."""

    def __init__(
        self,
        books: Clearing,
        through: date,
        delays: _Delays,
        tolerance_minor: int,
        twins: Mapping[tuple[str, str, str], str],
        sizes: Mapping[int, int],
    ) -> None:
        self.books, self.through, self.delays, self.tolerance_minor = books, through, delays, tolerance_minor
        self.twins, self.sizes = twins, sizes
        self.currencies: dict[tuple[str, str], set[str]] = defaultdict(set)
        for one in (*books.free, *(m for members in books.partial.values() for m in members)):
            for key in one.keys:
                self.currencies[one.role, key].add(one.currency)

    def free(self, one: Standing) -> OpenItem:
        """A member that no match uses."""
        cause, note = self._cause_of_free(one)
        return self._item((one,), cause, note, None)

    def _cause_of_free(self, one: Standing) -> tuple[Cause, str]:
        due, what = self.delays.due_on(one), _name(one)
        if elsewhere := self._other_currencies((one,)):
            return "fx", f"{what} stands in {', '.join(elsewhere)}, too"
        if twin := self.twins.get((*one.account, one.id)):
            return "duplicate", f"{what} says the same as {twin}"
        if one.record == "refund" and one.amount_minor < 0:
            return "refund pending", f"{what}: nothing went back yet"
        if self.through <= due:
            return "timing", f"expected until {due}"
        if one.role == clearing.TRANSFER_ROLE:
            missing: Cause = "payment missing" if one.side == "left" else "order missing"
            return missing, f"{what}: no other own account shows it"
        if one.record not in _KNOWN or not self._is_other_side_connected(one):
            return "foreign", f"{what}: nothing that is connected books its other side"
        if one.side == "left":
            return "payment missing", f"{what}: expected until {due}"
        return "order missing", f"{what}: {'its order is not in the books' if one.keys else 'nothing explains it'}"

    def _is_other_side_connected(self, one: Standing) -> bool:
        """Something ever moved the account from the other side."""
        is_left = one.side == "left"
        for role, currency in self.books.records:
            if role == one.role:
                for record in self.books.records[role, currency]:
                    if (_side(record, role) == "left") != is_left:
                        return True
        return False

    def _other_currencies(self, members: Iterable[Standing]) -> list[str]:
        return sorted({c for m in members for key in m.keys for c in self.currencies[m.role, key] if c != m.currency})

    def partial(self, match_id: int, members: Sequence[Standing]) -> OpenItem:
        """What a match doesn't come to zero by."""
        cause, note = self._cause_of_partial(match_id, members)
        return self._item(members, cause, note, match_id)

    def _cause_of_partial(self, match_id: int, members: Sequence[Standing]) -> tuple[Cause, str]:
        rest = sum(one.amount_minor for one in members)
        left, right = (sum(m.amount_minor for m in members if m.side == side) for side in ("left", "right"))
        both = f"{format_minor(left, members[0].currency)} against {format_minor(-right, members[0].currency)}"
        if len(members) < self.sizes[match_id]:
            return "timing", "the other side has it on a later day"
        if elsewhere := self._other_currencies(members):
            return "fx", f"a part of it stands in {', '.join(elsewhere)}"
        if twin := _doubled(members, rest):
            return "duplicate", f"{_name(twin)} is there twice"
        fees = sum(one.fee_minor for one in members)
        if fees and abs(rest) == abs(fees):
            return "fee differs", f"the difference is the processor's fee: {both}"
        if abs(rest) <= self.tolerance_minor:
            return "fee differs", f"within the tolerance for a fee: {both}"
        if _is_refund_pending(members, rest):
            return "refund pending", "the shop gave back more than the processor so far"
        return "amount differs", both if is_two_sided(
            m.as_member() for m in members if m.amount_minor
        ) else "one side is gone"

    def residue(self, account: tuple[str, str], base: int) -> OpenItem:
        """Base amounts where amounts are zero."""
        note = "base amounts of what is cleared; the currency run books them"
        return OpenItem(self.books.entity, *account, 0, base, "fx", self.through, 0, "rates", note)

    def _item(self, members: Sequence[Standing], cause: Cause, note: str, match_id: int | None) -> OpenItem:
        ordered = sorted(members, key=lambda one: (one.side, one.occurred_on, one.id))
        since = min(one.occurred_on for one in members)
        open_since = open_parts(_days(members))[0][0]
        named = ", ".join(_name(one) for one in ordered[:3]) + (
            f" and {len(members) - 3} more" if len(members) > 3 else ""
        )
        return OpenItem(
            self.books.entity,
            *members[0].account,
            sum(one.amount_minor for one in members),
            sum(one.base_minor for one in members),
            cause,
            since,
            (self.through - since).days,
            named,
            note,
            tuple(one.id for one in members),
            match_id,
            members[0].side if match_id is None else "",
            open_since,
            min(self.delays.due_on(one) for one in members if one.occurred_on >= open_since),
        )


def _days(members: Iterable[Standing]) -> list[tuple[date, int, int]]:
    ordered = sorted(members, key=lambda one: one.occurred_on)
    return [(one.occurred_on, max(one.amount_minor, 0), max(-one.amount_minor, 0)) for one in ordered]


def open_parts(days: Sequence[tuple[date, int, int]]) -> list[tuple[date, int]]:
    """First in, first out: the parts of a sum that nothing has offset yet, the oldest first, debit positive.

    `days` are (day, debits, credits), both positive, in the order of the days. What offsets, offsets the oldest first, so the sum consists
    of the newest amounts on its side.
    """
    total = sum(debit - credit for _, debit, credit in days)
    sign = 1 if total > 0 else -1
    rest, parts = abs(total), []
    for day, debit, credit in reversed(days):
        taken = min(rest, debit if sign > 0 else credit)
        if taken:
            parts.append((day, sign * taken))
            rest -= taken
    return parts[::-1]


_KNOWN = frozenset({"sale", "refund", "processor_transaction", "bank_transaction"})


def _side(record: str, role: str) -> str:
    return Standing("", record, "", role, "", 0, 0, clearing.FAR, None).side if record in _KNOWN else "none"


def _name(one: Standing) -> str:
    """`sale 5207350000040`; a payout by its own id, not by its transaction's."""
    known = one.references[0] if one.kind in ("payout", "payout_failure") and one.references else one.source_id
    return f"{(one.kind or one.record).replace('_', ' ')} {known.rpartition('/')[2]}"


def _doubled(members: Sequence[Standing], rest: int) -> Standing | None:
    """The later of two equal members of one side, one of which is what the match has too much."""
    seen: dict[tuple[str, str, str], Standing] = {}
    for one in sorted(members, key=lambda m: (m.occurred_on, m.id)):
        if one.amount_minor == rest:
            if (one.connection, one.record, one.kind) in seen:
                return one
            seen[one.connection, one.record, one.kind] = one
    return None


def _is_refund_pending(members: Sequence[Standing], rest: int) -> bool:
    refunds = [m for m in members if m.record == "refund" or m.kind in ("refund", "refund_failure")]
    return bool(refunds) and rest < 0 and sum(m.amount_minor for m in refunds) == rest


# what the database knows ---------------------------------------------------------------------------------------------------

_DELAYS = """
    WITH roles AS (SELECT DISTINCT role FROM recon.match WHERE entity = %(entity)s),
    recent AS (
      SELECT found.match_id, roles.role FROM roles CROSS JOIN LATERAL (
        SELECT l.match_id FROM recon.live_match l
         WHERE l.entity = %(entity)s AND l.role = roles.role AND l.state = 'matched' AND (l.role NOT LIKE 'payout_in_transit%%' OR l.kind <> 'exact')
           AND NOT EXISTS (SELECT 1 FROM recon.member m JOIN ledger.entry e USING (connection, record, source_id)
                            WHERE m.match_id = l.match_id AND e.entity = %(entity)s AND e.kind = 'original' AND e.occurred_on > %(through)s)
         ORDER BY l.match_id DESC LIMIT %(recent)s) found),
    dated AS (
      SELECT r.match_id, r.role, e.occurred_on, m.record = 'bank_transaction' OR (m.record = 'processor_transaction'
             AND r.role NOT LIKE 'payout_in_transit%%') AS is_right
        FROM recent r JOIN recon.member m USING (match_id)
        JOIN ledger.entry e USING (connection, record, source_id)
       WHERE e.entity = %(entity)s AND e.kind = 'original')
    SELECT role, min(occurred_on) FILTER (WHERE NOT is_right), min(occurred_on) FILTER (WHERE is_right)
      FROM dated GROUP BY role, match_id
    HAVING bool_or(is_right) AND NOT bool_and(is_right)
"""


def _usual_delays(connection: Connection, entity: str, through: date, calendar: Calendar) -> dict[str, tuple[int, int]]:
    """By role, the median of the last matches in business days and in calendar days, none negative; of records of the day and before."""
    found: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for role, first, second in connection.execute(_DELAYS, {"entity": entity, "recent": RECENT, "through": through}):
        later = max(first, second)
        found[role].append((calendar.between(first, later), (later - first).days))
    return {role: (median_high(b for b, _ in of), median_high(d for _, d in of)) for role, of in found.items()}


def _sizes(connection: Connection, books: Clearing) -> dict[int, int]:
    """How many members the partial matches have."""
    rows = connection.execute(
        "SELECT match_id, count(*) FROM recon.used WHERE match_id = ANY(%s) GROUP BY 1", (list(books.partial),)
    )
    return dict(rows.fetchall())


def _twins(connection: Connection, free: Sequence[Standing]) -> dict[tuple[str, str, str], str]:
    """For members without a match: another one, matched or listed before, that says the same of the same day (text or keys)."""
    known: dict[tuple[object, ...], str] = {}
    found: dict[tuple[str, str, str], str] = {}
    for one in clearing.matched_like(connection, free):
        for said in _sayings(one):
            known.setdefault(said, _name(one))
    for one in sorted(free, key=lambda m: (m.occurred_on, m.id)):
        for said in _sayings(one):
            if said in known:
                found.setdefault((*one.account, one.id), known[said])
            known.setdefault(said, _name(one))
    return found


def _sayings(one: Standing) -> list[tuple[object, ...]]:
    base = (one.account, one.connection, one.record, one.kind, one.amount_minor, one.occurred_on)
    said = [one.text] if one.record == "bank_transaction" and one.text else []
    return [(*base, what) for what in (*said, *(one.keys if one.record == "processor_transaction" else ()))]
