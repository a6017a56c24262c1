"""Arrow tables in and out of PostgreSQL by COPY, as CSV text; the bytes that were read can be fingerprinted."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
from psycopg import sql

from ledger_pipeline.store.behind import ahead
from ledger_pipeline.store.database import Connection

_OPTIONS = "(FORMAT csv, NULL '')"


def write(connection: Connection, schema: str, table: str, data: pa.Table) -> None:
    """COPY a table's columns, by their names. An empty text stays text, a null stays null."""
    if not data.num_rows:
        return
    statement = sql.SQL("COPY {} ({}) FROM STDIN " + _OPTIONS).format(
        sql.Identifier(schema, table), sql.SQL(", ").join(map(sql.Identifier, data.column_names))
    )
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        if data.num_rows <= PIECE:
            copy.write(_csv(data))
            return
        with ahead(_csv(piece) for piece in _pieces(data)) as printed:
            for piece in printed:
                copy.write(piece)


PIECE = 10_000
"""Rows that are printed at once; while the database takes them in, the next ones are printed."""


def _pieces(data: pa.Table) -> Iterator[pa.Table]:
    for start in range(0, data.num_rows, PIECE):
        yield data.slice(start, PIECE)


def _csv(data: pa.Table) -> bytes:
    """One chunk a column: of a table with empty chunks Arrow's CSV writer (26.0) prints bytes that aren't its text."""
    sink = pa.BufferOutputStream()
    pa_csv.write_csv(
        _printable(data.combine_chunks()), sink, pa_csv.WriteOptions(include_header=False, quoting_style="needed")
    )
    return bytes(sink.getvalue())


def _printable(data: pa.Table) -> pa.Table:
    """Arrow's CSV writer has no spelling for bytes and zoned times; PostgreSQL reads hex and ISO 8601."""
    columns = []
    for column in data.columns:
        if pa.types.is_timestamp(column.type):
            column = _iso(column)
        elif pa.types.is_binary(column.type) or pa.types.is_fixed_size_binary(column.type):
            column = pc.binary_join_element_wise(r"\x", hex_of(column), "")
        columns.append(column)
    return pa.table(columns, names=data.column_names)


def _iso(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """UTC with microseconds and a Z. Cast without a zone, which Arrow prints ten times as fast as with one."""
    return pc.binary_join_element_wise(
        column.cast(pa.timestamp("us", "UTC")).cast(pa.timestamp("us")).cast(pa.string()), "Z", ""
    )


_DIGITS = np.frombuffer(b"0123456789abcdef", np.uint8)


def hex_of(column: pa.ChunkedArray) -> pa.StringArray:
    """Bytes as lower-case hex, null where null; all at once where each has the same length."""
    flat = column.combine_chunks()
    if not pa.types.is_fixed_size_binary(flat.type):
        return pa.array([None if found is None else found.hex() for found in flat.to_pylist()], pa.string())
    size, width = len(flat), flat.type.byte_width
    raw = np.frombuffer(flat.buffers()[1], np.uint8)[flat.offset * width : (flat.offset + size) * width].reshape(
        size, width
    )
    texts = np.empty((size, 2 * width), np.uint8)
    texts[:, 0::2], texts[:, 1::2] = _DIGITS[raw >> 4], _DIGITS[raw & 15]
    offsets = np.arange(0, 2 * width * (size + 1), 2 * width, dtype=np.int32)
    found = pa.StringArray.from_buffers(size, pa.py_buffer(offsets), pa.py_buffer(texts))
    return pc.if_else(flat.is_valid(), found, None) if flat.null_count else found


def read(
    connection: Connection, query: sql.Composed, schema: pa.Schema, digest: hashlib._Hash | None = None
) -> pa.Table:
    """COPY a query's rows out; its columns are those of the schema, in that order. `digest` is fed with the exact bytes."""
    buffer = io.BytesIO()
    statement = sql.SQL("COPY ({}) TO STDOUT " + _OPTIONS).format(query)
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for chunk in copy:
            buffer.write(chunk)
            if digest is not None:
                digest.update(chunk)
    if not buffer.tell():
        return schema.empty_table()
    buffer.seek(0)
    types = {f.name: _csv_type(f.type) for f in schema}
    table = pa_csv.read_csv(
        buffer,
        pa_csv.ReadOptions(column_names=schema.names, block_size=1 << 24),
        pa_csv.ParseOptions(newlines_in_values=True),
        pa_csv.ConvertOptions(
            column_types=types,
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            true_values=["t"],
            false_values=["f"],
            timestamp_parsers=[pa_csv.ISO8601, "%Y-%m-%d %H:%M:%S%z"],
        ),
    )
    return table.cast(schema)


def _csv_type(kind: pa.DataType) -> pa.DataType:
    return pa.string() if pa.types.is_timestamp(kind) else kind


def insert_rows(
    connection: Connection, schema: str, table: str, columns: Sequence[str], rows: Sequence[Sequence[object]]
) -> None:
    """COPY of a few Python rows."""
    if not rows:
        return
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(
        sql.Identifier(schema, table), sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row(row)
