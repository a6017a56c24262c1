"""`reconcile statements`: the balances that banks state against the ledger, and the first day that differs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ledger_pipeline.commands.common import AsJson, ConfigFile, runtime_of, show

if TYPE_CHECKING:
    from ledger_pipeline.reconcile.statements import Account


def statements(
    entity: Annotated[str, typer.Option(help="Only this entity.")] = "",
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Balances stated by banks against the ledger on every stated date; 1 when one differs, with the first day and what is around it."""
    from ledger_pipeline.orchestration import stated_balances

    runtime = runtime_of(config, entity=entity)
    found = stated_balances.of_entities(runtime, [entity] if entity else list(runtime.config.entities))
    show(as_json, [_plain(one) for one in found], lambda: _print(found))
    raise typer.Exit(1 if any(one.first for one in found) else 0)


def _plain(one: Account) -> dict[str, Any]:
    balances = [
        asdict(b) | {"lacks_minor": b.lacks_minor, "difference_minor": one.difference_minor(b)} for b in one.balances
    ]
    return asdict(one) | {
        "balances": balances,
        "opening_minor": one.opening_minor,
        "agrees": one.first is None,
        "first_differing": one.first.day if one.first else None,
        "difference_minor": one.difference_minor(one.first) if one.first else 0,
        "is_explained": one.is_explained,
    }


def _print(found: Sequence[Account]) -> None:
    from ledger_pipeline.cli_support import console
    from ledger_pipeline.model.money import format_minor

    if not found:
        typer.echo("no bank has stated a balance")
        return
    console.print(_table(found))
    for one in found:
        if one.first is None:
            continue
        typer.echo(f"{one.connection} {one.account_id}: {one.said}")
        for line in one.lines:
            amount = "?" if line.explains_minor is None else format_minor(line.explains_minor, one.currency)
            typer.echo(f"    {line.day}  {line.why:<11} {amount:>16}  {line.source_id}: {line.note}")
    wrong = sum(one.first is not None for one in found)
    dates = sum(len(one.balances) for one in found)
    said = f"{wrong} account{'' if wrong == 1 else 's'} differ{'s' if wrong == 1 else ''}" if wrong else "all agree"
    typer.echo(f"{dates} stated balances, {said}")


def _table(found: Sequence[Account]) -> Any:
    from rich.markup import escape

    from ledger_pipeline.cli_support import new_table
    from ledger_pipeline.model.money import format_minor

    table = new_table("What banks state, and whether the ledger agrees")
    table.add_column("account", overflow="fold")
    table.add_column("dates", justify="right", no_wrap=True)
    table.add_column("last", no_wrap=True)
    table.add_column("stated", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for one in found:
        last = one.balances[-1]
        said = "agrees" if one.first is None else "[red]differs[/red]"
        table.add_row(
            escape(f"{one.connection} {one.account_id}"),
            str(len(one.balances)),
            str(last.day),
            format_minor(last.stated_minor, one.currency),
            said,
        )
    return table
