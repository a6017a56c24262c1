"""The one assembler: ledger.yaml → Definitions. Reads that file and the sources' declarations, opens nothing."""

from pathlib import Path

import dagster as dg

from ledger_pipeline.orchestration import (
    alerts,
    assets,
    bank_statements,
    books,
    catching_up,
    engines,
    events,
    freshness,
    health,
    jobs,
    measures,
    month_end,
    periods,
    reconciliation,
    statements,
    webhooks,
)
from ledger_pipeline.orchestration.resources import Ledger
from ledger_pipeline.orchestration.runtime import Runtime


def build_defs(config_path: Path | None = None) -> dg.Definitions:
    """Definitions of a configuration; of the working folder's ledger.yaml, else the sandbox company's, when none is given."""
    runtime = Runtime.from_file(config_path)
    partitions = jobs.partitions(runtime.config)
    made = [assets.of_connection(runtime.config, name, partitions) for name in jobs.enabled(runtime.config)]
    nightly, books_job = jobs.jobs(runtime.config)
    changed, deliveries = webhooks.jobs(runtime.config), events.jobs(runtime.config)
    looks = health.job(runtime.config)
    months, at_month_end = periods.months(runtime.config), month_end.job(runtime.config)
    return dg.Definitions(
        assets=[
            *(a for group in made for a in group.assets),
            *measures.assets(runtime.config, partitions),
            *books.assets(runtime.config, partitions),
            *reconciliation.assets(runtime.config, partitions),
            *bank_statements.assets(runtime.config, partitions),
            *health.assets(runtime.config),
            *(a for by_month in (month_end, statements, periods) for a in by_month.assets(runtime.config, months)),
        ],
        asset_checks=[c for group in made for c in group.checks],
        jobs=[nightly, books_job, looks, at_month_end, *changed, *deliveries, *periods.jobs(runtime.config)],
        schedules=[
            *jobs.schedules(runtime.config, nightly),
            health.schedule(runtime.config, looks),
            month_end.schedule(runtime.config, at_month_end),
        ],
        sensors=[
            jobs.books_sensor(runtime.config, books_job),
            *alerts.sensors(runtime.config),
            catching_up.sensor(runtime.config, nightly),
            freshness.sensor(runtime.config),
            *webhooks.sensors(runtime.config, changed),
            *events.sensors(runtime.config, deliveries),
        ],
        resources={"ledger": Ledger(config_path=str(config_path or ""))},
        executor=engines.executor(runtime.config.execution),
    )
