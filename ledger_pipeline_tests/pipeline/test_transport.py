"""A night on a bad line: each transport fault on each system, and the books come out as on a good one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from ledger_pipeline.orchestration import steps
from ledger_pipeline.store.database import Database
from ledger_pipeline_tests.conftest import SandboxCompany, serving
from ledger_pipeline_tests.pipeline.books import WEEK, balances, count

DAY = WEEK[2]
ROUTES = {
    "stripe_us": "stripe_us/v1/balance_transactions",
    "plaid_us": "plaid_us/transactions/sync",
    "shopify_uk": "shopify_uk/admin/api/2026-10/graphql.json",
}


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxCompany]:
    """A sandbox of these tests' own: their faults must not meet others."""
    with serving(tmp_path_factory.mktemp("files")) as made:
        made.at_night_of(DAY)
        yield made


@pytest.fixture(scope="module")
def good_line(
    tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], Database], company: SandboxCompany
) -> dict[object, object]:
    """The balances of an undisturbed night."""
    runtime = company.runtime(tmp_path_factory.mktemp("good"), new_database())
    for name in ROUTES:
        steps.run_day(runtime, name, DAY, "good")
    return dict(balances(runtime))


@pytest.mark.xdist_group("transport")
@pytest.mark.parametrize("kind", ["429", "500", "503", "reset", "truncate", "slow"])
def test_the_books_are_the_same_after(
    kind: str, tmp_path: Path, database: Database, company: SandboxCompany, good_line: dict[object, object]
) -> None:
    runtime = company.runtime(tmp_path, database)
    faults = [{"route": route, "kind": kind, "times": 2, "seconds": 0.2, "retry_after": 0} for route in ROUTES.values()]
    requests.post(f"{company.url}/_control/faults", json=faults, timeout=10).raise_for_status()
    try:
        for name in ROUTES:
            steps.run_day(runtime, name, DAY, "bad")
        left = [f for f in requests.get(f"{company.url}/_control/faults", timeout=10).json() if f["struck"] == 0]
    finally:
        requests.delete(f"{company.url}/_control/faults", timeout=10)
    assert left == [], "a fault that was planted never happened"
    assert balances(runtime) == good_line
    if kind != "slow":
        assert count(runtime, "SELECT count(*) FROM raw.pull WHERE retries > 0") >= len(ROUTES)
