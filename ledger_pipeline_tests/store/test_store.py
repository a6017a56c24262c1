"""Migrations, text in and out by COPY, landing, the newest version of a day, and the gate's refusals."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql

from ledger_pipeline.model.records import RECORDS, SQL
from ledger_pipeline.store import frames, gate, posting, raw, schema, staging
from ledger_pipeline.store.database import Connection, Database, without_password
from ledger_pipeline.store.gate import Gate, GateClosed
from ledger_pipeline_tests.fakes import row, table

AT = datetime(2026, 10, 6, 5, tzinfo=UTC)
DAY = date(2026, 10, 5)


# migrations ---------------------------------------------------------------------------------------------------


def test_head_is_the_newest_migration() -> None:
    folder = Path(schema.__file__).parent / "migrations" / "versions"
    texts = [path.read_text() for path in folder.glob("v*.py")]
    revisions = {re.search(r'^revision = "(\w+)"', text, re.M).group(1) for text in texts}  # type: ignore[union-attr]
    parents = {found for text in texts for found in re.findall(r'^down_revision = "(\w+)"', text, re.M)}
    assert revisions - parents == {schema.HEAD}


def test_migrating_again_does_nothing(database: Database) -> None:
    assert schema.current(database) == schema.HEAD
    assert schema.migrate(database) is False


def test_a_database_that_was_never_migrated_has_no_revision(server: Database) -> None:
    database = server.with_name("never_migrated")
    database.ensure_exists()
    assert schema.current(database) is None


def test_two_processes_migrate_one_new_database(server: Database) -> None:
    database = server.with_name("raced")
    code = "import sys; from ledger_pipeline.store import schema; from ledger_pipeline.store.database import Database\n"
    code += "print(schema.migrate(Database(sys.argv[1])))"
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, database.url], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    ended = [process.communicate(timeout=60) for process in started]
    assert [process.returncode for process in started] == [0, 0], ended
    assert schema.current(database) == schema.HEAD


POSTGRES = {"text": "text", "bigint": "bigint", "boolean": "boolean", "numeric": "numeric", "date": "date"} | {
    "timestamptz": "timestamp with time zone"
}


@pytest.mark.parametrize("record", RECORDS)
def test_a_staging_table_has_the_columns_of_its_record(server: Database, template: str, record: str) -> None:
    with server.with_name(template).connect("reader") as connection:
        found = connection.execute(
            "SELECT column_name, data_type, is_nullable = 'YES' FROM information_schema.columns "
            "WHERE table_schema = 'staging' AND table_name = %s ORDER BY ordinal_position",
            (record,),
        ).fetchall()
    keys = [("connection", "text", False), ("sync_date", "date", False), ("raw_id", "bigint", False)]
    assert found == keys + [(f.name, POSTGRES[SQL[f.kind]], not f.is_required) for f in RECORDS[record].columns]


def test_the_documents_table_has_the_columns_that_are_staged(server: Database, template: str) -> None:
    with server.with_name(template).connect("reader") as connection:
        found = connection.execute(
            "SELECT column_name FROM information_schema.columns WHERE table_schema = 'staging' AND table_name = 'document' "
            "ORDER BY ordinal_position"
        ).fetchall()
    assert [name for (name,) in found] == ["connection", "sync_date", *staging.DOCUMENT.names]


def test_a_password_does_not_show(server: Database) -> None:
    database = Database("postgresql://me:hunter2@db.example:5432/ledger")
    assert repr(database) == "Database(postgresql://me:***@db.example:5432/ledger)"
    assert without_password("postgresql:///ledger") == "postgresql:///ledger"


# frames -------------------------------------------------------------------------------------------------------

TEXT = st.one_of(
    st.none(),
    st.sampled_from(
        [
            "",
            '"',
            '""',
            ",",
            "\n",
            "\r\n",
            "\r",
            "\\",
            "\\.",
            "\\N",
            "NULL",
            " ",
            "'",
            "a\nb",
            "€",
            "日本",
            "😀",
            "\u2028",
            "\x7f",
            "\x01",
        ]
    ),
    st.text(st.characters(exclude_characters="\x00", exclude_categories=("Cs",)), max_size=20),
)
MOMENT = st.integers(-(10**15), 4 * 10**15).map(
    lambda us: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)
)
SCHEMA = pa.schema(
    [
        ("n", pa.int64()), ("words", pa.string()), ("more", pa.string()), ("moment", pa.timestamp("us", "UTC")),
        ("day", pa.date32()), ("is_so", pa.bool_()), ("figure", pa.string()),
    ]
)  # fmt: skip
ROW = st.tuples(
    st.none() | st.integers(-(2**63), 2**63 - 1),
    TEXT,
    TEXT,
    st.none() | MOMENT,
    st.none() | st.dates(date(1, 1, 1), date(9999, 12, 31)),
    st.none() | st.booleans(),
    st.none() | st.decimals(-(10**20), 10**20, allow_nan=False, places=12).map(lambda d: format(d, "f")),
)


@pytest.fixture(scope="module")
def scratch(server: Database) -> Database:
    database = server.with_name("scratch")
    database.ensure_exists()
    with database.connect("owner") as connection:
        connection.execute(
            "CREATE TABLE t (n bigint, words text, more text, moment timestamptz, day date, is_so boolean, figure numeric, "
            "id bigint GENERATED ALWAYS AS IDENTITY)"
        )
    return database


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(ROW, max_size=8))
def test_rows_survive_the_way_into_the_database_and_back(scratch: Database, rows: list[tuple[Any, ...]]) -> None:
    data = pa.Table.from_pylist([dict(zip(SCHEMA.names, one, strict=True)) for one in rows], SCHEMA)
    with scratch.connect("owner") as connection:
        connection.execute("TRUNCATE t")
        frames.write(connection, "public", "t", data)
        digest = hashlib.sha256()
        back = frames.read(connection, sql.SQL("SELECT {} FROM t ORDER BY id").format(names(SCHEMA)), SCHEMA, digest)
        stored = connection.execute(
            "SELECT n, words, more, moment, day, is_so, figure::text FROM t ORDER BY id"
        ).fetchall()
    assert back.equals(data)
    assert stored == [tuple(one.values()) for one in data.to_pylist()]
    assert rows == [] or digest.digest() != hashlib.sha256().digest()


@pytest.mark.parametrize("piece", [3, 9])
def test_a_table_of_many_chunks_some_of_them_empty_arrives_whole_and_in_order(
    scratch: Database, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    monkeypatch.setattr(frames, "PIECE", piece)  # Arrow's CSV writer prints garbage for a table with empty chunks
    chunks = [pa.array(part, pa.string()) for part in ([], ["a", "", None, "b,"], [], ['"c"', "d\n"], ["e", "f", "g"])]
    data = pa.table({"n": pa.array(range(9), pa.int64()), "words": pa.chunked_array(chunks)})
    with scratch.connect("owner") as connection:
        connection.execute("TRUNCATE t")
        frames.write(connection, "public", "t", data)
        stored = connection.execute("SELECT n, words FROM t ORDER BY id").fetchall()
    assert stored == list(enumerate(["a", "", None, "b,", '"c"', "d\n", "e", "f", "g"]))


def names(of: pa.Schema) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, of.names))


HASH = st.none() | st.binary(min_size=4, max_size=4)


@given(st.lists(HASH), st.lists(HASH), st.integers(0, 3))
def test_bytes_become_hex(one: list[bytes | None], more: list[bytes | None], skipped: int) -> None:
    expected = [None if found is None else found.hex() for found in (one + more)[skipped:]]
    for kind in (pa.binary(4), pa.binary()):
        column = pa.chunked_array([pa.array(one, kind), pa.array(more, kind)]).slice(skipped)
        assert frames.hex_of(column).to_pylist() == expected


@given(st.lists(st.tuples(st.integers(-9, 9), TEXT, st.none() | MOMENT, HASH), max_size=6))
def test_the_text_that_the_chain_covers_is_rows_of_units(rows: list[tuple[Any, ...]]) -> None:
    kinds = (pa.int64(), pa.string(), pa.timestamp("us", "UTC"), pa.binary(4))
    columns = [pa.array([row[n] for row in rows], kind) for n, kind in enumerate(kinds)]
    table = pa.table([pa.chunked_array([column[:2], column[2:]]) for column in columns], names=list("abcd"))

    def plain(value: Any) -> str:
        if value is None:
            return ""
        if isinstance(value, datetime):
            return str((value - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1))
        return value.hex() if isinstance(value, bytes) else str(value)

    assert posting.text_of(table) == "\n".join("\x1f".join(map(plain, row)) for row in rows).encode()


def test_bytes_are_written_as_they_are(database: Database) -> None:
    content = bytes(range(256))
    data = pa.table(
        {
            "content_hash": pa.array([hashlib.sha256(content).digest()], pa.binary(32)),
            "connection": ["c"],
            "name": ["n"],
            "fetched_at": pa.array([AT], pa.timestamp("us", "UTC")),
            "run_id": ["r"],
            "content": pa.array([content], pa.binary()),
        }
    )
    with database.connect() as connection:
        frames.write(connection, "raw", "file", data)
        assert connection.execute("SELECT content, content_hash = sha256(content) FROM raw.file").fetchone() == (
            content,
            True,
        )


def test_a_fingerprint_tells_empty_text_from_none(database: Database) -> None:
    found = []
    for day, title in ((DAY, ""), (DAY + timedelta(days=1), None), (DAY + timedelta(days=2), "")):
        with database.connect() as connection:
            staging.write(
                connection, "shop", day, "sale_line", table("sale_line", row("sale_line", net_minor=1, title=title))
            )
            tables, _, fingerprint = staging.load(connection, "shop", day, ["sale_line"])
        found.append((tables["sale_line"]["title"].to_pylist(), fingerprint))
    assert [title for title, _ in found] == [[""], [None], [""]]
    assert found[0][1] == found[2][1] != found[1][1]


def test_a_staged_day_is_cleared_alone(database: Database) -> None:
    days = [("shop", DAY), ("shop", DAY + timedelta(days=1)), ("other", DAY)]
    with database.connect() as connection:
        for name, day in days:
            staging.write(connection, name, day, "party", table("party", row("party")))
        staging.clear(connection, "shop", DAY)
        found = connection.execute("SELECT connection, sync_date FROM staging.party").fetchall()
    assert sorted(found) == sorted(days[1:])


# landing ------------------------------------------------------------------------------------------------------


def land(
    database: Database, *items: tuple[str, str] | raw.Item, day: date = DAY, at: datetime = AT, ends: bool = True
) -> raw.Pull:
    pull = raw.Pull("shop", "orders", day, "r", at)
    raw.begin(database, pull)
    raw.land(database, pull, [i if isinstance(i, raw.Item) else raw.Item(i[0], i[1].encode()) for i in items])
    if ends:
        raw.finish(database, pull, at)
    return pull


def documents(database: Database, day: date = DAY, chunk: int = 20_000) -> list[tuple[str, str]]:
    with database.connect("reader") as connection:
        return [
            (d.source_id, d.payload.decode())
            for part in raw.documents(connection, "shop", "orders", day, day, chunk)
            for d in part
        ]


def test_the_same_content_lands_once(database: Database) -> None:
    first = land(database, ("a", '{"n": 1}'), ("a", '{"n": 1}'), ("b", '{"n": 1}'))
    second = land(database, ("a", '{"n": 1}'), ("b", '{"n": 2}'), day=DAY + timedelta(days=1))
    assert (first.records, first.landed) == (2, 2)
    assert (second.records, second.landed) == (2, 1)
    with database.connect("reader") as connection:
        assert connection.execute(
            "SELECT count(*), count(*) FILTER (WHERE sync_date = %s) FROM raw.record", (DAY,)
        ).fetchone() == (3, 2)
    assert documents(database, DAY + timedelta(days=1)) == [("a", '{"n": 1}'), ("b", '{"n": 2}')]


def test_what_a_pull_lands_again_counts_once(database: Database) -> None:
    """A listing that is read once more brings its first records again, in another chunk."""
    pull = land(database, ("a", "1"), ("b", "1"), ends=False)
    raw.land(database, pull, [raw.Item("b", b"1"), raw.Item("b", b"2"), raw.Item("c", b"1")])
    assert (pull.records, pull.landed) == (4, 4)
    raw.finish(database, pull, AT)
    assert documents(database) == [("a", "1"), ("b", "2"), ("c", "1")]


def test_both_halves_of_a_stream_are_landed_at_once_and_each_by_one_alone(database: Database) -> None:
    ids = [f"o{n}" for n in range(20)]
    halves = [[raw.Item(one, b"1") for one in ids if raw.half_of(one) == half] for half in range(raw.HALVES)]
    assert all(halves)
    pull = raw.Pull("shop", "orders", DAY, "r", AT)
    raw.begin(database, pull)
    with database.connect() as connection:
        raw.land_on(connection, pull, halves[0])
        assert raw.land(database, pull, halves[1]) == len(halves[1])  # waits for nobody
        with pytest.raises(psycopg.errors.LockNotAvailable), database.connect() as other:
            _land_at_once(
                other, pull, [raw.Item(halves[0][0].source_id, b"2")]
            )  # no equal content, so only the half is locked
    assert (pull.records, pull.landed) == (len(ids), len(ids))


def _land_at_once(connection: Connection, pull: raw.Pull, items: list[raw.Item]) -> None:
    connection.execute("SET LOCAL lock_timeout = '50ms'")
    raw.land_on(connection, pull, items)


def test_payloads_stay_exactly_as_they_were_sent(database: Database) -> None:
    text = '{ "b":1.10, "a" : "\\u0000\\u20ac €\\n",\n"a": [1e2, ""] }'
    land(database, ("a", text))
    assert documents(database) == [("a", text)]
    with database.connect("reader") as connection:
        found = connection.execute("SELECT content_hash FROM raw.record").fetchone()
    assert found == (hashlib.sha256(text.encode()).digest(),)


def test_a_content_that_comes_back_is_staged_again(database: Database) -> None:
    for n, text in enumerate(("1", "2", "1")):
        land(database, ("a", text), day=DAY, at=AT + timedelta(hours=n))
    assert documents(database) == [("a", "1")]


def test_the_sources_own_time_of_change_decides_what_is_newest(database: Database) -> None:
    land(database, raw.Item("a", b'"new"', AT), at=AT)
    land(database, raw.Item("a", b'"old"', AT - timedelta(hours=1)), at=AT + timedelta(hours=5))
    assert documents(database) == [("a", '"new"')]


def test_a_pull_that_never_ended_stages_nothing(database: Database) -> None:
    land(database, ("a", "1"), ends=False)
    assert documents(database) == []
    land(database, ("a", "1"))
    assert documents(database) == [("a", "1")]


def test_a_day_stages_what_its_own_pulls_saw(database: Database) -> None:
    land(database, ("a", "1"), ("b", "1"))
    land(database, ("b", "2"), day=DAY + timedelta(days=1))
    assert documents(database) == [("a", "1"), ("b", "1")]
    assert documents(database, DAY + timedelta(days=1)) == [("b", "2")]


@pytest.mark.parametrize("chunk", [1, 2, 3, 100])
def test_documents_come_whole_in_chunks_of_any_size(database: Database, chunk: int) -> None:
    land(database, *((f"s{n}", str(n)) for n in range(5)))
    assert documents(database, chunk=chunk) == [(f"s{n}", str(n)) for n in range(5)]


def test_landing_at_once_lands_once(database: Database) -> None:
    items = [(f"s{n}", str(n)) for n in range(20)]
    with ThreadPoolExecutor(8) as pool:
        pulls = list(pool.map(lambda _: land(database, *items), range(8)))
    assert sum(pull.landed for pull in pulls) == 20
    with database.connect("reader") as connection:
        assert connection.execute("SELECT count(*) FROM raw.record").fetchone() == (20,)


def test_the_cursor_is_that_of_the_last_pull_that_left_one(database: Database) -> None:
    assert raw.last_cursor(database, "shop", "orders") is None
    for cursor in ("one", "two", None):
        pull = raw.Pull("shop", "orders", DAY, "r", AT, cursor_after=cursor)
        raw.begin(database, pull)
        raw.finish(database, pull, AT)
    assert raw.last_cursor(database, "shop", "orders") == "two"
    assert raw.last_cursor(database, "shop", "people") is None


def test_a_file_is_kept_once(database: Database) -> None:
    digests = {raw.keep_file(database, "bank", name, b"\x00\xff", "r", AT) for name in ("a.txt", "b.txt")}
    assert digests == {hashlib.sha256(b"\x00\xff").hexdigest()}
    with database.connect("reader") as connection:
        assert connection.execute("SELECT name, content FROM raw.file").fetchall() == [("a.txt", b"\x00\xff")]


# the gate -----------------------------------------------------------------------------------------------------

PRINT = b"p" * 32


@pytest.mark.parametrize(
    ("given_gate", "said"),
    [
        (None, "shop 2026-10-05: its staged data were never checked"),
        (
            Gate(False, PRINT, {"closed_by": ["sale: bad", "volume"]}),
            "shop 2026-10-05: the gate is closed: sale: bad; volume",
        ),
        (Gate(False, PRINT, {}), "shop 2026-10-05: the gate is closed: a check failed"),
        (
            Gate(True, b"q" * 32, {}),
            "shop 2026-10-05: the staged data differ from what was checked; check them again",
        ),
    ],
)
def test_the_gate_refuses(database: Database, given_gate: Gate | None, said: str) -> None:
    with database.connect() as connection:
        if given_gate is not None:
            gate.write(connection, "shop", DAY, given_gate, suite="s", run_id="r", at=AT)
        with pytest.raises(GateClosed) as error:
            gate.require(connection, "shop", DAY, PRINT)
    assert str(error.value) == said


def test_an_open_gate_over_the_same_bytes_lets_pass(database: Database) -> None:
    made = Gate(True, PRINT, {"documents": 3})
    with database.connect() as connection:
        gate.write(connection, "shop", DAY, Gate(False, b"x" * 32, {}), suite="s", run_id="r", at=AT)
        gate.write(connection, "shop", DAY, made, suite="s", run_id="r", at=AT)
        assert gate.require(connection, "shop", DAY, PRINT) == made
        assert gate.read(connection, "other", DAY) is None


def test_a_second_refusal_of_a_stage_replaces_the_first(database: Database) -> None:
    def refuse(stage: str, *reasons: str) -> None:
        with database.connect() as connection:
            refusals = [staging.Refusal(1, "orders", "s", "sale", f"$.{reason}", reason) for reason in reasons]
            staging.refuse(connection, "shop", DAY, stage, refusals, run_id="r", at=AT)

    refuse("staging", "kept")
    refuse("check", "old", "older")
    refuse("check", "new")
    with database.connect("reader") as connection:
        found = connection.execute("SELECT stage, reason FROM ops.quarantine ORDER BY 1 DESC").fetchall()
        first = staging.refused_ids(connection, "shop", DAY, ("staging", "check"))
    assert found == [("staging", "kept"), ("check", "new")]
    assert first == {1: "$.kept: kept"}
