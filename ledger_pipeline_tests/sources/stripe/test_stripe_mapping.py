"""Stripe's objects become canonical rows; what isn't known is refused by name."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from ledger_pipeline.connect.mapping import Mapped, Settings
from ledger_pipeline.sources.stripe.spec import SOURCE

AT = 1_791_201_600  # 2026-10-05 12:00:00 UTC


def mapped(stream: str, *payloads: dict[str, Any]) -> Mapped:
    return SOURCE.plans()[stream].run(
        [json.dumps(p) for p in payloads], range(1, len(payloads) + 1), Settings("stripe_us")
    )


def transaction(**changes: Any) -> dict[str, Any]:
    base = {
        "id": "txn_1",
        "object": "balance_transaction",
        "type": "charge",
        "reporting_category": "charge",
        "created": AT,
    }
    money = {"amount": 9950, "fee": 319, "net": 9631, "currency": "usd", "exchange_rate": None, "description": None}
    source = {"id": "ch_1", "object": "charge", "amount": 9950, "currency": "usd", "metadata": {"order_id": "42"}}
    return {**base, **money, "source": source, **changes}


def the_row(found: Mapped, record: str = "processor_transaction") -> dict[str, Any]:
    assert found.faults == ()
    (row,) = found.tables[record].to_pylist()
    return row


def test_a_charge_of_an_order() -> None:
    row = the_row(mapped("balance_transactions", transaction()))
    assert row["occurred_at"] == datetime(2026, 10, 5, 12, tzinfo=UTC)
    expected = {
        "kind": "charge",
        "currency": "USD",
        "amount_minor": 9950,
        "fee_minor": 319,
        "net_minor": 9631,
        "order_id": "42",
    }
    assert {k: row[k] for k in expected} == expected
    assert (row["role"], row["settled_minor"], row["settled_currency"]) == ("order_clearing:stripe", 9950, "USD")


def test_a_charge_in_yen_keeps_what_the_customer_paid_and_the_exact_rate() -> None:
    source = {"id": "ch_1", "object": "charge", "amount": 15000, "currency": "jpy", "metadata": {"order_id": "42"}}
    row = the_row(mapped("balance_transactions", transaction(source=source, exchange_rate=0.006633)))
    assert (row["settled_minor"], row["settled_currency"], row["exchange_rate"]) == (15000, "JPY", "0.006633")


def test_a_refund_in_dinars_is_negative_on_both_sides() -> None:
    source = {"id": "re_1", "object": "refund", "amount": 12340, "currency": "kwd", "metadata": {"order_id": "42"}}
    refund = transaction(type="refund", reporting_category="refund", amount=-4010, fee=0, net=-4010, source=source)
    row = the_row(mapped("balance_transactions", refund))
    assert (row["kind"], row["amount_minor"], row["settled_minor"], row["settled_currency"]) == (
        "refund",
        -4010,
        -12340,
        "KWD",
    )


@pytest.mark.parametrize(
    ("metadata", "invoice", "role"),
    [
        ({"order_id": "42"}, None, "order_clearing:stripe"),
        ({}, "in_1", "accounts_receivable"),
        ({}, None, "unidentified_receipts"),
    ],
)
def test_the_other_side_of_a_charge(metadata: dict[str, str], invoice: str | None, role: str) -> None:
    source = {"id": "ch_1", "amount": 9950, "currency": "usd", "metadata": metadata, "invoice": invoice}
    assert the_row(mapped("balance_transactions", transaction(source=source)))["role"] == role


@pytest.mark.parametrize(
    ("type_", "category", "kind"),
    [
        ("payment", "charge", "charge"),
        ("payment_refund", "refund", "refund"),
        ("refund_failure", "refund_failure", "refund_failure"),
        ("adjustment", "dispute", "dispute"),
        ("adjustment", "dispute_reversal", "dispute_reversal"),
        ("payout", "payout", "payout"),
        ("payout_failure", "payout_reversal", "payout_failure"),
        ("stripe_fee", "fee", "fee"),
        ("reserved_funds", "risk_reserved_funds", "reserve"),
    ],
)
def test_kinds(type_: str, category: str, kind: str) -> None:
    row = the_row(mapped("balance_transactions", transaction(type=type_, reporting_category=category)))
    assert row["kind"] == kind
    is_payment = kind in ("charge", "refund", "refund_failure")
    assert row["settled_minor"] == (9950 if is_payment else row["amount_minor"])


def test_an_unknown_type_is_refused_by_name() -> None:
    (fault,) = mapped(
        "balance_transactions", transaction(type="climate_order_purchase", reporting_category="climate")
    ).faults
    assert fault.path == "$.type"
    assert (
        fault.message == "unknown balance transaction type 'climate_order_purchase' with reporting category 'climate'"
    )


def test_a_fee_without_a_source_and_an_unexpanded_source() -> None:
    fee = transaction(type="stripe_fee", reporting_category="fee", source=None, amount=-500, fee=0, net=-500)
    assert the_row(mapped("balance_transactions", fee))["source_object_id"] is None
    (fault,) = mapped("balance_transactions", transaction(source="ch_1")).faults
    assert (fault.path, fault.message) == ("$.source", "Expected `object | null`, got `str`")


def dispute(**changes: Any) -> dict[str, Any]:
    moved = [{"amount": -8492, "currency": "usd", "fee": 1500}]
    base = {"id": "du_1", "created": AT, "currency": "cad", "amount": 11700, "charge": "ch_1", "metadata": {}}
    return {**base, "status": "needs_response", "balance_transactions": moved, **changes}


def test_a_dispute_is_worth_what_left_the_balance() -> None:
    row = the_row(mapped("disputes", dispute()), "dispute")
    assert (row["state"], row["amount_minor"], row["currency"], row["decided_at"]) == ("open", 8492, "USD", None)


def test_a_loss_is_dated_by_its_event_only() -> None:
    assert the_row(mapped("disputes", dispute(status="lost")), "dispute")["state"] == "lost_undated"
    event = {
        "id": "evt_1",
        "type": "charge.dispute.closed",
        "created": AT + 86_400,
        "data": {"object": dispute(status="lost")},
    }
    row = the_row(mapped("events", event), "dispute")
    assert (row["state"], row["decided_at"]) == ("lost", datetime(2026, 10, 6, 12, tzinfo=UTC))


def test_a_payouts_event_is_no_dispute() -> None:
    payout = {"id": "po_1", "created": AT, "status": "failed", "currency": "usd", "amount": 1000, "arrival_date": AT}
    found = mapped("events", {"id": "evt_2", "type": "payout.failed", "created": AT, "data": {"object": payout}})
    assert found.tables["dispute"].num_rows == 0
    assert the_row(found, "payout")["state"] == "failed"


def test_what_the_account_is_asked_for_shows_no_key() -> None:
    options = SOURCE.options.model_validate({"api_key": "sk_live_canary"})
    assert "sk_live_canary" not in repr(options)
    assert SOURCE.connect is not None
    with SOURCE.connect("stripe_us", options) as client:
        assert "sk_live_canary" not in repr(client.auth)
        assert client.redactor("Bearer sk_live_canary") == "Bearer ***"


def test_a_payouts_members_name_it_and_are_not_transactions_again() -> None:
    own = {"id": "txn_po", "source": "po_1", "net": -9631, "currency": "usd"}
    document = {
        "payout": "po_1",
        "balance_transactions": [{"id": "txn_1", "source": "ch_1", "net": 9631, "currency": "usd"}, own],
    }
    found = mapped("payout_members", document)
    row = the_row(found, "payout_member")
    assert (row["source_id"], row["payout_id"], row["transaction_id"], row["net_minor"]) == (
        "txn_1",
        "po_1",
        "txn_1",
        9631,
    )
    assert "processor_transaction" not in found.tables
