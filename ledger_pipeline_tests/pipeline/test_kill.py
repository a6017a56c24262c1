"""`ledger-pipeline sync` killed with SIGKILL wherever it happens to be, again and again: the books end up the same."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ledger_pipeline.orchestration import steps
from ledger_pipeline.store.database import Database
from ledger_pipeline_tests.conftest import SandboxCompany, serving
from ledger_pipeline_tests.pipeline.books import WEEK, balances, count

KILLS = 30
DAYS = WEEK[:2]
CONNECTIONS = ("stripe_us", "plaid_us", "stall_uk")
SAID = "said.txt"
"""What the command that ran last has printed, in its folder."""
PRELOAD = [
    "ledger_pipeline.cli_support",
    "ledger_pipeline.orchestration.nights",
    "great_expectations",
    "pandas",
    "psycopg",
]


def sync(config: str, folder: str) -> None:
    """The command itself, in a fresh process group; only the interpreter's start is saved."""
    os.setsid()
    os.chdir(folder)
    sys.stdout = sys.stderr = open(SAID, "w", buffering=1)  # noqa: SIM115
    sys.argv = [
        "ledger-pipeline",
        "sync",
        "--from",
        DAYS[0].isoformat(),
        "--to",
        DAYS[-1].isoformat(),
        "--config",
        config,
    ]
    sys.argv += [word for name in CONNECTIONS for word in ("--connection", name)]
    from ledger_pipeline.cli import main

    main()


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxCompany]:
    """A sandbox whose clock stays at the last night."""
    with serving(tmp_path_factory.mktemp("files")) as made:
        made.at_night_of(DAYS[-1])
        yield made


@pytest.mark.slow
@pytest.mark.timeout(480)
def test_thirty_kills_at_random_points_end_in_the_same_books(
    tmp_path: Path, new_database: Callable[[], Database], company: SandboxCompany
) -> None:
    (tmp_path / "undisturbed").mkdir()
    undisturbed = company.runtime(tmp_path / "undisturbed", new_database())
    for day in DAYS:
        for name in CONNECTIONS:
            steps.run_day(undisturbed, name, day, "undisturbed")
    killed = company.runtime(tmp_path, new_database())
    arguments = (str(tmp_path / "ledger.yaml"), str(tmp_path))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    chance = random.Random(20261120)
    longest, kills = 3.0, 0
    while kills < KILLS:
        process = context.Process(target=sync, args=arguments)
        began = time.monotonic()
        process.start()
        process.join(chance.uniform(0.1, longest))
        if process.is_alive():
            _kill(process.pid)
            process.join()
            kills += 1
        else:
            assert process.exitcode == 0, (tmp_path / SAID).read_text()
            longest = max(0.5, 0.9 * (time.monotonic() - began))
    last = context.Process(target=sync, args=arguments)
    last.start()
    last.join(120)
    assert last.exitcode == 0, (tmp_path / SAID).read_text()
    assert balances(killed) == balances(undisturbed) != {}
    assert count(killed, "SELECT count(*) FROM ledger.entry") == count(undisturbed, "SELECT count(*) FROM ledger.entry")
    assert count(killed, "SELECT count(*) FROM ops.fate") == count(undisturbed, "SELECT count(*) FROM ops.fate")


def _kill(pid: int | None) -> None:
    """The process and its workers, or the process alone while it hasn't got a group of its own yet."""
    assert pid is not None
    if os.getpgid(pid) == pid:
        os.killpg(pid, signal.SIGKILL)
    else:
        os.kill(pid, signal.SIGKILL)
