"""Currency gains: realised when a foreign balance is settled (weighted average), and the month-end revaluation of what is left.

A pool is what one role holds in one foreign currency. Its balance carries a base amount; what comes off the balance takes the average of it
along, and the difference to the base amount at which it went is realised. Amounts are minor units, debit positive.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date

from ledger_pipeline.model.money import divide_half_even

MONETARY = (
    *("bank", "payout_in_transit", "unidentified_receipts", "accounts_receivable", "order_clearing", "processor_balance"),
    *("processor_reserve", "dispute_receivable", "intercompany"),
    *("accounts_payable", "goods_received_not_invoiced", "sales_tax_payable", "marketplace_tax_clearing"),
    *("gift_card_liability", "store_credit_liability", "tips_payable", "wages_payable", "payroll_tax_withheld"),
    *("employer_payroll_tax_payable", "benefits_payable", "garnishments_payable", "employee_reimbursements"),
    "credit_card_payable",
)  # fmt: skip
"""Roles (without parameter) of balances that are money to be received or paid: IAS 21's monetary items."""


@dataclass(frozen=True, slots=True)
class Movement:
    """What a pool's records did on a day: (amount, base) of those that debit it, and of those that credit it (negative).

    A record counts with the net of its lines of the day, so that a correction nets with what it reverses; `base_only` are the base amounts of
    records whose net amount is zero.
    """

    day: date
    debits: tuple[int, int]
    credits: tuple[int, int]
    base_only: int = 0


@dataclass(frozen=True, slots=True)
class Gain:
    """A pool's day with a realised gain (negative: a loss), in base minor units; before and after are (amount, carried base)."""

    day: date
    before: tuple[int, int]
    debits: tuple[int, int]
    credits: tuple[int, int]
    gain: int
    after: tuple[int, int]


def realised(movements: Iterable[Movement]) -> Iterator[Gain]:
    """The pool's days in their order, each with its gain (also zero); the last one's `after` is what the pool carries."""
    amount = base = 0
    for move in movements:
        before = (amount, base)
        amount, base, gain = _day(amount, base + move.base_only, move)
        yield Gain(move.day, before, move.debits, move.credits, gain, (amount, base))


def _day(amount: int, base: int, move: Movement) -> tuple[int, int, int]:
    """(amount, base, gain): additions come first, then the other side relieves at the average."""
    (debit, debit_base), (credit, credit_base) = move.debits, (-move.credits[0], -move.credits[1])
    if amount > 0 or (amount == 0 and debit >= credit):
        return _relieve(amount + debit, base + debit_base, credit, credit_base)
    amount, base, gain = _relieve(-amount + credit, -base + credit_base, debit, debit_base)
    return -amount, -base, -gain


def _relieve(held: int, carried: int, taken: int, taken_base: int) -> tuple[int, int, int]:
    """Take an amount off what is held; the gain is what it went for beyond what it was carried at."""
    if taken == held:
        return 0, 0, taken_base - carried
    if taken < held:
        relief = divide_half_even(carried * taken, held)
        return held - taken, carried - relief, taken_base - relief
    excess = taken - held
    excess_base = divide_half_even(taken_base * excess, taken)
    return -excess, -excess_base, taken_base - excess_base - carried


@dataclass(frozen=True, slots=True)
class Adjustment:
    """Base minor units by which a pool's carried amount changes: a gain when positive."""

    role: str
    currency: str
    base_minor: int


def lines_of(adjustments: Iterable[Adjustment], base_currency: str) -> list[tuple[str, str, int, int]]:
    """(role, currency, amount, base) of the entry that books them, sorted: balanced in each currency and in base.

    The pool takes the base amount only, `fx_gain_loss` the gain in base currency; `currency_trading` stands between.
    """
    sums: dict[tuple[str, str], tuple[int, int]] = {}

    def add(role: str, currency: str, amount: int, base: int) -> None:
        held = sums.get((role, currency), (0, 0))
        sums[role, currency] = (held[0] + amount, held[1] + base)

    for one in adjustments:
        add(one.role, one.currency, 0, one.base_minor)
        add("currency_trading", one.currency, 0, -one.base_minor)
        add("currency_trading", base_currency, one.base_minor, one.base_minor)
        add("fx_gain_loss", base_currency, -one.base_minor, -one.base_minor)
    return [(role, currency, *held) for (role, currency), held in sorted(sums.items()) if held != (0, 0)]
