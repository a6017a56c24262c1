"""The ECB's reference rates: exact, the last known on a day without one, and never a guess."""

from __future__ import annotations

import csv
import io
import zipfile
from datetime import date
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest

from ledger_pipeline.connect.fx import ReferenceRates, _history, is_business_day
from ledger_pipeline_tests.fakes import ecb_rate


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
    with pytest.raises(LookupError, match=f"no ECB rate for USD on 1998-12-31; the history begins on {first}"):
        ecb_rate("EUR", "USD", date(1998, 12, 31))
    after = date.fromordinal(last.toordinal() + 1)
    while not is_business_day(after):
        assert ecb_rate("EUR", "USD", after) == ecb_rate("EUR", "USD", last)
        after = date.fromordinal(after.toordinal() + 1)
    with pytest.raises(LookupError, match=f"no ECB rate for USD on {after}: that of {after} isn't known yet"):
        ecb_rate("EUR", "USD", after)


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


def test_a_fetched_rate_continues_the_history_and_never_changes_it() -> None:
    _, last = _history().bounds["USD"]
    day = date.fromordinal(last.toordinal() + 1)
    while not is_business_day(day):
        day = date.fromordinal(day.toordinal() + 1)
    rates = ReferenceRates({day: {"USD": Decimal("1.2345")}, last: {"USD": Decimal("9.9")}})
    assert rates("EUR", "USD", day) == Fraction("1.2345")
    assert rates("EUR", "USD", last) == ecb_rate("EUR", "USD", last)
    with pytest.raises(LookupError, match="GBP"):
        rates("EUR", "GBP", day)


@pytest.mark.parametrize("day", [date(2026, 4, 3), date(2026, 4, 6), date(2026, 5, 1), date(2026, 12, 25)])
def test_target_holidays_are_no_business_days(day: date) -> None:
    assert not is_business_day(day)
    assert is_business_day(date(2026, 4, 2))
