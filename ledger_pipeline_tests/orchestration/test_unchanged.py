"""A rerun computes only what it would compute otherwise, and a large day comes to the same in groups as in one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from ledger_pipeline.checks import suites
from ledger_pipeline.config import AccountConfig
from ledger_pipeline.orchestration import booking, quarantine, steps, unchanged
from ledger_pipeline.orchestration.runtime import Link
from ledger_pipeline.store import frames, rates, staging
from ledger_pipeline.store.proof import verify
from ledger_pipeline_tests.fakes import DAY, FakeCompany, FakeOptions, order

NEXT = DAY + timedelta(days=1)
FIRST, SECOND = {"updated": "2026-10-05T10:00:00Z"}, {"updated": "2026-10-06T10:00:00Z"}
ORDERS = (order("o1", 1000, **FIRST), order("o2", 250, **FIRST))


@pytest.fixture
def company(database: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeCompany:
    return FakeCompany(database, tmp_path, monkeypatch)


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each step did its own work."""
    found: Counter[str] = Counter()

    def counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **named: Any) -> Any:
            found[name] += 1
            return function(*arguments, **named)

        return run

    monkeypatch.setattr(steps, "map_chunk", counted("stage", steps.map_chunk))
    monkeypatch.setattr(suites, "check", counted("check", suites.check))
    monkeypatch.setattr(booking, "wanted", counted("post", booking.wanted))
    return found


def work(computed: Counter[str]) -> set[str]:
    """The steps that computed something since the last time."""
    found = set(computed)
    computed.clear()
    return found


def test_a_rerun_with_nothing_new_computes_nothing_and_says_the_same(
    company: FakeCompany, computed: Counter[str]
) -> None:
    first = company.run(*ORDERS)
    assert work(computed) == {"stage", "check", "post"}
    company.now += timedelta(hours=1)
    again = company.run(*ORDERS)
    assert work(computed) == set()
    assert first.staged is not None
    assert again.staged is not None
    assert (again.staged.rows, again.staged.documents) == (first.staged.rows, first.staged.documents)
    assert first.checked is not None
    assert again.checked is not None
    assert again.checked.outcomes == first.checked.outcomes
    assert first.posted is not None
    assert again.posted is not None
    assert (again.posted.posted.unchanged, again.posted.posted.batch_ids) == (2, [])
    assert (again.posted.fates, again.posted.units) == (first.posted.fates, first.posted.units)
    assert verify(company.database).findings == []


def test_a_third_rerun_computes_nothing_either(company: FakeCompany, computed: Counter[str]) -> None:
    for _ in range(2):
        company.run(*ORDERS)
    computed.clear()
    company.run(*ORDERS)
    assert work(computed) == set()


ALL, STAGING, POSTING = {"stage", "check", "post"}, {"stage"}, {"post"}


def _relink(company: FakeCompany, link: Link) -> None:
    company.runtime._links["shop"] = company.runtime._links["shop"][0], link


def _option(company: FakeCompany) -> None:
    link = company.runtime.link("shop")
    _relink(company, replace(link, options=FakeOptions(key="other")))


def _mapping(company: FakeCompany) -> None:
    link = company.runtime.link("shop")
    source = replace(link.source, mappings=tuple(replace(m, version=2) for m in link.source.mappings))
    _relink(company, replace(link, source=source))


def _chart(company: FakeCompany) -> None:
    entities = company.runtime.config.entities
    chart = (AccountConfig(code="4099", name="Sales of the shop", type="income", roles=("sales",)),)
    changed = {**entities, "acme": entities["acme"].model_copy(update={"accounts": chart})}
    company.runtime.config = company.runtime.config.model_copy(update={"entities": changed})


def _rate(company: FakeCompany) -> None:
    with company.database.connect() as connection:
        rates.keep(connection, [(NEXT, "USD", Decimal("1.1"))], "test", company.now)


def _newer_version_elsewhere(company: FakeCompany) -> None:
    company.run(order("o1", 1300, **SECOND), day=NEXT)
    company.shelf.put("orders", *ORDERS)


def _touched(company: FakeCompany) -> None:
    with company.database.connect("owner") as connection:
        connection.execute("UPDATE staging.sale SET channel = 'web'")


def _untouched_columns_lost(company: FakeCompany) -> None:
    with company.database.connect("owner") as connection:
        connection.execute("DELETE FROM staging.packed WHERE record = 'sale'")


def _decision(company: FakeCompany) -> None:
    with company.database.connect("owner") as connection:
        connection.execute(
            "INSERT INTO ops.decision (raw_id, connection, stream, source_id, decision, by_whom, reason, decided_at) "
            "VALUES (1, 'shop', 'orders', 'o1', 'ignore', 'ann', 'a test', now())"
        )


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (_option, STAGING | POSTING), (_mapping, STAGING | POSTING), (_touched, STAGING), (_untouched_columns_lost, STAGING),
        (_chart, POSTING), (_rate, POSTING), (_newer_version_elsewhere, POSTING), (_decision, POSTING),
    ],
)  # fmt: skip
def test_what_a_step_depends_on_makes_it_compute_again(
    company: FakeCompany, computed: Counter[str], change: Callable[[FakeCompany], None], expected: set[str]
) -> None:
    company.run(*ORDERS)
    change(company)
    computed.clear()
    for stream in company.runtime.link("shop").source.streams:
        steps.pull(company.runtime, company.runtime.link("shop"), stream, DAY, "test")
    steps.stage(company.runtime, company.runtime.link("shop"), DAY, "again")
    steps.check(company.runtime, company.runtime.link("shop"), DAY, "again")
    company.post()
    assert work(computed) == expected  # rows that come out as they were need neither a check nor a posting
    assert verify(company.database).findings == []


def test_other_code_computes_again(
    company: FakeCompany, computed: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    company.run(*ORDERS)
    computed.clear()
    monkeypatch.setattr(unchanged, "code", lambda: "another")
    company.run(*ORDERS)
    assert work(computed) == ALL


def test_a_new_version_is_booked_by_the_rerun(company: FakeCompany, computed: Counter[str]) -> None:
    company.run(*ORDERS)
    computed.clear()
    company.run(order("o1", 1300, **SECOND), order("o2", 250, **FIRST))
    assert work(computed) == ALL
    assert company.balances() == {"order_clearing:till": 1550, "sales": -1550}


def test_a_quarantined_record_is_refused_anew_by_every_rerun(company: FakeCompany, computed: Counter[str]) -> None:
    orders = (order("o1", currency="KWD", **FIRST), order("o2", **FIRST))
    query = "SELECT stage, source_id, reason FROM ops.quarantine"
    company.run(*orders)
    refused, fates = company.rows(query), company.fates()
    computed.clear()
    company.run(*orders)
    assert work(computed) == {"post"}
    assert (company.rows(query), company.fates()) == (refused, fates)


def test_a_withdrawn_decision_counts_in_the_rerun(company: FakeCompany, computed: Counter[str]) -> None:
    orders = (order("o1", currency="KWD", **FIRST), order("o2", **FIRST))
    company.run(*orders)
    for act in (quarantine.ignore, quarantine.withdraw):
        with company.database.connect() as connection:
            raw_id = connection.execute("SELECT raw_id FROM raw.record WHERE source_id = 'o1'").fetchone()
        assert raw_id is not None
        _act(act, company, raw_id[0])
        company.run(*orders)
        expected = "ignored" if act is quarantine.ignore else "quarantined"
        assert company.fates()[0][1] == expected


def _act(act: Callable[..., Any], company: FakeCompany, raw_id: int) -> None:
    with company.database.connect("owner") as connection:
        connection.execute(
            "INSERT INTO ops.decision (raw_id, connection, stream, source_id, decision, by_whom, reason, decided_at) "
            "VALUES (%s, 'shop', 'orders', 'o1', %s, 'ann', 'a test', now())",
            (raw_id, "ignore" if act is quarantine.ignore else "withdrawn"),
        )


# a large day --------------------------------------------------------------------------------------------------


def refund(id_: str, amount: int) -> dict[str, Any]:
    return {"id": id_, "at": "2026-10-05T15:00:00Z", "amount": amount}


LARGE = (
    order("o1", 1000, refunds=[refund("r1", 100)], **FIRST),
    *(order(f"o{n}", 100 * n, **FIRST) for n in range(2, 6)),
    order("o6", 600, refunds=[refund("r6", 60)], **FIRST),
    order("o7", 700, refunds=[refund("r7", 70)], **FIRST),
    order("o8", 800, refunds=[refund("r7", 71)], **FIRST),  # r7 again, with other content
    order("o9", 900, refunds=[refund("r1", 100)], **FIRST),  # r1 again, of another order
    order("bad", "a lot", **FIRST),
    order("kw", 5, currency="KWD", **FIRST),
)
MOVED = (
    order("o6", 600, **SECOND),
    *(order(f"o{n}", 100 * n, **SECOND) for n in range(2, 5)),
    order("o5", 500, refunds=[refund("r6", 60)], **SECOND),  # r6 has moved here
)


@pytest.mark.parametrize(("is_large", "is_sharing_known"), [(False, True), (True, True), (True, False)])
def test_a_large_day_comes_to_the_same_in_groups(
    company: FakeCompany, monkeypatch: pytest.MonkeyPatch, is_large: bool, is_sharing_known: bool
) -> None:
    if not is_sharing_known:  # as in days that were staged before 0009
        monkeypatch.setattr(staging.Sharing, "raw_ids", lambda self: None)
    if is_large:
        monkeypatch.setattr(steps, "STAGING_CHUNK", 2)
        monkeypatch.setattr(staging, "GROUP", 2)
        monkeypatch.setattr(steps, "CHECK_GROUP", 2)
        monkeypatch.setattr(frames, "PIECE", 2)  # `verify` hashes a batch's text as a whole
    _relink(company, replace(company.runtime.link("shop"), quarantine_limit=0.9))
    groups = []
    for day, orders in ((DAY, LARGE), (NEXT, MOVED)):
        company.run(*orders, day=day)
        with company.database.connect("reader") as connection:
            opened = staging.open_day(connection, "shop", day, company.runtime.link("shop").source.records)
            assert opened.is_large == is_large
            groups.append(len(list(opened.groups(connection))))
    assert groups == ([6, 3] if is_large else [1, 1])
    assert company.rows(
        "SELECT source_id, record, stage, path FROM ops.quarantine ORDER BY source_id, record, stage, path"
    ) == [
        ("bad", "sale", "staging", "$.total"),
        ("kw", "sale", "posting", "posting"),
        *((source_id, "refund", "check", "source_id is unique") for source_id in ("o1", "o7", "o8", "o9")),
    ]
    fates = Counter(fate for _, fate, _ in company.fates())
    assert fates == {"posted": 5, "superseded": 5, "quarantined": 6}
    assert company.rows("SELECT source_id, kind FROM ledger.entry WHERE record = 'refund'") == [("r6", "original")]
    assert company.balances() == {"order_clearing:till": 1940, "sales": -2000, "sales_returns": 60}
    assert verify(company.database).findings == []


def test_the_payloads_that_share_a_record_are_known_once_a_day_is_staged(company: FakeCompany) -> None:
    company.prepare(*LARGE)
    wanted = company.rows(
        "SELECT array_agg(DISTINCT raw_id ORDER BY raw_id) FROM staging.refund JOIN "
        "(SELECT source_id FROM staging.refund GROUP BY source_id HAVING count(*) > 1) s USING (source_id)"
    )
    assert wanted[0][0]
    assert company.rows("SELECT shared FROM ops.staged") == wanted


def test_columns_that_were_changed_behind_the_rows_back_are_not_posted(company: FakeCompany) -> None:
    company.prepare(*ORDERS)
    with company.database.connect("owner") as connection:
        connection.execute("UPDATE staging.packed SET columns = columns || '\\x00'::bytea WHERE record = 'sale'")
    with pytest.raises(steps.GateClosed, match="the staged data differ from what was checked"):
        company.post()
    assert company.entries() == []


def test_a_moment_is_landed_to_the_microsecond(company: FakeCompany) -> None:
    moment = datetime(2026, 10, 5, 10, 0, 0, 123457, tzinfo=UTC)
    company.run(order("o1", updated=moment.isoformat()), order("ö✓", updated="1969-12-31T23:59:59.999999Z"))
    rows = company.rows(
        "SELECT source_id, version_at, units, sync_date, payload->>'id' FROM raw.record ORDER BY raw_id"
    )
    before = datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)
    assert rows == [("o1", moment, 1, DAY, "o1"), ("ö✓", before, 1, DAY, "ö✓")]
