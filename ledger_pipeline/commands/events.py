"""`events`: what others were told, what is still to be delivered, and sending it again."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Annotated

import typer

from ledger_pipeline.commands.common import AsJson, ConfigFile, fail, runtime_of, show

events = typer.Typer(help="Events out: their delivery, its log, and sending one again.", no_args_is_help=True)


@events.command("list")
def list_(
    state: Annotated[str, typer.Option(help="Only pending, delivered or failed ones.")] = "",
    limit: Annotated[int, typer.Option(help="How many, the newest first.")] = 50,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Events and how far their delivery is."""
    from ledger_pipeline.cli_support import console, new_table
    from ledger_pipeline.store import events as store

    if state not in ("", "pending", "delivered", "failed"):
        raise typer.BadParameter(f"{state!r} is no state; known are pending, delivered, failed")
    runtime = runtime_of(config)
    with runtime.database.connect("reader") as connection:
        found = store.listed(connection, state or None, limit)
        off = store.disabled(connection)

    def print_it() -> None:
        table = new_table("Events", gap=1)
        for column in ("event", "type", "endpoint", "state", "tries", "last answer"):
            table.add_column(column, overflow="fold")
        for one in found:
            answer = one.error or (str(one.status) if one.status else "")
            table.add_row(one.event_id, one.type, one.endpoint, one.state, str(one.attempts), answer)
        console.print(table)
        for name, reason in off.items():
            typer.echo(f"{name} is disabled: {reason}; `ledger-pipeline events enable {name}`", err=True)

    show(as_json, {"events": [asdict(one) for one in found], "disabled": off}, print_it)


@events.command()
def log(
    event_id: Annotated[str, typer.Argument(help="evt_…")], config: ConfigFile = None, as_json: AsJson = False
) -> None:
    """Every attempt to deliver an event."""
    from ledger_pipeline.store import events as store

    with runtime_of(config).database.connect("reader") as connection:
        rows = store.history(connection, event_id)
    names = ("endpoint", "attempt", "outcome", "status", "error", "duration_ms", "attempted_at")
    found = [dict(zip(names, row, strict=True)) for row in rows]

    def print_it() -> None:
        for one in found:
            said = one["error"] or one["status"]
            typer.echo(
                f"{one['attempted_at']:%Y-%m-%d %H:%M:%S}  {one['endpoint']}  attempt {one['attempt']}: {one['outcome']} "
                f"({said}, {one['duration_ms']} ms)"
            )
        if not found:
            typer.echo("no attempt yet, or no such event")

    show(as_json, found, print_it)


@events.command()
def deliver(
    watch: Annotated[
        bool, typer.Option(help="Go on until interrupted, instead of ending when nothing is due.")
    ] = False,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Deliver what is due now; ends with 1 when an attempt failed."""
    from ledger_pipeline.operations import outgoing

    runtime = runtime_of(config)
    if not runtime.config.events:
        fail("no endpoint: name one under events in ledger.yaml")
    while True:
        done = outgoing.deliver(runtime)
        rows = [{"endpoint": name, "outcome": outcome, "count": n} for (name, outcome), n in sorted(done.items())]
        lines = [f"{row['endpoint']}: {row['count']} {row['outcome']}" for row in rows]
        if rows or not watch:
            show(as_json, rows, lambda lines=lines: typer.echo("\n".join(lines) or "nothing is due"))  # type: ignore[misc]
        if not watch:
            raise typer.Exit(1 if any(outcome != "delivered" for _, outcome in done) else 0)
        time.sleep(1)


@events.command()
def redeliver(
    event_id: Annotated[list[str], typer.Argument(help="evt_…, one or more.")],
    endpoint: Annotated[str, typer.Option(help="To this endpoint (default: to those it was for).")] = "",
    config: ConfigFile = None,
) -> None:
    """Make events due again, under the ids that they have."""
    from ledger_pipeline.store import events as store

    runtime = runtime_of(config)
    _known(runtime.config.events, endpoint)
    with runtime.database.connect() as connection:
        count = store.redeliver(connection, event_id, endpoint or None, runtime.clock())
    if not count:
        fail("no such event")
    typer.echo(f"{count} due again")


@events.command()
def enable(
    endpoint: Annotated[str, typer.Argument(help="Its name in ledger.yaml.")],
    by: Annotated[str, typer.Option(help="Who enables it; it is recorded.")],
    config: ConfigFile = None,
) -> None:
    """Let an endpoint that was disabled have events again; what has waited is delivered."""
    from ledger_pipeline.store import events as store

    runtime = runtime_of(config)
    _known(runtime.config.events, endpoint)
    with runtime.database.connect() as connection:
        if endpoint not in store.disabled(connection):
            fail(f"{endpoint} is not disabled")
        store.switch(connection, endpoint, "enabled", f"by {by}", runtime.clock())
    typer.echo(f"{endpoint} is enabled")


def _known(names: object, endpoint: str) -> None:
    known = list(names) if isinstance(names, dict) else []
    if endpoint and endpoint not in known:
        fail(f"unknown endpoint {endpoint!r}; known are {', '.join(known) or 'none'}")
