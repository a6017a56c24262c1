"""Nights from the command line: the same runs that the schedule asks for, executed in this process on Dagster's own instance."""

import multiprocessing
import multiprocessing.connection
import multiprocessing.util
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, as_completed, wait
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import dagster as dg
from dagster._core.instance import InstanceRef  # no public way to name a base and a configuration folder

from ledger_pipeline.checks import suites
from ledger_pipeline.model.alert import Alert
from ledger_pipeline.operations.delivery import raise_alerts
from ledger_pipeline.orchestration import jobs, resuming
from ledger_pipeline.orchestration.alerts import link_to, sentence
from ledger_pipeline.orchestration.build import build_defs
from ledger_pipeline.orchestration.runtime import Runtime
from ledger_pipeline.store import gate

PACKAGED = Path(__file__).parent
QUIET = {
    "loggers": {"console": {"config": {"log_level": "CRITICAL"}}}
}  # the event log has it all; the terminal shows progress


@dataclass(frozen=True)
class Ran:
    """One run: of a connection, or of the books when `connection` is empty; of a backfill until `sync_date`, from `first` on."""

    connection: str
    sync_date: date
    run_id: str
    is_success: bool
    error: str = ""
    first: date | None = None

    @property
    def partition(self) -> str:
        """Its sync date, or the first and the last."""
        return f"{self.first} to {self.sync_date}" if self.first else self.sync_date.isoformat()


@contextmanager
def instance(runtime: Runtime) -> Iterator[dg.DagsterInstance]:
    """Dagster's instance of this configuration: DAGSTER_HOME where it is set, else one in the data folder."""
    home = os.environ.get("DAGSTER_HOME")
    base = Path(home) if home else runtime.data_folder / "dagster"
    base.mkdir(parents=True, exist_ok=True)
    settings = next(f for f in (base, runtime.folder, PACKAGED) if (f / "dagster.yaml").exists())
    with dg.DagsterInstance.from_ref(InstanceRef.from_dir(str(base), config_dir=str(settings))) as made:
        keep_connections(made)
        yield made


def keep_connections(made: dg.DagsterInstance) -> None:
    """Keep an instance's connections open: a run writes a hundred events, each of which would open one."""
    for storage in (made.event_log_storage, made.run_storage, made.schedule_storage):
        if storage is not None:
            storage.optimize_for_webserver(statement_timeout=60_000, pool_recycle=3_600, max_overflow=20)


class Nights:
    """The jobs of a configuration, resolved once, run as often as needed."""

    def __init__(
        self, runtime: Runtime, config_path: Path | None, on: dg.DagsterInstance, tags: dict[str, str] | None = None
    ) -> None:
        self.runtime = runtime
        self.instance = on
        self._tags = tags or {}
        repository = build_defs(config_path).get_repository_def()
        self._nightly, self._books = repository.get_job("nightly"), repository.get_job("books")

    def connection(self, name: str, day: date) -> Ran:
        """Pull, stage, check and post one connection's sync date."""
        keys = jobs.keys_of(self.runtime.config, name)
        return self._run(
            self._nightly, name, day, {jobs.NIGHT: day.isoformat(), jobs.CONNECTION: name}, asset_selection=keys
        )

    def range(self, name: str, first: date, last: date) -> Ran:
        """Many sync dates of a connection in one run; what was pulled already isn't pulled again."""
        ends = {
            f"dagster/asset_partition_range_{end}": day.isoformat() for end, day in (("start", first), ("end", last))
        }
        tags = {jobs.CONNECTION: name, resuming.ONLY_MISSING: "true", **ends}
        keys = jobs.keys_of(self.runtime.config, name)
        return self._run(self._nightly, name, last, tags, first=first, asset_selection=keys)

    def books(self, day: date) -> Ran:
        """The trial balance and fates after a night."""
        return self._run(self._books, "", day, {jobs.NIGHT: day.isoformat()})

    def _run(
        self, job: dg.JobDefinition, name: str, day: date, tags: dict[str, str], first: date | None = None, **more: Any
    ) -> Ran:
        result = job.execute_in_process(
            instance=self.instance,
            partition_key=None if first else day.isoformat(),
            tags={**self._tags, **tags},
            raise_on_error=False,
            run_config=QUIET,
            **more,
        )
        errors = [sentence(e.step_failure_data.error_display_string) for e in result.get_step_failure_events()]
        if not result.success and name and first is None:
            errors = self._closed(name, day) or errors
        ran = Ran(name, day, result.run_id, result.success, "; ".join(errors), first)
        if not ran.is_success:
            self._alert(ran)
        return ran

    def _alert(self, ran: Ran) -> None:
        """At once: no daemon may be there to see the run. Where one is, its sensor finds the same occurrence kept."""
        config = self.runtime.config
        name, partition = ran.connection or "books", ran.partition
        link = link_to(config, ran.run_id)
        alert = Alert(
            *("run_failed", f"run:{ran.run_id}", ran.error or "no message", datetime.now(UTC)),
            connection=name,
            partition=partition,
            link=link,
            run_id=ran.run_id,
        )
        raise_alerts(self.runtime.database, config.alerts, [alert])

    def _closed(self, name: str, day: date) -> list[str]:
        """Why the day's gate is closed; empty when it is open or was never reached."""
        with self.runtime.database.connect("reader") as connection:
            found = gate.read(connection, name, day)
        return (
            [f"the gate is closed: {reason}" for reason in found.verdict["closed_by"]]
            if found and not found.is_open
            else []
        )


_worker: Nights | None = None


def _begin(config_path: Path | None, command: str) -> None:
    """A worker process opens its own instance; everything was imported before the fork.

    Ctrl-C at the terminal is the command's matter, which ends its workers; a worker ends by itself when the command is gone.
    """
    global _worker
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    threading.Thread(target=_end_with_the_command, name="end with the command", daemon=True).start()
    runtime = Runtime.from_file(config_path)
    opened = instance(runtime)
    _worker = Nights(runtime, config_path, opened.__enter__(), {jobs.COMMAND: command})
    multiprocessing.util.Finalize(None, opened.__exit__, args=(None, None, None), exitpriority=10)


def _end_with_the_command() -> None:
    command = multiprocessing.parent_process()
    assert command is not None  # noqa: S101 - this is a worker
    multiprocessing.connection.wait([command.sentinel])
    os._exit(1)


def _connection(name: str, day: date) -> Ran:
    assert _worker is not None  # noqa: S101 - the pool's initialiser made it
    return _worker.connection(name, day)


def _books(day: date) -> Ran:
    assert _worker is not None  # noqa: S101
    return _worker.books(day)


def _range(name: str, first: date, last: date) -> Ran:
    assert _worker is not None  # noqa: S101
    return _worker.range(name, first, last)


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


class Workers:
    """A few processes that run connections side by side; the books of a night follow when all of its runs have ended.

    Leaving by an exception (so do Ctrl-C and SIGTERM) ends them at once: what they have committed stays, and their runs are canceled.
    """

    def __init__(self, config_path: Path | None, count: int) -> None:
        self._config_path = config_path
        self._command = f"{socket.gethostname()}:{os.getpid()}:{time.time_ns()}"
        build_defs(config_path)  # imports everything once, for all
        suites.warm_up()
        with instance(Runtime.from_file(config_path)):
            pass  # Dagster's tables are made once, before the workers look for them
        method = "fork" if sys.platform == "linux" else "spawn"
        self._pool = ProcessPoolExecutor(
            count,
            multiprocessing.get_context(method),
            initializer=_begin,
            initargs=(config_path, self._command),
        )

    def __enter__(self) -> "Workers":
        self._on_sigterm = signal.signal(signal.SIGTERM, _leave)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.signal(signal.SIGTERM, self._on_sigterm)
        workers = list((self._pool._processes or {}).values())  # from Python 3.14 on there is kill_workers()
        self._pool.shutdown(wait=kind is None, cancel_futures=True)
        if kind is not None:
            for worker in workers:
                worker.kill()
            for worker in workers:
                worker.join()
            is_interrupted = kind in (KeyboardInterrupt, GeneratorExit, SystemExit)
            self._cancel("interrupted" if is_interrupted else f"the command ended by {kind.__name__}")

    def _cancel(self, why: str) -> None:
        unfinished = dg.RunsFilter(statuses=jobs.UNFINISHED, tags={jobs.COMMAND: self._command})
        with instance(Runtime.from_file(self._config_path)) as made:
            for run in made.get_runs(unfinished):
                made.report_run_canceled(run, why)

    def backfill(self, ranges: Sequence[tuple[str, date, date]]) -> Iterator[Ran]:
        """One run per (connection, first, last), as they end; a connection's ranges one after the other."""
        by_name: dict[str, list[tuple[date, date]]] = {}
        for name, first, last in ranges:
            by_name.setdefault(name, []).append((first, last))
        waiting = {self._pool.submit(_range, name, *own.pop(0)) for name, own in by_name.items()}
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                ran = future.result()
                if own := by_name[ran.connection]:
                    waiting.add(self._pool.submit(_range, ran.connection, *own.pop(0)))
                yield ran

    def night(self, names: Sequence[str], day: date) -> Iterator[Ran]:
        """One run per connection, as they end; then the books."""
        for future in as_completed([self._pool.submit(_connection, name, day) for name in names]):
            yield future.result()
        yield self._pool.submit(_books, day).result()
