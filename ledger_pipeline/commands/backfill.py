"""`ledger-pipeline backfill`: many sync dates in a few runs; run again, it goes on where it was cut off."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from ledger_pipeline.commands.common import AsJson, ConfigFile, a_day, fail, runtime_of

if TYPE_CHECKING:
    from ledger_pipeline.orchestration.runtime import Runtime


def backfill(
    first: Annotated[str, typer.Option("--from", help="First sync date.")],
    last: Annotated[str, typer.Option("--to", help="Last sync date.")],
    connection: Annotated[list[str] | None, typer.Option(help="Only this connection (may be repeated).")] = None,
    days_per_run: Annotated[int, typer.Option(min=1, help="Sync dates that a run takes.")] = 92,
    workers: Annotated[int, typer.Option(min=1, help="Connections that run at once.")] = 2,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Bring in the days of a range that aren't in the books yet: one run per connection and quarter. Again, it goes on where it stopped."""
    from ledger_pipeline.cli_support import told_when_interrupted
    from ledger_pipeline.orchestration import calendar, jobs
    from ledger_pipeline.orchestration.nights import Workers

    runtime = runtime_of(config)
    for name in connection or ():
        runtime.config.connection(name)
    begin, end = a_day(first), a_day(last)
    if end < begin:
        fail(f"--to {end} lies before --from {begin}")
    if begin < date.fromisoformat(runtime.config.schedule.start):
        fail(f"{begin} lies before schedule.start ({runtime.config.schedule.start}), the first sync date")
    names = connection or jobs.enabled(runtime.config)
    ended = min(calendar.last_ended(runtime.clock(), runtime.config.entity_of(name).zone) for name in names)
    if end > ended:
        fail(f"--to {end} has not ended yet for every connection; the last day that has is {ended}")
    for name in names:
        runtime.link(name)
    ranges = list(missing(runtime, names, begin, end, days_per_run))
    failed = False
    results = []
    if ranges:
        with told_when_interrupted(), Workers(config, min(workers, len(names))) as pool:
            for ran in (*pool.backfill(ranges), *pool.night([], end)):
                failed |= not ran.is_success
                results.append(
                    {
                        "connection": ran.connection or "books",
                        "days": ran.partition,
                        "run_id": ran.run_id,
                        "error": ran.error,
                    }
                )
                if not as_json:
                    word = "done" if ran.is_success else f"failed: {ran.error}"
                    typer.echo(f"{ran.connection or 'books'} {ran.partition}: {word}  (run {ran.run_id})")
    if as_json:
        typer.echo(json.dumps(results, indent=2))
    elif not ranges:
        typer.echo(f"{begin} to {end}: every day is in the books")
    raise typer.Exit(1 if failed else 0)


def missing(
    runtime: Runtime, names: list[str], first: date, last: date, days_per_run: int
) -> Iterator[tuple[str, date, date]]:
    """(connection, first, last) of the runs that are needed: from the first day that isn't in the books to the last such."""
    from ledger_pipeline.orchestration.catching_up import states_of

    for name in names:
        days = [
            one.sync_date for one in states_of(runtime.database, runtime.config, name, first, last) if not one.is_posted
        ]
        while days:
            until = min(days[-1], days[0] + timedelta(days=days_per_run - 1))
            inside = [day for day in days if day <= until]
            yield name, inside[0], inside[-1]
            days = days[len(inside) :]
