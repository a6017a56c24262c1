"""Jobs, the nightly schedules, and the sensor that closes a night when all its connections have ended, well or badly."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg

from ledger_pipeline.config import LedgerConfig
from ledger_pipeline.orchestration import calendar, engines
from ledger_pipeline.orchestration.assets import ledger_key

AssetJob = Any  # what define_asset_job returns has no public name
NIGHT = "ledger/night"
CONNECTION = "ledger/connection"
COMMAND = "ledger/command"
"""Run tag: host, process id and start of the command that the run belongs to, where it isn't Dagster's daemon that started it."""
BOOKS = ("trial_balance", "fates", "open_items", "bank_statements")
MOST_LOST = 3
"""Runs of a night's books whose process died, before nobody asks for another one."""
ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
UNFINISHED = [status for status in dg.DagsterRunStatus if status not in ENDED]


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
    """One partition per sync date, from the moment on in which the day has ended in the first entity's zone; with webhooks also today's."""
    return dg.DailyPartitionsDefinition(
        start_date=config.schedule.start,
        timezone=calendar.easternmost(config).key,
        end_offset=1 if receiving(config) else 0,
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


def schedules(config: LedgerConfig, nightly: AssetJob) -> list[dg.ScheduleDefinition]:
    """One per zone: that of the schedule where it names one, else those of the entities. The only one is called `nightly`."""
    zones: dict[str, list[str]] = {}
    for name in enabled(config):
        zones.setdefault(config.schedule.time_zone or config.entity_of(name).time_zone, []).append(name)
    if not zones:
        zones[config.schedule.time_zone or "UTC"] = []
    return [
        _schedule(config, nightly, "nightly" if len(zones) == 1 else f"nightly_{_word(zone)}", zone, names)
        for zone, names in sorted(zones.items())
    ]


def _word(zone: str) -> str:
    return re.sub(r"\W+", "_", zone.lower().replace("+", "_plus_").replace("-", "_")).strip("_")


def _schedule(
    config: LedgerConfig, nightly: AssetJob, schedule_name: str, zone: str, names: list[str]
) -> dg.ScheduleDefinition:
    @dg.schedule(
        name=schedule_name,
        job=nightly,
        cron_schedule=config.schedule.cron,
        execution_timezone=zone,
        default_status=dg.DefaultScheduleStatus.RUNNING
        if config.schedule.is_running
        else dg.DefaultScheduleStatus.STOPPED,
        description=f"Asks for one run per connection for the sync date that ended last in its entity's zone: {', '.join(names)}.",
    )
    def nightly_schedule(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        requests: list[dg.RunRequest | dg.SkipReason] = list(
            night_of(config, names, context.scheduled_execution_time, zone)
        )
        yield from requests or [dg.SkipReason(f"no day since {config.schedule.start} has ended")]

    return nightly_schedule


def night_of(config: LedgerConfig, names: list[str], at: datetime, zone: str) -> Iterator[dg.RunRequest]:
    """A request per connection for the day that has ended at `at`. The key is the clock on the wall: an hour that comes twice asks once."""
    wall = at.astimezone(ZoneInfo(zone))
    for name in names:
        day = calendar.last_ended(at, config.entity_of(name).zone).isoformat()
        if day < config.schedule.start:
            continue
        yield dg.RunRequest(
            run_key=f"{name}:{day}:{wall:%Y%m%dT%H%M}",
            partition_key=day,
            asset_selection=keys_of(config, name),
            tags={NIGHT: day, CONNECTION: name},
        )


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
        books_of: dict[str, list[dg.RunRecord]] = {}
        for record in records:
            night = record.dagster_run.tags.get(NIGHT)
            if night:
                found = nights if CONNECTION in record.dagster_run.tags else books_of
                found.setdefault(night, []).append(record)
        asked = False
        for night, runs in sorted(nights.items()):
            newest = max(run.update_timestamp for run in runs)
            since_then = [run for run in books_of.get(night, ()) if run.create_timestamp >= newest]
            lost = [run for run in since_then if _is_lost(run.dagster_run)]
            if all(run.dagster_run.status in ENDED for run in runs) and len(lost) == len(since_then) < MOST_LOST:
                asked = True
                key = f"{night}:{newest.isoformat()}" + (f":{len(lost)}" if lost else "")
                yield dg.RunRequest(run_key=key, partition_key=night, tags={NIGHT: night})
        if not asked:
            yield dg.SkipReason("no night has ended lately")

    return books_after_the_night


def _is_lost(run: dg.DagsterRun) -> bool:
    """Its process died, and Dagster doesn't run it again: it gives up when the code server is away at that moment."""
    return (
        run.status == dg.DagsterRunStatus.FAILURE
        and run.tags.get("dagster/will_retry") != "true"
        and run.tags.get("dagster/failure_reason") != "STEP_FAILURE"
    )
