"""Books that a test writes entry by entry, by hand, into the sealed tables."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from itertools import count
from typing import Any

import pytest

from ledger_pipeline.model.accounts import DEFAULT_CHART, Account, Chart
from ledger_pipeline.reports.statements import STATEMENTS, Scope, Statement
from ledger_pipeline.reports.statements.statement import Row
from ledger_pipeline.store.database import Connection, Database

MADE_AT = datetime(2026, 11, 23, 12, tzinfo=UTC)


class Books:
    """One entity, acme, whose base is USD. A line is (role, amount) in USD or (role, amount, currency, base), debit positive."""

    def __init__(self, database: Database, *own: Account) -> None:
        self.database = database
        self.chart = Chart([*DEFAULT_CHART, *own])
        self._number = count(1)
        with database.connect("writer") as connection:
            for account in self.chart.accounts.values():
                connection.execute(
                    "INSERT INTO ledger.account (entity, code, name, type) VALUES ('acme', %s, %s, %s)",
                    (account.code, account.name, account.type),
                )

    def post(
        self,
        source_id: str,
        day: date,
        *lines: tuple[Any, ...],
        record: str = "sale",
        kind: str = "original",
        corrects: int | None = None,
        connection: str = "shop",
    ) -> int:
        """One entry in a batch of its own; its id."""
        number = next(self._number)
        digest = hashlib.sha256(str(number).encode()).digest()
        whole = [line if len(line) == 4 else (*line, "USD", line[1]) for line in lines]
        with self.database.connect("writer") as c:
            row = c.execute(
                "INSERT INTO raw.record (connection, stream, source_id, content_hash, sync_date, fetched_at, run_id, payload) "
                "VALUES (%s, 'orders', %s, %s, %s, %s, 'r', '{}') RETURNING raw_id",
                (connection, source_id, digest, day, MADE_AT),
            ).fetchone()
            assert row is not None
            c.execute(
                "INSERT INTO ledger.entry (entry_id, batch_id, entity, connection, stream, origin_id, record, source_id, rule, version, kind, "
                "occurred_on, posted_on, raw_id, content_hash, mapping_version, rule_version, corrects_entry_id, line_count, fingerprint, "
                "version_at) VALUES (%(n)s, %(n)s, 'acme', %(c)s, 'orders', %(id)s, %(record)s, %(id)s, %(record)s, %(v)s, %(kind)s, %(day)s, "
                "%(day)s, %(raw)s, %(hash)s, 'm1', 1, %(corrects)s, %(lines)s, %(hash)s, %(at)s)",
                {"n": number, "c": connection, "id": source_id, "record": record, "v": 1 if kind != "replacement" else number,
                 "kind": kind, "day": day, "raw": row[0], "hash": digest, "corrects": corrects, "lines": len(whole), "at": MADE_AT},
            )  # fmt: skip
            values = [
                (number, at, day, self.chart.account_of(role), role, currency, amount, base)
                for at, (role, amount, currency, base) in enumerate(whole, 1)
            ]
            c.execute(
                "INSERT INTO ledger.line (entry_id, line_no, entity, posted_on, account, role, currency, amount_minor, base_minor) VALUES "
                + ", ".join(["(%s, %s, 'acme', %s, %s, %s, %s, %s, %s)"] * len(values)),
                [value for one in values for value in one],
            )
            c.execute(
                "INSERT INTO ledger.batch VALUES (%s, 'acme', %s, %s, %s, 'run-1', %s, 1, %s, %s, %s, %s)",
                (number, number, connection, day, MADE_AT, len(whole), digest, hashlib.sha256(digest).digest(), digest),
            )
        return number

    def reverse(self, entry: int, day: date) -> int:
        """The entry with the other sign."""
        with self.database.connect("reader") as c:
            head = c.execute(
                "SELECT source_id, record, connection FROM ledger.entry WHERE entry_id = %s", (entry,)
            ).fetchone()
            lines = c.execute(
                "SELECT role, -amount_minor, currency, -base_minor FROM ledger.line WHERE entry_id = %s ORDER BY line_no",
                (entry,),
            ).fetchall()
        assert head is not None
        return self.post(head[0], day, *lines, record=head[1], connection=head[2], kind="reversal", corrects=entry)

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """For statements that are streamed."""
        with self.database.connect("reader") as connection:
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            yield connection

    def make(self, name: str, first: str, last: str, *, fiscal_year_start: int = 1) -> tuple[Statement, list[Row]]:
        """A statement, and its rows."""
        scope = scope_of(first, last, fiscal_year_start)
        with self.snapshot() as connection:
            statement = STATEMENTS[name][1](connection, scope)
            return statement, list(statement.rows)


def scope_of(first: str, last: str, fiscal_year_start: int = 1) -> Scope:
    """Acme's, for a range."""
    days = date.fromisoformat(first), date.fromisoformat(last)
    return Scope("acme", "Acme Inc.", "USD", *days, MADE_AT, fiscal_year_start)


@pytest.fixture
def books(database: Database) -> Books:
    return Books(database)


def shown(rows: list[Row], *at: int) -> list[tuple[str, ...]]:
    """Cells of the columns `at` as text, headings left out."""
    return [
        tuple("" if row.cells[n] is None else str(row.cells[n]) for n in at) for row in rows if row.style != "heading"
    ]
