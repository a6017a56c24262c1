"""`ledger-pipeline duplicates …`: payments that may be made or told twice; say that both are real, or that one is a duplicate."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from ledger_pipeline.commands.common import AsJson, ConfigFile, fail, runtime_of, show

if TYPE_CHECKING:
    from ledger_pipeline.orchestration.duplicates import Decided
    from ledger_pipeline.reconcile.flags import Flag
    from ledger_pipeline.reconcile.twins import Orphan

duplicates = typer.Typer(
    help="Payments that may be made or told twice: list them, decide.", invoke_without_command=True
)

Connection = Annotated[str, typer.Option(help="Only this connection.")]
All = Annotated[bool, typer.Option("--all", help="Also what is decided.")]


class Word(StrEnum):
    """What a person says."""

    BOTH_REAL = "both-real"
    DUPLICATE = "duplicate"


@duplicates.callback()
def default(
    context: typer.Context,
    connection: Connection = "",
    is_all: All = False,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Payments that may be made or told twice: list them, decide."""
    if context.invoked_subcommand is None:
        list_(connection, is_all, config, as_json)


@duplicates.command("list")
def list_(connection: Connection = "", is_all: All = False, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """What waits for a person, and records left out as the twin of one that doesn't stand any more."""
    from ledger_pipeline.orchestration import duplicates as likely

    runtime = runtime_of(config, connection=connection)
    found, orphans = likely.waiting(runtime, connection, is_open=not is_all)
    data = {"flags": [asdict(one) for one in found], "twins_gone": [asdict(one) for one in orphans]}
    show(as_json, data, lambda: _print(found, orphans))


@duplicates.command()
def decide(
    flag_id: Annotated[int, typer.Argument(help="Id of the flag, as the list shows it.")],
    word: Annotated[
        Word, typer.Argument(help="both-real: both stay. duplicate: the later one is taken out of the books.")
    ],
    by: Annotated[str, typer.Option(help="Who decides: a person's name; it is recorded.")],
    reason: Annotated[str, typer.Option(help="Why; it is recorded.")],
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Say what two payments are; the last word counts. 1 when a closed gate holds a day back."""
    from ledger_pipeline.orchestration import duplicates as likely
    from ledger_pipeline.reconcile.flags import DecisionRefused

    runtime = runtime_of(config)
    said = "both_real" if word is Word.BOTH_REAL else "duplicate"
    try:
        done = likely.decide(runtime, flag_id, said, by=by, reason=reason, run_id=f"duplicates-{uuid.uuid4()}")  # type: ignore[arg-type]
    except DecisionRefused as error:
        fail(str(error))
    show(as_json, asdict(done), lambda: _print_decided(done, word))
    raise typer.Exit(1 if done.closed else 0)


def _print(found: Sequence[Flag], orphans: Sequence[Orphan]) -> None:
    for one in found:
        typer.echo(f"{one.flag_id:>6}  {one.reason}")
        typer.echo(f"        later    {one.happened_on}  {one.connection}/{one.record}/{one.source_id}")
        typer.echo(f"        earlier  {one.twin_on}  {one.twin_connection}/{one.record}/{one.twin_source_id}")
        if one.decision:
            typer.echo(f"        {one.decision.replace('_', ' ')}, says {one.by_whom}: {one.why}")
    for gone in orphans:
        typer.echo(
            f"TWIN GONE {gone.connection}/{gone.record}/{gone.source_id} was left out for {gone.twin_connection}'s "
            f"{gone.twin_source_id}, which doesn't stand any more: run {gone.sync_date} of {gone.connection} again"
        )
    waits = sum(one.decision is None for one in found)
    typer.echo(f"{waits} wait{'s' if waits == 1 else ''} for a person")


def _print_decided(done: Decided, word: Word) -> None:
    flag = done.flag
    what = "stays" if word is Word.BOTH_REAL else "is left out of the books"
    typer.echo(f"{flag.connection}/{flag.record}/{flag.source_id} {what}; {done.entries} new entries")
    for gate in done.closed:
        typer.echo(f"error: {gate}", err=True)
