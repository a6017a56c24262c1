"""`ledger-pipeline measures`: how complete, timely and cleared each connection's sync dates were when they were measured last."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import date, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from ledger_pipeline.commands.common import AsJson, ConfigFile, a_day

if TYPE_CHECKING:
    from ledger_pipeline.reports.measures import Measure


def measures(
    connection: Annotated[str, typer.Option(help="Only this connection.")] = "",
    first: Annotated[str, typer.Option("--from", help="First sync date (default: 30 days before --to).")] = "",
    last: Annotated[str, typer.Option("--to", help="Last sync date (default: the last one that was posted).")] = "",
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Completeness, timeliness and clearing per connection and sync date, measured anew from the books as they are."""
    from ledger_pipeline.orchestration.measures import subject_of
    from ledger_pipeline.orchestration.runtime import Runtime
    from ledger_pipeline.reports import measures as work

    runtime = Runtime.from_file(config)
    if connection:
        runtime.config.connection(connection)
    names = [connection] if connection else list(runtime.config.connections)
    with runtime.database.connect("reader") as connected:
        rows = connected.execute(
            "SELECT DISTINCT connection, sync_date FROM ops.staged WHERE connection = ANY(%s) ORDER BY 1, 2", (names,)
        ).fetchall()
        end = a_day(last) if last else max((day for _, day in rows), default=date.today())  # noqa: DTZ011
        begin = a_day(first) if first else end - timedelta(days=29)
        found = [
            one
            for name, day in rows
            if begin <= day <= end
            for one in work.of_day(connected, subject_of(runtime.config, name), day)
        ]
    if as_json:
        typer.echo(json.dumps([asdict(one) | {"share": one.share} for one in found], indent=2, default=str))
    else:
        _print(found)


def _print(found: Sequence[Measure]) -> None:
    """One line per connection and sync date."""
    from ledger_pipeline.cli_support import console, new_table
    from ledger_pipeline.reports.measures import MEASURES

    table = new_table("Measures")
    table.add_column("connection", no_wrap=True)
    table.add_column("sync date", no_wrap=True)
    for measure in MEASURES:
        table.add_column(measure, justify="right", no_wrap=True)
    shares = {(one.connection, one.sync_date, one.measure): one.share for one in found}
    for name, day in dict.fromkeys((one.connection, one.sync_date) for one in found):
        cells = [shares[name, day, measure] for measure in MEASURES]
        table.add_row(name, str(day), *("–" if share is None else f"{share:.2%}" for share in cells))
    console.print(table)
