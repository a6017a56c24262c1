"""The `ledger-pipeline` command. Each command imports what it needs when it runs, so that help is instant.

Exit codes: 0 done; 1 something was found wrong (a run failed, the books don't tie, a file is refused); 2 the command was used wrongly.
"""

from __future__ import annotations

import json
import sys
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ledger_pipeline.commands import backfill as backfill_command
from ledger_pipeline.commands import categories as categories_commands
from ledger_pipeline.commands import controls as controls_commands
from ledger_pipeline.commands import currency as currency_commands
from ledger_pipeline.commands import duplicates as duplicates_commands
from ledger_pipeline.commands import events as events_commands
from ledger_pipeline.commands import measures as measures_commands
from ledger_pipeline.commands import operations as operations_commands
from ledger_pipeline.commands import periods as periods_commands
from ledger_pipeline.commands import quarantine as quarantine_commands
from ledger_pipeline.commands import reconcile as reconcile_commands
from ledger_pipeline.commands import replay as replay_commands
from ledger_pipeline.commands import restore as restore_commands
from ledger_pipeline.commands import retention as retention_commands
from ledger_pipeline.commands import statement_balances as statement_balance_commands
from ledger_pipeline.commands import statements as statements_commands
from ledger_pipeline.commands import webhooks as webhooks_commands
from ledger_pipeline.commands.common import AsJson, ConfigFile, a_day, fail, runtime_of, show

if TYPE_CHECKING:
    pass

app = typer.Typer(
    name="ledger-pipeline",
    help="Turns what a company's business systems say into audited double-entry books.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
sandbox = typer.Typer(help="The sample company: its servers and its own books.", no_args_is_help=True)
config_app = typer.Typer(help="ledger.yaml.", no_args_is_help=True)
app.add_typer(sandbox, name="sandbox")
app.add_typer(config_app, name="config")
rates_app = typer.Typer(help="Exchange rates.", no_args_is_help=True)
app.add_typer(rates_app, name="rates")
app.command()(replay_commands.preview)
app.command()(replay_commands.replay)
app.command()(currency_commands.revalue)
app.command()(statements_commands.statements)
app.command("open-items")(reconcile_commands.open_items)
reconcile_commands.reconcile.command()(statement_balance_commands.statements)
reconcile_commands.reconcile.command()(categories_commands.rules)
app.add_typer(reconcile_commands.reconcile, name="reconcile")
app.add_typer(restore_commands.restore, name="restore")
app.command()(retention_commands.retention)
app.add_typer(periods_commands.period, name="period")
app.command()(controls_commands.fates)
app.command()(measures_commands.measures)
app.command()(backfill_command.backfill)
app.command()(operations_commands.health)
app.command()(operations_commands.heartbeat)
app.command()(operations_commands.log)
app.add_typer(quarantine_commands.quarantine, name="quarantine")
app.add_typer(duplicates_commands.duplicates, name="duplicates")
rates_app.command()(currency_commands.refresh)
app.add_typer(events_commands.events, name="events")
app.add_typer(webhooks_commands.webhooks, name="webhooks")

Port = Annotated[int, typer.Option(help="Port of the sandbox on 127.0.0.1.")]


def main() -> None:
    """Entry point: errors that a person can act on are one line each on stderr, without a traceback."""
    try:
        app()
    except Exception as error:
        from ledger_pipeline.cli_support import lines_of

        lines = lines_of(error)
        if lines is None:
            raise
        for line in lines:
            print(f"error: {line}", file=sys.stderr)
        sys.exit(1)


@app.command()
def init(
    folder: Annotated[
        Path, typer.Argument(help="Where to write ledger.yaml, dagster.yaml and workspace.yaml.")
    ] = Path(),
    force: Annotated[bool, typer.Option(help="Overwrite files that are there.")] = False,
) -> None:
    """Write a commented ledger.yaml to start from."""
    from ledger_pipeline.cli_support import write_templates

    for path in write_templates(folder, force=force):
        typer.echo(f"wrote {path}")
    typer.echo("next: fill in your connections, then `ledger-pipeline config check`")


@app.command()
def demo(
    days: Annotated[int, typer.Option(help="How many nights.")] = 7,
    start: Annotated[str, typer.Option(help="First sync date.")] = "2026-10-05",
    seed: Annotated[int, typer.Option(help="Which company.")] = 7,
    orders_per_day: Annotated[int, typer.Option(help="Orders a day in the US shop; the others follow.")] = 40,
    workers: Annotated[int, typer.Option(help="Connections that run at once.")] = 2,
    as_json: AsJson = False,
) -> None:
    """Book the sandbox company's nights through Dagster and hold the result against its own books."""
    from ledger_pipeline.demo import run

    raise typer.Exit(run(days, a_day(start), seed, orders_per_day, workers, as_json))


@app.command()
def dev(
    port: Annotated[int, typer.Option(help="Port of the Dagster UI on 127.0.0.1.")] = 3000, sandbox_port: Port = 8400
) -> None:
    """Run the sandbox and the Dagster UI until interrupted."""
    from ledger_pipeline.demo import dev as run

    raise typer.Exit(run(port, sandbox_port))


@app.command()
def sync(
    day: Annotated[str, typer.Option("--date", help="One sync date (default: yesterday).")] = "",
    first: Annotated[str, typer.Option("--from", help="First sync date of a range.")] = "",
    last: Annotated[str, typer.Option("--to", help="Last sync date of a range.")] = "",
    connection: Annotated[list[str] | None, typer.Option(help="Only this connection (may be repeated).")] = None,
    workers: Annotated[int, typer.Option(help="Connections that run at once.")] = 2,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Pull, stage, check and post sync dates through Dagster; running it again adds nothing."""
    from ledger_pipeline.cli_support import run_sync

    if day and (first or last):
        raise typer.BadParameter("give --date or --from/--to, not both")
    if bool(first) != bool(last):
        raise typer.BadParameter("--from and --to go together")
    begin = a_day(first or day) if first or day else date.today() - timedelta(days=1)  # noqa: DTZ011 - what the person calls yesterday
    raise typer.Exit(run_sync(config, begin, a_day(last) if last else begin, connection or [], workers, as_json))


@app.command("import")
def import_(
    file: Annotated[
        Path, typer.Argument(help="A bank file, or a CSV, TSV or Excel file.", exists=True, dir_okay=False)
    ],
    connection: Annotated[str, typer.Option(help="A bank_file or delimited_file connection of ledger.yaml.")],
    day: Annotated[str, typer.Option("--date", help="Sync date to import it under (default: today).")] = "",
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Import one file into a file connection: kept, staged, checked and posted like a delivered one."""
    from ledger_pipeline.cli_support import run_import

    raise typer.Exit(run_import(config, file, connection, a_day(day) if day else date.today(), as_json))  # noqa: DTZ011


@app.command("trial-balance")
def trial_balance(
    entity: Annotated[str, typer.Option(help="Only this entity.")] = "",
    through: Annotated[str, typer.Option(help="Entries posted until this day (default: all).")] = "",
    by_role: Annotated[bool, typer.Option("--by-role", help="One row per role instead of per account.")] = False,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """The trial balance per entity, by account and currency."""
    from ledger_pipeline.cli_support import balance_rows, print_balances

    runtime = runtime_of(config, entity=entity)
    rows = balance_rows(runtime, entity or None, a_day(through) if through else None, by_role)
    show(as_json, rows, lambda: print_balances(runtime, rows))


@app.command()
def entries(
    source_id: Annotated[
        str, typer.Option("--source-id", help="Id at the source: of an order, a charge, a bank line…")
    ],
    connection: Annotated[str, typer.Option(help="Only this connection.")] = "",
    payload: Annotated[bool, typer.Option(help="Show the raw payload, too.")] = True,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Everything about a source record: its versions and fates, its entries with rule, mapping and run, and the payload behind them."""
    from ledger_pipeline.cli_support import print_trace
    from ledger_pipeline.reports.trace import trace

    runtime = runtime_of(config)
    with runtime.database.connect("reader") as connected:
        found = trace(connected, source_id, connection or None, with_payload=payload)
    if not found["versions"]:
        fail(
            f"no record with source id {source_id!r}" + (f" in {connection}" if connection else "") + " has been pulled"
        )
    show(as_json, found, lambda: print_trace(found))


@app.command()
def verify(
    entity: Annotated[str, typer.Option(help="Only this entity.")] = "",
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Recompute hashes, chain, balances, references and fates; ends with 1 when anything was changed behind the books' back."""
    from ledger_pipeline.cli_support import print_proof, prove

    runtime = runtime_of(config, entity=entity)
    proof = prove(runtime, entity or None)
    show(as_json, proof, lambda: print_proof(proof))
    raise typer.Exit(1 if proof["count"] else 0)


@app.command("export")
def export_(
    form: Annotated[str, typer.Option("--format", help="beancount or hledger.")],
    entity: Annotated[str, typer.Option(help="Only this entity.")] = "",
    output: Annotated[Path | None, typer.Option(help="File to write (default: standard output).")] = None,
    config: ConfigFile = None,
) -> None:
    """The complete journal for beancount or hledger."""
    from ledger_pipeline.cli_support import write_journal
    from ledger_pipeline.reports.export import FORMATS

    if form not in FORMATS:
        raise typer.BadParameter(f"{form!r} is no format; known are {', '.join(FORMATS)}")
    runtime = runtime_of(config, entity=entity)
    write_journal(runtime, "hledger" if form == "hledger" else "beancount", entity or None, output)


@app.command()
def mapping(
    source: Annotated[str, typer.Argument(help="One source (default: all).")] = "",
    as_json: AsJson = False,
) -> None:
    """How every source's fields become canonical records, as Markdown."""
    from ledger_pipeline import mapping_page, sources

    if source and source not in sources.known():
        fail(f"unknown source {source!r}; known are {', '.join(sources.known())}")
    names = [source] if source else list(sources.known())
    show(
        as_json,
        mapping_page.as_json(names) if as_json else None,
        lambda: typer.echo(mapping_page.as_markdown(names), nl=False),
    )


def _number(of: int, one: str, more: str) -> str:
    return f"{of} {one if of == 1 else more}"


@config_app.command("check")
def config_check(
    file: Annotated[Path | None, typer.Argument(help="ledger.yaml (default: that of this folder).")] = None,
    as_json: AsJson = False,
) -> None:
    """Validate ledger.yaml with every connection's options and environment variables."""
    from ledger_pipeline.cli_support import check_config

    mistakes, summary = check_config(file)
    if as_json:
        typer.echo(json.dumps({"mistakes": mistakes, **summary}, indent=2))
    else:
        for mistake in mistakes:
            typer.echo(f"error: {mistake}", err=True)
        if not mistakes:
            typer.echo(
                f"{summary['file']}: {_number(summary['entities'], 'entity', 'entities')}, "
                f"{_number(summary['connections'], 'connection', 'connections')}, no mistakes"
            )
    raise typer.Exit(1 if mistakes else 0)


@sandbox.command()
def serve(
    port: Port = 8400,
    seed: Annotated[int, typer.Option(help="Which company.")] = 7,
    start: Annotated[str, typer.Option(help="First day of its history.")] = "2026-10-05",
    orders_per_day: Annotated[int, typer.Option(help="Orders a day in the US shop.")] = 40,
    clock: Annotated[str, typer.Option(help="The servers' now, ISO 8601 with zone (default: real time).")] = "",
    fault: Annotated[
        list[str] | None, typer.Option(help="route=kind[=times], such as stripe_us/v1/payouts=429=3.")
    ] = None,
    fast: Annotated[bool, typer.Option(help="Do not throttle.")] = False,
) -> None:
    """Serve the sample company's Shopify, Stripe and Plaid on 127.0.0.1."""
    from ledger_pipeline.sandbox.run import serve as run

    run(port, seed, a_day(start), orders_per_day, clock, fault or [], fast)


@sandbox.command()
def webhooks(
    to: Annotated[str, typer.Option(help="Where the receiver listens.")] = "http://127.0.0.1:8300",
    seconds: Annotated[int, typer.Option(help="For how long.")] = 3600,
    connection: Annotated[list[str] | None, typer.Option(help="Only this connection (may be repeated).")] = None,
    seed: Annotated[int, typer.Option(help="Which company.")] = 7,
    start: Annotated[str, typer.Option(help="First day of its history.")] = "2026-10-05",
    orders_per_day: Annotated[int, typer.Option(help="Orders a day in the US shop.")] = 40,
    hours: Annotated[int, typer.Option(min=0, help="First send what happened in the last so many hours.")] = 0,
) -> None:
    """Send the company's webhooks to a receiver as its changes happen, in real time, signed as each provider signs."""
    from ledger_pipeline.sandbox.run import webhooks as run

    try:
        all_taken = run(to, seconds, connection or [], seed, a_day(start), orders_per_day, hours)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    raise typer.Exit(0 if all_taken else 1)


@sandbox.command()
def truth(
    through: Annotated[str, typer.Option(help="Last day that counts.")],
    seed: Annotated[int, typer.Option(help="Which company.")] = 7,
    start: Annotated[str, typer.Option(help="First day of its history.")] = "2026-10-05",
    orders_per_day: Annotated[int, typer.Option(help="Orders a day in the US shop.")] = 40,
) -> None:
    """The company's own books as JSON, computed without the pipeline."""
    from ledger_pipeline.sandbox.run import truth_json

    typer.echo(truth_json(seed, a_day(start), orders_per_day, a_day(through)))


if __name__ == "__main__":
    main()
