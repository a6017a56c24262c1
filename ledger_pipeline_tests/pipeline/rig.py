"""A whole installation as processes of its own, a supervisor that starts again what died, cron's heartbeat, and something that kills.

The supervisor plays systemd's `Restart=`, except that what was killed stays dead until the heartbeat has told of it, or `HELD_SECONDS`: a
part that is back within a second is noticed by nobody, and needn't be.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import psycopg
import requests

from ledger_pipeline.store.database import Database
from ledger_pipeline_tests.operations.receivers import Hook
from ledger_pipeline_tests.pipeline.machines import DAEMON_LINE, Machine, code_line, quick_instance
from ledger_pipeline_tests.pipeline.postgres import Postgres
from ledger_pipeline_tests.pipeline.processes import Process, end_all_in, free_port, listens, lives, until

WORKER, CODE, DAEMON, WEB, POSTGRES = "run worker", "code server", "daemon", "webserver", "postgresql"
TELLS = {
    CODE: {"code_location_dead", "tick_failed"},
    DAEMON: {"daemon_dead"},
    WEB: {"webserver_dead"},
    POSTGRES: {"database_dead"},
}
"""Which kinds of alerts name a part."""
QUICK = Path(__file__).with_name("quick.py")
"""Loaded by the code server of the test only: it shortens waits of the modules that it imports."""
RESTART_SECONDS, HELD_SECONDS = 1.0, 100.0
CRON_SECONDS = 3.0
STILL_SILENT = timedelta(seconds=20)
"""After everything answers, a daemon may still owe its first heartbeat."""
AT_WORK = ("QUEUED", "NOT_STARTED", "STARTING", "STARTED", "CANCELING")
NIGHTS_WITHOUT_BOOKS = """\
WITH known AS (
  SELECT pipeline_name AS job, value AS night, status, create_timestamp, update_timestamp
  FROM runs JOIN run_tags USING (run_id) WHERE key = 'ledger/night'
)
SELECT night FROM known n WHERE job = 'nightly' GROUP BY night HAVING NOT EXISTS (
  SELECT FROM known b
  WHERE b.job = 'books' AND b.night = n.night AND b.status = 'SUCCESS' AND b.create_timestamp >= max(n.update_timestamp)
) ORDER BY night
"""
"""Nights whose books weren't made well after the last run of a connection."""


@dataclass
class Kill:
    """What was killed at once, and until when something was down; `from_alert` is how many alerts had been sent before.

    `run_id` is that of a killed worker, `told_after` seconds by part.
    """

    parts: tuple[str, ...]
    from_alert: int
    at: datetime
    run_id: str = ""
    up_at: datetime | None = None
    told_after: dict[str, float] = field(default_factory=dict)

    def explains(self, noticed_at: datetime) -> bool:
        """Something was dead then, or had only just come back."""
        return self.at.replace(microsecond=0) <= noticed_at and (
            self.up_at is None or noticed_at <= self.up_at + STILL_SILENT
        )


def at(noticed_at: str) -> datetime:
    """As alerts say it."""
    return datetime.strptime(noticed_at, "%Y-%m-%d %H:%M:%S UTC").replace(tzinfo=UTC)


class Rig:
    """Everything of one installation. `kill` is the only thing that is done to it."""

    def __init__(self, folder: Path, document: dict[str, Any], server: Postgres, sink: Hook, web_port: int) -> None:
        code_port, self._web = free_port(), f"http://127.0.0.1:{web_port}"
        settings = quick_instance("run_launcher", "sensors")
        self.machine = Machine(folder, json.dumps(document), {}, code_port, settings)
        self.server, self.sink = server, sink
        (folder / "code" / "quick.py").write_text(QUICK.read_text())
        self.dagster = Database(server.url).with_name("dagster")
        self.kills: list[Kill] = []
        self.restarts: list[str] = []
        self.troubles: list[str] = []
        self._lines = {
            CODE: code_line(code_port, "quick"),
            DAEMON: DAEMON_LINE,
            WEB: ("dagster-webserver", "-h", "127.0.0.1", "-p", str(web_port), "-w", "workspace.yaml"),
        }
        self._is_up: dict[str, Callable[[], bool]] = {
            CODE: lambda: listens(code_port),
            DAEMON: self._daemon_beats,
            WEB: self._web_answers,
            POSTGRES: self._postgres_answers,
        }
        self._processes: dict[str, Process] = {}
        self._started_at: dict[str, float] = {}
        self._stop = threading.Event()

    # parts ------------------------------------------------------------------------------------------------------------

    def _start(self, part: str) -> None:
        self.restarts.append(part)
        self._started_at[part] = time.time()
        if part == POSTGRES:
            with suppress(
                subprocess.CalledProcessError
            ):  # backends of the killed one still end: the next look starts it
                self.server.start()
            return
        name = f"{part.replace(' ', '-')}-{self.restarts.count(part)}"
        self._processes[part] = self.machine.start(name, *self._lines[part])

    def _is_dead(self, part: str) -> bool:
        if part == POSTGRES:
            try:
                return not lives(self.server.postmaster().pid)
            except (FileNotFoundError, psutil.NoSuchProcess, IndexError, ValueError):
                return True
        return self._processes[part].popen.poll() is not None

    def _daemon_beats(self) -> bool:
        since = self._started_at[DAEMON]
        rows = self.ask(
            "SELECT extract(epoch FROM timestamp)::float8 FROM daemon_heartbeats WHERE daemon_type = 'SENSOR'"
        )
        return any(beat > since for (beat,) in rows)

    def _web_answers(self) -> bool:
        try:
            return bool(requests.get(f"{self._web}/server_info", timeout=3).ok)
        except requests.RequestException:
            return False

    def _postgres_answers(self) -> bool:
        return self.ask("SELECT 1") == [(1,)]

    def ask(self, query: str, *arguments: object) -> list[tuple[Any, ...]]:
        """Of Dagster's database; nothing while it doesn't answer."""
        try:
            with psycopg.connect(self.dagster.url, connect_timeout=3, autocommit=True) as connection:
                connection.execute("SET TIME ZONE 'UTC'")
                return connection.execute(query, arguments).fetchall()
        except psycopg.Error:
            return []

    def all_up(self) -> bool:
        """Every part answers."""
        return all(not self._is_dead(part) and self._is_up[part]() for part in TELLS)

    # the supervisor and cron ------------------------------------------------------------------------------------------

    def _supervise(self) -> None:
        died_at: dict[str, float] = {}
        while not self._stop.wait(0.2):
            self._listen()
            for part in (POSTGRES, CODE, DAEMON, WEB):
                if not self._is_dead(part):
                    died_at.pop(part, None)
                    continue
                dead = time.monotonic() - died_at.setdefault(part, time.monotonic())
                if dead >= RESTART_SECONDS and not (self._is_held(part) and dead < HELD_SECONDS):
                    self._start(part)

    def _is_held(self, part: str) -> bool:
        return bool(self.kills) and part in self.kills[-1].parts and part not in self.kills[-1].told_after

    def _listen(self) -> None:
        """Note how long after each kill its alert came."""
        sent = self.alerts()
        for kill in self.kills:
            for part in kill.parts:
                if part in kill.told_after:
                    continue
                new = sent[kill.from_alert :]
                if any(a["run_id"] == kill.run_id for a in new) if part == WORKER else any(a["kind"] in TELLS[part] for a in new):  # fmt: skip
                    kill.told_after[part] = (datetime.now(UTC) - kill.at).total_seconds()

    def alerts(self) -> list[dict[str, Any]]:
        """All that have reached the channel."""
        return [alert for body in list(self.sink.got) for alert in body["alerts"]]

    def is_closed(self) -> bool:
        """No run waits or works, and the books of every night have been made."""
        counts = dict(self.ran())
        return bool(counts) and not set(counts) & set(AT_WORK) and not self.ask(NIGHTS_WITHOUT_BOOKS)

    def false_alarms(self) -> Counter[str]:
        """Which parts were said to be dead while everything lived, and how often."""
        return Counter(
            part
            for alert in self.alerts()
            for part, kinds in TELLS.items()
            if alert["kind"] in kinds
            and alert["kind"].endswith("_dead")
            and not any(kill.explains(at(alert["noticed_at"])) for kill in self.kills)
        )

    def untold(self) -> set[str]:
        """Runs that failed without an alert."""
        failed = {run_id for (run_id,) in self.ask("SELECT run_id FROM runs WHERE status = 'FAILURE'")}
        return failed - {alert["run_id"] for alert in self.alerts()}

    def hanging_sessions(self) -> list[tuple[Any, ...]]:
        """(state, query) of sessions on the server that wait for a lock, or have kept a transaction open for a minute."""
        return self.ask(
            "SELECT state, query FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
            "OR (state LIKE 'idle in transaction%%' AND xact_start < now() - interval '1 minute')"
        )

    def _cron(self) -> None:
        while not self._stop.wait(CRON_SECONDS):
            with suppress(subprocess.TimeoutExpired):
                self.machine.ended("ledger-pipeline", "heartbeat", seconds=60)

    def _guarded(self, work: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            try:
                work()
            except Exception as error:
                self.troubles.append(f"{work.__name__}: {type(error).__name__}: {error}")
                raise

        return run

    # killing ----------------------------------------------------------------------------------------------------------

    def worker(self) -> tuple[str, int] | None:
        """(run id, process id) of a run in progress."""
        query = "SELECT run_id, event FROM runs JOIN event_logs USING (run_id) WHERE status = 'STARTED' AND event LIKE '%%for run (pid: %%'"
        for run_id, event in self.ask(query):
            found = re.search(r"for run \(pid: (\d+)\)", event)
            if found and run_id not in {kill.run_id for kill in self.kills} and lives(int(found[1])):
                return run_id, int(found[1])
        return None

    def kill(self, parts: tuple[str, ...]) -> Kill:
        """SIGKILL to each of them at once; to a part's whole process group, to a run's worker alone."""
        if WORKER in parts:
            self.until(lambda: self.worker() is not None, 150)
        kill = Kill(parts, len(self.alerts()), datetime.now(UTC))
        postmaster = self.server.postmaster()
        if WORKER in parts:
            kill.run_id = self._kill_a_worker()
        self.kills.append(kill)
        for part in set(parts) - {WORKER}:
            if part == POSTGRES:
                postmaster.kill()
            else:
                os.killpg(self._processes[part].popen.pid, signal.SIGKILL)
        return kill

    def _kill_a_worker(self) -> str:
        """Its run's id; another one's, where the run had just ended."""
        while True:
            self.until(lambda: self.worker() is not None, 150, every=0.02)
            found = self.worker()
            if found is None:
                continue
            with suppress(ProcessLookupError):
                os.kill(found[1], signal.SIGKILL)
            if self.ask("SELECT status FROM runs WHERE run_id = %s", found[0]) != [("SUCCESS",)]:
                return found[0]

    def until(self, what: Callable[[], bool], seconds: float, every: float = 0.5) -> None:
        """Wait for it; where it doesn't come, or the rig itself is in trouble, say what there is to know."""

        def came() -> bool:
            assert not self.troubles, self.troubles
            return what()

        try:
            until(came, seconds, every)
        except AssertionError as error:
            words = "\n".join(f"--- {p.name}\n{p.text()[-1500:]}" for p in self._processes.values())
            raise AssertionError(f"{error}\nruns {self.ran()}, kills {self.kills[-3:]}\n{words}") from error

    def ran(self) -> list[tuple[str, int]]:
        """(status, how many) of Dagster's runs."""
        return [
            (status, count) for status, count in self.ask("SELECT status, count(*) FROM runs GROUP BY 1 ORDER BY 1")
        ]

    @contextmanager
    def running(self) -> Iterator[Rig]:
        """Everything started; nothing is left of it after the block."""
        threads = [threading.Thread(target=self._guarded(work), daemon=True) for work in (self._supervise, self._cron)]
        try:
            for part in (CODE, DAEMON, WEB):
                self._start(part)
                if part == CODE:
                    until(self._is_up[CODE], 90, alive=(self._processes[CODE],))
            until(self.all_up, 120)
            for thread in threads:
                thread.start()
            yield self
        finally:
            self._stop.set()
            for thread in threads:
                if thread.ident:
                    thread.join(70)
            for process in self._processes.values():
                process.end()
            end_all_in(self.machine.folder)
