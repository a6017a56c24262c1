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
from ledger_pipeline_tests.conftest import SandboxCompany, serving
from ledger_pipeline_tests.orchestration.office import Office
from ledger_pipeline_tests.pipeline.books import balances, stands

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


def killed_when(
    line: list[str], folder: Path, is_time: Callable[[], bool], seconds: float, every: float = 0.02
) -> None:
    """Run a command in a group of its own, and kill the group with -9 at the moment."""
    with subprocess.Popen(line, cwd=folder, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:  # fmt: skip
        deadline = time.monotonic() + seconds
        while not is_time():
            assert process.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(every)
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
NAMES = ("stripe_us", "plaid_us", "stall_uk")


@pytest.mark.nightly
@pytest.mark.timeout(7200)
def test_a_year_of_the_sample_company_killed_in_the_middle_and_run_again_has_the_books_of_one_that_was_not(
    tmp_path: Path, new_database: Callable[[], Database], capsys: pytest.CaptureFixture[str]
) -> None:
    last = FIRST + timedelta(days=YEAR - 1)
    with serving(tmp_path / "files", start=FIRST, orders_per_day=8) as company:
        company.clock.set(datetime(last.year, last.month, last.day, 5, 30, tzinfo=UTC) + timedelta(days=1))  # type: ignore[attr-defined]
        write_files(company.company, FIRST, last, company.files)  # type: ignore[arg-type]
        killed, whole = (Year(tmp_path / name, new_database(), company) for name in ("killed", "whole"))
        killed.killed_in_the_middle()
        before = killed.state()
        killed.run_to_the_end()
        whole.run_to_the_end()
    assert 0 < before["posted"] < before["pulled"] < YEAR * len(NAMES)
    assert killed.state()["pulled"] == YEAR * len(NAMES)
    for year in (killed, whole):
        assert list(missing(year.runtime, list(NAMES), FIRST, last, 92)) == []
        assert rows(year.database, "SELECT max(n) FROM (SELECT count(*) AS n FROM raw.pull GROUP BY connection, stream, sync_date) t") == [(1,)]  # fmt: skip
    assert stands(killed.runtime) == stands(whole.runtime)
    assert balances(killed.runtime) == balances(whole.runtime)
    [(entries,)] = rows(killed.database, "SELECT count(*) FROM ledger.entry")
    with capsys.disabled():
        print(f"\n{YEAR} days of three connections, {entries} entries")
        print(f"killed with {before['posted']} days posted and {before['pulled']} pulled of {YEAR * len(NAMES)}, run again: {killed.told()}")  # fmt: skip
        print(f"not killed: {whole.told()}")


class Year:
    """A year's backfill in a folder and a database of its own."""

    def __init__(self, folder: Path, database: Database, company: SandboxCompany) -> None:
        folder.mkdir()
        company.runtime(folder, database)
        path = folder / "ledger.yaml"
        path.write_text(path.read_text().replace('start: "2026-10-05"', f'start: "{FIRST}"'))
        self.folder, self.database, self.runtime = folder, database, Runtime.from_file(path)
        self.line = command(folder, YEAR, *(word for name in NAMES for word in ("--connection", name)), first=FIRST)
        self.seconds: list[float] = []
        self.runs = 0

    def state(self) -> dict[str, int]:
        """How many days are pulled and posted."""
        days = "SELECT count(*) FROM (SELECT DISTINCT connection, sync_date FROM {}) t"
        found = {"pulled": "raw.pull", "posted": "ops.posted"}
        return {word: rows(self.database, days.format(table))[0][0] for word, table in found.items()}  # type: ignore[misc]

    def killed_in_the_middle(self) -> None:
        """With -9, its workers too, when half of the days were pulled."""
        began = time.monotonic()
        killed_when(self.line, self.folder, lambda: self.state()["pulled"] >= YEAR * len(NAMES) // 2, 1800, 0.5)
        self.seconds.append(time.monotonic() - began)

    def run_to_the_end(self) -> None:
        """The same command; it has to end well."""
        began = time.monotonic()
        done = subprocess.run(self.line, cwd=self.folder, capture_output=True, text=True, timeout=3000, check=False)
        self.seconds.append(time.monotonic() - began)
        assert done.returncode == 0, done.stdout + done.stderr
        self.runs = len(done.stdout.splitlines())

    def told(self) -> str:
        """Runs of the last command, minutes of all."""
        return f"{self.runs} runs, {' + '.join(f'{seconds / 60:.1f}' for seconds in self.seconds)} minutes"
