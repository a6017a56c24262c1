"""What PostgreSQL can take: a bare COPY of the bytes and rows that a day has left behind, into tables without an index."""

from __future__ import annotations

import time

from psycopg import sql

from ledger_pipeline.model.records import RECORDS
from ledger_pipeline.store.database import Connection, Database
from ledger_pipeline_tests.bench.machine import Machine

PIECE = 1 << 20


def contents_of(database: Database) -> dict[str, tuple[str, bytes]]:
    """By bare table: how it is made, and its rows as COPY text. Payload bytes only of raw, all columns of staged and posted rows."""
    found = {}
    with database.connect("owner") as connection:
        found["payload"] = "(payload text)", _copied(connection, "SELECT payload::text FROM raw.record")
        for name in ("document", *RECORDS):
            if rows := _copied(connection, f"SELECT * FROM staging.{name}"):
                found[f"staged_{name}"] = f"(LIKE staging.{name})", rows
        for name in ("entry", "line"):
            found[f"posted_{name}"] = f"(LIKE ledger.{name})", _copied(connection, f"SELECT * FROM ledger.{name}")
    return found


def _copied(connection: Connection, query: str) -> bytes:
    with connection.cursor() as cursor, cursor.copy(f"COPY ({query}) TO STDOUT") as copy:  # type: ignore[call-overload]
        return b"".join(bytes(piece) for piece in copy)


def seconds(machine: Machine, contents: dict[str, tuple[str, bytes]]) -> float:
    """One transaction from the first COPY to the end of COMMIT; the bytes stand ready in memory."""
    database = machine.database()
    try:
        with database.connect("owner", autocommit=True) as connection:
            connection.execute("CREATE SCHEMA bare")
            for name, (columns, _) in contents.items():
                connection.execute(f"CREATE TABLE bare.{name} {columns}")  # type: ignore[call-overload]
        machine.execute("CHECKPOINT")
        with database.connect("owner", autocommit=True) as connection:
            began = time.perf_counter()
            with connection.transaction():
                for name, (_, rows) in contents.items():
                    _write(connection, name, rows)
            return time.perf_counter() - began
    finally:
        machine.drop(database)


def _write(connection: Connection, name: str, rows: bytes) -> None:
    view = memoryview(rows)
    statement = sql.SQL("COPY {} FROM STDIN").format(sql.Identifier("bare", name))
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for start in range(0, len(rows), PIECE):
            copy.write(view[start : start + PIECE])
