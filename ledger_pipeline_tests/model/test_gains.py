"""Realised gains by weighted average, and the entry that books an adjustment: by hand and for any movements."""

from __future__ import annotations

from collections import defaultdict
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger_pipeline.model.gains import Adjustment, Movement, lines_of, realised

DAY = date(2026, 10, 5)
NOTHING = (0, 0)


def moves(*pairs: tuple[tuple[int, int], tuple[int, int]]) -> list[Movement]:
    return [Movement(DAY + timedelta(days=n), *pair) for n, pair in enumerate(pairs)]


@pytest.mark.parametrize(
    ("given", "gains", "left"),
    [
        # 100.00 carried at 86.00, settled for 85.00: a loss of one
        ([((10000, 8600), NOTHING), (NOTHING, (-10000, -8500))], [0, -100], NOTHING),
        ([((10000, 8600), (-10000, -8700))], [100], NOTHING),  # settled on the day itself
        # two additions at 0.80 and 0.90 average 0.85; half of it goes at 0.88
        ([((10000, 8000), NOTHING), ((10000, 9000), NOTHING), (NOTHING, (-10000, -8800))], [0, 0, 300], (10000, 8500)),
        # a debt of 100 at 90, paid with 95: a loss
        ([(NOTHING, (-10000, -9000)), ((10000, 9500), NOTHING)], [0, -500], NOTHING),
        # more is taken than is there: the rest is a debt at the price of the day
        ([((10000, 8000), NOTHING), (NOTHING, (-15000, -13500))], [0, 1000], (-5000, -4500)),
        ([(NOTHING, (-10000, -8000)), ((15000, 13500), NOTHING)], [0, -1000], (5000, 4500)),
        # additions of the day count before what is taken on it
        ([((10000, 8000), NOTHING), ((10000, 9000), (-5000, -4500))], [0, 250], (15000, 12750)),
    ],
)
def test_gains_by_hand(
    given: list[tuple[tuple[int, int], tuple[int, int]]], gains: list[int], left: tuple[int, int]
) -> None:
    days = list(realised(moves(*given)))
    assert [day.gain for day in days] == gains
    assert days[-1].after == left


def test_base_without_amount_is_carried_and_realised_with_the_rest() -> None:
    days = list(realised([Movement(DAY, (100, 80), NOTHING), Movement(DAY, NOTHING, (-100, -80), base_only=3)]))
    assert [day.gain for day in days] == [0, -3]
    (alone,) = realised([Movement(DAY, NOTHING, NOTHING, base_only=-2)])
    assert (alone.gain, alone.after) == (2, NOTHING)


amounts = st.integers(0, 10**9)
movement = st.tuples(amounts, amounts, amounts, amounts).map(
    lambda m: ((m[0], m[1] if m[0] else 0), (-m[2], -m[3] if m[2] else 0))
)


@given(st.lists(movement, min_size=1, max_size=12))
def test_nothing_is_lost_between_base_gains_and_what_is_carried(
    given: list[tuple[tuple[int, int], tuple[int, int]]],
) -> None:
    days = list(realised(moves(*given)))
    base = sum(debit[1] + credit[1] for debit, credit in given)
    assert base + sum(day.gain for day in days) == days[-1].after[1]
    assert sum(debit[0] + credit[0] for debit, credit in given) == days[-1].after[0]
    for day in days:
        assert day.after[0] or not day.after[1], "a settled pool carries nothing"


adjustments = st.builds(
    Adjustment, st.sampled_from(["bank:1", "order_clearing:x", "accounts_payable"]), st.sampled_from(["EUR", "JPY"]),
    st.integers(-(10**9), 10**9),
)  # fmt: skip


@given(st.lists(adjustments, max_size=6))
def test_an_adjustment_balances_in_every_currency_and_in_base(given: list[Adjustment]) -> None:
    lines = lines_of(given, "GBP")
    sums: defaultdict[str, int] = defaultdict(int)
    for _, currency, amount, _ in lines:
        sums[currency] += amount
    assert not any(sums.values())
    assert sum(base for *_, base in lines) == 0
    assert -sum(base for role, _, _, base in lines if role == "fx_gain_loss") == sum(a.base_minor for a in given)
    assert all(amount or base for _, _, amount, base in lines)
