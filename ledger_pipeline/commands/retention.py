"""`ledger-pipeline retention`: forget what Dagster logged about the steps of old runs. Raw payloads and the ledger are never deleted."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from ledger_pipeline.commands.common import AsJson, ConfigFile, runtime_of, show


def retention(
    days: Annotated[int, typer.Option(min=1, help="Runs that ended longer ago are shortened.")] = 90,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count only.")] = False,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Delete steps and messages of old runs from Dagster's log, in small transactions; assets, checks, states and failures stay."""
    from ledger_pipeline.orchestration import retention as work

    runtime = runtime_of(config)
    before = runtime.clock() - timedelta(days=days)
    events = work.count(runtime.database, before) if dry_run else sum(work.purge(runtime.database, before))
    found = {"before": before.isoformat(), "events": events, "deleted": not dry_run}
    said = "would be deleted" if dry_run else "deleted"
    show(as_json, found, lambda: typer.echo(f"{events:,} events of runs that ended before {before:%Y-%m-%d %H:%M} UTC {said}"))  # fmt: skip
