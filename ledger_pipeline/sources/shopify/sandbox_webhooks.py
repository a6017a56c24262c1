"""Shopify's webhooks as the sandbox sends them: orders and refunds, signed over the body alone."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Iterator
from datetime import date, datetime
from typing import TYPE_CHECKING

from ledger_pipeline.sandbox.hooks import Told
from ledger_pipeline.sandbox.wire import iso_z, opaque

if TYPE_CHECKING:
    from ledger_pipeline.sandbox.company import Company


def secret(connection: str) -> str:
    """The app's client secret."""
    return f"sandbox_{connection}"


def told(company: Company, connection: str, day: date) -> Iterator[Told]:
    """`orders/create` for the day's orders and `refunds/create` for their refunds, with a few fields of many."""
    for order in company.orders(connection, day):
        body = {
            "id": order.order_id,
            "admin_graphql_api_id": f"gid://shopify/Order/{order.order_id}",
            "created_at": iso_z(order.at),
            "updated_at": iso_z(order.at),
            "currency": order.shop_currency,
            "name": order.name,
            "email": f"customer{order.customer_id}@example.invalid",
        }
        yield _told(order.at, "orders/create", connection, order.order_id, body)
        for refund in order.refunds:
            body = {"id": refund.refund_id, "order_id": order.order_id, "created_at": iso_z(refund.at)}
            yield _told(refund.at, "refunds/create", connection, refund.refund_id, body)


def _told(at: datetime, topic: str, connection: str, number: int, body: dict[str, object]) -> Told:
    return Told(
        at, topic, opaque(topic, connection, number, length=32), json.dumps(body, separators=(",", ":")).encode()
    )


def signed(one: Told, connection: str, now: datetime) -> dict[str, str]:
    """The headers; only the body is signed."""
    digest = hmac.new(secret(connection).encode(), one.body, hashlib.sha256).digest()
    return {
        "X-Shopify-Hmac-Sha256": base64.b64encode(digest).decode(),
        "X-Shopify-Topic": one.topic,
        "X-Shopify-Webhook-Id": one.id,
        "X-Shopify-Event-Id": opaque("event", one.id, length=32),
        "X-Shopify-Triggered-At": iso_z(one.at),
        "X-Shopify-API-Version": "2026-10",
        "X-Shopify-Shop-Domain": f"{connection}.myshopify.com",
    }
