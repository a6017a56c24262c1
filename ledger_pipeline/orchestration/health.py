"""Health as an asset with a history: looked at every quarter of an hour, kept in ops.health, and alerted when something fails."""

from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from ledger_pipeline.config import LedgerConfig
from ledger_pipeline.model.alert import Alert
from ledger_pipeline.operations import health as work
from ledger_pipeline.operations.delivery import raise_alerts
from ledger_pipeline.orchestration import engines, metadata, policies
from ledger_pipeline.orchestration.assets import OWNERS
from ledger_pipeline.orchestration.resources import Ledger
from ledger_pipeline.orchestration.runtime import Runtime
from ledger_pipeline.reports import charts
from ledger_pipeline.store import health as table
from ledger_pipeline.store.health import Finding

KEY = dg.AssetKey(["ops", "health"])
HISTORY = timedelta(days=2)


def assets(config: LedgerConfig) -> list[dg.AssetsDefinition]:
    """`ops/health`."""

    @dg.asset(
        key=KEY,
        group_name="ops",
        owners=OWNERS,
        kinds={"postgres"},
        metadata={"dagster/table_name": "ops.health"},
        freshness_policy=policies.of_health(),
        description="Every connection (key, clock, quota, last record), the database, the disk, the daemons and the queue, as they are now. "
        "Connections to the sandbox are left out.",
    )
    def health(context: dg.AssetExecutionContext, ledger: Ledger) -> dg.MaterializeResult[Any]:
        runtime = ledger.runtime
        findings = look(runtime)
        since = datetime.now(UTC) - HISTORY
        with runtime.database.connect("reader") as connection:
            history = table.history(connection, since)
        rows = [{"subject": one.subject, "state": one.state, "what": one.sentence} for one in findings]
        return dg.MaterializeResult(
            metadata={
                "state": work.worst(findings),
                "failing": sum(one.state == "fail" for one in findings),
                "warning": sum(one.state == "warn" for one in findings),
                "findings": metadata.table(rows, ("subject", "state", "what")),
                "last two days": dg.MetadataValue.md(_chart(history)),
            }
        )

    return [health]


def look(runtime: Runtime) -> list[Finding]:
    """Look, keep, and alert what fails: once when it begins, and once a day while it lasts."""
    findings, now = work.look(runtime), runtime.clock()
    with runtime.database.connect() as connection:
        table.keep(connection, findings, now, runtime.config.health.keep_days)
        alerts = [
            Alert(
                *("unhealthy", f"health:{one.subject}:{since.isoformat()}:{(now - since).days}"),
                f"{one.subject}: {one.sentence}",
                now,
                connection=one.subject.removeprefix("connection/") if "/" in one.subject else "",
                about=(one.subject, str((now - since).days)),
            )
            for one in findings
            if one.state == "fail" and (since := table.failing_since(connection, one.subject)) is not None
        ]
    raise_alerts(runtime.database, runtime.config.alerts, alerts, runtime.clock)
    return findings


def _chart(history: list[tuple[datetime, str, table.State]]) -> str:
    """How many subjects failed and warned at each look."""
    times = sorted({at for at, _, _ in history})
    series = {
        word: [sum(state == word for at, _, state in history if at == time) for time in times] for word in ("fail", "warn")
    }  # fmt: skip
    labels = [f"{time:%d. %H:%M}" for time in times]
    title = "Subjects that fail or warn"
    return f"![{title}]({charts.data_uri(charts.line_chart(labels, series, title=title))})"


def job(config: LedgerConfig) -> Any:
    """The asset alone."""
    return dg.define_asset_job(
        "health",
        dg.AssetSelection.assets(KEY),
        description="A look at every connection, the database, the disk, the daemons and the queue.",
        executor_def=engines.executor(config.execution),
    )


def schedule(config: LedgerConfig, health: Any) -> dg.ScheduleDefinition:
    """Every fifteen minutes."""
    return dg.ScheduleDefinition(
        name="health",
        job=health,
        cron_schedule="*/15 * * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING
        if config.schedule.is_running
        else dg.DefaultScheduleStatus.STOPPED,
        description="Looks at the health of everything every fifteen minutes.",
    )
