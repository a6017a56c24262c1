"""`make demo` and `make ui`: the sandbox company's nights, booked through Dagster and held against the company's own books."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests
import typer

from ledger_pipeline.cli_support import (
    balance_rows,
    console,
    print_balances,
    print_summary,
    run_nights,
    summary,
    told_when_interrupted,
)
from ledger_pipeline.config import ConfigError
from ledger_pipeline.sandbox.company import company_from
from ledger_pipeline.sandbox.files import write_files

if TYPE_CHECKING:
    from ledger_pipeline.orchestration.runtime import Runtime

CONFIG = Path(__file__).parent / "sandbox" / "demo.ledger.yaml"
NIGHT_HOUR = (5, 30)
"""UTC, on the day after the sync date: past midnight in New York and London, before either company's day begins."""
START_SECONDS = 30


def run(days: int, start: date, seed: int, orders_per_day: int, workers: int, as_json: bool) -> int:
    """All nights, the summary, the trial balances and the comparison; 1 when a run failed or the books differ."""
    began = time.monotonic()
    nights = [start + timedelta(days=n) for n in range(days)]
    runtime = _runtime()
    with sandbox(seed, start, orders_per_day, runtime.data_folder) as url:
        before = _entries(runtime)
        company = company_from(seed, start, orders_per_day)

        reached = _last_night(runtime)

        def set_clock(day: date) -> None:
            tonight = max(day, reached or day)  # the company's time doesn't run backwards when its nights are run again
            now = datetime(tonight.year, tonight.month, tonight.day, *NIGHT_HOUR, tzinfo=UTC) + timedelta(days=1)
            write_files(
                company, day, day, Path(os.environ["SANDBOX_FILES"])
            )  # what the bank and the stall leave in their folders
            requests.post(f"{url}/_control/clock", json={"now": now.isoformat()}, timeout=10).raise_for_status()

        from ledger_pipeline.orchestration import jobs

        names = jobs.enabled(runtime.config)
        with told_when_interrupted():
            failed = [
                ran
                for ran in run_nights(CONFIG, names, nights, workers, quiet=as_json, before=set_clock)
                if not ran.is_success
            ]
        truth = requests.get(f"{url}/_truth", params={"through": nights[-1].isoformat()}, timeout=120).json()
    rows = summary(runtime, nights[0], nights[-1])
    differences = compare(runtime, truth)
    new = _entries(runtime) - before
    result = {
        "nights": days,
        "runs_failed": [{"connection": r.connection, "sync_date": r.sync_date, "error": r.error} for r in failed],
        "new_entries": new,
        "connections": rows,
        "ties_to_the_companys_own_books": not differences,
        "differences": differences,
        "seconds": round(time.monotonic() - began, 1),
    }
    if as_json:
        typer.echo(json.dumps(result, indent=2, default=str))
    else:
        _print(runtime, result, nights)
    return 1 if failed or differences else 0


def _runtime() -> Runtime:
    from ledger_pipeline.orchestration.runtime import Runtime

    runtime = Runtime.from_file(CONFIG)
    _ = runtime.database
    return runtime


def _print(runtime: Runtime, result: dict[str, Any], nights: list[date]) -> None:
    print_summary(result["connections"])
    print_balances(runtime, balance_rows(runtime, None, None, by_role=False))
    for run in result["runs_failed"]:
        console.print(f"[red]failed[/red] {run['connection'] or 'books'} {run['sync_date']}: {run['error']}")
    new = result["new_entries"]
    console.print(f"{len(nights)} nights, {nights[0]} to {nights[-1]}, in {result['seconds']} s.")
    console.print(
        f"{new:,} new entries posted."
        if new
        else "Nothing new: everything was posted before, nothing was posted twice."
    )
    for difference in result["differences"]:
        console.print(f"  [red]differs[/red] {difference}")
    console.print(
        f"ties to the company's own books: {'yes' if result['ties_to_the_companys_own_books'] else '[red]no[/red]'}"
    )


def _last_night(runtime: Runtime) -> date | None:
    with runtime.database.connect("reader") as connection:
        row = connection.execute("SELECT max(sync_date) FROM ops.staged").fetchone()
    return row[0] if row else None


def _entries(runtime: Runtime) -> int:
    with runtime.database.connect("reader") as connection:
        row = connection.execute("SELECT count(*) FROM ledger.entry").fetchone()
    return int(row[0]) if row else 0


def compare(runtime: Runtime, truth: dict[str, Any]) -> list[str]:
    """What differs between the ledger and the company's own books: balances to the minor unit, and what became of every record.

    What the books computed from themselves (`books:…`, currency gains) is left out: the company's books are those of its records.
    """
    with runtime.database.connect("reader") as connection:
        ours = {
            (entity, role, currency): (amount, base)
            for entity, role, currency, amount, base in connection.execute(
                "SELECT l.entity, l.role, l.currency, sum(l.amount_minor)::bigint, sum(l.base_minor)::bigint FROM ledger.line l "
                "JOIN ledger.entry e USING (entry_id) WHERE e.connection NOT LIKE 'books:%' GROUP BY 1, 2, 3"
            )
        }
        fates: dict[tuple[str, str], dict[str, int]] = {}
        for name, stream, fate, count in connection.execute(
            "SELECT connection, stream, fate, count(*) FROM ops.fate WHERE fate <> 'superseded' AND connection NOT LIKE 'books:%' GROUP BY 1, 2, 3"
        ):
            fates.setdefault((name, stream), {})[fate] = count
    theirs = {(b["entity"], b["role"], b["currency"]): (b["amount_minor"], b["base_minor"]) for b in truth["balances"]}
    found = [
        f"{' '.join(key)}: posted {ours.get(key, (0, 0))}, the company says {theirs.get(key, (0, 0))} (minor units, base)"
        for key in sorted(ours.keys() | theirs.keys())
        if ours.get(key, (0, 0)) != theirs.get(key, (0, 0))
    ]
    expected = {
        (name, stream): counts for name, streams in truth["fates"].items() for stream, counts in streams.items()
    }
    found += [
        f"{name}/{stream}: fates {fates.get((name, stream), {})}, the company says {expected.get((name, stream), {})}"
        for name, stream in sorted(fates.keys() | expected.keys())
        if {k: v for k, v in fates.get((name, stream), {}).items() if v}
        != {k: v for k, v in expected.get((name, stream), {}).items() if v}
    ]
    return found


@contextmanager
def sandbox(seed: int, start: date, orders_per_day: int, data_folder: Path, port: int = 0) -> Iterator[str]:
    """The sandbox in a process of its own; SANDBOX_URL and SANDBOX_FILES lead the demo's configuration to it."""
    port = port or _free_port()
    url = f"http://127.0.0.1:{port}"
    command = [
        sys.executable,
        "-m",
        "ledger_pipeline.cli",
        "sandbox",
        "serve",
        "--port",
        str(port),
        "--seed",
        str(seed),
    ]
    command += ["--start", start.isoformat(), "--orders-per-day", str(orders_per_day), "--fast"]
    files = data_folder / "sandbox-files"
    files.mkdir(parents=True, exist_ok=True)
    os.environ["SANDBOX_URL"], os.environ["SANDBOX_FILES"] = url, str(files)
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        _wait_until_up(url, process)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _wait_until_up(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the sandbox ended with {process.returncode}")
        try:
            requests.get(f"{url}/_control/health", timeout=1).raise_for_status()
        except requests.ConnectionError:
            time.sleep(0.1)
        else:
            return
    raise RuntimeError(f"the sandbox at {url} did not answer within {START_SECONDS} s")


def dev(port: int, sandbox_port: int) -> int:
    """The sandbox and `dagster dev` side by side, until one of them ends or the person interrupts."""
    for wanted in (port, sandbox_port):
        if _is_taken(wanted):
            raise ConfigError(
                [
                    f"port {wanted} on 127.0.0.1 is taken; is another `ledger-pipeline dev` running? (--port, --sandbox-port)"
                ]
            )
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a supervisor's stop ends the children, too
    runtime = _runtime()
    home = Path.cwd()
    command = [str(Path(sys.executable).parent / "dagster"), "dev", "--host", "127.0.0.1", "--port", str(port)]
    if not (home / "workspace.yaml").exists():
        command += ["-m", "ledger_pipeline.definitions"]
    with sandbox(7, date(2026, 10, 5), 40, runtime.data_folder, sandbox_port):
        console.print(
            f"Dagster: http://127.0.0.1:{port}   sandbox: http://127.0.0.1:{sandbox_port}   (Ctrl-C ends both)"
        )
        process = subprocess.Popen(command, env={**os.environ, "DAGSTER_HOME": _home(runtime)})
        try:
            return process.wait()
        except KeyboardInterrupt:
            process.terminate()
            process.wait(30)
            return 0


def _home(runtime: Runtime) -> str:
    """Dagster's folder for logs; the settings are those of the project's dagster.yaml."""
    from ledger_pipeline.orchestration.nights import PACKAGED

    home = runtime.data_folder / "dagster"
    home.mkdir(parents=True, exist_ok=True)
    (home / "dagster.yaml").write_text((PACKAGED / "dagster.yaml").read_text())
    return str(home)
