"""Ids that look like the providers' own and carry their day, so that an object is found from its id without a search.

A source object is (day, index, n): `index` is the order's place in its day (or one of the reserved ones below),
`n` the event within it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from functools import cache
from hashlib import sha256

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_VALUE = {letter: value for value, letter in enumerate(_DIGITS)}
_EPOCH = date(1970, 1, 1).toordinal()
_MASK = (1 << 48) - 1
_ODD = 0x9E3779B97F4B
_INVERSE = pow(_ODD, -1, 1 << 48)

PER_INDEX = 64
MAX_INDEX = 156_249  # 7 decimal digits hold (index, n)
PAYOUT_INDEX = 156_000  # + the currency's number
UNKNOWN_PAYMENT_INDEX = 156_100  # + the payment's number of the day
CHARGE_N, REFUND_N, DISPUTE_N, REVERSAL_N = 0, 8, 48, 49

SHOP_DIGIT = {"shopify_us": 5, "shopify_uk": 6}
KIND_DIGIT = {"line": 1, "tender": 2, "refund": 3, "txn": 4, "source": 5, "payout": 6, "dispute": 7, "customer": 8}
STRIPE_PREFIX = {"charge": "ch_3", "refund": "re_3", "txn": "txn_3", "payout": "po_1", "dispute": "du_1"}
_STRIPE_KIND = {prefix: kind for kind, prefix in STRIPE_PREFIX.items()}


@dataclass(frozen=True, slots=True)
class Place:
    """What an id says: `kind` is charge, refund, txn, payout or dispute (Stripe) or a name of KIND_DIGIT (Shopify)."""

    kind: str
    day: date
    index: int
    n: int


def _day_number(day: date) -> int:
    return day.toordinal() - _EPOCH


def _base62(value: int, width: int) -> str:
    letters = []
    for _ in range(width):
        value, digit = divmod(value, 62)
        letters.append(_DIGITS[digit])
    return "".join(reversed(letters))


@cache
def _account_part(connection: str) -> str:
    return _base62(int.from_bytes(sha256(connection.encode()).digest()[:8], "big"), 10)


def stripe_id(connection: str, kind: str, day: date, index: int, n: int) -> str:
    """Such as ch_3Nk4vT0aQ2eZvKYlo2C91xZ: 9 letters of place, 10 of the account, 4 that vary."""
    value = (_day_number(day) << 32) | (index << 8) | n
    mixed = (value * _ODD) & _MASK
    tail = (mixed * 0x5DEECE66D + 11) % 62**4
    return STRIPE_PREFIX[kind] + _base62(mixed, 9) + _account_part(connection) + _base62(tail, 4)


def read_stripe_id(connection: str, text: str) -> Place | None:
    """The place that a Stripe id names, or None when it is none of this connection's."""
    prefix = text[: text.find("_") + 2]
    kind = _STRIPE_KIND.get(prefix)
    body = text[len(prefix) :]
    if kind is None or len(body) != 23 or any(letter not in _VALUE for letter in body):
        return None
    mixed = 0
    for letter in body[:9]:
        mixed = mixed * 62 + _VALUE[letter]
    value = (mixed * _INVERSE) & _MASK
    number, index, n = value >> 32, (value >> 8) & 0xFFFFFF, value & 0xFF
    day = date.fromordinal(_EPOCH + number)
    return Place(kind, day, index, n) if stripe_id(connection, kind, day, index, n) == text else None


def order_id(connection: str, day: date, index: int) -> int:
    """13 digits: the shop's, five of the day, seven of the place in the day."""
    return (SHOP_DIGIT[connection] * 10**5 + _day_number(day)) * 10**7 + index


def read_order_id(connection: str, number: int) -> tuple[date, int] | None:
    rest, index = divmod(number, 10**7)
    digit, day_number = divmod(rest, 10**5)
    if digit != SHOP_DIGIT.get(connection) or not day_number:
        return None
    return date.fromordinal(_EPOCH + day_number), index


def shopify_id(connection: str, kind: str, day: date, index: int, n: int) -> int:
    """14 digits: the shop's, the kind's, five of the day, seven of (index, n)."""
    head = SHOP_DIGIT[connection] * 10 + KIND_DIGIT[kind]
    return (head * 10**5 + _day_number(day)) * 10**7 + index * PER_INDEX + n


def read_shopify_id(connection: str, number: int) -> Place | None:
    rest, serial = divmod(number, 10**7)
    head, day_number = divmod(rest, 10**5)
    digit, kind_digit = divmod(head, 10)
    kind = next((name for name, value in KIND_DIGIT.items() if value == kind_digit), None)
    if digit != SHOP_DIGIT.get(connection) or kind is None or not day_number:
        return None
    index, n = divmod(serial, PER_INDEX)
    return Place(kind, date.fromordinal(_EPOCH + day_number), index, n)


def processor_id(connection: str, kind: str, day: date, index: int, n: int) -> str:
    """`kind`: charge, refund, txn, payout, dispute; in the form of the connection's system."""
    if connection.startswith("stripe_"):
        return stripe_id(connection, kind, day, index, n)
    name = "source" if kind in ("charge", "refund") else kind
    return str(shopify_id(connection, name, day, index, n))


def plaid_id(*parts: object) -> str:
    """37 letters and digits."""
    return _base62(int.from_bytes(sha256("|".join(map(str, parts)).encode()).digest(), "big"), 43)[-37:]
