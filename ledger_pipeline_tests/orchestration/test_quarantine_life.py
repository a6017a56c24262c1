"""A quarantined version's life: the mapping is fixed, the record is fixed at its source, a person leaves it out; the proof holds after each."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ledger_pipeline.orchestration import quarantine as life
from ledger_pipeline.orchestration.quarantine import Retried
from ledger_pipeline.orchestration.runtime import Link
from ledger_pipeline.store import periods, quarantine
from ledger_pipeline.store.database import Database
from ledger_pipeline.store.proof import verify
from ledger_pipeline.store.quarantine import Held, QuarantineRefused
from ledger_pipeline_tests.fakes import DAY, FakeCompany, order

NEXT = DAY + timedelta(days=1)
ANN = {"by": "Ann", "run_id": "act"}


@pytest.fixture
def company(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeCompany:
    return FakeCompany(database, tmp_path, monkeypatch)


def night(company: FakeCompany, day: date, *records: Any) -> None:
    """Run a day at five in the morning after it."""
    company.now = datetime(day.year, day.month, day.day, 5, tzinfo=UTC) + timedelta(days=1)
    company.run(*records, day=day)


def held(company: FakeCompany) -> list[Held]:
    with company.database.connect("reader") as connection:
        return quarantine.held(connection)


def is_proven(company: FakeCompany) -> bool:
    return verify(company.database).findings == []


def fates(done: Retried) -> list[tuple[str, str, str]]:
    return [(one.source_id, one.before, one.after) for one in done.outcomes]


def read_totals_as_numbers(company: FakeCompany, monkeypatch: pytest.MonkeyPatch) -> None:
    """A better mapping: the shop's texts in `lines` are read by their own field."""
    fix = company.runtime.link("shop").plans["orders"]
    run = fix.run

    def with_numbers(payloads: Any, raw_ids: Any, settings: Any) -> Any:
        return run([p.replace(b'"total": "700"', b'"total": 700') for p in payloads], raw_ids, settings)

    monkeypatch.setattr(fix, "run", with_numbers)


def test_what_a_better_mapping_can_read_is_posted_by_a_retry(
    company: FakeCompany, monkeypatch: pytest.MonkeyPatch
) -> None:
    night(company, DAY, order("o1", 1000), order("o2", "700", net=700))
    (bad,) = held(company)
    assert (bad.source_id, bad.fate, bad.sync_date, bad.earlier_versions) == ("o2", "quarantined", DAY, 0)
    assert "total" in bad.why
    unchanged = life.retry(company.runtime, [bad.raw_id], **ANN)
    assert (fates(unchanged), unchanged.is_clear) == ([("o2", "quarantined", "quarantined")], False)
    assert company.balances() == {"order_clearing:till": 1000, "sales": -1000}
    read_totals_as_numbers(company, monkeypatch)
    done = life.retry(company.runtime, [bad.raw_id], **ANN)
    assert (fates(done), done.is_clear, done.entries) == ([("o2", "quarantined", "posted")], True, 1)
    assert company.balances() == {"order_clearing:till": 1700, "sales": -1700}
    assert held(company) == []
    again = life.retry(company.runtime, [bad.raw_id], **ANN)
    assert (fates(again), again.entries) == ([("o2", "posted", "posted")], 0)
    assert company.rows("SELECT action, by_whom FROM ops.action") == [("retry", "Ann")] * 3
    assert is_proven(company)


def test_a_retry_of_an_old_day_leaves_newer_versions_alone(
    company: FakeCompany, monkeypatch: pytest.MonkeyPatch
) -> None:
    """o1 has a newer version, o3 went to another state and back: its first version is the newest again."""
    night(company, DAY, order("o1", 1000), order("o2", "700", net=700), order("o3", 30))
    night(company, NEXT, order("o1", 1200), order("o3", 50))
    night(company, NEXT + timedelta(days=1), order("o3", 30))
    before, entries = company.fates(), company.entries()
    assert [(i, f) for i, f, _ in before] == [
        ("o1", "superseded"), ("o2", "quarantined"), ("o3", "posted"), ("o1", "posted"), ("o3", "superseded"),
    ]  # fmt: skip
    read_totals_as_numbers(company, monkeypatch)
    done = life.retry_day(company.runtime, "shop", DAY, **ANN)
    assert fates(done) == [("o2", "quarantined", "posted")]
    assert [f for f in company.fates() if f[0] != "o2"] == [f for f in before if f[0] != "o2"]
    assert company.entries()[:-1] == entries
    assert company.balances() == {"order_clearing:till": 1930, "sales": -1930}
    assert is_proven(company)


def test_what_is_fixed_at_its_source_supersedes_the_quarantined_version(company: FakeCompany) -> None:
    night(company, DAY, order("o1", "x", net=900))
    night(company, NEXT, order("o1", 900))
    assert [(i, f) for i, f, _ in company.fates()] == [("o1", "superseded"), ("o1", "posted")]
    assert held(company) == []
    raw_id = company.rows("SELECT min(raw_id) FROM raw.record")[0][0]
    assert fates(life.retry(company.runtime, [raw_id], **ANN)) == [("o1", "superseded", "superseded")]
    assert company.balances() == {"order_clearing:till": 900, "sales": -900}
    assert is_proven(company)


def test_what_a_person_ignores_stays_out_by_name_until_a_new_version_comes(company: FakeCompany) -> None:
    night(company, DAY, order("o1", "x"), order("o2", 100))
    (bad,) = held(company)
    done = life.ignore(company.runtime, bad.raw_id, reason="a test of the till", **ANN)
    assert (fates(done), done.is_clear) == ([("o1", "quarantined", "ignored")], True)
    assert company.fates()[0] == ("o1", "ignored", "ignored by Ann: a test of the till")
    assert held(company) == []
    with pytest.raises(QuarantineRefused, match="ignored already, by Ann"):
        life.ignore(company.runtime, bad.raw_id, reason="again", **ANN)
    night(company, NEXT, order("o1", "y"))
    (new,) = held(company)
    assert (new.source_id, new.earlier_versions) == ("o1", 1)
    assert is_proven(company)
    night(company, NEXT + timedelta(days=1), order("o1", 5))
    assert [f for i, f, _ in company.fates() if i == "o1"] == ["superseded", "superseded", "posted"]
    assert is_proven(company)


def test_a_decision_that_is_withdrawn_brings_the_version_back(company: FakeCompany) -> None:
    night(company, DAY, order("o1", "x"), order("o2", 100))
    (bad,) = held(company)
    with pytest.raises(QuarantineRefused, match="nothing to withdraw"):
        life.withdraw(company.runtime, bad.raw_id, reason="a mistake", **ANN)
    life.ignore(company.runtime, bad.raw_id, reason="a test", **ANN)
    back = life.withdraw(company.runtime, bad.raw_id, reason="a mistake", **ANN)
    assert fates(back) == [("o1", "ignored", "quarantined")]
    with company.database.connect("reader") as connection:
        file = quarantine.file_of(connection, bad.raw_id)
    assert [(d.decision, d.by_whom, d.reason) for d in file.decisions] == [
        ("ignore", "Ann", "a test"), ("withdrawn", "Ann", "a mistake"),
    ]  # fmt: skip
    assert [a for (a,) in company.rows("SELECT action FROM ops.action ORDER BY action_id")] == ["ignore", "withdraw"]
    assert is_proven(company)


def test_a_closed_gate_opens_when_people_ignore_enough_of_what_closed_it(company: FakeCompany) -> None:
    night(company, NEXT, *(order(f"p{n}", 100) for n in range(17)), *(order(f"y{n}", "x") for n in range(3)))
    waiting = held(company)
    assert [(w.source_id, w.fate, w.sync_date) for w in waiting] == [(f"y{n}", "", NEXT) for n in range(3)]
    done = life.ignore(company.runtime, waiting[0].raw_id, reason="a test", **ANN)
    assert (fates(done), done.closed) == ([("y0", "", "ignored")], [])
    assert company.balances()["sales"] == -1700


def test_a_retry_says_what_todays_mapping_refuses_besides(
    company: FakeCompany, monkeypatch: pytest.MonkeyPatch
) -> None:
    night(company, DAY, order("o1", 1000), order("o2", "x"))
    plan = company.runtime.link("shop").plans["orders"]
    run = plan.run
    monkeypatch.setattr(plan, "run", lambda p, r, s: run([one.replace(b"1000", b'"k"') for one in p], r, s))
    (bad,) = held(company)
    done = life.retry(company.runtime, [bad.raw_id], **ANN)
    assert [h.source_id for h in held(company) if h.raw_id in done.newly_held] == ["o1"]
    assert not done.is_clear


def test_a_retry_posts_into_a_month_that_is_closing(company: FakeCompany, monkeypatch: pytest.MonkeyPatch) -> None:
    night(company, DAY, order("o1", "700", net=700), order("o2", 100))
    with company.database.connect() as connection:
        periods.record_event(connection, "acme", DAY.replace(day=1), "closing", by="Ann", at=company.now)
    read_totals_as_numbers(company, monkeypatch)
    assert life.retry(company.runtime, [held(company)[0].raw_id], **ANN).is_clear
    assert company.rows("SELECT DISTINCT posted_on, is_prior_period FROM ledger.entry") == [(DAY, False)]


@pytest.mark.parametrize("word", [{"by": " ", "reason": "r"}, {"by": "Ann", "reason": ""}])
def test_a_decision_needs_a_name_and_a_reason(company: FakeCompany, word: dict[str, str]) -> None:
    night(company, DAY, order("o1", "x"), order("o2", 5))
    with pytest.raises(QuarantineRefused, match="a name and a reason"):
        life.ignore(company.runtime, held(company)[0].raw_id, run_id="act", **word)
    with pytest.raises(QuarantineRefused, match="is posted, not in quarantine"):
        life.ignore(company.runtime, held(company)[0].raw_id + 1, run_id="act", by="Ann", reason="r")
    with pytest.raises(QuarantineRefused, match="no version with id 999"):
        life.retry(company.runtime, [999], **ANN)


def test_other_connections_are_left_alone(company: FakeCompany) -> None:
    assert isinstance(company.runtime.link("other"), Link)
    night(company, DAY, order("o1", "x"), order("o2", 5))
    company.run(order("o1", "x"), order("o2", 5), day=DAY, name="other")
    done = life.retry_day(company.runtime, "other", DAY, **ANN)
    assert ([o.connection for o in done.outcomes], done.days) == (["other"], [("other", DAY)])
    with company.database.connect("reader") as connection:
        assert [h.connection for h in quarantine.held(connection, "shop")] == ["shop"]
