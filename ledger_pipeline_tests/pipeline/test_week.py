"""The sandbox company's week: the books tie to the company's own, however the nights were run."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from ledger_pipeline.connect.errors import AuthError
from ledger_pipeline.orchestration import steps
from ledger_pipeline.store.database import Database
from ledger_pipeline_tests.conftest import SandboxCompany
from ledger_pipeline_tests.pipeline.books import WEEK, balances, count, differences, run_days


@pytest.fixture(scope="module")
def _week_order() -> list[int]:
    return random.Random(20261120).sample(range(7), 7)


def test_night_by_night_the_books_tie_to_the_companys_own(tmp_path: Path, database: Database, sandbox: SandboxCompany) -> None:
    runtime = sandbox.runtime(tmp_path, database)
    for day in WEEK:
        run_days(runtime, sandbox, [day])
        assert differences(runtime, sandbox, day) == []


def test_a_second_run_of_the_week_posts_nothing(tmp_path: Path, database: Database, sandbox: SandboxCompany) -> None:
    runtime = sandbox.runtime(tmp_path, database)
    run_days(runtime, sandbox, WEEK)
    entries, landed = count(runtime, "SELECT count(*) FROM ledger.entry"), count(runtime, "SELECT count(*) FROM raw.record")
    assert entries > 500
    again = run_days(runtime, sandbox, WEEK, clock_at=WEEK[-1])
    assert count(runtime, "SELECT count(*) FROM ledger.entry") == entries
    assert count(runtime, "SELECT count(*) FROM raw.record") == landed
    assert all(day.posted and day.posted.posted.batch_id is None for day in again)
    assert differences(runtime, sandbox, WEEK[-1]) == []


def test_one_backfill_and_any_order_end_in_the_same_balances(
    tmp_path: Path, new_database: Callable[[], Database], sandbox: SandboxCompany, _week_order: list[int]
) -> None:
    found = []
    for name, days, clock_at in (
        ("daily", WEEK, None),
        ("backfill", WEEK, WEEK[-1]),
        ("shuffled", [WEEK[n] for n in _week_order], WEEK[-1]),
    ):
        (tmp_path / name).mkdir()
        runtime = sandbox.runtime(tmp_path / name, new_database())
        run_days(runtime, sandbox, days, clock_at=clock_at)
        assert differences(runtime, sandbox, WEEK[-1]) == [], name
        found.append(balances(runtime))
    assert found[0] == found[1] == found[2]


def test_every_landed_version_has_one_fate_and_every_entry_a_payload(tmp_path: Path, database: Database, sandbox: SandboxCompany) -> None:
    runtime = sandbox.runtime(tmp_path, database)
    run_days(runtime, sandbox, WEEK)
    assert count(runtime, "SELECT count(*) FROM raw.record WHERE raw_id NOT IN (SELECT raw_id FROM ops.fate)") == 0
    assert count(runtime, "SELECT count(*) FROM ops.fate") == count(runtime, "SELECT count(*) FROM raw.record")
    assert (
        count(
            runtime,
            "SELECT count(*) FROM ledger.entry e LEFT JOIN raw.record r ON r.raw_id = e.raw_id AND r.content_hash = e.content_hash "
            "WHERE r.raw_id IS NULL",
        )
        == 0
    )


def test_an_edited_order_is_reversed_and_replaced_with_links(tmp_path: Path, database: Database, sandbox: SandboxCompany) -> None:
    runtime = sandbox.runtime(tmp_path, database)
    run_days(runtime, sandbox, WEEK)
    edited = next(p for p in sandbox.company.planted(WEEK[0], WEEK[-1]) if p.kind == "edited_order")  # type: ignore[attr-defined]
    with runtime.database.connect("reader") as connection:
        entries = connection.execute(
            "SELECT kind, version, entry_id, corrects_entry_id FROM ledger.entry WHERE connection = %s AND record = 'sale' AND source_id = %s "
            "ORDER BY entry_id",
            (edited.connection, str(edited.source_id)),
        ).fetchall()
    kinds = {kind: (version, entry, corrects) for kind, version, entry, corrects in entries}
    assert sorted(kinds) == ["original", "replacement", "reversal"]
    assert kinds["reversal"][2] == kinds["replacement"][2] == kinds["original"][1]
    assert kinds["replacement"][0] == 2


def test_a_connection_that_fails_holds_no_other_up(tmp_path: Path, database: Database, sandbox: SandboxCompany) -> None:
    runtime = sandbox.runtime(tmp_path, database)
    sandbox.at_night_of(WEEK[0])
    with sandbox.fault(route="stripe_us/v1/balance_transactions", kind="expired_token", times=2), pytest.raises(AuthError) as refused:
        steps.run_day(runtime, "stripe_us", WEEK[0], "test")
    assert "stripe_us" in str(refused.value)
    assert "sk_test" not in str(refused.value)
    assert steps.run_day(runtime, "plaid_us", WEEK[0], "test").posted is not None
    assert count(runtime, "SELECT count(*) FROM raw.pull WHERE stream = 'balance_transactions' AND connection = 'stripe_us'") == 0
    assert count(runtime, "SELECT count(*) FROM ledger.entry WHERE connection = 'stripe_us'") == 0
    assert steps.run_day(runtime, "stripe_us", WEEK[0], "test").posted is not None
