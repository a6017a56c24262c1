"""Amounts are exact in every ISO 4217 currency, or an error that names the figure; the one rounding is half to even."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ledger_pipeline.model.money import (
    DIGITS,
    MoneyError,
    column_to_minor,
    convert_minor,
    digits_of,
    divide_half_even,
    format_minor,
    from_minor,
    to_minor,
)

CURRENCIES = st.sampled_from(sorted(DIGITS))
INT64 = st.integers(-(2**63) + 1, 2**63 - 1)
ODD_TEXTS = [
    *(
        "",
        " ",
        "1 ",
        " 1",
        "1,00",
        "1.",
        ".5",
        "+1.5",
        "-0",
        "--1",
        "NaN",
        "Infinity",
        "-inf",
        "1e2",
        "1E-2",
        "0x10",
        "1_000",
    ),
    *("1.10.1", "$1", "٣", "1\x00", "\t1", "1\n", "1" * 40, "0." + "0" * 70 + "1", "1." + "0" * 70 + "1", "0e99"),
    *("9223372036854775807.01", "92233720368547758.07", "-92233720368547758.08"),
]
AMOUNT_TEXTS = st.one_of(
    st.decimals(-(10**20), 10**20, allow_nan=False).map(lambda d: format(d, "f")),
    st.decimals(-(10**6), 10**6, places=2).map(str),
    st.sampled_from(ODD_TEXTS),
    st.text(alphabet="0123456789.-+eE_ ", max_size=12),
)


@given(INT64, CURRENCIES)
def test_minor_units_survive_a_round_trip_in_every_currency(amount: int, currency: str) -> None:
    major = from_minor(amount, currency)
    assert to_minor(major, currency) == amount
    assert to_minor(str(major), currency) == amount
    assert Fraction(major) * 10 ** DIGITS[currency] == amount
    assert -major.as_tuple().exponent == DIGITS[currency]  # type: ignore[operator]


@pytest.mark.parametrize(
    ("text", "currency", "minor"),
    [
        ("84.49", "USD", 8449),
        ("84.4900", "USD", 8449),
        ("-0.01", "EUR", -1),
        ("1500", "JPY", 1500),
        ("1.500", "KWD", 1500),
        ("0.0001", "CLF", 1),
        ("0", "BHD", 0),
    ],
)
def test_an_amount_has_the_digits_of_its_currency(text: str, currency: str, minor: int) -> None:
    assert to_minor(text, currency) == minor
    assert to_minor(Decimal(text), currency) == minor


def test_digits_are_those_of_iso_4217() -> None:
    assert {c: digits_of(c) for c in ("JPY", "KRW", "VND", "USD", "MGA", "BHD", "KWD", "TND", "CLF")} == {
        **dict.fromkeys(("JPY", "KRW", "VND"), 0),
        **dict.fromkeys(("USD", "MGA"), 2),
        **dict.fromkeys(("BHD", "KWD", "TND"), 3),
        "CLF": 4,
    }


@given(CURRENCIES, st.integers(-(10**9), 10**9), st.integers(1, 90))
def test_a_digit_more_than_the_currency_has_is_an_error_that_names_the_figure(
    currency: str, amount: int, more: int
) -> None:
    figure = f"{amount}.{'0' * (DIGITS[currency] + more - 1)}1"
    with pytest.raises(MoneyError) as error:
        to_minor(figure, currency)
    assert str(error.value) == f"{figure} has more decimals than {currency} has ({DIGITS[currency]})"


@pytest.mark.parametrize("currency", ["usd", "XXX", "HRK", "", "BTC"])
def test_a_code_that_is_no_active_currency_is_refused(currency: str) -> None:
    message = f"unknown currency {currency!r} (not an active ISO 4217 code)"
    for call in (
        lambda: to_minor("1", currency),
        lambda: from_minor(1, currency),
        lambda: convert_minor(1, currency, "USD", Decimal(1)),
    ):
        with pytest.raises(MoneyError) as error:
            call()
        assert str(error.value) == message
    assert column_to_minor(["1"], [currency])[2] == {0: message}


@pytest.mark.parametrize("text", ["", " 1", "1 ", "1,00", "NaN", "Infinity", "-inf", "abc", "$1", "1_000", "٣"])
def test_a_text_that_is_no_plain_decimal_number_is_refused(text: str) -> None:
    with pytest.raises(MoneyError, match="is not a decimal number"):
        to_minor(text, "USD")


@pytest.mark.parametrize("text", ["92233720368547758.08", "-92233720368547758.08", "1" * 40])
def test_an_amount_beyond_int64_is_refused(text: str) -> None:
    with pytest.raises(MoneyError, match="too large"):
        to_minor(text, "USD")
    assert to_minor("92233720368547758.07", "USD") == 2**63 - 1


def test_a_digit_behind_forty_zeros_is_not_lost_in_a_column() -> None:
    _, is_valid, errors = column_to_minor([f"0.{'0' * 40}1"], ["USD"])
    assert (is_valid.tolist(), list(errors)) == ([False], [0])


@given(
    st.lists(
        st.tuples(st.none() | AMOUNT_TEXTS, st.none() | st.sampled_from(["USD", "JPY", "KWD", "CLF", "xyz"])),
        max_size=12,
    )
)
@example([("-92233720368547758.08", "USD")])  # -2**63: its negative is no 64-bit integer
@example([("-92233720368547758.08", "USD"), ("92233720368547758.07", "USD"), ("-92233720368547758.07", "USD")])
def test_a_column_is_converted_like_its_elements(rows: list[tuple[str | None, str | None]]) -> None:
    values, is_valid, errors = column_to_minor([a for a, _ in rows], [c for _, c in rows])
    for position, (amount, currency) in enumerate(rows):
        if amount is None or currency is None:
            assert not is_valid[position]
            assert position not in errors
            continue
        found = errors[position] if position in errors else int(values[position])
        assert bool(is_valid[position]) == (position not in errors)
        assert found == one(amount, currency)


def one(amount: str, currency: str) -> int | str:
    try:
        return to_minor(amount, currency)
    except MoneyError as error:
        return str(error)


@given(st.lists(st.tuples(INT64, CURRENCIES), max_size=30))
def test_a_column_of_good_amounts_is_exact(rows: list[tuple[int, str]]) -> None:
    values, is_valid, errors = column_to_minor([from_minor(a, c) for a, c in rows], [c for _, c in rows])
    assert values.tolist() == [a for a, _ in rows]
    assert is_valid.all()
    assert errors == {}


@given(INT64, CURRENCIES, CURRENCIES, st.decimals("0.000001", "100000", places=6))
def test_conversion_rounds_half_to_even(amount: int, currency: str, base: str, rate: Decimal) -> None:
    exact = Fraction(amount) * Fraction(rate) * Fraction(10) ** (DIGITS[base] - DIGITS[currency])
    assert convert_minor(amount, currency, base, rate) == round(exact)  # Fraction rounds half to even


@pytest.mark.parametrize(("amount", "expected"), [(1, 0), (3, 2), (5, 2), (7, 4), (-1, 0), (-3, -2), (-5, -2)])
def test_halves_go_to_the_even_neighbour(amount: int, expected: int) -> None:
    assert convert_minor(amount, "EUR", "USD", Decimal("0.5")) == expected
    assert divide_half_even(amount, 2) == expected


@given(st.integers(-(10**40), 10**40), st.integers(1, 10**20))
def test_division_is_the_nearest_integer_with_halves_to_even(numerator: int, denominator: int) -> None:
    assert divide_half_even(numerator, denominator) == round(Fraction(numerator, denominator))


def test_money_is_printed_with_its_digits() -> None:
    assert format_minor(123450, "USD") == "1,234.50 USD"
    assert format_minor(-1500, "JPY") == "-1,500 JPY"
    assert format_minor(1500, "KWD") == "1.500 KWD"
