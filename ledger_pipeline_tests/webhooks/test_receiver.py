"""The receiver over real HTTP and PostgreSQL: stored before it is answered, once and for good; what isn't genuine or too much is refused."""

from __future__ import annotations

import http.client
import json
import logging
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
import requests

from ledger_pipeline.sources.plaid import sandbox as plaid
from ledger_pipeline.store.database import Database
from ledger_pipeline.webhooks import doors
from ledger_pipeline.webhooks.receiver import Limits
from ledger_pipeline_tests.conftest import SandboxCompany
from ledger_pipeline_tests.webhooks.serve import Serving, receiving, signed, write_config


def stripe_event(id_: str = "evt_1", **more: object) -> bytes:
    made = {"id": id_, "type": "charge.succeeded", "created": int(time.time()), "data": {"object": {"id": "ch_1"}}}
    return json.dumps(made | more).encode()


def post(serving: Serving, connection: str, body: bytes, headers: dict[str, str] | None = None) -> requests.Response:
    return requests.post(
        f"{serving.url}/{connection}",
        body,
        headers=signed(connection, body) if headers is None else headers,
        timeout=20,
    )


@pytest.fixture
def serving(tmp_path: Path, database: Database) -> Iterator[Serving]:
    with receiving(write_config(tmp_path), database, Limits(body_bytes=100_000, seconds=3)) as made:
        yield made


def test_a_genuine_webhook_is_stored_as_it_came_and_answered(serving: Serving) -> None:
    body = b'{ "id":"evt_1", "type":"charge.succeeded",\n"created":1, "data":{} }'
    answer = post(serving, "stripe_us", body)
    assert (answer.status_code, answer.json()) == (200, {"status": "stored"})
    assert serving.stored() == [("stripe_us", "evt_1", "charge.succeeded", body)]


def test_a_webhook_that_comes_again_is_answered_and_stored_once(serving: Serving) -> None:
    body = stripe_event()
    assert [post(serving, "stripe_us", body).json()["status"] for _ in range(3)] == ["stored", "known", "known"]
    assert post(serving, "stripe_us", stripe_event(livemode=False)).json()["status"] == "known"
    assert len(serving.stored()) == 1


def test_ids_are_known_for_good(tmp_path: Path, database: Database) -> None:
    config, body = write_config(tmp_path), stripe_event()
    for expected in ("stored", "known"):
        with receiving(config, database) as serving:
            assert post(serving, "stripe_us", body).json()["status"] == expected
    with database.connect("owner") as connection, pytest.raises(psycopg.errors.RestrictViolation):
        connection.execute("DELETE FROM ops.webhook_event")


def test_shopifys_body_is_not_taken_again_under_another_id(serving: Serving) -> None:
    """Its id stands in a header that nobody signed."""
    body = b'{"id": 42, "updated_at": "2026-11-24T10:00:00Z"}'
    said = [
        post(serving, "shopify_us", body, signed("shopify_us", body, id_=id_)).json()["status"] for id_ in ("a", "b")
    ]
    assert said == ["stored", "known"]
    assert serving.stored() == [("shopify_us", "a", "orders/updated", None)]


@pytest.mark.parametrize(
    ("change", "status", "reason"),
    [
        ("re-serialised", 401, "wrong_signature"),
        ("stale", 401, "stale"),
        ("future", 401, "future"),
        ("unsigned", 401, "unsigned"),
        ("deep", 400, "too_deep"),
        ("large", 413, "too_large"),
        ("no json", 400, "malformed"),
        ("another's secret", 401, "wrong_signature"),
    ],
)
def test_what_is_refused_is_not_stored_and_logged_without_its_body(
    serving: Serving, change: str, status: int, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    body = stripe_event(secret="s3cret-in-the-body")
    headers = signed("stripe_us", body)
    if change == "re-serialised":
        body = json.dumps(json.loads(body), separators=(",", ":")).encode()
    elif change == "unsigned":
        headers = {}
    elif change in ("stale", "future"):
        by = timedelta(seconds=310 if change == "future" else -310)
        headers = signed("stripe_us", body, at=datetime.now(UTC) + by)
    elif change in ("deep", "large", "no json"):
        inner = b"[" * 40 + b"]" * 40 if change == "deep" else b'"' + b"s3cret-in-the-body" * 10_000 + b'"'
        body = b'{"id": "evt_1", "type": "t", "x": ' + (b"" if change == "no json" else inner + b"}")
        headers = signed("stripe_us", body)
    elif change == "another's secret":
        headers = signed("shopify_us", body) | {"Stripe-Signature": f"t={int(time.time())},v1={'ab' * 32}"}
    with caplog.at_level(logging.WARNING):
        answer = post(serving, "stripe_us", body, headers)
    assert (answer.status_code, answer.json()["reason"]) == (status, reason)
    assert serving.stored() == []
    assert serving.receiver.counts["stripe_us", reason] == 1
    assert f"1 refused, {reason}" in caplog.text
    assert "s3cret" not in caplog.text + answer.text


def test_a_body_without_an_end_is_cut_off_at_the_limit(serving: Serving) -> None:
    parts = urlsplit(serving.url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=10)
    with pytest.raises((ConnectionError, BrokenPipeError)):  # noqa: PT012 - which send fails is up to the buffers
        connection.request("POST", "/stripe_us", iter([b"x" * 10_000] * 10_000), {"Stripe-Signature": "t=1,v1=a"})
        assert connection.getresponse().status == 413
        raise ConnectionError
    assert serving.receiver.counts["stripe_us", "too_large"] == 1


def test_a_body_that_never_comes_holds_nothing_for_ever(serving: Serving) -> None:
    parts = urlsplit(serving.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=10) as slow:
        slow.sendall(b"POST /stripe_us HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        assert slow.recv(1000).startswith(b"HTTP/1.1 503")


@pytest.mark.parametrize("path", ["stripe_off", "nobody", "stripe_us/x", "-"])
def test_other_addresses_take_nothing(serving: Serving, path: str) -> None:
    assert post(serving, path, b"{}", {}).status_code == 404
    assert requests.get(f"{serving.url}/stripe_us", timeout=10).status_code == 405


def test_a_storm_is_answered_with_429_and_what_was_acknowledged_is_stored(tmp_path: Path, database: Database) -> None:
    with receiving(write_config(tmp_path), database, Limits(waiting=5)) as serving:
        lock = psycopg.connect(database.url)
        lock.execute("LOCK TABLE ops.webhook_event IN ACCESS EXCLUSIVE MODE")  # commits wait, requests gather

        def send(number: int) -> tuple[str, int, str]:
            answer = post(serving, "stripe_us", stripe_event(f"evt_{number}"))
            return f"evt_{number}", answer.status_code, answer.headers.get("Retry-After", "")

        with ThreadPoolExecutor(40) as pool:
            sending = [pool.submit(send, number) for number in range(40)]
            deadline = time.monotonic() + 10
            while serving.receiver.counts["stripe_us", "busy"] < 30 and time.monotonic() < deadline:
                time.sleep(0.01)
            lock.rollback()
            lock.close()
            answers = [future.result() for future in sending]
        by_status = Counter(status for _, status, _ in answers)
        assert set(by_status) == {200, 429}
        assert by_status[429] >= 30
        assert {after for _, status, after in answers if status == 429} == {"1"}
        stored = {id_ for _, id_, _, _ in serving.stored()}
        assert stored == {id_ for id_, status, _ in answers if status == 200}
        for id_, status, _ in answers:
            if status == 429:
                assert post(serving, "stripe_us", stripe_event(id_)).status_code == 200
        assert len(serving.stored()) == 40


def test_many_at_once_share_a_commit(serving: Serving) -> None:
    lock = psycopg.connect(serving.database.url)
    lock.execute("LOCK TABLE ops.webhook_event IN ACCESS EXCLUSIVE MODE")
    with ThreadPoolExecutor(20) as pool:
        sending = [pool.submit(post, serving, "stripe_us", stripe_event(f"evt_{n}")) for n in range(20)]
        assert eventually(lambda: serving.receiver._waiting == 20)
        lock.close()
        assert [one.result().status_code for one in sending] == [200] * 20
    assert len(serving.stored()) == 20
    assert serving.receiver.writer.commits <= 3


def test_without_the_database_nothing_is_acknowledged_and_it_recovers(serving: Serving) -> None:
    assert post(serving, "stripe_us", stripe_event("evt_1")).status_code == 200
    with psycopg.connect(serving.database.url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'ledger-pipeline webhooks' "
            "AND datname = current_database()"
        )
    answer = post(serving, "stripe_us", stripe_event("evt_2"))
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert post(serving, "stripe_us", stripe_event("evt_2")).json()["status"] == "stored"
    assert [id_ for _, id_, _, _ in serving.stored()] == ["evt_1", "evt_2"]


def test_secrets_rotate_without_a_restart(tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doors, "SECRET_SECONDS", 0.0)
    config = write_config(tmp_path, stripe="whsec_old")
    with receiving(config, database) as serving:
        assert post(serving, "stripe_us", stripe_event()).status_code == 401
        write_config(tmp_path, stripe="whsec_old, whsec_sandbox_stripe_us")
        assert eventually(lambda: post(serving, "stripe_us", stripe_event()).status_code == 200)
        with database.connect("reader") as connection:
            assert connection.execute("SELECT secret_no FROM ops.webhook_event").fetchone() == (2,)
        write_config(tmp_path, stripe="whsec_new")
        assert eventually(lambda: post(serving, "stripe_us", stripe_event("evt_2")).status_code == 401)


def eventually(check: object, seconds: float = 5) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if check():  # type: ignore[operator]
            return True
        time.sleep(0.05)
    return False


def test_a_secret_that_cannot_be_read_refuses_nothing_for_good(
    tmp_path: Path, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    with receiving(write_config(tmp_path, stripe="'${NOT_SET_ANYWHERE}'"), database) as serving:
        assert post(serving, "stripe_us", stripe_event()).status_code == 503
        assert "NOT_SET_ANYWHERE is not set" in caplog.text


# Plaid ------------------------------------------------------------------------------------------------------------------


def test_plaids_key_is_asked_for_once_and_unknown_ones_are_refused(
    tmp_path: Path, database: Database, sandbox: SandboxCompany
) -> None:
    requests.delete(f"{sandbox.url}/_control/requests", timeout=10)
    config = write_config(tmp_path, plaid=f"{sandbox.url}/plaid_us")
    body = b'{"webhook_type": "TRANSACTIONS", "webhook_code": "SYNC_UPDATES_AVAILABLE", "item_id": "i"}'
    with receiving(config, database) as serving:
        now = datetime.now(UTC)
        first = signed("plaid_us", body, at=now)
        assert [post(serving, "plaid_us", body, first).json()["status"] for _ in range(2)] == ["stored", "known"]
        later = signed("plaid_us", body, at=now + timedelta(seconds=1))
        assert post(serving, "plaid_us", body, later).json()["status"] == "stored", (
            "the same words at another time are news"
        )
        assert key_requests(sandbox) == 1
        token = first["Plaid-Verification"].split(".")
        import base64

        head = base64.urlsafe_b64encode(json.dumps({"alg": "ES256", "kid": "stranger"}).encode()).rstrip(b"=").decode()
        for _ in range(3):
            answer = post(serving, "plaid_us", body, {"Plaid-Verification": ".".join([head, *token[1:]])})
            assert (answer.status_code, answer.json()["reason"]) == (401, "wrong_key")
        assert key_requests(sandbox) == 2
        assert [topic for _, _, topic, _ in serving.stored()] == ["TRANSACTIONS.SYNC_UPDATES_AVAILABLE"] * 2


def key_requests(sandbox: SandboxCompany) -> int:
    rows = requests.get(f"{sandbox.url}/_control/requests", timeout=10).json()
    return sum(row["count"] for row in rows if row["path"].endswith("/webhook_verification_key/get"))


def test_plaids_key_that_cannot_be_had_now_is_no_refusal(
    tmp_path: Path, database: Database, sandbox: SandboxCompany, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doors, "LOOKUPS_A_MINUTE", 0)
    body = b'{"webhook_type": "TRANSACTIONS", "webhook_code": "X"}'
    with receiving(write_config(tmp_path, plaid=f"{sandbox.url}/plaid_us"), database) as serving:
        assert post(serving, "plaid_us", body).status_code == 503
        assert plaid.KEY_ID not in {key for _, key in serving.receiver.doors._keys._known}


def test_stopping_answers_what_is_under_way(tmp_path: Path, database: Database) -> None:
    answers: list[int] = []
    with receiving(write_config(tmp_path), database) as serving:
        lock = psycopg.connect(database.url)
        lock.execute("LOCK TABLE ops.webhook_event IN ACCESS EXCLUSIVE MODE")
        thread = threading.Thread(target=lambda: answers.append(post(serving, "stripe_us", stripe_event()).status_code))
        thread.start()
        assert eventually(lambda: serving.receiver._waiting == 1)
        threading.Timer(0.5, lock.close).start()
    thread.join(10)
    assert answers == [200]
