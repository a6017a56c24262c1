"""The server of a benchmark run, its databases, and the processes that are measured."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psycopg

from ledger_pipeline.store import embedded, schema
from ledger_pipeline.store.database import Database
from ledger_pipeline_tests.bench.company import Ran

ROOT = Path(__file__).resolve().parents[2]
PROCESS_SECONDS = 3600


class Machine:
    """A PostgreSQL server as the project ships it (fsync on), with fresh databases."""

    def __init__(self, server: Database) -> None:
        self.server = server
        self._numbers = itertools.count(1)
        schema.migrate(server.with_name("template_bench"))
        self._warm = self.database()

    def execute(self, statement: str) -> None:
        with psycopg.connect(self.server.url, autocommit=True, connect_timeout=10) as connection:
            connection.execute(statement)  # type: ignore[call-overload]

    def durability(self) -> str:
        """What the measured databases say about waiting for the disk: `fsync on, synchronous_commit on`."""
        with self._warm.connect("owner") as connection:
            names = ("fsync", "synchronous_commit")
            return ", ".join(f"{name} {connection.execute(f'SHOW {name}').fetchone()[0]}" for name in names)  # type: ignore[index]

    def database(self, template: str = "template_bench") -> Database:
        """A fresh migrated database, or a copy of another one."""
        name = f"bench_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        return self.server.with_name(name)

    def drop(self, database: Database) -> None:
        self.execute(f"DROP DATABASE {name_of(database)} WITH (FORCE)")

    def days(self, databases: Sequence[Database], count: int, *, rerun: bool = False) -> list[Ran]:
        """A day in each database, one after the other in one process; each twice with `rerun`."""
        self.drop(self._warm)
        self._warm = self.database()
        self.execute("CHECKPOINT")
        urls = [database.url for database in databases]
        arguments = [str(count), *urls, "--warm", self._warm.url, *(["--rerun"] if rerun else [])]
        command = [sys.executable, "-m", "ledger_pipeline_tests.bench.child", *arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PROCESS_SECONDS, check=False)
        if done.returncode:
            raise RuntimeError(f"a measured day failed:\n{done.stderr[-3000:]}")
        return [Ran(**one) for one in json.loads(done.stdout.splitlines()[-1])]


def name_of(database: Database) -> str:
    return database.url.partition("?")[0].rpartition("/")[2]


@contextmanager
def machine() -> Iterator[Machine]:
    """A server for this run only, in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="lp-bench-", ignore_cleanup_errors=True) as folder:
        os.chmod(folder, 0o755)  # noqa: S103 - as root the server runs as another user
        data = Path(folder) / "pg"
        try:
            yield Machine(Database(embedded.start(data)))
        finally:
            embedded.stop(data)


def seconds_of(command: Sequence[str]) -> float:
    """Wall clock of a process that must succeed."""
    began = time.perf_counter()
    subprocess.run(command, cwd=ROOT, capture_output=True, timeout=PROCESS_SECONDS, check=True)
    return time.perf_counter() - began
