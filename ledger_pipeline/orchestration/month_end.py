"""The month's end as Dagster sees it: currency gains as an asset per entity, and the job that prepares a month for its closing."""

from collections.abc import Iterator
from datetime import UTC, date
from typing import Any

import dagster as dg

from ledger_pipeline.config import LedgerConfig
from ledger_pipeline.model.money import from_minor
from ledger_pipeline.model.months import last_of_month, preceding_month
from ledger_pipeline.orchestration import currency, engines, metadata, periods, statements
from ledger_pipeline.orchestration.assets import OWNERS, gains_key, ledger_key
from ledger_pipeline.orchestration.attempts import retried
from ledger_pipeline.orchestration.closing_checks import feeding
from ledger_pipeline.orchestration.resources import Ledger
from ledger_pipeline.reports.statements import STATEMENTS
from ledger_pipeline.store.calculated import PREFIX

BY = "Dagster"


def assets(config: LedgerConfig, partitions: dg.PartitionsDefinition) -> list[dg.AssetsDefinition]:
    """One asset per entity, by month."""
    return [_gains(config, entity, partitions) for entity in config.entities]


def _gains(config: LedgerConfig, entity: str, partitions: dg.PartitionsDefinition) -> dg.AssetsDefinition:
    @dg.asset(
        key=gains_key(entity),
        group_name="books",
        owners=OWNERS,
        tags={"entity": entity},
        kinds={"postgres"},
        partitions_def=partitions,
        deps=[ledger_key(name) for name in feeding(config, entity) if config.connections[name].is_enabled],
        check_specs=[
            dg.AssetCheckSpec(
                "every_currency_is_revalued",
                asset=gains_key(entity),
                description="Every foreign balance has a reference rate at the month's end.",
            )
        ],
        description=f"Realised currency gains of {config.entities[entity].name} by day of settlement (weighted average), the month-end "
        "revaluation of open foreign balances at the ECB's rate, and its reversal on the next day. Again, it books only what differs.",
    )
    @retried
    def currency_gains(context: dg.AssetExecutionContext, ledger: Ledger) -> Iterator[dg.MaterializeResult[Any]]:
        month = date.fromisoformat(context.partition_key)
        ran = currency.run(ledger.runtime, entity, month, BY, context.run.run_id)
        base = config.entities[entity].base_currency
        with ledger.runtime.database.connect("reader") as connection:
            rows = connection.execute(
                "SELECT e.record, e.posted_on, l.role, l.currency, l.base_minor FROM ledger.live_entry e JOIN ledger.line l USING (entry_id) "
                "WHERE e.connection = %s AND l.role NOT IN ('currency_trading', 'fx_gain_loss') AND e.posted_on BETWEEN %s AND %s "
                "ORDER BY 2, 1, 3, 4",
                (PREFIX + entity, month, last_of_month(month)),
            ).fetchall()
        columns = ("record", "day", "role", "currency", "gain")
        table = [dict(zip(columns, (*row[:4], f"{from_minor(row[4], base):,} {base}"), strict=True)) for row in rows]
        yield dg.MaterializeResult(
            metadata={
                "realised": f"{from_minor(ran.realised_minor, base):,} {base}",
                "unrealised": f"{from_minor(ran.unrealised_minor, base):,} {base}",
                "new entries": ran.posted.originals,
                "corrected": ran.posted.corrected,
                "already posted": ran.posted.unchanged,
                "gains": metadata.table(table, columns),
            },
            check_results=[
                dg.AssetCheckResult(
                    check_name="every_currency_is_revalued",
                    passed=not ran.not_revalued,
                    severity=dg.AssetCheckSeverity.WARN,
                    description="; ".join(ran.not_revalued) or None,
                )
            ],
        )

    return currency_gains


def job(config: LedgerConfig) -> Any:
    """Gains, statements and the period's checks of every entity; it closes nothing."""
    keys = [key for entity in config.entities for key in _keys(entity)]
    return dg.define_asset_job(
        "month_end",
        dg.AssetSelection.assets(*keys),
        description="Prepares a month for its closing: currency gains, statements, and what stands in the way. It closes nothing.",
        executor_def=engines.executor(config.execution),
    )


def _keys(entity: str) -> list[dg.AssetKey]:
    return [
        gains_key(entity),
        periods.period_key(entity),
        *(statements.statement_key(entity, name) for name in STATEMENTS),
    ]


def schedule(config: LedgerConfig, month_end: Any) -> dg.ScheduleDefinition:
    """On the second of a month, the month that has ended."""

    @dg.schedule(
        name="month_end",
        job=month_end,
        cron_schedule="0 9 2 * *",
        execution_timezone=config.schedule.time_zone or "UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING
        if config.schedule.is_running
        else dg.DefaultScheduleStatus.STOPPED,
        description="On the second of the month asks for the currency gains and statements of the month that has ended.",
    )
    def month_end_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        at = context.scheduled_execution_time.astimezone(UTC)
        month = preceding_month(at.date()).isoformat()
        return dg.RunRequest(run_key=f"{month}:{at:%Y%m%d}", partition_key=month)

    return month_end_schedule
