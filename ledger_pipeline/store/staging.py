"""Staging: a sync date of a connection is replaced as a whole, and read back with a fingerprint of exactly what was read.

The rows are kept twice: as rows, for people and queries, and packed as Arrow columns, which are read back many times faster. The packed ones
count only as long as every row of the day is as the same transaction wrote it; otherwise the rows are read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from itertools import groupby

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from psycopg import sql

from ledger_pipeline.model.records import RECORDS, parts_of
from ledger_pipeline.store import frames
from ledger_pipeline.store.database import Connection
from ledger_pipeline.store.gate import GateClosed

Ints = npt.NDArray[np.int64]

DOCUMENT = pa.schema(
    [
        ("raw_id", pa.int64()),
        ("stream", pa.string()),
        ("origin_id", pa.string()),
        ("version_at", pa.timestamp("us", "UTC")),
        ("units", pa.int64()),
        ("control_amount", pa.string()),
        ("control_currency", pa.string()),
        ("is_gone", pa.bool_()),
    ]
)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a landed record is not posted: stage is staging, check or posting; `path` the field or the check at fault."""

    raw_id: int
    stream: str
    source_id: str
    record: str
    path: str
    reason: str


def clear(connection: Connection, name: str, sync_date: date) -> None:
    """Forget what was staged for that day, the gate with it; the caller writes it anew in the same transaction."""
    for table in ("packed", "document", *RECORDS):
        connection.execute(
            sql.SQL("DELETE FROM {} WHERE connection = %s AND sync_date = %s").format(sql.Identifier("staging", table)),
            (name, sync_date),
        )
    for table in ("quarantine", "gate", "staged"):
        connection.execute(
            sql.SQL("DELETE FROM {} WHERE connection = %s AND sync_date = %s").format(sql.Identifier("ops", table)),
            (name, sync_date),
        )


def forget_verdict(connection: Connection, name: str, sync_date: date) -> None:
    """The day has to be checked again before it may be posted."""
    for table in ("quarantine", "gate"):
        connection.execute(
            sql.SQL("DELETE FROM {} WHERE connection = %s AND sync_date = %s").format(sql.Identifier("ops", table)),
            (name, sync_date),
        )


def write(connection: Connection, name: str, sync_date: date, table: str, data: pa.Table) -> None:
    """Append canonical rows of one table."""
    size = data.num_rows
    keyed = data.add_column(0, "sync_date", pa.repeat(pa.scalar(sync_date, pa.date32()), size))
    frames.write(connection, "staging", table, keyed.add_column(0, "connection", pa.repeat(pa.scalar(name), size)))


def write_chunk(
    connection: Connection,
    name: str,
    sync_date: date,
    chunk_no: int,
    documents: pa.Table,
    tables: Mapping[str, pa.Table],
) -> None:
    """Append a chunk of payloads, as rows and packed; `chunk_no` counts up within the day."""
    for record, data in (("document", documents), *tables.items()):
        if not data.num_rows:
            continue
        ordered = _in_order(record, data)
        write(connection, name, sync_date, record, ordered)
        packed = _pack(ordered)
        connection.execute(
            "INSERT INTO staging.packed (connection, sync_date, chunk_no, record, row_count, hash, columns) "
            "VALUES (%s, %s, %s, %s, %s, %b, %b)",
            (name, sync_date, chunk_no, record, ordered.num_rows, hashlib.sha256(packed).digest(), packed),
        )


def _in_order(record: str, data: pa.Table) -> pa.Table:
    """By payload, then record, then line: as rows are read back. Most tables are so already."""
    raw_ids = np.asarray(data["raw_id"].to_numpy(), np.int64)
    steps = np.diff(raw_ids)
    if bool((steps > 0).all()):
        return data
    ids = data["source_id"].combine_chunks() if "source_id" in data.column_names else None
    if bool((steps >= 0).all()) and ids is not None:
        goes_back = np.asarray(pc.less(ids[1:], ids[:-1]).to_numpy(zero_copy_only=False), np.bool_)
        is_part = "line_no" in data.column_names
        if is_part:
            lines = np.asarray(data["line_no"].to_numpy(), np.int64)
            goes_back |= np.asarray(pc.equal(ids[1:], ids[:-1]).to_numpy(zero_copy_only=False), np.bool_) & (
                np.diff(lines) < 0
            )
        if not bool((goes_back & (steps == 0)).any()):
            return data
    order = [(column, "ascending") for column in ("raw_id", "source_id", "line_no") if column in data.column_names]
    return data.sort_by(order)


_IPC = pa.ipc.IpcWriteOptions(compression="lz4")


def _pack(data: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, data.schema, options=_IPC) as writer:
        writer.write_table(data.combine_chunks())
    return bytes(sink.getvalue())


class Sharing:
    """Finds the payloads of a day that deliver the same record: 16 bytes a record, however many chunks there are.

    Source ids are compared by Python's 64-bit hash. Two ids with one hash only make their payloads look as if they shared a record.
    """

    def __init__(self) -> None:
        self._seen: dict[str, list[tuple[Ints, Ints]]] = {}

    def add(self, tables: Mapping[str, pa.Table]) -> None:
        """The records of a chunk; parts come with their record."""
        for record, table in tables.items():
            if not RECORDS[record].parent:
                hashes = np.fromiter(map(hash, table["source_id"].to_pylist()), np.int64, table.num_rows)
                raw_ids = np.asarray(table["raw_id"].to_numpy(), np.int64)
                self._seen.setdefault(record, []).append((hashes, raw_ids))

    def raw_ids(self) -> list[int]:
        """The payloads, each once."""
        found: set[int] = set()
        for seen in self._seen.values():
            hashes = np.concatenate([hashes for hashes, _ in seen])
            hashes.sort()
            repeated = np.unique(hashes[1:][hashes[1:] == hashes[:-1]])
            for own, raw_ids in seen if len(repeated) else ():
                found.update(raw_ids[np.isin(own, repeated)].tolist())
        return sorted(found)


def finish(
    connection: Connection,
    name: str,
    sync_date: date,
    *,
    at: datetime,
    run_id: str,
    mapping_version: str,
    rows: Mapping[str, int],
    inputs: bytes | None = None,
    shared: list[int] | None = None,
) -> None:
    """Record that the day is staged; `inputs` is the digest of what it was staged from, `shared` what `Sharing` has found."""
    connection.execute(
        "INSERT INTO ops.staged (connection, sync_date, staged_at, run_id, mapping_version, rows_by_record, inputs, shared) "
        "VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
        (name, sync_date, at, run_id, mapping_version, json.dumps(dict(rows)), inputs, shared),
    )


def clashing(connection: Connection, day: Day) -> set[int]:
    """Payloads that deliver a record which another payload of the day delivers with other content: they have to be checked together."""
    found: set[int] = set()
    for record in (r for r in day.records if not RECORDS[r].parent):
        names = [c.name for c in RECORDS[record].columns]
        content = sql.SQL("ROW({})::text").format(sql.SQL(", ").join(map(sql.Identifier, names)))
        found |= _sharing(connection, day, record, sql.SQL("min({0}) <> max({0})").format(content))
    return found


def entangled(connection: Connection, day: Day, records: Iterable[str]) -> set[int]:
    """Payloads that have to be posted together: they deliver the same record, or one delivers what stands in the books from another's."""
    found: set[int] = set()
    for record in (r for r in records if not RECORDS[r].parent):
        found |= _sharing(connection, day, record, sql.SQL("min(raw_id) <> max(raw_id)"))
        found |= _moved(connection, day, record)
    return found


def _moved(connection: Connection, day: Day, record: str) -> set[int]:
    """Payloads of the day between which a record has moved since it was posted. LATERAL with OFFSET 0 looks each up by index."""
    moved = connection.execute(
        sql.SQL(
            "SELECT r.raw_id, e.stream, e.origin_id FROM {table} r "
            "CROSS JOIN LATERAL (SELECT stream, origin_id FROM ledger.entry WHERE connection = r.connection AND record = {record} "
            "AND source_id = r.source_id OFFSET 0) e "
            "CROSS JOIN LATERAL (SELECT stream, source_id FROM raw.record WHERE raw_id = r.raw_id OFFSET 0) own "
            "WHERE r.connection = {name} AND r.sync_date = {day} AND (e.stream, e.origin_id) <> (own.stream, own.source_id)"
        ).format(table=sql.Identifier("staging", record), record=record, name=day.connection, day=day.sync_date)
    ).fetchall()
    left = connection.execute(
        "SELECT raw_id, stream, origin_id FROM staging.document WHERE connection = %s AND sync_date = %s AND origin_id = ANY(%s)",
        (day.connection, day.sync_date, list({origin for _, _, origin in moved})),
    ).fetchall()
    origins = {(stream, origin): raw_id for raw_id, stream, origin in left}
    pairs = [(raw_id, origins[stream, origin]) for raw_id, stream, origin in moved if (stream, origin) in origins]
    return {raw_id for pair in pairs for raw_id in pair}


def _sharing(connection: Connection, day: Day, record: str, when: sql.Composable) -> set[int]:
    """Payloads with a source id that several rows of the day have, where `when` holds for these rows."""
    if day.shared is not None and not day.shared:
        return set()
    rows = connection.execute(
        sql.SQL(
            "SELECT unnest(array_agg(raw_id)) FROM {table} WHERE connection = {name} AND sync_date = {day} "
            "AND ({shared}::bigint[] IS NULL OR raw_id = ANY({shared})) GROUP BY source_id HAVING count(*) > 1 AND {when}"
        ).format(
            table=sql.Identifier("staging", record),
            name=day.connection,
            day=day.sync_date,
            shared=day.shared and list(day.shared),
            when=when,
        )
    )
    return {row[0] for row in rows}


def refuse(
    connection: Connection,
    name: str,
    sync_date: date,
    stage: str,
    refusals: Iterable[Refusal],
    *,
    run_id: str,
    at: datetime,
    is_more: bool = False,
) -> None:
    """Replace the day's quarantine of one stage; with `is_more` add to it."""
    if not is_more:
        connection.execute(
            "DELETE FROM ops.quarantine WHERE connection = %s AND sync_date = %s AND stage = %s",
            (name, sync_date, stage),
        )
    unique = {(r.raw_id, r.record, r.path): r for r in refusals}
    frames.insert_rows(
        connection,
        "ops",
        "quarantine",
        (
            "connection",
            "sync_date",
            "stream",
            "raw_id",
            "source_id",
            "stage",
            "record",
            "path",
            "reason",
            "run_id",
            "noticed_at",
        ),
        [
            (name, sync_date, r.stream, r.raw_id, r.source_id, stage, r.record, r.path, r.reason, run_id, at)
            for r in unique.values()
        ],
    )


@dataclass(frozen=True, slots=True)
class Group:
    """Some of a day's payloads with all that was made of them: tables by record, and the documents."""

    tables: dict[str, pa.Table]
    documents: pa.Table


@dataclass(frozen=True, slots=True)
class Day:
    """A staged day: how many payloads it has and the SHA-256 of exactly the bytes that `groups` yields."""

    connection: str
    sync_date: date
    records: tuple[str, ...]
    documents: int
    fingerprint: bytes
    chunks: tuple[tuple[int, int], ...]  # (number, payloads); empty where the rows have to be read
    hashes: Mapping[tuple[int, str], bytes]
    whole: Group | None = None  # what was read row by row
    shared: tuple[int, ...] | None = None
    """Payloads that deliver a record which is delivered twice; None where that isn't known."""

    @property
    def is_large(self) -> bool:
        """True when it takes more than one group."""
        return len(self._spans(GROUP)) > 1

    def _spans(self, size: int) -> list[tuple[int, int]]:
        spans: list[tuple[int, int]] = []
        first, held = 0, 0
        for number, payloads in self.chunks:
            if held and held + payloads > size:
                spans.append((first, number - 1))
                first, held = number, 0
            held += payloads
        return [*spans, (first, self.chunks[-1][0])] if self.chunks else []

    def groups(
        self, connection: Connection, apart: Iterable[int] = (), *, is_whole: bool = False, size: int | None = None
    ) -> Iterator[Group]:
        """Its payloads, at most about `size` (GROUP) of them at once unless `is_whole`; those of `apart` come last, all together.

        Raises GateClosed when what is read isn't what the fingerprint is of.
        """
        if self.whole is not None:
            yield self.whole
            return
        if is_whole and self.chunks:
            yield self._group(connection, (self.chunks[0][0], self.chunks[-1][0]))
            return
        last: list[Group] = []
        set_apart = pa.array(sorted(apart), pa.int64())
        for span in self._spans(size or GROUP):
            group = self._group(connection, span)
            if len(set_apart):
                last.append(_split(group, set_apart, is_in=True))
                group = _split(group, set_apart, is_in=False)
            yield group
        if last:
            yield _together(last)

    def _group(self, connection: Connection, span: tuple[int, int]) -> Group:
        rows = connection.execute(
            "SELECT record, chunk_no, columns FROM staging.packed WHERE connection = %s AND sync_date = %s AND chunk_no BETWEEN %s AND %s "
            "ORDER BY record, chunk_no",
            (self.connection, self.sync_date, *span),
            binary=True,
        ).fetchall()
        wanted = {key: value for key, value in self.hashes.items() if span[0] <= key[0] <= span[1]}
        if {(number, record): hashlib.sha256(columns).digest() for record, number, columns in rows} != wanted:
            raise GateClosed(
                f"{self.connection} {self.sync_date}: the staged data differ from what was checked; check them again"
            )
        pieces = {
            record: [pa.ipc.open_stream(columns).read_all() for _, _, columns in found]
            for record, found in groupby(rows, key=lambda row: row[0])
        }
        tables = {record: _joined(record, pieces.get(record, []), RECORDS[record].schema()) for record in self.records}
        return Group(_with_parts(tables), _joined("document", pieces.get("document", []), DOCUMENT))


GROUP = 16_000
"""Payloads that are posted at once; more take more memory. A day of more is large."""


def _joined(record: str, pieces: Sequence[pa.Table], schema: pa.Schema) -> pa.Table:
    if not pieces:
        return schema.empty_table()
    return _in_order(record, pa.concat_tables(pieces).combine_chunks())


def _split(group: Group, raw_ids: pa.Array, *, is_in: bool) -> Group:
    def part(table: pa.Table) -> pa.Table:
        mask = pc.is_in(table["raw_id"], value_set=raw_ids)
        return table.filter(mask if is_in else pc.invert(mask))

    return Group({name: part(table) for name, table in group.tables.items()}, part(group.documents))


def _together(groups: Sequence[Group]) -> Group:
    tables = {
        name: _joined(name, [group.tables[name] for group in groups], groups[0].tables[name].schema)
        for name in groups[0].tables
    }
    return Group(tables, _joined("document", [group.documents for group in groups], DOCUMENT))


def open_day(connection: Connection, name: str, sync_date: date, records: Sequence[str]) -> Day:
    """A staged day: packed where nobody touched a row since, else its rows; it is read group by group in the same transaction."""
    packed = connection.execute(
        "SELECT chunk_no, record, row_count, hash, xmin::text FROM staging.packed WHERE connection = %s AND sync_date = %s "
        "ORDER BY chunk_no, record",
        (name, sync_date),
    ).fetchall()
    if not packed or not _is_untouched(connection, name, sync_date, records, packed):
        tables, documents, fingerprint = _load_rows(connection, name, sync_date, records)
        return Day(
            *(name, sync_date, tuple(records), documents.num_rows, fingerprint, (), {}), whole=Group(tables, documents)
        )
    digest = hashlib.sha256(b"packed")
    for number, record, _, own, _ in packed:
        digest.update(f"{number}\x1f{record}\x1f".encode() + own)
    chunks = tuple((number, rows) for number, record, rows, _, _ in packed if record == "document")
    hashes = {(number, record): bytes(own) for number, record, _, own, _ in packed}
    row = connection.execute(
        "SELECT shared FROM ops.staged WHERE connection = %s AND sync_date = %s", (name, sync_date)
    ).fetchone()
    shared = tuple(row[0]) if row and row[0] is not None else None
    size = sum(rows for _, rows in chunks)
    return Day(name, sync_date, tuple(records), size, digest.digest(), chunks, hashes, shared=shared)


def _is_untouched(
    connection: Connection,
    name: str,
    sync_date: date,
    records: Sequence[str],
    packed: Sequence[tuple[int, str, int, bytes, str]],
) -> bool:
    """True when there are as many rows as were packed, and each was written by the transaction that packed them and by no other."""
    writers = {writer for *_, writer in packed}
    if len(writers) > 1 or not {record for _, record, *_ in packed} <= {"document", *records}:
        return False
    expected = dict.fromkeys(("document", *records), 0)
    for _, record, rows, _, _ in packed:
        expected[record] += rows
    counts = sql.SQL(" UNION ALL ").join(
        sql.SQL(
            "SELECT {}, count(*), count(*) FILTER (WHERE xmin <> {}::xid) FROM {} WHERE connection = {} AND sync_date = {}"
        ).format(record, writers.copy().pop(), sql.Identifier("staging", record), name, sync_date)
        for record in expected
    )
    return all(
        (rows, others) == (expected[record], 0) for record, rows, others in connection.execute(counts).fetchall()
    )


def load(
    connection: Connection, name: str, sync_date: date, records: Sequence[str]
) -> tuple[dict[str, pa.Table], pa.Table, bytes]:
    """(tables by record, documents, fingerprint) of a staged day, all at once."""
    day = open_day(connection, name, sync_date, records)
    groups = list(day.groups(connection))
    whole = groups[0] if len(groups) == 1 else _together(groups)
    return whole.tables, whole.documents, day.fingerprint


def _with_parts(tables: dict[str, pa.Table]) -> dict[str, pa.Table]:
    """Parts that the source doesn't have are empty."""
    for part in (p for record in list(tables) for p in parts_of(record)):
        tables.setdefault(part.name, part.schema().empty_table())
    return tables


def _load_rows(
    connection: Connection, name: str, sync_date: date, records: Sequence[str]
) -> tuple[dict[str, pa.Table], pa.Table, bytes]:
    digest = hashlib.sha256()
    tables: dict[str, pa.Table] = {}
    for record in records:
        order = [sql.Identifier("raw_id"), sql.Identifier("source_id")]
        order += [sql.Identifier("line_no")] if RECORDS[record].parent else []
        digest.update(record.encode())
        tables[record] = _read(connection, name, sync_date, record, RECORDS[record].schema(), order, digest)
    digest.update(b"document")
    documents = _read(connection, name, sync_date, "document", DOCUMENT, [sql.Identifier("raw_id")], digest)
    return _with_parts(tables), documents, digest.digest()


def _read(
    connection: Connection,
    name: str,
    sync_date: date,
    table: str,
    schema: pa.Schema,
    order: Sequence[sql.Identifier],
    digest: hashlib._Hash,
) -> pa.Table:
    query = sql.SQL("SELECT {} FROM {} WHERE connection = {} AND sync_date = {} ORDER BY {}").format(
        sql.SQL(", ").join(sql.Identifier(c) for c in schema.names),
        sql.Identifier("staging", table),
        sql.Literal(name),
        sql.Literal(sync_date),
        sql.SQL(", ").join(order),
    )
    return frames.read(connection, query, schema, digest)


def refused_ids(connection: Connection, name: str, sync_date: date, stages: Sequence[str]) -> dict[int, str]:
    """raw_id → first reason, for the day's quarantine of the given stages."""
    rows = connection.execute(
        "SELECT raw_id, path || ': ' || reason FROM ops.quarantine WHERE connection = %s AND sync_date = %s AND stage = ANY(%s) "
        "ORDER BY quarantine_id DESC",
        (name, sync_date, list(stages)),
    )
    return dict(rows.fetchall())


def ignored_by_people(connection: Connection, raw_ids: Iterable[int]) -> dict[int, str]:
    """raw_id → `ignored by <name>: <reason>`, for those of the quarantined payloads that a person decided to leave out of the books."""
    rows = connection.execute(
        "SELECT raw_id, format('ignored by %%s: %%s', by_whom, reason) FROM ("
        "SELECT DISTINCT ON (raw_id) * FROM ops.decision WHERE raw_id = ANY(%s) ORDER BY raw_id, decision_id DESC) d "
        "WHERE decision = 'ignore'",
        (list(raw_ids),),
    )
    return dict(rows.fetchall())
