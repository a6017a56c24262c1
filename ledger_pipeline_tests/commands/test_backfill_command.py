"""A backfill is a few runs, and one that was killed goes on where it stopped: what it had pulled isn't pulled again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import pytest

from ledger_pipeline.commands.backfill import missing
from ledger_pipeline.orchestration.runtime import Runtime
from ledger_pipeline.store.database import Database
from ledger_pipeline_tests.conftest import serving
from ledger_pipeline_tests.orchestration.office import Office

START = date(2026, 10, 5)


def rows(database: Database, query: str) -> list[tuple[object, ...]]:
    with database.connect("reader") as connection:
        return connection.execute(query).fetchall()


def deliver(office: Office, name: str, days: int, lines: int = 4) -> None:
    for day in (START + timedelta(days=n) for n in range(days)):
        text = [f"{day},{n}.00,line {n}" for n in range(1, lines + 1)]
        (office.folder / name / f"{day}.csv").write_text("\n".join(["Date,Amount,Text", *text]) + "\n")


def command(folder: Path, days: int, *more: str) -> list[str]:
    last = START + timedelta(days=days - 1)
    return [
        *(
            sys.executable,
            "-m",
            "ledger_pipeline.cli",
            "backfill",
            "--from",
            START.isoformat(),
            "--to",
            last.isoformat(),
        ),
        *("--config", str(folder / "ledger.yaml"), *more),
    ]


def killed_when(line: list[str], folder: Path, is_time: Callable[[], bool], seconds: float) -> None:
    """Run a command in a group of its own, and kill the group with -9 at the moment."""
    with subprocess.Popen(line, cwd=folder, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:  # fmt: skip
        deadline = time.monotonic() + seconds
        while not is_time():
            assert process.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.slow
def test_a_killed_backfill_goes_on_where_it_stopped(tmp_path: Path, database: Database) -> None:
    office = Office(tmp_path, database, 'schedule: { start: "2026-10-05" }\n')
    deliver(office, "good", 10)
    deliver(office, "bad", 10)
    killed_when(
        command(tmp_path, 10, "--workers", "1"),
        tmp_path,
        lambda: rows(database, "SELECT count(*) FROM raw.pull")[0][0] >= 4,  # type: ignore[operator]
        60,
    )
    before = rows(database, "SELECT connection, sync_date FROM raw.pull ORDER BY 1, 2")
    assert 4 <= len(before) < 20
    done = subprocess.run(command(tmp_path, 10), cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(done.stdout.splitlines()) == 3, "two connections and the books"
    assert rows(database, "SELECT connection, count(*) FROM ledger.entry GROUP BY 1 ORDER BY 1") == [("bad", 40), ("good", 40)]  # fmt: skip
    assert rows(database, "SELECT max(n) FROM (SELECT count(*) AS n FROM raw.pull GROUP BY connection, stream, sync_date) t") == [(1,)]  # fmt: skip
    again = subprocess.run(command(tmp_path, 10), cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert again.stdout == "2026-10-05 to 2026-10-14: every day is in the books\n"


def test_a_year_is_four_runs_a_connection(tmp_path: Path, database: Database) -> None:
    office = Office(tmp_path, database, 'schedule: { start: "2025-10-05" }\n')
    first, last = date(2025, 10, 5), date(2026, 10, 4)
    ranges = list(missing(office.runtime, ["good"], first, last, 92))
    assert len(ranges) == 4
    assert ranges[0] == ("good", first, date(2026, 1, 4))
    assert ranges[-1][2] == last
    days = sum((end - begin).days + 1 for _, begin, end in ranges)
    assert days == 365


@pytest.mark.nightly
@pytest.mark.timeout(3600)
def test_a_year_of_the_sample_company_resumed_after_a_kill(
    tmp_path: Path, database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("stripe_us", "plaid_us", "stall_uk")
    with serving(tmp_path / "files", orders_per_day=8) as company:
        last = START + timedelta(days=364)
        company.at_night_of(last)
        company.runtime(tmp_path, database)
        line = command(tmp_path, 365, *(word for name in names for word in ("--connection", name)))
        began = time.monotonic()
        killed_when(line, tmp_path, lambda: rows(database, "SELECT count(*) FROM raw.pull")[0][0] >= 200, 600)  # type: ignore[operator]
        done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=3000, check=False)
        seconds = time.monotonic() - began
    assert done.returncode == 0, done.stdout + done.stderr
    runtime = Runtime.from_file(tmp_path / "ledger.yaml")
    assert list(missing(runtime, list(names), START, last, 92)) == []
    assert rows(database, "SELECT max(n) FROM (SELECT count(*) AS n FROM raw.pull GROUP BY connection, stream, sync_date) t") == [(1,)]  # fmt: skip
    [(entries,)] = rows(database, "SELECT count(*) FROM ledger.entry")
    with capsys.disabled():
        print(
            f"\na year of three connections, killed once: {len(done.stdout.splitlines())} runs, {entries} entries, {seconds:.0f} s"
        )
