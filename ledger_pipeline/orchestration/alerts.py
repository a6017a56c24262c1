"""Everything that goes wrong in Dagster becomes an alert: failed runs and checks, stuck runs, failed ticks. Sensors keep them; the channels follow.

The sensors look at the instance themselves: `run_failure_sensor` takes five runs a tick, and sees nothing of a run that the command line made.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg

from ledger_pipeline.config import LedgerConfig
from ledger_pipeline.connect.redact import Redactor
from ledger_pipeline.model.alert import Alert
from ledger_pipeline.operations.delivery import deliver, raise_alerts
from ledger_pipeline.orchestration.attempts import is_worker_dead
from ledger_pipeline.orchestration.resources import Ledger

LOOK_BACK = timedelta(days=1)
"""How far a sensor looks back when it runs for the first time."""
OVERLAP = timedelta(minutes=10)
"""Runs are committed out of order; looking again costs nothing, because an occurrence is kept once."""
IDLE = timedelta(minutes=2)
"""After so long without an event a run's process is looked for."""
S = dg.DagsterRunStatus
_redact = Redactor()


def sensors(config: LedgerConfig) -> list[dg.SensorDefinition]:
    """All of them; they run as soon as the daemon does."""
    return [
        _sensor("failed_runs", 15, "Alerts failed runs and failed checks.", _failed_runs(config)),
        _sensor("stuck_runs", 60, "Fails runs whose process is gone, and alerts runs that don't move.", _stuck_runs(config)),
        _sensor("failed_ticks", 60, "Alerts ticks of schedules and sensors that failed.", _failed_ticks(config)),
        _sensor("alert_delivery", 30, "Sends alerts that wait: summaries, and what a channel didn't take.", _delivery(config)),
    ]  # fmt: skip


Look = Callable[[dg.SensorEvaluationContext, Ledger], str]


def _sensor(name: str, seconds: int, description: str, look: Look) -> dg.SensorDefinition:
    @dg.sensor(
        name=name,
        description=description,
        minimum_interval_seconds=seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def sensor(context: dg.SensorEvaluationContext, ledger: Ledger) -> dg.SkipReason:
        return dg.SkipReason(look(context, ledger))

    return sensor


# failed runs and checks -----------------------------------------------------------------------------------------------


def _failed_runs(config: LedgerConfig) -> Look:
    def look(context: dg.SensorEvaluationContext, ledger: Ledger) -> str:
        since = _since(context.cursor)
        records = context.instance.get_run_records(
            dg.RunsFilter(statuses=[S.FAILURE, S.SUCCESS], updated_after=since - OVERLAP)
        )
        found = [alert for record in records for alert in alerts_of(context.instance, record, config)]
        new = raise_alerts(ledger.runtime.database, config.alerts, found)
        newest = max((record.update_timestamp for record in records), default=since)
        context.update_cursor(max(newest, since).isoformat())
        return f"{len(new)} new alerts from {len(records)} runs"

    return look


def _since(cursor: str | None) -> datetime:
    return datetime.fromisoformat(cursor) if cursor else datetime.now(UTC) - LOOK_BACK


def alerts_of(instance: dg.DagsterInstance, record: dg.RunRecord, config: LedgerConfig) -> list[Alert]:
    """What a run that has ended gives cause to say: that it failed, and which of its checks did."""
    run = record.dagster_run
    failed = _failed_checks(instance, run)
    blocking = [text for text, severity in failed if severity == dg.AssetCheckSeverity.ERROR]
    if run.status == S.FAILURE:
        return [_failed_run(instance, record, config, blocking)]
    wanted = failed if config.alerts.check_severity == "warning" else [one for one in failed if one[0] in blocking]
    return [
        Alert(
            *("check_failed", f"check:{run.run_id}:{text}", text, record.update_timestamp),
            severity="error" if severity == dg.AssetCheckSeverity.ERROR else "warning",
            connection=connection_of(run),
            partition=partition_of(run),
            link=link_to(config, run.run_id),
            run_id=run.run_id,
        )
        for text, severity in wanted
    ]


def _failed_run(instance: dg.DagsterInstance, record: dg.RunRecord, config: LedgerConfig, blocking: list[str]) -> Alert:
    run = record.dagster_run
    said = "; ".join(blocking) if blocking else error_of(instance, run)
    is_retried = _is_retried(run)
    connection, partition = connection_of(run), partition_of(run)
    return Alert(
        *("run_failed", f"run:{run.run_id}", said, record.update_timestamp),
        severity="warning" if is_retried else "error",
        connection=connection,
        partition=partition,
        link=link_to(config, run.run_id),
        run_id=run.run_id,
        about=(run.job_name, said, "" if connection or partition else run.run_id, str(is_retried)),
    )


def _is_retried(run: dg.DagsterRun) -> bool:
    """The daemon can launch a run again that it launched; one of the command line carries the same tag and has no origin."""
    return run.tags.get("dagster/will_retry") == "true" and run.remote_job_origin is not None


def error_of(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str:
    """Why a run failed, in a sentence: of the first step that failed, else what the run's own event says."""
    kinds = {dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.RUN_FAILURE, dg.DagsterEventType.ENGINE_EVENT}
    said = gone = ""
    for one in instance.get_records_for_run(run.run_id, of_type=kinds).records:
        event = one.event_log_entry.dagster_event
        if event is None:
            continue
        if event.event_type == dg.DagsterEventType.STEP_FAILURE:
            said = sentence(event.step_failure_data.error_display_string)
            break
        if event.event_type == dg.DagsterEventType.RUN_FAILURE:
            said = sentence(event.message or "")
        elif _PROCESS in (event.message or ""):
            gone = sentence(event.message or "").split(". ")[0] + "."
    said = gone if gone and said.startswith(_FROM_OUTSIDE) else said
    again = " It is tried again by itself." if _is_retried(run) else ""
    return (said or "no message") + again


def _failed_checks(instance: dg.DagsterInstance, run: dg.DagsterRun) -> list[tuple[str, dg.AssetCheckSeverity]]:
    """(check, asset and why; severity) of the checks that failed in a run."""
    records = instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION).records
    found = []
    for one in records:
        event = one.event_log_entry.dagster_event
        check = event.asset_check_evaluation_data if event else None
        if check is not None and not check.passed:
            text = f"check {check.check_name} of {check.asset_key.to_user_string()}: {check.description or 'failed'}"
            found.append((_redact(text), check.severity))
    return found


def connection_of(run: dg.DagsterRun) -> str:
    """The connections whose assets a run was asked for: a run from the UI or of a backfill carries no tag of ours."""
    if "ledger/connection" in run.tags:
        return run.tags["ledger/connection"]
    layers = ("raw", "staging", "ledger", "measures")
    names = {key.path[1] for key in run.asset_selection or () if len(key.path) == 3 and key.path[0] in layers}
    return ", ".join(sorted(names)) or (run.job_name if run.job_name in ("books", "month_end") else "")


def partition_of(run: dg.DagsterRun) -> str:
    """Its sync date, or the first and the last of a backfill's run."""
    first, last = (run.tags.get(f"dagster/asset_partition_range_{end}") for end in ("start", "end"))
    return run.tags.get("dagster/partition") or (f"{first} to {last}" if first and last else "")


def link_to(config: LedgerConfig, run_id: str) -> str:
    """The run in the UI; empty where alerts.ui_url isn't set."""
    from ledger_pipeline import config as configuration

    url = str(configuration.resolve(config.alerts.ui_url)).rstrip("/")
    return f"{url}/runs/{run_id}" if url and run_id else ""


_PROCESS, _FROM_OUTSIDE = "Run execution process for", "This run has been marked as failed from outside"
"""What Dagster says about a run whose process ended: the second message hides what the first one tells."""
_WRAPPERS = (
    "Stack Trace",
    "The above exception",
    "dagster._core.errors.DagsterExecution",
)
_FAILURE = "dagster._core.definitions.events.Failure: "


def sentence(error: str) -> str:
    """The first line of a chain of errors that says something, without its traceback; what follows a colon belongs to it."""
    lines = [line.strip() for line in error.splitlines() if line.strip() and not line.startswith((" ", "\t"))]
    told = [line for line in lines if not line.startswith(_WRAPPERS)]
    first = (told or ["unknown error"])[0]
    if first.endswith(":"):
        every = [line.strip() for line in error.splitlines() if line.strip()]
        first = " ".join(every[every.index(first) :][:3])
    return _redact(first.removeprefix(_FAILURE))[:500]


# stuck runs -----------------------------------------------------------------------------------------------------------


def _stuck_runs(config: LedgerConfig) -> Look:
    def look(context: dg.SensorEvaluationContext, ledger: Ledger) -> str:
        now = datetime.now(UTC)
        records = context.instance.get_run_records(dg.RunsFilter(statuses=[S.STARTED, S.STARTING, S.CANCELING]))
        found = list(stuck(context.instance, records, config, now))
        new = raise_alerts(ledger.runtime.database, config.alerts, found)
        return f"{len(new)} new alerts from {len(records)} runs at work"

    return look


def stuck(
    instance: dg.DagsterInstance, records: Sequence[dg.RunRecord], config: LedgerConfig, now: datetime
) -> Iterator[Alert]:  # fmt: skip
    """Runs that don't move. One whose process is gone is failed on the spot: it is retried, and the next look at failed runs tells of it."""
    for record in records:
        run = record.dagster_run
        last = instance.get_records_for_run(run.run_id, limit=1, ascending=False).records
        moved_at = datetime.fromtimestamp(last[0].event_log_entry.timestamp, UTC) if last else record.create_timestamp
        idle = now - moved_at
        if idle >= IDLE and is_worker_dead(instance, run):
            instance.report_run_failed(
                run, f"The run's process is gone; its last event was at {moved_at:%H:%M:%S} UTC."
            )
            continue
        began = datetime.fromtimestamp(record.start_time, UTC) if record.start_time else record.create_timestamp
        if idle >= timedelta(minutes=config.alerts.stuck_minutes):
            said = f"no event for {idle.total_seconds() / 60:.0f} minutes"
        elif now - began >= timedelta(minutes=config.alerts.long_run_minutes):
            said = f"it has been running for {(now - began).total_seconds() / 60:.0f} minutes"
        else:
            continue
        yield Alert(
            *("stuck_run", f"stuck:{run.run_id}:{said[:2]}", f"job {run.job_name}: {said}", now),
            connection=connection_of(run),
            partition=partition_of(run),
            link=link_to(config, run.run_id),
            run_id=run.run_id,
            about=(run.run_id,),
        )


# failed ticks ---------------------------------------------------------------------------------------------------------


def _failed_ticks(config: LedgerConfig) -> Look:
    def look(context: dg.SensorEvaluationContext, ledger: Ledger) -> str:
        since = _since(context.cursor)
        now = datetime.now(UTC)
        new = raise_alerts(
            ledger.runtime.database, config.alerts, list(failed_ticks(context.instance, since - OVERLAP))
        )
        context.update_cursor(now.isoformat())
        return f"{len(new)} new alerts"

    return look


def failed_ticks(instance: dg.DagsterInstance, since: datetime) -> Iterator[Alert]:
    """Evaluations of schedules and sensors that failed since then: the code server was gone, or their code raised."""
    from dagster._core.scheduler.instigation import TickStatus  # has no public name

    for state in instance.all_instigator_state():
        ticks = instance.get_ticks(
            state.instigator_origin_id, state.selector_id, after=since.timestamp(), statuses=[TickStatus.FAILURE]
        )
        for tick in ticks:
            said = sentence(tick.error.to_string()) if tick.error else "no message"
            kind = str(state.instigator_type.value).lower()
            at = datetime.fromtimestamp(tick.timestamp, UTC)
            yield Alert(
                *("tick_failed", f"tick:{tick.tick_id}", f"{kind} {state.instigator_name}: {said}", at),
                about=(state.instigator_name,),
            )


def _delivery(config: LedgerConfig) -> Look:
    def look(context: dg.SensorEvaluationContext, ledger: Ledger) -> str:
        return json.dumps({"sent": deliver(ledger.runtime.database, config.alerts)})

    return look
