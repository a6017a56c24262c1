"""The sandbox company over months: night after night through the pipeline, and each month closed some nights into the next."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import yaml

from ledger_pipeline.orchestration import closing, steps
from ledger_pipeline.orchestration.runtime import Runtime
from ledger_pipeline.sandbox.files import write_files
from ledger_pipeline.sandbox.truth import Books, Closing, night_of, walk
from ledger_pipeline.store.database import Database
from ledger_pipeline_tests.conftest import SandboxCompany
from ledger_pipeline_tests.pipeline.books import balances

ACCEPT = {
    "clearing_explained": "the company's planted faults stay open for good",
    "quarantine_within_limit": "the company's planted faults aren't repaired",
    "control_totals_tie": "a bank statement is late",
}
"""What is said to the checks that a company with planted faults can't pass."""

RunNight = Callable[[date], None]


@dataclass
class Span:
    """Part of the company's life, booked by the pipeline, and what the company's own books make of it."""

    sandbox: SandboxCompany
    runtime: Runtime
    closings: list[Closing] = field(default_factory=list)

    @property
    def connections(self) -> list[str]:
        """Those that the runtime knows."""
        return list(self.runtime.config.connections)

    def own_books(self, through: date) -> Books:
        """The company's own, of these connections."""
        return walk(self.sandbox.company, through, self.closings, self.connections)  # type: ignore[arg-type]

    def close(self, month: date, night: date) -> None:
        """Close a month (its first day) of every entity after a night; the books must then tie to the company's own."""
        for entity in self.runtime.config.entities:
            closing.close(self.runtime, entity, month, "Ann", ACCEPT)
            self.closings.append(Closing(entity, month, night_of(night) + timedelta(hours=1)))
        assert self.differences(night) == []

    def run(self, through: date, closing_day: int, run_night: RunNight | None = None) -> None:
        """All nights from the start; each month is closed after the night of `closing_day` of the next."""
        start: date = self.sandbox.company.start  # type: ignore[attr-defined]
        for n in range((through - start).days + 1):
            night = start + timedelta(days=n)
            self.sandbox.clock.set(night_of(night))  # type: ignore[attr-defined]
            write_files(self.sandbox.company, night, night, self.sandbox.files)  # type: ignore[arg-type]
            (run_night or self._run_night)(night)
            if night.day == closing_day and night.replace(day=1) > start:
                self.close((night.replace(day=1) - timedelta(days=1)).replace(day=1), night)

    def _run_night(self, night: date) -> None:
        _refuse_errors(steps.run_day(self.runtime, name, night, "test") for name in self.connections)

    def differences(self, through: date) -> list[str]:
        """What differs from the company's own books, by day of posting to the minor unit, and of the fates."""
        books = self.own_books(through)
        ours, theirs = balances(self.runtime), books.daily()
        found = [
            f"{' '.join(map(str, key))}: posted {ours.get(key, (0, 0))}, the company says {theirs.get(key, (0, 0))}"
            for key in sorted(ours.keys() | theirs.keys())
            if ours.get(key, (0, 0)) != theirs.get(key, (0, 0))
        ]
        fates = self._fates()
        expected = {key: dict(counted) for key, counted in books.fates.items()}
        found += [
            f"{'/'.join(key)}: fates {fates.get(key, {})}, the company says {expected.get(key, {})}"
            for key in sorted(fates.keys() | expected.keys())
            if fates.get(key, {}) != expected.get(key, {})
        ]
        return found

    def _fates(self) -> dict[tuple[str, str], dict[str, int]]:
        found: dict[tuple[str, str], dict[str, int]] = {}
        with self.runtime.database.connect("reader") as connection:
            for name, stream, fate, count in connection.execute(
                "SELECT connection, stream, fate, count(*) FROM ops.fate WHERE fate <> 'superseded' AND connection = ANY(%s) "
                "GROUP BY 1, 2, 3",
                (self.connections,),
            ):
                found.setdefault((name, stream), {})[fate] = count
        return found


def span(sandbox: SandboxCompany, folder: Path, database: Database, connections: Sequence[str] = ()) -> Span:
    """A span that begins with the company; `connections`: only these, and the entities that they belong to (none: all)."""
    sandbox.runtime(folder, database)
    path = folder / "ledger.yaml"
    config: dict[str, Any] = yaml.safe_load(path.read_text())
    kept = {name: of for name, of in config["connections"].items() if name in (connections or config["connections"])}
    config["connections"] = kept
    config["entities"] = {e: of for e, of in config["entities"].items() if e in {of["entity"] for of in kept.values()}}
    config["schedule"]["start"] = str(sandbox.company.start)  # type: ignore[attr-defined]
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return Span(sandbox, Runtime.from_file(path))


# Several processes for the nights of a year: a night's connections are independent of each other.

_runtime: Runtime | None = None


def _begin(path: Path) -> None:
    global _runtime
    _runtime = Runtime.from_file(path)


def _run_one(name: str, night: date) -> steps.Day:
    assert _runtime is not None
    return steps.run_day(_runtime, name, night, "test")


@contextmanager
def in_processes(path: Path, connections: Sequence[str], count: int) -> Iterator[RunNight]:
    """Runs a night's connections in `count` processes that last."""
    with ExitStack() as stack:
        pool = stack.enter_context(
            ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), initializer=_begin, initargs=(path,))
        )

        def run_night(night: date) -> None:
            waiting = [pool.submit(_run_one, name, night) for name in connections]
            _refuse_errors(one.result() for one in waiting)

        yield run_night


def _refuse_errors(days: Iterable[steps.Day]) -> None:
    errors = [f"{day.connection} {day.sync_date}: {day.error}" for day in days if day.error]
    assert errors == []
