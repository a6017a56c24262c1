"""`revalue` and `rates`: the month-end currency run, and the reference rates that it uses."""

from __future__ import annotations

import uuid
from dataclasses import asdict
from typing import Annotated

import typer

from ledger_pipeline.commands.common import AsJson, ConfigFile, a_month, runtime_of, show


def revalue(
    entity: Annotated[str, typer.Option(help="Whose books.")],
    month: Annotated[str, typer.Option(help="YYYY-MM; earlier months that lack it are done, too.")],
    by: Annotated[str, typer.Option(help="Who asks for it; it is recorded.")],
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Book realised currency gains, the month-end revaluation and its reversal; again, it books only what differs."""
    from ledger_pipeline.model.money import from_minor
    from ledger_pipeline.orchestration import currency

    first = a_month(month)
    runtime = runtime_of(config, entity=entity)
    ran = currency.run(runtime, entity, first, by, f"revalue-{uuid.uuid4()}")
    base = runtime.config.entities[entity].base_currency

    def print_it() -> None:
        done = ran.posted
        typer.echo(
            f"{entity} {month}: {done.originals} new entries, {done.corrected} corrected, {done.unchanged} stood"
        )
        realised, unrealised = (from_minor(minor, base) for minor in (ran.realised_minor, ran.unrealised_minor))
        typer.echo(f"realised {realised:,} {base}, unrealised {unrealised:,} {base}")
        for one in ran.not_revalued:
            typer.echo(f"not revalued: {one}", err=True)

    show(as_json, asdict(ran), print_it)
    raise typer.Exit(1 if ran.not_revalued else 0)


def refresh(config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Fetch newer reference rates from rates.url; rates that are known never change."""
    new, differing = runtime_of(config).refresh_rates()

    def print_it() -> None:
        typer.echo(f"{new:,} new rates")
        for sentence in differing:
            typer.echo(f"differs: {sentence}", err=True)

    show(as_json, {"new": new, "differing": differing}, print_it)
    raise typer.Exit(1 if differing else 0)
