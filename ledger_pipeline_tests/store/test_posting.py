"""Days of a small source of our own: corrections, late and vanished records, concurrent posting, a crash in between."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ledger_pipeline.orchestration import steps
from ledger_pipeline.store import posting, raw
from ledger_pipeline.store.database import Connection, Database
from ledger_pipeline.store.gate import GateClosed
from ledger_pipeline.store.proof import verify
from ledger_pipeline_tests.fakes import DAY, FakeCompany, gone, order

NEXT = DAY + timedelta(days=1)
NEWER = {"updated": "2026-10-06T10:00:00Z"}
OLDER = {"updated": "2026-10-05T10:00:00Z"}


@pytest.fixture
def company(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeCompany:
    return FakeCompany(database, tmp_path, monkeypatch)


def refund(id_: str, amount: int) -> dict[str, Any]:
    return {"id": id_, "at": "2026-10-05T15:00:00Z", "amount": amount}


def kinds(company: FakeCompany) -> list[tuple[Any, ...]]:
    """(record, kind, version, corrects, debits) in the order of posting."""
    return [
        (record, kind, version, corrects, amount) for record, _, kind, version, corrects, amount, _ in company.entries()
    ]


def test_a_day_is_posted_with_its_lineage(company: FakeCompany) -> None:
    done = company.run(order("o1", 1000), order("o2", 250)).posted
    assert done is not None
    assert (done.posted.originals, done.posted.lines, done.posted.batch_ids) == (2, 4, [1])
    assert company.balances() == {"order_clearing:till": 1250, "sales": -1250}
    assert company.fates() == [("o1", "posted", ""), ("o2", "posted", "")]
    row = company.rows(
        "SELECT e.stream, e.origin_id, e.occurred_on, e.posted_on, e.mapping_version, r.content_hash = e.content_hash, "
        "b.entry_count, b.line_count, b.run_id FROM ledger.entry e JOIN raw.record r USING (raw_id) "
        "JOIN ledger.batch b USING (batch_id) WHERE e.source_id = 'o1'"
    )[0]
    version = company.runtime.link("shop").source.mapping_version
    assert row == ("orders", "o1", DAY, DAY, version, True, 2, 4, "test")


def test_an_unchanged_record_posts_nothing(company: FakeCompany) -> None:
    company.run(order())
    again = company.run(order()).posted
    tomorrow = company.run(order(), day=NEXT).posted
    assert again is not None
    assert tomorrow is not None
    assert (again.posted.batch_ids, again.posted.unchanged) == ([], 1)
    assert (tomorrow.posted.batch_ids, tomorrow.posted.unchanged) == ([], 1)
    assert kinds(company) == [("sale", "original", 1, None, 1000)]


def test_a_change_that_books_the_same_posts_nothing(company: FakeCompany) -> None:
    company.run(order(note="a", **OLDER))
    company.run(order(note="b", **NEWER), day=NEXT)
    assert kinds(company) == [("sale", "original", 1, None, 1000)]
    assert company.fates() == [("o1", "superseded", "a newer version of this record"), ("o1", "posted", "")]


def test_a_changed_payload_is_reversed_and_replaced_with_links(company: FakeCompany) -> None:
    company.run(order(total=1000, **OLDER))
    done = company.run(order(total=1300, **NEWER), day=NEXT).posted
    assert done is not None
    assert (done.posted.originals, done.posted.corrected, done.posted.reversed) == (0, 1, 1)
    first = company.entries()[0][-1]
    assert kinds(company) == [
        ("sale", "original", 1, None, 1000),
        ("sale", "reversal", 1, first, 1000),
        ("sale", "replacement", 2, first, 1300),
    ]
    assert company.balances() == {"order_clearing:till": 1300, "sales": -1300}
    reversal = "SELECT account, role, currency, amount_minor, base_minor FROM ledger.line WHERE entry_id = %s"
    original, mirrored = company.rows(reversal, 1), company.rows(reversal, 2)
    assert sorted(mirrored) == sorted((*names, -amount, -base) for *names, amount, base in original)


def test_a_third_version_corrects_the_second(company: FakeCompany) -> None:
    for n, total in enumerate((1000, 1300, 1600)):
        company.run(order(total=total, updated=f"2026-10-0{5 + n}T10:00:00Z"), day=DAY + timedelta(days=n))
    assert kinds(company)[3:] == [("sale", "reversal", 2, 3, 1300), ("sale", "replacement", 3, 3, 1600)]
    assert company.balances() == {"order_clearing:till": 1600, "sales": -1600}


def test_what_was_changed_back_is_posted_as_a_third_version(company: FakeCompany) -> None:
    """A → B → A: the first content landed long ago, and is what counts again."""
    for n, total in enumerate((1000, 1300, 1000)):
        company.now += timedelta(days=1)
        company.run(order(total=total), day=DAY + timedelta(days=n))
    assert [(kind, version) for _, kind, version, _, _ in kinds(company)] == [
        ("original", 1),
        ("reversal", 1),
        ("replacement", 2),
        ("reversal", 2),
        ("replacement", 3),
    ]
    assert company.balances() == {"order_clearing:till": 1000, "sales": -1000}
    assert company.fates() == [("o1", "posted", ""), ("o1", "superseded", "a newer version of this record")]


def test_a_refund_that_vanished_from_its_order_is_reversed(company: FakeCompany) -> None:
    company.run(order(refunds=[refund("r1", 300), refund("r2", 50)], **OLDER))
    assert company.balances() == {"order_clearing:till": 650, "sales": -1000, "sales_returns": 350}
    done = company.run(order(refunds=[refund("r2", 50)], **NEWER), day=NEXT).posted
    assert done is not None
    assert (done.posted.corrected, done.posted.reversed, done.posted.unchanged) == (0, 1, 2)
    assert kinds(company)[-1] == ("refund", "reversal", 1, company.entries()[1][-1], 300)
    assert company.balances() == {"order_clearing:till": 950, "sales": -1000, "sales_returns": 50}


def test_a_part_that_comes_back_is_posted_as_the_next_version(company: FakeCompany) -> None:
    for n, refunds in enumerate(([refund("r1", 300)], [], [refund("r1", 300)])):
        company.run(order(refunds=refunds, updated=f"2026-10-0{5 + n}T10:00:00Z"), day=DAY + timedelta(days=n))
    assert kinds(company)[-1] == ("refund", "replacement", 2, 2, 300)
    assert company.balances() == {"order_clearing:till": 700, "sales": -1000, "sales_returns": 300}


def test_an_order_that_became_void_is_reversed(company: FakeCompany) -> None:
    company.run(order(**OLDER))
    company.run(order(state="voided", **NEWER), day=NEXT)
    assert [kind for _, kind, *_ in kinds(company)] == ["original", "reversal"]
    assert company.balances() == {}
    assert company.fates()[-1] == ("o1", "ignored", "voided")


def test_a_record_that_the_source_removed_is_reversed(company: FakeCompany) -> None:
    company.run(order("o1"), order("o2", 70))
    company.run(gone("o1"), day=NEXT)
    assert [kind for _, kind, *_ in kinds(company)] == ["original", "original", "reversal"]
    assert company.balances() == {"order_clearing:till": 70, "sales": -70}
    assert company.fates()[-1] == ("o1", "ignored", "removed at the source")


def test_an_older_version_that_arrives_late_is_superseded(company: FakeCompany) -> None:
    company.run(order(total=1300, **NEWER), day=NEXT)
    late = company.run(order(total=1000, **OLDER), day=DAY).posted
    assert late is not None
    assert late.posted.batch_ids == []
    assert kinds(company) == [("sale", "original", 1, None, 1300)]
    assert company.fates() == [("o1", "posted", ""), ("o1", "superseded", "a newer version of this record")]


def test_an_older_day_run_again_changes_nothing(company: FakeCompany) -> None:
    company.run(order(total=1000, **OLDER), day=DAY)
    company.run(order(total=1300, **NEWER), day=NEXT)
    steps.stage(company.runtime, company.runtime.link("shop"), DAY, "test")
    steps.check(company.runtime, company.runtime.link("shop"), DAY, "test")
    assert company.post(DAY).posted.batch_ids == []
    assert company.balances() == {"order_clearing:till": 1300, "sales": -1300}
    assert [fate for _, fate, _ in company.fates()] == ["superseded", "posted"]


def test_a_newer_version_in_quarantine_leaves_the_old_one_standing(company: FakeCompany) -> None:
    company.run(order(total=1000, **OLDER))
    company.run(order(total="a lot", **NEWER), day=NEXT)
    assert kinds(company) == [("sale", "original", 1, None, 1000)]
    old, new = company.fates()
    assert old == ("o1", "posted", "")
    assert new[:2] == ("o1", "quarantined")
    assert "Expected `int`, got `str`" in new[2]


def test_a_newer_version_in_quarantine_does_not_supersede_an_older_one(company: FakeCompany) -> None:
    company.run(order(total="a lot", **NEWER), day=NEXT)
    company.run(order(total=1000, **OLDER), day=DAY)
    assert kinds(company) == [("sale", "original", 1, None, 1000)]
    assert [fate for _, fate, _ in company.fates()] == ["quarantined", "posted"]


def test_two_contents_of_a_record_on_a_day_post_the_newest(company: FakeCompany) -> None:
    company.prepare(order(total=1000, **OLDER), order(total=1300, **NEWER))
    company.post()
    assert kinds(company) == [("sale", "original", 1, None, 1300)]
    assert company.rows("SELECT fate, count(*) FROM ops.fate GROUP BY 1 ORDER BY 1") == [
        ("posted", 1),
        ("superseded", 1),
    ]


def test_a_person_is_a_reference_and_posts_nothing(company: FakeCompany) -> None:
    company.shelf.put("people", {"id": "p1"})
    company.run()
    assert company.fates() == [("p1", "reference", "")]
    assert company.entries() == []


def test_an_unknown_rate_quarantines_the_record_at_posting(company: FakeCompany) -> None:
    company.run(order("o1", currency="KWD"), order("o2"))
    assert company.fates() == [
        ("o1", "quarantined", "posting: no rate: the ECB doesn't quote KWD"),
        ("o2", "posted", ""),
    ]
    assert company.rows("SELECT stage, record, reason FROM ops.quarantine") == [
        ("posting", "sale", "no rate: the ECB doesn't quote KWD")
    ]


def test_another_connection_with_the_same_ids_is_another_record(company: FakeCompany) -> None:
    company.run(order(), name="shop")
    company.run(order(), name="other")
    assert company.rows("SELECT connection, kind FROM ledger.entry ORDER BY 1") == [
        ("other", "original"),
        ("shop", "original"),
    ]


# periods ----------------------------------------------------------------------------------------------------


def close(company: FakeCompany, *months: str) -> None:
    with company.database.connect("owner") as connection:
        for month in months:
            connection.execute(
                "INSERT INTO ledger.period (entity, month, state, changed_by) VALUES ('acme', %s, 'closed', 'me')",
                (month,),
            )


def test_what_belongs_to_a_closed_period_is_posted_on_the_first_open_day(company: FakeCompany) -> None:
    close(company, "2026-10-01", "2026-11-01", "2026-12-01")
    company.run(order())
    dates = company.rows("SELECT occurred_on, posted_on, is_prior_period FROM ledger.entry")
    assert dates == [(DAY, date(2027, 1, 1), True)]
    assert company.rows("SELECT DISTINCT posted_on FROM ledger.line") == [(date(2027, 1, 1),)]


def test_a_correction_of_a_closed_period_is_posted_in_an_open_one(company: FakeCompany) -> None:
    company.run(order(total=1000, **OLDER))
    close(company, "2026-10-01")
    company.run(order(total=1300, **NEWER), day=NEXT)
    dates = company.rows("SELECT kind, posted_on, is_prior_period FROM ledger.entry ORDER BY entry_id")
    november = date(2026, 11, 1)
    assert dates == [("original", DAY, False), ("reversal", november, True), ("replacement", november, True)]


@pytest.mark.parametrize(
    ("day", "closed", "expected"),
    [
        (date(2026, 10, 5), set(), date(2026, 10, 5)),
        (date(2026, 10, 5), {date(2026, 9, 1)}, date(2026, 10, 5)),
        (date(2026, 10, 5), {date(2026, 10, 1)}, date(2026, 11, 1)),
        (date(2026, 12, 31), {date(2026, 12, 1), date(2027, 1, 1)}, date(2027, 2, 1)),
        (date(2026, 11, 30), {date(2026, 11, 1)}, date(2026, 12, 1)),
    ],
)
def test_the_first_open_day(day: date, closed: set[date], expected: date) -> None:
    assert posting.first_open_day(day, closed) == expected


# at once, and cut off ---------------------------------------------------------------------------------------


def test_twenty_threads_post_a_day_once(company: FakeCompany) -> None:
    company.prepare(*(order(f"o{n}", 100 + n) for n in range(30)))
    link = company.runtime.link("shop")
    together = threading.Barrier(20)

    def post(_: int) -> list[int]:
        together.wait(20)
        return steps.post(company.runtime, link, DAY, "test").posted.batch_ids

    with ThreadPoolExecutor(20) as pool:
        batches = list(pool.map(post, range(20)))
    assert sorted(batches) == [[]] * 19 + [[1]]
    assert company.rows("SELECT count(*) FROM ledger.entry") == [(30,)]


def with_accounts(company: FakeCompany) -> None:
    """A first posting: writing the chart's accounts would keep two others apart by itself."""
    company.run(order("first", 1), day=DAY - timedelta(days=1))


def slowed(function: Callable[..., Any]) -> Callable[..., Any]:
    """Takes so long that another thread comes in between, where nothing keeps it out."""

    def slow(*arguments: Any) -> Any:
        time.sleep(0.5)
        return function(*arguments)

    return slow


def test_two_days_of_a_connection_post_a_record_once(company: FakeCompany, monkeypatch: pytest.MonkeyPatch) -> None:
    with_accounts(company)
    days = (DAY, NEXT)
    for day in days:
        company.prepare(order(), day=day)
    monkeypatch.setattr(posting, "_append", slowed(posting._append))
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(company.post, days))
    assert sorted(one.posted.originals for one in done) == [0, 1]
    assert company.balances() == {"order_clearing:till": 1001, "sales": -1001}


def test_two_connections_of_an_entity_post_at_once_into_one_chain(
    company: FakeCompany, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_accounts(company)
    monkeypatch.setattr(posting, "chain_hash", slowed(posting.chain_hash))
    company.prepare(order("o1"), name="shop")
    company.prepare(order("o2"), name="other")
    together = threading.Barrier(2)

    def post(name: str) -> None:
        together.wait(20)
        company.post(name=name)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(post, ("shop", "other")))
    chain = company.rows("SELECT chain_no, previous_hash, hash FROM ledger.batch ORDER BY chain_no")
    assert [no for no, _, _ in chain] == [1, 2, 3]
    assert [previous for _, previous, _ in chain] == [bytes(32), chain[0][2], chain[1][2]]


def terminate(connection: Connection, database: Database) -> None:
    with psycopg.connect(database.url, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", (connection.info.backend_pid,))


@pytest.mark.parametrize("where", ["_append", "decide"])
def test_a_connection_killed_inside_the_transaction_posts_all_or_nothing(
    company: FakeCompany, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    company.prepare(order("o1"), order("o2"))
    real: Callable[..., Any] = getattr(posting, where)

    def killed(connection: Connection, *arguments: Any) -> Any:
        made = real(connection, *arguments)
        terminate(connection, company.database)
        return made

    with monkeypatch.context() as patch:
        patch.setattr(posting, where, killed)
        with pytest.raises(psycopg.OperationalError):
            company.post()
    for table in ("ledger.entry", "ledger.line", "ledger.batch", "ops.fate"):
        assert company.rows(f"SELECT count(*) FROM {table}") == [(0,)], table
    company.post()
    assert company.balances() == {"order_clearing:till": 2000, "sales": -2000}
    assert company.rows("SELECT chain_no FROM ledger.batch") == [(1,)]


def test_a_pull_that_breaks_off_stages_nothing_and_the_next_one_lands_the_rest(company: FakeCompany) -> None:
    company.shelf.put("orders", *(order(f"o{n}") for n in range(4)), page_size=2)

    def broken(stream: str, page: int) -> None:
        if page == 1:
            raise ConnectionResetError("the line is dead")

    company.shelf.before_page = broken
    with pytest.raises(ConnectionResetError):
        company.pull()
    assert company.rows("SELECT count(*) FROM raw.pull") == [(0,)]
    assert company.prepare(*()).documents == 0
    company.shelf.before_page = lambda stream, page: None
    company.run(*(order(f"o{n}") for n in range(4)))
    assert company.rows("SELECT count(*) FROM ledger.entry") == [(4,)]


# the gate ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE staging.sale_line SET net_minor = net_minor + 1",
        "UPDATE staging.sale SET source_id = 'o9'",
        "UPDATE staging.sale_line SET title = ''",
        "DELETE FROM staging.sale_tender",
        "UPDATE staging.document SET is_gone = true",
        "INSERT INTO staging.party SELECT connection, sync_date, raw_id, 'p', 'customer', NULL FROM staging.sale",
    ],
)
def test_staged_data_changed_after_the_check_are_not_posted(company: FakeCompany, change: str) -> None:
    company.prepare(order())
    with company.database.connect("owner") as connection:
        connection.execute(change)
    with pytest.raises(GateClosed, match="the staged data differ from what was checked"):
        company.post()
    assert company.entries() == []


def test_a_day_staged_again_has_to_be_checked_again(company: FakeCompany) -> None:
    company.prepare(order())
    steps.stage(company.runtime, company.runtime.link("shop"), DAY, "test")
    with pytest.raises(GateClosed, match="shop 2026-10-05: its staged data were never checked"):
        company.post()


# the chain --------------------------------------------------------------------------------------------------


def test_the_chain_covers_header_content_and_what_came_before() -> None:
    header = (1, "acme", 1, "shop", DAY, "r", "at")
    made = posting.chain_hash(bytes(32), b"c" * 32, header)
    text = "1\x1facme\x1f1\x1fshop\x1f2026-10-05\x1fr\x1fat"
    assert made == hashlib.sha256(bytes(32) + b"c" * 32 + text.encode()).digest()
    assert posting.chain_hash(b"\1" * 32, b"c" * 32, header) != made
    assert posting.chain_hash(bytes(32), b"d" * 32, header) != made
    assert posting.chain_hash(bytes(32), b"c" * 32, (2, *header[1:])) != made


# a pull of many -------------------------------------------------------------------------------------------


def test_a_pull_in_many_chunks_lands_each_record_once_and_its_versions_in_order(
    company: FakeCompany, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chunks are landed by two sessions at once. Versions that state the same time of change: the last one listed counts."""
    monkeypatch.setattr(steps, "LANDING_CHUNK", 3)
    numbers = range(20)
    shuffled = [order(f"o{n}", 1000 + n) for n in numbers] + [order(f"o{n}", 500 + n) for n in reversed(numbers)]
    company.shelf.put("orders", *shuffled, page_size=4)
    link = company.runtime.link("shop")
    pulled = steps.pull(company.runtime, link, link.source.stream("orders"), DAY, "test")
    assert (pulled.records, pulled.landed) == (40, 40)
    assert company.rows("SELECT records, landed FROM raw.pull WHERE stream = 'orders'") == [(40, 40)]
    steps.stage(company.runtime, link, DAY, "test")
    steps.check(company.runtime, link, DAY, "test")
    company.post()
    assert company.balances()["sales"] == -sum(500 + n for n in numbers)
    assert verify(company.database).findings == []


# pulls that did not end -------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_another_there", [True, False])
@pytest.mark.parametrize(("now", "fate"), [("edited", "superseded"), ("vanished", "ignored")])
def test_what_only_a_failed_pull_saw_has_a_fate_when_the_retry_has_ended(
    company: FakeCompany, monkeypatch: pytest.MonkeyPatch, now: str, fate: str, is_another_there: bool
) -> None:
    monkeypatch.setattr(steps, "LANDING_CHUNK", 1)
    company.shelf.put("orders", order("o1", 1000, **OLDER), order("o9"), page_size=1)
    others = [order("o2", 300)] if is_another_there else []

    def broken(stream: str, page: int) -> None:
        if (stream, page) == ("orders", 1):
            raise ConnectionResetError("in the middle of a list")

    company.shelf.before_page = broken
    link = company.runtime.link("shop")
    with pytest.raises(ConnectionResetError):
        steps.pull(company.runtime, link, link.source.stream("orders"), DAY, "broken")
    company.shelf.before_page = lambda stream, page: None
    company.run(*others, *([order("o1", 1300, **NEWER)] if now == "edited" else []))
    reason = "seen only by a pull that did not end; a later one saw something else"
    assert company.fates()[0] == ("o1", fate, reason if now == "vanished" else company.fates()[0][2])
    assert {f for i, f, _ in company.fates()[1:]} <= {"posted"}
    assert verify(company.database).findings == []
    assert company.rows(
        "SELECT count(*) FROM raw.attempt a LEFT JOIN raw.pull p USING (pull_id) WHERE p.pull_id IS NULL"
    ) == [(1,)]


def test_what_a_pull_under_way_has_seen_waits_for_its_end(company: FakeCompany) -> None:
    company.run(order("o1", 1000, **OLDER))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(raw, "finish", lambda *_: None)
        company.shelf.put("orders", order("o1", 1300, **NEWER))
        company.pull()
    company.post()
    assert company.fates() == [("o1", "posted", "")]
