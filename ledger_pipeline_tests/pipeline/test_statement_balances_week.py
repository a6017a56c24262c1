"""The booked week against what its banks state: every date agrees, and a balance or an entry that is changed is found on its day."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from ledger_pipeline.orchestration import stated_balances
from ledger_pipeline.orchestration.runtime import Runtime
from ledger_pipeline.store.database import Database
from ledger_pipeline_tests.conftest import SandboxCompany
from ledger_pipeline_tests.pipeline.books import WEEK, WITH_WEEK

pytestmark = WITH_WEEK


def test_every_stated_balance_of_the_week_agrees(week: Runtime) -> None:
    found = stated_balances.of_entities(week, week.config.entities)
    assert {one.connection for one in found} == {"plaid_us", "plaid_uk", "bank_eur"}
    assert [(one.connection, one.said) for one in found if one.first] == []
    for one in found:
        assert [b.day for b in one.balances] == WEEK
        assert len({b.stated_minor for b in one.balances}) > 2
        assert one.balances[0].is_dated == (one.connection == "bank_eur")
    until = stated_balances.of_entities(week, week.config.entities, WEEK[2])
    assert {b.day for one in until for b in one.balances} == set(WEEK[:3])


@pytest.mark.parametrize(
    ("change", "connection", "day", "differing"),
    [
        ("UPDATE staging.bank_balance SET amount_minor = amount_minor + 1 WHERE connection = 'bank_eur' AND kind = 'closing' "
         "AND stated_on = '2026-10-08'", "bank_eur", date(2026, 10, 8), 1),
        ("UPDATE staging.bank_balance SET amount_minor = amount_minor - 1 WHERE connection = 'plaid_uk' AND sync_date >= '2026-10-09'",
         "plaid_uk", date(2026, 10, 9), 3),
    ],
    ids=["dated", "undated"],
)  # fmt: skip
def test_a_changed_balance_is_named(
    tmp_path: Path,
    week: Runtime,
    copy_of: Callable[[str], Database],
    sandbox: SandboxCompany,
    change: str,
    connection: str,
    day: date,
    differing: int,
) -> None:
    runtime = sandbox.runtime(tmp_path, copy_of(week.database.url.partition("?")[0].rpartition("/")[2]))
    with runtime.database.connect("owner") as owner:
        owner.execute(change)  # type: ignore[arg-type]
    (wrong,) = [one for one in stated_balances.of_entities(runtime, runtime.config.entities) if one.first]
    assert wrong.first is not None
    assert (wrong.connection, wrong.first.day, len(wrong.differing)) == (connection, day, differing)
    assert abs(wrong.difference_minor(wrong.first)) == 1
    assert not wrong.is_explained
