"""The books as assets: what the ledger says after a night, and which connections are missing in it."""

from collections.abc import Iterator
from datetime import date
from typing import Any

import dagster as dg

from ledger_pipeline.config import LedgerConfig
from ledger_pipeline.model.money import from_minor
from ledger_pipeline.orchestration import metadata, policies
from ledger_pipeline.orchestration.assets import OWNERS, ledger_key
from ledger_pipeline.orchestration.attempts import retried
from ledger_pipeline.orchestration.resources import Ledger
from ledger_pipeline.reports import fates as fates_report
from ledger_pipeline.reports import trial_balance
from ledger_pipeline.store import raw


def assets(config: LedgerConfig, partitions: dg.PartitionsDefinition) -> list[dg.AssetsDefinition]:
    """`books/trial_balance` and `books/fates`, after all connections."""
    enabled = [name for name, c in config.connections.items() if c.is_enabled]
    common: dict[str, Any] = {
        "group_name": "books",
        "owners": OWNERS,
        "partitions_def": partitions,
        "freshness_policy": policies.of_books(config),
        "kinds": {"postgres"},
    }
    specs = [
        dg.AssetSpec(
            ["books", "trial_balance"],
            deps=[ledger_key(name) for name in enabled],
            description="Every account's balance by currency and in the entity's base currency, at the end of the sync date.",
            **common,
        ),
        dg.AssetSpec(
            ["books", "fates"],
            deps=[ledger_key(name) for name in enabled],
            description="What became of every record that was pulled for the sync date: posted, ignored, quarantined, superseded, reference.",
            **common,
        ),
    ]

    @dg.multi_asset(specs=specs, name="close_the_night", backfill_policy=dg.BackfillPolicy.single_run(), check_specs=[
        dg.AssetCheckSpec("every_connection_is_in", asset=["books", "fates"], description="No connection's sync is missing for the date."),
        dg.AssetCheckSpec("sums_to_zero", asset=["books", "trial_balance"], description="Debits equal credits, per currency and in base."),
    ])  # fmt: skip
    @retried
    def close_the_night(
        context: dg.AssetExecutionContext, ledger: Ledger
    ) -> Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]:
        runtime = ledger.runtime
        day = max(date.fromisoformat(key) for key in context.partition_keys)
        with runtime.database.connect("reader") as connection:
            rows = trial_balance.of_entities(connection, through=day)
            fates = fates_report.of_days(connection, day)
            whole = raw.whole_days(connection, day)
        per_entity = {
            entity: metadata.table(
                [
                    {"account": r.account, "name": r.name, "currency": r.currency, "balance": f"{from_minor(r.amount_minor, r.currency):,}",
                     "base": f"{from_minor(r.base_minor, e.base_currency):,}"}
                    for r in rows if r.entity == entity
                ],
                ("account", "name", "currency", "balance", "base"),
            )
            for entity, e in config.entities.items()
        }  # fmt: skip
        unbalanced = trial_balance.unbalanced(rows)
        yield dg.MaterializeResult(
            asset_key=["books", "trial_balance"], metadata={"dagster/row_count": len(rows), **per_entity}
        )
        missing = [name for name in enabled if name not in whole & {f.connection for f in fates}]
        yield dg.MaterializeResult(
            asset_key=["books", "fates"],
            metadata={
                "fates": metadata.table(
                    [
                        {
                            "connection": f.connection,
                            "stream": f.stream,
                            "fate": f.fate,
                            "records": f.records,
                            "money": _control(f),
                        }
                        for f in fates
                    ],
                    ("connection", "stream", "fate", "records", "money"),
                ),
                "missing connections": ", ".join(missing) or "none",
            },
        )
        yield dg.AssetCheckResult(
            asset_key=["books", "fates"],
            check_name="every_connection_is_in",
            passed=not missing,
            severity=dg.AssetCheckSeverity.WARN,
            description=f"missing: {', '.join(missing)}" if missing else None,
        )
        yield dg.AssetCheckResult(
            asset_key=["books", "trial_balance"],
            check_name="sums_to_zero",
            passed=not unbalanced,
            description="; ".join(unbalanced) or None,
        )

    return [close_the_night]


def _control(fate: fates_report.Fate) -> str:
    """The money with which the source counts these records."""
    return "" if fate.control is None else f"{fate.control:,} {fate.currency}"
