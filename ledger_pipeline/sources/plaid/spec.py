"""Plaid: booked and pending lines by `/transactions/sync`, and the accounts' balances.

API reference: https://plaid.com/docs/api/products/transactions/#transactionssync. Everything is POST; amounts are JSON numbers, positive = out.
"""

from __future__ import annotations

import msgspec
from pydantic import Field, SecretStr

from ledger_pipeline.connect.auth import BodyKeys
from ledger_pipeline.connect.banking import Categorise
from ledger_pipeline.connect.client import Client, Response
from ledger_pipeline.connect.limits import Limit
from ledger_pipeline.connect.listing import HttpList
from ledger_pipeline.connect.paging import SinglePage, SyncToken
from ledger_pipeline.connect.probe import Probe
from ledger_pipeline.connect.redact import Secret
from ledger_pipeline.connect.source import Options, Source, Stream
from ledger_pipeline.connect.window import Snapshot, SyncTokenCursor
from ledger_pipeline.sources.plaid.mapping import MAPPINGS


class PlaidOptions(Options):
    """What ledger.yaml says about a Plaid item (one login at one bank)."""

    client_id: SecretStr
    secret: SecretStr
    access_token: SecretStr = Field(description="The item's access token.")
    base_url: str = "https://production.plaid.com"
    categorise: tuple[Categorise, ...] = ()


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
    probe=Probe("POST", "/item/get", json={}),
)
