"""Jobs, the nightly schedule, and the sensor that closes a night when all its connections have ended, well or badly."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from ledger_pipeline.config import LedgerConfig
from ledger_pipeline.orchestration import engines
from ledger_pipeline.orchestration.assets import ledger_key

AssetJob = Any  # what define_asset_job returns has no public name
NIGHT = "ledger/night"
CONNECTION = "ledger/connection"
BOOKS = ("trial_balance", "fates", "open_items", "bank_statements")
ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]


def enabled(config: LedgerConfig) -> list[str]:
    """Connections that are synchronised."""
    return [name for name, connection in config.connections.items() if connection.is_enabled]


def receiving(config: LedgerConfig) -> list[str]:
    """Enabled connections whose webhooks the receiver takes."""
    from ledger_pipeline import sources

    found = []
    for name in enabled(config):
        connection = config.connections[name]
        webhook = sources.load(connection.source).webhook
        if webhook and (connection.webhook_secrets if webhook.scheme.needs_secrets else connection.has_webhooks):
            found.append(name)
    return found


def partitions(config: LedgerConfig) -> dg.DailyPartitionsDefinition:
    """One partition per sync date; with webhooks also today's, and where an entity's day is ahead of UTC, tomorrow's."""
    zones = [config.entity_of(name).zone for name in receiving(config)]
    is_ahead = any(zone.utcoffset(datetime(2026, month, 1)) > timedelta(0) for zone in zones for month in (1, 7))  # type: ignore[operator]  # noqa: DTZ001
    return dg.DailyPartitionsDefinition(
        start_date=config.schedule.start, timezone="UTC", end_offset=0 if not zones else 2 if is_ahead else 1
    )


def selection(name: str) -> dg.AssetSelection:
    """All assets of a connection."""
    return dg.AssetSelection.groups(name)


def jobs(config: LedgerConfig) -> tuple[AssetJob, AssetJob]:
    """(nightly: every connection's assets, asked for one connection a run; books: what follows)."""
    nightly = dg.define_asset_job(
        "nightly",
        dg.AssetSelection.groups(*enabled(config)),
        description="Pull, stage, check and post. The schedule asks for one run per connection, so that none holds another up.",
        executor_def=engines.executor(config.execution),
    )
    books = dg.define_asset_job(
        "books",
        dg.AssetSelection.assets(*(["books", name] for name in BOOKS)),
        description="The trial balance, fates, open items and bank statements of a night, with the connections that are missing.",
        executor_def=engines.executor(config.execution),
    )
    return nightly, books


def keys_of(config: LedgerConfig, name: str) -> list[dg.AssetKey]:
    """Every asset key of a connection."""
    from ledger_pipeline import sources
    from ledger_pipeline.orchestration import measures
    from ledger_pipeline.orchestration.assets import raw_key, staging_key

    source = sources.load(config.connections[name].source)
    return [
        *(raw_key(name, stream.name) for stream in source.streams),
        *(staging_key(name, record) for record in source.records),
        ledger_key(name),
        *measures.keys_of(name),
    ]


def schedule(config: LedgerConfig, nightly: AssetJob) -> dg.ScheduleDefinition:
    """Every night, the day that has ended: one run per connection."""

    @dg.schedule(
        name="nightly",
        job=nightly,
        cron_schedule=config.schedule.cron,
        execution_timezone=config.schedule.time_zone,
        default_status=dg.DefaultScheduleStatus.RUNNING
        if config.schedule.is_running
        else dg.DefaultScheduleStatus.STOPPED,
        description="Asks for one run per connection for the sync date that has just ended.",
    )
    def nightly_schedule(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest]:
        at = context.scheduled_execution_time.astimezone(UTC)
        day = (at - timedelta(days=1)).date().isoformat()
        for name in enabled(config):
            yield dg.RunRequest(
                run_key=f"{name}:{day}:{at:%Y%m%dT%H%M}",
                partition_key=day,
                asset_selection=keys_of(config, name),
                tags={NIGHT: day, CONNECTION: name},
            )

    return nightly_schedule


def books_sensor(config: LedgerConfig, books: AssetJob) -> dg.SensorDefinition:
    """Requests the books of a night once every requested run of it has ended."""

    @dg.sensor(
        name="books_after_the_night",
        job=books,
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="When all runs of a night have ended, good or bad, asks for its books.",
    )
    def books_after_the_night(context: dg.SensorEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        since = datetime.now(UTC) - timedelta(days=3)
        records = context.instance.get_run_records(dg.RunsFilter(updated_after=since), limit=1000)
        nights: dict[str, list[dg.RunRecord]] = {}
        closed: dict[str, datetime] = {}
        for record in records:
            night = record.dagster_run.tags.get(NIGHT)
            if night and CONNECTION in record.dagster_run.tags:
                nights.setdefault(night, []).append(record)
            elif night:
                closed[night] = max(record.create_timestamp, closed.get(night, record.create_timestamp))
        asked = False
        for night, runs in sorted(nights.items()):
            newest = max(run.update_timestamp for run in runs)
            if all(run.dagster_run.status in ENDED for run in runs) and not (
                night in closed and closed[night] >= newest
            ):
                asked = True
                yield dg.RunRequest(run_key=f"{night}:{newest.isoformat()}", partition_key=night, tags={NIGHT: night})
        if not asked:
            yield dg.SkipReason("no night has ended lately")

    return books_after_the_night
