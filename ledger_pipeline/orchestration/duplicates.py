"""Likely duplicates over a configuration: list them, and apply what a person says to the days of the flagged record, from what landed."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date

from ledger_pipeline.orchestration.again import run_again
from ledger_pipeline.orchestration.runtime import Runtime
from ledger_pipeline.reconcile import flags, twins
from ledger_pipeline.reconcile.flags import Decision, Flag
from ledger_pipeline.reconcile.twins import Orphan
from ledger_pipeline.store import actions


@dataclass(slots=True)
class Decided:
    """A person's word on a flag, the days that were booked again for it, and the new entries; `closed` are gates that hold a day back."""

    flag: Flag
    days: list[date] = field(default_factory=list)
    entries: int = 0
    closed: list[str] = field(default_factory=list)


def waiting(runtime: Runtime, name: str = "", *, is_open: bool = True) -> tuple[list[Flag], list[Orphan]]:
    """(flags, records left out as the twin of one that doesn't stand any more), of all connections or one."""
    with runtime.database.connect("reader") as connection:
        found = flags.flags(connection, name or None, is_open=is_open)
        return found, twins.orphans(connection, [name] if name else list(runtime.config.connections))


def decide(runtime: Runtime, flag_id: int, decision: Decision, *, by: str, reason: str, run_id: str) -> Decided:
    """Record what a person says. A duplicate's entry is reversed and its record ignored by that name; who says later that both are real
    brings it back. Also posts into a period that is closing. Raises DecisionRefused.
    """
    with runtime.database.connect() as connection:
        flag, before = flags.decide(connection, flag_id, decision, by=by, reason=reason, at=runtime.clock())
        is_applied = "duplicate" in (before, decision) and flag.what != "statement"
        days = flags.days_of(connection, flag) if is_applied else []
    again = run_again(runtime, ((flag.connection, day) for day in days), run_id)
    done = Decided(flag, days, again.entries, again.closed)
    with runtime.database.connect() as connection:
        details = {
            "flag": flag_id,
            "decision": decision,
            "days": [f"{flag.connection} {day}" for day in days],
            "entries": done.entries,
        }
        actions.note(connection, "duplicates", by=by, reason=reason, run_id=run_id, details=details, at=runtime.clock())
    return done
