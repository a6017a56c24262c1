"""The sandbox's Plaid loads in the official SDK's models, and its sync loop behaves as Plaid documents it."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import plaid
import pytest
import requests
from plaid.api import plaid_api
from plaid.model.accounts_balance_get_request import AccountsBalanceGetRequest
from plaid.model.accounts_get_request import AccountsGetRequest
from plaid.model.item_get_request import ItemGetRequest
from plaid.model.transactions_sync_request import TransactionsSyncRequest
from plaid.model.webhook_verification_key_get_request import WebhookVerificationKeyGetRequest

from ledger_pipeline.sandbox.company import Company
from ledger_pipeline.sandbox.server import running
from ledger_pipeline.sandbox.wire import Clock
from ledger_pipeline.sources.plaid.sandbox import KEY_ID, webhook_key

START = date(2026, 10, 5)
LATE = datetime(2026, 10, 26, 5, 30, tzinfo=UTC)
ITEMS = ["plaid_us", "plaid_uk"]
MUTATION = "TRANSACTIONS_SYNC_MUTATION_DURING_PAGINATION"


@pytest.fixture(scope="module")
def company() -> Company:
    return Company()


@pytest.fixture(scope="module")
def clock() -> Clock:
    return Clock(LATE)


@pytest.fixture(scope="module")
def base(company: Company, clock: Clock) -> Iterator[str]:
    with running(company, clock=clock) as url:
        yield url


@pytest.fixture(autouse=True)
def late(clock: Clock) -> None:
    clock.set(LATE)


def post(base: str, connection: str, path: str, status: int = 200, **body: Any) -> Any:
    keys = {
        "client_id": "sandbox-client",
        "secret": f"sandbox-secret-{connection}",
        "access_token": f"access-sandbox-{connection}",
    }
    answer = requests.post(f"{base}/{connection}/{path}", json=keys | body, timeout=10)
    assert answer.status_code == status, answer.text
    return json.loads(answer.text, parse_float=Decimal)


def sync(base: str, connection: str, cursor: str = "", count: int = 500) -> tuple[dict[str, list[Any]], str]:
    """Everything since the cursor, and the next cursor."""
    found: dict[str, list[Any]] = {"added": [], "modified": [], "removed": []}
    while True:
        page = post(base, connection, "transactions/sync", cursor=cursor, count=count)
        assert sum(len(page[name]) for name in found) <= count
        for name in found:
            found[name] += page[name]
        cursor = page["next_cursor"]
        if not page["has_more"]:
            return found, cursor


def night(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, 5, 30, tzinfo=UTC) + timedelta(days=1)


def sdk(base: str, connection: str) -> plaid_api.PlaidApi:
    keys = {"clientId": "sandbox-client", "secret": f"sandbox-secret-{connection}", "plaidVersion": "2020-09-14"}
    return plaid_api.PlaidApi(plaid.ApiClient(plaid.Configuration(host=f"{base}/{connection}", api_key=keys)))


@pytest.mark.parametrize("connection", ITEMS)
def test_every_transaction_loads_in_the_sdks_models(base: str, clock: Clock, connection: str) -> None:
    api, cursor, seen = sdk(base, connection), "", 0
    for n in range(12):
        clock.set(night(START + timedelta(days=n)))
        token = f"access-sandbox-{connection}"
        page = api.transactions_sync(TransactionsSyncRequest(access_token=token, cursor=cursor, count=500))
        cursor = page.next_cursor
        assert page.transactions_update_status.value == "HISTORICAL_UPDATE_COMPLETE"
        assert page.accounts[0].balances.iso_currency_code in ("USD", "GBP")
        for one in [*page.added, *page.modified]:
            seen += 1
            assert (one.iso_currency_code is None) is (one.unofficial_currency_code is not None)
            assert one.account_id == page.accounts[0].account_id
    assert seen > 20


def test_the_field_set_is_the_published_one(base: str) -> None:
    from plaid.model.transaction import Transaction

    optional = {"business_finance_category", "client_customization", "merchant_category_code", "running_balance"}
    added, _ = sync(base, "plaid_us")
    for one in added["added"]:
        assert set(Transaction.openapi_types) - set(one) <= optional
        assert set(one) <= set(Transaction.openapi_types)


def test_accounts_item_and_balance_load_in_the_sdks_models(base: str, company: Company) -> None:
    for connection in ITEMS:
        token = f"access-sandbox-{connection}"
        api = sdk(base, connection)
        accounts = api.accounts_get(AccountsGetRequest(access_token=token))
        assert api.accounts_balance_get(AccountsBalanceGetRequest(access_token=token)).accounts == accounts.accounts
        account = next(one for one in company.bank_accounts if one.connection == connection)
        assert [(one.account_id, one.mask) for one in accounts.accounts] == [(account.account_id, account.mask)]
        assert accounts.accounts[0].type.value == "depository"
        item = api.item_get(ItemGetRequest(access_token=token))
        assert item.item.item_id == accounts.item.item_id
        assert item.status.transactions.last_successful_update is not None


def test_the_balance_moves_by_the_booked_transactions(base: str, company: Company, clock: Clock) -> None:
    """But for those that no account can hold: a fraction of a cent, another currency."""
    for connection in ITEMS:
        clock.set(night(START + timedelta(days=20)))
        found, _ = sync(base, connection)
        broken = {one.source_id for one in company.planted(START, LATE.date()) if one.kind in BROKEN}
        out = sum(one["amount"] for one in found["added"] if not one["pending"] and one["transaction_id"] not in broken)
        account = next(one for one in company.bank_accounts if one.connection == connection)
        shown = post(base, connection, "accounts/get")["accounts"][0]["balances"]
        assert shown["current"] == Decimal(account.opening) / 100 - out


BROKEN = ("too_many_decimals", "unknown_bank_currency")


def test_only_the_planted_lines_break_the_rules_of_money(base: str, company: Company) -> None:
    broken = set()
    for connection in ITEMS:
        for one in sync(base, connection)[0]["added"]:
            exponent = one["amount"].as_tuple().exponent
            if exponent < -2 or one["iso_currency_code"] is None:
                broken.add((one["transaction_id"], str(one["amount"]), one["unofficial_currency_code"]))
    planted = {one.source_id for one in company.planted(START, LATE.date()) if one.kind in BROKEN}
    assert {one for one, _, _ in broken} == planted
    assert {(amount, currency) for _, amount, currency in broken} == {("12.345", None), ("50.00", "USDT")}


@pytest.mark.parametrize("count", [1, 3, 500])
def test_nightly_syncs_end_where_one_sync_ends(base: str, clock: Clock, count: int) -> None:
    kept: dict[str, Any] = {}
    cursor = ""
    for n in range(9):
        clock.set(night(START + timedelta(days=n)))
        found, cursor = sync(base, "plaid_us", cursor, count)
        for one in found["removed"]:
            kept.pop(one["transaction_id"], None)
        kept |= {one["transaction_id"]: one for one in found["added"]}
        assert {one["transaction_id"] for one in found["modified"]} <= set(kept)
        kept |= {one["transaction_id"]: one for one in found["modified"]}
    whole, _ = sync(base, "plaid_us")
    assert kept == {one["transaction_id"]: one for one in whole["added"]}
    assert not whole["modified"]


def test_pending_is_replaced_by_booked_with_another_amount(base: str, company: Company, clock: Clock) -> None:
    planted = next(one for one in company.planted(START, LATE.date()) if one.kind == "pending_amount_changed")
    clock.set(night(planted.day))
    first, cursor = sync(base, "plaid_us")
    pending = next(one for one in first["added"] if one["transaction_id"] == planted.source_id)
    assert pending["pending"] is True
    clock.set(night(planted.day + timedelta(days=1)))
    second, _ = sync(base, "plaid_us", cursor)
    booked = next(one for one in second["added"] if one["pending_transaction_id"] == planted.source_id)
    assert booked["pending"] is False
    assert booked["amount"] > pending["amount"] > 0
    account_id = booked["account_id"]
    assert {"account_id": account_id, "transaction_id": planted.source_id} in second["removed"]


def test_a_descriptor_is_modified_and_a_booked_line_removed(base: str, company: Company, clock: Clock) -> None:
    planted = {one.kind: one for one in company.planted(START, START + timedelta(days=6))}
    changed, gone = planted["bank_line_modified"], planted["bank_line_removed"]
    clock.set(night(changed.day))
    first, cursor = sync(base, "plaid_us")
    clock.set(night(changed.day + timedelta(days=1)))
    second, after = sync(base, "plaid_us", cursor)
    before = next(one for one in first["added"] if one["transaction_id"] == changed.source_id)
    later = next(one for one in second["modified"] if one["transaction_id"] == changed.source_id)
    assert (before["name"], later["name"]) == ("POS 8841 3321 NY", "STAPLES 0042 BROOKLYN NY")
    assert gone.source_id in {one["transaction_id"] for one in second["added"]}
    clock.set(night(changed.day + timedelta(days=2)))
    third, _ = sync(base, "plaid_us", after)
    assert gone.source_id in {one["transaction_id"] for one in third["removed"]}


def test_two_identical_lines_have_two_ids(base: str, company: Company) -> None:
    twins = {
        one.source_id for one in company.planted(START, START + timedelta(days=6)) if one.kind == "identical_bank_lines"
    }
    found = [one for one in sync(base, "plaid_us")[0]["added"] if one["transaction_id"] in twins]
    assert len(found) == 2
    assert len({(one["date"], one["name"], one["amount"]) for one in found}) == 1


def test_a_change_within_the_loop_is_a_mutation_error_until_the_loop_restarts(base: str, clock: Clock) -> None:
    clock.set(night(START + timedelta(days=2)))
    page = post(base, "plaid_us", "transactions/sync", count=1)
    assert page["has_more"]
    clock.set(night(START + timedelta(days=3)))
    error = post(base, "plaid_us", "transactions/sync", 400, cursor=page["next_cursor"], count=1)
    assert (error["error_type"], error["error_code"]) == ("TRANSACTIONS_ERROR", MUTATION)
    again, _ = sync(base, "plaid_us", count=1)
    assert again == sync(base, "plaid_us")[0]


def test_a_clock_that_moves_over_nothing_is_no_mutation(base: str, clock: Clock) -> None:
    clock.set(night(START + timedelta(days=2)))
    page = post(base, "plaid_us", "transactions/sync", count=1)
    clock.set(night(START + timedelta(days=2)) + timedelta(minutes=1))
    assert post(base, "plaid_us", "transactions/sync", cursor=page["next_cursor"], count=1)["added"]


def test_a_cursor_without_news_stays_and_belongs_to_its_item(base: str) -> None:
    _, cursor = sync(base, "plaid_us")
    page = post(base, "plaid_us", "transactions/sync", cursor=cursor)
    assert (page["added"], page["removed"], page["has_more"], page["next_cursor"]) == ([], [], False, cursor)
    for wrong in (sync(base, "plaid_uk")[1], "nonsense"):
        error = post(base, "plaid_us", "transactions/sync", 400, cursor=wrong)
        assert (error["error_type"], error["error_code"]) == ("INVALID_INPUT", "INVALID_FIELD")


@pytest.mark.parametrize("count", [0, 501, "many"])
def test_counts_out_of_range_are_refused(base: str, count: object) -> None:
    assert post(base, "plaid_us", "transactions/sync", 400, count=count)["error_code"] == "INVALID_FIELD"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"secret": "sandbox-secret-plaid_uk"}, "INVALID_API_KEYS"),
        ({"client_id": "another"}, "INVALID_API_KEYS"),
        ({"secret": None}, "MISSING_FIELDS"),
        ({"access_token": "access-sandbox-plaid_uk"}, "INVALID_ACCESS_TOKEN"),
        ({"access_token": None}, "MISSING_FIELDS"),
    ],
)
def test_wrong_keys_are_refused_in_plaids_form(base: str, body: dict[str, Any], code: str) -> None:
    error = post(base, "plaid_us", "accounts/get", 400, **body)
    assert error["error_code"] == code
    assert set(error) >= {"error_type", "error_message", "display_message", "request_id", "documentation_url"}
    with pytest.raises(plaid.ApiException) as refused:
        sdk(base, "plaid_us").accounts_get(AccountsGetRequest(access_token="access-sandbox-other"))
    assert json.loads(refused.value.body)["error_code"] == "INVALID_ACCESS_TOKEN"


def test_keys_may_stand_in_the_headers(base: str) -> None:
    headers = {"PLAID-CLIENT-ID": "sandbox-client", "PLAID-SECRET": "sandbox-secret-plaid_us"}
    body = {"access_token": "access-sandbox-plaid_us"}
    assert requests.post(f"{base}/plaid_us/item/get", json=body, headers=headers, timeout=10).status_code == 200


def test_the_webhook_key_is_the_one_that_signs(base: str) -> None:
    request = WebhookVerificationKeyGetRequest(key_id=KEY_ID)
    key = sdk(base, "plaid_us").webhook_verification_key_get(request).key
    point = webhook_key().public_key().public_numbers()
    assert [int.from_bytes(base64.urlsafe_b64decode(one + "="), "big") for one in (key.x, key.y)] == [point.x, point.y]
    assert (key.alg, key.crv, key.kid) == ("ES256", "P-256", KEY_ID)
    assert post(base, "plaid_us", "webhook_verification_key/get", 400, key_id="other")["error_code"] == "INVALID_FIELD"
