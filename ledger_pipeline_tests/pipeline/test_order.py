"""The same raw payloads come to the same books, byte for byte, in whatever order their days are booked."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from ledger_pipeline.orchestration import currency, steps
from ledger_pipeline.orchestration.runtime import Runtime
from ledger_pipeline.store import standing
from ledger_pipeline.store.database import Database
from ledger_pipeline_tests.conftest import SandboxCompany
from ledger_pipeline_tests.pipeline.books import WEEK, WITH_WEEK

OCTOBER = date(2026, 10, 1)


def fingerprints(runtime: Runtime) -> dict[str, str]:
    with runtime.database.connect("reader") as connection:
        return {entity: standing.fingerprint(connection, entity) for entity in runtime.config.entities}


def with_raw_only(database: Database) -> Database:
    """The same landed payloads and pulls, and nothing that was made of them."""
    with database.connect("owner") as connection:
        connection.execute("SET session_replication_role = replica")
        for table in (
            "ledger.line",
            "ledger.entry",
            "ledger.batch",
            "ops.fate",
            "ops.gate",
            "ops.staged",
            "ops.quarantine",
        ):
            connection.execute(f"DELETE FROM {table}")
    return database


@WITH_WEEK
@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.nightly)])
def test_the_order_of_the_days_leaves_no_trace(
    tmp_path: Path, week: Runtime, copy_of: Callable[[str], Database], sandbox: SandboxCompany, seed: int
) -> None:
    name = week.database.url.partition("?")[0].rpartition("/")[2]
    expected = sandbox.runtime(tmp_path, copy_of(name))
    shuffled = sandbox.runtime(tmp_path, with_raw_only(copy_of(name)))
    assert fingerprints(shuffled) != fingerprints(expected)
    jobs = [(name, day) for name in shuffled.config.connections for day in WEEK]
    random.Random(seed).shuffle(jobs)
    for name, day in jobs:
        link = shuffled.link(name)
        steps.stage(shuffled, link, day, "again")
        steps.check(shuffled, link, day, "again")
        steps.post(shuffled, link, day, "again")
    assert fingerprints(shuffled) == fingerprints(expected)
    for runtime in (expected, shuffled):
        for entity in runtime.config.entities:
            currency.run(runtime, entity, OCTOBER, "Ann", "month end")
    assert fingerprints(shuffled) == fingerprints(expected)
