"""What the servers show, night by night, is what the company's own books count: record for record, per stream."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import requests

from ledger_pipeline.sandbox.company import Company
from ledger_pipeline.sandbox.company.facts import day_bounds
from ledger_pipeline.sandbox.server import running
from ledger_pipeline.sandbox.wire import Clock, Site

START = date(2026, 10, 5)
NIGHTS = 7
LATE = ["charge.dispute.closed", "payout.paid", "payout.failed"]


@pytest.fixture(scope="module")
def company() -> Company:
    return Company()


@pytest.fixture(scope="module")
def base(company: Company) -> Iterator[str]:
    with running(company, clock=Clock(datetime(2026, 10, 6, 5, 30, tzinfo=UTC)), site=Site(restore_rate=1e9)) as url:
        yield url


def end_of(base: str, company: Company, connection: str, day: date) -> None:
    """Stops the clock where the connection's local day ends."""
    _, end = day_bounds(company.zone(connection), day)
    now = (end - timedelta(microseconds=1)).isoformat()
    assert requests.post(f"{base}/_control/clock", json={"now": now}, timeout=5).status_code == 200


def stripe_ids(base: str, connection: str, stream: str, **filters: Any) -> set[str]:
    headers = {"Authorization": f"Bearer sk_test_sandbox_{connection}"}
    found: list[str] = []
    while True:
        params: dict[str, Any] = {"limit": 100, **filters} | ({"starting_after": found[-1]} if found else {})
        page = requests.get(f"{base}/{connection}/v1/{stream}", params=params, headers=headers, timeout=10).json()
        found += [one["id"] for one in page["data"]]
        if not page["has_more"]:
            return set(found)


def shopify_ids(base: str, connection: str, stream: str) -> set[str]:
    is_orders = stream == "orders"
    name = {"balance_transactions": "balanceTransactions"}.get(stream, stream)
    inner = f"{name}(first: 250, after: $after) {{ pageInfo {{ hasNextPage endCursor }} nodes {{ id }} }}"
    text = f"query($after: String) {{ {inner if is_orders else f'shopifyPaymentsAccount {{ {inner} }}'} }}"
    found: set[str] = set()
    after = None
    while True:
        answer = requests.post(
            f"{base}/{connection}/admin/api/2026-10/graphql.json",
            json={"query": text, "variables": {"after": after}},
            headers={"X-Shopify-Access-Token": f"shpat_sandbox_{connection}"},
            timeout=10,
        ).json()
        page = answer["data"][name] if is_orders else answer["data"]["shopifyPaymentsAccount"][name]
        found |= {one["id"] for one in page["nodes"]}
        after = page["pageInfo"]["endCursor"]
        if not page["pageInfo"]["hasNextPage"]:
            return found


def plaid_keys(connection: str) -> dict[str, str]:
    return {
        "client_id": "sandbox-client",
        "secret": f"sandbox-secret-{connection}",
        "access_token": f"access-sandbox-{connection}",
    }


def plaid_page(base: str, connection: str, cursor: str) -> dict[str, Any]:
    body = plaid_keys(connection) | {"cursor": cursor, "count": 500}
    page: dict[str, Any] = requests.post(f"{base}/{connection}/transactions/sync", json=body, timeout=10).json()
    assert page["has_more"] is False
    return page


def test_every_stream_has_as_many_records_as_the_truth_counts(base: str, company: Company) -> None:
    seen: dict[tuple[str, str], set[str]] = defaultdict(set)
    cursors = {"plaid_us": "", "plaid_uk": ""}
    for night in range(NIGHTS):
        day = START + timedelta(days=night)
        for connection in ("stripe_us", "stripe_uk"):
            end_of(base, company, connection, day)
            for stream in ("balance_transactions", "payouts", "disputes"):
                seen[connection, stream] |= stripe_ids(base, connection, stream)
            seen[connection, "events"] |= stripe_ids(base, connection, "events", **{"types[]": LATE})
        end_of(base, company, "shopify_us", day)
        seen["shopify_us", "orders"] |= shopify_ids(base, "shopify_us", "orders")
        end_of(base, company, "shopify_uk", day)
        for stream in ("orders", "balance_transactions", "payouts", "disputes"):
            seen["shopify_uk", stream] |= shopify_ids(base, "shopify_uk", stream)
        for connection, cursor in cursors.items():
            end_of(base, company, connection, day)
            page = plaid_page(base, connection, cursor)
            cursors[connection] = page["next_cursor"]
            for name in ("added", "modified", "removed"):
                seen[connection, "transactions"] |= {one["transaction_id"] for one in page[name]}
        truth = requests.get(f"{base}/_truth", params={"through": day.isoformat()}, timeout=60).json()
        told = {
            (connection, stream): sum(fates.values())
            for connection, streams in truth["fates"].items()
            for stream, fates in streams.items()
        }
        shown = {key: len(ids) for key, ids in seen.items()}
        assert shown == {key: told.get(key, 0) for key in shown}, day
        served = {key for key in told if key[0] in {connection for connection, _ in shown}}
        assert served - set(shown) <= {
            *((name, "accounts") for name in ("plaid_us", "plaid_uk")),
            *((name, "payout_members") for name in ("stripe_us", "stripe_uk")),
        }


@pytest.mark.parametrize("night", range(NIGHTS))
def test_balances_on_the_wire_are_those_of_the_truth(base: str, company: Company, night: int) -> None:
    day = START + timedelta(days=night)
    truth = requests.get(f"{base}/_truth", params={"through": day.isoformat()}, timeout=60).json()
    told = {(one["entity"], one["role"], one["currency"]): one["amount_minor"] for one in truth["balances"]}
    for connection, entity in (("stripe_us", "hp_us"), ("stripe_uk", "hp_uk")):
        end_of(base, company, connection, day)
        headers = {"Authorization": f"Bearer sk_test_sandbox_{connection}"}
        balance = requests.get(f"{base}/{connection}/v1/balance", headers=headers, timeout=10).json()
        sums: dict[str, int] = defaultdict(int)
        for one in balance["available"] + balance["pending"]:
            sums[one["currency"].upper()] += one["amount"]
        assert sums == {currency: told.get((entity, "processor_balance:stripe", currency), 0) for currency in sums}
    end_of(base, company, "shopify_uk", day)
    account = requests.post(
        f"{base}/shopify_uk/admin/api/2026-10/graphql.json",
        json={"query": "{ shopifyPaymentsAccount { balance { amount currencyCode } } }"},
        headers={"X-Shopify-Access-Token": "shpat_sandbox_shopify_uk"},
        timeout=10,
    ).json()["data"]["shopifyPaymentsAccount"]
    owed = told.get(("hp_uk", "processor_balance:shopify_payments", "GBP"), 0)
    assert account["balance"] == [{"amount": f"{Decimal(owed) / 100:.2f}", "currencyCode": "GBP"}]
    for connection, entity in (("plaid_us", "hp_us"), ("plaid_uk", "hp_uk")):
        end_of(base, company, connection, day)
        answer = requests.post(f"{base}/{connection}/accounts/get", json=plaid_keys(connection), timeout=10)
        (shown,) = answer.json(parse_float=Decimal)["accounts"]
        opening = next(one.opening for one in company.bank_accounts if one.account_id == shown["account_id"])
        role, currency = f"bank:{shown['account_id']}", shown["balances"]["iso_currency_code"]
        assert shown["balances"]["current"] * 100 - opening == told.get((entity, role, currency), 0)
