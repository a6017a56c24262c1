"""The sandbox company's week: the books tie to the company's own, however the nights were run."""

from __future__ import annotations

import random
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from ledger_pipeline.connect.errors import AuthError
from ledger_pipeline.orchestration import steps
from ledger_pipeline.orchestration.runtime import Runtime
from ledger_pipeline.reports import fates
from ledger_pipeline.store.database import Database
from ledger_pipeline_tests.conftest import SandboxCompany
from ledger_pipeline_tests.pipeline.books import WEEK, WITH_WEEK, balances, count, differences, run_days


@WITH_WEEK
def test_night_by_night_the_books_tie_to_the_companys_own(week: Runtime, sandbox: SandboxCompany) -> None:
    assert differences(week, sandbox, WEEK[-1]) == []
    assert count(week, "SELECT count(*) FROM ledger.entry") > 1000


@WITH_WEEK
def test_a_second_run_of_the_week_posts_nothing(
    tmp_path: Path, week: Runtime, copy_of: Callable[[str], Database], sandbox: SandboxCompany
) -> None:
    runtime = sandbox.runtime(tmp_path, copy_of(week.database.url.partition("?")[0].rpartition("/")[2]))
    before = count(runtime, "SELECT count(*) FROM ledger.entry")
    again = run_days(runtime, sandbox, WEEK, clock_at=WEEK[-1])
    assert count(runtime, "SELECT count(*) FROM ledger.entry") == before
    assert all(day.posted and day.posted.posted.batch_ids == [] for day in again)
    landed = count(runtime, "SELECT count(*) FROM raw.record")
    run_days(runtime, sandbox, WEEK[:2], clock_at=WEEK[-1])
    assert count(runtime, "SELECT count(*) FROM raw.record") == landed
    assert differences(runtime, sandbox, WEEK[-1]) == []


@WITH_WEEK
@pytest.mark.parametrize("order", ["one backfill", "shuffled"])
def test_any_order_of_the_nights_ends_in_the_same_balances(
    tmp_path: Path, database: Database, week: Runtime, sandbox: SandboxCompany, order: str
) -> None:
    days = WEEK if order == "one backfill" else random.Random(20261120).sample(WEEK, 7)
    runtime = sandbox.runtime(tmp_path, database)
    run_days(runtime, sandbox, days, clock_at=WEEK[-1])
    assert differences(runtime, sandbox, WEEK[-1]) == []
    assert balances(runtime) == balances(week)


@WITH_WEEK
def test_every_landed_version_has_one_fate_and_every_entry_a_payload(week: Runtime) -> None:
    assert count(week, "SELECT count(*) FROM raw.record WHERE raw_id NOT IN (SELECT raw_id FROM ops.fate)") == 0
    assert count(week, "SELECT count(*) FROM ops.fate") == count(week, "SELECT count(*) FROM raw.record")
    without_payload = (
        "SELECT count(*) FROM ledger.entry e LEFT JOIN raw.record r ON r.raw_id = e.raw_id AND r.content_hash = e.content_hash "
        "WHERE r.raw_id IS NULL"
    )
    assert count(week, without_payload) == 0


@WITH_WEEK
def test_an_edited_order_is_reversed_and_replaced_with_links(week: Runtime, sandbox: SandboxCompany) -> None:
    edited = next(p for p in sandbox.company.planted(WEEK[0], WEEK[-1]) if p.kind == "edited_order")  # type: ignore[attr-defined]
    with week.database.connect("reader") as connection:
        entries = connection.execute(
            "SELECT kind, version, entry_id, corrects_entry_id FROM ledger.entry WHERE connection = %s AND record = 'sale' AND source_id = %s "
            "ORDER BY entry_id",
            (edited.connection, str(edited.source_id)),
        ).fetchall()
    kinds = {kind: (version, entry, corrects) for kind, version, entry, corrects in entries}
    assert sorted(kinds) == ["original", "replacement", "reversal"]
    assert kinds["reversal"][2] == kinds["replacement"][2] == kinds["original"][1]
    assert kinds["replacement"][0] == 2


@WITH_WEEK
def test_a_connection_that_fails_holds_no_other_up(tmp_path: Path, database: Database, sandbox: SandboxCompany) -> None:
    runtime = sandbox.runtime(tmp_path, database)
    sandbox.at_night_of(WEEK[0])
    with (
        sandbox.fault(route="stripe_us/v1/balance_transactions", kind="expired_token", times=2),
        pytest.raises(AuthError) as refused,
    ):
        steps.run_day(runtime, "stripe_us", WEEK[0], "test")
    assert "stripe_us" in str(refused.value)
    assert "sandbox_stripe_us" not in str(refused.value)
    assert steps.run_day(runtime, "plaid_us", WEEK[0], "test").posted is not None
    assert (
        count(
            runtime, "SELECT count(*) FROM raw.pull WHERE stream = 'balance_transactions' AND connection = 'stripe_us'"
        )
        == 0
    )
    assert count(runtime, "SELECT count(*) FROM ledger.entry WHERE connection = 'stripe_us'") == 0
    assert steps.run_day(runtime, "stripe_us", WEEK[0], "test").posted is not None


@WITH_WEEK
def test_fates_sum_to_what_the_sources_count(week: Runtime, sandbox: SandboxCompany) -> None:
    """Money by fate, superseded versions left out, against the company's own charges and receipts."""
    with week.database.connect("reader") as connection:
        rows = [f for f in fates.of_days(connection) if f.fate != "superseded"]
    found = {(f.connection, f.stream, f.currency): f.control for f in rows if f.fate == "posted"}
    company = sandbox.company
    receipts = [r for day in WEEK for r in company.stall_receipts(day)]  # type: ignore[attr-defined]
    moved = [t for day in WEEK for t in company.processor_transactions("stripe_us", day)]  # type: ignore[attr-defined]
    assert found["stall_uk", "records", "GBP"] == Decimal(sum(r.quantity * r.unit_price for r in receipts)) / 100
    assert found["stripe_us", "balance_transactions", "USD"] == Decimal(sum(t.amount for t in moved)) / 100
    (malformed,) = (f for f in rows if (f.connection, f.stream, f.fate) == ("shopify_uk", "orders", "quarantined"))
    assert (malformed.records, malformed.control) == (1, None)
