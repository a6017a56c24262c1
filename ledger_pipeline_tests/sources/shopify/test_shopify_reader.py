"""Reading the sandbox's shops: pages, nested pages, bulk operations, counts that differ, and errors inside a 200."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest
from graphql import GraphQLSchema, build_schema, parse, validate

from ledger_pipeline.connect.errors import AuthError, PageFault, RateLimited, RequestRejected
from ledger_pipeline.sandbox.graphql import CostModel, check_sizes
from ledger_pipeline.sandbox.server import running
from ledger_pipeline.sandbox.wire import Clock, Site
from ledger_pipeline.sources.shopify import queries, reader
from ledger_pipeline.sources.shopify.reader import PATH, Orders, reassembled, spliced
from ledger_pipeline.sources.shopify.sandbox import engine
from ledger_pipeline.sources.shopify.spec import SOURCE, ShopifyOptions

from .conftest import START, Pulled, Shops, mapped, rows

SDL = Path(__file__).resolve().parents[3] / ".." / "shared" / "contracts" / "shopify" / "admin_2026-10.graphql"
WEEK = [START + timedelta(days=n) for n in range(7)]
RESTS = [(owner, field) for owner, fields in queries.NESTED.items() for field in fields]
DOCUMENTS = {
    "count": queries.ORDERS_COUNT,
    "orders": queries.ORDERS,
    "whole": queries.whole_orders(queries.WHOLE_PER_REQUEST),
    **{f"rest of {owner} {field}": queries.rest_of(owner, field) for owner, field in RESTS},
    "bulk": queries.bulk_orders("updated_at:>='2026-10-05T04:00:00Z'"),
    "bulk run": queries.BULK_RUN,
    "bulk state": queries.BULK_STATE,
    "balance transactions": queries.BALANCE_TRANSACTIONS,
    "payouts": queries.PAYOUTS,
    "disputes": queries.DISPUTES,
}


@pytest.fixture(scope="module")
def schema() -> GraphQLSchema:
    if not SDL.exists():
        pytest.skip(f"the published schema is not at {SDL.name} beside the repository")
    return build_schema(SDL.read_text(), assume_valid=True)


# queries ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_query_fits_the_published_schema(name: str, schema: GraphQLSchema) -> None:
    assert validate(schema, parse(DOCUMENTS[name])) == []


def test_a_query_with_an_unknown_field_would_not_fit(schema: GraphQLSchema) -> None:
    assert validate(schema, parse("{ ordersCount { total } }")) != []


def _cost(document: str, **variables: Any) -> int:
    _, fields = engine().bind(document, variables)
    check_sizes(fields)
    return CostModel().requested(fields)


def test_a_page_of_ten_orders_costs_less_than_a_query_may() -> None:
    assert _cost(queries.ORDERS, first=queries.MAX_PAGE_SIZE) == 952
    ids = {f"id{n}": "gid://shopify/Order/1" for n in range(queries.WHOLE_PER_REQUEST)}
    assert _cost(queries.whole_orders(queries.WHOLE_PER_REQUEST), **ids) <= 1000


@pytest.mark.parametrize(("owner", "field"), RESTS)
def test_a_page_of_a_nested_list_costs_less_than_a_query_may(owner: str, field: str) -> None:
    assert _cost(queries.rest_of(owner, field), id="gid://shopify/Order/1", first=queries.REST_PER_PAGE) <= 1000


def test_nothing_personal_is_asked_for() -> None:
    words = "".join(c if c.isalnum() else " " for text in DOCUMENTS.values() for c in text).split()
    personal = {"email", "phone", "firstName", "lastName", "displayName", "address1", "address2", "city", "zip", "note"}
    assert not personal & set(words)


# pages -----------------------------------------------------------------------------------------


def _ids(payloads: list[bytes]) -> list[str]:
    return [json.loads(one)["legacyResourceId"] for one in payloads]


@pytest.mark.parametrize("connection", ["shopify_us", "shopify_uk"])
def test_a_day_is_pulled_as_counted_each_order_once(shops: Shops, connection: str) -> None:
    for day in WEEK:
        pulled = shops.pull(connection, "orders", day)
        assert len(set(_ids(pulled.payloads))) == len(pulled.payloads) == pulled.request.expected
        assert "read_again" not in pulled.request.notes


def test_an_order_that_stands_on_two_pages_is_kept_once(shops: Shops) -> None:
    repeated = sum(shops.pull("shopify_us", "orders", day).request.repeated for day in WEEK)
    assert repeated == 1


@pytest.mark.parametrize("connection", ["shopify_us", "shopify_uk"])
@pytest.mark.parametrize("day", WEEK, ids=str)
def test_pages_and_bulk_yield_the_same_rows(shops: Shops, connection: str, day: date) -> None:
    paged = shops.pull(connection, "orders", day)
    in_bulk = shops.pull(connection, "orders", day, bulk_from=1)
    assert in_bulk.request.notes["bulk_operations"] == 1
    assert rows(mapped(paged.payloads).tables, ("raw_id", "line_no")) == rows(
        mapped(in_bulk.payloads).tables, ("raw_id", "line_no")
    )
    assert _keyed(paged) == _keyed(in_bulk)


def _keyed(pulled: Pulled) -> dict[str, Any]:
    return {
        one: _plain(json.loads(payload)) for one, payload in zip(_ids(pulled.payloads), pulled.payloads, strict=True)
    }


def _plain(value: Any) -> Any:
    """Without what only one of the two ways adds: the parent of a bulk line, the last cursor of a page."""
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items() if k not in ("__parentId", "endCursor")}
    return value


@pytest.mark.parametrize("options", [{}, {"bulk_from": 1}], ids=["pages", "bulk"])
def test_an_order_of_sixty_lines_comes_whole(shops: Shops, options: dict[str, Any]) -> None:
    found: list[dict[str, Any]] = []
    for day in WEEK:
        found += [json.loads(one) for one in shops.pull("shopify_us", "orders", day, **options).payloads]
    longest = max(found, key=lambda order: len(order["lineItems"]["nodes"]))
    ids = [line["id"] for line in longest["lineItems"]["nodes"]]
    assert len(ids) == len(set(ids)) == 60
    assert longest["lineItems"]["pageInfo"]["hasNextPage"] is False
    tables = rows(mapped([json.dumps(longest).encode()]).tables)
    assert tables["sale"][0]["total_minor"] == sum(
        [line["net_minor"] - line["discount_minor"] for line in tables["sale_line"]]
        + [tax["amount_minor"] for tax in tables["sale_tax"]]
    )


def test_refund_lines_beyond_their_page_are_fetched(shops: Shops, monkeypatch: pytest.MonkeyPatch) -> None:
    day = WEEK[1]
    expected = rows(mapped(shops.pull("shopify_us", "orders", day).payloads).tables)
    assert len(expected["refund_line"]) > len(expected["refund"])
    short = queries._connection("refundLineItems", queries._REFUND_LINE, 1)
    monkeypatch.setattr(
        queries,
        "_REFUND",
        queries._REFUND.replace(queries._connection("refundLineItems", queries._REFUND_LINE, 8), short),
    )
    monkeypatch.setattr(queries, "REST_PER_PAGE", 1)
    again = shops.pull("shopify_us", "orders", day)
    assert again.request.notes["orders_with_longer_lists"] >= 1
    assert rows(mapped(again.payloads).tables) == expected


def test_splicing_keeps_every_other_byte() -> None:
    before = (
        b'{ "b":1.50,"refunds":[{"x":{"pageInfo":{"hasNextPage":true},"nodes":[{"id" : 1}]},"t":"\\u00e9"}] , "a":null}'
    )
    after = spliced(before, ("refunds", 0, "x"), [b'{"id" : 2}'])
    assert b'"nodes":[{"id" : 1},{"id" : 2}]' in after
    assert b'"b":1.50' in after
    assert b'"t":"\\u00e9"' in after
    changed = msgspec.json.decode(after)
    assert changed["refunds"][0]["x"]["pageInfo"] == {"hasNextPage": False, "endCursor": None}


# counts ----------------------------------------------------------------------------------------


def test_a_listing_that_ends_early_is_read_again(shops: Shops) -> None:
    shops.strike("early_end", "query Orders", times=1)
    pulled = shops.pull("shopify_us", "orders", WEEK[0])
    assert len(pulled.payloads) == pulled.request.expected
    assert pulled.request.notes["read_again"] == 1


def test_what_was_handed_on_before_the_second_reading_comes_again(
    shops: Shops, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a day of thousands, whose orders aren't held back until the listing has ended."""
    monkeypatch.setattr(reader, "HELD", 5)
    honest = shops.pull("shopify_us", "orders", WEEK[0])
    shops.strike("early_end", "query Orders", times=1)
    pulled = shops.pull("shopify_us", "orders", WEEK[0])
    assert pulled.request.notes["read_again"] == 1
    assert "listed_more_than_counted" not in pulled.request.notes
    assert _ids(pulled.payloads) == _ids(honest.payloads)[:10] + _ids(honest.payloads)


def test_a_listing_that_ends_early_twice_is_a_page_fault(shops: Shops) -> None:
    shops.strike("early_end", "query Orders", times=2)
    request = shops.request("shopify_us", "orders", WEEK[0])
    with pytest.raises(PageFault, match=r"pulled 10 of 4\d") as caught:
        list(SOURCE.stream("orders").read(request))
    assert caught.value.kind == "early_end"


def test_a_count_that_stays_too_low_is_noted_and_nothing_is_lost(shops: Shops) -> None:
    honest = shops.pull("shopify_us", "orders", WEEK[0])
    shops.strike("stale_count", "query Counted", times=2)
    pulled = shops.pull("shopify_us", "orders", WEEK[0])
    assert pulled.request.notes["listed_more_than_counted"] == 1
    assert _ids(pulled.payloads) == _ids(honest.payloads)


# bulk ------------------------------------------------------------------------------------------


def test_a_large_window_is_read_by_several_operations(shops: Shops) -> None:
    request = shops.request("shopify_us", "orders", WEEK[2], bulk_from=1)
    pages = list(Orders(bulk_most=20)(request))
    assert request.notes["bulk_operations"] == len(pages) >= 3
    assert sorted(_ids([one for page in pages for one in page])) == sorted(
        _ids(shops.pull("shopify_us", "orders", WEEK[2]).payloads)
    )


def test_an_operation_that_never_ends_is_given_up(shops: Shops) -> None:
    shops.site.bulk_polls = 1_000_000
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    request = shops.request("shopify_us", "orders", WEEK[0], bulk_from=1)
    with pytest.raises(RateLimited, match="was not over after 3600 s"):
        list(Orders(sleep=sleep, clock=lambda: now[0])(request))
    assert 3000 < now[0] <= 3600


def test_another_operation_of_the_app_is_waited_for(shops: Shops) -> None:
    request = shops.request("shopify_us", "orders", WEEK[0], bulk_from=1)
    assert request.client is not None
    other = request.client.post(
        PATH, {"query": queries.BULK_RUN, "variables": {"query": queries.bulk_orders("test:false")}}
    )
    [operation] = [msgspec.json.decode(other.json_bytes)["data"]["bulkOperationRunQuery"]["bulkOperation"]["id"]]
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        assert request.client is not None
        request.client.post(PATH, {"query": queries.BULK_STATE, "variables": {"id": operation}})
        threading.Event().wait(0.05)

    found = [one for page in Orders(sleep=sleep)(request) for one in page]
    assert len(found) == request.expected
    assert len(waits) >= 2


def test_children_go_to_their_parents_wherever_they_stand() -> None:
    file = b"""{"id":"gid://shopify/Order/1","n":1}
{"id":"gid://shopify/Order/2","n":2}
{"__typename":"LineItem","id":"gid://shopify/LineItem/9","__parentId":"gid://shopify/Order/2"}
{"__typename":"ShippingLine","id":null,"__parentId":"gid://shopify/Order/1"}
"""
    one, two = map(json.loads, reassembled(file))
    assert ([x["id"] for x in one["shippingLines"]["nodes"]], one["lineItems"]["nodes"]) == ([None], [])
    assert [x["id"] for x in two["lineItems"]["nodes"]] == ["gid://shopify/LineItem/9"]


def test_a_file_with_children_of_an_unknown_order_is_not_trusted() -> None:
    with pytest.raises(ValueError, match="aren't in it"):
        reassembled(b'{"__typename":"LineItem","id":"x","__parentId":"gid://shopify/Order/2"}\n')


# Shopify Payments ------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", ["balance_transactions", "payouts", "disputes"])
def test_a_shop_without_shopify_payments_is_noted(shops: Shops, stream: str) -> None:
    pulled = shops.pull("shopify_us", stream, WEEK[3])
    assert pulled.payloads == []
    assert pulled.request.notes == {"skipped": "this shop has no Shopify Payments account"}


def test_a_lost_dispute_is_seen_when_it_is_decided(shops: Shops) -> None:
    states = []
    for day in WEEK:
        found = shops.pull("shopify_uk", "disputes", day).payloads
        states += [row["state"] for row in rows(mapped(found, "disputes").tables).get("dispute", [])]
    assert states[0] == "open"
    assert states[-1] == "lost"


def test_an_account_without_disputes_is_no_missing_account(shops: Shops) -> None:
    pulled = shops.pull("shopify_uk", "disputes", WEEK[0])
    assert (pulled.payloads, pulled.request.notes) == ([], {})


# errors inside a 200 ---------------------------------------------------------------------------

Script = Callable[..., ShopifyOptions]
COST = {"requestedQueryCost": 100, "actualQueryCost": None,
        "throttleStatus": {"maximumAvailable": 2000.0, "currentlyAvailable": 95, "restoreRate": 100.0}}  # fmt: skip


@pytest.fixture
def script() -> Iterator[Script]:
    """A server that gives the scripted answers in turn, all with status 200; the last one again and again."""
    answers: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            body = json.dumps(answers.pop(0) if len(answers) > 1 else answers[0]).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()

    def use(*given: Any) -> ShopifyOptions:
        answers[:] = given
        return ShopifyOptions(shop_url=f"http://127.0.0.1:{server.server_port}", access_token="shpat_x")

    yield use
    server.shutdown()
    server.server_close()
    thread.join(5)


def _post(options: ShopifyOptions) -> dict[str, Any]:
    assert SOURCE.connect is not None
    with SOURCE.connect("shop", options) as client:
        answer = client.post(PATH, {"query": "{ shop { id } }"}, is_safe=True)
        return {"body": msgspec.json.decode(answer.json_bytes), "retries": client.stats.retries}


def test_throttled_inside_a_200_is_waited_for_and_sent_again(script: Script) -> None:
    throttled = {
        "errors": [{"message": "Throttled", "extensions": {"code": "THROTTLED"}}],
        "extensions": {"cost": COST},
    }
    found = _post(script(throttled, throttled, {"data": {"shop": {"id": "1"}}}))
    assert found == {"body": {"data": {"shop": {"id": "1"}}}, "retries": 2}


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        ({"errors": [{"message": "Access denied for orders field.", "path": ["orders"],
                      "extensions": {"code": "ACCESS_DENIED"}}], "data": None},
         AuthError, r"Access denied for orders field\. at orders \(ACCESS_DENIED\)"),
        ({"errors": [{"message": "Internal error", "path": ["orders", "nodes", 3, "totalPriceSet"]}, {"message": "x"}],
          "data": {"orders": None}}, RequestRejected, r"Internal error at orders\.nodes\.3\.totalPriceSet, and 1 more"),
        ({"errors": "Not Found"}, RequestRejected, "Not Found"),
        ({"data": {}, "extensions": {"search": [{"path": ["orders"], "query": "upd:1", "warnings": [
            {"field": "upd", "message": "Invalid search field for this query.", "code": "invalid_field"}]}]}},
         RequestRejected, "ignored a part of the search: upd: Invalid search field"),
    ],
    ids=["denied", "error with path", "text", "ignored filter"],
)  # fmt: skip
def test_errors_inside_a_200_are_errors(script: Script, answer: Any, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        _post(script(answer))


def test_a_wrong_key_is_an_auth_error(shops: Shops) -> None:
    options = ShopifyOptions(shop_url=f"{shops.url}/shopify_us", access_token="wrong")
    with pytest.raises(AuthError, match="Invalid API key"):
        _post(options)


def test_costs_are_learnt_so_that_a_small_bucket_never_throttles(company: Any) -> None:
    with running(company, clock=Clock(), site=Site(bucket=1000, restore_rate=2000)) as url:
        shops = Shops(url, company, Clock(), Site())
        request = shops.request("shopify_us", "orders", WEEK[0])
        assert request.client is not None
        found = [one for page in SOURCE.stream("orders").read(request) for one in page]
        assert len(found) == request.expected
        assert request.client.stats.retries == 0
        assert request.client.stats.throttled_seconds > 0


@pytest.mark.parametrize("bad", [{"page_size": 11}, {"page_size": 0}, {"bulk_from": 0}, {"token": "x"}])
def test_options_that_cannot_work_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        ShopifyOptions(shop_url="https://x.myshopify.com", access_token="y", **bad)
