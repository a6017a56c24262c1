"""A connection's day through Dagster in this process: an open gate, a closed one beside it, and what a person is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from ledger_pipeline.operations.settings import AlertsConfig
from ledger_pipeline.orchestration import alerts, jobs
from ledger_pipeline.store.database import Database
from ledger_pipeline_tests.orchestration.office import DAY, Office


@pytest.fixture
def office(tmp_path: Path, database: Database) -> Office:
    return Office(tmp_path, database)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def made_by(result: dg.ExecuteInProcessResult) -> set[str]:
    return {event.asset_key.path[0] for event in result.get_asset_materialization_events() if event.asset_key}


def test_a_closed_gate_stops_its_connection_and_no_other(office: Office, instance: dg.DagsterInstance) -> None:
    office.deliver("good", 30)
    office.deliver("bad", 20, bad=20)
    bad, good = office.run("nightly", instance, "bad"), office.run("nightly", instance, "good")
    assert not bad.success
    assert good.success
    assert made_by(bad) == {"raw", "staging"}
    assert made_by(good) == {"raw", "staging", "ledger", "measures"}
    assert (office.entries("bad"), office.entries("good")) == (0, 30)
    gates = {e.check_name: e.passed for e in bad.get_asset_check_evaluations() if e.check_name == "gate"}
    assert gates == {"gate": False}
    books = office.run("books", instance)
    checks = {e.check_name: (e.passed, e.description) for e in books.get_asset_check_evaluations()}
    assert checks["every_connection_is_in"] == (False, "missing: bad")
    assert checks["sums_to_zero"][0]


def test_the_ledger_asset_alone_posts_nothing_through_a_closed_gate(
    office: Office, instance: dg.DagsterInstance
) -> None:
    office.deliver("bad", 20, bad=20)
    office.run("nightly", instance, "bad")
    alone = office.run("nightly", instance, "bad", layers=("ledger",))
    assert not alone.success
    error = alone.get_step_failure_events()[0].event_specific_data.error_display_string  # type: ignore[union-attr]
    assert "bad 2026-10-05: the gate is closed: 20 of 40 records are quarantined" in alerts.sentence(error)
    assert office.entries("bad") == 0


def test_a_day_tells_its_rows_money_and_fates(office: Office, instance: dg.DagsterInstance) -> None:
    office.deliver("good", 3)
    done = office.run("nightly", instance, "good")
    told = {
        e.asset_key.to_user_string(): e.materialization.metadata
        for e in done.get_asset_materialization_events()
        if e.asset_key
    }
    staged = told["staging/good/bank_transaction"]
    assert staged["dagster/row_count"].value == 3
    assert "| amount_minor | GBP | 6.00 |" in str(staged["money"].value)
    posted = told["ledger/good/entries"]
    assert (posted["new entries"].value, posted["already posted"].value) == (3, 0)
    assert "posted" in str(posted["fates"].value)
    again = office.run("nightly", instance, "good")
    event = next(e for e in again.get_asset_materialization_events() if e.asset_key and e.asset_key.path[0] == "ledger")
    assert (
        event.materialization.metadata["new entries"].value,
        event.materialization.metadata["already posted"].value,
    ) == (0, 3)


# alerts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("", "unknown error"),
        ("dagster._core.errors.DagsterExecutionStepExecutionError: Error occurred while executing op:\n\nValueError: no\n\nStack Trace:\n  File x\n", "ValueError: no"),
        ("GateClosed: shop is closed\n\nStack Trace:\n  File x, line 1\n    raise", "GateClosed: shop is closed"),
        ("The above exception was caused by the following exception:\nKeyError: 'a'\n", "KeyError: 'a'"),
        ("E: " + "x" * 900, "E: " + "x" * 497),
    ],
)  # fmt: skip
def test_an_error_becomes_a_sentence(error: str, said: str) -> None:
    assert alerts.sentence(error) == said


def test_a_failed_run_tells_where_to_look(office: Office, instance: dg.DagsterInstance) -> None:
    office.deliver("bad", 20, bad=20)
    office.run("nightly", instance, "bad")
    failed = office.run("nightly", instance, "bad", layers=("ledger",))
    record = instance.get_run_record_by_id(failed.run_id)
    assert record is not None
    config = office.runtime.config.model_copy(
        update={"alerts": AlertsConfig(webhook_url="", ui_url="http://127.0.0.1:3000/")}
    )
    [alert] = alerts.alerts_of(instance, record, config)
    assert (alert.kind, alert.connection, alert.partition, alert.run_id) == ("run_failed", "bad", DAY, failed.run_id)
    assert alert.link == f"http://127.0.0.1:3000/runs/{failed.run_id}"
    assert alert.sentence.startswith("bad 2026-10-05: the gate is closed")
    assert "\n" not in alert.sentence


def test_a_run_that_a_check_stopped_tells_of_the_check_and_once(office: Office, instance: dg.DagsterInstance) -> None:
    office.deliver("bad", 20, bad=20)
    stopped = office.run("nightly", instance, "bad")
    record = instance.get_run_record_by_id(stopped.run_id)
    assert record is not None
    [alert] = alerts.alerts_of(instance, record, office.runtime.config)
    assert "check gate of staging/bad/sale: 2026-10-05: 20 of 40 records are quarantined" in alert.sentence


def test_failed_checks_that_only_warn_are_alerted_where_that_is_wanted(
    office: Office, instance: dg.DagsterInstance
) -> None:
    office.deliver("good", 30)
    office.run("nightly", instance, "good")
    books = office.run("books", instance)
    record = instance.get_run_record_by_id(books.run_id)
    assert record is not None
    config = office.runtime.config
    assert [a.kind for a in alerts.alerts_of(instance, record, config) if "every_connection" in a.sentence] == []
    wanted = config.model_copy(update={"alerts": AlertsConfig(check_severity="warning")})
    found = [a for a in alerts.alerts_of(instance, record, wanted) if "every_connection" in a.sentence]
    assert [(a.kind, a.severity, a.connection, a.partition) for a in found] == [
        ("check_failed", "warning", "books", DAY)
    ]
    assert "missing: bad" in found[0].sentence


def test_a_backfill_is_one_run_and_a_closed_day_does_not_stop_the_open_ones(
    office: Office, instance: dg.DagsterInstance
) -> None:
    office.deliver("good", 30)
    lines = [f"2026-10-06,{n}.001,odd {n}" for n in range(20)]
    (office.folder / "good" / "2026-10-06.csv").write_text("\n".join(["Date,Amount,Text", *lines]) + "\n")
    (office.folder / "good" / "2026-10-07.csv").write_text("Date,Amount,Text\n2026-10-07,5.00,one\n")
    ends = {"dagster/asset_partition_range_start": DAY, "dagster/asset_partition_range_end": "2026-10-07"}
    result = office.repository.get_job("nightly").execute_in_process(
        instance=instance, tags=ends, asset_selection=jobs.keys_of(office.runtime.config, "good"), raise_on_error=False
    )
    assert office.entries("good") == 31
    assert not result.success
    error = alerts.sentence(result.get_step_failure_events()[0].step_failure_data.error_display_string)
    assert "good 2026-10-06: the gate is closed" in error
    posted = [
        e.partition
        for e in result.get_asset_materialization_events()
        if e.asset_key and e.asset_key.path[0] == "ledger"
    ]
    assert posted == [DAY, "2026-10-07"]
    (gate,) = (e for e in result.get_asset_check_evaluations() if e.check_name == "gate")
    assert (gate.passed, gate.severity) == (False, dg.AssetCheckSeverity.WARN)
