"""What commands share: their options, days and months as people write them, JSON or tables, refusals in one line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from ledger_pipeline.orchestration.runtime import Runtime

ConfigFile = Annotated[Path | None, typer.Option("--config", help="ledger.yaml to use (default: that of this folder).")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]


def a_day(text: str) -> date:
    """`2026-10-05`; anything else is wrong use."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no date; write YYYY-MM-DD") from None


def a_month(text: str) -> date:
    """`2026-10`, as its first day; anything else is wrong use."""
    try:
        return date.fromisoformat(f"{text}-01")
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no month; write YYYY-MM") from None


def runtime_of(config: Path | None, *, entity: str = "", connection: str = "") -> Runtime:
    """The configuration at work; an entity that it doesn't have ends with 1, a connection raises ConfigError."""
    from ledger_pipeline.orchestration.runtime import Runtime

    runtime = Runtime.from_file(config)
    if entity and entity not in runtime.config.entities:
        fail(f"unknown entity {entity!r}; known are {', '.join(runtime.config.entities)}")
    if connection:
        runtime.config.connection(connection)
    return runtime


def show(as_json: bool, data: Any, print_it: Callable[[], None]) -> None:
    """The data as JSON, or what `print_it` prints."""
    if as_json:
        typer.echo(json.dumps(data, indent=2, default=_plain, ensure_ascii=False))
    else:
        print_it()


def _plain(value: object) -> object:
    """Sets as sorted lists, everything else as text."""
    return sorted(value) if isinstance(value, set | frozenset) else str(value)


@contextmanager
def one_line() -> Iterator[None]:
    """What is refused is one line on stderr, without a traceback, and ends with 1."""
    from ledger_pipeline.reconcile.matches import DecisionRefused
    from ledger_pipeline.store.periods import PeriodRefused
    from ledger_pipeline.store.quarantine import QuarantineRefused

    try:
        yield
    except (DecisionRefused, PeriodRefused, QuarantineRefused) as error:
        fail(str(error))


def fail(line: str) -> NoReturn:
    """Say what is wrong and end with 1."""
    typer.echo(f"error: {line}", err=True)
    raise typer.Exit(1)
