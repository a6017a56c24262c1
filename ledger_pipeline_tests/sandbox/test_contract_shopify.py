"""The sandbox's Shopify gives what graphql-core gives over the published schema, and pages, prices as Shopify does."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
import requests
from graphql import (
    GraphQLEnumType,
    GraphQLObjectType,
    GraphQLSchema,
    build_schema,
    execute_sync,
    get_named_type,
    parse,
    validate,
)

from ledger_pipeline.sandbox.company import Company, changes
from ledger_pipeline.sandbox.graphql import Page
from ledger_pipeline.sandbox.server import running
from ledger_pipeline.sandbox.wire import Clock, Site
from ledger_pipeline.sources.shopify.sandbox import Shop
from ledger_pipeline.sources.shopify.sandbox_schema import sdl

CONTRACT = Path(__file__).resolve().parents[3] / "shared" / "contracts" / "shopify" / "admin_2026-10.graphql"
START = date(2026, 10, 5)
LATE = datetime(2026, 10, 19, 5, 30, tzinfo=UTC)
SHOPS = ["shopify_us", "shopify_uk"]
FREE = {"bucket": 1e12, "restore_rate": 1e12, "max_cost": 10**9}

MONEY = "{ shopMoney { amount currencyCode } presentmentMoney { amount currencyCode } }"
LINES = """
  pageInfo { hasNextPage endCursor }
  nodes { id sku title quantity currentQuantity isGiftCard taxable originalUnitPriceSet M originalTotalSet M
    discountAllocations { allocatedAmountSet M } taxLines { title rate ratePercentage channelLiable priceSet M } }
""".replace(" M", f" {MONEY}")
ORDER = """
  id legacyResourceId name test cancelledAt createdAt processedAt updatedAt edited currencyCode presentmentCurrencyCode
  taxesIncluded sourceName displayFinancialStatus customer { id } shippingAddress { countryCodeV2 provinceCode }
  totalPriceSet M subtotalPriceSet M totalTaxSet M totalDiscountsSet M totalShippingPriceSet M totalTipReceivedSet M
  totalOutstandingSet M currentTotalPriceSet M originalTotalPriceSet M currentTotalDutiesSet M totalRefundedSet M
  lineItems(first: 50) { LINES }
  shippingLines(first: 5) { nodes { id title originalPriceSet M discountedPriceSet M
    discountAllocations { allocatedAmountSet M } taxLines { title rate ratePercentage channelLiable priceSet M } } }
  transactions(first: 20) { id kind status gateway test createdAt processedAt paymentId amountSet M
    parentTransaction { id } }
""".replace("LINES", LINES).replace(" M", f" {MONEY}")
REFUNDS = """
  refunds(first: 10) { id legacyResourceId createdAt processedAt updatedAt totalRefundedSet M
    refundLineItems(first: 50) { pageInfo { hasNextPage endCursor }
      nodes { id quantity restockType subtotalSet M totalTaxSet M lineItem { id isGiftCard } } }
    refundShippingLines(first: 5) { nodes { id subtotalAmountSet M taxAmountSet M } }
    orderAdjustments(first: 5) { nodes { id reason amountSet M taxAmountSet M } }
    transactions(first: 5) { nodes { id kind status gateway amountSet M } } duties { amountSet M } }
""".replace(" M", f" {MONEY}")


@pytest.fixture(scope="module")
def company() -> Company:
    return Company()


@pytest.fixture(scope="module")
def clock() -> Clock:
    return Clock(LATE)


@pytest.fixture(scope="module")
def base(company: Company, clock: Clock) -> Iterator[str]:
    with running(company, clock=clock, site=Site(**FREE)) as url:  # type: ignore[arg-type]
        yield url


@pytest.fixture(autouse=True)
def late(clock: Clock) -> None:
    clock.set(LATE)


def post(base: str, shop: str, query: str, variables: dict[str, Any] | None = None) -> dict[str, Any]:
    answer = requests.post(
        f"{base}/{shop}/admin/api/2026-10/graphql.json",
        json={"query": query, "variables": variables or {}},
        headers={"X-Shopify-Access-Token": f"shpat_sandbox_{shop}"},
        timeout=20,
    )
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def ask(base: str, shop: str, query: str, **variables: Any) -> dict[str, Any]:
    answer = post(base, shop, query, variables)
    assert "errors" not in answer, answer["errors"]
    found: dict[str, Any] = answer["data"]
    return found


def every_order(base: str, shop: str, fields: str, first: int = 50, **args: str) -> list[dict[str, Any]]:
    """All orders of a listing, page by page, repeats included."""
    more = "".join(f", {name}: {value}" for name, value in args.items())
    selected = f"pageInfo {{ hasNextPage endCursor }} nodes {{ {fields} }}"
    query = f"query($after: String) {{ orders(first: {first}, after: $after{more}) {{ {selected} }} }}"
    found: list[dict[str, Any]] = []
    after = None
    while True:
        page = ask(base, shop, query, after=after)["orders"]
        found += page["nodes"]
        after = page["pageInfo"]["endCursor"]
        if not page["pageInfo"]["hasNextPage"]:
            return found


# The published schema as the judge.


@cache
def published() -> GraphQLSchema:
    return build_schema(CONTRACT.read_text(), assume_valid=True)


@pytest.fixture(scope="module")
def judge() -> GraphQLSchema:
    if not CONTRACT.exists():
        pytest.skip("the published contracts are not beside the repository")
    return published()


def resolve(source: Any, info: Any, **args: Any) -> Any:
    """A field of the server's own dicts; lists become connections by this test's own few lines."""
    value = source[info.field_name]
    if callable(value):
        value = value(args)
    if not get_named_type(info.return_type).name.endswith("Connection"):
        return value[: args["first"]] if isinstance(value, list) and args.get("first") else value
    if isinstance(value, Page):
        nodes, is_more, ends = list(value.nodes), value.has_next, value.cursors
    else:
        nodes, is_more, ends = value[: args["first"]], len(value) > args["first"], None
    info_of_page = {"hasNextPage": is_more, "endCursor": ends[-1] if ends else None}
    edges = [{"node": node, "cursor": cursor} for node, cursor in zip(nodes, ends or [""] * len(nodes), strict=True)]
    return {"nodes": nodes, "edges": edges, "pageInfo": info_of_page}


def judged(company: Company, shop: str, query: str, variables: dict[str, Any]) -> Any:
    document = parse(query)
    assert validate(published(), document) == []
    root = Shop(company, Clock(LATE), shop, Site()).root()
    result = execute_sync(published(), document, root, variable_values=variables, field_resolver=resolve)
    assert result.errors is None, result.errors
    return msgspec.json.decode(msgspec.json.encode(result.data))


def without_nested_cursors(data: Any) -> Any:
    """Nested cursors are the server's own business; the judge has none."""
    if isinstance(data, list):
        return [without_nested_cursors(one) for one in data]
    if isinstance(data, dict):
        return {key: without_nested_cursors(one) for key, one in data.items() if key != "endCursor"}
    return data


JUDGED: dict[str, tuple[str, dict[str, Any]]] = {
    "orders with everything": (
        f"""query($n: Int!, $q: String) {{ orders(first: $n, query: $q, sortKey: UPDATED_AT) {{
              pageInfo {{ hasNextPage }} nodes {{ {ORDER} {REFUNDS} }} }} }}""",
        {"n": 250, "q": "updated_at:>='2026-10-06T00:00:00Z' updated_at:<'2026-10-11T00:00:00Z'"},
    ),
    "edges, aliases, fragments, directives": (
        """query($no: Boolean!) {
             newest: orders(first: 7, reverse: true, sortKey: CREATED_AT) { edges { node { ...one } } }
             count: ordersCount(limit: null) { count precision } shop { name currencyCode ianaTimezone __typename } }
           fragment one on Order {
             number: legacyResourceId ... on Order { total: totalPriceSet { shopMoney { amount } } }
             name @include(if: $no) test @skip(if: $no) __typename lineItems(first: 1) { edges { node { sku } } } }""",
        {"no": True},
    ),
    "customers": ("{ customers(first: 3) { nodes { id displayName state numberOfOrders createdAt } } }", {}),
    "payments": (
        """{ shopifyPaymentsAccount { id country activated defaultCurrency balance { amount currencyCode }
             balanceTransactions(first: 200) { nodes { id type test transactionDate amount { amount currencyCode }
               fee { amount } net { amount } sourceType sourceId sourceOrderTransactionId associatedOrder { id name }
               associatedPayout { id status } adjustmentReason
               adjustmentsOrders { name amount { amount } orderTransactionId } } }
             payouts(first: 50) { nodes { id legacyResourceId issuedAt status transactionType
               net { amount currencyCode } summary { chargesGross { amount } chargesFee { amount }
               refundsFeeGross { amount } adjustmentsGross { amount } } } }
             disputes(first: 10) { nodes { id amount { amount } status type initiatedAt finalizedOn order { name }
               reasonDetails { reason networkReasonCode } } } } }""",
        {},
    ),
}


@pytest.mark.parametrize("shop", SHOPS)
@pytest.mark.parametrize("name", JUDGED)
def test_the_light_executor_gives_what_graphql_core_gives_over_the_published_schema(
    base: str, company: Company, judge: GraphQLSchema, shop: str, name: str
) -> None:
    query, variables = JUDGED[name]
    shown = without_nested_cursors(ask(base, shop, query, **variables))
    assert shown == without_nested_cursors(judged(company, shop, query, variables))
    assert any(shown.values()) or (name, shop) == ("payments", "shopify_us")


def test_both_refuse_a_field_that_the_schema_lacks(base: str, judge: GraphQLSchema) -> None:
    query = "query q { orders(first: 1) { nodes { id totalPriceSett { shopMoney { amount } } } } }"
    assert validate(judge, parse(query))
    (error,) = post(base, "shopify_us", query)["errors"]
    assert error["message"] == "Field 'totalPriceSett' doesn't exist on type 'Order'"
    assert error["extensions"] == {"code": "undefinedField", "typeName": "Order", "fieldName": "totalPriceSett"}
    assert error["path"] == ["query q", "orders", "nodes", "totalPriceSett"]


@pytest.mark.parametrize(
    "query",
    [
        "{ orders(first: 1, colour: RED) { nodes { id } } }",
        "{ orders(first: 1, sortKey: COLOUR) { nodes { id } } }",
        '{ orders(first: "one") { nodes { id } } }',
        "{ orders(first: 1) }",
        "query($n: Int!) { orders(first: $n) { nodes { id } } }",
        "{ orders(first: 1) { nodes { ...gone } } }",
    ],
)
def test_both_refuse_what_is_invalid(base: str, judge: GraphQLSchema, query: str) -> None:
    document = parse(query)
    assert validate(judge, document) or execute_sync(judge, document).errors
    assert post(base, "shopify_us", query)["errors"]


def test_the_sandboxs_schema_is_a_part_of_the_published_one(judge: GraphQLSchema) -> None:
    own = build_schema(sdl())
    for name, kind in own.type_map.items():
        theirs = judge.type_map[name]
        if isinstance(kind, GraphQLEnumType):
            assert list(kind.values) == list(theirs.values)  # type: ignore[attr-defined]
        if not isinstance(kind, GraphQLObjectType) or name.startswith("__"):
            continue
        for field, mine in kind.fields.items():
            their = theirs.fields[field]  # type: ignore[attr-defined]
            assert str(mine.type) == str(their.type), (name, field)
            for arg, one in mine.args.items():
                assert (str(one.type), one.default_value) == (str(their.args[arg].type), their.args[arg].default_value)
            assert not [arg for arg, one in their.args.items() if arg not in mine.args and str(one.type).endswith("!")]


# Amounts.


@pytest.mark.parametrize("shop", SHOPS)
def test_only_the_planted_order_has_a_malformed_amount(base: str, company: Company, shop: str) -> None:
    broken = set()
    for order in every_order(base, shop, f"{ORDER} {REFUNDS}"):
        for currency, amount in amounts(order):
            digits = {"JPY": 1, "KWD": 3}.get(currency, 2)
            if not re.fullmatch(rf"-?\d+\.\d{{{digits}}}", amount):
                broken.add((order["legacyResourceId"], amount))
    planted = [
        one for one in company.planted(START, LATE.date()) if one.connection == shop and one.kind == "malformed_amount"
    ]
    assert broken == {(one.source_id, "12,50") for one in planted}
    assert bool(planted) is (shop == "shopify_uk")


def amounts(data: Any) -> Iterator[tuple[str, str]]:
    if isinstance(data, list):
        for one in data:
            yield from amounts(one)
    elif isinstance(data, dict):
        if "currencyCode" in data and "amount" in data:
            yield data["currencyCode"], data["amount"]
        for one in data.values():
            yield from amounts(one)


def money(bag: dict[str, Any], side: str) -> Decimal:
    return Decimal(bag[side]["amount"])


@pytest.mark.parametrize("shop", SHOPS)
@pytest.mark.parametrize("side", ["shopMoney", "presentmentMoney"])
def test_totals_are_the_sums_of_their_parts_in_both_currencies(
    base: str, company: Company, shop: str, side: str
) -> None:
    """But for the order with the malformed total."""
    broken = {one.source_id for one in company.planted(START, LATE.date()) if one.kind == "malformed_amount"}
    # The order of 60 lines has more than one nested page.
    for order in every_order(base, shop, f"{ORDER} {REFUNDS}".replace("lineItems(first: 50)", "lineItems(first: 100)")):
        if order["legacyResourceId"] in broken:
            continue
        lines = [*order["lineItems"]["nodes"], *order["shippingLines"]["nodes"]]
        gross = sum(money(one.get("originalTotalSet") or one["originalPriceSet"], side) for one in lines)
        discount = sum(money(part["allocatedAmountSet"], side) for one in lines for part in one["discountAllocations"])
        tax = sum(money(part["priceSet"], side) for one in lines for part in one["taxLines"])
        tip = money(order["totalTipReceivedSet"], side)
        total = gross - discount + tip + (0 if order["taxesIncluded"] else tax)
        assert money(order["totalPriceSet"], side) == total, order["name"]
        assert money(order["totalTaxSet"], side) == tax
        assert money(order["totalDiscountsSet"], side) == discount
        paid = sum(
            money(one["amountSet"], side)
            for one in order["transactions"]
            if one["kind"] in ("SALE", "CAPTURE") and one["status"] == "SUCCESS"
        )
        if order["displayFinancialStatus"] in ("PAID", "PARTIALLY_REFUNDED", "REFUNDED"):
            assert paid == total
        for refund in order["refunds"]:
            back = Decimal(0)
            back += sum(money(one["subtotalSet"], side) for one in refund["refundLineItems"]["nodes"])
            back += sum(money(one["subtotalAmountSet"], side) for one in refund["refundShippingLines"]["nodes"])
            back -= sum(money(one["amountSet"], side) for one in refund["orderAdjustments"]["nodes"])
            if not order["taxesIncluded"]:
                back += sum(money(one["totalTaxSet"], side) for one in refund["refundLineItems"]["nodes"])
                back += sum(money(one["taxAmountSet"], side) for one in refund["refundShippingLines"]["nodes"])
            assert money(refund["totalRefundedSet"], side) == back
            assert sum(money(one["amountSet"], side) for one in refund["transactions"]["nodes"]) == back


def test_planted_orders_show_what_they_are_planted_for(base: str, company: Company) -> None:
    planted = {one.kind: one for one in company.planted(START, START + timedelta(days=6)) if one.stream == "orders"}
    shown = {}
    for kind, one in planted.items():
        query = f"query($id: ID!) {{ order(id: $id) {{ {ORDER} {REFUNDS} }} }}"
        shown[kind] = ask(base, one.connection, query, id=f"gid://shopify/Order/{one.source_id}")["order"]
    status = {kind: one["displayFinancialStatus"] for kind, one in shown.items()}
    assert status["full_refund"] == status["cancelled_after_capture"] == "REFUNDED"
    assert status["partial_refund"] == "PARTIALLY_REFUNDED"
    assert (status["authorised_only"], status["cancelled_before_capture"]) == ("AUTHORIZED", "VOIDED")
    assert shown["cancelled_before_capture"]["cancelledAt"]
    assert shown["test_order"]["test"] is True
    assert shown["edited_order"]["edited"] is True
    assert shown["edited_order"]["originalTotalPriceSet"] != shown["edited_order"]["totalPriceSet"]
    assert [one["isGiftCard"] for one in shown["gift_card_sold"]["lineItems"]["nodes"]] == [True]
    gateways = [one["gateway"] for one in shown["gift_card_pays_all"]["transactions"]]
    assert gateways == ["gift_card"]
    assert shown["tax_included"]["taxesIncluded"] is True
    assert [one["rate"] for line in shown["tax_included"]["lineItems"]["nodes"] for one in line["taxLines"]] == [
        0.2,
        0.2,
    ]


def test_more_line_items_than_a_nested_page_are_fetched_by_cursor(base: str, company: Company) -> None:
    (planted,) = [one for one in company.planted(START, START + timedelta(days=6)) if one.kind == "many_lines"]
    query = """query($id: ID!, $after: String) { order(id: $id) {
                 lineItems(first: 50, after: $after) { pageInfo { hasNextPage endCursor } nodes { id } } } }"""
    order_id = f"gid://shopify/Order/{planted.source_id}"
    first = ask(base, "shopify_us", query, id=order_id)["order"]["lineItems"]
    assert (len(first["nodes"]), first["pageInfo"]["hasNextPage"]) == (50, True)
    second = ask(base, "shopify_us", query, id=order_id, after=first["pageInfo"]["endCursor"])["order"]["lineItems"]
    assert (len(second["nodes"]), second["pageInfo"]["hasNextPage"]) == (10, False)
    assert len({one["id"] for one in first["nodes"] + second["nodes"]}) == 60


# Listing and searching.


@pytest.mark.parametrize("first", [1, 7, 250])
def test_pages_hold_every_order_once_but_for_the_planted_repeat(base: str, company: Company, first: int) -> None:
    found = Counter(
        one["legacyResourceId"]
        for one in every_order(base, "shopify_us", "legacyResourceId", first, sortKey="UPDATED_AT")
    )
    days = [START + timedelta(days=n) for n in range(14)]
    facts = [one for day in days for one in company.orders("shopify_us", day) if one.at <= LATE]
    assert set(found) == {str(one.order_id) for one in facts}
    repeated = {one.source_id for one in company.planted(START, days[-1]) if one.kind == "duplicate_order"}
    assert {number for number, times in found.items() if times == 2} == repeated
    assert set(found.values()) == {1, 2}


def test_the_repeated_order_stands_on_two_pages(base: str, company: Company) -> None:
    (planted,) = [one for one in company.planted(START, START + timedelta(days=6)) if one.kind == "duplicate_order"]
    pages: list[list[str]] = []
    after = None
    query = """query($after: String) { orders(first: 250, after: $after, query: "created_at:<'2026-10-12T00:00:00Z'") {
                 pageInfo { hasNextPage endCursor } nodes { legacyResourceId } } }"""
    while True:
        page = ask(base, "shopify_us", query, after=after)["orders"]
        pages.append([one["legacyResourceId"] for one in page["nodes"]])
        after = page["pageInfo"]["endCursor"]
        if not page["pageInfo"]["hasNextPage"]:
            break
    holding = [place for place, page in enumerate(pages) if planted.source_id in page]
    assert len(holding) == 2
    assert all(page.count(planted.source_id) <= 1 for page in pages)


@pytest.mark.parametrize("shop", SHOPS)
def test_an_updated_window_holds_exactly_the_orders_last_changed_in_it(base: str, company: Company, shop: str) -> None:
    since, until = datetime(2026, 10, 7, 10, 0, tzinfo=UTC), datetime(2026, 10, 9, 4, 0, tzinfo=UTC)
    text = f"\"updated_at:>='{since:%Y-%m-%dT%H:%M:%SZ}' AND updated_at:<'{until:%Y-%m-%dT%H:%M:%SZ}'\""
    shown = every_order(base, shop, "legacyResourceId updatedAt", sortKey="UPDATED_AT", query=text)
    stamps = [one["updatedAt"] for one in shown]
    assert stamps == sorted(stamps)
    facts = {}
    for n in range(14):
        for order in company.orders(shop, START + timedelta(days=n)):
            moments = [at for at in changes(order) if at <= LATE]
            if moments and since <= max(moments) < until:
                facts[str(order.order_id)] = max(moments).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert {one["legacyResourceId"]: one["updatedAt"] for one in shown} == facts
    count = ask(base, shop, f"{{ ordersCount(query: {text}) {{ count precision }} }}")["ordersCount"]
    assert count == {"count": len(facts), "precision": "EXACT"}


def test_a_nights_window_at_its_clock_holds_what_changed_that_day(base: str, company: Company, clock: Clock) -> None:
    """Each night sees the orders touched on its day, with their state as of that night."""
    for n in range(8):
        day = START + timedelta(days=n)
        clock.set(datetime(day.year, day.month, day.day, 5, 30, tzinfo=UTC) + timedelta(days=1))
        text = f"\"updated_at:>='{day}T04:00:00Z' updated_at:<'{day + timedelta(days=1)}T04:00:00Z'\""
        shown = every_order(base, "shopify_us", "legacyResourceId", sortKey="UPDATED_AT", query=text)
        touched = {str(one.order_id) for one in company.orders_touched("shopify_us", day)}
        assert {one["legacyResourceId"] for one in shown} == touched


def test_an_order_shows_its_state_at_the_clock(base: str, company: Company, clock: Clock) -> None:
    (planted,) = [one for one in company.planted(START, START + timedelta(days=2)) if one.kind == "edited_order"]
    order = company.order("shopify_us", int(planted.source_id))
    assert order is not None
    assert order.edited_at is not None
    fields = f"edited updatedAt lineItems(first: 9) {{ nodes {{ id }} }} totalPriceSet {MONEY}"
    query = f'{{ order(id: "gid://shopify/Order/{order.order_id}") {{ {fields} }} }}'
    clock.set(order.at - timedelta(seconds=1))
    assert ask(base, "shopify_us", query)["order"] is None
    clock.set(order.edited_at - timedelta(seconds=1))
    before = ask(base, "shopify_us", query)["order"]
    clock.set(order.edited_at + timedelta(minutes=1))
    after = ask(base, "shopify_us", query)["order"]
    assert (before["edited"], after["edited"]) == (False, True)
    assert len(after["lineItems"]["nodes"]) == len(before["lineItems"]["nodes"]) + 1
    assert money(after["totalPriceSet"], "shopMoney") > money(before["totalPriceSet"], "shopMoney")
    assert after["updatedAt"] > before["updatedAt"]


def ids(base: str, text: str) -> set[str]:
    escaped = json.dumps(text)
    return {one["id"] for one in every_order(base, "shopify_us", "id", 250, query=escaped)}


def test_search_terms_combine(base: str) -> None:
    whole = ids(base, "")
    assert ids(base, "test:true") | ids(base, "test:false") == whole
    assert ids(base, "test:true") == whole - ids(base, "-test:true")
    assert ids(base, "financial_status:refunded OR financial_status:voided") == ids(
        base, "financial_status:refunded"
    ) | ids(base, "financial_status:voided")
    one = min(whole)
    assert ids(base, f"id:{one.rpartition('/')[2]}") == {one}
    # A bare date is the shop's own day: New York's 5 October.
    assert ids(base, "created_at:'2026-10-05'") == ids(
        base, "created_at:>='2026-10-05T04:00:00Z' created_at:<'2026-10-06T04:00:00Z'"
    )


def test_a_time_without_quotes_counts_as_its_date_only(base: str) -> None:
    """As Shopify has it: https://community.shopify.com/t/208519."""
    assert ids(base, "created_at:>=2026-10-08T18:00:00Z") == ids(base, "created_at:>='2026-10-08'")
    assert ids(base, "created_at:>='2026-10-08T18:00:00Z'") < ids(base, "created_at:>='2026-10-08'")


def test_an_unknown_search_field_is_ignored_with_a_warning(base: str) -> None:
    answer = post(base, "shopify_us", '{ ordersCount(query: "colour:red") { count } }')
    whole = ask(base, "shopify_us", "{ ordersCount { count } }")
    assert answer["data"] == whole
    (warning,) = answer["extensions"]["search"][0]["warnings"]
    assert (warning["field"], warning["code"]) == ("colour", "invalid_field")


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("{ orders { nodes { id } } }", "you must provide one of first or last"),
        ("{ orders(first: 251) { nodes { id } } }", "over 250"),
        ("{ orders(first: 1, after: \"x\") { nodes { id } } }", "Invalid cursor"),
        ("{ orders(first: 1, sortKey: CUSTOMER_NAME) { nodes { id } } }", "The sandbox sorts orders by"),
        ("{ orders(first: 1) { nodes { id } ", "Syntax Error"),
        ("{ order(id: \"7\") { id } }", "Invalid global id '7'"),
    ],
)  # fmt: skip
def test_what_cannot_be_answered_is_refused(base: str, query: str, message: str) -> None:
    assert message in post(base, "shopify_us", query)["errors"][0]["message"]


def test_last_and_before_walk_back(base: str) -> None:
    forward = every_order(base, "shopify_uk", "id", 250, sortKey="CREATED_AT")
    query = """query($before: String) { orders(last: 5, before: $before, sortKey: CREATED_AT) {
                 pageInfo { hasPreviousPage startCursor } nodes { id } } }"""
    end = ask(base, "shopify_uk", query)["orders"]
    assert end["nodes"] == forward[-5:]
    assert end["pageInfo"]["hasPreviousPage"] is True
    earlier = ask(base, "shopify_uk", query, before=end["pageInfo"]["startCursor"])["orders"]
    assert earlier["nodes"] == forward[-10:-5]


def test_a_node_is_found_by_its_gid_and_its_type_narrowed(base: str) -> None:
    orders = [one for one in every_order(base, "shopify_us", f"id {REFUNDS}") if one["refunds"]]
    refund = orders[0]["refunds"][0]
    query = (
        "query($id: ID!) { node(id: $id) { __typename id ... on Refund { legacyResourceId } ... on Order { name } } }"
    )
    shown = ask(base, "shopify_us", query, id=refund["id"])["node"]
    assert shown == {"__typename": "Refund", "id": refund["id"], "legacyResourceId": refund["legacyResourceId"]}
    assert ask(base, "shopify_us", query, id=orders[0]["id"])["node"]["__typename"] == "Order"
    assert ask(base, "shopify_us", query, id="gid://shopify/Order/1")["node"] is None
    lines = "query($id: ID!) { refund(id: $id) { refundLineItems(first: 50) { nodes { id } } } }"
    own = [one["id"] for one in refund["refundLineItems"]["nodes"]]
    assert [
        one["id"] for one in ask(base, "shopify_us", lines, id=refund["id"])["refund"]["refundLineItems"]["nodes"]
    ] == own


# Shopify Payments.

TRANSACTIONS = """query($after: String, $q: String, $hide: Boolean) { shopifyPaymentsAccount {
  balanceTransactions(first: 100, after: $after, query: $q, hideTransfers: $hide) { pageInfo { hasNextPage endCursor }
    nodes { id type sourceType transactionDate amount { amount } fee { amount } net { amount }
      associatedPayout { id status } } } } }"""


def transactions(base: str, **variables: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    after = None
    while True:
        account = ask(base, "shopify_uk", TRANSACTIONS, after=after, **variables)["shopifyPaymentsAccount"]
        page = account["balanceTransactions"]
        found += page["nodes"]
        after = page["pageInfo"]["endCursor"]
        if not page["pageInfo"]["hasNextPage"]:
            return found


def test_balance_transactions_are_the_companys_in_shopifys_signs(base: str, company: Company) -> None:
    shown = {one["id"].rpartition("/")[2]: one for one in transactions(base)}
    days = [START + timedelta(days=n) for n in range(14)]
    facts = {
        one.txn_id: one for day in days for one in company.processor_transactions("shopify_uk", day) if one.at <= LATE
    }
    assert shown.keys() == facts.keys()
    for txn_id, one in shown.items():
        amount, fee, net = (Decimal(one[name]["amount"]) for name in ("amount", "fee", "net"))
        assert (amount, fee) == (Decimal(facts[txn_id].amount) / 100, Decimal(facts[txn_id].fee) / 100)
        assert net == amount - fee
    signs = {(one["type"], one["sourceType"], Decimal(one["amount"]["amount"]) > 0) for one in shown.values()}
    assert signs == {
        ("CHARGE", "CHARGE", True), ("REFUND", "REFUND", False), ("TRANSFER", "TRANSFER", False),
        ("DISPUTE_WITHDRAWAL", "DISPUTE", False),
    }  # fmt: skip


def test_a_payout_is_the_sum_of_its_balance_transactions(base: str) -> None:
    query = "{ shopifyPaymentsAccount { payouts(first: 50) { nodes { id legacyResourceId status net { amount } } } } }"
    payouts = ask(base, "shopify_uk", query)["shopifyPaymentsAccount"]["payouts"]["nodes"]
    assert {one["status"] for one in payouts} == {"PAID", "SCHEDULED"}
    for payout in payouts:
        rows = transactions(base, q=f"payments_transfer_id:{payout['legacyResourceId']}", hide=True)
        assert sum(Decimal(one["net"]["amount"]) for one in rows) == Decimal(payout["net"]["amount"])
        assert {one["associatedPayout"]["id"] for one in rows} == {payout["id"]}
    pending = transactions(base, q="payout_status:pending")
    assert pending
    assert {one["associatedPayout"]["id"] for one in pending} == {None}


def test_balance_transactions_filter_by_processing_time_and_hide_transfers(base: str) -> None:
    whole = transactions(base)
    since, until = "2026-10-07T23:00:00Z", "2026-10-08T23:00:00Z"
    window = transactions(base, q=f"processed_at:>='{since}' processed_at:<'{until}'")
    assert window == [one for one in whole if since <= one["transactionDate"] < until]
    assert transactions(base, hide=True) == [one for one in whole if one["type"] != "TRANSFER"]
    assert transactions(base, q="transaction_type:refund") == [one for one in whole if one["type"] == "REFUND"]


def test_a_shop_without_payments_has_no_account(base: str) -> None:
    assert ask(base, "shopify_us", "{ shopifyPaymentsAccount { id } }") == {"shopifyPaymentsAccount": None}


# Bulk operations.

RUN = """mutation($q: String!, $g: Boolean!) { bulkOperationRunQuery(query: $q, groupObjects: $g) {
  bulkOperation { id status } userErrors { field message code } } }"""
LOOK = """query($id: ID!) { bulkOperation(id: $id) {
  id status type errorCode createdAt completedAt objectCount rootObjectCount fileSize url } }"""


def run_bulk(base: str, shop: str, query: str, is_grouped: bool) -> tuple[dict[str, Any], list[str]]:
    """The completed operation and the file's lines."""
    payload = ask(base, shop, RUN, q=query, g=is_grouped)["bulkOperationRunQuery"]
    assert payload["userErrors"] == []
    assert payload["bulkOperation"]["status"] == "CREATED"
    states = []
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        look = ask(base, shop, LOOK, id=payload["bulkOperation"]["id"])["bulkOperation"]
        states.append(look["status"])
        if look["status"] != "RUNNING":
            break
        time.sleep(0.02)
    assert states[0] == "RUNNING"
    assert states[-1] == "COMPLETED"
    answer = requests.get(look["url"], timeout=10)
    assert int(look["fileSize"]) == len(answer.content)
    lines = answer.text.splitlines()
    assert int(look["objectCount"]) == len(lines)
    return look, lines


@pytest.mark.parametrize("is_grouped", [True, False])
@pytest.mark.parametrize("shop", SHOPS)
def test_the_bulk_file_reassembles_to_the_listed_orders(base: str, shop: str, is_grouped: bool) -> None:
    nested = (
        re.sub(r"pageInfo \{[^}]*\}", "", ORDER)
        .replace("(first: 50)", "")
        .replace("shippingLines(first: 5)", "shippingLines")
    )
    text = "query: \"updated_at:>='2026-10-06T00:00:00Z' updated_at:<'2026-10-11T00:00:00Z'\""
    look, lines = run_bulk(base, shop, f"{{ orders({text}) {{ edges {{ node {{ {nested} }} }} }} }}", is_grouped)
    orders: dict[str, dict[str, Any]] = {}
    last_parent = ""
    apart = 0
    for line in lines:
        one = json.loads(line)
        parent = one.pop("__parentId", None)
        if parent is None:
            last_parent = one["id"]
            orders[one["id"]] = one | {"lineItems": {"nodes": []}, "shippingLines": {"nodes": []}}
            continue
        apart += parent != last_parent
        name = "lineItems" if "/LineItem/" in one["id"] else "shippingLines"
        orders[parent][name]["nodes"].append(one)
    assert bool(apart) is not is_grouped
    assert int(look["rootObjectCount"]) == len(orders)
    fields = ORDER.replace("lineItems(first: 50)", "lineItems(first: 100)")
    listed = every_order(base, shop, fields, 250, sortKey="UPDATED_AT", query=text.removeprefix("query: "))
    for one in listed:
        one["lineItems"].pop("pageInfo")
    assert orders == {one["id"]: one for one in listed}
    assert len(orders) > 80


def test_bulk_reads_balance_transactions_too(base: str) -> None:
    query = "{ shopifyPaymentsAccount { balanceTransactions { edges { node { id net { amount } } } } } }"
    _, lines = run_bulk(base, "shopify_uk", query, False)
    assert [json.loads(line)["id"] for line in lines] == [one["id"] for one in transactions(base)]


def test_one_bulk_query_runs_at_a_time_and_can_be_cancelled(company: Company) -> None:
    with running(company, clock=Clock(LATE), site=Site(bulk_polls=10**6)) as url:
        first = ask(url, "shopify_us", RUN, q="{ orders { edges { node { id } } } }", g=False)["bulkOperationRunQuery"]
        second = ask(url, "shopify_us", RUN, q="{ orders { edges { node { id } } } }", g=False)["bulkOperationRunQuery"]
        assert second["bulkOperation"] is None
        assert second["userErrors"][0]["code"] == "OPERATION_IN_PROGRESS"
        operation_id = first["bulkOperation"]["id"]
        assert operation_id in second["userErrors"][0]["message"]
        listed = ask(url, "shopify_us", '{ bulkOperations(first: 5, query: "status:running") { nodes { id } } }')
        assert listed == {"bulkOperations": {"nodes": [{"id": operation_id}]}}
        cancel = (
            "mutation($id: ID!) { bulkOperationCancel(id: $id) { bulkOperation { status } userErrors { message } } }"
        )
        cancelled = ask(url, "shopify_us", cancel, id=operation_id)["bulkOperationCancel"]
        assert cancelled == {"bulkOperation": {"status": "CANCELED"}, "userErrors": []}
        third = ask(url, "shopify_us", RUN, q="{ orders { edges { node { id } } } }", g=False)["bulkOperationRunQuery"]
        assert third["userErrors"] == []


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("{ shop { name } }", "at least one connection"),
        (
            "{ orders { edges { node { id refunds { id refundLineItems { edges { node { id } } } } } } } }",
            "within a list",
        ),
        ("{ orders { edges { node { name lineItems { edges { node { id } } } } } } }", "must select the 'id' field"),
        ("{ orders { edges { node { id colour } } } }", "doesn't exist on type 'Order'"),
        ("{ orders { edges { node { id } } } shop { name } }", "exactly one top level field"),
        ("mutation { bulkOperationCancel(id: 1) { userErrors { message } } }", "must be queries"),
    ],
)
def test_bulk_queries_that_shopify_refuses_are_refused(base: str, query: str, words: str) -> None:
    payload = ask(base, "shopify_us", RUN, q=query, g=False)["bulkOperationRunQuery"]
    assert payload["bulkOperation"] is None
    assert words in payload["userErrors"][0]["message"]


def test_a_bulk_file_needs_its_signature(base: str) -> None:
    look, _ = run_bulk(base, "shopify_us", "{ orders { edges { node { id } } } }", False)
    assert requests.get(look["url"].partition("?")[0], timeout=10).status_code == 403


# Cost and keys.


@pytest.mark.parametrize(
    ("query", "requested", "actual"),
    [
        ("{ shop { name } }", 1, 1),
        ("{ orders(first: 10) { nodes { id } } }", 12, 12),
        ("{ orders(first: 10) { edges { cursor node { id } } pageInfo { endCursor } } }", 12, 12),
        ("{ orders(first: 2) { nodes { totalPriceSet { shopMoney { amount } } } } }", 8, 8),
        ("{ orders(first: 3) { nodes { lineItems(first: 100) { nodes { id } } } } }", 2 + 3 * (1 + 2 + 100), None),
        ("{ shopifyPaymentsAccount { id } }", 1, 0),
    ],
)
def test_costs_follow_the_published_model(base: str, query: str, requested: int, actual: int | None) -> None:
    cost = post(base, "shopify_us", query)["extensions"]["cost"]
    assert cost["requestedQueryCost"] == requested
    assert cost["actualQueryCost"] == actual if actual is not None else 0 < cost["actualQueryCost"] < requested


def test_a_query_over_the_limit_is_refused_whole(company: Company) -> None:
    with running(company, clock=Clock(LATE)) as url:
        answer = post(url, "shopify_us", "{ orders(first: 250) { nodes { lineItems(first: 4) { nodes { id } } } } }")
    assert "data" not in answer
    assert answer["errors"][0]["extensions"] == {
        "code": "MAX_COST_EXCEEDED", "cost": 1752, "maxCost": 1000, "documentation": "https://shopify.dev/api/usage/rate-limits",
    }  # fmt: skip
    assert answer["errors"][0]["message"].startswith(
        "Query cost is 1752, which exceeds the single query max cost limit (1000)."
    )


def test_an_empty_bucket_throttles_inside_http_200_and_fills_again(company: Company) -> None:
    query = "{ orders(first: 98) { nodes { id } } }"
    with running(company, clock=Clock(LATE), site=Site(bucket=150, restore_rate=200)) as url:
        first = post(url, "shopify_us", query)
        second = post(url, "shopify_us", query)
        status = second["extensions"]["cost"]["throttleStatus"]
        assert first["extensions"]["cost"]["actualQueryCost"] == 100
        assert second["errors"][0]["extensions"]["code"] == "THROTTLED"
        assert second["extensions"]["cost"]["actualQueryCost"] is None
        assert (status["maximumAvailable"], status["restoreRate"]) == (150.0, 200.0)
        assert status["currentlyAvailable"] < 100
        time.sleep((100 - status["currentlyAvailable"]) / 200 + 0.05)
        assert "errors" not in post(url, "shopify_us", query)


def test_what_was_asked_too_much_is_given_back(company: Company) -> None:
    """The bucket pays the actual cost: 952 points are asked for, and the shop's orders have mostly one line."""
    with running(company, clock=Clock(LATE), site=Site(bucket=2000, restore_rate=0)) as url:
        cost = post(url, "shopify_us", "{ orders(first: 190) { nodes { lineItems(first: 2) { nodes { id } } } } }")[
            "extensions"
        ]["cost"]
        assert cost["throttleStatus"]["currentlyAvailable"] == 2000 - cost["actualQueryCost"]
        assert cost["actualQueryCost"] < cost["requestedQueryCost"]


@pytest.mark.parametrize("token", [None, "shpat_sandbox_shopify_uk"])
def test_a_wrong_token_is_refused_in_shopifys_form(base: str, token: str | None) -> None:
    headers = {"X-Shopify-Access-Token": token} if token else {}
    url = f"{base}/shopify_us/admin/api/2026-10/graphql.json"
    answer = requests.post(url, json={"query": "{ shop { name } }"}, headers=headers, timeout=10)
    assert answer.status_code == 401
    assert answer.json() == {"errors": "[API] Invalid API key or access token (unrecognized login or wrong password)"}
