"""Connections to the one database of the books, each in the role that its work needs."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import conninfo, sql

Role = Literal["owner", "writer", "reader"]

_SETTINGS = """
    SET TIME ZONE 'UTC';
    SELECT set_config('work_mem', '32MB', false) WHERE pg_size_bytes(current_setting('work_mem')) < pg_size_bytes('32MB')
"""
"""Of every session. PostgreSQL's own 4 MB make it sort and group a day of some ten thousand records on disk."""
Connection = psycopg.Connection[Any]


@dataclass(frozen=True, slots=True)
class Database:
    """A PostgreSQL database by URL (`postgresql://…`, no driver in it); the password never shows in its repr."""

    url: str

    def __repr__(self) -> str:
        return f"Database({without_password(self.url)})"

    @contextmanager
    def connect(self, role: Role = "writer", *, autocommit: bool = False) -> Iterator[Connection]:
        """One transaction (unless `autocommit`), committed at the end, rolled back on an exception.

        The session takes the role's rights and no more: the writer can't change the ledger, the reader can't write at all.
        """
        with (
            told_without_rows(),
            _session(self.url, connect_timeout=10, application_name="ledger-pipeline", autocommit=True) as connection,
        ):
            connection.execute(_SETTINGS)
            if role != "owner":
                connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(f"ledger_pipeline_{role}")))
            if autocommit:
                yield connection
            else:
                with connection.transaction():
                    yield connection

    def with_name(self, name: str) -> Database:
        """The same server, another database."""
        parts = urlsplit(self.url)
        return Database(urlunsplit(parts._replace(path=f"/{name}")))

    def sqlalchemy_url(self, driver: str = "psycopg2") -> str:
        """For libraries on SQLAlchemy; the driver is always said, because its default changed between versions."""
        return self.url.replace("postgresql://", f"postgresql+{driver}://", 1)

    def ensure_exists(self) -> None:
        """Create the database when the server doesn't have it; two processes may do so at once."""
        name = urlsplit(self.url).path.lstrip("/")
        with _session(self.with_name("postgres").url, autocommit=True, connect_timeout=10) as connection:
            if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone():
                return
            try:
                connection.execute(
                    sql.SQL("CREATE DATABASE {} ENCODING 'UTF8' TEMPLATE template0").format(sql.Identifier(name))
                )
            except (psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
                return


def without_password(url: str) -> str:
    """The URL as it may be shown; of a text that is none, or that is cut off in its password, its kind only."""
    try:
        parts = urlsplit(url)
        if parts.scheme not in ("postgresql", "postgres") or (parts.username is None and "@" in url):
            return "***"
        if parts.password is None:
            return url if "password=" not in parts.query else urlunsplit(parts._replace(query="***"))
    except ValueError:
        return "***"
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{parts.username}:***@{host}"))


def _session(url: str, **options: Any) -> Connection:
    """A session; what is no URL is an error that doesn't show it, since its password stands in it."""
    try:
        conninfo.conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        raise psycopg.OperationalError(
            "database_url is no PostgreSQL URL (postgresql://user:password@host:port/name); special characters of a "
            "password are written as %XX"
        ) from None
    return psycopg.connect(url, **options)


@contextmanager
def told_without_rows() -> Iterator[None]:
    """PostgreSQL's errors without what they quote of rows: no DETAIL, HINT or CONTEXT, and no value in the message of a data error."""
    try:
        yield
    except psycopg.Error as error:
        primary = error.diag.message_primary
        if primary is not None:
            if (error.sqlstate or "").startswith("22"):
                primary = _QUOTED.sub('"***"', primary)
            error.args = (primary,)
        raise


_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"?')


def lock(connection: Connection, *names: str) -> None:
    """Wait for the transaction-level lock of that name; held until the transaction ends."""
    connection.execute("SELECT pg_advisory_xact_lock(%s)", (key_of(names),))


def key_of(names: tuple[str, ...]) -> int:
    """The advisory lock's number of a name in parts."""
    return int.from_bytes(hashlib.sha256("\x1f".join(names).encode()).digest()[:8], "big", signed=True)


def next_values(connection: Connection, sequence: str, count: int) -> list[int]:
    """As many numbers of a sequence, in its order; not always without gaps."""
    row = connection.execute(
        "SELECT string_agg(n::text, ',') FROM (SELECT nextval(%s) AS n FROM generate_series(1, %s)) s",
        (sequence, count),
    ).fetchone()
    return list(map(int, row[0].split(","))) if row and row[0] else []
