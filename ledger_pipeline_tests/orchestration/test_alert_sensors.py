"""What the sensors see of the instance: a hundred failed runs, runs that don't move, runs whose process is gone, failed ticks."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import psutil
import pytest
from dagster._core.remote_origin import (
    RegisteredCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import InstigatorState, InstigatorStatus, InstigatorType, TickData, TickStatus
from dagster._core.storage.tags import GRPC_INFO_TAG
from dagster._core.test_utils import freeze_time
from dagster._utils.error import SerializableErrorInfo

from ledger_pipeline.config import LedgerConfig
from ledger_pipeline.orchestration import alerts, attempts, jobs
from ledger_pipeline.orchestration.resources import Ledger
from ledger_pipeline.store.database import Database
from ledger_pipeline_tests.operations.receivers import hook
from ledger_pipeline_tests.orchestration.office import Office

S = dg.DagsterRunStatus


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def config(**alerts_: Any) -> LedgerConfig:
    return LedgerConfig.model_validate({"entities": {}, "connections": {}, "alerts": alerts_})


def run(instance: dg.DagsterInstance, night: str, name: str, status: S, **tags: str) -> dg.DagsterRun:
    tags = {jobs.NIGHT: night, "dagster/partition": night, jobs.CONNECTION: name} | tags
    return instance.add_run(dg.DagsterRun(job_name="nightly", tags=tags, status=status))


def test_a_hundred_failed_runs_are_told_in_one_tick(
    tmp_path: Path, database: Database, instance: dg.DagsterInstance
) -> None:
    """Dagster's own failure sensor takes five runs a tick."""
    with hook() as slack:
        office = Office(tmp_path, database, f"alerts: {{channels: [{{type: slack, url: '{slack.url}'}}]}}\n")
        for number in range(100):
            started = run(instance, "2026-10-05", f"shop_{number}", S.STARTED)
            instance.report_run_failed(started, f"no key for {number}")
        sensor = office.repository.get_sensor_def("failed_runs")
        for cursor in (None, datetime.now(UTC).isoformat()):
            context = dg.build_sensor_context(
                instance=instance,
                repository_def=office.repository,
                cursor=cursor,
                resources={"ledger": Ledger(config_path=str(office.config))},
            )
            sensor.evaluate_tick(context)
    said = "\n".join(one["text"] for one in slack.got)
    assert [n for n in range(100) if f"shop_{n}, 2026-10-05" not in said] == []
    with database.connect("reader") as connection:
        assert connection.execute("SELECT count(*) FROM ops.alert").fetchone() == (100,)


def test_a_run_that_is_retried_is_a_warning_and_says_so(instance: dg.DagsterInstance) -> None:
    origin = RemoteJobOrigin(RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("here"), "repository"), "nightly")
    tags = {"dagster/will_retry": "true", jobs.CONNECTION: "shop"}
    found = []
    for whose in (origin, None):
        started = instance.add_run(
            dg.DagsterRun(job_name="nightly", tags=tags, status=S.STARTED, remote_job_origin=whose)
        )
        instance.report_run_failed(started, "worker gone.")
        record = instance.get_run_record_by_id(started.run_id)
        assert record is not None
        found += alerts.alerts_of(instance, record, config())
    assert [(one.severity, one.sentence) for one in found] == [
        ("warning", "worker gone. It is tried again by itself."),
        ("error", "worker gone."),
    ]


def test_a_killed_process_is_named_where_dagster_only_says_from_outside(instance: dg.DagsterInstance) -> None:
    started = run(instance, "2026-10-05", "shop", S.STARTED)
    instance.report_engine_event(
        "Run execution process for x was terminated by signal 9 (SIGKILL). This usually …", started
    )
    instance.report_run_failed(started)
    record = instance.get_run_record_by_id(started.run_id)
    assert record is not None
    [alert] = alerts.alerts_of(instance, record, config())
    assert alert.sentence == "Run execution process for x was terminated by signal 9 (SIGKILL)."


def test_a_run_without_events_is_stuck_and_a_long_one_too(instance: dg.DagsterInstance) -> None:
    run(instance, "2026-10-05", "shop", S.STARTED)
    records = instance.get_run_records()
    now = datetime.now(UTC)
    assert list(alerts.stuck(instance, records, config(), now + timedelta(minutes=29))) == []
    [alert] = alerts.stuck(instance, records, config(), now + timedelta(minutes=31))
    assert (alert.kind, alert.connection, alert.partition) == ("stuck_run", "shop", "2026-10-05")
    assert alert.sentence == "job nightly: no event for 31 minutes"
    [later] = alerts.stuck(instance, records, config(), now + timedelta(minutes=45))
    assert later.event_key == alert.event_key, "a stuck run is told once"
    [long] = alerts.stuck(instance, records, config(stuck_minutes=500), now + timedelta(minutes=200))
    assert "it has been running for 200 minutes" in long.sentence


def noted(instance: dg.DagsterInstance, host: str, pid: int, started: int = 1) -> dg.DagsterRun:
    """A run at work that its process has noted itself for."""
    made = run(instance, "2026-10-05", "x", S.STARTED)
    instance.add_run_tags(made.run_id, {attempts.WORKER: f"{host}:{pid}:{started}:{made.run_id}"})
    found = instance.get_run_by_id(made.run_id)
    assert found is not None
    return found


def test_a_run_whose_process_is_gone_is_failed(instance: dg.DagsterInstance) -> None:
    dead, elsewhere = noted(instance, socket.gethostname(), _dead_process()), noted(instance, "another-host", 1)
    soon = datetime.now(UTC) + timedelta(minutes=3)
    assert list(alerts.stuck(instance, instance.get_run_records(), config(), soon)) == []
    statuses = {name.run_id: instance.get_run_by_id(name.run_id).status for name in (dead, elsewhere)}  # type: ignore[union-attr]
    assert statuses == {dead.run_id: S.FAILURE, elsewhere.run_id: S.STARTED}
    [alert] = alerts.alerts_of(instance, instance.get_run_record_by_id(dead.run_id), config())  # type: ignore[arg-type]
    assert alert.sentence.startswith("The run's process is gone")


def test_a_process_id_that_another_process_got_is_a_dead_worker(instance: dg.DagsterInstance) -> None:
    assert attempts.is_worker_dead(instance, noted(instance, socket.gethostname(), os.getpid())) is True


def test_a_retry_that_has_not_begun_is_not_dead_because_its_parent_is(instance: dg.DagsterInstance) -> None:
    """Dagster gives it the parent's tags."""
    dead = noted(instance, socket.gethostname(), _dead_process())
    retry = run(instance, "2026-10-05", "x", S.STARTING, **{attempts.WORKER: dead.tags[attempts.WORKER]})
    assert [attempts.is_worker_dead(instance, one) for one in (dead, retry)] == [True, None]


def test_a_process_that_died_before_it_noted_itself_is_known_from_dagsters_own_event(
    instance: dg.DagsterInstance,
) -> None:
    def started(pid: int, host: str) -> dg.DagsterRun:
        made = run(instance, "2026-10-05", "x", S.STARTED, **{GRPC_INFO_TAG: json.dumps({"host": host, "port": 4266})})
        instance.report_engine_event("Starting process for run (pid: 1).", made)
        instance.report_engine_event(f"Started process for run (pid: {pid}).", made)
        return made

    gone, here, far = (
        started(pid, host)
        for pid, host in ((_dead_process(), "127.0.0.1"), (os.getpid(), socket.gethostname()), (_dead_process(), "far"))
    )
    assert [attempts.is_worker_dead(instance, one) for one in (gone, here, far)] == [True, False, None]
    with freeze_time(datetime.fromtimestamp(psutil.Process().create_time() - 60, UTC)):
        before_this_process = started(os.getpid(), "localhost")
    assert attempts.is_worker_dead(instance, before_this_process) is True
    assert attempts.is_worker_dead(instance, run(instance, "2026-10-05", "x", S.STARTING)) is None
    list(alerts.stuck(instance, instance.get_run_records(), config(), datetime.now(UTC) + timedelta(minutes=3)))
    statuses = [instance.get_run_by_id(one.run_id).status for one in (gone, here, far)]  # type: ignore[union-attr]
    assert statuses == [S.FAILURE, S.STARTED, S.STARTED]


def test_a_step_in_a_process_of_its_own_does_not_stand_for_the_run(instance: dg.DagsterInstance) -> None:
    origin = RemoteJobOrigin(RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("here"), "repository"), "nightly")
    said = []
    for engine, whose in (("in_process", origin), ("multiprocess", origin), ("celery", None)):
        made = instance.add_run(dg.DagsterRun(job_name="nightly", status=S.STARTED, remote_job_origin=whose))
        attempts.note_worker(SimpleNamespace(run=made, instance=instance), engine)  # type: ignore[arg-type]
        found = instance.get_run_by_id(made.run_id)
        assert found is not None
        said.append(attempts.is_worker_dead(instance, found))
    assert said == [False, None, False], "without an origin it is one of the command line, which runs its steps itself"


def _dead_process() -> int:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return pid


def test_a_tick_that_failed_is_told_with_its_sensor() -> None:
    with dg.DagsterInstance.local_temp() as instance:
        origin = RemoteInstigatorOrigin(
            RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("here"), "repository"), "books_after_the_night"
        )
        instance.add_instigator_state(InstigatorState(origin, InstigatorType.SENSOR, InstigatorStatus.RUNNING, None))
        state = instance.all_instigator_state()[0]
        now = datetime.now(UTC)
        error = SerializableErrorInfo("DagsterUserCodeUnreachableError: Could not reach user code server\n", [], "E")
        instance.create_tick(
            TickData(
                state.instigator_origin_id,
                state.instigator_name,
                InstigatorType.SENSOR,
                TickStatus.FAILURE,
                now.timestamp(),
                selector_id=state.selector_id,
                error=error,
            )
        )
        [alert] = alerts.failed_ticks(instance, now - timedelta(minutes=5))
        assert alert.kind == "tick_failed"
        assert alert.sentence.startswith("sensor books_after_the_night: DagsterUserCodeUnreachableError")
        assert list(alerts.failed_ticks(instance, now + timedelta(minutes=5))) == []
