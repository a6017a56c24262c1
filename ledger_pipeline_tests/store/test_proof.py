"""What `verify` recomputes is what posting hashed, and a superuser's edit of it is found by the name of its row."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from ledger_pipeline.config import LedgerConfig
from ledger_pipeline.orchestration.runtime import Runtime
from ledger_pipeline.store import periods
from ledger_pipeline.store.database import Database
from ledger_pipeline.store.proof import Finding, Proof, verify
from ledger_pipeline_tests.fakes import DAY, FakeCompany, gone, order

NEXT, THIRD = DAY + timedelta(days=1), DAY + timedelta(days=2)


def two_entities(database: Database, folder: Path, monkeypatch: pytest.MonkeyPatch) -> FakeCompany:
    """`shop` is of acme (USD), `other` of uk (GBP)."""
    company = FakeCompany(database, folder, monkeypatch)
    entity = {"name": "A", "time_zone": "UTC"}
    config = LedgerConfig.model_validate(
        {
            "database_url": database.url,
            "entities": {"acme": entity | {"base_currency": "USD"}, "uk": entity | {"base_currency": "GBP"}},
            "connections": {
                name: {"entity": of, "source": "fake", "quarantine_limit": 0.9}
                for name, of in (("shop", "acme"), ("other", "uk"))
            },
            "schedule": {"start": "2026-10-01"},
        }
    )
    company.runtime = Runtime(config, folder, clock=lambda: company.now)
    return company


def foreign(id_: str) -> dict[str, Any]:
    """An order in USD whose lines, each converted to GBP, miss its total: the rest is fx_rounding."""
    parts = [("sales", 301), ("shipping_income", 301), ("tips_payable", 301)]
    return order(id_, 903, lines=[{"role": role, "net": net} for role, net in parts])


def fill(company: FakeCompany) -> None:
    """Three batches of acme and two of uk: originals, a reversal and a replacement, a removed order, an ignored and a refused one."""
    refund = {"id": "r1", "at": "2026-10-05T15:00:00Z", "amount": 50}
    company.shelf.put("people", {"id": "c1", "country": "US"}, {"id": "c2"})
    company.run(order("o1", 1000), order('o2 é\n"x",\\', 250, refunds=[refund]), order("o3", 70, state="voided"))
    company.run(foreign("p1"), order("p2", 90, currency="GBP"), order("p3", "x"), name="other")
    company.now += timedelta(days=1, microseconds=123456)
    company.run(order("o1", 1300), order("o4", 20), day=NEXT)
    company.run(foreign("p4"), gone("p2"), day=NEXT, name="other")
    company.now += timedelta(days=1)
    company.run(order("o5", 700), day=THIRD)


@pytest.fixture(scope="module")
def filled(new_database: Callable[[], Database], tmp_path_factory: pytest.TempPathFactory) -> Database:
    """The books above; tests that edit them work on copies."""
    database = new_database()
    with pytest.MonkeyPatch.context() as monkeypatch:
        fill(two_entities(database, tmp_path_factory.mktemp("books"), monkeypatch))
    return database


@pytest.fixture
def books(filled: Database, copy_of: Callable[[str], Database]) -> Database:
    return copy_of(urlsplit(filled.url).path.lstrip("/"))


def edit(database: Database, *statements: str) -> None:
    """As a superuser who switched the triggers off."""
    with database.connect("owner") as connection:
        connection.execute("SET LOCAL session_replication_role = replica")
        for statement in statements:
            assert connection.execute(statement).rowcount > 0, statement


def found(proof: Proof) -> set[tuple[str, str]]:
    return {(finding.table, finding.id) for finding in proof.findings}


def test_a_clean_ledger_passes_whatever_the_size_of_the_chunks(filled: Database) -> None:
    proofs = [verify(filled, chunk=chunk) for chunk in (1, 2, 20_000)]
    assert [proof.findings for proof in proofs] == [[], [], []]
    counts = {(p.batches, p.entries, p.lines, p.payloads, p.pending) for p in proofs}
    with filled.connect("reader") as connection:
        row = connection.execute(
            "SELECT (SELECT count(*) FROM ledger.batch), (SELECT count(*) FROM ledger.entry), (SELECT count(*) FROM ledger.line), "
            "(SELECT count(*) FROM raw.record), 0, (SELECT count(DISTINCT kind) FROM ledger.entry), "
            "(SELECT count(*) FROM ledger.line WHERE amount_minor = 0)"
        ).fetchone()
    assert row is not None
    assert counts == {row[:5]}
    assert (row[0], row[5]) == (5, 3)
    assert row[6] > 0


def test_one_entity_is_proven_by_itself(books: Database) -> None:
    edit(books, "UPDATE ledger.line SET account = '4100' WHERE entry_id = 2 AND role = 'sales'")
    assert [(h.entity, h.chain_no) for h in verify(books).heads] == [("acme", 3), ("uk", 2)]
    uk = verify(books, entity="uk")
    assert (uk.findings, uk.batches, [h.entity for h in uk.heads]) == ([], 2, ["uk"])
    assert found(verify(books, entity="acme")) == {("ledger.batch", "1")}


EDITS = {
    "an amount": (
        ["UPDATE ledger.line SET amount_minor = amount_minor + 1, base_minor = base_minor + 1 WHERE entry_id = 1 AND line_no = 1"],
        [("ledger.entry", "1", "unbalanced by 1 USD"), ("ledger.entry", "1", "unbalanced by 1 minor units in base"),
         ("ledger.entry", "1", "fingerprint"), ("ledger.batch", "1", "hash to")],
    ),
    "balanced amounts": (
        ["UPDATE ledger.line SET amount_minor = amount_minor * 2, base_minor = base_minor * 2 WHERE entry_id = 1"],
        [("ledger.entry", "1", "fingerprint"), ("ledger.batch", "1", "hash to")],
    ),
    "an account": (
        ["UPDATE ledger.line SET account = '4100' WHERE entry_id = 1 AND role = 'sales'"],
        [("ledger.batch", "1", "its entries and lines hash to")],
    ),
    "an unknown account": (
        ["UPDATE ledger.line SET account = '4x' WHERE entry_id = 1 AND line_no = 1"],
        [("ledger.line", "1/1", "account 4x is unknown in acme"), ("ledger.batch", "1", "hash to")],
    ),
    "a line's date": (
        ["UPDATE ledger.line SET posted_on = '2026-10-04' WHERE entry_id = 1 AND line_no = 2"],
        [("ledger.line", "1/2", "its posted_on is 2026-10-04, its entry's 2026-10-05"), ("ledger.batch", "1", "hash to")],
    ),
    "an entry's date": (
        ["UPDATE ledger.entry SET posted_on = '2026-10-04', occurred_on = '2026-10-04' WHERE entry_id = 1",
         "UPDATE ledger.line SET posted_on = '2026-10-04' WHERE entry_id = 1"],
        [("ledger.entry", "1", "fingerprint"), ("ledger.batch", "1", "hash to")],
    ),
    "a microsecond": (
        ["UPDATE ledger.entry SET version_at = version_at + interval '1 microsecond' WHERE entry_id = 1"],
        [("ledger.batch", "1", "hash to")],
    ),
    "a removed line": (
        ["DELETE FROM ledger.line WHERE entry_id = 1 AND line_no = 1"],
        [("ledger.entry", "1", "states 2 lines but has 1"), ("ledger.entry", "1", "aren't numbered"), ("ledger.entry", "1", "unbalanced"),
         ("ledger.batch", "1", "it states 3 entries with 6 lines but holds 3 with 5")],
    ),
    "a removed entry": (
        ["DELETE FROM ledger.entry WHERE entry_id = 1"],
        [("ledger.line", "1/1", "its entry 1 is missing"), ("ledger.batch", "1", "it states 3 entries"),
         ("ledger.entry", "REVERSAL", "entry 1, which it corrects, is missing")],
    ),
    "a removed entry with its lines": (
        ["DELETE FROM ledger.line WHERE entry_id = 2", "DELETE FROM ledger.entry WHERE entry_id = 2"],
        [("ledger.batch", "1", "it states 3 entries with 6 lines but holds 2 with 4")],
    ),
    "a removed batch in the middle": (
        ["DELETE FROM ledger.batch WHERE entity = 'acme' AND chain_no = 2"],
        [("ledger.batch", "5", "the chain has a gap: number 3 comes after 1"), ("ledger.batch", "5", "batch 1 before it has"),
         ("ledger.entry", "REVERSAL", "its batch 3 is missing")],
    ),
    "a removed batch at the end": (
        ["DELETE FROM ledger.batch WHERE entity = 'acme' AND chain_no = 3"],
        [("ledger.entry", "LAST", "its batch 5 is missing")],
    ),
    "a removed batch at the end with all that it posted": (
        ["DELETE FROM ledger.line WHERE entry_id IN (SELECT entry_id FROM ledger.entry WHERE batch_id = 5)",
         "DELETE FROM ledger.entry WHERE batch_id = 5", "DELETE FROM ledger.batch WHERE batch_id = 5"],
        [("ops.fate", "O5", "shop/orders o5 is said to be posted but no entry of it stands")],
    ),
    "a removed reversal at the end": (
        ["DELETE FROM ledger.line WHERE entry_id IN (SELECT entry_id FROM ledger.entry WHERE batch_id = 4)",
         "DELETE FROM ledger.entry WHERE batch_id = 4", "DELETE FROM ledger.batch WHERE batch_id = 4"],
        [("ledger.entry", "P2", "it stands, but no version of other/orders p2 is said to be posted")],
    ),
    "a batch's header": (
        ["UPDATE ledger.batch SET posted_at = posted_at + interval '1 second' WHERE batch_id = 5"],
        [("ledger.batch", "5", "its hash isn't that of its header")],
    ),
    "a payload": (
        ["UPDATE raw.record SET payload = replace(payload::text, '700', '701')::json WHERE source_id = 'o5'"],
        [("raw.record", "O5", "its payload hashes to")],
    ),
    "a payload with its hash": (
        ["UPDATE raw.record SET payload = '{}', content_hash = sha256('{}') WHERE source_id = 'o5'"],
        [("ledger.entry", "LAST", "its content hash is not that of raw record")],
    ),
    "a removed payload": (
        ["DELETE FROM raw.record WHERE source_id = 'o5'"],
        [("ledger.entry", "LAST", "is missing"), ("ops.fate", "O5", "its raw record is missing")],
    ),
    "a deleted fate": (
        ["DELETE FROM ops.fate WHERE source_id = 'o5'"],
        [("raw.record", "O5", "shop/orders o5 landed for 2026-10-07 but has no fate")],
    ),
    "a deleted fate of what wasn't posted": (
        ["DELETE FROM ops.fate WHERE source_id = 'c1' AND connection = 'shop'"],
        [("raw.record", "C1", "shop/people c1 landed for 2026-10-05 but has no fate")],
    ),
    "a link between corrections": (
        ["UPDATE ledger.entry SET corrects_entry_id = 2 WHERE kind = 'replacement'"],
        [("ledger.entry", "REPLACEMENT", "another record"), ("ledger.entry", "REPLACEMENT", "which no entry reverses"),
         ("ledger.batch", "3", "hash to")],
    ),
    "a reversal's account": (
        ["UPDATE ledger.line SET account = '4100' WHERE role = 'sales' AND entry_id = (SELECT min(entry_id) FROM ledger.entry WHERE kind = 'reversal')"],
        [("ledger.entry", "REVERSAL", "its lines are not those of entry 1 with the other sign"), ("ledger.batch", "3", "hash to")],
    ),
}  # fmt: skip

IDS = {
    "REVERSAL": "SELECT min(entry_id) FROM ledger.entry WHERE kind = 'reversal'",
    "REPLACEMENT": "SELECT min(entry_id) FROM ledger.entry WHERE kind = 'replacement'",
    "LAST": "SELECT entry_id FROM ledger.entry WHERE source_id = 'o5'",
    "P2": "SELECT entry_id FROM ledger.entry WHERE source_id = 'p2' AND kind = 'original'",
    "O5": "SELECT raw_id FROM raw.record WHERE source_id = 'o5'",
    "C1": "SELECT raw_id FROM raw.record WHERE source_id = 'c1' AND connection = 'shop'",
}


def ids_of(database: Database) -> dict[str, str]:
    with database.connect("reader") as connection:
        return {name: str((connection.execute(query).fetchone() or [None])[0]) for name, query in IDS.items()}


def is_in(proof: Proof, table: str, id_: str, what: str) -> bool:
    return any((f.table, f.id) == (table, id_) and what in f.what for f in proof.findings)


@pytest.mark.parametrize("name", EDITS)
def test_a_superusers_edit_is_found_by_name(books: Database, name: str) -> None:
    statements, expected = EDITS[name]
    ids = ids_of(books)
    edit(books, *statements)
    proof = verify(books)
    missing = [e for e in expected if not is_in(proof, e[0], ids.get(e[1], e[1]), e[2])]
    assert missing == [], proof.findings


def test_what_no_posting_has_decided_yet_is_pending_and_no_finding(
    books: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    company = two_entities(books, tmp_path, monkeypatch)
    company.now += timedelta(days=9)
    company.prepare(order("o9", 5), day=DAY + timedelta(days=9))
    proof = verify(books)
    assert (proof.findings, proof.pending) == ([], 1)


def test_more_findings_than_are_kept_are_counted() -> None:
    proof = Proof()
    for n in range(1_005):
        proof.add("ledger.line", n, "x")
    assert (proof.count, len(proof.findings)) == (1_005, 1_000)
    assert proof.findings[0] == Finding("ledger.line", "0", "x")


# periods -----------------------------------------------------------------------------------------------------------

OCTOBER = date(2026, 10, 1)


def act(database: Database, event: periods.EventName, month: date = OCTOBER, entity: str = "acme") -> None:
    with database.connect() as connection:
        closed = periods.content(connection, entity, month) if event == "closed" else None
        periods.record_event(
            connection, entity, month, event, by="Ann", at=datetime(2026, 11, 3, tzinfo=UTC), reason="why", closed=closed
        )  # fmt: skip


@pytest.fixture(scope="module")
def shut(filled: Database, copy_of: Callable[[str], Database]) -> Database:
    """acme's September (empty), and its October, closed twice; uk's October in closing."""
    database = copy_of(urlsplit(filled.url).path.lstrip("/"))
    for event, month in (
        ("closing", 9),
        ("closed", 9),
        ("closing", 10),
        ("closed", 10),
        ("reopened", 10),
        ("closing", 10),
        ("closed", 10),
    ):
        act(database, event, date(2026, month, 1))  # type: ignore[arg-type]
    act(database, "closing", entity="uk")
    return database


@pytest.fixture
def closed(shut: Database, copy_of: Callable[[str], Database]) -> Database:
    return copy_of(urlsplit(shut.url).path.lstrip("/"))


def test_closed_months_are_proven(shut: Database) -> None:
    proof = verify(shut)
    assert (proof.findings, proof.closed) == ([], 2)
    assert [(h.entity, h.event_no, h.month, h.event) for h in proof.period_heads] == [
        ("acme", 7, OCTOBER, "closed"),
        ("uk", 1, OCTOBER, "closing"),
    ]


CLOSED_EDITS = {
    "an account in a closed month": (
        ["UPDATE ledger.line SET account = '4100' WHERE entry_id = 1 AND role = 'sales'"],
        [("ledger.period", "acme/2026-10", "its lines hash to"), ("ledger.batch", "1", "hash to")],
    ),
    "a line moved out of a closed month": (
        ["UPDATE ledger.line SET posted_on = '2026-11-01' WHERE entry_id = 1 AND line_no = 1"],
        [("ledger.period", "acme/2026-10", "was closed with 7 entries of 14 lines but holds 7 of 13")],
    ),
    "an entry moved out with its lines": (
        ["UPDATE ledger.line SET posted_on = '2026-11-01' WHERE entry_id = 1", "UPDATE ledger.entry SET posted_on = '2026-11-01', is_prior_period = true WHERE entry_id = 1"],
        [("ledger.period", "acme/2026-10", "was closed with 7 entries of 14 lines but holds 6 of 12")],
    ),
    "an entry added to an empty closed month": (
        ["INSERT INTO ledger.line VALUES (99, 1, 'acme', '2026-09-30', '1000', 'bank', 'USD', 5, 5)"],
        [("ledger.period", "acme/2026-09", "was closed with 0 entries of 0 lines but holds 1 of 1")],
    ),
    "a state": (
        ["UPDATE ledger.period SET state = 'open' WHERE entity = 'acme' AND month = '2026-10-01'"],
        [("ledger.period", "acme/2026-10", "it is open, but event 7 made it closed")],
    ),
    "who closed": (
        ["UPDATE ledger.period SET changed_by = 'Bob' WHERE entity = 'acme' AND month = '2026-10-01'"],
        [("ledger.period", "acme/2026-10", "who changed it and when isn't what event 7 says")],
    ),
    "a removed state": (
        ["DELETE FROM ledger.period WHERE entity = 'acme' AND month = '2026-10-01'"],
        [("ledger.period", "acme/2026-10", "it is missing, but event 7 made it closed")],
    ),
    "a state without an event": (
        ["INSERT INTO ledger.period (entity, month, state, changed_by) VALUES ('uk', '2026-09-01', 'closed', 'me')"],
        [("ledger.period", "uk/2026-09", "it is closed, but no event made it so")],
    ),
    "an event's person": (
        ["UPDATE ledger.period_event SET by_whom = 'Bob' WHERE entity = 'acme' AND event_no = 4"],
        [("ledger.period_event", "acme/4", "its hash isn't that of its fields and previous hash")],
    ),
    "an event's checks": (
        ["UPDATE ledger.period_event SET checks = '[1]' WHERE entity = 'acme' AND event_no = 4"],
        [("ledger.period_event", "acme/4", "its hash isn't that of its fields")],
    ),
    "an event's content hash and the line behind it": (
        ["UPDATE ledger.period_event SET content_hash = sha256('') WHERE entity = 'acme' AND event_no = 7"],
        [("ledger.period_event", "acme/7", "its hash isn't that of its fields"), ("ledger.period", "acme/2026-10", "its lines hash to")],
    ),
    "a removed event in the middle": (
        ["DELETE FROM ledger.period_event WHERE entity = 'acme' AND event_no = 5"],
        [("ledger.period_event", "acme/6", "the chain has a gap: number 6 comes after 4"),
         ("ledger.period_event", "acme/6", "but event 4 has"), ("ledger.period_event", "acme/6", "it couldn't become closing")],
    ),
    "a removed first event": (
        ["DELETE FROM ledger.period_event WHERE entity = 'acme' AND event_no = 1"],
        [("ledger.period_event", "acme/2", "the chain has a gap: number 2 comes after 0"), ("ledger.period_event", "acme/2", "it is the first one left")],
    ),
    "a removed last event": (
        ["DELETE FROM ledger.period_event WHERE entity = 'acme' AND event_no = 7"],
        [("ledger.period", "acme/2026-10", "it is closed, but event 6 made it closing")],
    ),
    "every event of an entity": (
        ["DELETE FROM ledger.period_event WHERE entity = 'uk'"],
        [("ledger.period", "uk/2026-10", "it is closing, but no event made it so")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CLOSED_EDITS)
def test_a_superusers_edit_of_a_period_is_found_by_name(closed: Database, name: str) -> None:
    statements, expected = CLOSED_EDITS[name]
    edit(closed, *statements)
    proof = verify(closed)
    assert [e for e in expected if not is_in(proof, *e)] == [], proof.findings


def test_a_period_is_proven_by_entity(closed: Database) -> None:
    edit(closed, "UPDATE ledger.period_event SET by_whom = 'Bob' WHERE entity = 'uk'")
    assert found(verify(closed, entity="uk")) == {("ledger.period_event", "uk/1"), ("ledger.period", "uk/2026-10")}
    assert verify(closed, entity="acme").findings == []


def test_a_reopened_month_may_differ_from_what_was_closed_then(
    closed: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    act(closed, "reopened")
    company = two_entities(closed, tmp_path, monkeypatch)
    company.now += timedelta(days=9)
    company.run(order("o9", 5), day=DAY + timedelta(days=9))
    proof = verify(closed)
    assert (proof.findings, proof.closed) == ([], 1)
