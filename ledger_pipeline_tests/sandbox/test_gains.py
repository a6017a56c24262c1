"""Currency gains of the company's own books: worked by hand, and what must hold whatever happens."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace
from datetime import date, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger_pipeline.model.gains import MONETARY as PIPELINES_MONETARY
from ledger_pipeline.model.gains import Movement, realised
from ledger_pipeline.sandbox.gains import MONETARY, Pool, Posting, currency_run, is_pooled, month_end, value

OCTOBER = date(2025, 10, 1)
CLEARING = "order_clearing:stripe"


records = itertools.count()


def line(day: int, amount: int, base: int, role: str = CLEARING, currency: str = "EUR") -> Posting:
    """A line of a record of its own."""
    return Posting(OCTOBER.replace(day=day), role, currency, amount, base, next(records))


def run(*lines: Posting, base: str = "GBP") -> list[tuple[date, str, str, int, int]]:
    return [
        (one.posted_on, one.role, one.currency, one.amount, one.base)
        for entry in currency_run(lines, base, OCTOBER)
        for one in entry
    ]


# One day of a pool, by hand


@pytest.mark.parametrize(
    ("before", "lines", "gain", "after"),
    [
        ((0, 0), [(100, 80)], 0, (100, 80)),
        ((100, 80), [(-100, -85)], 5, (0, 0)),  # 80 carried, 85 received
        ((100, 80), [(-100, -79)], -1, (0, 0)),
        ((100, 80), [(-40, -30)], -2, (60, 48)),  # 40 % of 80 is 32
        ((0, 0), [(100, 80), (-100, -85)], 5, (0, 0)),  # came and went on one day
        ((100, 80), [(100, 90), (-50, -50)], 50 - 42, (150, 128)),  # 170 × 50 / 200 = 42.5, to even
        ((100, 80), [(100, 94), (-50, -50)], 50 - 44, (150, 130)),  # 174 × 50 / 200 = 43.5, to even
        ((100, 80), [(-150, -123)], 2, (-50, -41)),  # 82 of 123 settle the 100; 41 are owed for the rest
        ((-100, -80), [(100, 85)], -5, (0, 0)),  # a debt of 80 cost 85
        ((-100, -80), [(40, 30)], 2, (-60, -48)),
        ((-100, -80), [(150, 123)], -2, (50, 41)),
        ((0, 0), [(40, 30), (-100, -80)], 2, (-60, -48)),  # the larger side opens the pool
        ((0, 0), [(100, 80), (-40, -30)], -2, (60, 48)),
        ((100, 80), [(0, 3), (-100, -85)], 2, (0, 0)),  # a line without amount changes what is carried
    ],
)
def test_a_day_of_a_pool(
    before: tuple[int, int], lines: list[tuple[int, int]], gain: int, after: tuple[int, int]
) -> None:
    pool = Pool(*before)
    assert pool.day(lines) == gain
    assert (pool.amount, pool.base) == after


def test_a_gain_is_one_entry_a_day_in_two_currencies() -> None:
    assert run(line(3, 100_00, 85_00), line(9, -100_00, -87_50)) == [
        (date(2025, 10, 9), CLEARING, "EUR", 0, 2_50),
        (date(2025, 10, 9), "currency_trading", "EUR", 0, -2_50),
        (date(2025, 10, 9), "fx_gain_loss", "GBP", -2_50, -2_50),
        (date(2025, 10, 9), "currency_trading", "GBP", 2_50, 2_50),
    ]


def test_what_is_held_at_the_months_end_is_revalued_and_that_is_taken_back_the_next_day() -> None:
    # 31 October 2025: 0.8816 GBP for one euro, 100.05 EUR = 88.20408 GBP
    assert value(100_05, "EUR", "GBP", date(2025, 10, 31)) == 88_20
    assert run(line(3, 100_05, 85_00)) == [
        (date(2025, 10, 31), CLEARING, "EUR", 0, 3_20),
        (date(2025, 10, 31), "currency_trading", "EUR", 0, -3_20),
        (date(2025, 10, 31), "fx_gain_loss", "GBP", -3_20, -3_20),
        (date(2025, 10, 31), "currency_trading", "GBP", 3_20, 3_20),
        (date(2025, 11, 1), CLEARING, "EUR", 0, -3_20),
        (date(2025, 11, 1), "currency_trading", "EUR", 0, 3_20),
        (date(2025, 11, 1), "fx_gain_loss", "GBP", 3_20, 3_20),
        (date(2025, 11, 1), "currency_trading", "GBP", -3_20, -3_20),
    ]


def test_yen_have_no_digits_and_dinars_no_rate() -> None:  # 1.1554 USD and 178.14 JPY for one euro: 6.4859
    assert value(1_000, "JPY", "USD", date(2025, 10, 31)) == 6_49
    held = run(line(3, 1_000, 7_00, currency="KWD"), base="USD")
    assert held == []


def test_a_record_that_is_taken_back_and_posted_anew_on_one_day_moves_the_pool_by_the_difference() -> None:
    held, old = line(2, 100, 80), line(1, 50, 45)
    taken_back = replace(old, posted_on=held.posted_on, amount=-50, base=-45)
    anew = replace(old, posted_on=held.posted_on, amount=60, base=54)
    assert [e[4] for e in run(old, held, taken_back, anew) if e[0].day == 2] == []
    by_another = replace(anew, record=next(records))
    moved = [e[4] for e in run(old, held, taken_back, by_another) if e[:2] == (held.posted_on, CLEARING)]
    assert moved == [2]  # 45 - 43: 179 × 50 / 210


def test_only_the_months_own_days_are_posted_and_earlier_ones_count() -> None:
    september = Posting(date(2025, 9, 30), CLEARING, "EUR", 100, 80, next(records))
    settled = Posting(date(2025, 9, 30), CLEARING, "EUR", -50, -45, next(records))
    found = run(september, settled, line(2, -50, -44))
    assert [(day, base) for day, role, _, _, base in found if role == CLEARING] == [(date(2025, 10, 2), 4)]


@pytest.mark.parametrize(
    ("role", "currency", "expected"),
    [
        ("bank:4417", "EUR", True),
        ("bank:4417", "GBP", False),
        ("sales_tax_payable:GB", "EUR", True),
        ("intercompany:hp_us", "USD", True),
        ("customer_deposits", "EUR", False),
        ("deferred_revenue", "EUR", False),
        ("currency_trading", "EUR", False),
        ("inventory", "EUR", False),
        ("sales", "EUR", False),
        ("opening_balance", "EUR", False),
    ],
)
def test_money_claims_and_debts_are_pooled(role: str, currency: str, expected: bool) -> None:
    assert is_pooled(role, currency, "GBP") == expected


def test_a_months_end() -> None:
    assert [month_end(date(2026, month, 1)).day for month in (1, 2, 4, 12)] == [31, 28, 30, 31]


# Whatever happens

amounts = st.integers(-1_000, 1_000).filter(bool)
movements = st.lists(
    st.tuples(st.integers(1, 31), amounts, st.sampled_from((CLEARING, "bank:1")), st.floats(0.7, 0.9)), max_size=25
)


@given(movements)
@settings(max_examples=300, deadline=None)
def test_what_is_settled_in_full_is_carried_at_nothing_and_the_entries_balance(
    moved: list[tuple[int, int, str, float]],
) -> None:
    lines = [line(day, amount, round(amount * rate), role) for day, amount, role, rate in moved]
    entries = list(currency_run(lines, "GBP", OCTOBER))
    for entry in entries:
        assert sum(one.base for one in entry) == 0
        assert sum(one.amount for one in entry if one.currency == "GBP") == 0
        assert {one.amount for one in entry if one.currency == "EUR"} <= {0}
    last = month_end(OCTOBER)
    for day in [*sorted({one.posted_on for one in lines}), last, last + timedelta(days=1)]:
        held: Counter[str] = Counter()
        carried: Counter[str] = Counter()
        for one in [*lines, *(one for entry in entries for one in entry)]:
            if one.posted_on <= day and one.currency == "EUR" and one.role != "currency_trading":
                held[one.role] += one.amount
                carried[one.role] += one.base
        for role, amount in held.items():
            if amount == 0:
                assert carried[role] == 0
            elif day == last:
                assert carried[role] == value(amount, "EUR", "GBP", last)


def test_the_pipeline_takes_the_same_roles_for_money() -> None:
    assert set(PIPELINES_MONETARY) == MONETARY


days = st.lists(st.tuples(st.integers(-3_000, 3_000), st.integers(-3_000, 3_000)), max_size=6)


@given(st.lists(days, max_size=12))
@settings(max_examples=500, deadline=None)
def test_the_pipelines_pools_carry_the_same(moved: list[list[tuple[int, int]]]) -> None:
    """Two implementations of one policy, whatever happens: also bases whose sign isn't that of their amount."""
    pool, own = Pool(), []
    for lines in moved:
        gain = pool.day(lines)
        own.append((gain, (pool.amount, pool.base)))

    def total(lines: list[tuple[int, int]], sign: int) -> tuple[int, int]:
        picked = [line for line in lines if line[0] * sign > 0]
        return sum(amount for amount, _ in picked), sum(base for _, base in picked)

    moves = [
        Movement(OCTOBER + timedelta(days=n), total(lines, 1), total(lines, -1), sum(b for a, b in lines if a == 0))
        for n, lines in enumerate(moved)
    ]
    assert [(one.gain, one.after) for one in realised(moves)] == own
