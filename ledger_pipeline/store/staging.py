"""Staging: a sync date of a connection is replaced as a whole, and read back with a fingerprint of exactly what was read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

import pyarrow as pa
from psycopg import sql

from ledger_pipeline.model.records import RECORDS, parts_of
from ledger_pipeline.store import frames
from ledger_pipeline.store.database import Connection

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
    for table in ("document", *RECORDS):
        connection.execute(
            sql.SQL("DELETE FROM {} WHERE connection = %s AND sync_date = %s").format(sql.Identifier("staging", table)),
            (name, sync_date),
        )
    for table in ("quarantine", "gate", "staged"):
        connection.execute(
            sql.SQL("DELETE FROM {} WHERE connection = %s AND sync_date = %s").format(sql.Identifier("ops", table)),
            (name, sync_date),
        )


def write(connection: Connection, name: str, sync_date: date, table: str, data: pa.Table) -> None:
    """Append canonical rows of one table."""
    size = data.num_rows
    keyed = data.add_column(0, "sync_date", pa.array([sync_date] * size, pa.date32()))
    frames.write(connection, "staging", table, keyed.add_column(0, "connection", pa.array([name] * size, pa.string())))


def finish(
    connection: Connection,
    name: str,
    sync_date: date,
    *,
    at: datetime,
    run_id: str,
    mapping_version: str,
    rows: Mapping[str, int],
) -> None:
    """Record that the day is staged."""
    connection.execute(
        "INSERT INTO ops.staged (connection, sync_date, staged_at, run_id, mapping_version, rows_by_record) VALUES (%s, %s, %s, %s, %s, %s)",
        (name, sync_date, at, run_id, mapping_version, json.dumps(dict(rows))),
    )


def refuse(
    connection: Connection,
    name: str,
    sync_date: date,
    stage: str,
    refusals: Iterable[Refusal],
    *,
    run_id: str,
    at: datetime,
) -> None:
    """Replace the day's quarantine of one stage."""
    connection.execute(
        "DELETE FROM ops.quarantine WHERE connection = %s AND sync_date = %s AND stage = %s", (name, sync_date, stage)
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


def load(
    connection: Connection, name: str, sync_date: date, records: Sequence[str]
) -> tuple[dict[str, pa.Table], pa.Table, bytes]:
    """(tables by record, documents, fingerprint) of a staged day. The fingerprint is the SHA-256 of the very bytes that were read."""
    digest = hashlib.sha256()
    tables: dict[str, pa.Table] = {}
    for record in records:
        order = [sql.Identifier("raw_id"), sql.Identifier("source_id")]
        order += [sql.Identifier("line_no")] if RECORDS[record].parent else []
        digest.update(record.encode())
        tables[record] = _read(connection, name, sync_date, record, RECORDS[record].schema(), order, digest)
    for part in (p for record in records for p in parts_of(record)):
        tables.setdefault(part.name, part.schema().empty_table())  # parts that the source doesn't have
    digest.update(b"document")
    documents = _read(connection, name, sync_date, "document", DOCUMENT, [sql.Identifier("raw_id")], digest)
    return tables, documents, digest.digest()


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
