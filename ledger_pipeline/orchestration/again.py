"""Days that a person's word makes the pipeline run again: staged, checked and posted from what landed; nothing is pulled."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date

from ledger_pipeline.orchestration import steps
from ledger_pipeline.orchestration.runtime import Runtime
from ledger_pipeline.store.gate import GateClosed


@dataclass(slots=True)
class Again:
    """The new entries, and what closed gates say that hold a day back."""

    entries: int = 0
    closed: list[str] = field(default_factory=list)


def run_again(runtime: Runtime, days: Iterable[tuple[str, date]], run_id: str) -> Again:
    """Run (connection, sync date)s; also posts into a period that is closing."""
    done = Again()
    for name, day in days:
        link = runtime.link(name)
        steps.stage(runtime, link, day, run_id)
        steps.check(runtime, link, day, run_id)
        try:
            posted = steps.post(runtime, link, day, run_id, is_adjusting=True).posted
        except GateClosed as error:
            done.closed.append(str(error))
        else:
            done.entries += posted.originals + posted.corrected + posted.reversed
    return done
