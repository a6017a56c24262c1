"""A transient cause is tried again, a few times; a permanent one is named and is not. Both on real connections to the sandbox."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest
import requests

from ledger_pipeline.config import ConfigError
from ledger_pipeline.connect import errors
from ledger_pipeline.connect.client import Client
from ledger_pipeline.operations.causes import Cause, cause_of
from ledger_pipeline.orchestration import alerts, attempts, jobs
from ledger_pipeline.orchestration.build import build_defs
from ledger_pipeline.sandbox.faults import KINDS
from ledger_pipeline.store import sync_log
from ledger_pipeline.store.database import Database
from ledger_pipeline.store.gate import GateClosed
from ledger_pipeline_tests.conftest import SandboxCompany, serving
from ledger_pipeline_tests.pipeline.books import WEEK

DAY = WEEK[0]
ROUTE = "stripe_us/v1/payouts"


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxCompany]:
    with serving(tmp_path_factory.mktemp("files")) as made:
        made.at_night_of(DAY)
        yield made


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client's own waits between six requests."""
    monkeypatch.setitem(Client.__init__.__kwdefaults__, "jitter", lambda low, high: 0.0)


def night(
    company: SandboxCompany, database: Database, folder: Path, instance: dg.DagsterInstance, name: str = "stripe_us"
) -> dg.ExecuteInProcessResult:
    """The run of a connection as the schedule asks for it, without waits between tries."""
    runtime = company.runtime(folder, database)
    path = folder / "ledger.yaml"
    path.write_text(path.read_text() + "\nretries: { seconds: 0, max_retries: 2 }\n")
    return (
        build_defs(path)
        .get_repository_def()
        .get_job("nightly")
        .execute_in_process(
            instance=instance,
            partition_key=DAY.isoformat(),
            tags={jobs.NIGHT: DAY.isoformat(), jobs.CONNECTION: name},
            asset_selection=jobs.keys_of(runtime.config, name),
            raise_on_error=False,
        )
    )


def kinds(result: dg.ExecuteInProcessResult, kind: dg.DagsterEventType) -> int:
    return sum(event.event_type == kind for event in result.all_events)


def log_of(database: Database) -> list[dict[str, Any]]:
    with database.connect("reader") as connection:
        return sync_log.read(connection, name="stripe_us")


def test_a_night_ends_right_when_the_system_is_down_for_a_while(
    tmp_path: Path, database: Database, company: SandboxCompany
) -> None:
    with (
        dg.DagsterInstance.ephemeral() as instance,
        company.fault(route=ROUTE, kind="503", times=8, retry_after=0),
    ):
        result = night(company, database, tmp_path, instance)
        assert result.success
        assert kinds(result, dg.DagsterEventType.STEP_UP_FOR_RETRY) == 1
        record = instance.get_run_record_by_id(result.run_id)
        assert record is not None
        assert attempts.is_worker_dead(instance, record.dagster_run) is False
    rows = log_of(database)
    [failed] = [row for row in rows if row["outcome"] == "failed"]
    assert (failed["stream"], failed["cause"], failed["calls"], failed["retries"]) == ("payouts", "server fault", 6, 5)
    assert "503" in failed["error"]
    assert [row["step"] for row in rows if row["step"] != "pull"] == ["stage", "check", "post"]
    posted = rows[-1]
    assert posted["details"]["originals"] > 0
    assert posted["details"]["lines"] > posted["details"]["originals"]


def test_tries_are_bounded(tmp_path: Path, database: Database, company: SandboxCompany) -> None:
    with (
        dg.DagsterInstance.ephemeral() as instance,
        company.fault(route=ROUTE, kind="503", times=1000, retry_after=0),
    ):
        result = night(company, database, tmp_path, instance)
    assert not result.success
    assert kinds(result, dg.DagsterEventType.STEP_UP_FOR_RETRY) == 2
    assert len([row for row in log_of(database) if row["outcome"] == "failed"]) == 3


def test_a_refused_key_is_named_and_not_tried_again(
    tmp_path: Path, database: Database, company: SandboxCompany
) -> None:
    with (
        dg.DagsterInstance.ephemeral() as instance,
        company.fault(route=ROUTE, kind="expired_token", times=1000),
    ):
        result = night(company, database, tmp_path, instance)
        record = instance.get_run_record_by_id(result.run_id)
        assert record is not None
        config = company.runtime(tmp_path, database).config
        [alert] = alerts.alerts_of(instance, record, config)
    assert not result.success
    assert kinds(result, dg.DagsterEventType.STEP_UP_FOR_RETRY) == 0
    assert alert.sentence.startswith("credentials: stripe_us: GET ")
    assert (alert.connection, alert.partition) == ("stripe_us", DAY.isoformat())
    assert "sk_test_sandbox" not in alert.sentence


ROUTES = {
    "stripe_us": "stripe_us/v1/balance_transactions",
    "plaid_us": "plaid_us/transactions/sync",
    "shopify_uk": "shopify_uk/admin/api/2026-10/graphql.json",
}


@pytest.mark.slow
def test_a_night_with_every_transport_fault_on_ends_right_or_with_a_named_alert(
    tmp_path: Path, new_database: Callable[[], Database], company: SandboxCompany
) -> None:
    quiet, noisy = new_database(), new_database()
    for folder in ("quiet", "noisy"):
        (tmp_path / folder).mkdir()
    with dg.DagsterInstance.ephemeral() as instance:
        for name in ROUTES:
            assert night(company, quiet, tmp_path / "quiet", instance, name).success
    faults = [
        {"route": route, "kind": kind, "times": 2, "seconds": 0.1, "retry_after": 0}
        for route in ROUTES.values()
        for kind in KINDS
        if kind != "expired_token" or route.startswith("plaid")
    ]
    requests.post(f"{company.url}/_control/faults", json=faults, timeout=10).raise_for_status()
    named: dict[str, str] = {}
    try:
        with dg.DagsterInstance.ephemeral() as instance:
            for name in ROUTES:
                result = night(company, noisy, tmp_path / "noisy", instance, name)
                record = instance.get_run_record_by_id(result.run_id)
                assert record is not None
                config = company.runtime(tmp_path / "noisy", noisy).config
                for alert in alerts.alerts_of(instance, record, config):
                    named[name] = alert.sentence
                assert result.success == (name not in named)
        struck = [f for f in requests.get(f"{company.url}/_control/faults", timeout=10).json() if f["struck"]]
    finally:
        requests.delete(f"{company.url}/_control/faults", timeout=10)
    assert len(struck) > 12
    assert named["plaid_us"].startswith("credentials: plaid_us: POST ")
    words = {"credentials", "network", "server fault", "rate limit", "listing"}
    assert {name: said for name, said in named.items() if said.split(":")[0] not in words} == {}
    with dg.DagsterInstance.ephemeral() as instance:
        for name in named:
            assert night(company, noisy, tmp_path / "noisy", instance, name).success
    query = "SELECT entity, role, currency, amount_minor, base_minor FROM ledger.balance ORDER BY 1, 2, 3"
    with quiet.connect("reader") as one, noisy.connect("reader") as other:
        assert one.execute(query).fetchall() == other.execute(query).fetchall() != []


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (errors.AuthError("c", "401"), Cause("credentials", False)),
        (errors.TransportError("c", "reset"), Cause("network", True)),
        (errors.TransportError("c", "posted?", is_outcome_unknown=True), Cause("network", False)),
        (errors.RateLimited("c", "429"), Cause("rate limit", True)),
        (errors.BadPayload("c", "unexpected answer", is_transient=False), Cause("schema change", False)),
        (errors.BadPayload("c", "truncated", is_transient=True), Cause("network", True)),
        (errors.RequestRejected("c", "400"), Cause("request rejected", False)),
        (errors.PageFault("c", "shift"), Cause("listing", True)),
        (GateClosed("closed"), Cause("gate closed", False)),
        (ConfigError(["X is not set"]), Cause("configuration", False)),
        (psycopg.OperationalError("server closed the connection"), Cause("database", True)),
        (psycopg.errors.AdminShutdown("terminating"), Cause("database", True)),
        (psycopg.errors.DeadlockDetected("deadlock"), Cause("database", True)),
        (psycopg.errors.InsufficientPrivilege("no"), Cause("database rights", False)),
        (psycopg.errors.CheckViolation("unbalanced"), Cause("unexpected", False)),
        (OSError(errno.ENOSPC, "No space left"), Cause("disk full", False)),
        (ValueError("bug"), Cause("unexpected", False)),
    ],
)
def test_every_cause_is_named(error: Exception, cause: Cause) -> None:
    assert cause_of(error) == cause


def test_the_cause_may_stand_behind_another_error() -> None:
    error = RuntimeError("pulling")
    error.__cause__ = errors.AuthError("c", "401")
    assert cause_of(error).word == "credentials"


def test_waits_grow_and_end_at_ten_minutes() -> None:
    first, second, last = (attempts.seconds_to_wait(tried, 30) for tried in (0, 1, 9))
    assert 22 <= first <= 38
    assert 45 <= second <= 75
    assert last == 600


def test_a_lost_connection_of_dagsters_own_storage_is_the_databases() -> None:
    import sqlalchemy

    with pytest.raises(sqlalchemy.exc.OperationalError) as lost:
        sqlalchemy.create_engine("postgresql+psycopg2://x@127.0.0.1:1/x").connect()
    assert cause_of(lost.value) == Cause("database", True)
    with pytest.raises(sqlalchemy.exc.SQLAlchemyError) as wrong:
        sqlalchemy.create_engine("sqlite://").connect().exec_driver_sql("SELEC 1")
    assert cause_of(wrong.value) == Cause("unexpected", False)
