"""PostgreSQL's errors say what is wrong and not what stands in the row."""

from __future__ import annotations

import traceback

import psycopg
import pytest

from ledger_pipeline.store.database import Database, without_password

NAME = "Zebulon Quagmire"


def run(database: Database, statement: str) -> None:
    with database.connect("owner") as connection:
        connection.execute("CREATE TEMPORARY TABLE people (name text PRIMARY KEY CHECK (name NOT LIKE '%!'))")
        connection.execute(statement)


def copy_in(database: Database, text: str) -> None:
    with database.connect("owner") as connection:
        connection.execute("CREATE TEMPORARY TABLE people (name text, born date)")
        with connection.cursor().copy("COPY people FROM STDIN (FORMAT csv)") as copy:
            copy.write(text)


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("INSERT INTO people VALUES ('{0}'), ('{0}')", 'duplicate key value violates unique constraint "people_pkey"'),
        (
            "INSERT INTO people VALUES ('{0}!')",
            'new row for relation "people" violates check constraint "people_name_check"',
        ),
        ("SELECT '{0}'::bigint", 'invalid input syntax for type bigint: "***"'),
        ("SELECT '{{\"a\": {0}'::json", "invalid input syntax for type json"),
    ],
)
def test_an_error_quotes_no_row(database: Database, statement: str, said: str) -> None:
    with pytest.raises(psycopg.Error) as error:
        run(database, statement.format(NAME))
    assert str(error.value) == said
    assert "Zebulon" not in "".join(traceback.format_exception(error.value))


def test_a_copy_that_fails_quotes_no_line(database: Database) -> None:
    with pytest.raises(psycopg.Error) as error:
        copy_in(database, f"{NAME},{NAME}\n")
    assert str(error.value) == 'invalid input syntax for type date: "***"'


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://app:hunter2@db/books", "postgresql://app:***@db/books"),
        ("postgresql://app@db/books", "postgresql://app@db/books"),
        ("postgresql:///books?host=/run/pg", "postgresql:///books?host=/run/pg"),
        ("postgresql://db/books?user=app&password=hunter2", "postgresql://db/books?***"),
        ("postgresql://app:hunter2/x@db/books", "***"),
        ("host=db password=hunter2", "***"),
        ("postgresql://app:hun[ter2@db/books", "***"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert without_password(url) == shown
