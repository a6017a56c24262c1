"""Control totals of the booked week: all tie, quarantined records are named, and a figure that is changed is found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ledger_pipeline.commands.controls import controls_of
from ledger_pipeline.orchestration.runtime import Runtime
from ledger_pipeline.store.database import Database
from ledger_pipeline_tests.conftest import SandboxCompany
from ledger_pipeline_tests.pipeline.books import WEEK, WITH_WEEK

pytestmark = WITH_WEEK


def test_the_week_ties_to_what_its_sources_say(week: Runtime) -> None:
    found = controls_of(week, WEEK[0], WEEK[-1])
    assert [c for c in found if not c.holds] == []
    kinds = {(c.connection, c.kind) for c in found}
    assert kinds >= {
        *((name, "landed") for name in week.config.connections),
        *((name, "counted") for name in ("shopify_us", "shopify_uk")),
        *((name, "balance") for name in ("plaid_us", "plaid_uk", "bank_eur")),
        *((name, "processor") for name in ("stripe_us", "stripe_uk", "shopify_uk")),
    }
    named = {(c.connection, c.stream): len(c.unposted) for c in found if c.unit == "records" and c.unposted}
    assert named == {("plaid_us", "transactions"): 2, ("shopify_uk", "orders"): 1}
    for day in WEEK:
        assert [c for c in controls_of(week, day, day) if not c.holds] == []


@pytest.mark.parametrize(
    ("change", "differing"),
    [
        ("UPDATE staging.bank_balance SET amount_minor = amount_minor + 1 WHERE connection = 'bank_eur' AND kind = 'closing' AND stated_on = '2026-10-08'",
         [("bank_eur", "balance", "EUR")] * 2),
        ("UPDATE staging.processor_transaction SET fee_minor = fee_minor + 1 WHERE raw_id = (SELECT max(raw_id) FROM staging.processor_transaction "
         "WHERE connection = 'stripe_us')", [("stripe_us", "processor", "USD")]),
        ("UPDATE staging.payout SET amount_minor = amount_minor - 1 WHERE connection = 'shopify_uk' AND source_id = "
         "(SELECT min(source_id) FROM staging.payout WHERE connection = 'shopify_uk')", [("shopify_uk", "processor", "GBP")]),
    ],
    ids=["bank", "processor", "payout"],
)  # fmt: skip
def test_a_changed_figure_does_not_tie(
    tmp_path: Path,
    week: Runtime,
    copy_of: Callable[[str], Database],
    sandbox: SandboxCompany,
    change: str,
    differing: list[tuple[str, str, str]],
) -> None:
    runtime = sandbox.runtime(tmp_path, copy_of(week.database.url.partition("?")[0].rpartition("/")[2]))
    with runtime.database.connect("owner") as connection:
        connection.execute(change)  # type: ignore[arg-type]
    found = controls_of(runtime, WEEK[0], WEEK[-1])
    assert [(c.connection, c.kind, c.unit) for c in found if not c.holds] == differing
