"""The life of a quarantined version: its sync dates are staged, checked and posted again from what landed, with today's mapping.

Nothing is pulled. Plain functions over a Runtime, like the steps that they run; who asked for it is recorded in ops.action.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date

from ledger_pipeline.orchestration.again import run_again
from ledger_pipeline.orchestration.runtime import Runtime
from ledger_pipeline.store import actions, quarantine
from ledger_pipeline.store.quarantine import Decision, QuarantineRefused


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a version by a retry. Fates are empty while they are undecided; the reason is that of the fate after."""

    raw_id: int
    connection: str
    stream: str
    source_id: str
    before: str
    after: str
    reason: str

    @property
    def is_held(self) -> bool:
        """It is still in quarantine."""
        return self.after in ("", "quarantined")


@dataclass(slots=True)
class Retried:
    """What a retry did: the days that it ran, their closed gates, what became of the versions, and what else is refused now.

    `newly_held` are versions of these days that weren't in quarantine before: today's mapping refuses what an older one took.
    """

    days: list[tuple[str, date]]
    outcomes: list[Outcome] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    newly_held: list[int] = field(default_factory=list)
    entries: int = 0

    @property
    def is_clear(self) -> bool:
        """None of the versions is in quarantine any more, and nothing came to it."""
        return not (self.closed or self.newly_held or any(one.is_held for one in self.outcomes))


def retry(runtime: Runtime, raw_ids: Sequence[int], *, by: str, run_id: str, reason: str = "") -> Retried:
    """Run the days of these versions again. Also posts into a period that is closing. Raises QuarantineRefused for unknown ids."""
    return _again(runtime, "retry", list(dict.fromkeys(raw_ids)), by=by, reason=reason, run_id=run_id)


def retry_day(runtime: Runtime, name: str, sync_date: date, *, by: str, run_id: str, reason: str = "") -> Retried:
    """Retry all that is in quarantine of a connection's sync date; nothing is run when nothing is."""
    with runtime.database.connect("reader") as connection:
        raw_ids = quarantine.of_day(connection, name, sync_date)
    return retry(runtime, raw_ids, by=by, run_id=run_id, reason=reason) if raw_ids else Retried([])


def ignore(runtime: Runtime, raw_id: int, *, by: str, reason: str, run_id: str) -> Retried:
    """Leave one version out of the books, by a name and for a reason; a new version at the source is judged anew.

    Raises QuarantineRefused when it isn't in quarantine.
    """
    return _decide(runtime, raw_id, "ignore", by=by, reason=reason, run_id=run_id)


def withdraw(runtime: Runtime, raw_id: int, *, by: str, reason: str, run_id: str) -> Retried:
    """Take a decision to ignore back: the version is quarantined again, or posted when it fits now. Raises QuarantineRefused."""
    return _decide(runtime, raw_id, "withdrawn", by=by, reason=reason, run_id=run_id)


def _decide(runtime: Runtime, raw_id: int, decision: Decision, *, by: str, reason: str, run_id: str) -> Retried:
    with runtime.database.connect() as connection:
        quarantine.decide(connection, raw_id, decision, by=by, reason=reason, at=runtime.clock())
    act = "ignore" if decision == "ignore" else "withdraw"
    return _again(runtime, act, [raw_id], by=by, reason=reason, run_id=run_id)


def _again(runtime: Runtime, act: str, raw_ids: Sequence[int], *, by: str, reason: str, run_id: str) -> Retried:
    if not by.strip():
        raise QuarantineRefused("who asks for it is recorded: a name is needed")
    with runtime.database.connect("reader") as connection:
        files = [quarantine.file_of(connection, raw_id) for raw_id in raw_ids]
        done = Retried(quarantine.days(connection, raw_ids))
    before = _held(runtime, done.days)
    again = run_again(runtime, done.days, run_id)
    done.entries, done.closed = again.entries, again.closed
    with runtime.database.connect() as connection:
        after = quarantine.fates(connection, raw_ids)
        for one in files:
            was = next((v.fate for v in one.versions if v.raw_id == one.raw_id), "")
            fate, why = after.get(one.raw_id, ("", ""))
            done.outcomes.append(Outcome(one.raw_id, one.connection, one.stream, one.source_id, was, fate, why))
        details = {
            "raw_ids": list(raw_ids),
            "days": [f"{name} {day}" for name, day in done.days],
            "entries": done.entries,
        }
        actions.note(connection, act, by=by, reason=reason, run_id=run_id, details=details, at=runtime.clock())
    done.newly_held = sorted(_held(runtime, done.days) - before - set(raw_ids))
    return done


def _held(runtime: Runtime, days: Sequence[tuple[str, date]]) -> set[int]:
    with runtime.database.connect("reader") as connection:
        return {raw_id for name, day in days for raw_id in quarantine.of_day(connection, name, day)}
