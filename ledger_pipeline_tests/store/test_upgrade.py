"""An upgrade keeps what the version before has posted: books made at the first revision verify, and go on, at the newest one."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, text

from ledger_pipeline.store import schema
from ledger_pipeline.store.database import Database
from ledger_pipeline.store.proof import verify
from ledger_pipeline_tests.fakes import FakeCompany, order


def at_revision(database: Database, revision: str) -> None:
    """A database as an older version of the code has left it."""
    database.ensure_exists()
    config = Config()
    config.set_main_option("script_location", str(Path(schema.__file__).parent / "migrations"))
    engine = create_engine(database.sqlalchemy_url("psycopg"))
    with engine.connect() as connection:
        connection.execute(text("CREATE SCHEMA IF NOT EXISTS ops"))
        connection.commit()
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        connection.commit()
    engine.dispose()


def copy_of_books(source: Database, target: Database) -> None:
    """What the first revision could hold, by its own columns."""
    tables = (
        "raw.record",
        "raw.pull",
        "raw.seen",
        "ledger.account",
        "ledger.entry",
        "ledger.line",
        "ledger.batch",
        "ops.fate",
    )
    with source.connect("reader") as reading, target.connect("owner") as writing:
        writing.execute("SET session_replication_role = replica")
        for table in tables:
            with (
                reading.cursor() as out,
                writing.cursor() as into,
                out.copy(f"COPY {table} TO STDOUT") as rows,
                into.copy(f"COPY {table} FROM STDIN") as sink,
            ):
                for row in rows:
                    sink.write(row)


def test_books_of_the_first_revision_verify_and_go_on(
    server: Database, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = FakeCompany(database, tmp_path, monkeypatch)
    before.run(order("o1", 1000, updated="2026-10-05T10:00:00Z"), order("o2", 300))
    old = server.with_name("first_revision")
    at_revision(old, "0001")
    copy_of_books(database, old)
    assert schema.current(old) == "0001"
    assert schema.migrate(old) is True
    assert schema.current(old) == schema.HEAD
    assert verify(old).findings == []
    with old.connect("owner") as connection:
        for sequence, table, column in (("ledger.entry_id_seq", "ledger.entry", "entry_id"), ("ledger.batch_id_seq", "ledger.batch", "batch_id"),
                                        ("raw.raw_id_seq", "raw.record", "raw_id"), ("raw.pull_id_seq", "raw.pull", "pull_id")):  # fmt: skip
            connection.execute(f"SELECT setval('{sequence}', (SELECT max({column}) FROM {table}))")
    after = FakeCompany(old, tmp_path, monkeypatch)
    after.run(order("o1", 1300, updated="2026-10-06T10:00:00Z"), order("o2", 300))
    assert after.balances() == {"order_clearing:till": 1600, "sales": -1600}
    assert verify(old).findings == []
