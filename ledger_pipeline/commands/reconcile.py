"""`open-items` and `reconcile …`: what stands on the clearing accounts and why; match it, and decide what the engine only suggests."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ledger_pipeline.commands.common import AsJson, ConfigFile, a_day, fail, one_line, runtime_of, show

if TYPE_CHECKING:
    from ledger_pipeline.orchestration.reconciling import Position
    from ledger_pipeline.reconcile.matches import Kept, Ran
    from ledger_pipeline.reconcile.open_items import OpenItem
    from ledger_pipeline.reconcile.payouts import Alert

reconcile = typer.Typer(help="Match what stands on the clearing accounts; decide suggestions.", no_args_is_help=True)

AnyEntity = Annotated[str, typer.Option(help="Only this entity.")]
MatchId = Annotated[int, typer.Argument(help="Id of the match, as `reconcile suggestions` shows it.")]
By = Annotated[str, typer.Option(help="Who decides: a person's name; it is recorded.")]
Why = Annotated[str, typer.Option("--reason", help="Why; it is recorded.")]


def open_items(
    entity: AnyEntity = "",
    day: Annotated[str, typer.Option("--date", help="At the end of this day (default: the last sync date).")] = "",
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """What is open on the clearing accounts, each item with its cause; 1 when something doesn't sum up or a payout needs a look."""
    from ledger_pipeline.orchestration import reconciling

    runtime = runtime_of(config, entity=entity)
    names = [entity] if entity else list(runtime.config.entities)
    through = a_day(day) if day else reconciling.last_posted(runtime, names)
    if through is None:
        fail("nothing is posted yet")
    found = [reconciling.position(runtime, name, through) for name in names]
    show(as_json, [_plain(one) for one in found], lambda: _print_positions(found))
    raise typer.Exit(1 if any(one.differences or one.alerts for one in found) else 0)


@reconcile.command()
def run(entity: AnyEntity = "", config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Match what stands now, and move bank lines to where they belong; a second run changes nothing."""
    from ledger_pipeline.orchestration import reconciling

    runtime = runtime_of(config, entity=entity)
    names = [entity] if entity else list(runtime.config.entities)
    done = reconciling.run(runtime, names, f"reconcile-{uuid.uuid4()}")
    show(as_json, [asdict(one) for one in done], lambda: _print_ran(done))


@reconcile.command()
def suggestions(entity: AnyEntity = "", config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Matches that the engine isn't sure of, with its reasons; `accept` or `reject` them."""
    from ledger_pipeline.orchestration import reconciling

    runtime = runtime_of(config, entity=entity)
    found = reconciling.suggestions(runtime, entity or None)
    show(as_json, [asdict(one) for one in found], lambda: _print_matches(found))


@reconcile.command()
def accept(match_id: MatchId, by: By, reason: Why = "", config: ConfigFile = None, as_json: AsJson = False) -> None:
    """A suggestion is right: it counts from now on. 1 when it can't be accepted."""
    from ledger_pipeline.orchestration import reconciling

    runtime = runtime_of(config)
    with one_line():
        done = reconciling.accept(runtime, match_id, by, reason, f"accept-{uuid.uuid4()}")
    show(as_json, asdict(done), lambda: typer.echo(f"match {match_id} counts, accepted by {by}"))


@reconcile.command()
def reject(match_id: MatchId, by: By, reason: Why = "", config: ConfigFile = None, as_json: AsJson = False) -> None:
    """These records don't belong together: a suggestion isn't made again, a match is undone. 1 when there is no such match."""
    from ledger_pipeline.orchestration import reconciling

    runtime = runtime_of(config)
    with one_line():
        done = reconciling.reject(runtime, match_id, by, reason, f"reject-{uuid.uuid4()}")
    show(as_json, asdict(done), lambda: typer.echo(f"match {match_id} is rejected by {by}; it won't be made again"))


# output --------------------------------------------------------------------------------------------------------------------


def _plain(one: Position) -> dict[str, Any]:
    return {
        "entity": one.entity,
        "base_currency": one.base_currency,
        "through": one.through,
        "open_items": [asdict(item) for item in one.items],
        "by_cause_base_minor": dict(one.by_cause()),
        "by_age_base_minor": dict(one.by_age()),
        "differences": list(one.differences),
        "alerts": [asdict(alert) for alert in one.alerts],
        "payouts": [asdict(paid) | {"note": paid.note} for paid in one.payouts],
    }


def _print_positions(found: Sequence[Position]) -> None:
    from ledger_pipeline.cli_support import console

    for one in found:
        if one.items:
            console.print(_items_table(f"{one.entity}: open at the end of {one.through}", one.items, one.base_currency))
            for item in one.items:
                if item.cause not in ("timing", "fx"):
                    typer.echo(_line(item))
        else:
            typer.echo(f"{one.entity}: nothing is open at the end of {one.through}")
        for text in one.differences:
            typer.echo(f"DOESN'T SUM UP {text}", err=True)
        for alert in one.alerts:
            typer.echo(_alert(alert))


def _line(item: OpenItem) -> str:
    """One that isn't a mere delay or a matter of rates."""
    from ledger_pipeline.model.money import format_minor

    return f"{item.since}  {item.cause:<15} {format_minor(item.amount_minor, item.currency):>16}  {item.what}"


def _alert(alert: Alert) -> str:
    from ledger_pipeline.model.money import format_minor

    return f"{alert.what}: {format_minor(alert.amount_minor, alert.currency)} {alert.id}: {alert.note}"


def _items_table(title: str, items: Sequence[OpenItem], base: str) -> Any:
    """One line per account, currency and cause; `days` is the oldest one's age."""
    from rich.markup import escape

    from ledger_pipeline.cli_support import new_table
    from ledger_pipeline.model.money import from_minor

    table = new_table(title)
    table.add_column("account")
    table.add_column("cause", no_wrap=True)
    for column in ("items", "amount", f"in {base}", "days"):
        table.add_column(column, justify="right", no_wrap=True)
    groups: dict[tuple[str, str, str], list[OpenItem]] = {}
    for item in items:
        groups.setdefault((item.role, item.currency, item.cause), []).append(item)
    for (role, currency, cause), of in groups.items():
        table.add_row(
            escape(role),
            cause,
            f"{len(of):,}",
            f"{from_minor(sum(i.amount_minor for i in of), currency):,} {currency}",
            f"{from_minor(sum(i.base_minor for i in of), base):,}",
            str(max(i.age_days for i in of)),
        )
    return table


def _print_ran(done: Sequence[Ran]) -> None:
    for one in done:
        said = (
            f"{one.matched:,} matched, {one.suggested:,} suggested, {one.joined:,} joined, {one.dissolved:,} dissolved"
            + (f", {one.placed:,} bank lines moved" if one.placed else "")
        )
        typer.echo(f"{one.entity}: {said if one.is_new else 'nothing new'}; {one.open:,} records are open")


def _print_matches(found: Sequence[Kept]) -> None:
    from ledger_pipeline.model.money import format_minor

    for one in found:
        typer.echo(f"{one.match_id:>6}  {one.entity} {one.role}: {one.kind}, score {one.score}")
        for member in one.members:
            typer.echo(f"        {format_minor(member.amount_minor, one.currency):>18}  {member.id}")
        typer.echo(f"        {'; '.join(one.reasons)}")
    typer.echo(f"{len(found)} suggestions" if len(found) != 1 else "1 suggestion")
