"""Nights that were missed are asked for again, oldest first: what counts is what stands in the books, not what Dagster remembers."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import dagster as dg

from ledger_pipeline import sources
from ledger_pipeline.config import LedgerConfig
from ledger_pipeline.model.alert import Alert
from ledger_pipeline.operations.delivery import raise_alerts
from ledger_pipeline.orchestration import calendar, jobs
from ledger_pipeline.orchestration.jobs import AssetJob
from ledger_pipeline.orchestration.resources import Ledger
from ledger_pipeline.store import nights
from ledger_pipeline.store.database import Database
from ledger_pipeline.store.nights import NightState, Obstacle

CATCH_UP = "ledger/catch_up"
GRACE = timedelta(hours=1)
"""The night itself gets so long before anybody looks after it."""
BETWEEN_TRIES = timedelta(minutes=15)
MOST_AT_ONCE = 20
EVERY_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Missed:
    """A night to be asked for: the how-manieth run of it, or why it isn't asked for any more."""

    connection: str
    sync_date: date
    attempt: int
    given_up: str = ""


def sensor(config: LedgerConfig, nightly: AssetJob) -> dg.SensorDefinition:
    """Looks every five minutes."""

    @dg.sensor(
        name="missed_nights",
        job=nightly,
        minimum_interval_seconds=EVERY_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING if config.schedule.is_running else dg.DefaultSensorStatus.STOPPED,
        description=f"Asks again for nights of the last {config.schedule.catch_up_days} days that aren't in the books.",
    )
    def missed_nights(context: dg.SensorEvaluationContext, ledger: Ledger) -> Iterator[dg.RunRequest | dg.SkipReason]:
        now = datetime.now(UTC)
        found = list(missed(ledger.runtime.database, context.instance, config, now))
        raise_alerts(ledger.runtime.database, config.alerts, [_alert(one, now) for one in found if one.given_up])
        wanted = [one for one in found if not one.given_up][:MOST_AT_ONCE]
        for one in wanted:
            day = one.sync_date.isoformat()
            yield dg.RunRequest(
                run_key=f"catch-up:{one.connection}:{day}:{one.attempt}",
                partition_key=day,
                asset_selection=jobs.keys_of(config, one.connection),
                tags={jobs.NIGHT: day, jobs.CONNECTION: one.connection, CATCH_UP: str(one.attempt)},
            )
        if not wanted:
            yield dg.SkipReason("no night is missing" if not found else "what is missing waits for somebody")

    return missed_nights


def missed(database: Database, instance: dg.DagsterInstance, config: LedgerConfig, now: datetime) -> Iterator[Missed]:
    """Nights that aren't in the books an hour after they were due, oldest first; none that a run is at work on."""
    start = date.fromisoformat(config.schedule.start)
    found: list[tuple[date, str, Obstacle | None]] = []
    for name in jobs.enabled(config):
        last = calendar.last_ended(now, config.entity_of(name).zone)
        first = max(start, last - timedelta(days=config.schedule.catch_up_days - 1))
        if config.schedule.catch_up_days == 0 or first > last:
            continue
        with database.connect("reader") as connection:
            for night in nights.states(connection, name, _streams(config, name), first, last):
                if night.is_missing and calendar.due_at(config, name, night.sync_date) + GRACE <= now:
                    found.append((night.sync_date, name, nights.obstacle(connection, name, night.sync_date)))
    for day, name, obstacle in sorted(found, key=lambda one: one[:2]):
        one = _judged(instance, config, name, day, obstacle, now)
        if one is not None:
            yield one


def _judged(
    instance: dg.DagsterInstance, config: LedgerConfig, name: str, day: date, obstacle: Obstacle | None, now: datetime
) -> Missed | None:
    """None while a run is at work on it, or the last one has only just failed."""
    runs = instance.get_run_records(dg.RunsFilter(tags={jobs.NIGHT: day.isoformat(), jobs.CONNECTION: name}))
    if any(run.dagster_run.status not in jobs.ENDED for run in runs):
        return None
    tried = len({run.dagster_run.tags.get(CATCH_UP) for run in runs} - {None})
    why = f"{obstacle.cause}: {obstacle.error}" if obstacle else "its runs have left nothing behind"
    if obstacle is not None and obstacle.needs_somebody:
        return Missed(name, day, tried, f"it waits for somebody, because trying again will not help: {why}")
    if tried >= config.schedule.catch_up_attempts:
        return Missed(name, day, tried, f"{tried} more runs have not brought it in: {why}")
    newest = max((run.update_timestamp for run in runs), default=None)
    if newest is not None and newest + BETWEEN_TRIES * 2**tried > now:
        return None
    return Missed(name, day, tried + 1)


def _alert(one: Missed, now: datetime) -> Alert:
    again = f"Then: ledger-pipeline sync --date {one.sync_date} --connection {one.connection}"
    kind = "waits" if "somebody" in one.given_up else "given up"
    return Alert(
        *("night_missing", f"missing:{one.connection}:{one.sync_date}:{kind}", f"{one.given_up} {again}", now),
        connection=one.connection,
        partition=one.sync_date.isoformat(),
    )


def _streams(config: LedgerConfig, name: str) -> list[str]:
    return [stream.name for stream in sources.load(config.connections[name].source).streams]


def states_of(database: Database, config: LedgerConfig, name: str, first: date, last: date) -> list[NightState]:
    """Of a connection's sync dates, both ends included."""
    with database.connect("reader") as connection:
        return nights.states(connection, name, _streams(config, name), first, last)
