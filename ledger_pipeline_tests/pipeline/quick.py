"""The product's definitions with shorter waits, and a sensor that asks for days again and again: what the code server of the kill test loads."""

import random
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg

from ledger_pipeline import sources
from ledger_pipeline.config import find, load
from ledger_pipeline.orchestration import alerts, calendar, catching_up, jobs
from ledger_pipeline.orchestration.build import build_defs
from ledger_pipeline.orchestration.changed import WARM

STOP = Path("stop")
"""A file in the working folder: once it is there, no more work is made."""
AT_ONCE = 3
S = dg.DagsterRunStatus
_sensor = alerts._sensor


def _quick_sensor(name: str, seconds: int, description: str, look: alerts.Look) -> dg.SensorDefinition:
    return _sensor(name, min(seconds, 5), description, look)


alerts._sensor = _quick_sensor
alerts.IDLE = timedelta(seconds=20)
catching_up.GRACE, catching_up.BETWEEN_TRIES = timedelta(0), timedelta(seconds=3)
catching_up.EVERY_SECONDS = 10


@dg.sensor(
    name="more_work",
    job_name="nightly",
    minimum_interval_seconds=3,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def more_work(context: dg.SensorEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
    at_work = context.instance.get_runs_count(dg.RunsFilter(statuses=[S.QUEUED, S.NOT_STARTED, S.STARTING, S.STARTED]))
    if STOP.exists() or at_work >= AT_ONCE:
        yield dg.SkipReason(f"{at_work} runs at work")
        return
    config = load(find(), sources.known())
    name = random.choice(jobs.enabled(config))
    last = calendar.last_ended(datetime.now(UTC), config.entity_of(name).zone)
    start = datetime.fromisoformat(config.schedule.start).date()
    day = (start + timedelta(days=random.randrange((last - start).days + 1))).isoformat()
    tags = {jobs.NIGHT: day, jobs.CONNECTION: name} | ({WARM: "again"} if random.random() < 0.5 else {})
    yield dg.RunRequest(
        run_key=uuid.uuid4().hex, partition_key=day, asset_selection=jobs.keys_of(config, name), tags=tags
    )


defs = dg.Definitions.merge(build_defs(), dg.Definitions(sensors=[more_work]))
