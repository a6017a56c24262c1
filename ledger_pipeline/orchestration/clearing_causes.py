"""How much of which cause stands on the clearing accounts when a month ends, and what of it is too old without an explanation."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import groupby

from ledger_pipeline.model.money import from_minor
from ledger_pipeline.reconcile.open_items import CAUSES, Cause, OpenItem


@dataclass(frozen=True, slots=True)
class Stands:
    """The open items of a role and currency that have one cause. Minor units, debit positive.

    `old_minor` is the sum of those that nothing explains and that are older than the limit, `old_count` how many they are; `since` is the day
    of the oldest part (of these, where there are any), `days` its age. None and 0 where only base amounts are left.
    """

    role: str
    currency: str
    base_currency: str
    cause: Cause
    count: int
    amount_minor: int
    base_minor: int
    old_count: int
    old_minor: int
    since: date | None
    days: int

    @property
    def is_old(self) -> bool:
        """Something of it must be looked at before the month is closed."""
        return self.old_count > 0

    @property
    def said(self) -> str:
        """`timing 2.00`; of what has no amount the base amount."""
        if self.amount_minor or self.since is not None:
            return f"{self.cause} {from_minor(self.amount_minor, self.currency):,}"
        return f"{self.cause} {from_minor(self.base_minor, self.base_currency):,} {self.base_currency} in base"

    def said_of_old(self) -> str:
        """`order_clearing:till 1.00 USD payment missing since 2026-10-20 (11 days)`."""
        amount = f"{from_minor(self.old_minor, self.currency):,} {self.currency}"
        days = f"{self.days:,} {'day' if self.days == 1 else 'days'}"
        return f"{self.role} {amount} {self.cause} since {self.since} ({days})"

    def as_row(self) -> Mapping[str, str]:
        """For people; the same columns in each."""
        return {
            "role": self.role, "currency": self.currency, "cause": self.cause, "items": f"{self.count:,}",
            "amount": f"{from_minor(self.amount_minor, self.currency):,}", "base": f"{from_minor(self.base_minor, self.base_currency):,}",
            "too old": f"{from_minor(self.old_minor, self.currency):,}", "since": str(self.since or ""), "days": str(self.days),
        }  # fmt: skip


def by_cause(items: Iterable[OpenItem], last: date, limit: int, base_currency: str) -> list[Stands]:
    """What is too old first, then by role, currency and cause; `limit` is in days."""
    groups: dict[tuple[str, str, Cause], list[OpenItem]] = defaultdict(list)
    for item in items:
        groups[item.role, item.currency, item.cause].append(item)
    order = list(CAUSES)
    found = [_stands(of, last, limit, base_currency) for of in groups.values()]
    return sorted(found, key=lambda one: (not one.is_old, one.role, one.currency, order.index(one.cause)))


def _stands(items: Sequence[OpenItem], last: date, limit: int, base_currency: str) -> Stands:
    old = [one for one in items if not one.is_explained(last) and one.open_days(last) > limit]
    since = min((one.open_since for one in old or items if one.open_since is not None), default=None)
    return Stands(
        items[0].role,
        items[0].currency,
        base_currency,
        items[0].cause,
        len(items),
        sum(one.amount_minor for one in items),
        sum(one.base_minor for one in items),
        len(old),
        sum(one.amount_minor for one in old),
        since,
        0 if since is None else (last - since).days,
    )


def by_account(stands: Iterable[Stands]) -> list[str]:
    """`order_clearing:till 3.00 USD (timing 2.00, payment missing 1.00)` per role and currency; the figures of an account sum up."""
    order = list(CAUSES)
    ordered = sorted(stands, key=lambda one: (one.role, one.currency, order.index(one.cause)))
    said = []
    for (role, currency), group in groupby(ordered, key=lambda one: (one.role, one.currency)):
        own = list(group)
        amount = from_minor(sum(one.amount_minor for one in own), currency)
        said.append(f"{role} {amount:,} {currency} ({', '.join(one.said for one in own)})")
    return said
