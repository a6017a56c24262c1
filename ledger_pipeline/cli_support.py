"""What the commands do and how they print it."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date, timedelta
from decimal import Decimal
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from ledger_pipeline.config import ConfigError
from ledger_pipeline.model.money import from_minor

if TYPE_CHECKING:
    from ledger_pipeline.config import LedgerConfig
    from ledger_pipeline.orchestration.credentials import Sign
    from ledger_pipeline.orchestration.nights import Ran
    from ledger_pipeline.orchestration.runtime import Runtime
    from ledger_pipeline.reports.export import Format

console = Console(highlight=False, soft_wrap=False)
ORDER = ("posted", "ignored", "quarantined", "superseded", "reference")


def lines_of(error: Exception) -> list[str] | None:
    """What a person is told about an error that they can act on; None for one that keeps its traceback."""
    from ledger_pipeline.connect.errors import ConnectError
    from ledger_pipeline.orchestration.replay import BooksChanged
    from ledger_pipeline.store.gate import GateClosed
    from ledger_pipeline.store.schema import SchemaIsNewer

    if isinstance(error, ConfigError):
        return error.mistakes
    if isinstance(error, ConnectError | GateClosed | BooksChanged | SchemaIsNewer):
        return [str(error)]
    if type(error).__name__ == "OperationalError":
        return [f"the database can't be reached: {str(error).splitlines()[0]}"]
    return None


def write_templates(folder: Path, *, force: bool) -> list[Path]:
    """ledger.yaml, dagster.yaml and workspace.yaml; refuses to overwrite."""
    package = Path(__file__).parent
    files = {
        "ledger.yaml": (package / "templates" / "ledger.yaml").read_text(),
        "dagster.yaml": (package / "orchestration" / "dagster.yaml").read_text(),
        "workspace.yaml": "load_from:\n  - python_module:\n      module_name: ledger_pipeline.definitions\n",
    }
    there = [name for name in files if (folder / name).exists()]
    if there and not force:
        raise ConfigError([f"{folder / name} exists; --force overwrites it" for name in there])
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    return [folder / name for name in files]


# sync ------------------------------------------------------------------------------------------------------------------


def days_between(first: date, last: date) -> list[date]:
    """Both included; raises ConfigError when the range runs backwards."""
    if last < first:
        raise ConfigError([f"--to {last} lies before --from {first}"])
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]


def run_sync(
    path: Path | None, first: date, last: date, connections: Sequence[str], workers: int, as_json: bool
) -> int:
    """Nights through Dagster with progress; 1 when a run failed."""
    from ledger_pipeline.orchestration import jobs
    from ledger_pipeline.orchestration.runtime import Runtime

    runtime = Runtime.from_file(path)
    for name in connections:
        runtime.config.connection(name)
    names = list(connections) or jobs.enabled(runtime.config)
    days = days_between(first, last)
    started = date.fromisoformat(runtime.config.schedule.start)
    if days[0] < started:
        raise ConfigError([f"{days[0]} lies before schedule.start ({started}), the first sync date"])
    for name in names:
        runtime.link(name)
    _ = runtime.database
    failed = []
    with told_when_interrupted():
        for ran in run_nights(path, names, days, workers, quiet=as_json):
            if not ran.is_success:
                failed.append(ran)
    rows = summary(runtime, days[0], days[-1])
    if as_json:
        typer.echo(json.dumps({"runs_failed": [vars(r) for r in failed], "connections": rows}, indent=2, default=str))
    else:
        print_summary(rows)
        for ran in failed:
            console.print(f"[red]failed[/red] {ran.connection or 'books'} {ran.sync_date}: {ran.error}")
    return 1 if failed else 0


@contextmanager
def told_when_interrupted() -> Iterator[None]:
    """Around what Ctrl-C or SIGTERM may break off."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        Console(stderr=True).print("interrupted: what is posted stays, and the same command goes on from there")
        raise


def run_nights(
    path: Path | None, names: Sequence[str], days: Sequence[date], workers: int, *, quiet: bool, before: Any = None
) -> Iterator[Ran]:
    """Every connection of every night, then its books; `before(day)` is called before each night."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from ledger_pipeline.orchestration.nights import Workers

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        Progress(*columns, console=Console(stderr=True), disable=quiet) as progress,
        Workers(path, min(workers, len(names))) as pool,
    ):
        bar = progress.add_task("starting", total=len(days) * (len(names) + 1))
        for day in days:
            progress.update(bar, description=f"night of {day}")
            if before is not None:
                before(day)
            for ran in pool.night(names, day):
                progress.advance(bar)
                if not ran.is_success:
                    progress.console.print(f"[red]failed[/red] {ran.connection or 'books'} {day}: {ran.error}")
                yield ran


def summary(runtime: Runtime, first: date, last: date) -> list[dict[str, Any]]:
    """Per connection: what was pulled, staged, and what became of it; entries that these sync dates appended."""
    with runtime.database.connect("reader") as connection:
        pulled = dict(
            connection.execute(
                "SELECT connection, count(DISTINCT s.raw_id) FROM raw.pull p JOIN raw.seen s USING (pull_id) "
                "WHERE sync_date BETWEEN %s AND %s GROUP BY 1", (first, last)
            ).fetchall()
        )  # fmt: skip
        staged = dict(
            connection.execute(
                "SELECT connection, sum(value::bigint)::bigint FROM ops.staged, jsonb_each_text(rows_by_record) "
                "WHERE sync_date BETWEEN %s AND %s GROUP BY 1", (first, last)
            ).fetchall()
        )  # fmt: skip
        fates = connection.execute(
            "SELECT connection, fate, count(*) FROM ops.fate WHERE sync_date BETWEEN %s AND %s GROUP BY 1, 2",
            (first, last),
        ).fetchall()
        entries = dict(
            connection.execute(
                "SELECT connection, sum(entry_count)::bigint FROM ledger.batch WHERE sync_date BETWEEN %s AND %s GROUP BY 1",
                (first, last),
            ).fetchall()
        )
    found: dict[str, dict[str, Any]] = {}
    for name in runtime.config.connections:
        found[name] = {
            "connection": name,
            "pulled": pulled.get(name, 0),
            "staged_rows": staged.get(name, 0),
        } | dict.fromkeys(ORDER, 0)
        found[name]["entries"] = entries.get(name, 0)
    for name, fate, count in fates:
        if name in found:
            found[name][fate] = count
    return list(found.values())


def new_table(title: str, gap: int = 0) -> Table:
    """Fits eighty columns; `gap` are spaces between columns beyond the frame's own."""
    return Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=(0, gap, 0, 0),
    )


def print_summary(rows: Sequence[dict[str, Any]]) -> None:
    """One line per connection, and the total."""
    table = new_table("What became of every record")
    columns = ("pulled", "staged_rows", *ORDER, "entries")
    table.add_column("connection", no_wrap=True)
    for column in columns:
        table.add_column(column.removesuffix("_rows"), justify="right", no_wrap=True)
    for row in rows:
        table.add_row(row["connection"], *(f"{row[c]:,}" for c in columns))
    table.add_section()
    table.add_row("all", *(f"{sum(r[c] for r in rows):,}" for c in columns))
    console.print(table)


# import ----------------------------------------------------------------------------------------------------------------


def run_import(path: Path | None, file: Path, name: str, day: date, as_json: bool) -> int:
    """One file into a file connection; 1 when any of its records was quarantined or the gate closed."""
    from ledger_pipeline.orchestration import steps
    from ledger_pipeline.orchestration.runtime import Runtime
    from ledger_pipeline.store.gate import GateClosed

    runtime = Runtime.from_file(path)
    link = runtime.link(name)
    if link.source.connect is not None:
        raise ConfigError(
            [
                f"connection {name!r} is {link.source.title}; files are imported into bank_file and delimited_file connections"
            ]
        )
    run_id = f"import-{uuid.uuid4()}"
    given = ((file.name, file.read_bytes()),)
    for stream in link.source.streams:
        steps.pull(runtime, link, stream, day, run_id, given=given)
    steps.stage(runtime, link, day, run_id)
    checked = steps.check(runtime, link, day, run_id)
    closed = ""
    fates: dict[str, int] = {}
    entries = 0
    try:
        done = steps.post(runtime, link, day, run_id)
        fates, entries = dict(done.fates), done.posted.originals + done.posted.corrected
    except GateClosed as error:
        closed = str(error)
    refused = [row for row in quarantined(runtime, name) if row["sync_date"] == day]
    result = {
        "file": str(file),
        "connection": name,
        "fates": fates,
        "new_entries": entries,
        "gate": closed or "open",
        "refused": refused,
    }
    if as_json:
        typer.echo(json.dumps(result, indent=2, default=str))
    else:
        typer.echo(
            f"{file.name} → {name}: {entries} new entries; " + ", ".join(f"{n} {f}" for f, n in sorted(fates.items()))
        )
        for row in refused:
            typer.echo(
                f"error: {name} {row['stream']} {row['source_id']}: {row['reason']} - at {row['path']}", err=True
            )
        if closed:
            typer.echo(f"error: {closed}", err=True)
    return 1 if refused or not checked.is_open else 0


# reports ---------------------------------------------------------------------------------------------------------------


def balance_rows(runtime: Runtime, entity: str | None, through: date | None, by_role: bool) -> list[dict[str, Any]]:
    """The trial balance as plain rows; amounts in major units as decimal text, debit positive."""
    from dataclasses import asdict

    from ledger_pipeline.reports import trial_balance

    with runtime.database.connect("reader") as connection:
        rows = trial_balance.of_entities(connection, entity=entity, through=through, by_role=by_role)
    return [
        asdict(row)
        | {
            "amount": str(from_minor(row.amount_minor, row.currency)),
            "base": str(from_minor(row.base_minor, runtime.config.entities[row.entity].base_currency)),
        }
        for row in rows
    ]


def print_balances(runtime: Runtime, rows: Sequence[dict[str, Any]]) -> None:
    """One table per entity, debits and credits in the base currency, sums below."""
    for name, entity in runtime.config.entities.items():
        own = [row for row in rows if row["entity"] == name]
        if not own:
            continue
        table = new_table(f"Trial balance: {entity.name} ({entity.base_currency})")
        table.add_column("account", no_wrap=True)
        table.add_column("name")
        for column in ("currency", "balance", "debit", "credit"):
            table.add_column(column, justify="right")
        for row in own:
            base = from_minor(abs(row["base_minor"]), entity.base_currency)
            label = f"{row['name']} ({row['role']})" if row["role"] else row["name"]
            debit, credit = (f"{base:,}", "") if row["base_minor"] >= 0 else ("", f"{base:,}")
            table.add_row(
                row["account"],
                label,
                row["currency"],
                f"{from_minor(row['amount_minor'], row['currency']):,}",
                debit,
                credit,
            )
        debits = sum(r["base_minor"] for r in own if r["base_minor"] > 0)
        credits_ = -sum(r["base_minor"] for r in own if r["base_minor"] < 0)
        table.add_section()
        table.add_row(
            "",
            "total",
            entity.base_currency,
            "",
            f"{from_minor(debits, entity.base_currency):,}",
            f"{from_minor(credits_, entity.base_currency):,}",
        )
        console.print(table)
    if not rows:
        typer.echo("nothing is posted")


def fate_rows(runtime: Runtime, first: date | None, last: date | None, name: str | None) -> list[dict[str, Any]]:
    """Fates by stream and control currency as plain rows; `control` is decimal text in major units."""
    from dataclasses import asdict

    from ledger_pipeline.reports.fates import of_days

    with runtime.database.connect("reader") as connection:
        found = of_days(connection, first, last)
    return [
        asdict(f) | {"control": None if f.control is None else format(f.control, "f")}
        for f in found
        if name in (None, f.connection)
    ]


def print_fates(rows: Sequence[dict[str, Any]]) -> None:
    """One line per stream, fate and currency; the sums of a connection that counts in one currency below."""
    table = new_table("What became of every record")
    for column in ("connection", "stream", "fate"):
        table.add_column(column, no_wrap=True)
    for column in ("records", "rows", "money"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        money = "" if row["control"] is None else f"{Decimal(row['control']):,f} {row['currency']}"
        table.add_row(row["connection"], row["stream"], row["fate"], f"{row['records']:,}", f"{row['units']:,}", money)
    table.add_section()
    sums: Counter[str] = Counter()
    for row in rows:
        if row["control"] is not None:
            sums[row["currency"]] += Decimal(row["control"])  # type: ignore[assignment]
    total = " ".join(f"{amount:,f} {currency}" for currency, amount in sorted(sums.items())) if len(sums) == 1 else ""
    table.add_row("all", "", "", f"{sum(r['records'] for r in rows):,}", f"{sum(r['units'] for r in rows):,}", total)
    console.print(table)


def print_trace(found: dict[str, Any]) -> None:
    """Versions, then entries with their lines, then matches, then the newest payload."""
    for version in found["versions"]:
        typer.echo(
            f"raw {version['raw_id']}  {version['connection']}/{version['stream']} {version['source_id']}  pulled for {version['sync_date']}"
            f"  run {version['run_id']}\n  sha256 {version['content_hash']}  fate: {version['fate'] or 'undecided'}"
            + (f" ({version['reason']})" if version["reason"] else "")
        )
        for row in version["quarantine"]:
            typer.echo(f"  quarantined at {row['stage']}: {row['record']} {row['path']}: {row['reason']}")
    for entry in found["entries"]:
        corrected = f" of entry {entry['corrects_entry_id']}" if entry["corrects_entry_id"] else ""
        typer.echo(
            f"\nentry {entry['entry_id']}  {entry['entity']}  {entry['record']} {entry['source_id']}  {entry['kind']}{corrected}  posted on {entry['posted_on']}\n"
            f"  rule {entry['rule']} v{entry['rule_version']}  mapping {entry['mapping_version']}  from raw {entry['raw_id']}  "
            f"batch {entry['batch_id']}  run {entry['run_id']}"
        )
        for line in entry["lines"]:
            side = "Dr" if line["amount_minor"] > 0 or (line["amount_minor"] == 0 and line["base_minor"] > 0) else "Cr"
            typer.echo(
                f"  {side} {line['account']} {line['role']:<40} {from_minor(abs(line['amount_minor']), line['currency']):>14,} {line['currency']}"
            )
    for one in found["matches"]:
        typer.echo(
            f"\n{'match' if one['state'] == 'matched' else 'suggestion'} {one['match_id']}  {one['role']} {one['currency']}  "
            f"{one['kind']}, score {one['score']}, decided by {one['decided_by']}\n"
            f"  {'; '.join(one['reasons'])}\n  with {', '.join(one['others'] or ())}"
        )
    newest = next((v for v in reversed(found["versions"]) if v.get("payload") is not None), None)
    if newest:
        typer.echo(f"\npayload of raw {newest['raw_id']}:\n{json.dumps(newest['payload'], indent=2)}")


def quarantined(runtime: Runtime, name: str | None = None) -> list[dict[str, Any]]:
    """What stands in quarantine, newest day first."""
    with runtime.database.connect("reader") as connection:
        cursor = connection.execute(
            "SELECT connection, sync_date, stream, source_id, stage, record, path, reason FROM ops.quarantine "
            "WHERE %(name)s::text IS NULL OR connection = %(name)s ORDER BY sync_date DESC, connection, quarantine_id",
            {"name": name},
        )
        names = [column.name for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor]


def prove(runtime: Runtime, entity: str | None) -> dict[str, Any]:
    """What `verify` recomputed and found, as plain data."""
    from dataclasses import asdict

    from ledger_pipeline.store.proof import verify

    names = [name for name, connection in runtime.config.connections.items() if connection.entity == entity]
    return asdict(verify(runtime.database, entity=entity, connections=names))


def print_proof(proof: dict[str, Any]) -> None:
    """Findings on stderr, one line each; then what was proven, and the heads that are worth noting elsewhere."""
    for found in proof["findings"]:
        typer.echo(f"error: {found['table']} {found['id']}: {found['what']}", err=True)
    for head in proof["heads"]:
        typer.echo(f"{head['entity']}: {head['chain_no']} batches, the last is {head['batch_id']}, hash {head['hash']}")
        typer.echo(
            f"{head['entity']}: what stands, whatever the order in which it was booked: {proof['standing'][head['entity']]}"
        )
    for head in proof["period_heads"]:
        typer.echo(f"{head['entity']}: {head['event_no']} period events, the last has hash {head['hash']}")
    typer.echo(
        f"{proof['batches']:,} batches, {proof['entries']:,} entries, {proof['lines']:,} lines and {proof['payloads']:,} payloads recomputed; "
        f"{proof['closed']:,} closed months; {proof['pending']:,} payloads pending; {proof['count']:,} findings"
    )


def write_journal(runtime: Runtime, form: Format, entity: str | None, output: Path | None) -> None:
    """The journal of one snapshot into a file, or to standard output."""
    from ledger_pipeline.reports.export import journal

    bases = {name: of.base_currency for name, of in runtime.config.entities.items()}
    with runtime.database.connect("reader") as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        pieces = journal(connection, form, bases, entity=entity, rates=runtime.rates(connection))
        if output is None:
            for piece in pieces:
                typer.echo(piece, nl=False)
            return
        with output.open("w", encoding="utf-8") as file:
            file.writelines(pieces)
    typer.echo(f"wrote {output}")


def check_config(file: Path | None) -> tuple[list[str], dict[str, Any]]:
    """Every mistake in the file and in the connections' options."""
    from ledger_pipeline import config as configuration
    from ledger_pipeline.orchestration import credentials
    from ledger_pipeline.orchestration.runtime import Runtime

    path = file or configuration.find()
    try:
        runtime = Runtime.from_file(path)
    except ConfigError as error:
        return error.mistakes, {"file": str(path)}
    mistakes, found = _check_connections(runtime)
    mistakes += _webhook_mistakes(runtime.config)
    return [f"{path}: {mistake}" for mistake in mistakes], {
        "file": str(path),
        "environment": credentials.environment_of(runtime.config, found),
        "entities": len(runtime.config.entities),
        "connections": len(runtime.config.connections),
    }


def _check_connections(runtime: Runtime) -> tuple[list[str], list[Sign]]:
    """Every mistake in the connections' options and secrets, each once; and what the credentials tell about their accounts."""
    from ledger_pipeline import config as configuration
    from ledger_pipeline.orchestration import credentials

    mistakes: list[str] = []
    resolved: dict[str, dict[str, Any]] = {}
    found: list[Sign] = []
    for name, connection in runtime.config.connections.items():
        try:
            resolved[name] = runtime.resolved(name)
            runtime.link(name)
        except ConfigError as error:
            mistakes += error.mistakes
        if connection.is_enabled:
            found += credentials.signs(runtime.config, name, resolved.get(name, {}))
    mistakes += [*credentials.mixed(runtime.config, found), *credentials.shared(runtime.config, resolved)]
    for key in ("database_url", "alerts.webhook_url", "rates.url"):
        try:
            configuration.resolve(attrgetter(key)(runtime.config))
        except ConfigError as error:
            mistakes += [f"{key}: {mistake}" for mistake in error.mistakes]
    return list(dict.fromkeys(mistakes)), found


def _webhook_mistakes(config: LedgerConfig) -> Iterator[str]:
    """Webhook secrets that aren't set or that the source has no use for, and what is wrong with endpoints."""
    from ledger_pipeline import config as configuration
    from ledger_pipeline import sources
    from ledger_pipeline.webhooks import deliver

    for name, connection in config.connections.items():
        webhook = sources.load(connection.source).webhook
        needs_secrets = webhook is not None and webhook.scheme.needs_secrets
        if connection.webhook_secrets and not needs_secrets:
            yield f"connections.{name}.webhook_secrets: {connection.source} takes none"
        if connection.has_webhooks and (webhook is None or (needs_secrets and not connection.webhook_secrets)):
            yield f"connections.{name}.has_webhooks: {connection.source} " + (
                "needs webhook_secrets" if needs_secrets else "sends no webhooks"
            )
        try:
            configuration.resolve(list(connection.webhook_secrets))
        except ConfigError as error:
            yield from (f"connections.{name}.webhook_secrets: {mistake}" for mistake in error.mistakes)
    try:
        deliver.endpoints(config)
    except ConfigError as error:
        yield from error.mistakes
