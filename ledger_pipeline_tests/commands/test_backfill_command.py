"""A backfill is a few runs, and one that was killed goes on where it stopped: what it had pulled isn't pulled again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ledger_pipeline.cli import app
from ledger_pipeline.commands.backfill import missing
from ledger_pipeline.orchestration.runtime import Runtime
from ledger_pipeline.sandbox.files import write_files
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


def command(folder: Path, days: int, *more: str, first: date = START) -> list[str]:
    last = first + timedelta(days=days - 1)
    return [
        *(
            sys.executable,
            "-m",
            "ledger_pipeline.cli",
            "backfill",
            "--from",
            first.isoformat(),
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
    deliver(office, "good", 5)
    deliver(office, "bad", 5)
    killed_when(
        command(tmp_path, 5, "--workers", "1"),
        tmp_path,
        lambda: rows(database, "SELECT count(*) FROM raw.pull")[0][0] >= 3,  # type: ignore[operator]
        60,
    )
    before = rows(database, "SELECT connection, sync_date FROM raw.pull ORDER BY 1, 2")
    assert 3 <= len(before) < 10
    done = subprocess.run(command(tmp_path, 5), cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(done.stdout.splitlines()) == 3, "two connections and the books"
    assert rows(database, "SELECT connection, count(*) FROM ledger.entry GROUP BY 1 ORDER BY 1") == [("bad", 20), ("good", 20)]  # fmt: skip
    assert rows(database, "SELECT max(n) FROM (SELECT count(*) AS n FROM raw.pull GROUP BY connection, stream, sync_date) t") == [(1,)]  # fmt: skip
    again = subprocess.run(command(tmp_path, 5), cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False)
    assert again.stdout == "2026-10-05 to 2026-10-09: every day is in the books\n"


def test_a_day_that_has_not_ended_is_refused(tmp_path: Path, database: Database) -> None:
    office = Office(tmp_path, database, 'schedule: { start: "2026-10-05" }\n')
    today = date.today().isoformat()  # noqa: DTZ011
    refused = CliRunner().invoke(
        app, ["backfill", "--from", today, "--to", "2999-01-01", "--config", str(office.config)]
    )
    assert refused.exit_code == 1
    assert "--to 2999-01-01 has not ended yet" in refused.output


def test_a_year_is_four_runs_a_connection(tmp_path: Path, database: Database) -> None:
    office = Office(tmp_path, database, 'schedule: { start: "2025-10-05" }\n')
    first, last = date(2025, 10, 5), date(2026, 10, 4)
    ranges = list(missing(office.runtime, ["good"], first, last, 92))
    assert len(ranges) == 4
    assert ranges[0] == ("good", first, date(2026, 1, 4))
    assert ranges[-1][2] == last
    days = sum((end - begin).days + 1 for _, begin, end in ranges)
    assert days == 365


YEAR, FIRST = 365, date(2025, 10, 5)


@pytest.mark.nightly
@pytest.mark.timeout(7200)
def test_a_year_of_the_sample_company_resumed_after_a_kill(
    tmp_path: Path, database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("stripe_us", "plaid_us", "stall_uk")
    last = FIRST + timedelta(days=YEAR - 1)
    with serving(tmp_path / "files", start=FIRST, orders_per_day=8) as company:
        company.clock.set(datetime(last.year, last.month, last.day, 5, 30, tzinfo=UTC) + timedelta(days=1))  # type: ignore[attr-defined]
        write_files(company.company, FIRST, last, company.files)  # type: ignore[arg-type]
        company.runtime(tmp_path, database)
        path = tmp_path / "ledger.yaml"
        path.write_text(path.read_text().replace('start: "2026-10-05"', f'start: "{FIRST}"'))
        line = command(tmp_path, YEAR, *(word for name in names for word in ("--connection", name)), first=FIRST)
        began = time.monotonic()
        killed_when(line, tmp_path, lambda: rows(database, "SELECT count(*) FROM raw.pull")[0][0] >= YEAR // 2, 600)  # type: ignore[operator]
        done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=6000, check=False)
        seconds = time.monotonic() - began
    assert done.returncode == 0, done.stdout + done.stderr
    runtime = Runtime.from_file(path)
    assert list(missing(runtime, list(names), FIRST, last, 92)) == []
    assert rows(database, "SELECT max(n) FROM (SELECT count(*) AS n FROM raw.pull GROUP BY connection, stream, sync_date) t") == [(1,)]  # fmt: skip
    [(entries,)] = rows(database, "SELECT count(*) FROM ledger.entry")
    with capsys.disabled():
        print(
            f"\n{YEAR} days of three connections, killed once: {len(done.stdout.splitlines())} runs, {entries} entries, {seconds:.0f} s"
        )
