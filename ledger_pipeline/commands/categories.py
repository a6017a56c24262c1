"""`reconcile rules`: what each categorisation rule took, and which rule would take a text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from ledger_pipeline.commands.common import AsJson, ConfigFile, a_day, fail, runtime_of, show

if TYPE_CHECKING:
    from ledger_pipeline.orchestration.runtime import Runtime
    from ledger_pipeline.reconcile.categories import Taken


def rules(
    connection: Annotated[str, typer.Option(help="Only this bank connection.")] = "",
    first: Annotated[str, typer.Option("--from", help="First booking date (default: 30 days before the last).")] = "",
    last: Annotated[str, typer.Option("--to", help="Last booking date (default: the last sync date).")] = "",
    text: Annotated[str, typer.Option(help="Say which rule takes this description, and count nothing.")] = "",
    is_out: Annotated[bool, typer.Option("--out", help="With --text: money goes out.")] = False,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Booked bank lines by what says what they are: a match, a rule, nothing. 1 with --text when no rule takes it."""
    from ledger_pipeline.orchestration import categories

    runtime = runtime_of(config, connection=connection)
    names = [connection] if connection else categories.banks(runtime)
    if connection and connection not in categories.banks(runtime):
        fail(f"{connection} has no bank lines; connections with bank lines: {', '.join(categories.banks(runtime))}")
    if text:
        _try(runtime, names, text, is_in=not is_out, as_json=as_json)
        return
    found = categories.counts(runtime, names, a_day(first) if first else None, a_day(last) if last else None)
    show(as_json, [asdict(one) for one in found], lambda: _print(found))


def _try(runtime: Runtime, names: Sequence[str], text: str, *, is_in: bool, as_json: bool) -> None:
    from ledger_pipeline.orchestration import categories

    found = [(name, *categories.rule_for(runtime, name, text, is_in)) for name in names]
    data = [{"connection": name, "number": number, "role": role} for name, number, role in found]
    lines = [f"{name}: {f'rule {number}' if number else 'no rule'}: {role}" for name, number, role in found]
    show(as_json, data, lambda: typer.echo("\n".join(lines)))
    raise typer.Exit(0 if all(number for _, number, _ in found) else 1)


def _print(found: Sequence[Taken]) -> None:
    from rich.markup import escape

    from ledger_pipeline.cli_support import console, new_table
    from ledger_pipeline.model.money import from_minor

    for name in dict.fromkeys(one.connection for one in found):
        table = new_table(name, gap=1)
        for column in ("rule", "contains", "role"):
            table.add_column(column, no_wrap=column == "rule")
        for column in ("lines", "in", "out"):
            table.add_column(column, justify="right", no_wrap=True)
        for one in (one for one in found if one.connection == name):
            amounts = [
                f"{from_minor(minor, one.currency):,} {one.currency}" if minor else ""
                for minor in (one.in_minor, one.out_minor)
            ]
            rule = str(one.number) if one.number else {"match": "matched", "nothing": "none"}[one.by]
            table.add_row(rule, escape(one.contains), one.role, f"{one.lines:,}", *amounts)
        console.print(table)
    if not found:
        typer.echo("no connection has bank lines")
