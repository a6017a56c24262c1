"""A run that goes on where another was cut off doesn't ask the source again for what that one has pulled."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING

from ledger_pipeline.orchestration.runtime import Link, Runtime
from ledger_pipeline.store import nights
from ledger_pipeline.store.raw import Pull

if TYPE_CHECKING:
    import dagster as dg

ONLY_MISSING = "ledger/only_missing"
"""Run tag: whatever run has pulled a day after its end, it isn't pulled again."""


def pulled_before(
    context: dg.AssetExecutionContext, runtime: Runtime, link: Link, days: Sequence[date]
) -> dict[tuple[str, date], Pull]:
    """By (stream, sync date) what has been pulled: in this run, in the run that it is a retry of, or in any where the run says so."""
    if not days:
        return {}
    run = context.run
    group = context.instance.get_run_group(run.run_id) if run.parent_run_id else None
    run_ids = [run.run_id, *(one.run_id for one in (group[1] if group else ()))]
    with runtime.database.connect("reader") as connection:
        found = nights.pulled(
            connection, link.name, days[0], days[-1], run_ids, in_any_run=run.tags.get(ONLY_MISSING) == "true"
        )
    if found:
        context.log.info("%d pulls of this range had ended before; they aren't repeated", len(found))
    return found
