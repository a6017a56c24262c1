"""An upgrade keeps what the version before has posted: books made at the first revision verify, and go on, at the newest one."""

from __future__ import annotations

import subprocess
import sys
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


def test_two_processes_upgrade_old_books_at_once(server: Database) -> None:
    old = server.with_name("upgraded_twice")
    at_revision(old, "0001")
    code = "import sys; from ledger_pipeline.store import schema; from ledger_pipeline.store.database import Database\n"
    code += "print(schema.migrate(Database(sys.argv[1])))"
    line = [sys.executable, "-c", code, old.url]
    started = [subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    ended = [process.communicate(timeout=60) for process in started]
    assert [process.returncode for process in started] == [0, 0], ended
    assert schema.current(old) == schema.HEAD


def test_code_that_is_older_than_the_schema_refuses_and_says_what_to_do(database: Database, tmp_path: Path) -> None:
    with database.connect("owner") as connection:
        connection.execute("UPDATE ops.alembic_version SET version_num = '9999'")
    with pytest.raises(schema.SchemaIsNewer, match=f"has schema 9999, .* knows {schema.HEAD} as the newest"):
        schema.migrate(database)
    (tmp_path / "ledger.yaml").write_text(
        f"database_url: {database.url}\nentities:\n  a: {{name: A, base_currency: USD, time_zone: UTC}}\nconnections: {{}}\n"
    )
    line = [str(Path(sys.executable).parent / "ledger-pipeline"), "verify"]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith("error: the database has schema 9999")
    assert schema.current(database) == "9999"
