"""Landing: payloads exactly as they were sent, each content once, with a record of who saw what when."""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

import msgspec
import pyarrow as pa
from psycopg.abc import Buffer
from psycopg.adapt import Loader

from ledger_pipeline.store import frames
from ledger_pipeline.store.database import Connection, Database, lock, next_values

PART_OF_DAY = "since"
"""Note of a pull that asked only for what changed from then on."""


@dataclass(frozen=True, slots=True)
class Item:
    """One source record: `payload` are the provider's bytes (JSON), `version_at` its own time of change, `units` its source rows.

    `content_hash` is the payload's SHA-256.
    """

    source_id: str
    payload: bytes
    version_at: datetime | None = None
    units: int = 1
    content_hash: bytes = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "content_hash", hashlib.sha256(self.payload).digest())


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
    with database.connect() as connection:
        return land_on(connection, pull, items)


def land_on(connection: Connection, pull: Pull, items: Sequence[Item]) -> int:
    """As `land`, in a transaction that is open already."""
    unique = {(item.source_id, item.content_hash): item for item in items}
    keys = list(unique)
    for half in sorted({half_of(source_id) for source_id, _ in keys}):
        lock(connection, "land", pull.connection, pull.stream, str(half))
    known = _known(connection, pull, keys)
    new = [key for key in keys if key not in known]
    ids = next_values(connection, "raw.raw_id_seq", len(new))
    _write_records(connection, pull, [(raw_id, key, unique[key]) for raw_id, key in zip(ids, new, strict=True)])
    fresh = _seen(connection, pull, [*known.values(), *ids])
    frames.write(connection, "raw", "seen", fresh)
    pull.records += fresh.num_rows
    pull.landed += len(new)
    return len(new)


HALVES = 2


def half_of(source_id: str) -> int:
    """0 or 1: two sessions may land a stream at once, each one half of its records, so that versions of one record land in their order."""
    return zlib.crc32(source_id.encode()) % HALVES


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
    """Those of the keys that have landed before. They go as one JSON text and one run of bytes: arrays take several times as long to write.

    LATERAL with OFFSET 0 looks each up by index; a plain join reads all that the stream has ever landed, for every chunk.
    """
    rows = connection.execute(
        "SELECT k.n - 1, r.raw_id FROM json_array_elements_text(%s::json) WITH ORDINALITY AS k (source_id, n) "
        "CROSS JOIN LATERAL (SELECT raw_id FROM raw.record WHERE connection = %s AND stream = %s AND source_id = k.source_id "
        "AND content_hash = substring(%b::bytea FROM (32 * k.n - 31)::int FOR 32) OFFSET 0) r",
        (
            msgspec.json.encode([source_id for source_id, _ in keys]).decode(),
            pull.connection,
            pull.stream,
            b"".join(content_hash for _, content_hash in keys),
        ),
    )
    return {keys[position]: raw_id for position, raw_id in rows}


_EPOCH, _FIRST_DAY = datetime(2000, 1, 1, tzinfo=UTC), date(2000, 1, 1)
_SIGNATURE, _END = b"PGCOPY\n\xff\r\n\0" + bytes(8), b"\xff\xff"
_COLUMNS = 11


def _binary(value: bytes) -> bytes:
    """A value as binary COPY has it: its length, then its bytes."""
    return struct.pack(">i", len(value)) + value


def _moment(value: datetime) -> bytes:
    since = value - _EPOCH
    return _binary(struct.pack(">q", (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds))


def _write_records(connection: Connection, pull: Pull, rows: list[tuple[int, tuple[str, bytes], Item]]) -> None:
    """Binary COPY: a payload goes as it is, without being escaped here and unescaped there."""
    if not rows:
        return
    pack, nothing = struct.pack, struct.pack(">i", -1)
    names = _binary(pull.connection.encode()) + _binary(pull.stream.encode())
    day = _binary(pack(">i", (pull.sync_date - _FIRST_DAY).days))
    pulled = day + _moment(pull.started_at) + _binary(pull.run_id.encode())
    with (
        connection.cursor() as cursor,
        cursor.copy(
            "COPY raw.record (raw_id, connection, stream, source_id, content_hash, version_at, sync_date, fetched_at, run_id, units, payload)"
            " FROM STDIN (FORMAT binary)"
        ) as copy,
    ):
        pieces = [_SIGNATURE]
        for number, (raw_id, (source_id, content_hash), item) in enumerate(rows):
            id_, version = source_id.encode(), nothing if item.version_at is None else _moment(item.version_at)
            pieces += (
                pack(">hiq", _COLUMNS, 8, raw_id), names, pack(">i", len(id_)), id_, b"\0\0\0\x20", content_hash, version, pulled,
                pack(">iii", 4, item.units, len(item.payload)), item.payload,
            )  # fmt: skip
            if number % _PIECE == _PIECE - 1:
                copy.write(b"".join(pieces))
                pieces.clear()
        copy.write(b"".join([*pieces, _END]))


_PIECE = 250
"""Records sent at once."""


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
    """A landed payload as staging reads it, in UTF-8. `version_at` is the source's own time of change, else when it was seen."""

    raw_id: int
    source_id: str
    version_at: datetime
    units: int
    payload: bytes


class _AsItIs(Loader):
    """Bytes as PostgreSQL sends them."""

    def load(self, data: Buffer) -> bytes:
        return bytes(data)


_NEWEST = """
    SELECT DISTINCT ON (r.stream, r.source_id) r.raw_id, r.source_id, coalesce(r.version_at, s.started_at) AS version_at
      FROM (SELECT DISTINCT ON (s.raw_id) s.raw_id, p.pull_id, p.started_at
              FROM raw.pull p JOIN raw.seen s USING (pull_id)
             WHERE p.connection = %(connection)s AND p.sync_date BETWEEN %(first)s AND %(last)s
               AND (%(streams)s::text[] IS NULL OR p.stream = ANY(%(streams)s))
             ORDER BY s.raw_id, p.started_at DESC, p.pull_id DESC) s
      JOIN raw.record r USING (raw_id)
     ORDER BY r.stream, r.source_id, coalesce(r.version_at, s.started_at) DESC, s.pull_id DESC, r.raw_id DESC
"""
"""The newest version of each record that the pulls of the sync dates saw, and as of when; what was seen again is as new as its last pull."""


def documents(
    connection: Connection, connection_name: str, stream: str, first: date, last: date, chunk: int = 20_000
) -> Iterator[list[Document]]:
    """The newest content of each record that the pulls of the sync dates saw, in chunks, in the order of landing.

    What is sorted are ids; LATERAL with OFFSET 0 fetches each payload afterwards, by index. Else the payloads are sorted along, on disk.
    """
    with connection.cursor(name="documents") as cursor:
        cursor.itersize = chunk
        cursor.adapters.register_loader("json", _AsItIs)
        cursor.execute(
            f"""
            SELECT d.raw_id, d.source_id, d.version_at, r.units, r.payload
              FROM (SELECT * FROM ({_NEWEST}) newest ORDER BY raw_id) d
             CROSS JOIN LATERAL (SELECT units, payload FROM raw.record WHERE raw_id = d.raw_id OFFSET 0) r
             ORDER BY d.raw_id
            """,
            {"connection": connection_name, "streams": [stream], "first": first, "last": last},
        )
        while rows := cursor.fetchmany(chunk):
            yield [Document(*row) for row in rows]


def digest_of(connection: Connection, connection_name: str, sync_date: date) -> bytes:
    """SHA-256 over what `documents` yields for a sync date, without reading the payloads: which versions, and as of when."""
    row = connection.execute(
        f"""
        SELECT sha256(coalesce(string_agg(int8send(raw_id) || timestamptz_send(version_at), '' ORDER BY raw_id), ''))
          FROM ({_NEWEST}) newest
        """,
        {"connection": connection_name, "streams": None, "first": sync_date, "last": sync_date},
    ).fetchone()
    return bytes(row[0]) if row else b""


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
