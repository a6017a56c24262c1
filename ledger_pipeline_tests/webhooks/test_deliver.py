"""Events out over real HTTP: signed, retried, in order per subject, logged; a receiver that fails, is slow, redirects or is gone."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import psycopg
import pytest
import standardwebhooks

from ledger_pipeline.config import ConfigError, LedgerConfig
from ledger_pipeline.model.alert import Alert
from ledger_pipeline.store import events
from ledger_pipeline.store.database import Database
from ledger_pipeline.webhooks import deliver
from ledger_pipeline.webhooks.deliver import Endpoint

SECRETS = tuple("whsec_" + base64.b64encode(letter * 32).decode() for letter in (b"n", b"o"))
NOW = datetime.now(UTC).replace(microsecond=0)


class Office:
    """An endpoint that answers as it is told, and remembers what it was sent: (path, event's number, headers)."""

    def __init__(self) -> None:
        self.got: list[tuple[str, int, dict[str, str], bytes]] = []
        self.answer: Callable[[str, int], int] = lambda path, number: 200
        self.headers: dict[str, str] = {}
        self.slow = 0.0
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()

    def numbers(self) -> list[int]:
        return [number for _, number, _, _ in self.got]


@contextmanager
def office_at() -> Iterator[tuple[Office, str]]:
    office = Office()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            number = json.loads(body)["data"]["n"]
            with office.lock:
                office.at_once += 1
                office.most_at_once = max(office.most_at_once, office.at_once)
            time.sleep(office.slow)
            with office.lock:
                office.at_once -= 1
                office.got.append((self.path, number, {k.lower(): v for k, v in self.headers.items()}, body))
            self.send_response(office.answer(self.path, number))
            for name, value in office.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield office, f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def served() -> Iterator[tuple[Office, Endpoint]]:
    with office_at() as (office, url):
        yield office, Endpoint("zapier", f"{url}/hook", SECRETS)


def tell(database: Database, number: int, subject: str = "s", *, to: tuple[str, ...] = ("zapier",)) -> None:
    with database.connect() as connection:
        events.tell(connection, to, "gate.closed", "acme", subject, {"n": number}, NOW)


def run(database: Database, *to: Endpoint, at: datetime = NOW) -> dict[tuple[str, str], int]:
    return dict(deliver.deliver(database, to, seconds=20, clock=lambda: at))


def rows(database: Database, query: str) -> list[tuple[Any, ...]]:
    with database.connect("reader") as connection:
        return connection.execute(query).fetchall()  # type: ignore[call-overload,no-any-return]


LOG = "SELECT attempt, outcome, status, error FROM ops.delivery ORDER BY delivery_no"


def test_an_event_arrives_signed_as_standard_webhooks_says(database: Database, served: tuple[Office, Endpoint]) -> None:
    office, endpoint = served
    tell(database, 1)
    assert run(database, endpoint, at=datetime.now(UTC)) == {("zapier", "delivered"): 1}
    ((path, _, headers, body),) = office.got
    assert path == "/hook"
    for secret in SECRETS:  # whoever has changed over verifies it, and whoever hasn't
        told: Any = standardwebhooks.Webhook(secret).verify(body, headers)
        assert told == {"type": "gate.closed", "timestamp": NOW.isoformat(), "data": {"n": 1}}
    assert headers["webhook-id"].startswith("evt_")
    assert rows(database, LOG) == [(1, "delivered", 200, "")]
    assert run(database, endpoint) == {}


def test_failures_come_again_on_schedule_under_the_same_id(database: Database, served: tuple[Office, Endpoint]) -> None:
    office, endpoint = served
    office.answer = lambda path, number: 500
    tell(database, 1)
    at, waits = NOW, []
    for _ in range(len(deliver.SCHEDULE)):
        assert run(database, endpoint, at=at) == {("zapier", "failed"): 1}
        ((due_at,),) = rows(database, "SELECT due_at FROM ops.outbox")
        waits.append(due_at - at)
        assert run(database, endpoint, at=due_at - timedelta(seconds=1)) == {}
        at = due_at
    assert all(planned <= wait <= planned * 1.1 for planned, wait in zip(deliver.SCHEDULE, waits, strict=True))
    run(database, endpoint, at=at)
    assert rows(database, "SELECT state, attempts FROM ops.outbox") == [("failed", len(deliver.SCHEDULE) + 1)]
    assert len({headers["webhook-id"] for _, _, headers, _ in office.got}) == 1
    assert len({headers["webhook-timestamp"] for _, _, headers, _ in office.got}) > 1
    assert rows(database, LOG)[0] == (1, "failed", 500, "answered 500")


def test_a_subjects_later_event_waits_for_the_earlier_one_and_others_do_not(
    database: Database, served: tuple[Office, Endpoint]
) -> None:
    office, endpoint = served
    for number, subject in enumerate("aabbab"):
        tell(database, number, subject)
    office.answer = lambda path, number: 503 if number == 0 else 200
    run(database, endpoint)
    assert office.numbers().count(0) == 1
    assert [n for n in office.numbers() if n != 0] == [2, 3, 5]
    office.answer = lambda path, number: 200
    run(database, endpoint, at=NOW + timedelta(minutes=1))
    assert office.numbers()[4:] == [0, 1, 4]


def test_order_holds_while_many_are_sent_at_once_by_several(
    database: Database, served: tuple[Office, Endpoint]
) -> None:
    office, endpoint = served
    office.slow = 0.005
    for number in range(60):
        tell(database, number, f"s{number % 6}")
    threads = [threading.Thread(target=run, args=(database, endpoint)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    by_subject: dict[int, list[int]] = defaultdict(list)
    for number in office.numbers():
        by_subject[number % 6].append(number)
    assert sorted(office.numbers()) == list(range(60)), "each once, whoever delivers"
    assert all(numbers == sorted(numbers) for numbers in by_subject.values())
    assert office.most_at_once > 1


def test_a_given_up_event_lets_the_next_one_go(database: Database, served: tuple[Office, Endpoint]) -> None:
    office, endpoint = served
    tell(database, 0)
    tell(database, 1)
    office.answer = lambda path, number: 500 if number == 0 else 200
    with database.connect() as connection:
        connection.execute("UPDATE ops.outbox SET attempts = %s WHERE event_no = 1", (len(deliver.SCHEDULE),))
    run(database, endpoint)
    assert office.numbers() == [0, 1]
    assert rows(database, "SELECT state FROM ops.outbox ORDER BY event_no") == [("failed",), ("delivered",)]


def test_an_endpoint_that_is_gone_is_disabled_until_it_is_enabled(
    database: Database, served: tuple[Office, Endpoint]
) -> None:
    office, endpoint = served
    office.answer = lambda path, number: 410
    tell(database, 0)
    tell(database, 1, "other")
    run(database, endpoint)
    sent = len(office.got)
    assert run(database, endpoint, at=NOW + timedelta(days=9)) == {}
    with database.connect() as connection:
        assert events.disabled(connection) == {"zapier": "it answered 410 Gone"}
        assert not events.is_any_due(connection, ["zapier"], NOW)
        events.switch(connection, "zapier", "enabled", "by ann", NOW)
        assert events.is_any_due(connection, ["zapier"], NOW)
    office.answer = lambda path, number: 200
    run(database, endpoint)
    assert sorted(office.numbers()[sent:]) == [0, 1]


def test_a_slow_or_failing_endpoint_holds_no_other_up(database: Database, served: tuple[Office, Endpoint]) -> None:
    office, endpoint = served
    with office_at() as (bad, url):
        bad.slow = 0.5
        other = Endpoint("slow", f"{url}/x", SECRETS)
        tell(database, 1, to=("zapier", "slow"))
        began = time.monotonic()
        thread = threading.Thread(target=run, args=(database, other, endpoint))
        thread.start()
        while not office.got and time.monotonic() - began < 5:
            time.sleep(0.01)
        assert office.got
        assert not bad.got
        thread.join(10)
    assert rows(database, "SELECT count(*) FROM ops.outbox WHERE state = 'delivered'") == [(2,)]


def test_a_redirect_is_not_followed_and_retry_after_is_kept(
    database: Database, served: tuple[Office, Endpoint]
) -> None:
    office, endpoint = served
    office.answer = lambda path, number: 307
    office.headers = {"Location": "/elsewhere", "Retry-After": "7200"}
    tell(database, 1)
    run(database, endpoint)
    assert [path for path, *_ in office.got] == ["/hook"]
    assert rows(database, "SELECT due_at FROM ops.outbox") == [(NOW + timedelta(hours=2),)]


def test_an_endpoint_that_is_not_there_is_logged_without_its_address(database: Database) -> None:
    tell(database, 1)
    run(database, Endpoint("zapier", "http://127.0.0.1:9/secret-path", SECRETS))
    assert rows(database, LOG) == [(1, "failed", None, "ConnectionError")]
    assert "secret" not in repr(Endpoint("zapier", "http://127.0.0.1:9/secret-path", SECRETS))


def test_an_event_is_sent_again_on_request(database: Database, served: tuple[Office, Endpoint]) -> None:
    office, endpoint = served
    tell(database, 1)
    run(database, endpoint)
    ((id_,),) = rows(database, "SELECT event_id FROM ops.event")
    with database.connect() as connection:
        assert events.redeliver(connection, [id_], None, NOW) == 1
        assert events.redeliver(connection, [id_], "make", NOW) == 1
        assert events.redeliver(connection, ["evt_unknown"], None, NOW) == 0
    run(database, endpoint)
    assert [headers["webhook-id"] for _, _, headers, _ in office.got] == [id_, id_]
    with database.connect("reader") as connection:
        assert [row[:3] for row in events.history(connection, id_)] == [("zapier", 1, "delivered")] * 2
        assert {(one.endpoint, one.state) for one in events.listed(connection, None, 9)} == {
            ("zapier", "delivered"),
            ("make", "pending"),
        }


def test_the_log_cannot_be_changed(database: Database, served: tuple[Office, Endpoint]) -> None:
    tell(database, 1)
    run(database, served[1])
    for table in ("delivery", "event"):
        with database.connect("owner") as connection, pytest.raises(psycopg.errors.RestrictViolation):
            connection.execute(f"DELETE FROM ops.{table}")  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("url", "secret", "said"),
    [
        ("http://example.com/x", SECRETS[0], "only https"),
        ("https://user:pw@example.com/x", SECRETS[0], "without user and password"),
        ("ftp://127.0.0.1/x", SECRETS[0], "only https"),
        ("https://", SECRETS[0], "only https"),
        ("https://example.com/x", "plain", "whsec_ and the base64"),
        ("https://example.com/x", "${NOT_SET_ANYWHERE}", "NOT_SET_ANYWHERE is not set"),
    ],
)
def test_a_bad_address_or_secret_is_named_by_its_key(url: str, secret: str, said: str) -> None:
    config = LedgerConfig.model_validate(
        {"entities": {}, "connections": {}, "events": {"zapier": {"url": url, "secrets": [secret]}}}
    )
    with pytest.raises(ConfigError, match=r"events\.zapier") as caught:
        deliver.endpoints(config)
    assert said in str(caught.value)
    assert "pw" not in str(caught.value)


def alerting(database: Database, *to: Endpoint, at: datetime, told: list[Alert]) -> None:
    deliver.deliver(database, to, seconds=20, clock=lambda: at, keep=lambda _, alerts: told.extend(alerts))


def give_up(database: Database) -> None:
    """The next attempt of what is pending is the last."""
    with database.connect() as connection:
        connection.execute(
            "UPDATE ops.outbox SET attempts = %s, due_at = %s WHERE state = 'pending'", (len(deliver.SCHEDULE), NOW)
        )


def test_what_is_given_up_is_alerted_by_endpoint_and_type_and_the_endpoint_goes_on(
    database: Database, served: tuple[Office, Endpoint]
) -> None:
    office, endpoint = served
    office.answer = lambda path, number: 500
    told: list[Alert] = []
    for number in range(3):
        tell(database, number, f"s{number}")
    alerting(database, endpoint, at=NOW, told=told)
    assert told == [], "a first failure is nobody's business"
    give_up(database)
    alerting(database, endpoint, at=NOW + timedelta(minutes=1), told=told)
    (alert,) = told
    assert alert.title == "An event was given up"
    assert alert.sentence.startswith("zapier: 3 gate.closed given up after 10 attempts (answered 500)")
    assert not any(secret in repr(alert) for secret in (*SECRETS, endpoint.url))
    with database.connect() as connection:
        assert events.disabled(connection) == {}


def test_the_same_type_given_up_again_is_the_same_trouble(database: Database, served: tuple[Office, Endpoint]) -> None:
    office, endpoint = served
    office.answer = lambda path, number: 500
    told: list[Alert] = []
    for number in range(2):
        tell(database, number)
        give_up(database)
        alerting(database, endpoint, at=NOW + timedelta(seconds=number), told=told)
    first, second = told
    assert first.event_key != second.event_key
    assert first.fingerprint == second.fingerprint


def test_an_endpoint_that_takes_nothing_for_three_days_is_disabled_and_alerted(
    database: Database, served: tuple[Office, Endpoint]
) -> None:
    office, endpoint = served
    told: list[Alert] = []
    tell(database, 0)
    alerting(database, endpoint, at=NOW - timedelta(days=1), told=told)
    office.answer = lambda path, number: 500
    tell(database, 1)
    alerting(database, endpoint, at=NOW, told=told)
    give_up(database)
    alerting(database, endpoint, at=NOW + timedelta(days=3), told=told)
    assert [alert.title for alert in told] == ["An event was given up", "An endpoint was disabled"]
    assert "zapier: it took nothing for 3 days" in told[1].sentence
    assert "events enable zapier" in told[1].sentence
    with database.connect() as connection:
        assert events.disabled(connection) == {"zapier": "it took nothing for 3 days"}
        events.switch(connection, "zapier", "enabled", "by ann", NOW + timedelta(days=4))
        assert events.failing_since(connection, "zapier") is None, "it begins anew"


def test_an_endpoint_that_is_gone_is_alerted_once(database: Database, served: tuple[Office, Endpoint]) -> None:
    office, endpoint = served
    office.answer = lambda path, number: 410
    told: list[Alert] = []
    tell(database, 0)
    for _ in range(2):
        alerting(database, endpoint, at=NOW, told=told)
    (alert,) = told
    assert alert.title == "An endpoint was disabled"
    assert "410 Gone" in alert.sentence
