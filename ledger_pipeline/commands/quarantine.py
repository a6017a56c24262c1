"""`ledger-pipeline quarantine …`: what isn't in the books and why; retry it, leave it out by name, or take that back."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ledger_pipeline.commands.common import AsJson, ConfigFile, a_day, one_line, runtime_of
from ledger_pipeline.commands.common import show as print_or_json

if TYPE_CHECKING:
    from ledger_pipeline.orchestration.quarantine import Retried
    from ledger_pipeline.orchestration.runtime import Runtime
    from ledger_pipeline.store.quarantine import File, Held

quarantine = typer.Typer(
    help="Records that aren't in the books: list them, look into one, retry, ignore.", invoke_without_command=True
)

RawId = Annotated[int, typer.Argument(help="Id of the version, as the list shows it.")]
Connection = Annotated[str, typer.Option(help="Only this connection.")]
By = Annotated[str, typer.Option(help="Who does it: a person's name; it is recorded.")]
Why = Annotated[str, typer.Option("--reason", help="Why; it is recorded.")]


@quarantine.callback()
def default(
    context: typer.Context, connection: Connection = "", config: ConfigFile = None, as_json: AsJson = False
) -> None:
    """Records that aren't in the books: list them, look into one, retry, ignore."""
    if context.invoked_subcommand is None:
        list_(connection, config, as_json)


@quarantine.command("list")
def list_(connection: Connection = "", config: ConfigFile = None, as_json: AsJson = False) -> None:
    """What is in quarantine now, the newest sync date first."""
    from ledger_pipeline.store.quarantine import held

    runtime = runtime_of(config, connection=connection)
    with runtime.database.connect("reader") as connected:
        found = held(connected, connection or None)
    print_or_json(as_json, [_row(runtime, one) for one in found], lambda: _print_list(runtime, found))


@quarantine.command()
def show(raw_id: RawId, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """One version: why it is held, its payload, the record's other versions, the entries that stand, what was decided."""
    from ledger_pipeline.store.quarantine import file_of

    runtime = runtime_of(config)
    with one_line(), runtime.database.connect("reader") as connected:
        file = file_of(connected, raw_id)
    data = asdict(file) | {
        "payload": json.loads(file.payload, parse_float=str),
        "held": _row(runtime, file.held) if file.held else None,
        "can": _can(file),
    }
    print_or_json(as_json, data, lambda: _print_file(file, data["payload"]))


@quarantine.command()
def retry(
    by: By,
    raw_ids: Annotated[list[int] | None, typer.Argument(metavar="RAW_ID...", help="Versions to retry.")] = None,
    connection: Annotated[str, typer.Option(help="With --date: all of this connection's sync date.")] = "",
    day: Annotated[str, typer.Option("--date", help="Sync date.")] = "",
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Stage, check and post the sync dates of these versions again, with today's mapping; 1 when something is still held."""
    from ledger_pipeline.orchestration import quarantine as life

    if bool(connection) != bool(day) or bool(raw_ids) == bool(day):
        raise typer.BadParameter("give ids, or --connection and --date")
    runtime = runtime_of(config, connection=connection)
    run_id = f"retry-{uuid.uuid4()}"
    with one_line():
        if day:
            done = life.retry_day(runtime, connection, a_day(day), by=by, run_id=run_id)
        else:
            done = life.retry(runtime, raw_ids or [], by=by, run_id=run_id)
    _end(runtime, done, as_json)


@quarantine.command()
def ignore(raw_id: RawId, by: By, reason: Why, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Leave one version out of the books; a new version of the record at the source is judged anew."""
    from ledger_pipeline.orchestration import quarantine as life

    runtime = runtime_of(config)
    with one_line():
        done = life.ignore(runtime, raw_id, by=by, reason=reason, run_id=f"ignore-{uuid.uuid4()}")
    _end(runtime, done, as_json)


@quarantine.command()
def withdraw(raw_id: RawId, by: By, reason: Why, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Take a decision to ignore back; 1 when the version is in quarantine again."""
    from ledger_pipeline.orchestration import quarantine as life

    runtime = runtime_of(config)
    with one_line():
        done = life.withdraw(runtime, raw_id, by=by, reason=reason, run_id=f"withdraw-{uuid.uuid4()}")
    _end(runtime, done, as_json)


# how it is said ------------------------------------------------------------------------------------------------------------


def _row(runtime: Runtime, one: Held) -> dict[str, Any]:
    first = one.reasons[0] if one.reasons else None
    return asdict(one) | {
        "path": first.path if first else "",
        "reason": first.reason if first else "",
        "age_days": _age(runtime, one),
    }


def _age(runtime: Runtime, one: Held) -> int:
    return max(0, (runtime.clock() - one.landed_at).days)


def _print_list(runtime: Runtime, found: Sequence[Held]) -> None:
    """Two lines each: who it is, and why."""
    for one in found:
        earlier = f", {one.earlier_versions} earlier" if one.earlier_versions else ""
        money = f", {one.amount:,f} {one.currency}" if one.amount is not None else ""
        waits = "" if one.fate else ", its day isn't posted"
        age = _age(runtime, one)
        typer.echo(f"{one.raw_id:>7}  {one.sync_date}  {one.connection}/{one.stream} {one.source_id}")
        typer.echo(f"         {one.why}")
        typer.echo(f"         {age} day{'' if age == 1 else 's'} old{earlier}{money}{waits}")
    typer.echo(f"{len(found)} in quarantine")


def _can(file: File) -> list[str]:
    """The commands that make sense for this version."""
    if file.decisions and file.decisions[-1].decision == "ignore":
        return [f"ledger-pipeline quarantine withdraw {file.raw_id} --by NAME --reason WHY"]
    if file.held is None:
        return []
    return [
        "correct the record at its source: the next night brings the new version, which supersedes this one",
        f"correct the mapping, then ledger-pipeline quarantine retry {file.raw_id} --by NAME",
        f"ledger-pipeline quarantine ignore {file.raw_id} --by NAME --reason WHY",
    ]


def _print_file(file: File, payload: Any) -> None:
    typer.echo(f"version {file.raw_id} of {file.connection}/{file.stream} {file.source_id}")
    for reason in file.held.reasons if file.held else ():
        typer.echo(f"  refused at {reason.stage}: {reason.record} {reason.path}: {reason.reason}")
    for decided in file.decisions:
        typer.echo(f"  {decided.decision} by {decided.by_whom}, {decided.decided_at:%Y-%m-%d %H:%M}: {decided.reason}")
    for version in file.versions:
        own = "  <- this one" if version.raw_id == file.raw_id else ""
        why = f" ({version.reason})" if version.reason else ""
        typer.echo(f"  raw {version.raw_id}  pulled for {version.sync_date}  {version.fate or 'undecided'}{why}{own}")
    for entry in file.entries:
        typer.echo(
            f"  entry {entry.entry_id} stands in {entry.entity}: {entry.record} {entry.source_id}, posted on {entry.posted_on}, "
            f"from raw {entry.raw_id}"
        )
    typer.echo(json.dumps(payload, indent=2, ensure_ascii=False))
    for line in _can(file):
        typer.echo(f"you can: {line}")


def _end(runtime: Runtime, done: Retried, as_json: bool) -> None:
    data = {
        "days": [{"connection": name, "sync_date": day} for name, day in done.days],
        "outcomes": [asdict(one) for one in done.outcomes],
        "entries": done.entries,
        "closed_gates": done.closed,
        "newly_held": done.newly_held,
    }
    print_or_json(as_json, data, lambda: _print_retried(done))
    raise typer.Exit(0 if done.is_clear else 1)


def _print_retried(done: Retried) -> None:
    for one in done.outcomes:
        why = f" ({one.reason})" if one.reason else ""
        typer.echo(
            f"{one.raw_id:>7}  {one.connection}/{one.stream} {one.source_id}: {one.after or 'undecided'}{why}, "
            f"was {one.before or 'undecided'}"
        )
    for gate in done.closed:
        typer.echo(f"error: {gate}", err=True)
    if done.newly_held:
        ids = ", ".join(map(str, done.newly_held))
        typer.echo(f"error: refused now and not before: {ids}", err=True)
    days = f"{len(done.days)} sync date{'' if len(done.days) == 1 else 's'}"
    typer.echo(f"{days} run again, {done.entries} new entries")
