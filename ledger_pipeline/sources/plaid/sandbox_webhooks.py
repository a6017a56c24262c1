"""Plaid's webhooks as the sandbox sends them: SYNC_UPDATES_AVAILABLE, with a JWT in `Plaid-Verification`."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import date, datetime
from hashlib import sha256
from typing import TYPE_CHECKING

from ledger_pipeline.sandbox.hooks import Told
from ledger_pipeline.sandbox.wire import opaque, unix
from ledger_pipeline.sources.plaid.sandbox import KEY_ID, webhook_key

if TYPE_CHECKING:
    from ledger_pipeline.sandbox.company import Company


def told(company: Company, connection: str, day: date) -> Iterator[Told]:
    """One per line that appears at the bank."""
    body = {
        "environment": "sandbox",
        "historical_update_complete": True,
        "initial_update_complete": True,
        "item_id": opaque("item", connection, length=37),
        "webhook_code": "SYNC_UPDATES_AVAILABLE",
        "webhook_type": "TRANSACTIONS",
    }
    for account in company.bank_accounts:
        if account.connection != connection:
            continue
        for line in company.bank_lines(connection, account.account_id, day):
            yield Told(
                line.at, "TRANSACTIONS.SYNC_UPDATES_AVAILABLE", line.line_id, json.dumps(body, indent=2).encode()
            )


def _part(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def signed(one: Told, connection: str, now: datetime) -> dict[str, str]:
    """The token: signature as r and s side by side (RFC 7518)."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

    header = _part(json.dumps({"alg": "ES256", "kid": KEY_ID, "typ": "JWT"}).encode())
    claims = _part(json.dumps({"iat": unix(now), "request_body_sha256": sha256(one.body).hexdigest()}).encode())
    text = f"{header}.{claims}"
    r, s = decode_dss_signature(webhook_key().sign(text.encode(), ec.ECDSA(hashes.SHA256())))
    return {"Plaid-Verification": f"{text}.{_part(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"}
