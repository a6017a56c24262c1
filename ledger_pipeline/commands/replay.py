"""`preview` and `replay`: what landed payloads would post, and what today's mappings and rules would correct."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ledger_pipeline.commands.common import AsJson, ConfigFile

if TYPE_CHECKING:
    from ledger_pipeline.orchestration.replay import Difference
    from ledger_pipeline.orchestration.runtime import Runtime

Day = Annotated[str, typer.Option("--date", help="One sync date.")]
First = Annotated[str, typer.Option("--from", help="First sync date of a range.")]
Last = Annotated[str, typer.Option("--to", help="Last sync date of a range.")]
Connections = Annotated[list[str] | None, typer.Option("--connection", help="Only this connection (may be repeated).")]
Entries = Annotated[bool, typer.Option("--entries", help="List every entry with its lines.")]

MOST_REFUSED = 20


def preview(
    day: Day = "",
    first: First = "",
    last: Last = "",
    connection: Connections = None,
    entries: Entries = False,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """What posting the landed payloads of a date or range would append to the books. Nothing is kept."""
    from ledger_pipeline.orchestration import replay as work

    runtime, names = _ready(config, connection)
    begin, end = _days(day, first, last)
    found = [work.preview(runtime, name, begin, end) for name in names]
    _show(runtime, found, entries, as_json)


def replay(
    first: First = "",
    last: Last = "",
    connection: Connections = None,
    apply: Annotated[bool, typer.Option("--apply", help="Post the difference as corrections.")] = False,
    by: Annotated[str, typer.Option(help="Who applies it.")] = "",
    reason: Annotated[str, typer.Option(help="Why it is applied.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Apply without asking.")] = False,
    entries: Entries = False,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Run today's mappings and rules over landed payloads and show the difference to the books; --apply posts it as corrections."""
    from ledger_pipeline.orchestration import replay as work

    if apply and not (by.strip() and reason.strip()):
        raise typer.BadParameter("--apply needs --by and --reason: they are recorded")
    if apply and as_json and not yes:
        raise typer.BadParameter("--apply with --json needs --yes: there is nobody to ask")
    runtime, names = _ready(config, connection)
    begin, end = _days("", first, last)
    found = [work.replay(runtime, name, begin, end) for name in names]
    if not (apply and yes and as_json):
        _show(runtime, found, entries, as_json)
    changed = [one for one in found if one.changes]
    if not apply or not changed:
        return
    if not yes and not typer.confirm(f"Post these {sum(len(one.changes) for one in changed)} entries?"):
        typer.echo("nothing was posted")
        raise typer.Exit(1)
    run_id = f"replay-{uuid.uuid4()}"
    applied = [
        work.apply(runtime, one.connection, begin, end, digest=one.digest, by=by, reason=reason, run_id=run_id)
        for one in changed
    ]
    if as_json:
        _show(runtime, applied, entries, as_json)
    else:
        typer.echo(f"posted {sum(len(one.changes) for one in applied)} entries as {run_id}")


def _ready(config: Path | None, connection: Sequence[str] | None) -> tuple[Runtime, list[str]]:
    from ledger_pipeline.orchestration.runtime import Runtime

    runtime = Runtime.from_file(config)
    names = list(connection or runtime.config.connections)
    for name in names:
        runtime.link(name)
    return runtime, names


def _days(day: str, first: str, last: str) -> tuple[date, date]:
    if bool(day) == bool(first or last) or bool(first) != bool(last):
        raise typer.BadParameter("give --date, or --from and --to")
    try:
        begin, end = date.fromisoformat(first or day), date.fromisoformat(last or day)
    except ValueError as error:
        raise typer.BadParameter(f"{error}; write YYYY-MM-DD") from None
    if end < begin:
        raise typer.BadParameter(f"--to {end} lies before --from {begin}")
    return begin, end


def _show(runtime: Runtime, found: Sequence[Difference], entries: bool, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps([_plain(one, entries) for one in found], indent=2, default=str))
    else:
        _print(runtime, found, entries)


def _plain(one: Difference, entries: bool) -> dict[str, Any]:
    made = asdict(one) | {"kinds": dict(Counter(change.kind for change in one.changes))}
    if not entries:
        del made["changes"]
    return made


def _print(runtime: Runtime, found: Sequence[Difference], entries: bool) -> None:
    from ledger_pipeline.cli_support import console, new_table
    from ledger_pipeline.model.money import from_minor

    counts = new_table("Landed payloads against the books")
    columns = ("payloads", "unchanged", "original", "replacement", "reversal", "refused")
    counts.add_column("connection", no_wrap=True)
    for column in columns:
        counts.add_column(column, justify="right")
    for one in found:
        kinds = Counter(change.kind for change in one.changes)
        figures = (one.payloads, one.unchanged, *(kinds[k] for k in columns[2:5]), len(one.refused))
        counts.add_row(one.connection, *(f"{n:,}" for n in figures))
    console.print(counts)
    moved = new_table("What the accounts would gain or lose, debit positive")
    for column in ("entity", "month", "account", "name"):
        moved.add_column(column, no_wrap=column != "name")
    moved.add_column("amount", justify="right", no_wrap=True)
    moved.add_column("base", justify="right", no_wrap=True)
    rows = sorted((m for one in found for m in one.moved), key=lambda m: (m.entity, m.month, m.account, m.currency))
    for m in rows:
        base = runtime.config.entities[m.entity].base_currency
        amount = f"{from_minor(m.amount_minor, m.currency):,} {m.currency}"
        moved.add_row(m.entity, f"{m.month:%Y-%m}", m.account, m.name, amount, f"{from_minor(m.base_minor, base):,}")
    if rows:
        console.print(moved)
    for one in found:
        for refusal in one.refused[:MOST_REFUSED]:
            place = f"{one.connection} {refusal.stream} {refusal.source_id}"
            typer.echo(f"refused: {place}: {refusal.reason} - at {refusal.path}")
        if len(one.refused) > MOST_REFUSED:
            typer.echo(f"refused: {len(one.refused) - MOST_REFUSED} more of {one.connection} (--json lists them)")
        for change in one.changes if entries else ():
            corrects = f" of entry {change.corrects_entry_id}" if change.corrects_entry_id else ""
            typer.echo(
                f"\n{change.entity}  {change.posted_on}  {change.record} {change.source_id}  {change.kind}{corrects}"
            )
            for line in change.lines:
                side = "Dr" if line.amount_minor > 0 or (line.amount_minor == 0 and line.base_minor > 0) else "Cr"
                typer.echo(
                    f"  {side} {line.account} {line.role:<40} {from_minor(line.amount_minor, line.currency):>14,f} {line.currency}"
                )
    if not any(one.changes for one in found):
        typer.echo("no difference: the books say what today's mappings and rules say")
