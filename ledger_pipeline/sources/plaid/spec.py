"""Plaid: booked and pending lines by `/transactions/sync`, and the accounts' balances.

API reference: https://plaid.com/docs/api/products/transactions/#transactionssync. Everything is POST; amounts are JSON numbers, positive = out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec
from pydantic import Field, SecretStr

from ledger_pipeline.connect.auth import BodyKeys
from ledger_pipeline.connect.banking import Rules
from ledger_pipeline.connect.client import Client, Response
from ledger_pipeline.connect.environments import by_host, by_prefix
from ledger_pipeline.connect.limits import Limit
from ledger_pipeline.connect.listing import HttpList
from ledger_pipeline.connect.paging import SinglePage, SyncToken
from ledger_pipeline.connect.probe import Probe
from ledger_pipeline.connect.redact import Secret
from ledger_pipeline.connect.source import Options, Source, Stream
from ledger_pipeline.connect.webhook import SignedBodyHash, Webhook
from ledger_pipeline.connect.window import Snapshot, SyncTokenCursor
from ledger_pipeline.sources.plaid.mapping import MAPPINGS


class PlaidOptions(Options):
    """What ledger.yaml says about a Plaid item (one login at one bank)."""

    client_id: SecretStr
    secret: SecretStr
    access_token: SecretStr = Field(description="The item's access token.")
    base_url: str = "https://production.plaid.com"
    accounts: dict[str, str] = Field(
        default={}, description="Plaid's account id → own name of the account, where another path names it, too."
    )
    categorise: Rules = ()

    tells: ClassVar = {
        "access_token": by_prefix(live=("access-production-",), test=("access-sandbox-",)),
        "base_url": by_host(live=("production.plaid.com",), test=("sandbox.plaid.com",)),
    }
    account_keys: ClassVar = frozenset({"client_id", "secret"})


DENIED = frozenset(
    {
        *("ITEM_LOGIN_REQUIRED", "INVALID_ACCESS_TOKEN", "INVALID_API_KEYS", "ITEM_NOT_FOUND", "ACCESS_NOT_GRANTED"),
        *(
            "INVALID_CREDENTIALS",
            "INVALID_MFA",
            "USER_PERMISSION_REVOKED",
            "PENDING_EXPIRATION",
            "UNAUTHORIZED_ENVIRONMENT",
        ),
    }
)
"""Error codes of a 400 after which only a new key or a new login at the bank helps."""


class _Error(msgspec.Struct):
    error_code: str = ""


def denied(response: Response) -> bool:
    """Plaid says 400 where others say 401."""
    try:
        return msgspec.json.decode(response.json_bytes, type=_Error).error_code in DENIED
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return False


def connect(connection: str, options: PlaidOptions) -> Client:
    """A client of one item; its keys travel in the body."""
    keys = {name: Secret(getattr(options, name).get_secret_value()) for name in ("client_id", "secret", "access_token")}
    return Client(
        connection,
        options.base_url,
        BodyKeys(keys),
        Limit(per_second=10, burst=10),
        headers={"Plaid-Version": "2020-09-14"},
        denied=denied,
    )


def webhook_key(client: Client, key_id: str) -> Mapping[str, Any]:
    """The public key that Plaid signs with, by its id; as a JSON Web Key with `expired_at`."""
    found = client.post("/webhook_verification_key/get", json={"key_id": key_id}).decode(dict[str, Any])
    key: Mapping[str, Any] = found["key"]
    return key


WEBHOOK = Webhook(
    SignedBodyHash("Plaid-Verification"),
    topic=("webhook_type", "webhook_code"),
    subject=("item_id",),
    streams=(("TRANSACTIONS.*", ("transactions", "accounts")),),
    fetch_key=webhook_key,
)

SOURCE = Source(
    "plaid",
    "Plaid",
    streams=(
        Stream(
            "transactions",
            HttpList(
                "/transactions/sync",
                SyncToken(),
                SyncTokenCursor(),
                method="POST",
                json={"count": 500, "options": {"include_original_description": True}},
                record_id="transaction_id",
            ),
            record_id="transaction_id",
            gone_without="date",
            control=("amount", "iso_currency_code"),
            has_cursor=True,
            doc="What changed since the last pull: added, modified, removed. A removed line is only its id.",
        ),
        Stream(
            "accounts",
            HttpList(
                "/accounts/get", SinglePage("accounts"), Snapshot(), method="POST", json={}, record_id="account_id"
            ),
            record_id="account_id",
            doc="The accounts and the balances that the bank states now.",
        ),
    ),
    mappings=MAPPINGS,
    options=PlaidOptions,
    connect=connect,
    webhook=WEBHOOK,
    probe=Probe("POST", "/item/get", json={}),
)
