"""The company's week reconciled, against the company's own list of what belongs together and of what was planted."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from ledger_pipeline.orchestration import reconciling
from ledger_pipeline.orchestration.runtime import Runtime
from ledger_pipeline.reconcile import engine, matches
from ledger_pipeline.reconcile.matches import Kept
from ledger_pipeline.sandbox.truth import truth
from ledger_pipeline.store.database import Database
from ledger_pipeline_tests.conftest import SandboxCompany
from ledger_pipeline_tests.pipeline.books import WEEK, WITH_WEEK

pytestmark = WITH_WEEK
LAST = WEEK[-1]
Pair = tuple[str, str, date, int]


@pytest.fixture
def fresh(
    tmp_path: Path, week: Runtime, sandbox: SandboxCompany, copy_of: Callable[[str], Database]
) -> Callable[[], Runtime]:
    """Makes copies of the week that nobody reconciled."""
    name = week.database.url.partition("?")[0].rpartition("/")[2]
    return lambda: sandbox.runtime(tmp_path, copy_of(name))


def reconcile(runtime: Runtime) -> list[Kept]:
    reconciling.run(runtime, runtime.config.entities, "run-1")
    with runtime.database.connect("reader") as connection:
        return matches.live(connection)


def expected(sandbox: SandboxCompany) -> set[Pair]:
    """(payout, bank connection, day, amount) of every payout that a bank shows."""
    company = sandbox.company
    lines = {
        (account.connection, line.line_id): line
        for account in company.bank_accounts
        for day in WEEK
        for line in company.bank_lines(account.connection, account.account_id, day)
    }
    found = set()
    for one in truth(company, LAST).matches:
        line = lines[one.bank_connection, one.line_id]
        found.add((one.payout_id, one.bank_connection, line.day, line.amount))
    return found


def matched(runtime: Runtime, kept: list[Kept]) -> set[Pair]:
    """The same of what was matched automatically."""
    with runtime.database.connect("reader") as connection:
        payouts = dict(connection.execute("SELECT source_id, source_object_id FROM staging.processor_transaction"))  # type: ignore[var-annotated, arg-type]
        days = dict(connection.execute("SELECT source_id, booked_on FROM staging.bank_transaction"))  # type: ignore[var-annotated, arg-type]
    found = set()
    for one in kept:
        lines = [m for m in one.members if m.record == "bank_transaction"]
        if one.role == "payout_in_transit" and one.state == "matched" and lines:
            (line,), (payout,) = lines, [m for m in one.members if m.record != "bank_transaction"]
            found.add((payouts[payout.source_id], line.connection, days[line.source_id], -line.amount_minor))
    return found


def test_payouts_and_bank_lines_are_those_that_belong_together(
    fresh: Callable[[], Runtime], sandbox: SandboxCompany
) -> None:
    runtime, wanted = fresh(), expected(sandbox)
    assert len(wanted) > 5
    assert matched(runtime, reconcile(runtime)) == wanted


def test_so_they_are_when_no_bank_names_a_payouts_id(
    fresh: Callable[[], Runtime], sandbox: SandboxCompany, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "TAIL", 1_000)
    runtime = fresh()
    kept = reconcile(runtime)
    assert {one.kind for one in kept if one.role == "payout_in_transit"} == {"exact", "scored"}
    assert matched(runtime, kept) == expected(sandbox)


def test_every_open_item_is_a_planted_fault_or_on_its_way(
    fresh: Callable[[], Runtime], sandbox: SandboxCompany
) -> None:
    runtime = fresh()
    kept = reconcile(runtime)
    assert {one.state for one in kept} == {"matched"}
    planted = {one.kind: one.source_id for one in sandbox.company.planted(WEEK[0], LAST)}
    found = [reconciling.position(runtime, entity, LAST) for entity in runtime.config.entities]
    wrong = [item for one in found for item in one.items if item.cause not in ("timing", "fx")]
    assert [item.cause for item in wrong] == ["payment missing", "order missing"]
    assert wrong[0].members == (f"shopify_us/sale/{planted['order_without_payment']}",)
    with runtime.database.connect("reader") as connection:
        row = connection.execute(
            "SELECT DISTINCT order_id FROM staging.processor_transaction WHERE source_id = %s",
            (wrong[1].members[0].partition("processor_transaction/")[2],),
        ).fetchone()
    assert row == (planted["malformed_amount"],)
    assert all(item.amount_minor == 0 for one in found for item in one.items if item.cause == "fx")


@pytest.mark.parametrize("day", [WEEK[0], WEEK[3], LAST])
def test_open_items_sum_to_the_balance_on_every_day(fresh: Callable[[], Runtime], day: date) -> None:
    runtime = fresh()
    for after in (False, True):
        if after:
            reconcile(runtime)
        for entity in runtime.config.entities:
            position = reconciling.position(runtime, entity, day)
            assert position.differences == ()
            assert position.items


def test_the_week_reconciled_twice_gives_the_same(fresh: Callable[[], Runtime]) -> None:
    one, other = fresh(), fresh()
    kept = reconcile(one)
    assert not any(ran.is_new for ran in reconciling.run(one, one.config.entities, "run-2"))
    again = reconcile(other)
    assert {(m.role, m.currency, m.kind, m.members) for m in kept} == {
        (m.role, m.currency, m.kind, m.members) for m in again
    }


def test_every_payout_is_the_sum_of_its_transactions(fresh: Callable[[], Runtime]) -> None:
    runtime = fresh()
    reconcile(runtime)
    found = [reconciling.position(runtime, entity, LAST) for entity in runtime.config.entities]
    payouts = [paid for one in found for paid in one.payouts]
    assert len(payouts) == 21
    assert {paid.difference_minor for paid in payouts} == {0}
    assert [alert for one in found for alert in one.alerts] == []
