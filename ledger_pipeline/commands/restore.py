"""`ledger-pipeline restore check`: is a restored database whole, how much of what was noted is lost, and what has to be pulled again."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ledger_pipeline.commands.common import AsJson, ConfigFile, fail, runtime_of, show

if TYPE_CHECKING:
    from ledger_pipeline.reports.restored import Compared, Resumption

restore = typer.Typer(help="After a backup was restored.", no_args_is_help=True)


@restore.command()
def check(
    noted: Annotated[
        Path, typer.Argument(help="What `ledger-pipeline verify --json` printed before.", exists=True, dir_okay=False)
    ],
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Recompute the restored books, compare their heads with noted ones, and say from where to pull again; ends with 1 when anything is lost or wrong."""
    from ledger_pipeline.cli_support import prove
    from ledger_pipeline.reports import restored

    heads = _read(noted)
    runtime = runtime_of(config)
    proof = prove(runtime, None)
    with runtime.database.connect("reader") as connection:
        compared = restored.compare(connection, heads)
        again = restored.resumptions(connection, list(runtime.config.connections))
    is_whole = not proof["count"] and all(one.is_same for one in compared)
    found = {
        "is_whole": is_whole,
        "findings": proof["count"],
        "chains": [asdict(one) | {"lost": one.lost, "newer": one.newer} for one in compared],
        "pull_from": [asdict(one) for one in again],
    }
    show(as_json, found, lambda: _print(proof, compared, again))
    raise typer.Exit(0 if is_whole else 1)


def _read(path: Path) -> dict[str, Any]:
    """The noted heads; anything else ends with 1."""
    try:
        noted = json.loads(path.read_text())
        entities = [head["entity"] for key in ("heads", "period_heads") for head in noted[key]]
    except (ValueError, KeyError, TypeError):
        fail(f"{path} doesn't hold heads; write them with `ledger-pipeline verify --json > {path.name}`")
    if not entities:
        fail(f"{path} holds no head: nothing was posted when it was written")
    return dict(noted)


def _print(proof: dict[str, Any], compared: list[Compared], again: list[Resumption]) -> None:
    """The proof, a line per chain, then what to run next."""
    from ledger_pipeline.cli_support import print_proof

    print_proof(proof)
    for one in compared:
        mark = "" if one.is_same else "error: "
        typer.echo(f"{mark}{one.entity}: {one.chain}: {_said(one)}", err=not one.is_same)
    for row in again:
        cursors = f"; goes on from its cursor: {', '.join(row.cursors)}" if row.cursors else ""
        typer.echo(
            f"{row.connection}: pulled up to {row.last_sync_date}, on {row.pulled_at:%Y-%m-%d %H:%M} UTC{cursors}"
        )
    if again:
        first = min(row.last_sync_date for row in again)
        typer.echo(
            f"next: `ledger-pipeline sync --from {first} --to <yesterday>`, then `ledger-pipeline reconcile statements` and "
            "`ledger-pipeline open-items`. Nothing may leave these books before they agree."
        )


def _said(one: Compared) -> str:
    if one.is_same:
        return f"link {one.noted} is the noted one" + (f"; {one.newer} newer" if one.newer else "")
    if one.lost:
        return f"{one.lost} of {one.noted} noted links are lost, the last one is {one.found}"
    return f"link {one.noted} is there with another hash"
