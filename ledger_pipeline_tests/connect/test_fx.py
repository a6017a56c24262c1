"""The ECB's reference rates: exact, the last known on a day without one, and never a guess."""

from __future__ import annotations

import csv
import io
import zipfile
from datetime import date
from fractions import Fraction
from pathlib import Path

import pytest

from ledger_pipeline.connect.fx import _history, ecb_rate


def test_a_published_rate_is_exact() -> None:
    assert ecb_rate("EUR", "USD", date(2024, 6, 14)) == Fraction("1.0686")  # ECB, 14 June 2024
    assert ecb_rate("EUR", "GBP", date(2024, 6, 14)) == Fraction("0.84205")


def test_two_foreign_currencies_cross_over_the_euro_without_rounding() -> None:
    assert ecb_rate("GBP", "USD", date(2024, 6, 14)) == Fraction("1.0686") / Fraction("0.84205")
    assert ecb_rate("GBP", "USD", date(2024, 6, 14)) * ecb_rate("USD", "GBP", date(2024, 6, 14)) == 1
    assert ecb_rate("JPY", "JPY", date(2024, 6, 14)) == 1


@pytest.mark.parametrize("day", [date(2024, 6, 15), date(2024, 6, 16)])
def test_a_weekend_takes_the_last_known_rate(day: date) -> None:
    assert ecb_rate("EUR", "USD", day) == ecb_rate("EUR", "USD", date(2024, 6, 14))
    assert ecb_rate("EUR", "USD", date(2024, 6, 17)) != ecb_rate("EUR", "USD", day)


@pytest.mark.parametrize("pair", [("XAF", "USD"), ("USD", "KWD"), ("BTC", "EUR")])
def test_a_currency_that_the_ecb_does_not_quote_is_refused(pair: tuple[str, str]) -> None:
    with pytest.raises(LookupError, match=r"the ECB doesn't quote (XAF|KWD|BTC)"):
        ecb_rate(*pair, date(2024, 6, 14))


def test_a_day_outside_the_history_is_refused() -> None:
    first, last = _history().bounds["USD"]
    with pytest.raises(LookupError, match=f"no ECB rate for USD on 1998-12-31; the history covers {first} to {last}"):
        ecb_rate("EUR", "USD", date(1998, 12, 31))
    with pytest.raises(LookupError, match="no ECB rate for USD"):
        ecb_rate("EUR", "USD", date.fromordinal(last.toordinal() + 11))
    assert ecb_rate("EUR", "USD", date.fromordinal(last.toordinal() + 10)) == ecb_rate("EUR", "USD", last)


def test_every_rate_that_the_ecb_published_lately_is_taken_as_published(real_data: Path) -> None:
    with zipfile.ZipFile(real_data / "fx" / "eurofxref-hist.zip") as archive:
        text = archive.read("eurofxref-hist.csv").decode()
    published = [row for row in csv.DictReader(io.StringIO(text)) if "2024-01-01" <= row["Date"] <= "2024-06-30"]
    assert len(published) > 100
    for row in published:
        for currency in ("USD", "JPY", "GBP", "HUF", "IDR", "KRW"):
            assert ecb_rate("EUR", currency, date.fromisoformat(row["Date"])) == Fraction(row[currency]), (
                row["Date"],
                currency,
            )
