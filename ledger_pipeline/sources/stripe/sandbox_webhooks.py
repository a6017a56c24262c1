"""Stripe's webhooks as the sandbox sends them: charges, refunds, payouts and disputes, with `Stripe-Signature`."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator
from datetime import date, datetime
from typing import TYPE_CHECKING

from ledger_pipeline.sandbox.hooks import Told
from ledger_pipeline.sandbox.wire import opaque, unix

if TYPE_CHECKING:
    from ledger_pipeline.sandbox.company import Company

TYPES = {
    "charge": "charge.succeeded",
    "refund": "charge.refunded",
    "dispute": "charge.dispute.funds_withdrawn",
    "payout": "payout.created",
}
API_VERSION = "2026-10-28.endive"


def secret(connection: str) -> str:
    """What the endpoint of a connection signs with."""
    return f"whsec_sandbox_{connection}"


def told(company: Company, connection: str, day: date) -> Iterator[Told]:
    """One event per movement of the balance."""
    for one in company.processor_transactions(connection, day):
        name = TYPES.get(one.kind)
        if name is None:
            continue
        event = "evt_1" + opaque("webhook", connection, one.txn_id)
        body = {
            "id": event,
            "object": "event",
            "api_version": API_VERSION,
            "created": unix(one.at),
            "data": {
                "object": {
                    "id": one.source_id,
                    "amount": one.source_amount,
                    "balance_transaction": one.txn_id,
                    "created": unix(one.at),
                    "currency": one.source_currency.lower(),
                }
            },
            "livemode": False,
            "pending_webhooks": 1,
            "request": {"id": None, "idempotency_key": None},
            "type": name,
        }
        yield Told(one.at, name, event, json.dumps(body, indent=2).encode())


def signed(one: Told, connection: str, now: datetime) -> dict[str, str]:
    """The header; Stripe also sends a v0 for test events, which nobody should look at."""
    content = f"{unix(now)}.".encode() + one.body
    signature = hmac.new(secret(connection).encode(), content, hashlib.sha256).hexdigest()
    return {"Stripe-Signature": f"t={unix(now)},v1={signature},v0={opaque(one.id, length=64)}"}
