"""What is still open of amounts that matches tie together: what was paid is taken from the oldest debt, as far as the match reaches.

Nothing is taken across currencies or from what no match names, so what is open and what exchange rates left always sum to what was given.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date

from ledger_pipeline.model.money import divide_half_even


@dataclass(frozen=True, slots=True)
class Part:
    """A document with what leads to it, or something that leads to none. Minor units, owed is positive; `matches` use its records."""

    currency: str
    record: str
    connection: str
    source_id: str
    dated: date | None
    amount_minor: int
    base_minor: int
    matches: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Netted:
    """`open` are parts with what is left of them, none zero; `differences` base minor units by currency where amounts cleared each other."""

    open: Sequence[Part]
    differences: dict[str, int]


def net(parts: Iterable[Part]) -> Netted:
    """Within all that matches tie together, in one currency: debts, the oldest first, by credits, the oldest first."""
    whole: list[Part] = []
    differences: dict[str, int] = defaultdict(int)
    for group in _tied(parts):
        debts = [one for one in group if one.amount_minor > 0]
        credits_ = [one for one in group if one.amount_minor < 0]
        cleared = min(sum(one.amount_minor for one in debts), -sum(one.amount_minor for one in credits_))
        left = [*_without(debts, cleared), *_without(credits_, cleared)]
        whole += left
        differences[group[0].currency] += sum(one.base_minor for one in group) - sum(one.base_minor for one in left)
    return Netted(whole, {currency: base for currency, base in differences.items() if base})


def _without(parts: Sequence[Part], cleared: int) -> list[Part]:
    """What is left when `cleared` (positive) is taken from parts of one sign; each gives up its base in proportion."""
    left = []
    for one in sorted(parts, key=_age):
        taken = min(cleared, abs(one.amount_minor))
        cleared -= taken
        rest = abs(one.amount_minor) - taken
        if rest:
            base = divide_half_even(one.base_minor * rest, abs(one.amount_minor))
            left.append(replace(one, amount_minor=rest if one.amount_minor > 0 else -rest, base_minor=base))
    return left


def _age(one: Part) -> tuple[date, str, str, str]:
    return one.dated or date.max, one.connection, one.source_id, one.record


def _tied(parts: Iterable[Part]) -> list[list[Part]]:
    """Parts that share a match, directly or through others; one that no match uses is alone."""
    above: dict[tuple[str, int], tuple[str, int]] = {}

    def top(at: tuple[str, int]) -> tuple[str, int]:
        while (over := above.setdefault(at, at)) != at:
            above[at] = above[over]
            at = over
        return at

    alone: list[list[Part]] = []
    tied: list[Part] = []
    for one in parts:
        for match in one.matches:
            above[top((one.currency, match))] = top((one.currency, one.matches[0]))
        if one.matches:
            tied.append(one)
        else:
            alone.append([one])
    groups: dict[tuple[str, int], list[Part]] = defaultdict(list)
    for one in tied:
        groups[top((one.currency, one.matches[0]))].append(one)
    return [*alone, *groups.values()]
