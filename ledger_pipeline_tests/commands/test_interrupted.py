"""Ctrl-C and SIGTERM end a command and its workers at once, and its runs are canceled; workers don't outlive a command that was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import psutil
import pytest

from ledger_pipeline.orchestration import jobs, nights
from ledger_pipeline.store.database import Database
from ledger_pipeline_tests.orchestration.office import Office

FIRST = date(2026, 10, 5)
DAYS = 20


@pytest.fixture
def office(tmp_path: Path, database: Database) -> Office:
    """Two connections with many days to go."""
    made = Office(tmp_path, database, 'schedule: { start: "2026-10-05" }\n')
    for name in ("good", "bad"):
        for day in (FIRST + timedelta(days=n) for n in range(DAYS)):
            (tmp_path / name / f"{day}.csv").write_text(f"Date,Amount,Text\n{day},1.00,line\n")
    return made


@contextmanager
def at_work(office: Office, command: str) -> Iterator[subprocess.Popen[str]]:
    """The command in a group of its own, when the first day has been pulled."""
    last = FIRST + timedelta(days=DAYS - 1)
    line = [sys.executable, "-m", "ledger_pipeline.cli", command, "--from", str(FIRST), "--to", str(last)]
    with subprocess.Popen(line, cwd=office.folder, text=True, start_new_session=True, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:  # fmt: skip
        until = time.monotonic() + 60
        while not pulled(office.database):
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.02)
        yield process


def pulled(database: Database) -> int:
    with database.connect("reader") as connection:
        row = connection.execute("SELECT count(*) FROM raw.pull").fetchone()
    return int(row[0]) if row else 0


def runs_of(office: Office, process: subprocess.Popen[str]) -> list[dg.DagsterRun]:
    with nights.instance(office.runtime) as instance:
        runs = instance.get_runs(limit=200)
    return [run for run in runs if f":{process.pid}:" in run.tags.get(jobs.COMMAND, "")]


@pytest.mark.parametrize(
    ("command", "stop", "code"),
    [
        ("sync", lambda process: os.killpg(process.pid, signal.SIGINT), 130),  # what a terminal does at Ctrl-C
        ("backfill", lambda process: process.terminate(), 143),  # what a service manager does
    ],
    ids=["Ctrl-C", "SIGTERM"],
)
def test_a_command_that_is_stopped_ends_its_workers_and_cancels_its_runs(
    office: Office,
    command: str,
    stop: Callable[[subprocess.Popen[str]], None],
    code: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(office.folder)
    with at_work(office, command) as process:
        workers = psutil.Process(process.pid).children()
        stop(process)
        _, said = process.communicate(timeout=60)
    assert process.returncode == code
    assert "interrupted: what is posted stays, and the same command goes on from there" in said.replace("\n", " ")
    assert "Traceback" not in said
    assert psutil.wait_procs(workers, timeout=10)[1] == []
    statuses = {run.status for run in runs_of(office, process)}
    assert statuses <= {dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.CANCELED}
    assert dg.DagsterRunStatus.CANCELED in statuses
    assert pulled(office.database) < 2 * DAYS


def test_workers_end_when_their_command_is_killed(office: Office) -> None:
    with at_work(office, "backfill") as process:
        workers = psutil.Process(process.pid).children()
        process.kill()
        gone, alive = psutil.wait_procs(workers, timeout=20)
    assert (len(gone), alive) == (2, [])
