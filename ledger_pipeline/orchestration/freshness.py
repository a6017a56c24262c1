"""A breach of freshness is alerted: of a connection by what stands in the books, of other assets by Dagster's freshness daemon."""

from collections.abc import Iterator
from datetime import UTC, date, datetime

import dagster as dg

from ledger_pipeline.config import LedgerConfig
from ledger_pipeline.model.alert import Alert
from ledger_pipeline.operations.delivery import raise_alerts
from ledger_pipeline.orchestration import calendar, catching_up, jobs
from ledger_pipeline.orchestration.assets import ledger_key
from ledger_pipeline.orchestration.resources import Ledger
from ledger_pipeline.store.database import Database


def sensor(config: LedgerConfig) -> dg.SensorDefinition:
    """Looks every five minutes; each breach is told once."""

    @dg.sensor(
        name="stale_assets",
        minimum_interval_seconds=300,
        default_status=dg.DefaultSensorStatus.RUNNING if config.schedule.is_running else dg.DefaultSensorStatus.STOPPED,
        description="Alerts connections whose day isn't in the books in time, and assets that Dagster finds stale.",
    )
    def stale_assets(context: dg.SensorEvaluationContext, ledger: Ledger) -> dg.SkipReason:
        now = datetime.now(UTC)
        found = [*stale_connections(ledger.runtime.database, config, now), *stale_by_policy(context.instance, now)]
        new = raise_alerts(ledger.runtime.database, config.alerts, found)
        return dg.SkipReason(f"{len(found)} stale, {len(new)} new alerts")

    return stale_assets


def stale_connections(database: Database, config: LedgerConfig, now: datetime) -> Iterator[Alert]:
    """Connections whose last due day isn't in the books, also such as have never posted anything."""
    start = date.fromisoformat(config.schedule.start)
    for name in jobs.enabled(config):
        day = calendar.last_due(config, name, now)
        if day < start:
            continue
        [state] = catching_up.states_of(database, config, name, day, day)
        if state.is_posted:
            continue
        deadline = calendar.deadline_of(config, name, day)
        why = "its gate is closed" if state.is_closed else "it was not pulled, checked and posted"
        asset = ledger_key(name).to_user_string()
        yield Alert(
            *(
                "stale",
                f"stale:{asset}:{day}",
                f"{asset} lacks {day}, due by {deadline:%Y-%m-%d %H:%M} UTC: {why}",
                now,
            ),
            connection=name,
            partition=day.isoformat(),
            about=(asset,),
        )


def stale_by_policy(instance: dg.DagsterInstance, now: datetime) -> Iterator[Alert]:
    """Assets of the books and of operations whose policy Dagster's freshness daemon finds breached."""
    keys = [*(dg.AssetKey(["books", name]) for name in jobs.BOOKS), dg.AssetKey(["ops", "health"])]
    for key, record in instance.get_freshness_state_records(keys).items():
        if record.freshness_state.value == "FAIL":
            asset = key.to_user_string()
            since = f"{record.updated_at:%Y-%m-%d %H:%M} UTC"
            yield Alert(
                *("stale", f"stale:{asset}:{record.updated_at.isoformat()}", f"{asset} is overdue since {since}", now),
                about=(asset,),
            )
