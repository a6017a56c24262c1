"""Row 10: the matching engine on a month's bank lines against payouts and invoices, size by size."""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Sequence
from datetime import date, timedelta
from itertools import pairwise
from math import log2

from ledger_pipeline.orchestration.steps import uncollected
from ledger_pipeline.reconcile.engine import Member, Result, Side, match
from ledger_pipeline_tests.bench.table import Row, judged, seconds

SEED = 20261005
FIRST, DAYS = date(2026, 10, 1), 31
EXACT, REFERENCE, SCORED = 0.70, 0.15, 0.10
"""Shares of the bank lines; the rest belongs to nothing, and as many payouts and invoices have no bank line."""
GOAL = 1.3
REPEATED = 10_000
"""Bank lines that are matched at least between two looks at the clock: a thousand take too little time to be told from noise."""
NAMES = ("stripe", "shopify", "adyen", "klarna")


def members(count: int) -> tuple[list[Member], set[tuple[str, str]]]:
    """`count` bank lines and as many payouts and invoices, shuffled; and the pairs that belong together. The same for the same count."""
    chance = random.Random(SEED + count)
    limits = [round(count * share) for share in (EXACT, EXACT + REFERENCE, EXACT + REFERENCE + SCORED)]
    made, pairs = [], set()
    for number in range(count):
        kind = sum(number >= limit for limit in limits)
        left, right = _pair(number, kind, chance)
        made += [left, right]
        if kind < len(limits):
            pairs.add((left.id, right.id))
    chance.shuffle(made)
    return made, pairs


def _pair(number: int, kind: int, chance: random.Random) -> tuple[Member, Member]:
    """By kind: exact, reference, scored, unmatched (two amounts that have nothing to do with each other)."""
    amount = chance.randrange(100, 50_000_000)
    day = FIRST + timedelta(days=chance.randrange(DAYS))
    shown = day + timedelta(days=chance.randrange(3))
    name = chance.choice(NAMES)
    text = f"{name.upper()} TRANSFER"

    def member(
        side: Side,
        amount: int,
        day: date,
        *,
        keys: tuple[str, ...] = (),
        references: tuple[str, ...] = (),
        text: str = "",
        counterparty: str = "",
    ) -> Member:
        return Member(f"{side}/{number:07}", side, amount, "EUR", day, keys, references, text, counterparty)

    if kind == 0:
        keys = (f"payout:po_{number:07}",)
        return (
            member("left", amount, day, keys=keys, counterparty=name),
            member("right", -amount, shown, keys=keys, text=text),
        )
    if kind == 1:
        invoice = f"INV-{number:07}"
        return member("left", amount, day, references=(invoice,)), member(
            "right", -amount, shown, text=f"PAYMENT {invoice}"
        )
    if kind == 2:
        return member("left", amount, day, counterparty=name), member("right", -amount, shown, text=text)
    other = chance.randrange(100, 50_000_000)
    return member("left", amount, day, counterparty=name), member("right", -other, shown, text=text)


def wrong(found: Result, pairs: set[tuple[str, str]]) -> int:
    """Automatic matches that don't belong together."""
    return sum(one.is_automatic and one.members not in pairs for one in found.matches)


def rows(sizes: Sequence[int], runs: int) -> list[Row]:
    """CPU time per n·log2(n) from size to size; one thread, nothing waits. Raises RuntimeError when a match is wrong or too few are found."""
    taken, recalls = {}, {}
    match(members(100)[0])  # loads the bank holidays, unmeasured
    for size in sizes:
        made, pairs = members(size)
        times = []
        for _ in range(runs):
            gc.collect()
            repeats = max(1, REPEATED // size)
            with uncollected():  # as a reconciliation runs
                began = time.process_time()
                for _ in range(repeats):
                    found = match(made)
                times.append((time.process_time() - began) / repeats)
        right = sum(one.is_automatic and one.members in pairs for one in found.matches)
        if wrong(found, pairs) or right < 0.98 * len(pairs):
            raise RuntimeError(
                f"{size:,} bank lines: {right:,} of {len(pairs):,} matched, {wrong(found, pairs):,} wrongly"
            )
        taken[size], recalls[size] = statistics.median(times), right / len(pairs)
    per = {size: taken[size] / (size * log2(size)) for size in sizes}
    worst = max(per[larger] / per[smaller] for smaller, larger in pairwise(sizes))
    detail = "; ".join(
        f"{n:,}: {seconds(taken[n])}, {per[n] * 1e6:.2f} us per n log2 n, recall {recalls[n]:.3f}" for n in sizes
    )
    span = " / ".join(f"{n:,}" for n in sizes)
    return [
        judged(
            "10", f"reconciliation of {span} bank lines, time per n log n from size to size", f"{worst:.2f} x", f"<= {GOAL:.2f} x",
            worst <= GOAL, f"{detail}; CPU time of the matching alone, no wrong match",
        )
    ]  # fmt: skip
