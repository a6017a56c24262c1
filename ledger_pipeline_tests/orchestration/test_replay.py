"""Preview says what a night would post; replay what today's mapping, rules and chart would correct; nothing is kept until it is applied."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from ledger_pipeline import sources
from ledger_pipeline.connect import convert
from ledger_pipeline.connect.mapping import Field
from ledger_pipeline.model.rules import RULES
from ledger_pipeline.orchestration import replay, steps
from ledger_pipeline.store.database import Database
from ledger_pipeline.store.proof import verify
from ledger_pipeline_tests.fakes import DAY, FakeCompany, fake_source, gone, order

NEXT = DAY + timedelta(days=1)
OLDER = {"updated": "2026-10-05T10:00:00Z"}
NEWER = {"updated": "2026-10-06T10:00:00Z"}


@pytest.fixture
def company(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeCompany:
    return FakeCompany(database, tmp_path, monkeypatch)


def everything(company: FakeCompany) -> list[Any]:
    """What a preview must leave as it is."""
    tables = ("ledger.entry", "ledger.line", "ledger.batch", "ops.fate", "ops.quarantine", "staging.sale", "ops.action")
    return [company.rows(f"SELECT * FROM {table} ORDER BY 1, 2, 3") for table in tables]


def remap(company: FakeCompany, monkeypatch: pytest.MonkeyPatch, role: str) -> None:
    """From now on every line of an order is of this role."""
    source = fake_source(company.shelf)
    mappings = tuple(
        replace(
            m, fields=tuple(Field("role", (), convert.constant(role)) if f.target == "role" else f for f in m.fields)
        )
        if m.record == "sale_line"
        else m
        for m in source.mappings
    )
    changed = replace(source, mappings=mappings)
    monkeypatch.setattr(sources, "load", lambda name: changed)
    company.runtime._links.clear()


def apply(company: FakeCompany, first: date = DAY, last: date = DAY, **more: str) -> replay.Difference:
    shown = replay.replay(company.runtime, "shop", first, last)
    word = {"digest": shown.digest, "by": "Ann", "reason": "lines were shipping", "run_id": "replay-1"} | more
    return replay.apply(company.runtime, "shop", first, last, **word)


def kinds(found: replay.Difference) -> list[tuple[str, str, str]]:
    return [(c.record, c.source_id, c.kind) for c in found.changes]


# preview ----------------------------------------------------------------------------------------------------


def test_a_preview_shows_exactly_what_the_posting_then_does(company: FakeCompany) -> None:
    company.prepare(order("o1", 1000), order("o2", 300))
    before = everything(company)
    shown = replay.preview(company.runtime, "shop", DAY, DAY)
    assert everything(company) == before
    assert kinds(shown) == [("sale", "o1", "original"), ("sale", "o2", "original")]
    assert {(m.account, m.amount_minor) for m in shown.moved} == {("1150", 1300), ("4000", -1300)}
    assert dict(shown.fates) == {"posted": 2}
    company.post()
    posted = company.rows(
        "SELECT account, role, currency, amount_minor, base_minor FROM ledger.line ORDER BY entry_id, line_no"
    )
    assert [
        (line.account, line.role, line.currency, line.amount_minor, line.base_minor)
        for c in shown.changes
        for line in c.lines
    ] == posted
    assert replay.preview(company.runtime, "shop", DAY, DAY).changes == []


def test_a_preview_needs_no_staging_and_names_what_it_would_quarantine(company: FakeCompany) -> None:
    company.shelf.put("orders", order("o1", 1000), order("bad", 500, net=400), order("worse", "x"))
    company.pull()
    shown = replay.preview(company.runtime, "shop", DAY, DAY)
    assert kinds(shown) == [("sale", "o1", "original")]
    assert {(r.source_id, r.path) for r in shown.refused} == {
        ("bad", "total_minor is the sum of its parts (lines − discounts + taxes = total)"),
        ("worse", "$.total"),
    }
    assert dict(shown.fates) == {"posted": 1, "quarantined": 2}


def test_a_range_counts_each_record_once_by_its_newest_version(company: FakeCompany) -> None:
    company.shelf.put("orders", order("o1", 1000, **OLDER))
    company.pull(DAY)
    company.shelf.put("orders", order("o1", 1300, **NEWER))
    company.pull(NEXT)
    shown = replay.preview(company.runtime, "shop", DAY, NEXT)
    assert [(c.kind, c.lines[0].amount_minor) for c in shown.changes] == [("original", 1300)]


def test_a_preview_of_an_old_day_leaves_newer_versions_alone(company: FakeCompany) -> None:
    company.run(order("o1", 1000, **OLDER))
    company.run(order("o1", 1300, **NEWER), day=NEXT)
    shown = replay.preview(company.runtime, "shop", DAY, DAY)
    assert shown.changes == []
    assert dict(shown.fates) == {"superseded": 1}


# replay -----------------------------------------------------------------------------------------------------


def test_a_changed_mapping_touches_nothing_posted_until_somebody_asks(
    company: FakeCompany, monkeypatch: pytest.MonkeyPatch
) -> None:
    company.run(order("o1", 1000))
    remap(company, monkeypatch, "shipping_income")
    before = company.entries()
    company.run(order("o1", 1000))
    assert company.entries() == before
    assert replay.preview(company.runtime, "shop", DAY, DAY).changes == []
    found = replay.replay(company.runtime, "shop", DAY, DAY)
    assert kinds(found) == [("sale", "o1", "reversal"), ("sale", "o1", "replacement")]
    assert {(m.account, m.amount_minor) for m in found.moved} == {("4000", 1000), ("4300", -1000)}
    assert company.entries() == before


def test_an_applied_replay_is_a_correction_with_a_name(company: FakeCompany, monkeypatch: pytest.MonkeyPatch) -> None:
    company.run(order("o1", 1000))
    remap(company, monkeypatch, "shipping_income")
    done = apply(company)
    assert kinds(done) == [("sale", "o1", "reversal"), ("sale", "o1", "replacement")]
    assert company.balances() == {"order_clearing:till": 1000, "shipping_income": -1000}
    versions = company.rows("SELECT kind, mapping_version FROM ledger.entry ORDER BY entry_id")
    assert versions[0][1] == versions[1][1] != versions[2][1]
    ((action, by, reason, entries),) = company.rows(
        "SELECT action, by_whom, reason, details ->> 'entries' FROM ops.action"
    )
    assert (action, by, reason, entries) == ("replay", "Ann", "lines were shipping", "2")
    assert replay.replay(company.runtime, "shop", DAY, DAY).changes == []
    assert verify(company.database).count == 0


def test_a_changed_chart_is_replayed_too(company: FakeCompany, monkeypatch: pytest.MonkeyPatch) -> None:
    company.run(order("o1", 1000))
    chart = company.runtime.config.entities["acme"].chart
    monkeypatch.setitem(chart.by_role, "sales", "4300")
    company.run(order("o1", 1000))
    assert company.rows("SELECT count(*) FROM ledger.entry") == [(1,)]
    assert {(m.account, m.amount_minor) for m in apply(company).moved} == {("4000", 1000), ("4300", -1000)}
    assert company.rows(
        "SELECT account, sum(amount_minor)::bigint FROM ledger.line GROUP BY 1 HAVING sum(amount_minor) <> 0 ORDER BY 1"
    ) == [
        ("1150", 1000),
        ("4300", -1000),
    ]


def test_a_changed_rule_is_replayed(company: FakeCompany, monkeypatch: pytest.MonkeyPatch) -> None:
    company.run(order("o1", 1000))
    rule = RULES["sale"]
    ignore_all = replace(
        rule, version=2, ignores=(replace(rule.ignores[0], when=replace(rule.ignores[0].when, values=("captured",))),)
    )
    monkeypatch.setitem(RULES, "sale", ignore_all)
    done = apply(company)
    assert kinds(done) == [("sale", "o1", "reversal")]
    assert company.balances() == {}
    assert company.fates() == [("o1", "ignored", "test order")]


def test_what_was_quarantined_is_posted_by_a_replay_with_a_better_mapping(
    company: FakeCompany, monkeypatch: pytest.MonkeyPatch
) -> None:
    company.runtime.link("shop")
    bad = order("o1", 1000)
    bad["lines"] = [{"role": "no_such_role", "net": 1000}]
    company.run(bad, order("o2", 10))
    assert company.fates()[0][:2] == ("o1", "quarantined")
    remap(company, monkeypatch, "sales")
    assert kinds(apply(company)) == [("sale", "o1", "original")]
    assert company.fates() == [("o1", "posted", ""), ("o2", "posted", "")]
    assert company.rows("SELECT count(*) FROM ops.quarantine") == [(0,)]
    assert company.rows("SELECT DISTINCT sync_date FROM ops.fate") == [(DAY,)]


def test_what_todays_mapping_refuses_stays_as_it_was_posted(
    company: FakeCompany, monkeypatch: pytest.MonkeyPatch
) -> None:
    company.run(order("o1", 1000), order("o2", 10))
    remap(company, monkeypatch, "no_such_role")
    found = replay.replay(company.runtime, "shop", DAY, DAY)
    assert (found.changes, len(found.refused)) == ([], 2)
    apply(company)
    assert company.balances() == {"order_clearing:till": 1010, "sales": -1010}
    assert company.fates() == [("o1", "posted", ""), ("o2", "posted", "")]


def test_a_difference_that_has_changed_since_is_not_applied(
    company: FakeCompany, monkeypatch: pytest.MonkeyPatch
) -> None:
    company.run(order("o1", 1000, **OLDER))
    remap(company, monkeypatch, "shipping_income")
    shown = replay.replay(company.runtime, "shop", DAY, NEXT)
    company.run(order("o1", 1300, **NEWER), day=NEXT)
    with pytest.raises(replay.BooksChanged, match="look again"):
        apply(company, DAY, NEXT, digest=shown.digest)
    assert company.balances() == {"order_clearing:till": 1300, "shipping_income": -1300}


def test_a_vanished_record_is_not_revived(company: FakeCompany, monkeypatch: pytest.MonkeyPatch) -> None:
    company.run(order("o1", 1000, **OLDER))
    company.run(gone("o1"), day=NEXT)
    remap(company, monkeypatch, "shipping_income")
    for first, last in ((DAY, DAY), (DAY, NEXT), (NEXT, NEXT)):
        assert replay.replay(company.runtime, "shop", first, last).changes == []


def test_a_replay_into_a_closed_month_corrects_in_the_open_one(
    company: FakeCompany, monkeypatch: pytest.MonkeyPatch
) -> None:
    company.run(order("o1", 1000))
    with company.database.connect("owner") as connection:
        connection.execute(
            "INSERT INTO ledger.period (entity, month, state, changed_by) VALUES ('acme', '2026-10-01', 'closed', 'me')"
        )
    remap(company, monkeypatch, "shipping_income")
    done = apply(company)
    assert {(c.posted_on, c.kind) for c in done.changes} == {
        (date(2026, 11, 1), "reversal"),
        (date(2026, 11, 1), "replacement"),
    }
    assert {m.month for m in done.moved} == {date(2026, 11, 1)}


def test_a_closing_month_takes_a_persons_corrections_but_no_nights(
    company: FakeCompany, monkeypatch: pytest.MonkeyPatch
) -> None:
    company.run(order("o1", 1000, **OLDER))
    with company.database.connect("owner") as connection:
        connection.execute(
            "INSERT INTO ledger.period (entity, month, state, changed_by) VALUES ('acme', '2026-10-01', 'closing', 'me')"
        )
    company.run(order("o2", 500), day=NEXT)
    assert company.rows("SELECT posted_on FROM ledger.entry WHERE source_id = 'o2'") == [(date(2026, 11, 1),)]
    remap(company, monkeypatch, "shipping_income")
    assert {c.posted_on for c in apply(company).changes} == {DAY}


def test_a_night_after_a_replay_finds_nothing_to_do(company: FakeCompany, monkeypatch: pytest.MonkeyPatch) -> None:
    company.run(order("o1", 1000))
    remap(company, monkeypatch, "shipping_income")
    apply(company)
    again = steps.run_day(company.runtime, "shop", DAY, "again")
    assert again.posted is not None
    assert again.posted.posted.batch_ids == []
