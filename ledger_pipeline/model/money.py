"""Money as integers in the currency's minor unit, converted exactly and column by column.

The only rounding in the project is `convert_minor` (conversion to base, half to even); everything else either is exact or is an
error that names the value.
"""

from __future__ import annotations

import decimal
from collections.abc import Mapping, Sequence
from decimal import Decimal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Int64s = npt.NDArray[np.int64]

_TWO = (
    "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE CHF CHW "
    "CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR "
    "ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV "
    "MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD "
    "SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST XCD XCG YER ZAR ZMW ZWG"
)
_OTHER = {0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF", 3: "BHD IQD JOD KWD LYD OMR TND"}

DIGITS: Mapping[str, int] = {
    **dict.fromkeys(_TWO.split(), 2),
    **{code: digits for digits, codes in _OTHER.items() for code in codes.split()},
    "CLF": 4,
    "UYW": 4,
}
"""Digits after the decimal point of each currency (ISO 4217 list one; withdrawn codes are not in it)."""

_CONTEXT = decimal.Context(prec=60, rounding=decimal.ROUND_HALF_EVEN, traps=[decimal.InvalidOperation])
_EXACT = decimal.Context(prec=60, traps=[decimal.InvalidOperation, decimal.Inexact])
_INT64_MAX = 2**63 - 1


class MoneyError(ValueError):
    """An amount that can't be expressed exactly in its currency."""


def digits_of(currency: str) -> int:
    """Digits after the decimal point; raises MoneyError for a code that ISO 4217 doesn't list."""
    try:
        return DIGITS[currency]
    except KeyError:
        raise MoneyError(f"unknown currency {currency!r} (not an active ISO 4217 code)") from None


def to_minor(amount: str | Decimal | int, currency: str) -> int:
    """One amount in major units as minor units, exactly: `to_minor("84.49", "USD")` is 8449.

    Raises MoneyError when the text is no plain decimal number, the currency is unknown, or a digit would be lost.
    """
    digits = digits_of(currency)
    try:
        value = amount if isinstance(amount, Decimal) else Decimal(amount)
    except decimal.InvalidOperation:
        raise MoneyError(f"{amount!r} is not a decimal number") from None
    is_plain = not isinstance(amount, str) or (amount.isascii() and "_" not in amount and amount == amount.strip())
    if not value.is_finite() or not is_plain:  # Decimal itself reads 1_000, other scripts' digits and blanks
        raise MoneyError(f"{str(amount)!r} is not a decimal number")
    if value.adjusted() > 18:
        raise MoneyError(f"{amount} {currency} is too large")
    try:
        whole = int(value.scaleb(digits, _EXACT).to_integral_exact(context=_EXACT))
    except decimal.Inexact:
        raise MoneyError(f"{amount} has more decimals than {currency} has ({digits})") from None
    if abs(whole) > _INT64_MAX:
        raise MoneyError(f"{amount} {currency} is too large")
    return whole


def from_minor(amount_minor: int, currency: str) -> Decimal:
    """Minor units as a Decimal in major units, with the currency's digits: `from_minor(1500, "KWD")` is 1.500."""
    return Decimal(int(amount_minor)).scaleb(-digits_of(currency), _CONTEXT)


def format_minor(amount_minor: int, currency: str) -> str:
    """For people: `1,234.50 USD`."""
    return f"{from_minor(amount_minor, currency):,} {currency}"


def column_to_minor(
    amounts: Sequence[str | Decimal | None] | pa.StringArray, currencies: Sequence[str | None] | pa.StringArray
) -> tuple[Int64s, npt.NDArray[np.bool_], dict[int, str]]:
    """A column of major-unit amounts (decimal text or Decimal, None where absent) as minor units.

    Returns (values, is_valid, errors by position). A position that is None in either column is invalid without an error.
    """
    if isinstance(amounts, pa.Array) and isinstance(currencies, pa.Array):
        return _texts_to_minor(amounts, currencies)
    try:
        texts = pa.array(amounts, pa.string())
    except pa.ArrowTypeError:  # Decimals
        texts = pa.array([a if isinstance(a, str) or a is None else format(a, "f") for a in amounts], pa.string())
    return _texts_to_minor(texts, pa.array(currencies, pa.string()))


def _texts_to_minor(
    amounts: pa.StringArray, currencies: pa.StringArray
) -> tuple[Int64s, npt.NDArray[np.bool_], dict[int, str]]:
    values = np.zeros(len(amounts), np.int64)
    is_valid = np.zeros(len(amounts), np.bool_)
    errors: dict[int, str] = {}
    found = pc.unique(currencies).to_pylist()
    if len(found) == 1 and found[0] in DIGITS and not amounts.null_count:  # as a rule: one currency, nothing absent
        minor = _cast(amounts, DIGITS[found[0]])
        if minor is not None:
            return minor, np.ones(len(amounts), np.bool_), errors
    for currency in found:
        mask = pc.and_kleene(pc.equal(currencies, currency), pc.is_valid(amounts))
        where = np.flatnonzero(pc.fill_null(mask, False).to_numpy(zero_copy_only=False))
        if currency is None or not len(where):
            continue
        part = amounts.take(pa.array(where))
        minor = _cast(part, DIGITS[currency]) if currency in DIGITS else None
        if minor is not None:
            values[where], is_valid[where] = minor, True
            continue
        for position, text in zip(where.tolist(), part.to_pylist(), strict=True):  # only where something is wrong
            try:
                values[position], is_valid[position] = to_minor(text, currency), True
            except MoneyError as error:
                errors[position] = str(error)
    return values, is_valid, errors


_LONGEST = 38
"""Characters of a decimal text that Arrow is trusted with."""


def _cast(texts: pa.StringArray, digits: int) -> Int64s | None:
    """Decimal text → decimal128(38, digits) → its unscaled integer, or None when any of them doesn't fit exactly.

    Longer texts aren't given to Arrow: of some it drops the digits behind the fortieth without a word.
    """
    if len(texts) and (pc.max(pc.binary_length(texts)).as_py() or 0) > _LONGEST:
        return None
    try:
        decimals = pc.cast(texts, pa.decimal128(38, digits))
    except pa.ArrowInvalid:
        return None
    words = np.frombuffer(decimals.buffers()[1], np.int64).reshape(-1, 2)[
        decimals.offset : decimals.offset + len(texts)
    ]
    low, high = words[:, 0], words[:, 1]
    can_be_negated = low != ~_INT64_MAX  # -2**63 has no positive counterpart
    return low.copy() if bool(np.all((high == (low >> 63)) & can_be_negated)) else None


def convert_minor(amount_minor: int, currency: str, base: str, rate: Decimal) -> int:
    """An amount at `rate` (base units per one unit of `currency`), rounded half to even to the base's minor unit."""
    shift = digits_of(base) - digits_of(currency)
    exact = _CONTEXT.multiply(Decimal(int(amount_minor)), rate).scaleb(shift, _CONTEXT)
    return int(exact.quantize(Decimal(1), rounding=decimal.ROUND_HALF_EVEN, context=_CONTEXT))


def divide_half_even(numerator: int, denominator: int) -> int:
    """`numerator / denominator` to the nearest integer, halves to even; the denominator is positive."""
    quotient, remainder = divmod(numerator, denominator)
    twice = 2 * remainder
    return quotient + (1 if twice > denominator or (twice == denominator and quotient % 2) else 0)
