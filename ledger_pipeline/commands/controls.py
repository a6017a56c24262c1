"""`ledger-pipeline fates`: what became of every record of sync dates, and whether that ties to what the sources themselves say."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import date
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ledger_pipeline.commands.common import AsJson, ConfigFile, a_day

if TYPE_CHECKING:
    from ledger_pipeline.orchestration.runtime import Runtime
    from ledger_pipeline.reports.controls import Control


def fates(
    day: Annotated[str, typer.Option("--date", help="One sync date.")] = "",
    first: Annotated[str, typer.Option("--from", help="First sync date of a range (default: all).")] = "",
    last: Annotated[str, typer.Option("--to", help="Last sync date (default: --from).")] = "",
    connection: Annotated[str, typer.Option(help="Only this connection.")] = "",
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """What became of every record, and the control totals: 1 when what a source says doesn't tie to the books."""
    from ledger_pipeline.cli_support import fate_rows, print_fates
    from ledger_pipeline.orchestration.runtime import Runtime

    begin, end = _range(day, first, last)
    runtime = Runtime.from_file(config)
    if connection:
        runtime.config.connection(connection)
    rows = fate_rows(runtime, begin, end, connection or None)
    controls = controls_of(runtime, begin, end, connection)
    if as_json:
        data = {"fates": rows, "controls": [_plain(one) for one in controls]}
        typer.echo(json.dumps(data, indent=2, default=str, ensure_ascii=False))
    else:
        print_fates(rows)
        print_controls(controls)
    raise typer.Exit(0 if all(one.holds for one in controls) else 1)


def controls_of(runtime: Runtime, first: date | None, last: date | None, name: str = "") -> list[Control]:
    """Controls of every connection, each with its own entity, or of one; for all sync dates when no day is given."""
    from ledger_pipeline.reports.controls import of_entity

    names = [name] if name else list(runtime.config.connections)
    found: list[Control] = []
    with runtime.database.connect("reader") as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        if first is None:
            row = connection.execute("SELECT min(sync_date), max(sync_date) FROM raw.pull").fetchone()
            first, last = row or (None, None)
        if first is None:
            return []
        for entity in runtime.config.entities:
            own = [n for n in names if runtime.config.connections[n].entity == entity]
            found += of_entity(connection, entity, own, first, last or first)
    return found


def _range(day: str, first: str, last: str) -> tuple[date | None, date | None]:
    if day and (first or last):
        raise typer.BadParameter("give --date or --from/--to, not both")
    if last and not first:
        raise typer.BadParameter("--to needs --from")
    begin = a_day(day or first) if day or first else None
    end = a_day(last) if last else begin
    if begin and end and end < begin:
        raise typer.BadParameter(f"--to {last} lies before --from {first}")
    return begin, end


def _plain(control: Control) -> dict[str, Any]:
    money = {key: format(getattr(control, key), "f") for key in ("theirs", "ours", "explained", "difference")}
    return asdict(control) | money | {"unposted": list(control.unposted), "holds": control.holds}


def print_controls(controls: Sequence[Control]) -> None:
    """One line per control; below, what doesn't tie and which records explain a difference."""
    from rich.markup import escape

    from ledger_pipeline.cli_support import console, new_table

    table = new_table("What the sources say, and what the books hold of it")
    table.add_column("connection", no_wrap=True)
    table.add_column("control")
    for column in ("theirs", "ours"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for one in controls:
        said = "ties" if not one.difference else "explained" if one.holds else "[red]differs[/red]"
        unit = one.unit if len(one.unit) == 3 else ""
        table.add_row(
            one.connection,
            escape(f"{one.stream}: {one.what}"),
            f"{one.theirs:,f} {unit}".rstrip(),
            f"{one.ours:,f} {unit}".rstrip(),
            said,
        )
    console.print(table)
    for one in controls:
        if not one.difference and not one.explained:
            continue
        state = "explained by" if one.holds else "does not tie"
        rest = one.difference - one.explained
        off = "" if one.holds else f": {rest:,f} {one.unit} are not explained"
        typer.echo(f"{one.connection} {one.stream}: {one.what}: {state}{off}")
        for text in one.unposted:
            typer.echo(f"    {text}")
    wrong = sum(not one.holds for one in controls)
    typer.echo(f"{len(controls)} controls, {wrong} of them differ" if wrong else f"{len(controls)} controls tie")
