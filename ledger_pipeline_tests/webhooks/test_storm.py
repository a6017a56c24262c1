"""Two thousand signed webhooks a second for thirty seconds: every acknowledged one is stored; what the daemon makes of a few, and tells of them."""

from __future__ import annotations

import base64
import json
import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ledger_pipeline.operations import outgoing
from ledger_pipeline.orchestration.runtime import Runtime
from ledger_pipeline.store.database import Database
from ledger_pipeline.webhooks.deliver import SCHEDULE
from ledger_pipeline_tests.bench import intake, to_posted


@pytest.mark.parametrize(("rate", "seconds"), [(300, 2), pytest.param(2000, 30, marks=pytest.mark.nightly)])
def test_every_acknowledged_webhook_of_a_storm_is_stored(
    database: Database, tmp_path: Path, rate: int, seconds: int
) -> None:
    found = intake.storm(database, tmp_path, rate, seconds)
    print(found)
    assert set(found["answers"]) <= {"200", "429"}
    assert found["stored"] == found["acknowledged"] == found["sent"] == rate * seconds


EVENTS_OUT = """\
events:
  taker: {{url: "{receiver}/taker", secrets: ["{secret}"], types: [entry.posted]}}
  gone: {{url: "{receiver}/gone", secrets: ["{secret}"], types: [entry.posted]}}
  tired: {{url: "{receiver}/tired", secrets: ["{secret}"], types: [entry.posted]}}
alerts: {{webhook_url: "{receiver}/alerts"}}
"""
OUT_SECRET = "whsec_" + base64.b64encode(b"o" * 32).decode()


@pytest.mark.nightly
def test_a_webhook_becomes_an_entry_and_the_entry_an_event_through_the_daemon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How fast is `make bench`'s matter; here each is posted once, and told once, whatever the machine does."""
    with receiver() as (url, got):
        monkeypatch.setattr(
            to_posted, "CONFIG", to_posted.CONFIG + EVENTS_OUT.format(receiver=url, secret=OUT_SECRET).replace("{", "{{").replace("}", "}}")
        )  # fmt: skip
        with the_last_attempt_is_near(tmp_path, "tired"):
            took = to_posted.measure(tmp_path, intake.free_port(), 6, 3.0)
        print(took)
        assert set(took.answers) == {200}
        assert took.entries == 7
        by_daemon = sum(path == "/taker" for path, _ in got)
        outgoing.deliver(Runtime.from_file(tmp_path / "ledger.yaml"))
    by_path = {path: [body for one, body in got if one == path] for path in ("/taker", "/gone", "/tired", "/alerts")}
    print(f"{by_daemon} of 7 events taken before the daemon ended, {len(by_path['/gone'])} refused with 410")
    assert by_daemon >= 3
    assert len({body["data"]["source_id"] for body in by_path["/taker"]}) == 7
    titles = Counter(body["title"] for body in by_path["/alerts"])
    assert (titles["An endpoint was disabled"], titles["An event was given up"]) == (1, 1), titles
    said = " ".join(body["sentence"] for body in by_path["/alerts"])
    assert "gone: it answered 410 Gone" in said
    assert re.search(r"tired: \d entry\.posted given up after 10 attempts \(answered 500\)", said)
    assert OUT_SECRET not in said
    assert url not in said


@contextmanager
def receiver() -> Iterator[tuple[str, list[tuple[str, dict[str, Any]]]]]:
    """Answers 200, but 410 at /gone and 500 at /tired; keeps (path, body)."""
    got: list[tuple[str, dict[str, Any]]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
            self.send_response({"/gone": 410, "/tired": 500}.get(self.path, 200))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", got
        server.shutdown()


@contextmanager
def the_last_attempt_is_near(folder: Path, endpoint: str) -> Iterator[None]:
    """As if three days had passed: what failed once at that endpoint has its last attempt ahead."""
    done = threading.Event()

    def hurry() -> None:
        while not done.wait(0.5):
            if not (folder / "ledger.yaml").exists():
                continue
            with suppress(psycopg.Error), Runtime.from_file(folder / "ledger.yaml").database.connect() as connection:
                connection.execute(
                    "UPDATE ops.outbox SET attempts = %s WHERE endpoint = %s AND state = 'pending' AND attempts = 1",
                    (len(SCHEDULE), endpoint),
                )

    thread = threading.Thread(target=hurry, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(10)
