"""Bank statements as an asset: every night what the banks state is held against the ledger, date by date."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Any

import dagster as dg

from ledger_pipeline.config import LedgerConfig
from ledger_pipeline.model.money import format_minor
from ledger_pipeline.orchestration import metadata, policies, stated_balances
from ledger_pipeline.orchestration.assets import OWNERS, ledger_key
from ledger_pipeline.orchestration.attempts import retried
from ledger_pipeline.orchestration.resources import Ledger
from ledger_pipeline.reconcile.statements import Account

KEY = dg.AssetKey(["books", "bank_statements"])
AGREES = "every_stated_balance_agrees"


def assets(config: LedgerConfig, partitions: dg.PartitionsDefinition) -> list[dg.AssetsDefinition]:
    """`books/bank_statements`, after all connections."""
    enabled = [name for name, c in config.connections.items() if c.is_enabled]
    spec = dg.AssetSpec(
        KEY,
        deps=[ledger_key(name) for name in enabled],
        description="Every balance that a bank has stated until the sync date, against the ledger's account on that day.",
        group_name="books",
        owners=OWNERS,
        partitions_def=partitions,
        freshness_policy=policies.of_books(config),
        kinds={"postgres"},
        metadata={"dagster/table_name": "staging.bank_balance"},
    )
    check = dg.AssetCheckSpec(
        AGREES,
        asset=KEY,
        description="Every stated balance is the ledger's, or differs by what the ledger lacked at the first one.",
    )

    @dg.multi_asset(
        specs=[spec],
        name="compare_statements",
        backfill_policy=dg.BackfillPolicy.single_run(),
        check_specs=[check],
    )
    @retried
    def compare_statements(
        context: dg.AssetExecutionContext, ledger: Ledger
    ) -> Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]:
        day = max(date.fromisoformat(key) for key in context.partition_keys)
        found = stated_balances.of_entities(ledger.runtime, config.entities, day)
        yield dg.MaterializeResult(asset_key=KEY, metadata=_metadata(found))
        yield _check(found)

    return [compare_statements]


def _metadata(found: Sequence[Account]) -> Mapping[str, Any]:
    rows = [
        {
            "entity": one.entity,
            "connection": one.connection,
            "account": one.account_id,
            "stated dates": len(one.balances),
            "first": one.balances[0].day,
            "last": one.balances[-1].day,
            "stated": format_minor(one.balances[-1].stated_minor, one.currency),
            "ledger": format_minor(one.balances[-1].ledger_minor, one.currency),
            "opening difference": format_minor(one.opening_minor, one.currency),
            "differs on": f"{len(one.differing)} from {one.first.day}" if one.first else "none",
        }
        for one in found
    ]
    columns = (
        *("entity", "connection", "account", "stated dates", "first", "last", "stated", "ledger"),
        *("opening difference", "differs on"),
    )
    return {"dagster/row_count": sum(len(one.balances) for one in found), "accounts": metadata.table(rows, columns)}


def _check(found: Sequence[Account]) -> dg.AssetCheckResult:
    differing = [one for one in found if one.first is not None]
    rows = [
        {
            "connection": one.connection,
            "account": one.account_id,
            "why": line.why,
            "day": line.day,
            "line": line.source_id,
            "explains": "" if line.explains_minor is None else format_minor(line.explains_minor, one.currency),
            "note": line.note,
        }
        for one in differing
        for line in one.lines
    ]
    return dg.AssetCheckResult(
        asset_key=KEY,
        check_name=AGREES,
        passed=not differing,
        description="; ".join(f"{one.connection} {one.account_id}: {one.said}" for one in differing) or None,
        metadata={"lines around": metadata.table(rows, ("connection", "account", "why", "day", "line", "explains", "note"))},
    )  # fmt: skip
