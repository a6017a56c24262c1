"""PostgreSQL stops at once (SIGQUIT to its postmaster, as `pg_ctl stop -m immediate` does) while a posting is under way, thirty times.

What was acknowledged is there afterwards, nothing is there by half, and the rest is posted by running the night again. The server writes
as in production: fsync and synchronous_commit are on.
"""

from __future__ import annotations

import os
import random
import shlex
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import psycopg
import pytest

from ledger_pipeline.checks import suites
from ledger_pipeline.orchestration import steps
from ledger_pipeline.store import embedded, staging
from ledger_pipeline.store.database import Database
from ledger_pipeline.store.proof import verify
from ledger_pipeline_tests.fakes import FakeCompany, order

STOPS = 30
ORDERS = 40
FIRST = date(2026, 10, 1)


class Server:
    """A server of our own, in a folder, whose postmaster we stop and start."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = embedded.start(folder, keep_running=True)
        self.options = (folder / "postmaster.opts").read_text().strip()

    @property
    def pid(self) -> int:
        return int((self.folder / "postmaster.pid").read_text().splitlines()[0])

    def stop_at_once(self) -> None:
        pid = self.pid
        os.kill(pid, signal.SIGQUIT)
        while _is_running(pid):
            time.sleep(0.01)

    def start(self) -> None:
        """The same command line as before; returns when recovery has ended and it takes connections."""
        owner = self.folder.stat().st_uid
        with (self.folder / "restarts.log").open("ab") as log:
            command = shlex.split(self.options)
            subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, user=owner, start_new_session=True
            )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                psycopg.connect(self.url, connect_timeout=5).close()
            except psycopg.OperationalError:
                time.sleep(0.05)
            else:
                return
        pytest.fail((self.folder / "restarts.log").read_text()[-2000:])


def _is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.fixture
def server() -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="lp-stop-", ignore_cleanup_errors=True) as folder:
        os.chmod(folder, 0o755)  # noqa: S103 - as root the server runs as another user
        made = Server(Path(folder).resolve() / "pg")
        yield made
        if _is_running(made.pid):
            made.stop_at_once()
        embedded._servers.pop(made.folder, None)


class Poster(threading.Thread):
    """Posts day after day until a connection breaks; `acknowledged` are the orders whose posting returned."""

    def __init__(self, company: FakeCompany, first: date) -> None:
        super().__init__()
        self.company, self.day = company, first
        self.acknowledged: set[str] = set()
        self.fault: BaseException | None = None

    def run(self) -> None:
        try:
            while True:
                post_day(self.company, self.day)
                self.acknowledged |= ids_of(self.day)
                self.day += timedelta(days=1)
        except psycopg.Error as fault:
            self.fault = fault


def ids_of(day: date) -> set[str]:
    return {f"{day}-{n}" for n in range(ORDERS)}


def post_day(company: FakeCompany, day: date) -> None:
    """Orders of the day, and an edit of one of the day before."""
    at = f"{day}T12:00:00+00:00"
    made = [order(id_, 1000 + n, at=at, updated=at) for n, id_ in enumerate(sorted(ids_of(day)))]
    before = f"{day - timedelta(days=1)}"
    if day > FIRST:
        made.append(order(f"{before}-0", 5000, at=f"{before}T12:00:00+00:00", updated=at))
    company.run(*made, day=day)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # cursors whose server is gone
def test_an_immediate_stop_loses_nothing_acknowledged_and_leaves_nothing_by_half(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suites, "check", lambda *_, **__: [])  # expectations have their own tests
    company = FakeCompany(Database(server.url).with_name("books"), tmp_path, monkeypatch)
    with company.database.connect("reader") as connection:
        settings = connection.execute(
            "SELECT current_setting('fsync'), current_setting('synchronous_commit')"
        ).fetchone()
    assert settings == ("on", "on")
    chance = random.Random(20261123)
    acknowledged: set[str] = set()
    day = FIRST
    for stop in range(STOPS):
        in_parts(monkeypatch, 7 if stop % 2 else 10_000)
        poster = Poster(company, day)
        poster.start()
        time.sleep(chance.uniform(0.02, 0.6))
        server.stop_at_once()
        poster.join(60)
        assert poster.fault is not None, "the stop was not noticed"
        acknowledged |= poster.acknowledged
        day = poster.day
        server.start()
        whole(company, acknowledged)
    post_day(company, day)
    last = {id_ for n in range((day - FIRST).days + 1) for id_ in ids_of(FIRST + timedelta(days=n))}
    assert {i for (i,) in company.rows("SELECT source_id FROM ledger.live_entry")} == last
    edited = [f"{FIRST + timedelta(days=n)}-0" for n in range((day - FIRST).days)]
    assert sorted(i for (i,) in company.rows("SELECT source_id FROM ledger.entry WHERE kind = 'replacement'")) == edited
    assert verify(company.database).findings == []


def in_parts(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """How many payloads are landed, staged and posted at once; a day of more is landed by two sessions, and read by another than writes it."""
    for place, name in ((steps, "LANDING_CHUNK"), (steps, "STAGING_CHUNK"), (staging, "GROUP")):
        monkeypatch.setattr(place, name, size)


def whole(company: FakeCompany, acknowledged: set[str]) -> None:
    """Every acknowledged order stands once; every entry has its batch and all its lines."""
    standing = [i for (i,) in company.rows("SELECT source_id FROM ledger.live_entry")]
    assert len(standing) == len(set(standing))
    assert acknowledged <= set(standing)
    assert company.rows(
        "SELECT count(*) FROM ledger.entry e FULL JOIN (SELECT entry_id, count(*) AS lines FROM ledger.line GROUP BY 1) l USING (entry_id) "
        "LEFT JOIN ledger.batch b USING (batch_id) WHERE b.batch_id IS NULL OR l.lines IS DISTINCT FROM e.line_count"
    ) == [(0,)]
