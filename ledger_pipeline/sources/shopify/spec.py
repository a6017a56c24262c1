"""Shopify: orders with their refunds, and what Shopify Payments moves, pays out and disputes.

API reference: https://shopify.dev/docs/api/admin-graphql/2026-10. One endpoint, GraphQL, priced by calculated cost.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, SecretStr

from ledger_pipeline.connect.auth import HeaderKeys
from ledger_pipeline.connect.client import Client, Response
from ledger_pipeline.connect.environments import by_host
from ledger_pipeline.connect.errors import AuthError, ConnectError, RequestRejected
from ledger_pipeline.connect.limits import Cost, CostLimit
from ledger_pipeline.connect.probe import Probe, Quota
from ledger_pipeline.connect.redact import Secret
from ledger_pipeline.connect.source import Options, Source, Stream
from ledger_pipeline.connect.webhook import BodyHmac, Webhook
from ledger_pipeline.connect.window import Search
from ledger_pipeline.sources.shopify import queries
from ledger_pipeline.sources.shopify.mapping import MAPPINGS
from ledger_pipeline.sources.shopify.reader import PATH, AccountConnection, Orders, PaymentsList, envelope

FORBIDDEN = ("ACCESS_DENIED", "UNAUTHORIZED", "FORBIDDEN")
DISPUTE_LOOKBACK_DAYS = 180
"""Disputes can be asked for by the day they were opened, not decided, which may be months later."""
PAYOUT_LOOKBACK_DAYS = 14
"""Payouts likewise, until they have arrived or failed."""


class ShopifyOptions(Options):
    """What ledger.yaml says about a shop."""

    shop_url: str = Field(description="https://{shop}.myshopify.com")
    access_token: SecretStr = Field(description="Admin API token: read_orders, read_shopify_payments.")
    page_size: int = Field(queries.MAX_PAGE_SIZE, ge=1, le=queries.MAX_PAGE_SIZE, description="Orders per page.")
    bulk_from: int = Field(2000, ge=1, description="Orders in a window from which a bulk operation is used.")
    home_jurisdiction: str = Field("", description="Where an order without a shipping address is taxed (US-NY, GB).")

    tells: ClassVar = {"shop_url": by_host(live=(".myshopify.com",))}


def throttled(response: Response) -> float | None:
    """Seconds until the bucket holds what the query costs, where a 200 says THROTTLED."""
    found = envelope(response)
    if found is None or isinstance(found.errors, str) or not any(error.code == "THROTTLED" for error in found.errors):
        return None
    cost = found.extensions.cost
    if cost is None or cost.throttleStatus.restoreRate <= 0:
        return 1.0
    missing = cost.requestedQueryCost - cost.throttleStatus.currentlyAvailable
    return max(0.05, missing / cost.throttleStatus.restoreRate)


def refused(response: Response) -> ConnectError | None:
    """The error that a 200 really is: any `errors`, and a search term that Shopify left out of account."""
    found = envelope(response)
    if found is None:
        return None
    if isinstance(found.errors, str):
        return response.fault(RequestRejected, found.errors, provider_message=found.errors)
    if found.errors:
        first = found.errors[0]
        where = f" at {'.'.join(map(str, first.path))}" if first.path else ""
        code = f" ({first.code})" if first.code else ""
        more = f", and {len(found.errors) - 1} more" if len(found.errors) > 1 else ""
        message = f"{first.message}{where}{code}{more}"
        if any(error.code in FORBIDDEN for error in found.errors):
            return response.fault(AuthError, message)
        return response.fault(RequestRejected, message, provider_message=first.message)
    ignored = [warning for one in found.extensions.search for warning in one.get("warnings", ())]
    if ignored:
        words = "; ".join(f"{one.get('field')}: {one.get('message')}" for one in ignored)
        return response.fault(RequestRejected, f"Shopify ignored a part of the search: {words}", provider_message=words)
    return None


def reported(response: Response) -> Cost | None:
    """Points left, restored per second, and asked for."""
    found = envelope(response)
    cost = found.extensions.cost if found else None
    if cost is None:
        return None
    return Cost(cost.throttleStatus.currentlyAvailable, cost.throttleStatus.restoreRate, cost.requestedQueryCost)


def points(response: Response) -> Quota | None:
    """What is left of the bucket of query costs."""
    found = envelope(response)
    cost = found.extensions.cost if found else None
    if cost is None:
        return None
    return Quota(
        int(cost.throttleStatus.currentlyAvailable), int(cost.throttleStatus.maximumAvailable) or None, "points"
    )


def connect(connection: str, options: ShopifyOptions) -> Client:
    """A client of one shop."""
    return Client(
        connection,
        options.shop_url,
        HeaderKeys({"X-Shopify-Access-Token": Secret(options.access_token.get_secret_value())}),
        CostLimit(reported),
        throttled=throttled,
        refused=refused,
    )


def _payments(field: str, query: str, filter_: str, lookback_days: int = 0) -> PaymentsList:
    template = f"{filter_}:>='{{start}}' AND {filter_}:<'{{end}}'"
    return PaymentsList(
        page=AccountConnection(f"data.shopifyPaymentsAccount.{field}", limit_variable="first", limit=100),
        cursor=Search("query", template, place="variables", lookback_days=lookback_days),
        method="POST",
        json={"query": query, "variables": {}},
    )


WEBHOOK = Webhook(
    BodyHmac("X-Shopify-Hmac-Sha256"),
    topic=("header:X-Shopify-Topic",),
    event_id=("header:X-Shopify-Webhook-Id",),
    subject=("id",),
    occurred_at="header:X-Shopify-Triggered-At",
    streams=(
        ("orders/*", ("orders",)),
        ("refunds/*", ("orders",)),
        ("order_transactions/*", ("orders", "balance_transactions")),
        ("tender_transactions/*", ("orders", "balance_transactions")),
        ("disputes/*", ("disputes", "balance_transactions")),
    ),
    is_id_signed=False,
    keeps_body=False,
)

SOURCE = Source(
    "shopify",
    "Shopify",
    streams=(
        Stream(
            "orders",
            Orders(),
            record_id="legacyResourceId",
            updated_at="updatedAt",
            control=("totalPriceSet.shopMoney.amount", "totalPriceSet.shopMoney.currencyCode"),
            doc="Orders that changed in the window, each with its lines, taxes, payments and refunds as they are now.",
        ),
        Stream(
            "balance_transactions",
            _payments("balanceTransactions", queries.BALANCE_TRANSACTIONS, "processed_at"),
            control=("amount.amount", "amount.currencyCode"),
            doc="Every movement of the Shopify Payments balance, on the day it was made.",
        ),
        Stream(
            "payouts",
            _payments("payouts", queries.PAYOUTS, "issued_at", PAYOUT_LOOKBACK_DAYS),
            control=("net.amount", "net.currencyCode"),
            doc="What Shopify Payments sent to the bank.",
        ),
        Stream(
            "disputes",
            _payments("disputes", queries.DISPUTES, "initiated_at", DISPUTE_LOOKBACK_DAYS),
            control=("amount.amount", "amount.currencyCode"),
            doc="Disputes opened in the last half year, as they are now.",
        ),
    ),
    mappings=MAPPINGS,
    options=ShopifyOptions,
    connect=connect,
    webhook=WEBHOOK,
    probe=Probe("POST", PATH, json={"query": "{ shop { id } }"}, quota=points),
)
