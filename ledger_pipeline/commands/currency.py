"""`revalue` and `rates`: the month-end currency run, and the reference rates that it uses."""

from __future__ import annotations

import json
import uuid
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Annotated

import typer

ConfigFile = Annotated[Path | None, typer.Option("--config", help="ledger.yaml to use (default: that of this folder).")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]


def revalue(
    entity: Annotated[str, typer.Option(help="Whose books.")],
    month: Annotated[str, typer.Option(help="YYYY-MM; earlier months that lack it are done, too.")],
    by: Annotated[str, typer.Option(help="Who asks for it; it is recorded.")],
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Book realised currency gains, the month-end revaluation and its reversal; again, it books only what differs."""
    from ledger_pipeline.config import ConfigError
    from ledger_pipeline.model.money import from_minor
    from ledger_pipeline.orchestration import currency
    from ledger_pipeline.orchestration.runtime import Runtime

    runtime = Runtime.from_file(config)
    if entity not in runtime.config.entities:
        raise ConfigError([f"unknown entity {entity!r}; known are {', '.join(runtime.config.entities)}"])
    try:
        first = date.fromisoformat(f"{month}-01")
    except ValueError:
        raise typer.BadParameter(f"{month!r} is no month; write YYYY-MM") from None
    ran = currency.run(runtime, entity, first, by, f"revalue-{uuid.uuid4()}")
    if as_json:
        typer.echo(json.dumps(asdict(ran), indent=2, default=sorted_or_text))
    else:
        base = runtime.config.entities[entity].base_currency
        done = ran.posted
        typer.echo(
            f"{entity} {month}: {done.originals} new entries, {done.corrected} corrected, {done.unchanged} stood"
        )
        typer.echo(
            f"realised {from_minor(ran.realised_minor, base):,} {base}, unrealised {from_minor(ran.unrealised_minor, base):,} {base}"
        )
        for one in ran.not_revalued:
            typer.echo(f"not revalued: {one}", err=True)
    raise typer.Exit(1 if ran.not_revalued else 0)


def sorted_or_text(value: object) -> object:
    """Sets as sorted lists, everything else as text."""
    return sorted(value) if isinstance(value, set) else str(value)


def refresh(config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Fetch newer reference rates from rates.url; rates that are known never change."""
    from ledger_pipeline.orchestration.runtime import Runtime

    runtime = Runtime.from_file(config)
    new, differing = runtime.refresh_rates()
    if as_json:
        typer.echo(json.dumps({"new": new, "differing": differing}, indent=2))
    else:
        typer.echo(f"{new:,} new rates")
        for sentence in differing:
            typer.echo(f"differs: {sentence}", err=True)
    raise typer.Exit(1 if differing else 0)
