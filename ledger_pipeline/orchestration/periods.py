"""Months as assets: `books/<entity>/period` shows a month's state, checks and history, `books/<entity>/closed_period` closes it."""

from collections.abc import Iterator, Sequence
from datetime import date
from typing import Any

import dagster as dg
from pydantic import Field

from ledger_pipeline.config import LedgerConfig
from ledger_pipeline.orchestration import closing, engines, metadata
from ledger_pipeline.orchestration.assets import OWNERS, gains_key, ledger_key
from ledger_pipeline.orchestration.attempts import retried
from ledger_pipeline.orchestration.closing_checks import DOCS, Check, feeding
from ledger_pipeline.orchestration.resources import Ledger
from ledger_pipeline.store import periods
from ledger_pipeline.store.periods import Event, PeriodRefused


class CloseConfig(dg.Config):
    """What closing a month needs from a person."""

    by: str = Field(description="Who closes the month: a person's name; it is recorded.")
    accept: dict[str, str] = Field(
        default={}, description="Failing checks that are taken as they are: the check's name and the reason."
    )


def period_key(entity: str) -> dg.AssetKey:
    """`books/<entity>/period`."""
    return dg.AssetKey(["books", entity, "period"])


def closed_key(entity: str) -> dg.AssetKey:
    """`books/<entity>/closed_period`."""
    return dg.AssetKey(["books", entity, "closed_period"])


def months(config: LedgerConfig) -> dg.MonthlyPartitionsDefinition:
    """One partition per month (its first day), from the schedule's first one to the one that runs."""
    start = date.fromisoformat(config.schedule.start).replace(day=1)
    return dg.MonthlyPartitionsDefinition(start_date=start.isoformat(), timezone="UTC", end_offset=1)


def assets(config: LedgerConfig, partitions: dg.PartitionsDefinition) -> list[dg.AssetsDefinition]:
    """Two assets per entity, by month."""
    return [of(config, entity, partitions) for entity in config.entities for of in (_period, _closed_period)]


def jobs(config: LedgerConfig) -> list[Any]:
    """`close_period_<entity>`: closes the month of the partition that it is launched for."""
    return [
        dg.define_asset_job(
            f"close_period_{entity}",
            dg.AssetSelection.assets(closed_key(entity)),
            description=f"Checks and closes a month of {entity}; say who does it.",
            executor_def=engines.executor(config.execution),
        )
        for entity in config.entities
    ]


def _period(config: LedgerConfig, entity: str, partitions: dg.PartitionsDefinition) -> dg.AssetsDefinition:
    @dg.asset(
        key=period_key(entity),
        group_name="books",
        owners=OWNERS,
        tags={"entity": entity},
        kinds={"postgres"},
        partitions_def=partitions,
        deps=[
            gains_key(entity),
            *(ledger_key(name) for name in feeding(config, entity) if config.connections[name].is_enabled),
        ],
        check_specs=[
            dg.AssetCheckSpec(name, asset=period_key(entity), description=doc, blocking=False)
            for name, doc in DOCS.items()
        ],
        description=f"Whether a month of {config.entities[entity].name} is open, closing or closed, and what stands in the way "
        "of closing it. It changes nothing.",
    )
    @retried
    def period(context: dg.AssetExecutionContext, ledger: Ledger) -> Iterator[dg.MaterializeResult[Any]]:
        month = date.fromisoformat(context.partition_key)
        checks = closing.check(ledger.runtime, entity, month)
        with ledger.runtime.database.connect("reader") as connection:
            state = periods.state(connection, entity, month)
            events = periods.history(connection, entity, month)
        yield dg.MaterializeResult(
            metadata={"state": state, **_of_events(events, state), "checks": _table(checks)},
            check_results=[
                dg.AssetCheckResult(
                    check_name=one.name,
                    passed=one.holds,
                    severity=dg.AssetCheckSeverity.WARN,  # it stands in the way of closing, nothing is broken
                    description=one.found,
                    metadata=_rows(one),
                )
                for one in checks
            ],
        )

    return period


def _closed_period(config: LedgerConfig, entity: str, partitions: dg.PartitionsDefinition) -> dg.AssetsDefinition:
    @dg.asset(
        key=closed_key(entity),
        group_name="books",
        owners=OWNERS,
        tags={"entity": entity},
        kinds={"postgres"},
        partitions_def=partitions,
        deps=[period_key(entity)],
        description=f"A month of {config.entities[entity].name} as it was closed: materialising it closes the month, when every check holds or "
        "is accepted in the run's configuration; nothing does so by itself.",
    )
    @retried
    def closed_period(
        context: dg.AssetExecutionContext, config: CloseConfig, ledger: Ledger
    ) -> dg.MaterializeResult[Any]:
        month = date.fromisoformat(context.partition_key)
        try:
            done = closing.close(ledger.runtime, entity, month, config.by, config.accept)
        except closing.NotClosed as error:
            raise dg.Failure(str(error), {"checks": _table(error.checks)}, allow_retries=False) from None
        except PeriodRefused as error:
            raise dg.Failure(str(error), allow_retries=False) from None
        return dg.MaterializeResult(
            metadata={"state": "closed", **_of_events([done.event], "closed"), "checks": _table(done.checks)}
        )

    return closed_period


# what people see -------------------------------------------------------------------------------------------------------


def _of_events(events: Sequence[Event], state: str) -> dict[str, Any]:
    """The closing that counts now, and everything that happened to the month."""
    found: dict[str, Any] = {}
    last = events[-1] if events else None
    if state == "closed" and last is not None and last.content_hash is not None:
        found = {
            "closed by": last.by_whom,
            "closed at": last.happened_at.isoformat(),
            "sha256": last.content_hash.hex(),
        }
        found |= {"dagster/row_count": last.line_count, "entries": last.entry_count}
    rows = [
        {
            "no": event.event_no,
            "event": event.event,
            "at": f"{event.happened_at:%Y-%m-%d %H:%M:%S}",
            "by": event.by_whom,
            "reason": event.reason,
            "sha256": event.content_hash.hex() if event.content_hash else "",
        }
        for event in events
    ]
    return found | {"history": metadata.table(rows, ("no", "event", "at", "by", "reason", "sha256"))}


def _table(checks: Sequence[Check]) -> dg.MarkdownMetadataValue:
    said = {True: "holds", False: "fails"}
    return metadata.table(
        [
            {
                "check": one.name,
                "": "accepted" if one.accepted else said[one.holds],
                "found": one.found,
                "accepted": f"by {one.accepted_by}: {one.accepted}" if one.accepted else "",
            }
            for one in checks
        ],
        ("check", "", "found", "accepted"),
    )


def _rows(check: Check) -> dict[str, Any]:
    return {"rows": metadata.table(check.rows, tuple(check.rows[0]))} if check.rows else {}
