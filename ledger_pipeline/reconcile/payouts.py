"""Each payout against what it is made of: its transactions, fees and reserves, or the difference that is left; and whether the bank shows it.

Some processors name the payout on its transactions, or list a payout's transactions (Stripe does for automatic ones): then these are it, and
what they miss is its difference. Where nobody names them, payouts carry transactions in the order in which
they happened, so a payout is the run of them that follows the last payout's, and its own failures that came back meanwhile.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from statistics import median_low
from types import MappingProxyType
from typing import Literal

from ledger_pipeline.model.money import format_minor
from ledger_pipeline.reconcile.engine import find_run
from ledger_pipeline.reconcile.open_items import OpenItem
from ledger_pipeline.store.database import Connection

How = Literal["stated", "inferred", "unknown"]
WINDOW_DAYS = 45
"""Payouts of so many days are looked at."""
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
CARRIED_DAYS = 21
"""What a payout carries is at most so many days older."""


@dataclass(frozen=True, slots=True)
class Movement:
    """A balance transaction that isn't a payout: `net_minor` is amount − fee, in minor units."""

    source_id: str
    kind: str
    occurred_at: datetime
    amount_minor: int
    fee_minor: int
    payout_id: str = ""

    @property
    def net_minor(self) -> int:
        """What the balance moved by."""
        return self.amount_minor - self.fee_minor


@dataclass(frozen=True, slots=True)
class Payout:
    """A payout as its processor last said it. Negative amounts are taken from the bank."""

    connection: str
    payout_id: str
    currency: str
    amount_minor: int
    issued_at: datetime
    state: str


@dataclass(frozen=True, slots=True)
class Explained:
    """What a payout is made of. `parts` are amounts by kind (`charge`, `refund`, `fee`…) in minor units, fees negative.

    `difference_minor` is the payout less its parts: None where its transactions aren't known. `how`: the processor names them, or they
    follow from their order.
    """

    payout: Payout
    how: How
    transactions: int
    parts: Mapping[str, int]
    difference_minor: int | None

    @property
    def note(self) -> str:
        """The sum in words, or what is wrong with it."""
        currency = self.payout.currency
        if self.difference_minor is None:
            return "its transactions are not known"
        said = f"{self.transactions} transactions: " + ", ".join(
            f"{kind} {format_minor(amount, currency)}" for kind, amount in sorted(self.parts.items())
        )
        return f"{said}; difference {format_minor(self.difference_minor, currency)}" if self.difference_minor else said


@dataclass(frozen=True, slots=True)
class Alert:
    """What somebody should look at, in a sentence."""

    entity: str
    what: Literal["payout differs", "payout overdue", "deposit unexplained"]
    id: str
    currency: str
    amount_minor: int
    note: str


# what a payout is made of --------------------------------------------------------------------------------------------------


def explain(
    payouts: Iterable[Payout],
    movements: Iterable[Movement],
    listed: Mapping[str, Sequence[Movement]] = MappingProxyType({}),
) -> list[Explained]:
    """Payouts of one balance (connection and currency), in the order of issue, against the balance's other movements.

    `listed`: by payout, all that it carried, as the processor lists it; nothing is inferred about such a payout.
    """
    ordered = sorted(payouts, key=lambda p: (p.issued_at, p.payout_id))
    moves = sorted(movements, key=lambda m: (m.occurred_at, m.source_id))
    stated: dict[str, list[Movement]] = defaultdict(list, {bare(id_): list(of) for id_, of in listed.items()})
    for move in moves:
        if move.payout_id and bare(move.payout_id) not in listed:
            stated[bare(move.payout_id)].append(move)
    runs = _Runs([m for m in moves if m.kind != "payout_failure"], [m for m in moves if m.kind == "payout_failure"])
    found = []
    for payout in ordered:
        named = stated.get(bare(payout.payout_id), [])
        if bare(payout.payout_id) in listed or (named and sum(m.net_minor for m in named) == payout.amount_minor):
            runs.use(named)
            found.append(_explained(payout, "stated", named))
        elif run := runs.take(payout):
            found.append(_explained(payout, "inferred", run))
        else:
            guess = runs.skip(payout)
            most = named if len(named) > len(guess) else guess
            found.append(
                _explained(payout, "stated" if most is named and named else "inferred" if most else "unknown", most)
            )
    return found


def bare(payout_id: str) -> str:
    """The id without a resource's path (Shopify's `gid://shopify/…/123` is 123)."""
    return payout_id.rpartition("/")[2]


def _explained(payout: Payout, how: How, moves: Sequence[Movement]) -> Explained:
    parts: dict[str, int] = defaultdict(int)
    for move in moves:
        parts[move.kind] += move.amount_minor
        if move.fee_minor:
            parts["fee"] -= move.fee_minor
    difference = payout.amount_minor - sum(parts.values()) if moves else None
    return Explained(payout, how, len(moves), dict(parts), difference)


class _Runs:
    """The movements that no payout carried yet."""

    def __init__(self, moves: list[Movement], failures: list[Movement]) -> None:
        self.moves, self.failures = moves, failures
        self.begin: int | None = None  # of the next payout's run; None until a first one is found
        self.ages: list[timedelta] = []

    def use(self, named: Sequence[Movement]) -> None:
        """A processor named these."""
        ids = {m.source_id for m in named}
        last = max((m.occurred_at for m in self.moves if m.source_id in ids), default=None)
        if last is not None:
            self.begin = max(self.begin or 0, sum(1 for m in self.moves if m.occurred_at <= last))
        self.failures = [m for m in self.failures if m.source_id not in ids]

    def take(self, payout: Payout) -> list[Movement] | None:
        """The run that makes the payout, with or without the failures that came back before it; None without one."""
        back = [m for m in self.failures if m.occurred_at < payout.issued_at]
        for carried in ([], back) if back else ([],):
            run = self._run(payout, payout.amount_minor - sum(m.net_minor for m in carried))
            if run is not None:
                self.begin = run[1]
                self.failures = [m for m in self.failures if m not in carried]
                chosen = self.moves[run[0] : run[1]]
                if chosen:
                    self.ages.append(payout.issued_at - chosen[-1].occurred_at)
                return [*chosen, *carried] or None
        return None

    def _run(self, payout: Payout, target: int) -> tuple[int, int] | None:
        """Where the run that sums to the target begins and ends: right after the last payout's, or anywhere while there is none."""
        last = self._at(payout.issued_at)
        if self.begin is None:
            first = self._at(payout.issued_at - timedelta(days=CARRIED_DAYS))
            found = find_run([m.net_minor for m in self.moves[first:last]], target)
            return found and (first + found[0], first + found[1])
        total, position = 0, self.begin
        while total != target:
            if position >= last:
                return None
            total += self.moves[position].net_minor
            position += 1
        return self.begin, position

    def skip(self, payout: Payout) -> list[Movement]:
        """What the payout should have carried, by the usual age of what is carried; nothing where that isn't known."""
        if self.begin is None or not self.ages:
            return []
        end = self._at(payout.issued_at - median_low(self.ages) + timedelta(seconds=1))
        run = self.moves[self.begin : end]
        self.begin = max(self.begin, end)
        return run

    def _at(self, when: datetime) -> int:
        """How many movements lie before an instant."""
        return bisect_left(self.moves, when, key=lambda m: m.occurred_at)


# from staging --------------------------------------------------------------------------------------------------------------

_PAYOUTS = """
    SELECT DISTINCT ON (connection, source_id) connection, source_id, currency, amount_minor, occurred_at, state FROM staging.payout
     WHERE connection = ANY(%(names)s) AND sync_date BETWEEN %(first)s AND %(last)s
     ORDER BY connection, source_id, sync_date DESC, raw_id DESC
"""
_MOVEMENTS = """
    SELECT DISTINCT ON (connection, source_id) connection, currency, source_id, kind, occurred_at, amount_minor, fee_minor, coalesce(payout_id, '')
      FROM staging.processor_transaction
     WHERE connection = ANY(%(names)s) AND sync_date BETWEEN %(first)s AND %(last)s AND kind NOT IN ('payout', 'test')
     ORDER BY connection, source_id, sync_date DESC, raw_id DESC
"""


_MEMBERS = """
    SELECT DISTINCT ON (connection, source_id) connection, currency, payout_id, transaction_id, net_minor FROM staging.payout_member
     WHERE connection = ANY(%(names)s) AND sync_date BETWEEN %(first)s AND %(last)s
     ORDER BY connection, source_id, sync_date DESC, raw_id DESC
"""


def _listed(
    connection: Connection, scope: Mapping[str, object], movements: Mapping[tuple[str, str], Sequence[Movement]]
) -> dict[tuple[str, str], dict[str, list[Movement]]]:
    """By balance and payout, what the processor says that it carried; of what is older than the movements only the net is known."""
    known = {(name, move.source_id): move for (name, _), of in movements.items() for move in of}
    found: dict[tuple[str, str], dict[str, list[Movement]]] = defaultdict(lambda: defaultdict(list))
    for name, currency, payout_id, id_, net in connection.execute(_MEMBERS, scope):
        move = known.get((name, id_)) or Movement(id_, "earlier transaction", _LONG_AGO, net, 0)
        found[name, currency][bare(payout_id)].append(move)
    return found


def of_connections(connection: Connection, names: Sequence[str], through: date) -> list[Explained]:
    """The payouts that processors issued in the WINDOW_DAYS before the end of a day, by connection, currency and time."""
    first = through - timedelta(days=WINDOW_DAYS)
    scope = {"names": list(names), "first": first - timedelta(days=CARRIED_DAYS), "last": through}
    payouts: dict[tuple[str, str], list[Payout]] = defaultdict(list)
    movements: dict[tuple[str, str], list[Movement]] = defaultdict(list)
    told: set[str] = set()
    for row in connection.execute(_PAYOUTS, scope):
        if row[4].date() >= first and row[1] not in told:  # two connections may tell of one payout
            told.add(row[1])
            payouts[row[0], row[2]].append(Payout(*row))
    for name, currency, *move in connection.execute(_MOVEMENTS, scope):
        movements[name, currency].append(Movement(*move))
    listed = _listed(connection, scope, movements)
    return [one for key in sorted(payouts) for one in explain(payouts[key], movements[key], listed[key])]


def alerts(entity: str, explained: Iterable[Explained], items: Iterable[OpenItem]) -> list[Alert]:
    """Payouts whose sum differs, payouts that the bank should show by now, deposits that no payout explains."""
    return [*_differing(entity, explained), *_from_items(entity, items)]


def _differing(entity: str, explained: Iterable[Explained]) -> Iterator[Alert]:
    for one in explained:
        if one.difference_minor:
            payout = one.payout
            yield Alert(entity, "payout differs", payout.payout_id, payout.currency, payout.amount_minor, one.note)


def _from_items(entity: str, items: Iterable[OpenItem]) -> Iterator[Alert]:
    for item in items:
        if item.role.partition(":")[0] != "payout_in_transit" or item.match_id is not None or not item.amount_minor:
            continue
        if item.cause in ("timing", "fx"):
            continue
        what: Literal["payout overdue", "deposit unexplained"] = (
            "payout overdue" if item.side == "left" else "deposit unexplained"
        )
        yield Alert(entity, what, item.what.rpartition(" ")[2], item.currency, item.amount_minor, item.note)
