"""What the sample company gains and loses on currencies: weighted average per pool and day, and month-end revaluation.

A pool is one entity's balance on one monetary role in one foreign currency. Amounts are minor units, debits positive.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from fractions import Fraction

from ledger_pipeline.sandbox.company.rates import DIGITS, per_euro

MONETARY = frozenset(
    {
        *("bank", "payout_in_transit", "unidentified_receipts", "accounts_receivable", "order_clearing"),
        *("processor_balance", "processor_reserve", "dispute_receivable", "intercompany"),
        *("accounts_payable", "goods_received_not_invoiced", "sales_tax_payable", "marketplace_tax_clearing"),
        *("gift_card_liability", "store_credit_liability", "tips_payable", "wages_payable", "payroll_tax_withheld"),
        *("employer_payroll_tax_payable", "benefits_payable", "garnishments_payable", "employee_reimbursements"),
        "credit_card_payable",
    }
)
"""Roles, without their parameter, that are money or are settled in money."""
UNQUOTED = frozenset({"KWD"})
"""Currencies that the ECB doesn't quote; they keep the base amount that they are carried at."""

Key = tuple[str, str]
"""A pool's role and currency."""


@dataclass(frozen=True, slots=True)
class Posting:
    """One line of one entry: `amount` in `currency`, `base` in the entity's base currency.

    `record` numbers what it was posted for: what one record adds to a pool and takes back on the same day is one sum.
    """

    posted_on: date
    role: str
    currency: str
    amount: int
    base: int
    record: int = 0


@dataclass(slots=True)
class Pool:
    """What is held and what it is carried at in base; both negative when it is owed."""

    amount: int = 0
    base: int = 0

    def day(self, movements: Iterable[tuple[int, int]]) -> int:
        """Take in one day's (amount, base); returns the realised gain in base (a loss is negative).

        What enlarges the balance is added first, at its own base; what reduces it then leaves at the average.
        """
        debit = debit_base = credit = credit_base = 0
        for amount, base in movements:
            if amount > 0:
                debit, debit_base = debit + amount, debit_base + base
            elif amount < 0:
                credit, credit_base = credit - amount, credit_base - base
            else:
                self.base += base
        if self.amount > 0 or (self.amount == 0 and debit >= credit):
            return self._settle(1, debit, debit_base, credit, credit_base)
        return self._settle(-1, credit, credit_base, debit, debit_base)

    def _settle(self, sign: int, added: int, added_base: int, left: int, left_base: int) -> int:
        held, carried = sign * self.amount + added, sign * self.base + added_base
        if left > held:  # all is settled; the excess opens a pool of the other sign
            excess = left - held
            excess_base = half_even(left_base * excess, left)
            gain = left_base - excess_base - carried
            held, carried = -excess, -excess_base
        else:
            relief = carried if left == held else half_even(carried * left, held)
            gain = left_base - relief
            held, carried = held - left, carried - relief
        self.amount, self.base = sign * held, sign * carried
        return sign * gain


def half_even(numerator: int, denominator: int) -> int:
    """The quotient, rounded half to even."""
    return round(Fraction(numerator, denominator))


def value(amount: int, currency: str, base_currency: str, day: date) -> int:
    """An amount in base at the ECB's rate of a day (or the last one before), in minor units."""
    rate = Fraction(per_euro(day, base_currency)) / Fraction(per_euro(day, currency))
    exact = amount * rate * Fraction(10) ** (DIGITS[base_currency] - DIGITS[currency])
    return round(exact)


def is_pooled(role: str, currency: str, base_currency: str) -> bool:
    """True for money, claims and debts in a foreign currency."""
    return currency != base_currency and role.partition(":")[0] in MONETARY


def month_end(month: date) -> date:
    """The last day of the month that starts on `month`."""
    return (month + timedelta(days=31)).replace(day=1) - timedelta(days=1)


def currency_run(postings: Iterable[Posting], base_currency: str, month: date) -> Iterator[list[Posting]]:
    """The entries of one entity's month: the realised gains by day, the revaluation, and its reversal a day later.

    `postings` are all of the entity's lines up to the month's end, in any order, without those of other currency runs.
    """
    last = month_end(month)
    by_day = _movements(
        one for one in postings if one.posted_on <= last and is_pooled(one.role, one.currency, base_currency)
    )
    pools: defaultdict[Key, Pool] = defaultdict(Pool)
    for day in sorted(by_day):
        gains = {key: pools[key].day(of_records.values()) for key, of_records in by_day[day].items()}
        if day >= month and any(gains.values()):
            yield _entry(day, gains, base_currency)
    differences = {
        (role, currency): value(pool.amount, currency, base_currency, last) - pool.base
        for (role, currency), pool in pools.items()
        if pool.amount and currency not in UNQUOTED
    }
    if any(differences.values()):
        yield _entry(last, differences, base_currency)
        back = {key: -difference for key, difference in differences.items()}
        yield _entry(last + timedelta(days=1), back, base_currency)


def _movements(postings: Iterable[Posting]) -> dict[date, dict[Key, dict[int, tuple[int, int]]]]:
    """(amount, base) by day, pool and record."""
    found: dict[date, dict[Key, dict[int, tuple[int, int]]]] = {}
    for one in postings:
        of_records = found.setdefault(one.posted_on, {}).setdefault((one.role, one.currency), {})
        amount, base = of_records.get(one.record, (0, 0))
        of_records[one.record] = (amount + one.amount, base + one.base)
    return found


def _entry(day: date, gains: dict[Key, int], base_currency: str) -> list[Posting]:
    lines = []
    for (role, currency), gain in sorted(gains.items()):
        if gain:
            lines += [
                Posting(day, role, currency, 0, gain),
                Posting(day, "currency_trading", currency, 0, -gain),
                Posting(day, "fx_gain_loss", base_currency, -gain, -gain),
                Posting(day, "currency_trading", base_currency, gain, gain),
            ]
    return lines
