"""`ledger-pipeline statements`: an entity's statements for a range of days, as files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ledger_pipeline.commands.common import AsJson, ConfigFile, a_day

if TYPE_CHECKING:
    from ledger_pipeline.orchestration.runtime import Runtime
    from ledger_pipeline.reports.render import Form, Written
    from ledger_pipeline.reports.statements import Scope


def statements(
    entity: Annotated[str, typer.Option(help="Only this entity (default: each).")] = "",
    first: Annotated[str, typer.Option("--from", help="First day (default: of the last full month).")] = "",
    last: Annotated[str, typer.Option("--to", help="Last day (default: of the last full month).")] = "",
    form: Annotated[str, typer.Option("--format", help="html, csv, xlsx or json.")] = "html",
    output: Annotated[Path, typer.Option(help="Folder for the files; it is made.")] = Path("statements"),
    only: Annotated[list[str] | None, typer.Option(help="Only this statement (may be repeated).")] = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Trial balance, profit and loss, balance sheet, cash flow, general ledger, sales tax, gift cards, receivables; 1 when one doesn't tie."""
    from ledger_pipeline.config import ConfigError
    from ledger_pipeline.orchestration.runtime import Runtime

    kind, wanted = _form(form), _names(only or [])
    if bool(first) != bool(last):
        raise typer.BadParameter("--from and --to go together")
    days = (a_day(first), a_day(last)) if first else None
    if days and days[1] < days[0]:
        raise ConfigError([f"--to {last} lies before --from {first}"])
    runtime = Runtime.from_file(config)
    if entity and entity not in runtime.config.entities:
        raise ConfigError([f"unknown entity {entity!r}; known are {', '.join(runtime.config.entities)}"])
    written: list[tuple[Scope, Written]] = []
    for name in [entity] if entity else list(runtime.config.entities):
        scope = scope_of(runtime, name, days)
        written += [(scope, one) for one in _write(runtime, scope, kind, output, wanted)]
    if as_json:
        typer.echo(json.dumps([_row(scope, one) for scope, one in written], indent=2))
    else:
        _print(written)
    raise typer.Exit(0 if all(one.ties for _, one in written) else 1)


def scope_of(runtime: Runtime, entity: str, days: tuple[date, date] | None) -> Scope:
    """An entity's range; without one, the last month that has ended in its time zone."""
    from ledger_pipeline.reports.statements import Scope

    config, now = runtime.config.entities[entity], runtime.clock()
    if days is None:
        end = now.astimezone(config.zone).date().replace(day=1) - timedelta(days=1)
        days = end.replace(day=1), end
    return Scope(entity, config.name, config.base_currency, *days, now, config.fiscal_year_start)


def _write(runtime: Runtime, scope: Scope, form: Form, folder: Path, only: Sequence[str]) -> list[Written]:
    """All statements from one snapshot of the books."""
    from ledger_pipeline.reports import render
    from ledger_pipeline.reports.statements import make

    with runtime.database.connect("reader") as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        return render.write(make(connection, scope, only), scope, form, folder)


def _row(scope: Scope, one: Written) -> dict[str, Any]:
    return {
        "entity": scope.entity,
        "first": str(scope.first),
        "last": str(scope.last),
        "statement": one.name,
        "file": str(one.path),
        "ties": one.ties,
        "checks": [{"name": c.name, "holds": c.holds, "difference": c.difference} for c in one.checks],
    }


def _print(written: Sequence[tuple[Scope, Written]]) -> None:
    """A table per entity, and what doesn't tie; then the files."""
    from rich.markup import escape
    from rich.table import Table

    from ledger_pipeline.cli_support import console

    for name in dict.fromkeys(scope.entity for scope, _ in written):
        own = [(scope, one) for scope, one in written if scope.entity == name]
        scope = own[0][0]
        table = Table(title=f"{scope.entity_name}, {scope.first} to {scope.last}", title_justify="left")
        table.add_column("statement", no_wrap=True)
        table.add_column("checks", justify="right")
        table.add_column("result")
        for _, one in own:
            off = "; ".join(f"{c.name}: off by {c.difference}" for c in one.checks if not c.holds)
            table.add_row(one.name, str(len(one.checks)), f"[red]does not tie: {escape(off)}[/red]" if off else "ties")
        console.print(table)
    for path in dict.fromkeys(one.path for _, one in written):
        typer.echo(f"wrote {path}")


def _form(text: str) -> Form:
    from ledger_pipeline.reports.render import FORMS

    for form in FORMS:
        if form == text:
            return form
    raise typer.BadParameter(f"{text!r} is no format; known are {', '.join(FORMS)}")


def _names(only: Sequence[str]) -> Sequence[str]:
    from ledger_pipeline.reports.statements import STATEMENTS

    for name in only:
        if name not in STATEMENTS:
            raise typer.BadParameter(f"{name!r} is no statement; known are {', '.join(STATEMENTS)}")
    return only
