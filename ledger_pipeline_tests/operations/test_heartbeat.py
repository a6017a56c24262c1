"""The look from outside, at real servers and at dead ones: what it prints, whom it tells, and that it needs none of them alive."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ledger_pipeline.operations import dagster_tables, heartbeat
from ledger_pipeline.operations.heartbeat import Beat, beats, tell
from ledger_pipeline.orchestration.runtime import Runtime
from ledger_pipeline.store.database import Database
from ledger_pipeline_tests.operations.receivers import Hook, hook

NOW = datetime(2026, 10, 6, 3, tzinfo=UTC)
LOADED = {"locationEntries": [{"name": "here", "loadStatus": "LOADED", "locationOrLoadError": {"__typename": "RepositoryLocation"}}]}  # fmt: skip
BROKEN = {
    "locationEntries": [
        {
            "name": "here",
            "loadStatus": "LOADED",
            "locationOrLoadError": {"__typename": "PythonError", "message": "could not reach user code server\n at"},
        }
    ]
}


@contextmanager
def webserver(workspace: dict[str, Any]) -> Iterator[str]:
    """Answers as Dagster's webserver does."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self, body: object) -> None:
            data = json.dumps(body).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_GET(self) -> None:
            self.answer({"dagster_version": "1.13.27"})

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.answer({"data": {"workspaceOrError": workspace}})

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def runtime(folder: Path, url: str, ui: str = "", channel: Hook | None = None, **alerts: Any) -> Runtime:
    channels = [{"type": "slack", "url": channel.url}] if channel else []
    document = {
        "database_url": url,
        "entities": {"a": {"name": "A", "base_currency": "USD", "time_zone": "UTC"}},
        "connections": {},
        "alerts": {"ui_url": ui, "channels": channels, **alerts},
    }
    (folder / "ledger.yaml").write_text(json.dumps(document))
    return Runtime.from_file(folder / "ledger.yaml")


def seen(of: Runtime) -> dict[str, Beat]:
    return {beat.name: beat for beat in beats(of, NOW)}


@pytest.fixture
def daemons(database: Database, monkeypatch: pytest.MonkeyPatch) -> Database:
    """Dagster's table of heartbeats, in the test's own database."""
    monkeypatch.setattr(Database, "with_name", lambda self, _: self)
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute("CREATE TABLE daemon_heartbeats (daemon_type text, timestamp timestamp)")
        connection.execute("CREATE TABLE runs (status text, create_timestamp timestamp)")
    return database


def beat_at(database: Database, daemon: str, at: datetime) -> None:
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute("INSERT INTO daemon_heartbeats VALUES (%s, %s)", (daemon, at.replace(tzinfo=None)))


def test_everything_is_alive(tmp_path: Path, daemons: Database) -> None:
    beat_at(daemons, "SENSOR", NOW - timedelta(seconds=20))
    beat_at(daemons, "SCHEDULER", NOW - timedelta(seconds=25))
    with webserver(LOADED) as ui:
        found = seen(runtime(tmp_path, daemons.url, ui))
    assert {name: beat.is_alive for name, beat in found.items()} == dict.fromkeys(
        ("postgresql", "daemon", "webserver", "code location", "disk", "alerts"), True
    )


def test_each_dead_part_is_named(tmp_path: Path, daemons: Database) -> None:
    beat_at(daemons, "SENSOR", NOW - timedelta(minutes=20))
    with webserver(BROKEN) as ui:
        found = seen(runtime(tmp_path, daemons.url, ui))
    assert found["daemon"] == Beat("daemon", False, "silent: SENSOR (20 minutes ago)", "daemon_dead")
    assert found["code location"].sentence == "here: could not reach user code server"
    assert found["code location"].is_alive is False
    gone = seen(runtime(tmp_path, daemons.url, "http://127.0.0.1:1"))
    assert gone["webserver"].is_alive is False
    assert gone["code location"].is_alive is None


def test_the_queue_and_its_oldest_run(daemons: Database) -> None:
    with psycopg.connect(daemons.url, autocommit=True) as connection:
        connection.execute("INSERT INTO runs VALUES ('QUEUED', %s), ('SUCCESS', %s)", (NOW.replace(tzinfo=None) - timedelta(minutes=5),) * 2)  # fmt: skip
    assert dagster_tables.queue(daemons, NOW) == (1, 300.0)


def test_it_tells_though_postgresql_is_dead_and_not_again_within_the_window(tmp_path: Path) -> None:
    with hook() as slack:
        of = runtime(tmp_path, "postgresql://x:secret-word@127.0.0.1:1/ledger", channel=slack)
        for minutes in (0, 5, 61):
            now = NOW + timedelta(minutes=minutes)
            assert tell(of, list(beats(of, now)), now) == []
    assert len(slack.got) == 2
    assert slack.got[0]["text"].startswith("PostgreSQL is dead: –, –. postgresql: OperationalError: ")
    assert "secret-word" not in str(slack.got)


def test_what_comes_back_is_told(tmp_path: Path, database: Database) -> None:
    with hook() as slack:
        of = runtime(tmp_path, database.url, channel=slack)
        dead = Beat("webserver", False, "it was not reached", "webserver_dead")
        tell(of, [dead], NOW)
        tell(of, [Beat("webserver", True, "answers", "webserver_dead")], NOW + timedelta(minutes=5))
        tell(of, [Beat("webserver", True, "answers", "webserver_dead")], NOW + timedelta(minutes=10))
    assert [one["text"] for one in slack.got] == [
        "The Dagster webserver is dead: –, –. webserver: it was not reached",
        "Alive again: webserver",
    ]
    with database.connect("reader") as connection:
        assert connection.execute("SELECT kind FROM ops.alert").fetchall() == [("webserver_dead",)]


def test_a_channel_that_fails_is_tried_again_by_the_next_heartbeat(tmp_path: Path) -> None:
    with hook(500) as slack:
        of = runtime(tmp_path, "postgresql://x@127.0.0.1:1/ledger", channel=slack)
        dead = [Beat("postgresql", False, "gone", "database_dead")]
        assert tell(of, dead, NOW) == ["alert channel slack: the address answered 500"]
        slack.status = 200
        assert tell(of, dead, NOW + timedelta(minutes=5)) == []
        assert tell(of, dead, NOW + timedelta(minutes=10)) == []
    assert len(slack.got) == 2


def test_the_embedded_server_is_not_started(tmp_path: Path) -> None:
    of = runtime(tmp_path, "")
    assert heartbeat.books(of) == (None, "the embedded server is not running")
    assert not (tmp_path / ".ledger" / "postgres").exists()


def test_the_embedded_servers_address_is_read_from_its_own_file(tmp_path: Path, database: Database) -> None:
    socket_folder = database.url.split("host=")[1]
    data = tmp_path / ".ledger" / "postgres"
    data.mkdir(parents=True)
    pid_file = Path(socket_folder) / "postmaster.pid"
    (data / "postmaster.pid").write_text(pid_file.read_text())
    url = heartbeat.url_of(runtime(tmp_path, ""))
    assert url is not None
    with psycopg.connect(Database(url).with_name("postgres").url) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_the_command_is_quick_light_and_ends_with_one(tmp_path: Path) -> None:
    runtime(tmp_path, "postgresql://x@127.0.0.1:1/ledger")
    code = (
        "import sys; from ledger_pipeline.cli import app\n"
        "try: app(['heartbeat', '--no-alert'])\n"
        "except SystemExit as e: print(e.code)\n"
        "print(sorted({'great_expectations', 'dagster', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)  # fmt: skip
    lines = done.stdout.splitlines()
    assert lines[0].startswith("dead    postgresql     OperationalError"), done.stderr
    assert lines[-2:] == ["1", "[]"]
