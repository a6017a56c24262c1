"""The sandbox's Stripe answers what the published contract promises, and the official SDK reads it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
import stripe
from jsonschema import Draft202012Validator

from ledger_pipeline.sandbox.company import Company
from ledger_pipeline.sandbox.server import running
from ledger_pipeline.sandbox.wire import Clock

CONTRACT = Path(__file__).resolve().parents[3] / "shared" / "contracts" / "stripe"
START = date(2026, 10, 5)
LATE = datetime(2026, 10, 26, 5, 30, tzinfo=UTC)
RESOURCES = ["balance_transactions", "charges", "refunds", "payouts", "disputes", "events"]
ACCOUNTS = ["stripe_us", "stripe_uk"]


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


def get(base: str, connection: str, path: str, status: int = 200, **params: Any) -> Any:
    headers = {"Authorization": f"Bearer sk_test_sandbox_{connection}"}
    answer = requests.get(f"{base}/{connection}/v1/{path}", params=params, headers=headers, timeout=10)
    assert answer.status_code == status, answer.text
    return answer.json()


def every(base: str, connection: str, resource: str, **params: Any) -> list[dict[str, Any]]:
    """All objects of a list, page by page."""
    found: list[dict[str, Any]] = []
    while True:
        after = {"starting_after": found[-1]["id"]} if found else {}
        page = get(base, connection, resource, limit=100, **params, **after)
        found += page["data"]
        if not page["has_more"]:
            return found


def nullable_as_type(schema: Any) -> Any:
    """OpenAPI 3.0's `nullable` in JSON Schema's words."""
    if isinstance(schema, list):
        return [nullable_as_type(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    out = {key: nullable_as_type(value) for key, value in schema.items() if key != "nullable"}
    if schema.get("nullable") is True:
        if "enum" in out:
            out["enum"] = [*out["enum"], None]
        if "type" in out:
            out["type"] = [out["type"], "null"]
        elif "anyOf" in out:
            out["anyOf"] = [*out["anyOf"], {"type": "null"}]
        elif "$ref" in out:
            out = {"anyOf": [out, {"type": "null"}]}
    return out


@pytest.fixture(scope="module")
def components() -> dict[str, Any]:
    path = CONTRACT / "slim.json"
    if not path.exists():
        pytest.skip("the published contracts are not beside the repository")
    return {"schemas": nullable_as_type(json.loads(path.read_text())["components"]["schemas"])}


@pytest.fixture(scope="module")
def fixtures() -> dict[str, Any]:
    path = CONTRACT / "fixtures3.json"
    if not path.exists():
        pytest.skip("the published contracts are not beside the repository")
    found: dict[str, Any] = json.loads(path.read_text())["resources"]
    return found


def errors_of(components: dict[str, Any], one: dict[str, Any]) -> list[str]:
    schema = {"$ref": f"#/components/schemas/{one['object']}", "components": components}
    return [f"{error.json_path}: {error.message[:120]}" for error in Draft202012Validator(schema).iter_errors(one)]


@pytest.mark.parametrize("connection", ACCOUNTS)
@pytest.mark.parametrize("resource", RESOURCES)
def test_every_object_is_valid_against_the_published_schema(
    base: str, components: dict[str, Any], connection: str, resource: str
) -> None:
    found = every(base, connection, resource)
    # stripe_uk has no disputes: the United Kingdom's stands at Shopify Payments.
    assert found or (connection, resource) == ("stripe_uk", "disputes")
    assert [errors_of(components, one) for one in found if errors_of(components, one)] == []


def test_the_validator_sees_a_wrong_object(base: str, components: dict[str, Any]) -> None:
    one = every(base, "stripe_us", "charges")[0]
    assert errors_of(components, one | {"amount": "12.00"})
    assert errors_of(components, one | {"status": "gone"})
    assert errors_of(components, {key: value for key, value in one.items() if key != "currency"})


def test_the_balance_is_valid_and_is_the_sum_of_all_transactions(base: str, components: dict[str, Any]) -> None:
    balance = get(base, "stripe_uk", "balance")
    assert errors_of(components, balance) == []
    for currency in ("gbp", "eur"):
        shown = sum(
            one["amount"] for part in ("available", "pending") for one in balance[part] if one["currency"] == currency
        )
        own = [one for one in every(base, "stripe_uk", "balance_transactions") if one["currency"] == currency]
        assert own
        assert shown == sum(one["net"] for one in own)


@pytest.mark.parametrize(
    ("resource", "name"),
    [
        ("balance_transactions", "balance_transaction"),
        ("charges", "charge"),
        ("refunds", "refund"),
        ("payouts", "payout"),
        ("disputes", "dispute"),
        ("events", "event"),
        ("balance", "balance"),
    ],
)
def test_objects_have_the_fields_of_the_newest_fixtures(
    base: str, fixtures: dict[str, Any], resource: str, name: str
) -> None:
    one = get(base, "stripe_us", "balance") if resource == "balance" else every(base, "stripe_us", resource)[0]
    # A refund's payment_intent, a dispute's … : newer optional fields are in the fixtures too.
    assert set(fixtures[name]) - set(one) - ({"refunds"} if name == "charge" else set()) == set()


# The official SDK.


def client(base: str, connection: str, key: str | None = None) -> stripe.StripeClient:
    addresses: Any = {"api": f"{base}/{connection}"}
    return stripe.StripeClient(key or f"sk_test_sandbox_{connection}", base_addresses=addresses, max_network_retries=0)


@pytest.mark.parametrize("limit", [1, 7, 100])
def test_the_sdk_pages_through_everything(base: str, company: Company, limit: int) -> None:
    days = [START + timedelta(days=n) for n in range(22 if limit > 1 else 1)]
    until = int(datetime.combine(days[-1] + timedelta(days=1), datetime.min.time(), UTC).timestamp()) + 4 * 3600
    listing = client(base, "stripe_us").v1.balance_transactions.list({"limit": limit, "created": {"lt": until}})
    found = [(one.id, one.amount, one.fee) for one in listing.auto_paging_iter()]
    facts = [one for day in days for one in company.processor_transactions("stripe_us", day) if one.at <= LATE]
    assert sorted(found) == sorted((one.txn_id, one.amount, one.fee) for one in facts)


def test_the_sdk_expands_retrieves_and_reports_a_wrong_key(base: str) -> None:
    api = client(base, "stripe_us").v1
    listing = api.balance_transactions.list({"limit": 3, "type": "charge", "expand": ["data.source"]})
    for one in listing.data:
        assert isinstance(one.source, stripe.Charge)
        assert one.source.balance_transaction == one.id
        assert api.charges.retrieve(one.source.id).amount == one.source.amount
    with pytest.raises(stripe.AuthenticationError, match=r"Invalid API Key provided: sk_test_\*+rong"):
        client(base, "stripe_us", "sk_test_of_another_wrong").v1.charges.list()
    with pytest.raises(stripe.InvalidRequestError) as refused:
        api.charges.retrieve("ch_nothing")
    assert (refused.value.http_status, refused.value.code) == (404, "resource_missing")


# Behaviour.


def test_lists_are_newest_first_and_ending_before_goes_the_other_way(base: str) -> None:
    found = every(base, "stripe_us", "balance_transactions")
    assert [one["created"] for one in found] == sorted((one["created"] for one in found), reverse=True)
    back = get(base, "stripe_us", "balance_transactions", limit=5, ending_before=found[20]["id"])
    assert [one["id"] for one in back["data"]] == [one["id"] for one in found[15:20]]
    assert back["has_more"]


def test_created_bounds_are_kept_to_the_second(base: str) -> None:
    found = every(base, "stripe_us", "charges")
    edge = found[10]["created"]
    ids = {
        op: {one["id"] for one in every(base, "stripe_us", "charges", **{f"created[{op}]": edge})}
        for op in ("gt", "gte", "lt", "lte")
    }
    assert found[10]["id"] in ids["gte"] & ids["lte"]
    assert found[10]["id"] not in ids["gt"] | ids["lt"]
    assert ids["gt"] | ids["lte"] == {one["id"] for one in found}
    assert [one["id"] for one in every(base, "stripe_us", "charges", created=edge)] == [found[10]["id"]]


@pytest.mark.parametrize("connection", ACCOUNTS)
def test_a_payout_is_the_sum_of_its_balance_transactions(base: str, connection: str) -> None:
    payouts = every(base, connection, "payouts")
    assert {one["status"] for one in payouts} >= {"paid", "in_transit"}
    for payout in payouts:
        rows = every(base, connection, "balance_transactions", payout=payout["id"])
        own = [one for one in rows if one["source"] == payout["id"]]
        assert sum(one["net"] for one in rows if one["source"] != payout["id"]) == payout["amount"]
        assert payout["balance_transaction"] in [one["id"] for one in own if one["type"] == "payout"]
        failures = [one["id"] for one in own if one["type"] == "payout_failure"]
        assert (payout["status"] == "failed", payout["failure_balance_transaction"]) == (
            bool(failures),
            failures[0] if failures else None,
        )


def test_planted_payouts_show_a_failure_and_a_debit(base: str, company: Company) -> None:
    planted = {one.kind: one for one in company.planted(START, START + timedelta(days=6))}
    assert get(base, "stripe_us", f"payouts/{planted['failed_payout'].source_id}")["status"] == "failed"
    assert get(base, "stripe_uk", f"payouts/{planted['negative_payout'].source_id}")["amount"] < 0


def test_disputes_carry_their_transactions_and_end_as_planted(base: str, company: Company) -> None:
    found = {one["id"]: one for one in every(base, "stripe_us", "disputes")}
    planted = [
        one
        for one in company.planted(START, START + timedelta(days=6))
        if one.connection == "stripe_us" and "dispute" in one.kind
    ]
    assert {one.kind for one in planted} == {"dispute_lost", "dispute_won"}
    for one in planted:
        shown = found[one.source_id]
        kinds = [txn["reporting_category"] for txn in shown["balance_transactions"]]
        assert shown["status"] == one.kind.removeprefix("dispute_")
        assert kinds == (["dispute", "dispute_reversal"] if one.kind == "dispute_won" else ["dispute"])
        assert {txn["type"] for txn in shown["balance_transactions"]} == {"adjustment"}
        assert get(base, "stripe_us", f"charges/{shown['charge']}")["disputed"] is True


def test_a_state_is_what_it_was_at_the_clock(base: str, company: Company, clock: Clock) -> None:
    dispute = next(one for day in range(9) for one in company.disputes("stripe_us", START + timedelta(days=day)))
    assert dispute.decided_at is not None
    clock.set(dispute.at - timedelta(seconds=1))
    assert get(base, "stripe_us", f"disputes/{dispute.dispute_id}", 404)["error"]["code"] == "resource_missing"
    clock.set(dispute.decided_at - timedelta(seconds=1))
    assert get(base, "stripe_us", f"disputes/{dispute.dispute_id}")["status"] == "needs_response"
    clock.set(dispute.decided_at)
    assert get(base, "stripe_us", f"disputes/{dispute.dispute_id}")["status"] == dispute.outcome
    newest = every(base, "stripe_us", "balance_transactions")[0]
    assert newest["created"] <= dispute.decided_at.timestamp()


def test_a_refunded_charge_says_how_much(base: str) -> None:
    refunds = every(base, "stripe_us", "refunds")
    by_charge: dict[str, int] = {}
    for one in refunds:
        by_charge[one["charge"]] = by_charge.get(one["charge"], 0) + one["amount"]
    for charge, amount in list(by_charge.items())[:25]:
        shown = get(base, "stripe_us", f"charges/{charge}")
        assert shown["amount_refunded"] == amount
        assert shown["refunded"] is (amount == shown["amount"])


def test_charges_name_their_order_but_for_the_planted_one(base: str, company: Company) -> None:
    planted = {one.source_id for one in company.planted(START, LATE.date()) if one.kind == "payment_without_order"}
    bare = {
        one["balance_transaction"] for one in every(base, "stripe_us", "charges") if "order_id" not in one["metadata"]
    }
    assert bare == {one for one in planted if get(base, "stripe_us", f"balance_transactions/{one}")}


def test_foreign_charges_carry_the_exchange_rate(base: str) -> None:
    found = every(base, "stripe_us", "balance_transactions", **{"expand[]": "data.source", "type": "charge"})
    foreign = [one for one in found if one["source"]["currency"] != "usd"]
    assert {one["source"]["currency"] for one in foreign} >= {"cad", "eur", "jpy"}
    assert all(isinstance(one["exchange_rate"], float) for one in foreign)
    assert all(one["exchange_rate"] is None for one in found if one["source"]["currency"] == "usd")


def test_events_hold_thirty_days_filter_by_type_and_repeat_the_planted_one(
    base: str, company: Company, clock: Clock
) -> None:
    found = every(base, "stripe_us", "events")
    assert {one["type"] for one in found} == {
        "charge.dispute.created", "charge.dispute.closed", "payout.created", "payout.paid", "payout.failed",
        "payout.reconciliation_completed",
    }  # fmt: skip
    twice = {one["id"]: one for one in found if sum(other["id"] == one["id"] for other in found) == 2}
    planted = {one.source_id for one in company.planted(START, LATE.date()) if one.kind == "duplicate_event"}
    assert {one["data"]["object"]["id"] for one in twice.values()} == planted
    closed = every(base, "stripe_us", "events", **{"types[]": ["charge.dispute.closed"]})
    assert {one["type"] for one in closed} == {"charge.dispute.closed"}
    assert {one["data"]["object"]["status"] for one in closed} == {"lost", "won"}
    reconciled = every(base, "stripe_us", "events", type="payout.reconciliation_completed")
    assert {one["data"]["object"]["reconciliation_status"] for one in reconciled} == {"completed"}
    paid = every(base, "stripe_us", "events", type="payout.paid")
    assert {one["data"]["object"]["status"] for one in paid} == {"paid"}
    clock.set(datetime(2026, 11, 12, tzinfo=UTC))
    oldest = every(base, "stripe_us", "events")[-1]
    assert oldest["created"] >= clock.now().timestamp() - 30 * 86400


@pytest.mark.parametrize(
    ("path", "params", "status", "message"),
    [
        ("charges", {"limit": 101}, 400, "This value must be less than or equal to 100 (it currently is '101')."),
        ("charges", {"limit": 0}, 400, "This value must be greater than or equal to 1 (it currently is '0')."),
        ("charges", {"limit": "x"}, 400, "Invalid integer: x"),
        ("charges", {"colour": "red"}, 400, "Received unknown parameter: colour"),
        ("charges", {"created[near]": 1}, 400, "Received unknown parameter: created[near]"),
        ("charges", {"starting_after": "ch_none"}, 400, "No such charge: 'ch_none'"),
        ("balance_transactions", {"payout": "po_none"}, 400, "No such payout: 'po_none'"),
        ("payouts/po_none", {}, 404, "No such payout: 'po_none'"),
        ("charges", {"expand[]": "data.customer"}, 400, "This property cannot be expanded (customer)."),
        ("coupons", {}, 404, "Unrecognized request URL (GET: /v1/coupons). Please see https://stripe.com/docs or we "
         "can help at https://support.stripe.com/."),
    ],
)  # fmt: skip
def test_refusals_are_worded_as_stripe_words_them(
    base: str, path: str, params: dict[str, Any], status: int, message: str
) -> None:
    error = get(base, "stripe_us", path, status, **params)["error"]
    assert (error["message"], error["type"]) == (message, "invalid_request_error")


def test_keys_are_checked_and_answers_carry_stripes_headers(base: str) -> None:
    url = f"{base}/stripe_us/v1/balance"
    bare = requests.get(url, timeout=10)
    assert bare.status_code == 401
    assert bare.json()["error"]["message"].startswith("You did not provide an API key.")
    other = requests.get(url, headers={"Authorization": "Bearer sk_test_sandbox_stripe_uk"}, timeout=10)
    assert other.status_code == 401
    assert other.json()["error"]["type"] == "invalid_request_error"
    basic = requests.get(
        url, auth=("sk_test_sandbox_stripe_us", ""), headers={"Stripe-Version": "2024-06-20"}, timeout=10
    )
    assert basic.status_code == 200
    assert basic.headers["Stripe-Version"] == "2024-06-20"
    assert basic.headers["Request-Id"].startswith("req_")
