"""The company's month, reconciled night by night and as a whole: the same matches, and what stays open is what the company planted."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ledger_pipeline.orchestration import reconciling
from ledger_pipeline.orchestration.runtime import Runtime
from ledger_pipeline.reconcile import matches
from ledger_pipeline.store.database import Database
from ledger_pipeline.store.proof import verify
from ledger_pipeline_tests.conftest import START, SandboxCompany
from ledger_pipeline_tests.pipeline.books import differences, run_days

NIGHTS = [START + timedelta(days=n) for n in range(26)]
"""To the end of October, as far as the installed history of reference rates goes: what needs a later rate waits in quarantine."""
Kept = set[tuple[str, str, frozenset[str]]]


def kept(runtime: Runtime) -> Kept:
    with runtime.database.connect("reader") as connection:
        return {(m.role, m.currency, frozenset(one.id for one in m.members)) for m in matches.live(connection)}


def used(found: Kept) -> set[tuple[str, str, str]]:
    """(role, currency, member) of everything that is in a match."""
    return {(role, currency, member) for role, currency, members in found for member in members}


@pytest.mark.nightly
@pytest.mark.timeout(3_600)
def test_a_month_night_by_night_and_twice_as_a_whole(
    tmp_path: Path, sandbox: SandboxCompany, new_database: Callable[[], Database], copy_of: Callable[[str], Database]
) -> None:
    whole = sandbox.runtime(tmp_path, new_database())
    (tmp_path / "nightly").mkdir()
    nightly = sandbox.runtime(tmp_path / "nightly", new_database())
    for night in NIGHTS:
        for runtime in (whole, nightly):
            run_days(runtime, sandbox, [night])
        reconciling.run(nightly, nightly.config.entities, f"night {night}")
    last = NIGHTS[-1]
    assert differences(nightly, sandbox, last) == []
    name = whole.database.url.partition("?")[0].rpartition("/")[2]
    copies = [sandbox.runtime(tmp_path, copy_of(name)) for _ in range(2)]
    for copy in copies:
        reconciling.run(copy, copy.config.entities, "month")
    one, other = (kept(copy) for copy in copies)
    assert one == other
    assert used(one) == used(
        kept(nightly)
    )  # a refund that comes after a full match is a match of its own, as a whole it is in one
    for runtime in (copies[0], nightly):
        assert not any(ran.is_new for ran in reconciling.run(runtime, runtime.config.entities, "again"))
        assert verify(runtime.database).findings == []
    causes = [
        sorted((i.cause, i.members) for e in r.config.entities for i in reconciling.position(r, e, last).items if i.cause not in ("timing", "fx"))
        for r in (copies[0], nightly)
    ]  # fmt: skip
    assert causes[0] == causes[1]
    planted = {f"shopify_{n}/sale/{p.source_id}" for p in sandbox.company.planted(START, last) if p.kind == "order_without_payment" for n in ("us", "uk")}  # type: ignore[attr-defined]  # fmt: skip
    missing = {member for cause, members in causes[0] if cause == "payment missing" for member in members}
    assert missing & planted
    assert missing <= planted | paid_out_late(sandbox)


def paid_out_late(sandbox: SandboxCompany) -> set[str]:
    """The payouts whose bank line stands on a statement that arrives after the month: the company's own word for them."""
    company: Any = sandbox.company
    lines = {
        line.payout_id
        for account in company.bank_accounts
        if account.iban is not None
        for night in NIGHTS
        if company.statement_arrives(night) > NIGHTS[-1]
        for line in company.bank_lines(account.connection, account.account_id, night)
    }
    return {
        f"{name}/processor_transaction/{txn.txn_id}"
        for name in ("stripe_us", "stripe_uk", "shopify_uk")
        for night in NIGHTS
        for txn in company.processor_transactions(name, night)
        if txn.kind == "payout" and txn.payout_id in lines
    }
