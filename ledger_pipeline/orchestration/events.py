"""Events out under Dagster: a job that delivers what is due, and the sensor that asks for it."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from ledger_pipeline.config import LedgerConfig
from ledger_pipeline.orchestration import engines
from ledger_pipeline.orchestration.changed import WARM
from ledger_pipeline.orchestration.jobs import UNFINISHED
from ledger_pipeline.orchestration.resources import Ledger
from ledger_pipeline.store import events

JOB = "deliver_events"


def jobs(config: LedgerConfig) -> list[dg.JobDefinition]:
    """The job; none where no endpoint is named."""
    if not config.events:
        return []

    @dg.op(description="Posts what is due to its endpoints, and logs every attempt.")
    def deliver_due_events(context: dg.OpExecutionContext, ledger: Ledger) -> None:
        from ledger_pipeline.operations import outgoing

        done = outgoing.deliver(ledger.runtime)
        for (endpoint, outcome), count in sorted(done.items()):
            context.log.info("%s: %d %s", endpoint, count, outcome)

    @dg.job(
        name=JOB,
        executor_def=engines.executor(config.execution),
        description="Delivers events to the endpoints of ledger.yaml.",
    )
    def deliver_events() -> None:
        deliver_due_events()

    return [deliver_events]


def sensors(config: LedgerConfig, made: list[dg.JobDefinition]) -> list[dg.SensorDefinition]:
    """The sensor; none where no endpoint is named."""
    if not made:
        return []
    (job,) = made

    @dg.sensor(
        name="events_are_due",
        job=job,
        minimum_interval_seconds=5,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Asks for a delivery when an event is due and none is under way.",
    )
    def events_are_due(context: dg.SensorEvaluationContext, ledger: Ledger) -> Iterator[dg.RunRequest | dg.SkipReason]:
        runtime = ledger.runtime
        with runtime.database.connect("reader") as connection:
            is_due = events.is_any_due(connection, list(runtime.config.events), runtime.clock())
        filters: dict[str, Any] = {"job_name": JOB, "statuses": UNFINISHED}
        if is_due and not context.instance.get_runs(dg.RunsFilter(**filters), limit=1):
            yield dg.RunRequest(tags={WARM: JOB})
        else:
            yield dg.SkipReason("a delivery is under way" if is_due else "nothing is due")

    return [events_are_due]
