"""Periods: which change follows which, how changes are chained, and that the hash of a month is over exactly its lines."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest

from ledger_pipeline.store import periods
from ledger_pipeline.store.database import Database
from ledger_pipeline.store.periods import Content, EventName, PeriodRefused
from ledger_pipeline_tests.fakes import NOON, FakeCompany, order

OCTOBER, NOVEMBER = date(2026, 10, 1), date(2026, 11, 1)
AT = datetime(2026, 11, 3, 9, 0, 0, 123456, tzinfo=UTC)
EMPTY = Content(0, 0, hashlib.sha256(b"").digest())


def change(
    database: Database, event: EventName, month: date = OCTOBER, entity: str = "acme", **more: Any
) -> periods.Event:
    closed = more.pop("closed", EMPTY if event == "closed" else None)
    with database.connect() as connection:
        return periods.record_event(
            connection, entity, month, event, by=more.pop("by", "Ann"), at=AT, reason=more.pop("reason", "why"), closed=closed, **more
        )  # fmt: skip


def state(database: Database, month: date = OCTOBER, entity: str = "acme") -> periods.State:
    with database.connect("reader") as connection:
        return periods.state(connection, entity, month)


def test_a_month_goes_from_open_through_closing_to_closed_and_back(database: Database) -> None:
    seen = [state(database)]
    steps: tuple[EventName, ...] = ("closing", "reopened", "closing", "closed", "reopened")
    for event in steps:
        change(database, event)
        seen.append(state(database, date(2026, 10, 17)))
    assert seen == ["open", "closing", "open", "closing", "closed", "open"]
    assert (state(database, NOVEMBER), state(database, entity="other")) == ("open", "open")


@pytest.mark.parametrize(
    ("before", "event", "said"),
    [
        ([], "closed", "is open: it can't become closed"),
        ([], "reopened", "is open: it can't become open"),
        (["closing"], "closing", "is closing: it can't become closing"),
        (["closing", "closed"], "closed", "is closed: it can't become closed"),
        (["closing", "closed"], "closing", "is closed: it can't become closing"),
    ],
)
def test_other_changes_are_refused(database: Database, before: list[EventName], event: EventName, said: str) -> None:
    for one in before:
        change(database, one)
    with pytest.raises(PeriodRefused, match=f"period 2026-10 of acme {said}"):
        change(database, event)
    with database.connect("reader") as connection:
        assert len(periods.history(connection)) == len(before)


def test_somebody_changes_it_and_says_why_it_is_opened(database: Database) -> None:
    with pytest.raises(PeriodRefused, match="say who"):
        change(database, "closing", by=" ")
    change(database, "closing")
    with pytest.raises(PeriodRefused, match="say why"):
        change(database, "reopened", reason="")


def test_events_are_chained_by_entity_over_all_their_fields(database: Database) -> None:
    checks = [{"name": "é\x1f", "holds": True, "rows": [{"b": "1", "a": None}], "n": 12345678901234567890}]
    first = change(database, "closing", by='Ann "é" \x1f')
    change(database, "closing", entity="other")
    second = change(database, "closed", checks=checks, closed=Content(1, 2, b"\1" * 32))
    with database.connect("reader") as connection:
        assert periods.history(connection, "acme") == [first, second]
        assert [p.changed_by for p in periods.all_of(connection)] == ["Ann", "Ann"]
    assert (first.event_no, first.previous_hash, second.event_no, second.previous_hash) == (1, bytes(32), 2, first.hash)
    said = [
        *("acme", 2, "2026-10-01", "closed", "2026-11-03T09:00:00.123456+00:00", "Ann", "why", 1, 2, "01" * 32),
        [{"holds": True, "n": 12345678901234567890, "name": "é\x1f", "rows": [{"a": None, "b": "1"}]}],
    ]
    text = json.dumps(said, ensure_ascii=False, separators=(",", ":")).encode()
    assert second.hash == hashlib.sha256(first.hash + text).digest()


@pytest.mark.parametrize(
    "other",
    [
        {"entity": "b"}, {"event_no": 2}, {"month": NOVEMBER}, {"event": "reopened"}, {"happened_at": AT + timedelta(microseconds=1)},
        {"by_whom": "Bob"}, {"reason": "other"}, {"entry_count": 8}, {"line_count": 8}, {"content_hash": b"\2" * 32},
        {"checks": ({"name": "b"},)}, {"previous_hash": b"\2" * 32},
    ],
)  # fmt: skip
def test_the_hash_covers_every_field(other: dict[str, Any]) -> None:
    event = periods.Event(
        "a", 1, OCTOBER, "closed", AT, "Ann", "why", 1, 2, b"\1" * 32, ({"name": "a"},), bytes(32), b""
    )
    assert periods.event_hash(event) != periods.event_hash(replace(event, **other))


def test_two_people_who_close_at_once_leave_one_chain(database: Database) -> None:
    found: list[str] = []
    start = threading.Barrier(4)

    def one(by: str) -> None:
        start.wait(10)
        try:
            change(database, "closing", by=by)
        except PeriodRefused as error:
            found.append(str(error))

    threads = [threading.Thread(target=one, args=(f"p{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert found == ["period 2026-10 of acme is closing: it can't become closing"] * 3
    with database.connect("reader") as connection:
        assert [event.event_no for event in periods.history(connection)] == [1]


@pytest.fixture(scope="module")
def filled(new_database: Callable[[], Database], tmp_path_factory: pytest.TempPathFactory) -> Database:
    """Orders of the last day of September, of October's first and last day and of November's first."""
    database = new_database()
    with pytest.MonkeyPatch.context() as monkeypatch:
        company = FakeCompany(database, tmp_path_factory.mktemp("books"), monkeypatch)
        days = ("2026-09-30", "2026-10-01", "2026-10-31", "2026-11-01")
        company.now = datetime(2026, 11, 2, tzinfo=UTC)
        company.run(*(order(f"o{n}", 100 + n, at=f"{day}T00:00:00Z") for n, day in enumerate(days)))
        company.run(order("other", 7, at=NOON.isoformat()), name="other")
    return database


@pytest.fixture
def books(filled: Database, copy_of: Callable[[str], Database]) -> Database:
    return copy_of(urlsplit(filled.url).path.lstrip("/"))


def content(database: Database, month: date = OCTOBER, entity: str = "acme") -> Content:
    with database.connect("reader") as connection:
        return periods.content(connection, entity, month)


def test_the_content_is_the_months_lines_as_text(filled: Database) -> None:
    with filled.connect("reader") as connection:
        rows = connection.execute(
            "SELECT entry_id, line_no, posted_on, account, role, currency, amount_minor, base_minor FROM ledger.line "
            "WHERE posted_on >= '2026-10-01' AND posted_on < '2026-11-01' ORDER BY entry_id, line_no"
        ).fetchall()
    text = "".join("\t".join(map(str, row)) + "\n" for row in rows)
    assert content(filled, date(2026, 10, 9)) == Content(3, 6, hashlib.sha256(text.encode()).digest())
    assert [content(filled, month).lines for month in (date(2026, 9, 1), NOVEMBER, date(2026, 12, 1))] == [2, 2, 0]
    assert content(filled, entity="nobody") == EMPTY


@pytest.mark.parametrize(
    "edited", ["account = '4100'", "role = 'é'", "amount_minor = amount_minor + 1", "base_minor = 0", "currency = 'EUR'",
               "posted_on = '2026-10-02'", "line_no = 9", "entry_id = 99"],
)  # fmt: skip
def test_the_hash_changes_with_any_field_of_any_line(books: Database, edited: str) -> None:
    before = content(books)
    with books.connect("owner") as connection:
        connection.execute("SET LOCAL session_replication_role = replica")
        first = "SELECT min(entry_id) FROM ledger.line WHERE posted_on = '2026-10-31'"
        done = connection.execute(f"UPDATE ledger.line SET {edited} WHERE line_no = 2 AND entry_id = ({first})")
    assert done.rowcount == 1
    assert content(books).hash != before.hash


def test_the_hash_does_not_depend_on_the_sessions_settings(books: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    with books.connect("owner") as connection:
        connection.execute("SET LOCAL session_replication_role = replica")
        connection.execute("UPDATE ledger.line SET role = 'order_clearing:café' WHERE line_no = 1")
    before = content(books)
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    monkeypatch.setenv("PGDATESTYLE", "German, DMY")
    assert content(books) == before


def test_entries_are_counted_by_month(filled: Database) -> None:
    with filled.connect("reader") as connection:
        assert periods.entries_by_month(connection, "acme") == {date(2026, 9, 1): 1, OCTOBER: 3, NOVEMBER: 1}


def test_who_posts_waits_for_who_closes_and_only_then(database: Database) -> None:
    """Two who post don't wait for each other; another entity is another lock."""
    with database.connect() as one, database.connect() as other:
        periods.lock_shared(one, "acme")
        other.execute("SET lock_timeout = '200ms'")
        periods.lock_shared(other, "acme")
        periods.lock_alone(other, "uk")
    with database.connect() as one, pytest.raises(Exception, match="lock timeout"), database.connect() as other:  # noqa: PT012
        periods.lock_shared(one, "acme")
        other.execute("SET lock_timeout = '200ms'")
        periods.lock_alone(other, "acme")
