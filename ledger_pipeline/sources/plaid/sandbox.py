"""The sandbox's Plaid: /transactions/sync with its cursor loop, accounts with balances, the item, and the webhook key.

A cursor says up to which instant its owner knows the account; what changed since is computed from the bank's lines.
Field names are those of Plaid's published schema, checked with the official SDK's models.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ledger_pipeline.sandbox.events import BankAccount, BankLine
from ledger_pipeline.sandbox.wire import (
    Clock,
    Site,
    days_between,
    iso_z,
    json_response,
    local_day,
    major,
    opaque,
    zone_of,
)

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

    from ledger_pipeline.sandbox.company import Company

CLIENT_ID = "sandbox-client"
VERSION = "2020-09-14"
MAX_COUNT, DEFAULT_COUNT = 500, 100
CHANGE_DAYS = 45  # how long after its first day a line may still change
KEY_ID = "sandbox-webhook-key-1"
DOC = "https://plaid.com/docs/errors/"


def secret(connection: str) -> str:
    return f"sandbox-secret-{connection}"


def access_token(connection: str) -> str:
    return f"access-sandbox-{connection}"


class PlaidError(Exception):
    """Answered with Plaid's error object. Plaid says 400 for wrong keys too."""

    def __init__(self, error_type: str, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status
        self.body = {
            "display_message": None,
            "documentation_url": f"{DOC}{error_type.lower().replace('_', '-')}/#{code.lower()}",
            "error_code": code,
            "error_message": message,
            "error_type": error_type,
            "suggested_action": None,
        }


def refusal(kind: str, retry_after: float) -> Response:
    """Plaid's own answer to a planned fault: 429, 500, 503 or expired_token."""
    if kind == "expired_token":
        message = "the login details of this item have changed (credentials, MFA, or required user action)"
        error = PlaidError("ITEM_ERROR", "ITEM_LOGIN_REQUIRED", message)
    elif kind == "429":
        error = PlaidError(
            "RATE_LIMIT_EXCEEDED", "TRANSACTIONS_LIMIT", "rate limit exceeded for attempts to access this item", 429
        )
    else:
        error = PlaidError("API_ERROR", "INTERNAL_SERVER_ERROR", "an unexpected error occurred", int(kind))
    headers = {"Retry-After": f"{retry_after:g}"} if kind in ("429", "503") else {}
    return json_response(error.body | {"request_id": opaque(kind, length=15)}, error.status, headers)


@dataclass(frozen=True)
class Cursor:
    """`since` is what its owner knew before the loop, `until` the loop's own end; between loops there is no `until`."""

    since: datetime | None
    until: datetime | None = None
    offset: int = 0

    def text(self, connection: str) -> str:
        parts = [
            connection,
            *("" if one is None else one.isoformat() for one in (self.since, self.until)),
            str(self.offset),
        ]
        return base64.b64encode("|".join(parts).encode()).decode()

    @classmethod
    def read(cls, text: str, connection: str) -> Cursor:
        try:
            owner, since, until, offset = base64.b64decode(text, validate=True).decode().split("|")
            found = cls(
                datetime.fromisoformat(since) if since else None,
                datetime.fromisoformat(until) if until else None,
                int(offset),
            )
        except (ValueError, binascii.Error) as error:
            raise PlaidError("INVALID_INPUT", "INVALID_FIELD", "cursor not associated with access_token") from error
        if owner != connection:
            raise PlaidError("INVALID_INPUT", "INVALID_FIELD", "cursor not associated with access_token")
        return found


class Item:
    """One item (a login at a bank) of the company, as of the clock."""

    def __init__(self, company: Company, clock: Clock, connection: str) -> None:
        self.company, self.clock, self.connection = company, clock, connection
        self.zone = zone_of(company, connection)
        self.bank_accounts = [one for one in company.bank_accounts if one.connection == connection]
        self._kept: dict[date, list[BankLine]] = {}

    def lines(self, first: date, last: date) -> Iterator[BankLine]:
        """The lines first seen in those local days, by instant."""
        for day in days_between(max(first, self.company.start), last):
            if day not in self._kept:
                found = [
                    line
                    for account in self.bank_accounts
                    for line in self.company.bank_lines(self.connection, account.account_id, day)
                ]
                self._kept[day] = sorted(found, key=lambda line: (line.at, line.line_id))
            yield from self._kept[day]

    def changes(self, since: datetime | None, until: datetime) -> tuple[list[BankLine], list[BankLine], list[BankLine]]:
        """(added, modified, removed) after `since` and up to `until`.

        A line that came and went within the span is in `removed` only.
        """
        added, modified, removed = [], [], []
        first = self.company.start if since is None else local_day(since, self.zone) - timedelta(days=CHANGE_DAYS)
        for line in self.lines(first, local_day(until, self.zone)):
            if line.at > until:
                continue
            if line.removed_at is not None and line.removed_at <= until:
                if since is None or line.removed_at > since:
                    removed.append(line)
            elif since is None or line.at > since:
                added.append(line)
            elif line.modified_at is not None and since < line.modified_at <= until:
                modified.append(line)
        return added, modified, removed

    def sync(self, body: dict[str, Any]) -> dict[str, Any]:
        """One page of the loop; raises PlaidError when the data changed since the loop's first page."""
        count = body.get("count", DEFAULT_COUNT)
        if not isinstance(count, int) or not 1 <= count <= MAX_COUNT:
            raise PlaidError("INVALID_REQUEST", "INVALID_FIELD", f"count must be between 1 and {MAX_COUNT}")
        given = body.get("cursor") or ""
        cursor = Cursor.read(given, self.connection) if given else Cursor(None)
        now = self.clock.now()
        until = cursor.until or now
        if cursor.until is not None and now != until and (now < until or any(self.changes(until, now))):
            raise PlaidError(
                "TRANSACTIONS_ERROR",
                "TRANSACTIONS_SYNC_MUTATION_DURING_PAGINATION",
                "Underlying transaction data changed since last page was fetched. Please restart pagination from last "
                "update.",
            )
        added, modified, removed = self.changes(cursor.since, until)
        entries = (
            [("added", one) for one in added]
            + [("modified", one) for one in modified]
            + [("removed", one) for one in removed]
        )
        end = cursor.offset + count
        has_more = end < len(entries)
        page: dict[str, list[Any]] = {"added": [], "modified": [], "removed": []}
        for name, line in entries[cursor.offset : end]:
            page[name].append(_removed(line) if name == "removed" else transaction(line, until))
        following = Cursor(cursor.since, until, end) if has_more else Cursor(until)
        is_idle = given and not entries and cursor.until is None
        return {
            **page,
            "accounts": self.accounts(now),
            "has_more": has_more,
            "next_cursor": given if is_idle else following.text(self.connection),
            "transactions_update_status": "HISTORICAL_UPDATE_COMPLETE",
        }

    def accounts(self, now: datetime) -> list[dict[str, Any]]:
        return [self._account(account, now) for account in self.bank_accounts]

    def _account(self, account: BankAccount, now: datetime) -> dict[str, Any]:
        current = self.company.bank_balance(self.connection, account.account_id, now)
        lines = self.lines(self.company.start, local_day(now, self.zone))
        pending = sum(
            line.amount
            for line in lines
            if line.is_pending
            and line.account_id == account.account_id
            and line.at <= now
            and not (line.removed_at and line.removed_at <= now)
        )
        return {
            "account_id": account.account_id,
            "balances": {
                "available": major(current + pending, account.currency),
                "current": major(current, account.currency),
                "iso_currency_code": account.currency,
                "limit": None,
                "unofficial_currency_code": None,
            },
            "holder_category": "business",
            "mask": account.mask,
            "name": account.name,
            "official_name": f"Harbour & Pine {account.name}",
            "persistent_account_id": opaque("persistent", account.account_id, length=64),
            "subtype": "checking",
            "type": "depository",
        }

    def item(self) -> dict[str, Any]:
        return {
            "available_products": ["balance"],
            "billed_products": ["transactions"],
            "consent_expiration_time": None,
            "created_at": "2026-01-05T09:00:00Z",
            "error": None,
            "institution_id": "ins_109508",
            "institution_name": "First Harbour Bank",
            "item_id": opaque("item", self.connection, length=37),
            "products": ["transactions"],
            "update_type": "background",
            "webhook": "",
        }


def _removed(line: BankLine) -> dict[str, str]:
    return {"account_id": line.account_id, "transaction_id": line.line_id}


def transaction(line: BankLine, now: datetime) -> dict[str, Any]:
    """A line in Plaid's shape: the amount is positive when money leaves the account."""
    is_modified = line.modified_at is not None and line.modified_at <= now and line.modified_description is not None
    name = line.modified_description if is_modified else line.description
    amount = Decimal(line.wire_amount) if line.wire_amount is not None else major(-line.amount, line.currency)
    is_card = bool(line.merchant)
    payer = line.merchant if is_card else None
    counterparty = {
        "account_numbers": None, "confidence_level": "VERY_HIGH", "entity_id": opaque("entity", payer, length=37),
        "logo_url": None, "name": payer, "phone_number": None, "type": "merchant", "website": None,
    }  # fmt: skip
    return {
        "account_id": line.account_id,
        "account_owner": None,
        "amount": amount,
        "authorized_date": line.day,
        "authorized_datetime": iso_z(line.at) if is_card else None,
        "category": None,
        "category_id": None,
        "check_number": None,
        "counterparties": [counterparty] if is_card else [],
        "date": line.day,
        "datetime": iso_z(line.at),
        "iso_currency_code": None if line.wire_currency else line.currency,
        "location": dict.fromkeys(_LOCATION),
        "logo_url": None,
        "merchant_entity_id": counterparty["entity_id"] if is_card else None,
        "merchant_name": payer,
        "name": name,
        "original_description": name,
        "payment_channel": "in store" if is_card else "other",
        "payment_meta": dict.fromkeys(_PAYMENT_META),
        "pending": line.is_pending,
        "pending_transaction_id": line.replaces_pending_id,
        "personal_finance_category": {
            "confidence_level": "HIGH", "detailed": _DETAILED.get(line.category, f"{line.category}_OTHER"),
            "primary": line.category, "version": "v1",
        } if line.category else None,
        "personal_finance_category_icon_url": "https://plaid-category-icons.plaid.com/PFC_OTHER.png",
        "transaction_code": None,
        "transaction_id": line.line_id,
        "transaction_type": "place" if is_card else "special",
        "unofficial_currency_code": line.wire_currency,
        "website": None,
    }  # fmt: skip


_LOCATION = ("address", "city", "country", "lat", "lon", "postal_code", "region", "store_number")
_PAYMENT_META = (
    "by_order_of", "payee", "payer", "payment_method", "payment_processor", "ppd_id", "reason", "reference_number",
)  # fmt: skip
_DETAILED = {
    "RENT_AND_UTILITIES": "RENT_AND_UTILITIES_RENT",
    "TRANSFER_IN": "TRANSFER_IN_ACCOUNT_TRANSFER",
    "TRANSFER_OUT": "TRANSFER_OUT_ACCOUNT_TRANSFER",
    "FOOD_AND_DRINK": "FOOD_AND_DRINK_RESTAURANT",
    "GENERAL_MERCHANDISE": "GENERAL_MERCHANDISE_OFFICE_SUPPLIES",
    "GENERAL_SERVICES": "GENERAL_SERVICES_OTHER_GENERAL_SERVICES",
    "BANK_FEES": "BANK_FEES_OTHER_BANK_FEES",
    "INCOME": "INCOME_INTEREST_EARNED",
}


def webhook_key() -> EllipticCurvePrivateKey:
    """The P-256 key that the sandbox signs webhooks with; derived, so that nobody has to keep it."""
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.derive_private_key(
        int.from_bytes(sha256(b"ledger_pipeline sandbox plaid webhooks").digest(), "big") >> 1, ec.SECP256R1()
    )


def webhook_jwk() -> dict[str, Any]:
    """The public half of `webhook_key`, as Plaid hands it out."""
    numbers = webhook_key().public_key().public_numbers()
    x, y = (base64.urlsafe_b64encode(one.to_bytes(32, "big")).decode().rstrip("=") for one in (numbers.x, numbers.y))
    return {
        "alg": "ES256", "created_at": 1_790_000_000, "crv": "P-256", "expired_at": None,
        "kid": KEY_ID, "kty": "EC", "use": "sig", "x": x, "y": y,
    }  # fmt: skip


def check_keys(request: Request, body: dict[str, Any], connection: str, *, has_item: bool) -> None:
    """Client id and secret in the body or the headers, and the item's token; raises PlaidError in Plaid's words."""
    client = body.get("client_id") or request.headers.get("plaid-client-id")
    given = body.get("secret") or request.headers.get("plaid-secret")
    for name, value in (("client_id", client), ("secret", given)):
        if not value:
            raise PlaidError("INVALID_REQUEST", "MISSING_FIELDS", f"the following required fields are missing: {name}")
    if client != CLIENT_ID or given != secret(connection):
        raise PlaidError("INVALID_INPUT", "INVALID_API_KEYS", "invalid client_id or secret provided")
    if not has_item:
        return
    token = body.get("access_token")
    if not token:
        raise PlaidError("INVALID_REQUEST", "MISSING_FIELDS", "the following required fields are missing: access_token")
    if token != access_token(connection):
        raise PlaidError("INVALID_INPUT", "INVALID_ACCESS_TOKEN", "could not find matching access token")


def routes(company: Company, clock: Clock, connection: str, site: Site) -> list[Route]:
    """The routes below /{connection}; keys are CLIENT_ID, `secret(connection)` and `access_token(connection)`."""
    item = Item(company, clock, connection)
    counter = iter(range(1, 1 << 62))

    def post(path: str, work: Callable[[dict[str, Any]], dict[str, Any]], *, has_item: bool = True) -> Route:
        async def endpoint(request: Request) -> Response:
            request_id = {"request_id": opaque(connection, next(counter), length=15)}
            try:
                body = _body(await request.body())
                check_keys(request, body, connection, has_item=has_item)
                return json_response(work(body) | request_id)
            except PlaidError as error:
                return json_response(error.body | request_id, error.status)

        return Route(path, endpoint, methods=["POST"])

    def accounts(_: dict[str, Any]) -> dict[str, Any]:
        return {"accounts": item.accounts(clock.now()), "item": item.item()}

    def verification_key(body: dict[str, Any]) -> dict[str, Any]:
        if body.get("key_id") != KEY_ID:
            raise PlaidError("INVALID_INPUT", "INVALID_FIELD", "key_id does not exist or is not valid")
        return {"key": webhook_jwk()}

    def status(_: dict[str, Any]) -> dict[str, Any]:
        last = iso_z(clock.now().astimezone(UTC))
        updates = {"last_failed_update": None, "last_successful_update": last}
        return {"item": item.item(), "status": {"last_webhook": None, "transactions": updates}}

    return [
        post("/transactions/sync", item.sync),
        post("/accounts/get", accounts),
        post("/accounts/balance/get", accounts),
        post("/item/get", status),
        post("/webhook_verification_key/get", verification_key, has_item=False),
    ]


def _body(raw: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(raw or b"{}", type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise PlaidError("INVALID_REQUEST", "INVALID_BODY", "body could not be parsed as JSON") from error
