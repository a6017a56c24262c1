"""Reconciliation over a configuration: match an entity's accounts, move bank lines to where they belong, say what is open."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

from ledger_pipeline.orchestration import steps
from ledger_pipeline.orchestration.closing_checks import feeding
from ledger_pipeline.orchestration.runtime import Runtime
from ledger_pipeline.reconcile import matches, open_items, payouts, placing
from ledger_pipeline.reconcile.calendar import Calendar
from ledger_pipeline.reconcile.engine import Policy
from ledger_pipeline.reconcile.matches import Kept, Ran
from ledger_pipeline.reconcile.open_items import CAUSES, OpenItem
from ledger_pipeline.reconcile.payouts import Alert, Explained
from ledger_pipeline.store import events, posting
from ledger_pipeline.store.database import Connection
from ledger_pipeline.store.posting import Target

AGES = ((1, "0–1"), (3, "2–3"), (7, "4–7"), (30, "8–30"), (None, "over 30"))
"""Classes of age in calendar days: the last day of each, and its name."""


@dataclass(frozen=True, slots=True)
class Position:
    """An entity's clearing accounts at the end of a day. `differences` are accounts whose open items miss the balance: none, ever."""

    entity: str
    base_currency: str
    through: date
    items: tuple[OpenItem, ...]
    differences: tuple[str, ...]
    payouts: tuple[Explained, ...]
    alerts: tuple[Alert, ...]

    def by_cause(self) -> Mapping[str, int]:
        """What is open by cause, in base minor units, debits and credits both counted positive; causes in their order, zeros left out."""
        sums: dict[str, int] = defaultdict(int)
        for item in self.items:
            sums[item.cause] += abs(item.base_minor)
        return {cause: sums[cause] for cause in CAUSES if sums[cause]}

    def by_age(self) -> Mapping[str, int]:
        """The same by class of age."""
        sums = dict.fromkeys((name for _, name in AGES), 0)
        for item in self.items:
            sums[age_class(item.age_days)] += abs(item.base_minor)
        return sums


def age_class(days: int) -> str:
    """The name of the class that an age belongs to."""
    return next(name for last, name in AGES if last is None or days <= last)


def policy_of(runtime: Runtime, entity: str) -> Policy:
    """The entity's limits; its country says which bank holidays count."""
    return Policy(calendar=Calendar(runtime.config.entities[entity].country))


def run(runtime: Runtime, entities: Iterable[str], run_id: str) -> list[Ran]:
    """Match what stands, and move bank lines to where they belong; one transaction per entity. What is matched already stays."""
    done = []
    for entity in entities:
        with steps.uncollected(), runtime.database.connect() as connection:
            at = runtime.clock()
            ran = matches.run(connection, entity, policy_of(runtime, entity), run_id, at)
            ran.placed = _place(runtime, connection, entity, run_id)
            _tell(runtime, connection, run_id, at)
            done.append(ran)
    return done


def _place(runtime: Runtime, connection: Connection, entity: str, run_id: str, *, is_adjusting: bool = False) -> int:
    """As `placing.apply`; the batches belong to the connection's last sync date."""
    chart = runtime.config.entities[entity].chart
    posting.ensure_accounts(connection, entity, chart.accounts.values())

    def target_of(name: str) -> Target:
        row = connection.execute(
            "SELECT max(sync_date) FROM ledger.batch WHERE (entity, connection) = (%s, %s)", (entity, name)
        ).fetchone()
        assert row is not None  # noqa: S101 - an aggregate has a row
        link = runtime.link(name)
        return steps.target_of(runtime, link, entity, row[0], run_id, is_adjusting=is_adjusting)

    done = placing.apply(connection, entity, target_of)
    events.entries_posted(connection, runtime.config.told_of("entry.posted"), done.batch_ids, runtime.clock())
    return done.corrected


def _tell(runtime: Runtime, connection: Connection, run_id: str, at: datetime, match_id: int | None = None) -> None:
    for type_ in events.SETTLED:
        events.settled(connection, type_, runtime.config.told_of(type_), run_id, at, match_id)


def position(runtime: Runtime, entity: str, through: date) -> Position:
    """What is open at the end of a day, read in one snapshot."""
    config = runtime.config
    with runtime.database.connect("reader") as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        items = open_items.of_entity(connection, entity, through, policy_of(runtime, entity))
        differing = open_items.differences(connection, entity, items, through)
        explained = payouts.of_connections(connection, feeding(config, entity), through)
    return Position(
        entity,
        config.entities[entity].base_currency,
        through,
        tuple(items),
        tuple(differing),
        tuple(explained),
        tuple(payouts.alerts(entity, explained, items)),
    )


def last_posted(runtime: Runtime, entities: Sequence[str]) -> date | None:
    """The last sync date from which something was posted into these books."""
    with runtime.database.connect("reader") as connection:
        row = connection.execute(
            "SELECT max(sync_date) FROM ledger.batch WHERE entity = ANY(%s)", (list(entities),)
        ).fetchone()
    return row[0] if row else None


def suggestions(runtime: Runtime, entity: str | None) -> list[Kept]:
    """What waits for a person."""
    with runtime.database.connect("reader") as connection:
        return matches.live(connection, entity, "suggested")


def accept(runtime: Runtime, match_id: int, by: str, reason: str, run_id: str) -> Kept:
    """As `matches.accept`, in a transaction of its own; its bank lines move to where it says that they belong."""
    with runtime.database.connect() as connection:
        at = runtime.clock()
        done = matches.accept(connection, match_id, by, reason, run_id, at)
        _place(runtime, connection, done.entity, run_id, is_adjusting=True)
        _tell(runtime, connection, run_id, at, match_id)
        return done


def reject(runtime: Runtime, match_id: int, by: str, reason: str, run_id: str) -> Kept:
    """As `matches.reject`, in a transaction of its own; bank lines that the match had moved go back."""
    with runtime.database.connect() as connection:
        done = matches.reject(connection, match_id, by, reason, run_id, runtime.clock())
        _place(runtime, connection, done.entity, run_id, is_adjusting=True)
        return done
