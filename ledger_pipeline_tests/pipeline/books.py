"""How whole-day tests read the books and the company's truth."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta
from typing import Any

import pytest

from ledger_pipeline.demo import compare
from ledger_pipeline.orchestration import steps
from ledger_pipeline.orchestration.runtime import Runtime
from ledger_pipeline.store import standing
from ledger_pipeline_tests.conftest import START, SandboxCompany

WITH_WEEK = pytest.mark.xdist_group("week")
"""Tests that look at the booked week share a worker: booking it takes half a minute."""
WEEK = [START + timedelta(days=n) for n in range(7)]


def run_days(
    runtime: Runtime, sandbox: SandboxCompany, days: Iterable[date], *, clock_at: date | None = None
) -> list[steps.Day]:
    """Every connection of every day; the clock follows the days unless it stands at the night of `clock_at`."""
    done = []
    for day in days:
        sandbox.at_night_of(clock_at or day)
        done += [steps.run_day(runtime, name, day, "test") for name in runtime.config.connections]
    return done


def differences(runtime: Runtime, sandbox: SandboxCompany, through: date) -> list[str]:
    """What differs from the company's own books."""
    import json

    from ledger_pipeline.sandbox.truth import truth

    return compare(runtime, json.loads(truth(sandbox.company, through).to_json()))  # type: ignore[arg-type]


def balances(runtime: Runtime) -> dict[tuple[str, str, str, date], tuple[int, int]]:
    """Balances by entity, role, currency and posting day."""
    with runtime.database.connect("reader") as connection:
        return {
            (entity, role, currency, day): (amount, base)
            for entity, role, currency, day, amount, base in connection.execute(
                "SELECT entity, role, currency, posted_on, sum(amount_minor)::bigint, sum(base_minor)::bigint FROM ledger.line "
                "GROUP BY 1, 2, 3, 4 HAVING sum(amount_minor) <> 0 OR sum(base_minor) <> 0"
            )
        }


def count(runtime: Runtime, query: str, *arguments: object) -> int:
    """One number from the database."""
    with runtime.database.connect("reader") as connection:
        row = connection.execute(query, arguments).fetchone()
    assert row is not None
    return int(row[0])


def stands(runtime: Runtime) -> dict[str, Any]:
    """What the books come to: standing hash by entity, balances, fates, and how often each record is posted."""
    with runtime.database.connect("reader") as connection:
        return {
            "standing": {entity: standing.fingerprint(connection, entity) for entity in runtime.config.entities},
            "fates": connection.execute("SELECT connection, stream, source_id, fate FROM ops.fate ORDER BY 1, 2, 3, 4").fetchall(),
            "live": connection.execute("SELECT count(*), count(DISTINCT (entity, connection, record, source_id, rule)) FROM ledger.live_entry").fetchone(),
        }  # fmt: skip
