"""`ledger-pipeline health`, `heartbeat` and `log`: how everything is, who is dead, and what every run did."""

from __future__ import annotations

import sys
from dataclasses import asdict
from datetime import timedelta
from typing import Annotated, Any

import typer

from ledger_pipeline.commands.common import AsJson, ConfigFile, a_day, runtime_of, show


def health(config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Every connection with its key, clock, quota and last record; database, disk, daemons, queue. Ends with 1 when something fails."""
    from ledger_pipeline.operations import health as work

    findings = work.look(runtime_of(config))
    state = work.worst(findings)

    def print_it() -> None:
        width = max(len(one.subject) for one in findings)
        for one in findings:
            typer.echo(f"{one.state:<7} {one.subject:<{width}}  {one.sentence}")

    show(as_json, {"state": state, "findings": [asdict(one) for one in findings]}, print_it)
    raise typer.Exit(1 if state == "fail" else 0)


def heartbeat(
    alert: Annotated[bool, typer.Option(help="Tell the channels of ledger.yaml what is dead.")] = True,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """For cron, from outside Dagster: PostgreSQL, daemons, webserver, code location, disk. Ends with 1 and alerts when something is dead."""
    from ledger_pipeline.operations import heartbeat as work

    runtime, now = runtime_of(config), work.now()
    found = list(work.beats(runtime, now))

    def print_it() -> None:
        for beat in found:
            word = {True: "alive", False: "dead", None: "unknown"}[beat.is_alive]
            typer.echo(f"{word:<7} {beat.name:<14} {beat.sentence}")

    show(as_json, [asdict(beat) for beat in found], print_it)
    failures = work.tell(runtime, found, now) if alert else []
    for line in failures:
        print(f"error: {line}", file=sys.stderr)
    raise typer.Exit(1 if failures or any(beat.is_alive is False for beat in found) else 0)


def log(
    connection: Annotated[str, typer.Option(help="Only this connection.")] = "",
    first: Annotated[str, typer.Option("--from", help="First sync date (default: 7 days before --to).")] = "",
    last: Annotated[str, typer.Option("--to", help="Last sync date (default: the newest).")] = "",
    run: Annotated[str, typer.Option(help="Only this run; the first characters of its id do.")] = "",
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """What every run did: start, end, records, calls, retries, errors, and what staging, checking and posting made of the records."""
    from ledger_pipeline.store import sync_log

    runtime = runtime_of(config, connection=connection)
    with runtime.database.connect("reader") as connected:
        end = a_day(last) if last else None
        if end is None and not run:
            row = connected.execute("SELECT max(sync_date) FROM raw.attempt").fetchone()
            end = row[0] if row else None
        begin = a_day(first) if first else end - timedelta(days=6) if end and not run else None
        rows = sync_log.read(connected, name=connection or None, first=begin, last=end, run_id=run or None)
    show(as_json, rows, lambda: _print(rows))


def _print(rows: list[dict[str, Any]]) -> None:
    """A block per run, a line per stream and step."""
    if not rows:
        typer.echo("no run has done anything there")
    by_run: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_run.setdefault(row["run_id"], []).append(row)
    for run_id, own in by_run.items():
        ended = [row["ended_at"] for row in own if row["ended_at"]]
        until = f" to {max(ended):%H:%M:%S}" if ended else ""
        typer.echo(f"run {run_id}  {min(row['started_at'] for row in own):%Y-%m-%d %H:%M:%S}{until} UTC")
        for row in own:
            seconds = f"{(row['ended_at'] - row['started_at']).total_seconds():.1f} s" if row["ended_at"] else "–"
            what = f"{row['step']} {row['stream']}".strip()
            typer.echo(
                f"  {row['connection']} {row['sync_date']}  {what:<28} {row['outcome']:<7} {seconds:>7}  {_told(row)}"
            )


def _told(row: dict[str, Any]) -> str:
    if row["error"]:
        return f"{row['cause']}: {row['error']}"[:300]
    if row["step"] == "pull":
        if row["ended_at"] is None:
            return ""
        return f"{row['records']:,} records, {row['landed']:,} new, {row['calls']:,} calls, {row['retries']:,} retries"
    details = row["details"]
    if row["step"] == "stage":
        rows = ", ".join(f"{count:,} {name}" for name, count in details.get("rows", {}).items() if count)
        return f"{rows or 'nothing'}; {details.get('refused', 0)} refused; {details.get('mapping', '')}"
    if row["step"] == "check":
        return f"{details.get('quarantined', 0)} quarantined; gate {'closed' if details.get('closed_by') else 'open'}"
    counts = [f"{details.get(key, 0):,} {word}" for key, word in _POSTED if details.get(key)]
    return ", ".join(counts) or "nothing new"


_POSTED = (
    ("originals", "new entries"),
    ("corrected", "corrected"),
    ("reversed", "reversed"),
    ("unchanged", "already posted"),
)
