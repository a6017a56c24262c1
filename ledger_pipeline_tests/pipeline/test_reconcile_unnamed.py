"""The company's payouts at banks whose lines no rule knows: matching finds each, posts it, and the books tie to the company's own."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from ledger_pipeline.config import LedgerConfig
from ledger_pipeline.orchestration import reconciling, steps
from ledger_pipeline.orchestration.runtime import Runtime
from ledger_pipeline.reconcile import matches
from ledger_pipeline.sandbox.truth import truth, walk
from ledger_pipeline.store.database import Database
from ledger_pipeline.store.proof import verify
from ledger_pipeline_tests.conftest import START, SandboxCompany
from ledger_pipeline_tests.pipeline.books import balances

NIGHTS = [START + timedelta(days=n) for n in range(10)]
NAMES = ("stripe_us", "plaid_us")


def without_payout_rules(runtime: Runtime, folder: Path) -> Runtime:
    """The demo's two connections that payouts pass through; their bank's rules know no processor."""
    whole = runtime.config
    rules = [r for r in whole.connections["plaid_us"].options["categorise"] if r["role"] != "payout_in_transit"]
    chosen = {name: whole.connections[name].model_dump() for name in NAMES}
    chosen["plaid_us"]["categorise"] = rules
    config = LedgerConfig.model_validate(whole.model_dump() | {"connections": chosen})
    return Runtime(config, folder)


@pytest.mark.slow
def test_payouts_that_no_rule_knows_end_in_the_same_books(
    tmp_path: Path, new_database: Callable[[], Database], sandbox: SandboxCompany
) -> None:
    runtime = without_payout_rules(sandbox.runtime(tmp_path, new_database()), tmp_path)
    for night in NIGHTS:
        sandbox.at_night_of(night)
        for name in NAMES:
            steps.run_day(runtime, name, night, "test")
        reconciling.run(runtime, ["hp_us"], f"night {night}")
    last = NIGHTS[-1]
    expected = {
        (one.payout_id, one.line_id)
        for one in truth(sandbox.company, last).matches
        if one.bank_connection == "plaid_us"
    }
    assert len(expected) >= 5
    assert found(runtime) == expected
    assert balances(runtime) == walk(sandbox.company, last, connections=NAMES).daily()
    assert verify(runtime.database).findings == []
    assert not any(ran.is_new for ran in reconciling.run(runtime, ["hp_us"], "again"))


def found(runtime: Runtime) -> set[tuple[str, str]]:
    """(payout, bank line) of what is matched and posted."""
    with runtime.database.connect("reader") as connection:
        payouts = dict(
            connection.execute("SELECT source_id, source_object_id FROM staging.processor_transaction").fetchall()
        )
        kept = matches.live(connection, "hp_us")
    pairs = set()
    for one in kept:
        lines = [m.source_id for m in one.members if m.record == "bank_transaction"]
        if one.role == "payout_in_transit" and lines:
            assert one.state == "matched"
            (paid,) = [payouts[m.source_id] for m in one.members if m.record == "processor_transaction"]
            pairs.add((paid, lines[0]))
    return pairs
