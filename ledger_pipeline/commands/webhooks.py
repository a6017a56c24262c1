"""`webhooks`: the receiver, and what it has received."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from ledger_pipeline.commands.common import AsJson, ConfigFile, fail, runtime_of, show

webhooks = typer.Typer(help="Webhooks in: the receiver, and what it has received.", invoke_without_command=True)
_Host = Annotated[str, typer.Option(help="Address to listen on; a proxy with TLS stands before it.")]
_Port = Annotated[int, typer.Option(help="Port to listen on.")]


@webhooks.callback()
def serve(
    context: typer.Context,
    host: _Host = "127.0.0.1",
    port: _Port = 8300,
    max_waiting: Annotated[int, typer.Option(help="Requests under way at most; more are answered with 429.")] = 2000,
    max_body: Annotated[int, typer.Option(help="Bytes of a body at most.")] = 1 << 20,
    config: ConfigFile = None,
) -> None:
    """Receive webhooks at POST /{connection} until interrupted: verified, stored, then answered."""
    if context.invoked_subcommand is not None:
        return
    from ledger_pipeline import config as configuration
    from ledger_pipeline.webhooks import receiver

    runtime = runtime_of(config)
    app = receiver.create_app(config or configuration.find(), runtime.database, receiver.Limits(max_body, max_waiting))
    names = receiver.names_of(app)
    if not names:
        fail("no connection takes webhooks: give one webhook_secrets in ledger.yaml")
    typer.echo(f"webhooks: http://{host}:{port}/ for {', '.join(names)} (Ctrl-C ends)")
    receiver.server(app, host, port).run()


@webhooks.command()
def status(
    days: Annotated[int, typer.Option(help="Connections that received something in so many days.")] = 30,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """What each connection received, what of it waits for a run, and which secret signed last."""
    from dataclasses import asdict

    from ledger_pipeline.cli_support import console, new_table
    from ledger_pipeline.store import webhooks as store

    with runtime_of(config).database.connect("reader") as connection:
        found = store.standing(connection, datetime.now(UTC) - timedelta(days=days))

    def print_it() -> None:
        table = new_table("Webhooks", gap=1)
        for column in ("connection", "stored", "waiting", "last received", "secret: last used"):
            table.add_column(column)
        for one in found:
            used = ", ".join(f"{no}: {at:%Y-%m-%d %H:%M}" for no, at in sorted(one.secrets.items()))
            table.add_row(
                one.connection, f"{one.stored:,}", f"{one.waiting:,}", f"{one.last_received_at:%Y-%m-%d %H:%M:%S}", used
            )
        console.print(table)
        if not found:
            typer.echo(f"nothing was received in {days} days")

    show(as_json, [asdict(one) for one in found], print_it)
