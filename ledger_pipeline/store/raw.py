"""Landing: payloads exactly as they were sent, each content once, with a record of who saw what when."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

import pyarrow as pa
from psycopg import sql

from ledger_pipeline.store import frames
from ledger_pipeline.store.database import Connection, Database, lock

PART_OF_DAY = "since"
"""Note of a pull that asked only for what changed from then on."""


@dataclass(frozen=True, slots=True)
class Item:
    """One source record: `payload` are the provider's bytes (JSON), `version_at` its own time of change, `units` its source rows."""

    source_id: str
    payload: bytes
    version_at: datetime | None = None
    units: int = 1


@dataclass(slots=True)
class Pull:
    """One pull of one stream for one sync date; becomes a row of raw.pull when it has ended."""

    connection: str
    stream: str
    sync_date: date
    run_id: str
    started_at: datetime
    window_start: datetime | None = None
    window_end: datetime | None = None
    cursor_before: str | None = None
    cursor_after: str | None = None
    pages: int = 0
    records: int = 0
    repeated: int = 0
    landed: int = 0
    expected: int | None = None
    calls: int = 0
    retries: int = 0
    notes: dict[str, Any] = field(default_factory=dict)
    pull_id: int | None = None


def begin(database: Database, pull: Pull) -> None:
    """Give the pull its id and note that it has begun."""
    with database.connect() as connection:
        row = connection.execute(
            "INSERT INTO raw.attempt (pull_id, connection, stream, sync_date, run_id, started_at) "
            "VALUES (nextval('raw.pull_id_seq'), %s, %s, %s, %s, %s) RETURNING pull_id",
            (pull.connection, pull.stream, pull.sync_date, pull.run_id, pull.started_at),
        ).fetchone()
        pull.pull_id = int(row[0]) if row else None


def land(database: Database, pull: Pull, items: Sequence[Item]) -> int:
    """Commit a chunk of items; returns how many of them were new content. The same content of a record lands once, ever."""
    unique = {(item.source_id, hashlib.sha256(item.payload).digest()): item for item in items}
    keys = list(unique)
    with database.connect() as connection:
        lock(connection, "land", pull.connection, pull.stream)
        known = _known(connection, pull, keys)
        new = [key for key in keys if key not in known]
        ids = _next_ids(connection, "raw.raw_id_seq", len(new))
        _write_records(connection, pull, [(raw_id, key, unique[key]) for raw_id, key in zip(ids, new, strict=True)])
        seen = [*known.values(), *ids]
        frames.write(connection, "raw", "seen", _seen(connection, pull, seen))
    pull.records += len(keys)
    pull.landed += len(new)
    return len(new)


def _seen(connection: Connection, pull: Pull, raw_ids: list[int]) -> pa.Table:
    already = {
        row[0]
        for row in connection.execute(
            "SELECT raw_id FROM raw.seen WHERE pull_id = %s AND raw_id = ANY(%s)", (pull.pull_id, raw_ids)
        )
    }
    fresh = [raw_id for raw_id in raw_ids if raw_id not in already]
    return pa.table(
        {"pull_id": pa.array([pull.pull_id] * len(fresh), pa.int64()), "raw_id": pa.array(fresh, pa.int64())}
    )


def _known(connection: Connection, pull: Pull, keys: list[tuple[str, bytes]]) -> dict[tuple[str, bytes], int]:
    rows = connection.execute(
        "SELECT r.source_id, r.content_hash, r.raw_id FROM raw.record r "
        "JOIN unnest(%s::text[], %s::bytea[]) AS k (source_id, content_hash) "
        "ON r.source_id = k.source_id AND r.content_hash = k.content_hash "
        "WHERE r.connection = %s AND r.stream = %s",
        ([k[0] for k in keys], [k[1] for k in keys], pull.connection, pull.stream),
    )
    return {(source_id, bytes(content_hash)): raw_id for source_id, content_hash, raw_id in rows}


def _next_ids(connection: Connection, sequence: str, count: int) -> list[int]:
    rows = connection.execute("SELECT nextval(%s) FROM generate_series(1, %s)", (sequence, count))
    return [int(row[0]) for row in rows]


def _write_records(connection: Connection, pull: Pull, rows: list[tuple[int, tuple[str, bytes], Item]]) -> None:
    if not rows:
        return
    statement = sql.SQL(
        "COPY raw.record (raw_id, connection, stream, source_id, content_hash, version_at, sync_date, fetched_at, run_id, units, payload)"
        " FROM STDIN"
    )
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.set_types(
            ["int8", "text", "text", "text", "bytea", "timestamptz", "date", "timestamptz", "text", "int4", "text"]
        )
        fixed = (pull.sync_date, pull.started_at, pull.run_id)
        for raw_id, (source_id, content_hash), item in rows:
            copy.write_row(
                (
                    raw_id,
                    pull.connection,
                    pull.stream,
                    source_id,
                    content_hash,
                    item.version_at,
                    *fixed,
                    item.units,
                    item.payload.decode(),
                )
            )


def keep_file(database: Database, connection_name: str, name: str, content: bytes, run_id: str, at: datetime) -> str:
    """Keep a delivered file as it is; returns its SHA-256 in hex. The same content is kept once."""
    digest = hashlib.sha256(content)
    with database.connect() as connection:
        connection.execute(
            "INSERT INTO raw.file (content_hash, connection, name, fetched_at, run_id, content) VALUES (%s, %s, %s, %s, %s, %s) "
            "ON CONFLICT DO NOTHING",
            (digest.digest(), connection_name, name, at, run_id, content),
        )
    return digest.hexdigest()


def finish(database: Database, pull: Pull, ended_at: datetime) -> None:
    """Record the pull: from now on its sync date stages what it saw, and the next pull starts at its cursor."""
    with database.connect() as connection:
        connection.execute(
            "INSERT INTO raw.pull (pull_id, connection, stream, sync_date, run_id, started_at, ended_at, window_start, window_end, "
            "cursor_before, cursor_after, pages, records, repeated, landed, expected, calls, retries, notes) "
            "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            (
                *(pull.pull_id, pull.connection, pull.stream, pull.sync_date, pull.run_id, pull.started_at, ended_at),
                *(pull.window_start, pull.window_end, pull.cursor_before, pull.cursor_after, pull.pages, pull.records),
                *(pull.repeated, pull.landed, pull.expected, pull.calls, pull.retries, json.dumps(pull.notes)),
            ),
        )


def last_cursor(database: Database, connection_name: str, stream: str) -> str | None:
    """The cursor that the last finished pull of a stream left behind."""
    with database.connect() as connection:
        row = connection.execute(
            "SELECT cursor_after FROM raw.pull WHERE connection = %s AND stream = %s AND cursor_after IS NOT NULL "
            "ORDER BY pull_id DESC LIMIT 1",
            (connection_name, stream),
        ).fetchone()
    return row[0] if row else None


@dataclass(frozen=True, slots=True)
class Document:
    """A landed payload as staging reads it. `version_at` is the source's own time of change, else when it was seen."""

    raw_id: int
    source_id: str
    version_at: datetime
    units: int
    payload: str


def documents(
    connection: Connection, connection_name: str, stream: str, first: date, last: date, chunk: int = 20_000
) -> Iterator[list[Document]]:
    """The newest content of each record that the pulls of the sync dates saw, in chunks, in the order of landing."""
    with connection.cursor(name="documents") as cursor:
        cursor.itersize = chunk
        cursor.execute(
            """
            SELECT d.raw_id, r.source_id, d.version_at, r.units, r.payload::text
              FROM (SELECT DISTINCT ON (source_id) raw_id, source_id, version_at
                      FROM (SELECT r.raw_id, r.source_id, coalesce(r.version_at, p.started_at) AS version_at, p.pull_id
                              FROM raw.pull p JOIN raw.seen s USING (pull_id) JOIN raw.record r USING (raw_id)
                             WHERE p.connection = %(connection)s AND p.stream = %(stream)s
                               AND p.sync_date BETWEEN %(first)s AND %(last)s) seen
                     ORDER BY source_id, version_at DESC, pull_id DESC, raw_id DESC) d
              JOIN raw.record r USING (raw_id)
             ORDER BY d.raw_id
            """,
            {"connection": connection_name, "stream": stream, "first": first, "last": last},
        )
        while rows := cursor.fetchmany(chunk):
            yield [Document(*row) for row in rows]


def seen_streams(connection: Connection, connection_name: str, first: date, last: date) -> list[str]:
    """Streams that were pulled for the sync dates."""
    rows = connection.execute(
        "SELECT DISTINCT stream FROM raw.pull WHERE connection = %s AND sync_date BETWEEN %s AND %s ORDER BY stream",
        (connection_name, first, last),
    )
    return [row[0] for row in rows]


def whole_days(connection: Connection, sync_date: date) -> set[str]:
    """Connections with a finished pull of the whole sync date, not only of what webhooks told of."""
    rows = connection.execute(
        "SELECT DISTINCT connection FROM raw.pull WHERE sync_date = %s AND NOT notes ? %s", (sync_date, PART_OF_DAY)
    )
    return {row[0] for row in rows}
