"""What the database knows of quarantine: what is held, its file, and who may decide what about it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from ledger_pipeline.store import quarantine
from ledger_pipeline.store.database import Database
from ledger_pipeline.store.quarantine import QuarantineRefused
from ledger_pipeline_tests.fakes import DAY, FakeCompany, order

NEXT = DAY + timedelta(days=1)


@pytest.fixture
def company(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeCompany:
    made = FakeCompany(database, tmp_path, monkeypatch, limit=1.0)
    made.run(order("o1", 1000), order("o2", 300, net=1))
    made.now += timedelta(days=1)
    made.run(order("o1", "x"), day=NEXT)
    return made


def test_the_held_version_is_shown_with_the_entry_of_the_version_before(company: FakeCompany) -> None:
    with company.database.connect("reader") as connection:
        newest, other = quarantine.held(connection)
        file = quarantine.file_of(connection, newest.raw_id)
    assert (newest.source_id, newest.sync_date, newest.earlier_versions, newest.amount) == ("o1", NEXT, 1, None)
    assert (other.source_id, other.amount, other.currency, other.reasons[0].stage) == ("o2", 3, "USD", "check")
    assert [v.fate for v in file.versions] == ["posted", "quarantined"]
    assert [(e.record, e.raw_id) for e in file.entries] == [("sale", file.versions[0].raw_id)]
    assert '"total": "x"' in file.payload


def test_a_version_that_was_refused_and_waits_behind_a_closed_gate_is_held(company: FakeCompany) -> None:
    company.prepare(order("o5", "x"), order("o6", 5), day=NEXT + timedelta(days=1))
    with company.database.connect("reader") as connection:
        newest = quarantine.held(connection, "shop")[0]
        assert quarantine.of_day(connection, "shop", NEXT + timedelta(days=1)) == [newest.raw_id]
        assert quarantine.held(connection, "other") == []
        assert quarantine.days(connection, [newest.raw_id]) == [("shop", NEXT + timedelta(days=1))]
    assert (newest.source_id, newest.fate) == ("o5", "")


def test_a_decision_is_checked_and_never_changed(company: FakeCompany) -> None:
    with company.database.connect() as connection:
        raw_id = quarantine.held(connection)[0].raw_id
        quarantine.decide(connection, raw_id, "ignore", by=" Ann ", reason="a test", at=company.now)
    with company.database.connect("reader") as connection:
        assert [(d.by_whom, d.reason) for d in quarantine.decisions(connection, raw_id)] == [("Ann", "a test")]
    for raw, decision, said in (
        (raw_id, "ignore", "ignored already"),
        (raw_id - 1, "withdrawn", "nothing to withdraw"),
        (0, "ignore", "no version"),
    ):
        with company.database.connect() as connection, pytest.raises(QuarantineRefused, match=said):
            quarantine.decide(connection, raw, decision, by="Ann", reason="r", at=company.now)  # type: ignore[arg-type]
    with company.database.connect("owner") as connection, pytest.raises(psycopg.errors.RestrictViolation):
        connection.execute("UPDATE ops.decision SET reason = 'another'")
