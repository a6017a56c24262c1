"""Two thousand signed webhooks a second for thirty seconds: every acknowledged one is stored."""

from __future__ import annotations

from pathlib import Path

import pytest

from ledger_pipeline.store.database import Database
from ledger_pipeline_tests.bench import intake, to_posted


@pytest.mark.parametrize(("rate", "seconds"), [(300, 2), pytest.param(2000, 30, marks=pytest.mark.nightly)])
def test_every_acknowledged_webhook_of_a_storm_is_stored(
    database: Database, tmp_path: Path, rate: int, seconds: int
) -> None:
    found = intake.storm(database, tmp_path, rate, seconds)
    print(found)
    assert set(found["answers"]) <= {"200", "429"}
    assert found["stored"] == found["acknowledged"] == found["sent"] == rate * seconds


@pytest.mark.nightly
def test_a_webhook_becomes_an_entry_through_the_daemon(tmp_path: Path) -> None:
    """How fast is `make bench`'s matter; here each is posted once, whatever the machine does."""
    took = to_posted.measure(tmp_path, intake.free_port(), 6, 3.0)
    print(took)
    assert set(took.answers) == {200}
    assert took.entries == 7
