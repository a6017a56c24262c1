"""What PostgreSQL itself refuses, in the roles of the pipeline and as its owner, whatever the code above it does."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from typing import Any, Literal

import psycopg
import pytest
from psycopg import errors

from ledger_pipeline.store.database import Connection, Database

ROLES: list[Literal["writer", "owner"]] = ["writer", "owner"]
AT = datetime(2026, 10, 6, tzinfo=UTC)
DAY = date(2026, 10, 5)
HASH = bytes(32)
Line = tuple[str, str, int, int]  # account, currency, amount, base
SOUND: list[Line] = [("1000", "USD", 500, 500), ("4000", "USD", -500, -500)]


@pytest.fixture
def books(database: Database) -> Database:
    """Accounts of one entity, one inactive, and a landed payload (raw_id 1)."""
    with database.connect("owner") as connection:
        for code, is_active in (("1000", True), ("4000", True), ("9999", False)):
            connection.execute("INSERT INTO ledger.account VALUES ('acme', %s, 'A', 'asset', %s)", (code, is_active))
        connection.execute(
            "INSERT INTO ledger.account VALUES ('other', '1000', 'A', 'asset'), ('other', '4000', 'A', 'asset')"
        )
        connection.execute(
            "INSERT INTO raw.record (raw_id, connection, stream, source_id, content_hash, sync_date, fetched_at, run_id, payload) "
            "VALUES (1, 'shop', 'orders', 's1', %s, %s, %s, 'r', '{}')",
            (HASH, DAY, AT),
        )
    return database


def add_entry(connection: Connection, entry_id: int = 1, batch_id: int = 1, **more: Any) -> None:
    values = {
        "entry_id": entry_id,
        "batch_id": batch_id,
        "entity": "acme",
        "connection": "shop",
        "stream": "orders",
        "origin_id": f"s{entry_id}",
        "record": "sale",
        "source_id": f"s{entry_id}",
        "rule": "sale",
        "version": 1,
        "kind": "original",
        "occurred_on": DAY,
        "posted_on": DAY,
        "raw_id": 1,
        "content_hash": HASH,
        "mapping_version": "m",
        "rule_version": 1,
        "line_count": 2,
        "fingerprint": HASH,
        "version_at": AT,
    } | more
    marks = ", ".join(["%s"] * len(values))
    connection.execute(f"INSERT INTO ledger.entry ({', '.join(values)}) VALUES ({marks})", tuple(values.values()))


def add_lines(
    connection: Connection, lines: list[Line], entry_id: int = 1, first: int = 1, day: date = DAY, entity: str = "acme"
) -> None:
    rows = [(entry_id, n, entity, day, account, "r", *rest) for n, (account, *rest) in enumerate(lines, first)]
    marks = ", ".join("(" + ", ".join(["%s"] * 9) + ")" for _ in rows)
    connection.execute(
        "INSERT INTO ledger.line (entry_id, line_no, entity, posted_on, account, role, currency, amount_minor, base_minor) "
        f"VALUES {marks}",
        [value for row in rows for value in row],
    )


def add_batch(
    connection: Connection, batch_id: int = 1, entries: int = 1, lines: int = 2, entity: str = "acme", no: int = 0
) -> None:
    connection.execute(
        "INSERT INTO ledger.batch (batch_id, entity, chain_no, connection, sync_date, run_id, posted_at, entry_count, line_count, "
        "content_hash, previous_hash, hash) VALUES (%s, %s, %s, 'shop', %s, 'r', %s, %s, %s, %s, %s, %s)",
        (batch_id, entity, no or batch_id, DAY, AT, entries, lines, HASH, bytes([batch_id]) * 32, HASH),
    )


def add_sound(connection: Connection, number: int = 1) -> None:
    add_entry(connection, number, number)
    add_lines(connection, SOUND, number)
    add_batch(connection, number)


def count(database: Database) -> tuple[int, ...]:
    counts = ", ".join(f"(SELECT count(*) FROM ledger.{table})" for table in ("entry", "line", "batch"))
    with database.connect("reader") as connection:
        row = connection.execute(f"SELECT {counts}").fetchone()
    assert row is not None
    return row


@contextmanager
def refused(database: Database, kind: type[psycopg.Error], text: str | None = None) -> Iterator[None]:
    """The block fails in the database, and nothing of it stays."""
    before = count(database)
    with pytest.raises(kind, match=text):
        yield
    assert count(database) == before


@pytest.mark.parametrize("role", ROLES)
def test_a_sound_batch_is_taken(books: Database, role: Literal["writer", "owner"]) -> None:
    with books.connect(role) as connection:
        add_sound(connection)
    assert count(books) == (1, 2, 1)


BAD_LINES: dict[str, tuple[list[Line], str]] = {
    "one currency": (
        [("1000", "USD", 500, 500), ("4000", "USD", -499, -500)],
        "entry 1 is unbalanced by 1 USD minor units",
    ),
    "two currencies that only balance together": (
        [("1000", "USD", 500, 500), ("4000", "EUR", -500, -500)],
        "is unbalanced by -?500 (USD|EUR)",
    ),
    "base only": (
        [("1000", "EUR", 500, 586), ("4000", "EUR", -500, -585)],
        "entry 1 is unbalanced by 1 minor units in base",
    ),
    "unknown account": (
        [("1000", "USD", 5, 5), ("7777", "USD", -5, -5)],
        "account 7777 of entity acme is unknown or inactive",
    ),
    "inactive account": (
        [("1000", "USD", 5, 5), ("9999", "USD", -5, -5)],
        "account 9999 of entity acme is unknown or inactive",
    ),
    "a line too many": ([*SOUND, ("1000", "USD", 1, 1), ("4000", "USD", -1, -1)], "takes no such lines"),
    "a line too few": ([("1000", "USD", 0, 1)], "takes no such lines"),
    "a line of nothing": ([("1000", "USD", 0, 0), ("4000", "USD", 0, 0)], "violates check constraint"),
    "a currency in lower case": ([("1000", "usd", 5, 5), ("4000", "usd", -5, -5)], "violates check constraint"),
}


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("case", BAD_LINES)
def test_lines_that_do_not_fit_are_refused(books: Database, role: Literal["writer", "owner"], case: str) -> None:
    lines, text = BAD_LINES[case]
    with refused(books, errors.CheckViolation, text), books.connect(role) as connection:
        add_entry(connection)
        add_lines(connection, lines)


def test_one_bad_entry_refuses_the_statement_that_brings_it(books: Database) -> None:
    with refused(books, errors.CheckViolation, "entry 2 is unbalanced by 1 USD"), books.connect() as connection:
        add_entry(connection, 1)
        add_entry(connection, 2)
        connection.execute(
            "INSERT INTO ledger.line SELECT e, n, 'acme', %s, '1000', 'r', 'USD', s * 5 + (e = 2 AND n = 1)::int, s * 5 "
            "FROM generate_series(1, 2) e, (VALUES (1, 1), (2, -1)) l (n, s)",
            (DAY,),
        )


@pytest.mark.parametrize("role", ROLES)
def test_a_second_statement_adds_no_lines_in_the_same_transaction(
    books: Database, role: Literal["writer", "owner"]
) -> None:
    with refused(books, errors.CheckViolation, "entry 1 takes no such lines"), books.connect(role) as connection:
        add_entry(connection)
        add_lines(connection, SOUND)
        add_lines(connection, SOUND, first=3)


@pytest.mark.parametrize("role", ROLES)
def test_a_later_transaction_adds_no_lines(books: Database, role: Literal["writer", "owner"]) -> None:
    with books.connect(role) as connection:
        add_sound(connection)
    with refused(books, errors.CheckViolation, "entry 1 takes no such lines"), books.connect(role) as connection:
        add_lines(connection, SOUND, first=3)


@pytest.mark.parametrize("role", ROLES)
def test_an_unknown_entry_takes_no_lines(books: Database, role: Literal["writer", "owner"]) -> None:
    with refused(books, errors.CheckViolation, "entry 77 takes no such lines"), books.connect(role) as connection:
        add_lines(connection, SOUND, entry_id=77)


def test_lines_have_their_entrys_entity_and_date(books: Database) -> None:
    with refused(books, errors.CheckViolation, "takes no such lines"), books.connect() as connection:
        add_entry(connection)
        add_lines(connection, SOUND, day=date(2026, 10, 6))
    with refused(books, errors.CheckViolation, "takes no such lines"), books.connect() as connection:
        add_entry(connection)
        add_lines(connection, SOUND, entity="other")


@pytest.mark.parametrize("role", ROLES)
def test_an_entry_without_its_batch_fails_at_commit(books: Database, role: Literal["writer", "owner"]) -> None:
    reached = []
    with refused(books, errors.ForeignKeyViolation), books.connect(role) as connection:
        add_entry(connection)
        add_lines(connection, SOUND)
        reached.append("the end of the transaction")
    assert reached


@pytest.mark.parametrize("role", ROLES)
def test_a_sealed_batch_takes_no_entry(books: Database, role: Literal["writer", "owner"]) -> None:
    with refused(books, errors.CheckViolation, "batch 1 is sealed: entry 2 refused"), books.connect(role) as connection:
        add_sound(connection)
        add_entry(connection, 2, batch_id=1)
    with books.connect(role) as connection:
        add_sound(connection)
    with refused(books, errors.CheckViolation, "batch 1 is sealed: entry 2 refused"), books.connect(role) as connection:
        add_entry(connection, 2, batch_id=1)


@pytest.mark.parametrize(("entries", "lines"), [(2, 2), (1, 3), (1, 1)])
def test_a_batch_states_what_it_holds(books: Database, entries: int, lines: int) -> None:
    with refused(books, errors.CheckViolation, "batch 1 states"), books.connect() as connection:
        add_entry(connection)
        add_lines(connection, SOUND)
        add_batch(connection, entries=entries, lines=lines)


def test_a_batch_without_the_lines_of_its_entry_is_refused(books: Database) -> None:
    with (
        refused(books, errors.CheckViolation, "batch 1 states 2 lines but 0 were written"),
        books.connect() as connection,
    ):
        add_entry(connection)
        add_batch(connection)


def test_a_batch_takes_only_its_entitys_entries(books: Database) -> None:
    with refused(books, errors.CheckViolation, "entry 1 belongs to another entity"), books.connect() as connection:
        add_entry(connection)
        add_lines(connection, SOUND)
        add_batch(connection, entity="other")


@pytest.mark.parametrize(("state", "is_taken"), [("open", True), ("closing", True), ("closed", False)])
def test_a_closed_period_takes_no_entry(books: Database, state: str, is_taken: bool) -> None:
    with books.connect("owner") as connection:
        connection.execute(
            "INSERT INTO ledger.period (entity, month, state, changed_by) VALUES ('acme', '2026-10-01', %s, 'me'), "
            "('other', '2026-10-01', 'closed', 'me')",
            (state,),
        )
    if is_taken:
        with books.connect() as connection:
            add_sound(connection)
        assert count(books) == (1, 2, 1)
        return
    with (
        refused(books, errors.CheckViolation, "entry 1 is dated 2026-10-05 but that period of acme is closed"),
        books.connect() as connection,
    ):
        add_sound(connection)


def test_an_entry_without_a_landed_source_is_refused(books: Database) -> None:
    with refused(books, errors.CheckViolation, "entry 1 has no landed source record"), books.connect() as connection:
        add_entry(connection, raw_id=99)
        add_lines(connection, SOUND)
        add_batch(connection)


def test_an_entry_that_names_another_payloads_hash_is_refused(books: Database) -> None:
    with refused(books, errors.CheckViolation, "entry 1 has no landed source record"), books.connect() as connection:
        add_entry(connection, content_hash=b"\1" * 32)
        add_lines(connection, SOUND)
        add_batch(connection)


@pytest.mark.parametrize(
    "more",
    [
        {"kind": "reversal"},
        {"kind": "original", "corrects_entry_id": 9},
        {"kind": "replacement"},
        {"posted_on": date(2026, 10, 6)},
        {"version": 0},
        {"line_count": 0},
        {"kind": "estimate"},
        {"content_hash": b"short"},
    ],
)
def test_an_entry_that_contradicts_itself_is_refused(books: Database, more: dict[str, Any]) -> None:
    with refused(books, errors.CheckViolation), books.connect() as connection:
        add_entry(connection, **more)


def test_the_same_record_version_is_posted_once(books: Database) -> None:
    with books.connect() as connection:
        add_sound(connection)
    with refused(books, errors.UniqueViolation, "entry_identity"), books.connect() as connection:
        add_entry(connection, 2, 2, source_id="s1")


def test_an_entry_is_reversed_once(books: Database) -> None:
    with books.connect() as connection:
        add_sound(connection)
    with refused(books, errors.UniqueViolation, "entry_reversed_once"), books.connect() as connection:
        add_entry(connection, 2, 2, kind="reversal", corrects_entry_id=1)
        add_entry(connection, 3, 2, kind="reversal", corrects_entry_id=1)


def test_batches_form_one_chain(books: Database) -> None:
    with books.connect() as connection:
        add_sound(connection)
    with refused(books, errors.UniqueViolation), books.connect() as connection:
        add_entry(connection, 2, 2)
        add_lines(connection, SOUND, 2)
        add_batch(connection, 2, no=1)


SEALED = [
    *("ledger.entry", "ledger.line", "ledger.batch", "raw.record", "raw.pull", "raw.seen", "raw.file"),
    *("ledger.period_event", "ledger.rate", "ops.decision", "ops.action"),
]
COLUMN = {
    "ledger.entry": "rule",
    "ledger.line": "role",
    "ledger.batch": "run_id",
    "raw.seen": "pull_id",
    "raw.file": "name",
    "ledger.period_event": "by_whom",
    "ledger.rate": "source",
    "ops.decision": "reason",
}


@pytest.mark.parametrize("table", SEALED)
@pytest.mark.parametrize("statement", ["UPDATE {} SET {} = {}", "DELETE FROM {}", "TRUNCATE {} CASCADE"])
def test_nothing_posted_or_landed_is_changed_or_removed(books: Database, table: str, statement: str) -> None:
    with books.connect() as connection:
        add_sound(connection)
    text = statement.format(table, COLUMN.get(table, "run_id"), COLUMN.get(table, "run_id"))
    with refused(books, errors.InsufficientPrivilege), books.connect("writer") as connection:
        connection.execute(text)
    with refused(books, errors.RestrictViolation, "is append-only"), books.connect("owner") as connection:
        connection.execute(text)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE ledger.period SET state = 'open'",
        "INSERT INTO ledger.period (entity, month, state, changed_by) VALUES ('acme', '2026-10-01', 'closed', 'me')",
        "DELETE FROM ledger.period",
        "DELETE FROM ledger.account",
        "UPDATE ledger.account SET type = 'income'",
        "UPDATE ledger.account SET code = '1001'",
        "UPDATE staging.sale SET total_minor = 1",
        "TRUNCATE staging.sale",
        "TRUNCATE ops.gate",
        "TRUNCATE ops.fate",
        "ALTER TABLE ledger.entry DISABLE TRIGGER ALL",
        "ALTER TABLE ledger.line DISABLE TRIGGER lines_balance",
        "DROP TRIGGER lines_balance ON ledger.line",
        "DROP TABLE ledger.line",
        "CREATE OR REPLACE FUNCTION ledger.check_lines() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        "CREATE RULE quiet AS ON INSERT TO ledger.line DO INSTEAD NOTHING",
        "CREATE FUNCTION ledger.sum(bigint) RETURNS bigint LANGUAGE sql AS 'SELECT 0::bigint'",
        "CREATE FUNCTION public.sum(bigint) RETURNS bigint LANGUAGE sql AS 'SELECT 0::bigint'",
        "CREATE SCHEMA mine",
        "GRANT UPDATE ON ledger.line TO ledger_pipeline_writer",
    ],
)
def test_the_writer_changes_neither_the_chart_nor_the_seal(books: Database, statement: str) -> None:
    if statement.startswith("GRANT"):  # PostgreSQL warns and grants nothing
        with books.connect("writer") as connection:
            connection.execute(statement)
            assert connection.execute("SELECT has_table_privilege('ledger.line', 'UPDATE')").fetchone() == (False,)
        return
    with refused(books, errors.InsufficientPrivilege), books.connect("writer") as connection:
        connection.execute(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO ledger.account VALUES ('acme', '1', 'x', 'asset')",
        "INSERT INTO ledger.period (entity, month, state, changed_by) VALUES ('acme', '2026-10-01', 'closed', 'me')",
        "UPDATE ledger.account SET name = 'x'",
        "DELETE FROM ops.gate",
        "INSERT INTO raw.seen VALUES (1, 1)",
        "DELETE FROM staging.document",
        "SELECT nextval('ledger.entry_id_seq')",
    ],
)
def test_the_reader_writes_nothing(books: Database, statement: str) -> None:
    with refused(books, errors.InsufficientPrivilege), books.connect("reader") as connection:
        connection.execute(statement)


# attempts to get round it --------------------------------------------------------------------------------


def test_switching_triggers_off_for_the_session_is_refused(books: Database) -> None:
    with refused(books, errors.InsufficientPrivilege), books.connect() as connection:
        connection.execute("SET session_replication_role = replica")


def test_an_upsert_is_no_way_to_change_a_line(books: Database) -> None:
    with books.connect() as connection:
        add_sound(connection)
    with refused(books, errors.InsufficientPrivilege), books.connect() as connection:
        connection.execute(
            "INSERT INTO ledger.line SELECT * FROM ledger.line ON CONFLICT (entry_id, line_no) DO UPDATE SET amount_minor = 0"
        )


def test_an_entry_cannot_claim_a_later_transaction_to_keep_its_lines_open(books: Database) -> None:
    with refused(books, errors.CheckViolation, "entry 1 names another transaction"), books.connect() as connection:
        row = connection.execute("SELECT (pg_current_xact_id()::text::bigint + 1)::text::xid8").fetchone()
        assert row is not None
        add_entry(connection, transaction_id=row[0])


def test_temporary_tables_and_a_search_path_do_not_shadow_what_the_triggers_read(books: Database) -> None:
    with refused(books, errors.CheckViolation, "unbalanced by 1 USD"), books.connect() as connection:
        connection.execute("CREATE TEMP TABLE new_lines (LIKE ledger.line)")
        connection.execute("CREATE TEMP TABLE entry (LIKE ledger.entry)")
        connection.execute("SET search_path = pg_temp, ledger, pg_catalog")
        add_entry(connection)
        add_lines(connection, [("1000", "USD", 6, 5), ("4000", "USD", -5, -5)])


def test_all_in_one_statement_is_checked_like_any_other(books: Database) -> None:
    with refused(books, errors.CheckViolation), books.connect() as connection:
        connection.execute(
            "WITH e AS (INSERT INTO ledger.entry (entry_id, batch_id, entity, connection, stream, origin_id, record, source_id, "
            "rule, version, kind, occurred_on, posted_on, raw_id, content_hash, mapping_version, rule_version, line_count, "
            "fingerprint, version_at) "
            "SELECT 1, 1, 'acme', 'shop', 'orders', 's', 'sale', 's', 'sale', 1, 'original', d, d, 1, h, 'm', 1, 2, h, now() FROM (SELECT %(day)s::date AS d, %(hash)s::bytea AS h) x RETURNING 1), "
            "l AS (INSERT INTO ledger.line VALUES (1, 1, 'acme', %(day)s, '1000', 'r', 'USD', 5, 5), "
            "(1, 2, 'acme', %(day)s, '4000', 'r', 'USD', -4, -4) RETURNING 1) SELECT * FROM e, l",
            {"day": DAY, "hash": HASH},
        )


def test_copy_is_checked_like_an_insert(books: Database) -> None:
    with refused(books, errors.CheckViolation, "unbalanced"), books.connect() as connection:
        add_entry(connection)
        with connection.cursor().copy("COPY ledger.line FROM STDIN") as copy:
            copy.write_row((1, 1, "acme", DAY, "1000", "r", "USD", 5, 5))
            copy.write_row((1, 2, "acme", DAY, "4000", "r", "USD", -4, -5))


@pytest.mark.parametrize("isolation", [psycopg.IsolationLevel.READ_COMMITTED, psycopg.IsolationLevel.REPEATABLE_READ])
def test_an_entry_cannot_slip_into_a_batch_that_another_transaction_is_sealing(
    books: Database, isolation: psycopg.IsolationLevel
) -> None:
    """Two transactions at once: neither sees the other's rows, and only the foreign key is looked at when they commit."""
    found: list[Exception | None] = []
    inserted, sealed = threading.Event(), threading.Event()

    def slip_in() -> None:
        try:
            with psycopg.connect(books.url) as connection:
                connection.isolation_level = isolation
                connection.execute("SET ROLE ledger_pipeline_writer")
                add_entry(connection, 2, batch_id=1, line_count=9)
                inserted.set()
                sealed.wait(10)
        except psycopg.Error as error:
            found.append(error)
        else:
            found.append(None)

    other = threading.Thread(target=slip_in)
    with books.connect() as connection:
        add_entry(connection)
        other.start()
        inserted.wait(1)
        add_lines(connection, SOUND)
        add_batch(connection)
    sealed.set()
    other.join(10)
    assert isinstance(found[0], errors.CheckViolation | errors.ForeignKeyViolation), found
    assert count(books) == (1, 2, 1)


# corrections ---------------------------------------------------------------------------------------------


def add_correction(
    connection: Connection,
    lines: list[Line],
    *,
    kind: str = "reversal",
    corrects: int = 1,
    number: int = 2,
    **more: Any,
) -> None:
    """An entry of the same record as entry 1, in its own batch."""
    values = {
        "source_id": "s1",
        "origin_id": "s1",
        "version": 2 if kind == "replacement" else 1,
        "line_count": len(lines),
    }
    add_entry(connection, number, number, kind=kind, corrects_entry_id=corrects, **values | more)
    add_lines(connection, lines, number, entity=more.get("entity", "acme"))
    add_batch(connection, number, lines=len(lines), entity=more.get("entity", "acme"))


MIRROR: list[Line] = [("1000", "USD", -500, -500), ("4000", "USD", 500, 500)]


def test_a_reversal_mirrors_its_entry_and_a_replacement_follows(books: Database) -> None:
    with books.connect() as connection:
        add_sound(connection)
    with books.connect() as connection:
        add_correction(connection, MIRROR)
        add_correction(connection, [("1000", "USD", 7, 7), ("4000", "USD", -7, -7)], kind="replacement", number=3)
    assert count(books) == (3, 6, 3)


BAD_MIRRORS: dict[str, list[Line]] = {
    "the same signs": SOUND,
    "other amounts": [("1000", "USD", -400, -400), ("4000", "USD", 400, 400)],
    "other base amounts": [("1000", "USD", -500, -499), ("4000", "USD", 500, 499)],
    "another currency": [("1000", "EUR", -500, -500), ("4000", "EUR", 500, 500)],
    "swapped accounts": [("4000", "USD", -500, -500), ("1000", "USD", 500, 500)],
    "another order": [("4000", "USD", 500, 500), ("1000", "USD", -500, -500)],
    "two lines more": [*MIRROR, ("1000", "USD", 1, 1), ("4000", "USD", -1, -1)],
}


@pytest.mark.parametrize("lines", BAD_MIRRORS.values(), ids=BAD_MIRRORS)
@pytest.mark.parametrize("role", ROLES)
def test_a_reversal_that_does_not_mirror_its_entry_is_refused(
    books: Database, lines: list[Line], role: Literal["writer", "owner"]
) -> None:
    with books.connect() as connection:
        add_sound(connection)
    with (
        refused(books, errors.CheckViolation, "entry 2 is no reversal of entry 1: their lines don't mirror each other"),
        books.connect(role) as connection,
    ):
        add_correction(connection, lines)


def test_a_reversal_of_a_part_is_refused(books: Database) -> None:
    with books.connect() as connection:
        add_entry(connection, line_count=4)
        add_lines(connection, [*SOUND, ("1000", "USD", 3, 3), ("4000", "USD", -3, -3)])
        add_batch(connection, lines=4)
    with refused(books, errors.CheckViolation, "don't mirror each other"), books.connect() as connection:
        add_correction(connection, MIRROR)


@pytest.mark.parametrize(
    "more",
    [
        {"source_id": "s7"},
        {"record": "refund"},
        {"rule": "other"},
        {"entity": "other"},
        {"corrects": 77},
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["reversal", "replacement"])
def test_a_correction_is_of_an_earlier_entry_of_the_same_record(
    books: Database, more: dict[str, Any], kind: str
) -> None:
    with books.connect() as connection:
        add_sound(connection)
    text = f"entry 2 corrects entry {more.get('corrects', 1)}, which is no earlier entry of the same record"
    with refused(books, errors.CheckViolation, text), books.connect() as connection:
        add_correction(connection, MIRROR, kind=kind, **more)


@pytest.mark.parametrize("kind", ["reversal", "replacement"])
def test_a_reversal_is_not_corrected(books: Database, kind: str) -> None:
    with books.connect() as connection:
        add_sound(connection)
    with books.connect() as connection:
        add_correction(connection, MIRROR)
    with (
        refused(books, errors.CheckViolation, "entry 3 corrects entry 2, which is no earlier entry"),
        books.connect() as connection,
    ):
        add_correction(connection, SOUND, kind=kind, corrects=2, number=3, version=3)


# periods -------------------------------------------------------------------------------------------------


def add_event(connection: Connection, no: int, event: str, month: date = date(2026, 10, 1), **more: Any) -> None:
    closed = {"entry_count": 0, "line_count": 0, "content_hash": HASH} if event == "closed" else {}
    values = {"entity": "acme", "event_no": no, "month": month, "event": event, "happened_at": AT, "by_whom": "me", "reason": "why",
              "previous_hash": bytes([no]) * 32, "hash": HASH} | closed | more  # fmt: skip
    marks = ", ".join(["%s"] * len(values))
    connection.execute(
        f"INSERT INTO ledger.period_event ({', '.join(values)}) VALUES ({marks})", tuple(values.values())
    )


def shut(database: Database, *events: str, first: int = 1) -> None:
    """Events of October, each in its own transaction."""
    for no, event in enumerate(events, first):
        with database.connect() as connection:
            add_event(connection, no, event)


def period_of(database: Database) -> list[tuple[Any, ...]]:
    with database.connect("reader") as connection:
        return connection.execute("SELECT month, state, changed_at, changed_by FROM ledger.period").fetchall()


def test_an_event_makes_the_period_what_it_says(books: Database) -> None:
    seen = []
    for no, event in enumerate(("closing", "closed", "reopened", "closing", "reopened"), 1):
        shut(books, event, first=no)
        seen += period_of(books)
    assert [row[1] for row in seen] == ["closing", "closed", "open", "closing", "open"]
    assert {(row[0], row[2], row[3]) for row in seen} == {(date(2026, 10, 1), AT, "me")}


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    ("before", "event", "said"),
    [
        ((), "closed", "open: it can't become closed"),
        ((), "reopened", "open: it can't become open"),
        (("closing",), "closing", "closing: it can't become closing"),
        (("closing", "closed"), "closing", "closed: it can't become closing"),
        (("closing", "closed"), "closed", "closed: it can't become closed"),
        (("closing", "closed", "reopened"), "closed", "open: it can't become closed"),
    ],
)
def test_a_period_changes_in_order_only(
    books: Database, role: Literal["writer", "owner"], before: tuple[str, ...], event: str, said: str
) -> None:
    shut(books, *before)
    held = period_of(books)
    with (
        pytest.raises(errors.CheckViolation, match=f"period 2026-10 of acme is {said}"),
        books.connect(role) as connection,
    ):
        add_event(connection, 9, event)
    assert period_of(books) == held


@pytest.mark.parametrize(
    "more",
    [
        {"by_whom": ""}, {"event": "reopened", "reason": ""}, {"content_hash": None}, {"entry_count": None}, {"line_count": None},
        {"event": "closing"}, {"event": "forgotten"}, {"month": date(2026, 10, 2)}, {"no": 0}, {"content_hash": b"short"},
        {"hash": b"short"},
    ],
    ids=str,
)  # fmt: skip
def test_an_event_that_contradicts_itself_is_refused(books: Database, more: dict[str, Any]) -> None:
    shut(books, "closing")
    held = period_of(books)
    with pytest.raises(errors.CheckViolation), books.connect() as connection:
        add_event(connection, **{"no": 2, "event": "closed"} | more)
    assert period_of(books) == held


def test_events_form_one_chain(books: Database) -> None:
    shut(books, "closing")
    with pytest.raises(errors.UniqueViolation), books.connect() as connection:
        add_event(connection, 2, "closed", previous_hash=bytes([1]) * 32)
    with pytest.raises(errors.UniqueViolation), books.connect() as connection:
        add_event(connection, 1, "closed", previous_hash=bytes([9]) * 32)


@pytest.mark.parametrize(
    ("isolation", "said"),
    [
        (psycopg.IsolationLevel.READ_COMMITTED, "that period of acme is closed"),
        (psycopg.IsolationLevel.REPEATABLE_READ, "in a READ COMMITTED transaction only"),
        (psycopg.IsolationLevel.SERIALIZABLE, "in a READ COMMITTED transaction only"),
    ],
)
def test_an_entry_cannot_slip_into_a_month_that_was_closed_meanwhile(
    books: Database, isolation: psycopg.IsolationLevel, said: str
) -> None:
    """Its transaction began, and wrote all but its batch, while the month was open."""
    with psycopg.connect(books.url) as connection:
        connection.isolation_level = isolation
        connection.execute("SET ROLE ledger_pipeline_writer")
        add_entry(connection)
        add_lines(connection, SOUND)
        shut(books, "closing", "closed")
        with pytest.raises(errors.CheckViolation, match=said):
            add_batch(connection)


def test_a_period_closes_only_after_the_postings_that_have_begun(books: Database) -> None:
    shut(books, "closing")
    seen: list[tuple[int, ...]] = []
    begun = threading.Event()

    def close() -> None:
        with books.connect() as connection:
            begun.set()
            connection.execute("SELECT ledger.lock_periods('acme', true)")
            row = connection.execute("SELECT count(*) FROM ledger.line WHERE posted_on >= '2026-10-01'").fetchone()
            assert row is not None
            add_event(connection, 2, "closed", line_count=row[0])
            seen.append(row)

    closer = threading.Thread(target=close)
    with books.connect() as connection:
        add_sound(connection)
        closer.start()
        assert begun.wait(10)
        wait_for_a_lock(books)
        assert seen == []
    closer.join(10)
    assert seen == [(2,)]


def wait_for_a_lock(database: Database) -> None:
    """Until some session waits for an advisory lock."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with database.connect("reader") as connection:
            row = connection.execute(
                "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database "
                "WHERE locktype = 'advisory' AND NOT granted AND datname = current_database()"
            ).fetchone()
        if row and row[0]:
            return
        time.sleep(0.01)
    pytest.fail("nobody waits")
