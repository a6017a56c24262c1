"""Dagster's own run launcher, except that runs with the tag `ledger/warm` go to a warm process: a cold start alone takes longer than they may.

`run_launcher:` in dagster.yaml. The warm process starts with the first such run, which is started cold, and anew whenever the code,
ledger.yaml or .env changed. Where it can't be had, Dagster's way is taken.
"""

from __future__ import annotations

import json
import logging
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO, Any

import psutil
from dagster import DagsterInstance
from dagster._core.launcher.base import LaunchRunContext
from dagster._core.launcher.default_run_launcher import DefaultRunLauncher
from dagster._serdes import serialize_value

from ledger_pipeline import config as configuration
from ledger_pipeline.orchestration.changed import WARM

log = logging.getLogger(__name__)
PROCESS = "ledger/process"
"""Tag of a run in a warm worker: host, process id and when that process started."""
FORK_SECONDS = 5.0
_PACKAGE = Path(configuration.__file__).parent


class LedgerRunLauncher(DefaultRunLauncher):
    """Runs with that tag in a warm worker, all others as Dagster does."""

    def __init__(self, inst_data: Any = None) -> None:
        super().__init__(inst_data)
        self._warm: Warm | None = None
        self._lock = threading.Lock()

    def launch_run(self, context: LaunchRunContext) -> None:
        """Cold where the run has no such tag, and until the warm process is ready."""
        run = context.dagster_run
        if WARM in run.tags and sys.platform == "linux":
            with self._lock:
                pid = self._start(run.run_id)
            if pid:
                self._instance.add_run_tags(run.run_id, {PROCESS: _named(pid)})
                return
        super().launch_run(context)

    def _start(self, run_id: str) -> int:
        """A worker's process id; 0 when there is no warm process yet."""
        if self._warm is None or not self._warm.is_usable():
            if self._warm is not None:
                self._warm.close()
            self._warm = Warm(self._instance)
            return 0
        return self._warm.start(run_id)

    def terminate(self, run_id: str) -> bool:
        """Interrupt a warm worker of this host; the others as Dagster does."""
        run = self._instance.get_run_by_id(run_id)
        process = _process(run.tags.get(PROCESS, "")) if run else None
        if run is None or run.is_finished or process is None:
            return bool(super().terminate(run_id))  # type: ignore[no-untyped-call]
        self._instance.report_run_canceling(run)
        process.send_signal(2)
        return True

    def dispose(self) -> None:
        """The warm process ends; its workers go on."""
        if self._warm is not None:
            self._warm.close()
            self._warm = None


def _named(pid: int) -> str:
    try:
        return f"{socket.gethostname()}:{pid}:{psutil.Process(pid).create_time()}"
    except psutil.NoSuchProcess:
        return ""


def _process(name: str) -> psutil.Process | None:
    """The process of a tag, None when it ran elsewhere, is gone, or its number belongs to another one now."""
    host, _, rest = name.partition(":")
    pid, _, created = rest.partition(":")
    try:
        process = psutil.Process(int(pid)) if host == socket.gethostname() else None
        return process if process and str(process.create_time()) == created else None
    except (psutil.NoSuchProcess, ValueError):
        return None


def _stamp() -> tuple[int, int]:
    """Changes with the package's code, ledger.yaml and .env."""
    files = [*_PACKAGE.rglob("*.py"), configuration.find(), Path.cwd() / ".env"]
    times = [file.stat().st_mtime_ns for file in files if file.exists()]
    return max(times), len(times)


class Warm:
    """The process that forks workers."""

    def __init__(self, instance: DagsterInstance) -> None:
        self._instance = instance
        self._stamp = _stamp()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ledger_pipeline.orchestration.warm"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # an interrupt at the terminal is not for it: it ends with its input
        )
        self._ready = threading.Event()
        self._forked: dict[str, int] = {}
        self._changed = threading.Condition()
        threading.Thread(target=self._listen, name="warm-runs", daemon=True).start()

    def is_usable(self) -> bool:
        """False when it has ended or is older than the code."""
        return self._process.poll() is None and self._stamp == _stamp()

    def start(self, run_id: str) -> int:
        """Fork a worker; 0 when it isn't ready yet or doesn't answer."""
        if not self._ready.is_set():
            return 0
        given = {"run_id": run_id, "instance": serialize_value(self._instance.get_ref())}
        try:
            _pipe(self._process.stdin).write(json.dumps(given).encode() + b"\n")
            _pipe(self._process.stdin).flush()
        except OSError:
            return 0
        with self._changed:
            if self._changed.wait_for(lambda: run_id in self._forked, FORK_SECONDS):
                return self._forked[run_id]
        self._process.kill()  # it must not fork the run later, when it has been started otherwise
        return 0

    def _listen(self) -> None:
        for line in _pipe(self._process.stdout):
            told = json.loads(line)
            if told.get("ready"):
                self._ready.set()
            elif "pid" in told:
                with self._changed:
                    self._forked[told["run_id"]] = told["pid"]
                    self._changed.notify_all()
            elif "exit" in told:
                self._forked.pop(told["run_id"], None)
                try:
                    self._ended(told["run_id"], told["exit"])
                except (
                    Exception
                ):  # the database is gone: this thread must hear of the next worker, `stuck_runs` fails the run
                    log.exception(
                        "run %s: its process ended with %s, which could not be kept", told["run_id"], told["exit"]
                    )

    def _ended(self, run_id: str, code: int) -> None:
        """A worker that was killed leaves its run open: nobody else would say that it failed."""
        run = self._instance.get_run_by_id(run_id)
        if run is not None and not run.is_finished:
            self._instance.report_run_failed(run, f"the run's process ended with {code}")

    def close(self) -> None:
        """Let it end."""
        try:
            _pipe(self._process.stdin).close()
        except OSError:
            log.debug("the warm process is gone already")


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None  # noqa: S101 - both were asked for
    return pipe
