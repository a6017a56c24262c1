"""The embedded server: it comes up wherever a process died before, and however long it takes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from ledger_pipeline.store import embedded


@pytest.fixture
def folder() -> Iterator[Path]:
    """A place for a server; what runs there is stopped, and all of it removed."""
    with tempfile.TemporaryDirectory(prefix="lp-embedded-", ignore_cleanup_errors=True) as parent:
        os.chmod(parent, 0o755)  # noqa: S103 - as root the server runs as another user
        folder = Path(parent) / "postgres"
        yield folder
        forget(folder)
        with suppress(FileNotFoundError, psutil.NoSuchProcess):
            end(psutil.Process(int((folder / "postmaster.pid").read_text().split()[0])))


def end(postmaster: psutil.Process) -> None:
    """At once, without a checkpoint."""
    if postmaster.name() == "postgres":
        postmaster.send_signal(signal.SIGQUIT)
        postmaster.wait(30)


def forget(folder: Path) -> None:
    """As in another process."""
    embedded._servers.pop(folder, None)
    embedded._wheel().PostgresServer._instances.pop(folder, None)


def answers(url: str) -> bool:
    with psycopg.connect(url, connect_timeout=10) as connection:
        return connection.execute("SHOW max_wal_size").fetchone() == ("4GB",)


def initdb_works_in(folder: Path) -> bool:
    found = psutil.process_iter(["name", "cmdline"])
    return any(each.info["name"] == "initdb" and str(folder) in " ".join(each.info["cmdline"] or ()) for each in found)


def test_a_process_that_dies_while_the_data_folder_is_made_leaves_none(folder: Path) -> None:
    context = multiprocessing.get_context("fork")
    for seconds in (0.1, 0.3, 0.6):
        process = context.Process(target=embedded.start, args=(folder,))
        process.start()
        time.sleep(seconds)
        process.kill()
        process.join()
    assert answers(embedded.start(folder))
    while initdb_works_in(folder.parent):
        time.sleep(0.05)  # what was left alone goes on in a folder that nobody looks at
    forget(folder)
    assert answers(embedded.start(folder))
    assert [path.name for path in folder.parent.iterdir()] == ["postgres"]


def test_a_folder_of_something_else_is_refused(folder: Path) -> None:
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(RuntimeError, match=r"postgres isn't empty, but no database is in it: move it away"):
        embedded.start(folder)
    assert [path.name for path in folder.parent.rglob("*")] == ["postgres", "notes.txt"]


def test_a_dead_server_whose_number_is_another_process_by_now_is_started(folder: Path) -> None:
    """A container that starts again gives the same numbers to other processes."""
    embedded.start(folder)
    file = folder / "postmaster.pid"
    lines = file.read_text().splitlines()
    end(psutil.Process(int(lines[0])))
    forget(folder)
    file.write_text("\n".join([str(os.getppid()), *lines[1:]]) + "\n")
    assert answers(embedded.start(folder))


def test_a_start_that_takes_longer_than_the_wheel_waits_is_waited_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a crash PostgreSQL repeats its log first."""
    tried = []
    wheel = embedded._wheel()
    pgexec = wheel.pgexec

    def impatient(command: str, args: Any, **how: Any) -> str:
        if command == "pg_ctl" and "start" in args:
            tried.append(args)
            how["timeout"] = 0.02
        output: str = pgexec(command, args, **how)
        return output

    monkeypatch.setattr(wheel, "pgexec", impatient)
    assert answers(embedded.start(folder))
    assert len(tried) == 1


def test_a_server_that_never_gets_ready_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    embedded.start(folder)
    forget(folder)
    monkeypatch.setattr(embedded, "START_SECONDS", 0.3)
    file = folder / "postmaster.pid"
    ready = file.read_text()
    file.write_text(ready.replace("ready", "starting"))
    with pytest.raises(TimeoutError, match=rf"PostgreSQL in {folder} is still starting after 0.3 s: see {folder}/log"):
        embedded.start(folder)
    file.write_text(ready)
    assert answers(embedded.start(folder))


def test_a_start_that_never_ends_is_given_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = embedded._wheel()
    tried = []

    def never(*_: Any, **__: Any) -> None:
        tried.append(time.monotonic())
        raise subprocess.TimeoutExpired("pg_ctl", 0.1)

    monkeypatch.setattr(wheel, "get_server", never)
    monkeypatch.setattr(embedded, "_initialise", lambda _: None)
    monkeypatch.setattr(embedded, "START_SECONDS", 0.2)
    with pytest.raises(subprocess.TimeoutExpired):
        embedded.start(folder)
    assert tried[-1] - tried[0] < 10


def test_a_server_that_may_not_be_asked_is_left_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another user's, say: its file stays, so that no second server starts on the same data."""

    def denied(process: psutil.Process) -> str:
        raise psutil.AccessDenied(process.pid)

    embedded.start(folder)
    forget(folder)
    monkeypatch.setattr(psutil.Process, "cwd", denied)
    assert answers(embedded.start(folder))
    assert (folder / "postmaster.pid").exists()
