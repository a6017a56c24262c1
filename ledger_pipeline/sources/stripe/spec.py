"""Stripe: the balance transactions with the objects behind them, payouts, disputes, and the events that tell of late changes.

API reference: https://docs.stripe.com/api. Version 2026-10-28.endive.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, SecretStr

from ledger_pipeline.connect.auth import Bearer
from ledger_pipeline.connect.client import Client
from ledger_pipeline.connect.environments import by_host, by_prefix
from ledger_pipeline.connect.limits import Limit
from ledger_pipeline.connect.listing import HttpList
from ledger_pipeline.connect.paging import StartingAfter
from ledger_pipeline.connect.probe import Probe
from ledger_pipeline.connect.redact import Secret
from ledger_pipeline.connect.source import Options, Source, Stream
from ledger_pipeline.connect.webhook import TimedHmac, Webhook
from ledger_pipeline.connect.window import Created
from ledger_pipeline.sources.stripe.mapping import MAPPINGS
from ledger_pipeline.sources.stripe.members import PayoutMembers

VERSION = "2026-10-28.endive"
LATE_EVENTS = ("charge.dispute.closed", "payout.paid", "payout.failed", "payout.canceled")
"""Changes that no list can be asked for by date; the API keeps events for 30 days."""


class StripeOptions(Options):
    """What ledger.yaml says about a Stripe account."""

    api_key: SecretStr = Field(
        description="Secret or restricted key with read access to balance, payouts, disputes and events."
    )
    base_url: str = "https://api.stripe.com"
    account: str = Field("", description="Connected account (acct_…), for platforms.")

    tells: ClassVar = {
        "api_key": by_prefix(live=("sk_live_", "rk_live_"), test=("sk_test_", "rk_test_")),
        "base_url": by_host(),  # api.stripe.com serves live and test keys
    }


def connect(connection: str, options: StripeOptions) -> Client:
    """A client of one account; 25 requests a second, because a sandbox account allows no more."""
    headers = {"Stripe-Version": VERSION} | ({"Stripe-Account": options.account} if options.account else {})
    return Client(
        connection,
        options.base_url,
        Bearer(Secret(options.api_key.get_secret_value())),
        Limit(per_second=25, burst=25),
        headers=headers,
    )


WEBHOOK = Webhook(
    TimedHmac("Stripe-Signature"),
    topic=("type",),
    event_id=("id",),
    subject=("data.object.id",),
    occurred_at="created",
    streams=(
        ("charge.*", ("balance_transactions",)),
        ("refund.*", ("balance_transactions",)),
        ("transfer.*", ("balance_transactions",)),
        ("topup.*", ("balance_transactions",)),
        ("payout.*", ("balance_transactions", "payouts", "events")),
        ("charge.dispute.*", ("disputes", "events")),
    ),
)
_PAGE = StartingAfter(limit=100, items="data", more="has_more")

SOURCE = Source(
    "stripe",
    "Stripe",
    streams=(
        Stream(
            "balance_transactions",
            HttpList("/v1/balance_transactions", _PAGE, Created("created"), params={"expand[]": "data.source"}),
            control=("amount", "currency"),
            control_unit="minor",
            doc="Every movement of the balance, with the charge, refund, dispute or payout behind it. Never changes once written.",
        ),
        Stream(
            "payouts",
            HttpList("/v1/payouts", _PAGE, Created("created")),
            control=("amount", "currency"),
            control_unit="minor",
            doc="What was sent to the bank.",
        ),
        Stream(
            "payout_members",
            PayoutMembers(_PAGE),
            record_id="payout",
            doc="Which balance transactions each automatic payout carried, once Stripe has reconciled it. A reference: no money is booked from it.",
        ),
        Stream(
            "disputes",
            HttpList("/v1/disputes", _PAGE, Created("created")),
            control=("amount", "currency"),
            control_unit="minor",
            doc="Disputes opened on the day, as they are now.",
        ),
        Stream(
            "events",
            HttpList("/v1/events", _PAGE, Created("created"), params={"types[]": list(LATE_EVENTS)}),
            doc="Late changes: disputes that were decided, payouts that arrived or failed.",
        ),
    ),
    mappings=MAPPINGS,
    options=StripeOptions,
    connect=connect,
    webhook=WEBHOOK,
    probe=Probe("GET", "/v1/balance"),
)
