"""`ledger-pipeline period …`: which months are open, closing or closed; check, close and reopen them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ledger_pipeline.commands.common import AsJson, ConfigFile, a_month, one_line, runtime_of, show

if TYPE_CHECKING:
    from ledger_pipeline.orchestration.closing_checks import Check
    from ledger_pipeline.orchestration.runtime import Runtime
    from ledger_pipeline.store.periods import Event

period = typer.Typer(help="Months of an entity: open, closing, closed.", no_args_is_help=True)

Entity = Annotated[str, typer.Option(help="The entity, as in ledger.yaml.")]
AnyEntity = Annotated[str, typer.Option(help="Only this entity.")]
Month = Annotated[str, typer.Option(help="YYYY-MM.")]
By = Annotated[str, typer.Option(help="Who does it: a person's name; it is recorded.")]


@period.command("list")
def list_(entity: AnyEntity = "", config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Every month that has entries or was ever closed, with its state."""
    runtime = runtime_of(config, entity=entity)
    names = [entity] if entity else list(runtime.config.entities)
    rows = [row for name in names for row in _months(runtime, name)]
    show(as_json, rows, lambda: _print_months(rows))


@period.command()
def check(entity: Entity, month: Month, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """What stands in the way of closing a month; changes nothing, ends with 1 when a check fails."""
    from ledger_pipeline.orchestration import closing

    first = a_month(month)
    runtime = runtime_of(config, entity=entity)
    checks = closing.check(runtime, entity, first)
    data = {"entity": entity, "month": month, "state": _state(runtime, entity, first), "checks": _plain(checks)}
    show(as_json, data, lambda: _print_checks(f"{entity} {month} is {data['state']}", checks))
    raise typer.Exit(0 if all(one.holds for one in checks) else 1)


@period.command()
def close(
    entity: Entity,
    month: Month,
    by: By,
    accept: Annotated[
        list[str] | None, typer.Option(help="CHECK=REASON: take this failing check as it is (may be repeated).")
    ] = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Book the month's currency gains, check it and close it; with a failing check it stays in closing and the command ends with 1."""
    from ledger_pipeline.orchestration import closing

    first, accepted = a_month(month), _accepted(accept or [])
    runtime = runtime_of(config, entity=entity)
    data: dict[str, Any] = {"entity": entity, "month": month}
    with one_line():
        try:
            done = closing.close(runtime, entity, first, by, accepted)
        except closing.NotClosed as error:
            checks = error.checks
            data |= {"state": "closing", "failing": [one.name for one in error.failing], "checks": _plain(checks)}
            show(as_json, data, lambda: _print_checks(f"{entity} {month} stays in closing", checks))
            raise typer.Exit(1) from None
    data |= {"state": "closed", "event": _event(done.event), "checks": _plain(done.checks)}
    show(as_json, data, lambda: _print_closed(done.event, done.checks))


@period.command()
def begin(entity: Entity, month: Month, by: By, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Begin to close a month: the nights post past it, people may still correct it."""
    from ledger_pipeline.orchestration import closing

    first = a_month(month)
    runtime = runtime_of(config, entity=entity)
    with one_line():
        event = closing.begin(runtime, entity, first, by)
    show(as_json, _event(event), lambda: typer.echo(f"{entity} {month} is closing"))


@period.command()
def reopen(
    entity: Entity,
    month: Month,
    by: By,
    reason: Annotated[str, typer.Option(help="Why; it is recorded.")],
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Open a closing or closed month again."""
    from ledger_pipeline.orchestration import closing

    first = a_month(month)
    runtime = runtime_of(config, entity=entity)
    with one_line():
        event = closing.reopen(runtime, entity, first, by, reason)
    show(as_json, _event(event), lambda: typer.echo(f"{entity} {month} is open"))


@period.command()
def history(
    entity: AnyEntity = "",
    month: Annotated[str, typer.Option(help="Only this month, YYYY-MM.")] = "",
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Who began, closed and reopened which month, when and why."""
    from ledger_pipeline.store import periods

    first = a_month(month) if month else None
    with runtime_of(config, entity=entity).database.connect("reader") as connection:
        events = periods.history(connection, entity or None, first)
    show(as_json, [_event(event) for event in events], lambda: _print_history(events))


# reading -----------------------------------------------------------------------------------------------------------------


def _accepted(given: Sequence[str]) -> dict[str, str]:
    from ledger_pipeline.orchestration.closing_checks import DOCS

    found: dict[str, str] = {}
    for text in given:
        name, _, reason = (part.strip() for part in text.partition("="))
        if name not in DOCS:
            raise typer.BadParameter(f"{name!r} is no check; known are {', '.join(DOCS)}")
        if not reason:
            raise typer.BadParameter(f"say why: --accept '{name}=the reason'")
        found[name] = reason
    return found


def _state(runtime: Runtime, entity: str, month: date) -> str:
    from ledger_pipeline.store import periods

    with runtime.database.connect("reader") as connection:
        return periods.state(connection, entity, month)


def _months(runtime: Runtime, entity: str) -> list[dict[str, Any]]:
    from ledger_pipeline.store import periods

    with runtime.database.connect("reader") as connection:
        counted = periods.entries_by_month(connection, entity)
        known = {found.month: found for found in periods.all_of(connection, entity)}
    rows = []
    for month in sorted(counted.keys() | known.keys()):
        found = known.get(month)
        rows.append(
            {
                "entity": entity, "month": f"{month:%Y-%m}", "state": found.state if found else "open",
                "entries": counted.get(month, 0), "since": found.changed_at if found else None,
                "by": found.changed_by if found else "",
            }
        )  # fmt: skip
    return rows


# printing ----------------------------------------------------------------------------------------------------------------


def _event(event: Event) -> dict[str, Any]:
    return {
        "entity": event.entity, "event_no": event.event_no, "month": f"{event.month:%Y-%m}", "event": event.event,
        "happened_at": event.happened_at.isoformat(), "by": event.by_whom, "reason": event.reason,
        "entries": event.entry_count, "lines": event.line_count,
        "content_hash": event.content_hash.hex() if event.content_hash else None,
        "checks": list(event.checks), "previous_hash": event.previous_hash.hex(), "hash": event.hash.hex(),
    }  # fmt: skip


def _plain(checks: Sequence[Check]) -> list[dict[str, Any]]:
    from dataclasses import asdict

    return [asdict(one) for one in checks]


def _print_months(rows: Sequence[dict[str, Any]]) -> None:
    from rich.text import Text

    from ledger_pipeline.cli_support import console, new_table

    made = new_table("Periods", gap=1)
    for name in ("entity", "month", "state"):
        made.add_column(name, no_wrap=True)
    made.add_column("entries", justify="right", no_wrap=True)
    made.add_column("since", no_wrap=True)
    made.add_column("by")
    for row in rows:
        since = f"{row['since']:%Y-%m-%d %H:%M}" if row["since"] else ""
        made.add_row(row["entity"], row["month"], row["state"], f"{row['entries']:,}", since, Text(row["by"]))
    console.print(made)


def _print_checks(title: str, checks: Sequence[Check]) -> None:
    from rich.text import Text

    from ledger_pipeline.cli_support import console, new_table

    made = new_table(title, gap=1)
    made.add_column("check", no_wrap=True)
    made.add_column("", no_wrap=True)
    made.add_column("found")
    for one in checks:
        said = "holds" if one.holds else "accepted" if one.accepted else "fails"
        found = one.found + (f" (accepted by {one.accepted_by}: {one.accepted})" if said == "accepted" else "")
        made.add_row(one.name, said, Text(found))
    console.print(made)


def _print_closed(event: Event, checks: Sequence[Check]) -> None:
    content = event.content_hash.hex() if event.content_hash else ""
    _print_checks(f"{event.entity} {event.month:%Y-%m} is closed", checks)
    typer.echo(f"{event.entry_count:,} entries, {event.line_count:,} lines, closed by {event.by_whom}")
    typer.echo(f"sha256 {content}")


def _print_history(events: Sequence[Event]) -> None:
    for event in events:
        closed = f"  {event.entry_count:,} entries, {event.line_count:,} lines" if event.event == "closed" else ""
        typer.echo(
            f"{event.entity} {event.month:%Y-%m} {event.event} on {event.happened_at:%Y-%m-%d %H:%M} by {event.by_whom}{closed}"
            + (f"\n    reason: {event.reason}" if event.reason else "")
            + (f"\n    sha256 {event.content_hash.hex()}" if event.content_hash else "")
        )
        for one in event.checks:
            if not one["holds"]:
                typer.echo(f"    {one['name']}: {one['found']} (accepted by {one['accepted_by']}: {one['accepted']})")
    typer.echo(f"{len(events)} events")
