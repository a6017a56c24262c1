"""Health of real connections to the sandbox, taken for real systems: what is well, what warns, what fails, and what is left out."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dagster as dg
import psycopg
import pytest
from typer.testing import CliRunner

from ledger_pipeline.cli import app
from ledger_pipeline.operations import health
from ledger_pipeline.operations.dagster_tables import Heartbeats
from ledger_pipeline.operations.settings import HealthConfig
from ledger_pipeline.orchestration import health as asset
from ledger_pipeline.orchestration.runtime import Runtime
from ledger_pipeline.store.database import Database
from ledger_pipeline.store.health import Finding
from ledger_pipeline_tests.conftest import SandboxCompany
from ledger_pipeline_tests.operations.receivers import hook

REAL = "    source: stripe\n    is_sandbox: false\n"


def runtime_of(sandbox: SandboxCompany, folder: Path, database: Database, **replaced: str) -> Runtime:
    """The sample company, whose Stripe connections are taken for real ones."""
    sandbox.runtime(folder, database)
    path = folder / "ledger.yaml"
    text = path.read_text().replace("    source: stripe\n", REAL)
    for old, new in replaced.items():
        text = text.replace(old, new)
    path.write_text(text)
    return Runtime.from_file(path)


def by_subject(findings: list[Finding]) -> dict[str, Finding]:
    return {one.subject: one for one in findings}


def test_connections_to_the_sandbox_are_named_and_left_out(
    tmp_path: Path, database: Database, sandbox: SandboxCompany
) -> None:
    found = by_subject(health.look(sandbox.runtime(tmp_path, database)))
    assert {name for name, one in found.items() if one.state == "sandbox"} == {
        f"connection/{name}"
        for name in (
            *("shopify_us", "stripe_us", "plaid_us", "shopify_uk", "stripe_uk", "plaid_uk", "bank_eur", "stall_uk"),
        )
    }
    assert found["database"].state == "ok"
    assert "MiB" in found["database"].sentence
    assert "GiB free" in found["disk"].sentence


def test_a_real_connection_shows_key_clock_and_last_record(
    tmp_path: Path, database: Database, sandbox: SandboxCompany
) -> None:
    runtime = runtime_of(sandbox, tmp_path, database)
    with database.connect() as connection:
        connection.execute(
            "INSERT INTO raw.pull (pull_id, connection, stream, sync_date, run_id, started_at, ended_at, pages, records, repeated, landed, "
            "calls, retries) VALUES (1, 'stripe_us', 'payouts', '2026-10-05', 'r', now(), %s, 1, 1, 0, 1, 1, 0)",
            (datetime.now(UTC) - timedelta(days=9),),
        )
    found = by_subject(health.look(runtime))
    assert found["connection/stripe_us"] == Finding(
        "connection/stripe_us",
        "warn",
        "the key is taken; the clocks agree; last new record 9 days ago",
        found["connection/stripe_us"].details,
    )
    assert found["connection/stripe_uk"].state == "ok"
    assert found["connection/stripe_uk"].sentence.endswith("no record yet")


def test_a_refused_key_fails_and_shows_no_key(tmp_path: Path, database: Database, sandbox: SandboxCompany) -> None:
    runtime = runtime_of(sandbox, tmp_path, database, sk_test_sandbox_stripe_us="sk_test_wrongwrongwrong")
    finding = health.of_connection(runtime, "stripe_us")
    assert (finding.state, finding.details) == ("fail", {"error": "AuthError"})
    assert "401" in finding.sentence
    assert "wrongwrongwrong" not in finding.sentence


def test_a_system_that_is_not_there_fails_in_time(tmp_path: Path, database: Database, sandbox: SandboxCompany) -> None:
    runtime = runtime_of(sandbox, tmp_path, database, **{sandbox.url: "http://127.0.0.1:1"})
    began = datetime.now(UTC)
    assert health.of_connection(runtime, "stripe_us").state == "fail"
    assert datetime.now(UTC) - began < timedelta(seconds=10)


def test_a_folder_that_is_not_there_fails(tmp_path: Path, database: Database, sandbox: SandboxCompany) -> None:
    text = {"    is_sandbox: true\n": "", str(sandbox.files): str(tmp_path / "gone")}
    runtime = runtime_of(sandbox, tmp_path, database, **text)
    assert health.of_connection(runtime, "stall_uk").sentence == "its folder is not there; no record yet"


@pytest.mark.parametrize(
    ("ages", "state", "said"),
    [
        ({}, "warn", "no daemon has run here"),
        ({"SENSOR": 20.0, "SCHEDULER": 31.0}, "ok", "2 daemons, last heartbeat 31 s ago"),
        ({"SENSOR": 20.0, "SCHEDULER": 900.0}, "fail", "silent: SCHEDULER (15 minutes ago)"),
        ({"SENSOR": 301.0, "SCHEDULER": 359.0}, "fail", "silent: SENSOR (5 minutes ago)"),  # it wakes once a minute
    ],
)
def test_a_silent_daemon_fails(ages: dict[str, float], state: str, said: str) -> None:
    finding = health.of_daemons(Heartbeats(ages), 300)
    assert (finding.state, finding.sentence) == (state, said)


def test_a_full_disk_fails(tmp_path: Path) -> None:
    assert health.disk(tmp_path / "not" / "yet", HealthConfig(disk_warn=1, disk_fail=0)).state == "warn"
    assert health.disk(tmp_path, HealthConfig(disk_warn=1, disk_fail=1)).state == "fail"


def test_what_fails_is_kept_and_told_once_and_again_after_it_was_well(
    tmp_path: Path, database: Database, sandbox: SandboxCompany, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hook() as slack:
        runtime = runtime_of(sandbox, tmp_path, database)
        path = tmp_path / "ledger.yaml"
        path.write_text(
            path.read_text() + f"\nalerts: {{channels: [{{type: slack, url: '{slack.url}'}}], same_minutes: 0}}\n"
        )
        runtime = Runtime.from_file(path)
        clock = [datetime(2026, 10, 6, tzinfo=UTC)]
        runtime.clock = lambda: clock[0]
        bad, good = Finding("disk", "fail", "1 GiB free"), Finding("disk", "ok", "90 GiB free")
        for finding in (bad, bad, good, bad):
            monkeypatch.setattr(health, "look", lambda _, one=finding: [one])
            asset.look(runtime)
            clock[0] += timedelta(minutes=15)
    assert [one["text"] for one in slack.got] == ["Health check failed: –, –. disk: 1 GiB free"] * 2
    with database.connect("reader") as connection:
        assert connection.execute("SELECT state FROM ops.health ORDER BY 1").fetchall() == [("fail",)] * 3 + [("ok",)]


def test_the_asset_shows_every_finding_and_its_history(
    tmp_path: Path, database: Database, sandbox: SandboxCompany
) -> None:
    from ledger_pipeline.orchestration.build import build_defs

    sandbox.runtime(tmp_path, database)
    job = build_defs(tmp_path / "ledger.yaml").get_repository_def().get_job("health")
    with dg.DagsterInstance.ephemeral() as instance:
        result = job.execute_in_process(instance=instance)
    [made] = result.get_asset_materialization_events()
    metadata = made.materialization.metadata
    assert "connection/plaid_us" in str(metadata["findings"].value)
    assert "data:image/svg+xml" in str(metadata["last two days"].value)


def test_the_command_prints_json_and_ends_with_one_when_something_fails(
    tmp_path: Path, database: Database, sandbox: SandboxCompany
) -> None:
    runtime_of(sandbox, tmp_path, database, sk_test_sandbox_stripe_us="sk_test_wrongwrongwrong")
    ran = CliRunner().invoke(app, ["health", "--json", "--config", str(tmp_path / "ledger.yaml")])
    told: dict[str, Any] = json.loads(ran.output)
    assert (ran.exit_code, told["state"]) == (1, "fail")
    states = {one["subject"]: one["state"] for one in told["findings"]}
    assert (states["connection/stripe_us"], states["connection/plaid_us"]) == ("fail", "sandbox")


def test_a_database_that_is_gone_is_a_finding(tmp_path: Path, database: Database, sandbox: SandboxCompany) -> None:
    runtime = runtime_of(sandbox, tmp_path, database)
    _ = runtime.database
    with psycopg.connect(database.with_name("postgres").url, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE "{urlsplit(database.url).path.lstrip("/")}" WITH (FORCE)')
    found = by_subject(health.look(runtime))
    assert found["database"].state == "fail"
    assert found["connection/stripe_us"].sentence == "the database can't be asked (OperationalError)"
