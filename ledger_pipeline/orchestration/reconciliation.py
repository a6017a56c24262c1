"""Open items as an asset: every night the clearing accounts are matched, and what stays is shown by cause and by age."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from typing import Any

import dagster as dg

from ledger_pipeline.config import LedgerConfig
from ledger_pipeline.model.money import format_minor, from_minor
from ledger_pipeline.orchestration import categories, metadata, policies, reconciling
from ledger_pipeline.orchestration.assets import OWNERS, ledger_key
from ledger_pipeline.orchestration.attempts import retried
from ledger_pipeline.orchestration.reconciling import Position
from ledger_pipeline.orchestration.resources import Ledger
from ledger_pipeline.reconcile.categories import Taken
from ledger_pipeline.reconcile.matches import Ran
from ledger_pipeline.reports import charts

KEY = dg.AssetKey(["books", "open_items"])
TIES, ALERTS = "sum_equals_balance", "payouts_arrive"
ROWS_SHOWN = 100
"""Open items of an entity, in the asset's metadata; `ledger-pipeline open-items` has all."""


def assets(config: LedgerConfig, partitions: dg.PartitionsDefinition) -> list[dg.AssetsDefinition]:
    """`books/open_items`, after all connections."""
    enabled = [name for name, c in config.connections.items() if c.is_enabled]

    spec = dg.AssetSpec(
        KEY,
        deps=[ledger_key(name) for name in enabled],
        description="What stands on the clearing accounts at the end of the sync date, each item with its age and one cause.",
        group_name="books",
        owners=OWNERS,
        partitions_def=partitions,
        freshness_policy=policies.of_books(config),
        kinds={"postgres"},
        metadata={"dagster/table_name": "recon.match"},
    )
    checks = {
        TIES: "The open items of every clearing account sum to its balance, in amount and in base.",
        ALERTS: "Payouts are the sum of their transactions, the bank shows them in time, and a payout explains every deposit.",
    }

    @dg.multi_asset(
        specs=[spec],
        name="reconcile",
        backfill_policy=dg.BackfillPolicy.single_run(),
        check_specs=[dg.AssetCheckSpec(name, asset=KEY, description=doc) for name, doc in checks.items()],
    )
    @retried
    def reconcile(
        context: dg.AssetExecutionContext, ledger: Ledger
    ) -> Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]:
        runtime = ledger.runtime
        day = max(date.fromisoformat(key) for key in context.partition_keys)
        ran = reconciling.run(runtime, config.entities, context.run.run_id)
        found = [reconciling.position(runtime, entity, day) for entity in config.entities]
        first = day - timedelta(days=categories.DAYS - 1)
        taken = categories.counts(runtime, categories.banks(runtime), first, day)
        yield dg.MaterializeResult(asset_key=KEY, metadata=_metadata(ran, found, taken))
        yield _ties(found)
        yield _alerts(found)

    return [reconcile]


def _metadata(ran: Sequence[Ran], found: Sequence[Position], taken: Sequence[Taken]) -> Mapping[str, Any]:
    made: dict[str, Any] = {
        "dagster/row_count": sum(len(one.items) for one in found),
        "matched": sum(one.matched for one in ran),
        "suggested": sum(one.suggested for one in ran),
        "dissolved": sum(one.dissolved for one in ran),
        "bank lines moved": sum(one.placed for one in ran),
        "bank lines by rule": _by_rule(taken),
    }
    for one in found:
        made |= _of_entity(one)
    return made


def _of_entity(one: Position) -> Mapping[str, Any]:
    rows = [
        {
            "account": item.role,
            "amount": format_minor(item.amount_minor, item.currency),
            "base": f"{from_minor(item.base_minor, one.base_currency):,}",
            "cause": item.cause,
            "since": item.since,
            "days": item.age_days,
            "what": item.what,
            "note": item.note,
        }
        for item in sorted(one.items, key=lambda i: (-i.age_days, -abs(i.base_minor)))[:ROWS_SHOWN]
    ]
    columns = ("account", "amount", "base", "cause", "since", "days", "what", "note")
    return {
        f"{one.entity}: open items": metadata.table(rows, columns),
        f"{one.entity}: by cause": _chart(one, "open by cause", one.by_cause()),
        f"{one.entity}: by age": _chart(one, "open by age in days", one.by_age()),
        f"{one.entity}: open_base_minor": sum(item.base_minor for item in one.items),
    }


def _by_rule(taken: Sequence[Taken]) -> dg.MarkdownMetadataValue:
    """The last booking days of every bank connection: what said what the lines are."""
    rows = [
        {
            "connection": one.connection,
            "by": f"rule {one.number}" if one.number else {"match": "a match"}.get(one.by, "nothing"),
            "contains": one.contains,
            "role": one.role,
            "lines": one.lines,
            "in": format_minor(one.in_minor, one.currency) if one.in_minor else "",
            "out": format_minor(one.out_minor, one.currency) if one.out_minor else "",
        }
        for one in taken
    ]
    return metadata.table(rows, ("connection", "by", "contains", "role", "lines", "in", "out"))


def _chart(one: Position, title: str, sums: Mapping[str, int]) -> dg.MarkdownMetadataValue:
    values = [from_minor(amount, one.base_currency) for amount in sums.values()]
    svg = charts.bar_chart(list(sums), {title: values}, title=f"{one.entity}: {title}", unit=one.base_currency)
    return dg.MetadataValue.md(f"![{title}]({charts.data_uri(svg)})")


def _ties(found: Sequence[Position]) -> dg.AssetCheckResult:
    off = [f"{one.entity} {text}" for one in found for text in one.differences]
    return dg.AssetCheckResult(asset_key=KEY, check_name=TIES, passed=not off, description="; ".join(off) or None)


def _alerts(found: Sequence[Position]) -> dg.AssetCheckResult:
    rows = [
        {
            "entity": a.entity,
            "alert": a.what,
            "id": a.id,
            "amount": format_minor(a.amount_minor, a.currency),
            "why": a.note,
        }
        for one in found
        for a in one.alerts
    ]
    return dg.AssetCheckResult(
        asset_key=KEY,
        check_name=ALERTS,
        passed=not rows,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{len(rows)} to look at" if rows else None,
        metadata={"alerts": metadata.table(rows, ("entity", "alert", "id", "amount", "why"))},
    )
