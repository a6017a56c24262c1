"""Stripe's objects as canonical records. Amounts are integers in minor units with a lower-case currency; times are Unix seconds."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import pyarrow as pa

from ledger_pipeline.connect.convert import constant, currency, date_unix, each, lookup, minor_units, text, time_unix
from ledger_pipeline.connect.mapping import Column, Converter, Field, Mapping, Report, Where

_KINDS = {
    "charge": "charge",
    "payment": "charge",
    "refund": "refund",
    "payment_refund": "refund",
    "refund_failure": "refund_failure",
    "payment_failure_refund": "refund_failure",
    "payout": "payout",
    "payout_cancel": "payout_failure",
    "payout_failure": "payout_failure",
    "stripe_fee": "fee",
    "stripe_fx_fee": "fee",
    "tax_fee": "fee",
    "application_fee": "fee",
    "network_cost": "fee",
    "reserve_transaction": "reserve",
    "reserved_funds": "reserve",
    "reserve_hold": "reserve",
    "reserve_release": "reserve",
    "payment_network_reserve_hold": "reserve",
    "payment_network_reserve_release": "reserve",
}
"""Balance transaction types (https://docs.stripe.com/reports/balance-transaction-types); one that isn't here is quarantined."""
_ADJUSTMENTS = {
    "dispute": "dispute",
    "dispute_reversal": "dispute_reversal",
    "fee": "fee",
    "refund_failure": "refund_failure",
}


def _kind(type_: str, category: str | None) -> str:
    found = _ADJUSTMENTS.get(category or "") if type_ == "adjustment" else _KINDS.get(type_)
    if found is None:
        raise ValueError(f"unknown balance transaction type {type_!r} with reporting category {category!r}")
    return found


def _settled(amount: int, source_amount: int | None, type_: str) -> int:
    """What the customer paid, with the sign of the balance movement; the movement itself where no payment is behind it."""
    if source_amount is None or _KINDS.get(type_) not in ("charge", "refund", "refund_failure"):
        return amount
    return source_amount if amount >= 0 else -source_amount


def _settled_currency(own: str, source: str | None, type_: str) -> str:
    is_payment = _KINDS.get(type_) in ("charge", "refund", "refund_failure")
    return (source if source and is_payment else own).upper()


def _role(order_id: str | None, invoice: str | None) -> str:
    return "order_clearing:stripe" if order_id else "accounts_receivable" if invoice else "unidentified_receipts"


def _rate(value: Decimal | None) -> str | None:
    return None if value is None else format(value, "f")


KIND = each(
    "kind of balance transaction", "type, and reporting_category for adjustments.", ("str", "str"), _kind, pa.string()
)
SETTLED = each(
    "what the customer paid",
    "source.amount with the sign of the movement.",
    ("int", "int", "str"),
    _settled,
    pa.int64(),
)
SETTLED_CURRENCY = each(
    "its currency", "source.currency for payments.", ("str", "str", "str"), _settled_currency, pa.string()
)
ROLE = each(
    "order, invoice or unknown",
    "order_clearing:stripe where metadata names the order, accounts_receivable for an invoice, else unidentified_receipts.",
    ("str", "str"),
    _role,
    pa.string(),
)
RATE = each("exact decimal", "A JSON number, digit by digit.", ("number",), _rate, pa.string())

_DISPUTE_STATES = {
    "warning_needs_response": "open",
    "warning_under_review": "open",
    "warning_closed": "won",
    "needs_response": "open",
    "under_review": "open",
    "won": "won",
    "prevented": "won",
    "charge_refunded": "won",
    "lost": "lost_undated",
}
_PAYOUT_STATES = {s: s for s in ("pending", "in_transit", "paid", "failed", "canceled")}


def _withdrawn(amount: int, moved: list[int] | None) -> int:
    """What left the balance, in its currency; the disputed amount while nothing has moved."""
    return -sum(m for m in moved if m < 0) if moved else amount


def _withdrawn_currency(own: str, moved: list[str] | None) -> str:
    return (moved[0] if moved else own).upper()


WITHDRAWN = each(
    "what left the balance", "The negative balance_transactions, summed.", ("int", "int"), _withdrawn, pa.int64()
)
WITHDRAWN_CURRENCY = each(
    "the balance's currency", "balance_transactions' currency.", ("str", "str"), _withdrawn_currency, pa.string()
)


def _is_dispute(columns: Sequence[Column], report: Report) -> pa.Array:
    return pa.array([(v or "").startswith("charge.dispute.") for v in columns[0]], pa.bool_())


def _is_payout(columns: Sequence[Column], report: Report) -> pa.Array:
    return pa.array([(v or "").startswith("payout.") for v in columns[0]], pa.bool_())


IS_DISPUTE = Converter("is a dispute's event", ("str",), _is_dispute, "type begins with charge.dispute.")
IS_PAYOUT = Converter("is a payout's event", ("str",), _is_payout, "type begins with payout.")

IS_CARRIED = each(
    "is carried by it",
    "Its source is not the payout itself.",
    ("str", "str"),
    lambda source, payout: source != payout,
    pa.bool_(),
)

_STRIPE = constant("stripe", pa.string())

BALANCE_TRANSACTION = Mapping(
    "processor_transaction",
    "balance_transactions",
    fields=(
        Field("source_id", ("id",), text),
        Field("processor", (), _STRIPE),
        Field("kind", ("type", "reporting_category?"), KIND),
        Field("occurred_at", ("created",), time_unix),
        Field("currency", ("currency",), currency),
        Field("amount_minor", ("amount",), minor_units),
        Field("fee_minor", ("fee",), minor_units),
        Field("net_minor", ("net",), minor_units),
        Field("role", ("source?.metadata?.order_id?", "source?.invoice?"), ROLE),
        Field("source_object_id", ("source?.id?",), text),
        Field("settled_minor", ("amount", "source?.amount?", "type"), SETTLED),
        Field("settled_currency", ("currency", "source?.currency?", "type"), SETTLED_CURRENCY),
        Field("exchange_rate", ("exchange_rate?",), RATE),
        Field("order_id", ("source?.metadata?.order_id?",), text),
        Field("description", ("description?",), text),
    ),
)
PAYOUT = Mapping(
    "payout",
    "payouts",
    fields=(
        Field("source_id", ("id",), text),
        Field("processor", (), _STRIPE),
        Field("occurred_at", ("created",), time_unix),
        Field("state", ("status",), lookup("payout status", _PAYOUT_STATES)),
        Field("currency", ("currency",), currency),
        Field("amount_minor", ("amount",), minor_units),
        Field("arrives_on", ("arrival_date?",), date_unix),
    ),
)
PAYOUT_MEMBER = Mapping(
    "payout_member",
    "payout_members",
    each="balance_transactions[]",
    where=Where(("source?", "^.payout"), IS_CARRIED),
    fields=(
        Field("source_id", ("id",), text),
        Field("processor", (), _STRIPE),
        Field("payout_id", ("^.payout",), text),
        Field("transaction_id", ("id",), text),
        Field("currency", ("currency",), currency),
        Field("net_minor", ("net",), minor_units),
    ),
    doc="The payout's own movements stand in its list, too, and are left out.",
)
DISPUTE = Mapping(
    "dispute",
    "disputes",
    fields=(
        Field("source_id", ("id",), text),
        Field("processor", (), _STRIPE),
        Field("opened_at", ("created",), time_unix),
        Field("state", ("status",), lookup("dispute status", _DISPUTE_STATES)),
        Field("currency", ("currency", "balance_transactions?[].currency"), WITHDRAWN_CURRENCY),
        Field("amount_minor", ("amount", "balance_transactions?[].amount"), WITHDRAWN),
        Field("charge_id", ("charge?",), text),
        Field("order_id", ("metadata?.order_id?",), text),
    ),
    doc="As it was when it was pulled. The day of a decision is only in the event, so a loss is booked from there.",
)
_OF = "data.object."
DISPUTE_EVENT = Mapping(
    "dispute",
    "events",
    where=Where(("type?",), IS_DISPUTE),
    fields=(
        Field("source_id", (_OF + "id",), text),
        Field("processor", (), _STRIPE),
        Field("opened_at", (_OF + "created",), time_unix),
        Field("decided_at", ("created",), time_unix),
        Field("state", (_OF + "status",), lookup("dispute status", _DISPUTE_STATES | {"lost": "lost"})),
        Field("currency", (_OF + "currency", _OF + "balance_transactions?[].currency"), WITHDRAWN_CURRENCY),
        Field("amount_minor", (_OF + "amount", _OF + "balance_transactions?[].amount"), WITHDRAWN),
        Field("charge_id", (_OF + "charge?",), text),
        Field("order_id", (_OF + "metadata?.order_id?",), text),
    ),
)
PAYOUT_EVENT = Mapping(
    "payout",
    "events",
    where=Where(("type?",), IS_PAYOUT),
    fields=(
        Field("source_id", (_OF + "id",), text),
        Field("processor", (), _STRIPE),
        Field("occurred_at", (_OF + "created",), time_unix),
        Field("state", (_OF + "status",), lookup("payout status", _PAYOUT_STATES)),
        Field("currency", (_OF + "currency",), currency),
        Field("amount_minor", (_OF + "amount",), minor_units),
        Field("arrives_on", (_OF + "arrival_date?",), date_unix),
    ),
)
MAPPINGS = (BALANCE_TRANSACTION, PAYOUT, PAYOUT_MEMBER, DISPUTE, DISPUTE_EVENT, PAYOUT_EVENT)
