"""Old runs lose their steps and messages in Dagster's log; partitions, checks, states and failures stay, and so do younger runs."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ledger_pipeline.orchestration import nights, retention
from ledger_pipeline.orchestration.assets import ledger_key, staging_key
from ledger_pipeline.store.database import Database
from ledger_pipeline_tests.orchestration.test_runs import DAY, Office

GATE = dg.AssetCheckKey(staging_key("good", "bank_transaction"), "gate")


def told(instance: dg.DagsterInstance, run_ids: list[str]) -> dict[str, Any]:
    """What the catalogue and the list of runs are made of."""
    record = instance.get_latest_materialization_event(ledger_key("good"))
    assert record is not None
    checks = instance.event_log_storage.get_asset_check_execution_history(GATE, limit=5)
    return {
        "partitions": instance.get_materialized_partitions(ledger_key("good")),
        "latest": record.asset_materialization,
        "checks": [(check.status, check.run_id) for check in checks],
        "states": [instance.get_run_by_id(run_id).status for run_id in run_ids],  # type: ignore[union-attr]
    }


def types(instance: dg.DagsterInstance, run_id: str) -> Counter[str]:
    return Counter(log.dagster_event.event_type_value if log.dagster_event else "message" for log in instance.all_logs(run_id))  # fmt: skip


def test_old_runs_are_shortened_and_everything_that_counts_stays(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    office = Office(tmp_path, database)
    office.deliver("good", 3)
    office.deliver("bad", 20, bad=20)
    with nights.instance(office.runtime) as instance:
        runs = [office.run("nightly", instance, name).run_id for name in ("good", "bad")]
        before, started = told(instance, runs), types(instance, runs[0])
        assert started["STEP_SUCCESS"] > 3
        ended = datetime.now(UTC) + timedelta(seconds=1)
        assert list(retention.purge(database, ended - timedelta(days=1))) == []
        number = retention.count(database, ended)
        batches = list(retention.purge(database, ended, batch=20))
        assert sum(batches) == number > 40
        assert max(batches) == 20
        assert told(instance, runs) == before
        assert DAY in before["partitions"]
        kept = types(instance, runs[0])
        assert not set(kept) & {"message", *retention.STEPS}
        assert kept == {name: n for name, n in started.items() if name not in ("message", *retention.STEPS)}
        assert types(instance, runs[1])["PIPELINE_FAILURE"] == 1
        assert retention.count(database, ended) == 0


def test_a_run_that_has_not_ended_keeps_everything(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    office = Office(tmp_path, database)
    with nights.instance(office.runtime) as instance:
        run = dg.DagsterRun(job_name="nightly", status=dg.DagsterRunStatus.STARTED)
        instance.add_run(run)
        instance.report_engine_event("works", run)
        before = types(instance, run.run_id)
        assert before
        list(retention.purge(database, datetime.now(UTC) + timedelta(days=1)))
        assert types(instance, run.run_id) == before
