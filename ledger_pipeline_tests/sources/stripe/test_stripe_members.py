"""Stripe's payouts name what they carried: over HTTP, with as many requests as there are pages, and without a second posting."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pytest

from ledger_pipeline.orchestration import steps
from ledger_pipeline.orchestration.runtime import Runtime
from ledger_pipeline.reconcile import payouts
from ledger_pipeline.store.database import Database
from ledger_pipeline.store.proof import verify
from ledger_pipeline_tests.conftest import START, serving

NAME = "stripe_us"


@pytest.fixture
def booked(tmp_path: Path, database: Database) -> tuple[Runtime, list[steps.Day], date]:
    """Five nights of a Stripe account of the sample company."""
    days, last = [], START + timedelta(days=4)
    with serving(tmp_path / "files", orders_per_day=40) as sandbox:
        runtime = sandbox.runtime(tmp_path, database)
        for n in range(5):
            sandbox.at_night_of(START + timedelta(days=n))
            days.append(steps.run_day(runtime, NAME, START + timedelta(days=n), f"night {n}"))
    return runtime, days, last


def test_payouts_are_proven_by_their_members_and_booked_once(
    booked: tuple[Runtime, list[steps.Day], date],
) -> None:
    runtime, days, last = booked
    pulls = [pull for day in days for pull in day.pulls if pull.stream == "payout_members"]
    with runtime.database.connect("reader") as connection:
        sizes = [
            row[0]
            for row in connection.execute(
                "SELECT json_array_length(payload -> 'balance_transactions') FROM raw.record WHERE stream = 'payout_members'"
            )
        ]
        explained = payouts.of_connections(connection, [NAME], last)
        (counts,) = connection.execute(
            "SELECT count(*), count(DISTINCT source_id), (SELECT count(*) FROM staging.payout_member) FROM ledger.entry "
            "WHERE record = 'processor_transaction' AND connection = %s",
            (NAME,),
        ).fetchall()
        fates = dict(
            connection.execute(
                "SELECT fate, count(*) FROM ops.fate WHERE stream = 'payout_members' GROUP BY 1"
            ).fetchall()
        )
    assert sizes
    assert sum(pull.calls for pull in pulls) == len(days) + sum(-(-size // 100) for size in sizes)
    stated = [one for one in explained if one.how == "stated"]
    assert len(stated) == len(sizes)
    assert all(one.difference_minor == 0 for one in stated)
    assert counts[0] == counts[1]  # each transaction once, however many streams deliver it
    assert counts[2] == sum(one.transactions for one in stated)
    assert fates == {"reference": len(sizes)}
    assert verify(runtime.database).findings == []
