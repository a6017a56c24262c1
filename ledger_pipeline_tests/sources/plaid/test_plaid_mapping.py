"""Plaid's transactions and accounts become canonical rows; deletion notices stage nothing."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

import pytest

from ledger_pipeline.connect.mapping import Mapped, Settings
from ledger_pipeline.sources.plaid.spec import SOURCE

RULES = [
    {"contains": "stripe", "role": "payout_in_transit", "direction": "both"},
    {"contains": "REFUND", "role": "software", "direction": "in"},
]


def line(**changes: Any) -> dict[str, Any]:
    base = {
        "transaction_id": "t1",
        "account_id": "a1",
        "date": "2026-10-05",
        "pending": False,
        "name": "STRIPE TRANSFER",
    }
    return {**base, "amount": -12.3, "iso_currency_code": "USD", "unofficial_currency_code": None, **changes}


def mapped(stream: str, payload: dict[str, Any] | str) -> Mapped:
    text = payload if isinstance(payload, str) else json.dumps(payload)
    return SOURCE.plans()[stream].run([text], [1], Settings("plaid_us", {"categorise": RULES}))


def the_row(found: Mapped, record: str = "bank_transaction") -> dict[str, Any]:
    assert found.faults == ()
    (row,) = found.tables[record].to_pylist()
    return row


def test_money_in_is_negative_at_plaid_and_positive_in_the_books() -> None:
    row = the_row(mapped("transactions", line()))
    expected = {
        "booked_on": date(2026, 10, 5),
        "state": "booked",
        "amount_minor": 1230,
        "bank_role": "bank:a1",
        "role": "payout_in_transit",
    }
    assert {k: row[k] for k in expected} == expected


def test_an_amount_is_read_digit_by_digit() -> None:
    text = json.dumps(line()).replace("-12.3", "-90071992547409.93")
    assert the_row(mapped("transactions", text))["amount_minor"] == 9_007_199_254_740_993


@pytest.mark.parametrize(
    ("name", "amount", "role"),
    [
        ("Stripe payout", 5, "payout_in_transit"),
        ("ACME REFUND", -5, "software"),
        ("ACME REFUND", 5, "uncategorised_expense"),
        ("SOMETHING ELSE", -5, "unidentified_receipts"),
        (None, 5, "uncategorised_expense"),
    ],
)
def test_the_first_rule_that_fits_says_what_a_line_is(name: str | None, amount: int, role: str) -> None:
    assert the_row(mapped("transactions", line(name=name, amount=amount)))["role"] == role


def test_pending_lines_and_the_one_that_replaces_them() -> None:
    assert the_row(mapped("transactions", line(pending=True)))["state"] == "pending"
    assert the_row(mapped("transactions", line(pending_transaction_id="t0")))["pending_id"] == "t0"


@pytest.mark.parametrize(
    ("changes", "path", "message"),
    [
        ({"amount": 12.345}, "$.amount", "12.345 has more decimals than USD has (2)"),
        ({"amount": None}, "$.amount", "Expected `decimal`, got `null`"),
        (
            {"iso_currency_code": None, "unofficial_currency_code": "USDT"},
            "$.iso_currency_code",
            "unknown currency 'USDT' (not an active ISO 4217 code)",
        ),
        ({"date": "05.10.2026"}, "$.date", "'05.10.2026' is no date (YYYY-MM-DD)"),
    ],
)
def test_what_does_not_fit_is_named(changes: dict[str, Any], path: str, message: str) -> None:
    (fault,) = mapped("transactions", line(**changes)).faults
    assert (fault.path, fault.message) == (path, message)


def test_a_removed_line_is_a_deletion_notice_and_a_malformed_one_is_not() -> None:
    stream = SOURCE.stream("transactions")
    assert stream.told('{"transaction_id": "t1", "account_id": "a1"}') == (None, None, True)
    assert not stream.told(json.dumps(line(amount=None)))[2]


def test_an_account_states_its_balance() -> None:
    account = {
        "account_id": "a1",
        "name": "Checking",
        "balances": {"current": 1234.5, "available": 1000, "iso_currency_code": "USD"},
    }
    row = the_row(mapped("accounts", account), "bank_balance")
    assert (row["kind"], row["amount_minor"], row["currency"]) == ("current", 123450, "USD")
