"""The client on real sockets: what it repeats, what it refuses, how long it waits, what it counts."""

from __future__ import annotations

import gzip
import pickle
import threading
import time
from email.utils import formatdate
from http.cookiejar import DefaultCookiePolicy

import msgspec
import pytest
import requests

from ledger_pipeline.connect.auth import BodyKeys, HeaderKeys, Secret
from ledger_pipeline.connect.client import Client
from ledger_pipeline.connect.errors import (
    AuthError,
    BadPayload,
    ConnectError,
    PageFault,
    RateLimited,
    RedirectRefused,
    RequestRejected,
    ServerFault,
    TransportError,
)
from ledger_pipeline.connect.limits import Limit

from .conftest import Answer, to_json

FINE = to_json({"ok": True})


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_a_retryable_status_is_repeated_until_it_works(serve, connect, clock, status):
    server = serve([Answer(status), Answer(status), FINE])
    client = connect(server.url)
    assert client.get("/x").json_bytes == FINE.body
    assert clock.slept == [0.5, 1.0]
    assert (client.stats.calls, client.stats.retries) == (3, 2)
    assert client.stats.by_status == {status: 2, 200: 1}


@pytest.mark.parametrize(
    ("status", "error"),
    [(408, TransportError), (425, TransportError), (429, RateLimited), (500, ServerFault), (503, ServerFault)],
)
def test_a_status_that_stays_ends_in_its_error_after_all_attempts(serve, connect, status, error):
    server = serve([Answer(status, b"try later")])
    with pytest.raises(error) as caught:
        connect(server.url).get("/v1/x", {"limit": 5})
    assert len(server.got) == 6
    assert caught.value.is_transient
    assert caught.value.status == status
    for part in ("stripe_us", f"GET {server.url}/v1/x?limit=5", str(status), "try later", "6 attempts", "can help"):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("status", "error"), [(400, RequestRejected), (404, RequestRejected), (401, AuthError), (403, AuthError)]
)
def test_a_permanent_refusal_is_sent_once_and_says_why(serve, connect, status, error):
    server = serve([Answer(status, b'{"error":{"message":"No such charge"}}')])
    with pytest.raises(error, match="No such charge") as caught:
        connect(server.url).get("/x")
    assert len(server.got) == 1
    assert not caught.value.is_transient
    assert "will not help" in str(caught.value)


def test_an_unusual_server_status_is_not_repeated(serve, connect):
    server = serve([Answer(501)])
    with pytest.raises(ServerFault) as caught:
        connect(server.url).get("/x")
    assert len(server.got) == 1
    assert not caught.value.is_transient


@pytest.mark.parametrize("fault", ["reset", "truncate"])
def test_a_broken_answer_is_repeated(serve, connect, fault):
    server = serve([Answer(body=b'{"ok": tr', fault=fault), FINE])
    assert connect(server.url).get("/x").json_bytes == FINE.body
    assert len(server.got) == 2


def test_a_body_that_stays_truncated_is_a_bad_payload(serve, connect):
    server = serve([Answer(body=b'{"ok": 1}', fault="truncate")])
    with pytest.raises(BadPayload, match="truncated") as caught:
        connect(server.url, max_attempts=2).get("/x")
    assert caught.value.is_transient
    assert len(server.got) == 2


def test_a_chunked_body_without_its_end_is_truncated(serve, connect):
    broken = Answer(
        body=b'8\r\n{"ok": t\r\n', headers={"Transfer-Encoding": "chunked", "Content-Length": ""}, fault="cut"
    )
    server = serve([broken, FINE])
    assert connect(server.url).get("/x").json_bytes == FINE.body
    assert len(server.got) == 2


def test_a_connection_that_stays_reset_is_a_transport_error(serve, connect):
    server = serve([Answer(fault="reset")])
    with pytest.raises(TransportError) as caught:
        connect(server.url, max_attempts=3).get("/x")
    assert len(server.got) == 3
    assert caught.value.attempts == 3
    assert caught.value.is_transient


def test_a_slow_answer_times_out_and_is_repeated(serve, connect):
    server = serve([Answer(seconds=1.0), FINE])
    assert connect(server.url, timeout=(2, 0.2)).get("/x").json_bytes == FINE.body
    assert len(server.got) == 2


def test_a_body_that_trickles_in_for_too_long_is_given_up(serve, connect):
    server = serve([Answer(body=b"1" * 200, fault="drip", seconds=0.05)])
    started = time.monotonic()
    with pytest.raises(TransportError, match="not complete after 0 s"):
        connect(server.url, clock=time.monotonic, max_elapsed=0.3).get("/x")
    assert time.monotonic() - started < 2


def test_nobody_listening_is_a_transport_error(serve, connect):
    server = serve([FINE])
    server.shutdown()
    server.server_close()
    with pytest.raises(TransportError, match="refused"):
        connect(server.url, max_attempts=2).get("/x")


def test_retry_after_in_seconds_is_waited_exactly(serve, connect, clock):
    server = serve([Answer(429, headers={"Retry-After": "7"}), Answer(503, headers={"Retry-After": "0"}), FINE])
    client = connect(server.url)
    client.get("/x")
    assert clock.slept == [7, 0]
    assert client.stats.throttled_seconds == 7


def test_retry_after_as_a_date_is_waited(serve, connect, clock):
    server = serve([Answer(429, headers={"Retry-After": formatdate(time.time() + 30, usegmt=True)}), FINE])
    connect(server.url).get("/x")
    assert clock.slept[0] == pytest.approx(30, abs=2)


def test_an_unreadable_retry_after_falls_back_to_back_off(serve, connect, clock):
    server = serve([Answer(429, headers={"Retry-After": "soon"}), FINE])
    connect(server.url).get("/x")
    assert clock.slept == [0.5]


@pytest.mark.parametrize("status", [429, 503])
def test_a_wait_longer_than_the_time_left_is_named_instead_of_waited(serve, connect, clock, status):
    server = serve([Answer(status, headers={"Retry-After": "86400"})])
    with pytest.raises(RateLimited, match="86400 s") as caught:
        connect(server.url).get("/x")
    assert caught.value.wait_seconds == 86400
    assert caught.value.is_transient
    assert clock.slept == []
    assert len(server.got) == 1


def test_the_time_for_all_attempts_is_bounded(serve, connect, clock):
    server = serve([Answer(503)])
    with pytest.raises(ServerFault):
        connect(server.url, max_attempts=100, max_elapsed=10).get("/x")
    assert sum(clock.slept) < 10
    assert len(server.got) == 5  # 0.5 + 1 + 2 + 4 s, and 8 more would be too many


def test_waiting_for_our_own_limit_takes_nothing_from_that_time(serve, connect, clock):
    server = serve([FINE, Answer(503), FINE])
    client = connect(server.url, None, Limit(per_second=0.01), max_elapsed=10)
    client.get("/x")
    assert client.get("/x").json_bytes == FINE.body
    assert sum(clock.slept) > 100


def test_back_off_has_full_jitter(serve, connect, clock):
    asked = []
    server = serve([Answer(500), Answer(500), FINE])
    connect(server.url, jitter=lambda low, high: asked.append((low, high)) or low).get("/x")
    assert asked == [(0, 0.5), (0, 1.0)]


@pytest.mark.parametrize(
    "answer", [Answer(500), Answer(429), Answer(fault="reset"), Answer(body=b"{", fault="truncate")]
)
def test_a_post_is_sent_once_unless_declared_safe(serve, connect, answer):
    server = serve([answer, FINE])
    with pytest.raises(ConnectError):
        connect(server.url).post("/x", {"amount": 1})
    assert len(server.got) == 1
    server = serve([answer, FINE])
    assert connect(server.url).post("/x", {"query": "{}"}, is_safe=True).status == 200
    assert [got.json for got in server.got] == [{"query": "{}"}] * 2


@pytest.mark.parametrize(
    ("answer", "is_unknown"),
    [(Answer(500), True), (Answer(fault="reset"), True), (Answer(429), False), (Answer(422), False)],
)
def test_a_failed_write_says_whether_it_may_have_happened(serve, connect, answer, is_unknown):
    with pytest.raises(ConnectError) as caught:
        connect(serve([answer]).url).post("/x", {"amount": 1})
    assert caught.value.is_outcome_unknown is is_unknown
    assert ("unknown whether" in str(caught.value)) is is_unknown


def test_a_write_that_never_left_is_known_not_to_have_happened(serve, connect):
    server = serve([FINE])
    server.shutdown()
    server.server_close()
    with pytest.raises(TransportError) as caught:
        connect(server.url).post("/x", {"amount": 1})
    assert not caught.value.is_outcome_unknown


def test_a_redirect_on_the_same_host_is_followed(serve, connect):
    server = serve([Answer(302, headers={"Location": "/y?page=2"}), FINE])
    response = connect(server.url, HeaderKeys({"X-Key": Secret("canary-4711")})).get("/x", {"a": 1})
    assert response.json_bytes == FINE.body
    assert [(got.path, got.query) for got in server.got] == [("/x", {"a": "1"}), ("/y", {"page": "2"})]
    assert server.got[1].headers["X-Key"] == "canary-4711"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_redirect_to_another_host_or_port_is_refused_before_anything_is_sent_there(serve, connect, host):
    other = serve([FINE])
    server = serve([Answer(302, headers={"Location": f"http://{host}:{other.server_port}/steal"})])
    with pytest.raises(RedirectRefused, match=f"{host}:{other.server_port}"):
        connect(server.url, HeaderKeys({"X-Key": Secret("canary-4711")})).get("/x")
    assert other.got == []
    assert len(server.got) == 1


@pytest.mark.parametrize(
    "link",
    [
        "http://localhost:{port}/x",
        "http://127.0.0.1:{port}@evil.example/x",
        "https://127.0.0.1:{port}/x",
        "http://evil.example/x",
        "http://[127.0.0.1:{port}/x",
    ],
)
def test_a_link_to_another_origin_is_refused(serve, connect, link):
    server = serve([FINE])
    with pytest.raises(RedirectRefused):
        connect(server.url).get(link.format(port=server.server_port))
    assert server.got == []


def test_a_path_cannot_name_another_host(serve, connect):
    server = serve([FINE])
    connect(server.url + "/stripe_us").get("//evil.example/x")
    assert server.got[0].path == "/stripe_us/evil.example/x"


@pytest.mark.parametrize("target", ["http://[bad", "http://127.0.0.1:port/", "//evil.example/", "file:///etc/passwd"])
def test_a_redirect_that_leads_nowhere_readable_is_refused(serve, connect, target):
    server = serve([Answer(302, headers={"Location": target})])
    with pytest.raises(RedirectRefused, match="another host"):
        connect(server.url).get("/x")
    assert len(server.got) == 1


def test_a_redirect_s_body_is_bounded_too(serve, connect):
    server = serve([Answer(302, b"1" * 2_000_000, headers={"Location": "/y"}), FINE])
    with pytest.raises(BadPayload, match="larger"):
        connect(server.url, max_bytes=1_000_000).get("/x")


def test_redirects_without_end_are_refused(serve, connect):
    server = serve([Answer(307, headers={"Location": "/x"})])
    with pytest.raises(RedirectRefused, match="more than 3"):
        connect(server.url).get("/x")
    assert len(server.got) == 4


def test_a_write_is_redirected_only_where_it_stays_one(serve, connect):
    server = serve([Answer(308, headers={"Location": "/y"}), FINE])
    connect(server.url).post("/x", {"amount": 1})
    assert (server.got[1].method, server.got[1].json) == ("POST", {"amount": 1})
    server = serve([Answer(302, headers={"Location": "/y"}), FINE])
    with pytest.raises(RedirectRefused, match="into a GET"):
        connect(server.url).post("/x", {"amount": 1})


@pytest.mark.parametrize(
    "url", ["http://example.com", "http://127.evil.example", "http://localhost.evil.example", "ftp://127.0.0.1x"]
)
def test_plain_http_is_for_loopback_only(url):
    with pytest.raises(RedirectRefused, match="not https"):
        Client("stripe_us", url)


@pytest.mark.parametrize("url", ["https://example.com", "http://127.0.0.1:1", "http://localhost", "http://[::1]:80"])
def test_https_and_loopback_are_accepted(url):
    assert Client("stripe_us", url).base_url == url


def test_gzip_is_asked_for_and_unpacked(serve, connect):
    server = serve([Answer(body=gzip.compress(b'{"n": 12.30}'), headers={"Content-Encoding": "gzip"})])
    client = connect(server.url)
    assert client.get("/x").json_bytes == b'{"n": 12.30}'
    assert server.got[0].headers["Accept-Encoding"] == "gzip"
    assert client.stats.bytes == len(b'{"n": 12.30}')


@pytest.mark.parametrize("is_packed", [False, True])
def test_a_body_over_the_limit_is_refused_also_when_it_is_small_on_the_wire(serve, connect, is_packed):
    body = b"1" * 2_000_000
    headers = {"Content-Encoding": "gzip"} if is_packed else {}
    server = serve([Answer(body=gzip.compress(body) if is_packed else body, headers=headers)])
    with pytest.raises(BadPayload, match="larger than 1000000") as caught:
        connect(server.url, max_bytes=1_000_000).get("/x")
    assert len(server.got) == 1
    assert not caught.value.is_transient


class _Charge(msgspec.Struct):
    amount: int


def test_decode_reads_the_body_into_a_type(serve, connect):
    assert connect(serve([to_json({"amount": 7})]).url).get("/x").decode(_Charge).amount == 7


@pytest.mark.parametrize(
    ("body", "is_transient"), [(b"<html>down for maintenance", True), (b'{"amount": "7"}', False), (b"{", True)]
)
def test_what_cannot_be_decoded_is_a_bad_payload(serve, connect, body, is_transient):
    response = connect(serve([Answer(body=body)]).url).get("/x")
    with pytest.raises(BadPayload) as caught:
        response.decode(_Charge)
    assert caught.value.is_transient is is_transient
    assert caught.value.__context__ is None


def test_throttling_inside_a_200_is_waited_out(serve, connect, clock):
    server = serve([to_json({"errors": [{"extensions": {"code": "THROTTLED"}}]}), FINE])
    client = connect(server.url, throttled=lambda response: 2.5 if b"THROTTLED" in response.json_bytes else None)
    assert client.post("/graphql.json", {"query": "{shop{id}}"}, is_safe=True).json_bytes == FINE.body
    assert clock.slept == [2.5]
    assert client.stats.throttled_seconds == 2.5


def test_throttling_inside_a_200_that_stays_is_a_rate_limit(serve, connect):
    server = serve([to_json({"errors": ["THROTTLED"]})])
    with pytest.raises(RateLimited) as caught:
        connect(server.url, throttled=lambda response: 1.0).get("/x")
    assert caught.value.wait_seconds == 1.0
    assert len(server.got) == 6


def test_an_error_inside_a_200_is_the_error_that_the_source_says(serve, connect):
    server = serve([to_json({"errors": [{"message": "Field 'nope' doesn't exist"}]})])

    def refused(response):
        return (
            response.fault(RequestRejected, "Field 'nope' doesn't exist") if b"errors" in response.json_bytes else None
        )

    with pytest.raises(RequestRejected, match="nope"):
        connect(server.url, refused=refused).get("/x")
    assert len(server.got) == 1


def test_json_is_sent_with_keys_that_belong_in_the_body(serve, connect):
    server = serve([FINE])
    auth = BodyKeys({"client_id": Secret("client"), "secret": Secret("canary-4711")})
    connect(server.url, auth, headers={"Plaid-Version": "2020-09-14"}).post("/x", {"count": 500}, is_safe=True)
    assert server.got[0].json == {"count": 500, "client_id": "client", "secret": "canary-4711"}
    assert server.got[0].headers["Content-Type"] == "application/json"
    assert server.got[0].headers["Plaid-Version"] == "2020-09-14"


def test_proactive_limits_hold_and_are_counted(serve, connect, clock):
    client = connect(serve([FINE]).url, None, Limit(per_second=2, burst=2))
    for _ in range(6):
        client.get("/x")
    assert clock.slept == [0.5] * 4
    assert client.stats.throttled_seconds == 2.0


def test_each_thread_has_a_session_and_keeps_its_connection(serve, connect):
    made: list[requests.Session] = []

    def session():
        made.append(requests.Session())
        made[-1].cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        return made[-1]

    server = serve([FINE])
    client = connect(server.url, session=session)

    def work():
        for _ in range(5):
            client.get("/x")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(made) == 4
    assert client.stats.calls == len(server.got) == 20


def test_the_environment_does_not_change_requests(serve, connect, monkeypatch, tmp_path):
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login thief password thief\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    server = serve([FINE])
    connect(server.url).get("/x")
    assert "Authorization" not in server.got[0].headers


@pytest.mark.parametrize(
    "error",
    [
        RateLimited("c", "m", wait_seconds=3, method="GET", url="https://x/", attempts=2),
        PageFault("c", "m", kind="shift", stream="orders", page=7),
        RequestRejected("c", "m", provider_message="no", status=400),
        TransportError("c", "m", is_outcome_unknown=True),
    ],
)
def test_errors_survive_another_process(error):
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))
