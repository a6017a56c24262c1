"""The sandbox's harness: control routes, the clock, and every kind of fault as it really happens on the socket."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from ledger_pipeline.sandbox.company import Company
from ledger_pipeline.sandbox.faults import KINDS, Fault
from ledger_pipeline.sandbox.server import running, systems
from ledger_pipeline.sandbox.wire import Clock, Site, major

LATE = datetime(2026, 10, 12, 5, 30, tzinfo=UTC)
STRIPE = "stripe_us/v1/balance_transactions"
HEADERS = {
    "stripe_us": {"Authorization": "Bearer sk_test_sandbox_stripe_us"},
    "shopify_us": {"X-Shopify-Access-Token": "shpat_sandbox_shopify_us"},
}
PLAID_KEYS = {
    "client_id": "sandbox-client",
    "secret": "sandbox-secret-plaid_us",
    "access_token": "access-sandbox-plaid_us",
}


@pytest.fixture(scope="module")
def base() -> Iterator[str]:
    with running(Company(), clock=Clock(LATE), site=Site(restore_rate=1e9)) as url:
        yield url


@pytest.fixture(autouse=True)
def calm(base: str) -> Iterator[None]:
    yield
    requests.delete(f"{base}/_control/faults", timeout=5)
    requests.post(f"{base}/_control/clock", json={"now": LATE.isoformat()}, timeout=5)


def plan(base: str, **fault: Any) -> None:
    answer = requests.post(f"{base}/_control/faults", json=[{"route": STRIPE, **fault}], timeout=5)
    assert answer.status_code == 200, answer.text


def stripe(base: str, timeout: float = 10, **params: Any) -> requests.Response:
    return requests.get(f"{base}/{STRIPE}", params=params, headers=HEADERS["stripe_us"], timeout=timeout)


def shopify(base: str, query: str) -> requests.Response:
    url = f"{base}/shopify_us/admin/api/2026-10/graphql.json"
    return requests.post(url, json={"query": query}, headers=HEADERS["shopify_us"], timeout=10)


def plaid(base: str) -> requests.Response:
    return requests.post(f"{base}/plaid_us/accounts/get", json=PLAID_KEYS, timeout=10)


# Control.


def test_every_system_with_a_sandbox_is_mounted_without_a_registry(base: str) -> None:
    assert {"stripe", "shopify", "plaid"} <= set(systems())
    health = requests.get(f"{base}/_control/health", timeout=5).json()
    assert health["status"] == "ok"
    assert {"stripe_us", "shopify_uk", "plaid_us"} <= set(health["connections"])


def test_the_clock_can_be_set_and_let_go(base: str) -> None:
    url = f"{base}/_control/clock"
    assert requests.post(url, json={"now": "2026-10-06T01:30:00-04:00"}, timeout=5).json() == {
        "now": "2026-10-06T05:30:00Z",
        "is_real": False,
    }
    one_day = stripe(base, limit=100).json()["data"]
    assert requests.get(url, timeout=5).json()["now"] == "2026-10-06T05:30:00Z"
    assert max(one["created"] for one in one_day) <= datetime(2026, 10, 6, 5, 30, tzinfo=UTC).timestamp()
    free = requests.post(url, json={"now": None}, timeout=5).json()
    assert free["is_real"] is True
    assert abs(datetime.fromisoformat(free["now"]) - datetime.now(UTC)).total_seconds() < 5


@pytest.mark.parametrize("body", [{}, {"now": "soon"}, {"now": "2026-10-06T05:30:00"}, {"now": 7}])
def test_a_wrong_clock_is_refused(base: str, body: dict[str, Any]) -> None:
    answer = requests.post(f"{base}/_control/clock", json=body, timeout=5)
    assert answer.status_code == 400
    assert "error" in answer.json()


def test_requests_are_counted_by_path_and_outcome(base: str) -> None:
    requests.delete(f"{base}/_control/requests", timeout=5)
    plan(base, kind="500")
    for _ in range(3):
        stripe(base)
    rows = requests.get(f"{base}/_control/requests", timeout=5).json()
    assert rows == [
        {"method": "GET", "path": f"/{STRIPE}", "status": "200", "count": 2},
        {"method": "GET", "path": f"/{STRIPE}", "status": "500", "count": 1},
    ]


def test_the_truth_is_served(base: str) -> None:
    answer = requests.get(f"{base}/_truth", params={"through": "2026-10-06"}, timeout=60)
    assert answer.json()["through"] == "2026-10-06"
    assert answer.json()["balances"]
    assert requests.get(f"{base}/_truth", params={"through": "yesterday"}, timeout=5).status_code == 400


def test_unknown_faults_are_refused_with_the_known_ones(base: str) -> None:
    for fault, words in (
        ({"route": "x", "kind": "flood"}, "truncate"),
        ({"route": "x", "kind": "500", "often": 2}, "times"),
        ({"kind": "500"}, "route"),
    ):
        answer = requests.post(f"{base}/_control/faults", json=[fault], timeout=5)
        assert answer.status_code == 400
        assert words in answer.json()["error"]
    assert requests.get(f"{base}/_control/faults", timeout=5).json() == []


def test_faults_strike_after_and_as_often_as_planned() -> None:
    fault = Fault("stripe_*/v1/*", "500", times=2, after=1)
    with running(Company(), clock=Clock(LATE), faults=[fault]) as url:
        assert [stripe(url).status_code for _ in range(5)] == [200, 500, 500, 200, 200]
        assert plaid(url).status_code == 200


def test_a_fault_can_be_narrowed_to_a_body(base: str) -> None:
    plan(base, route="shopify_us/*", kind="500", contains="ordersCount")
    assert shopify(base, "{ shop { name } }").status_code == 200
    assert shopify(base, "{ ordersCount { count } }").status_code == 500


# Faults on the wire.


def test_every_kind_of_fault_has_a_test() -> None:
    assert set(KINDS) == {
        "429", "500", "503", "expired_token", "reset", "truncate", "slow", "page_shift", "stale_count", "early_end",
    }  # fmt: skip


def test_429_says_how_long_to_wait_in_each_providers_form(base: str) -> None:
    for route in (STRIPE, "shopify_us/*", "plaid_us/*"):
        plan(base, route=route, kind="429", retry_after=3)
    answers = {"stripe": stripe(base), "shopify": shopify(base, "{ shop { name } }"), "plaid": plaid(base)}
    assert {answer.status_code for answer in answers.values()} == {429}
    assert {float(answer.headers["Retry-After"]) for answer in answers.values()} == {3.0}
    assert answers["stripe"].json()["error"]["code"] == "rate_limit"
    assert answers["stripe"].headers["Stripe-Should-Retry"] == "true"
    assert "calls per second" in answers["shopify"].json()["errors"]
    assert answers["plaid"].json()["error_type"] == "RATE_LIMIT_EXCEEDED"
    assert [stripe(base).status_code, plaid(base).status_code] == [200, 200]


@pytest.mark.parametrize("kind", ["500", "503"])
def test_server_errors_come_in_each_providers_form(base: str, kind: str) -> None:
    for route in (STRIPE, "shopify_us/*", "plaid_us/*"):
        plan(base, route=route, kind=kind)
    answers = [stripe(base), shopify(base, "{ shop { name } }"), plaid(base)]
    assert [answer.status_code for answer in answers] == [int(kind)] * 3
    assert answers[0].json()["error"]["type"] == "api_error"
    assert answers[1].json()["errors"] in ("Internal Server Error", "Service Unavailable")
    assert answers[2].json()["error_type"] == "API_ERROR"


def test_an_expired_token_is_refused_once(base: str) -> None:
    for route in (STRIPE, "shopify_us/*", "plaid_us/*"):
        plan(base, route=route, kind="expired_token")
    first = [stripe(base), shopify(base, "{ shop { name } }"), plaid(base)]
    # Plaid answers 400 to everything that is wrong with keys and logins.
    assert [answer.status_code for answer in first] == [401, 401, 400]
    assert first[0].json()["error"]["code"] == "api_key_expired"
    assert first[2].json()["error_code"] == "ITEM_LOGIN_REQUIRED"
    assert [answer.status_code for answer in (stripe(base), shopify(base, "{ shop { name } }"), plaid(base))] == [
        200
    ] * 3


def raw(base: str, path: str = STRIPE) -> socket.socket:
    place = urlsplit(base)
    connection = socket.create_connection((place.hostname, place.port), timeout=5)
    key = HEADERS["stripe_us"]["Authorization"]
    connection.sendall(f"GET /{path} HTTP/1.1\r\nHost: sandbox\r\nAuthorization: {key}\r\n\r\n".encode())
    return connection


def test_reset_really_resets_the_connection(base: str) -> None:
    plan(base, kind="reset", times=2)
    with raw(base) as connection, pytest.raises(ConnectionResetError):
        connection.recv(1)
    with pytest.raises(requests.ConnectionError):
        stripe(base)
    assert stripe(base).status_code == 200


def test_truncate_promises_more_than_it_sends(base: str) -> None:
    plan(base, kind="truncate", times=2)
    with raw(base) as connection:
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    head, _, body = received.partition(b"\r\n\r\n")
    promised = int(next(line for line in head.split(b"\r\n") if line.startswith(b"content-length")).split(b":")[1])
    assert head.startswith(b"HTTP/1.1 200 OK")
    assert 0 < len(body) == promised // 2
    place = urlsplit(base)
    client = http.client.HTTPConnection(str(place.hostname), place.port, timeout=5)
    client.request("GET", f"/{STRIPE}", headers=HEADERS["stripe_us"])
    with pytest.raises(http.client.IncompleteRead):
        client.getresponse().read()
    client.close()
    assert json.loads(stripe(base).content)["object"] == "list"


def test_slow_answers_late_and_holds_no_one_else_up(base: str) -> None:
    plan(base, kind="slow", seconds=0.6, times=2)
    with pytest.raises(requests.ReadTimeout):
        stripe(base, timeout=0.2)
    started = time.monotonic()
    with raw(base) as connection:
        assert plaid(base).status_code == 200
        assert time.monotonic() - started < 0.5
        assert connection.recv(12) == b"HTTP/1.1 200"
    assert time.monotonic() - started >= 0.6


def test_a_page_shift_would_repeat_by_offset_but_cursors_survive_it(base: str) -> None:
    calm_pages = pages(base)
    plan(base, kind="page_shift", after=1, times=100)
    first = stripe(base, limit=10).json()["data"]
    shifted = stripe(base, limit=10).json()["data"]
    assert shifted[1:] == first[:-1]
    assert shifted[0]["id"] not in {one["id"] for page in calm_pages for one in page}
    requests.delete(f"{base}/_control/faults", timeout=5)
    plan(base, kind="page_shift", after=1, times=100)
    assert pages(base) == calm_pages


def pages(base: str) -> list[list[dict[str, Any]]]:
    found: list[list[dict[str, Any]]] = []
    while True:
        after = {"starting_after": found[-1][-1]["id"]} if found else {}
        page = stripe(base, limit=50, **after).json()
        found.append(page["data"])
        if not page["has_more"]:
            return found


def test_a_stale_count_is_short_of_the_list(base: str) -> None:
    query = "{ ordersCount(limit: null) { count precision } }"
    true_count = shopify(base, query).json()["data"]["ordersCount"]["count"]
    plan(base, route="shopify_us/*", kind="stale_count", contains="ordersCount")
    assert shopify(base, query).json()["data"]["ordersCount"] == {"count": true_count - 1, "precision": "EXACT"}
    assert shopify(base, query).json()["data"]["ordersCount"]["count"] == true_count


def test_an_early_end_hides_that_more_follows(base: str) -> None:
    plan(base, kind="early_end")
    plan(base, route="shopify_us/*", kind="early_end")
    assert [stripe(base, limit=3).json()["has_more"] for _ in range(2)] == [False, True]
    query = "{ orders(first: 3) { pageInfo { hasNextPage } nodes { id } } }"
    shown = [shopify(base, query).json()["data"]["orders"]["pageInfo"]["hasNextPage"] for _ in range(2)]
    assert shown == [False, True]


def test_minor_units_become_decimals_with_the_currencys_digits() -> None:
    assert [str(major(8449, "USD")), str(major(1500, "JPY")), str(major(-12340, "KWD"))] == ["84.49", "1500", "-12.340"]
