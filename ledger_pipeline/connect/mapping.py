"""The mapping engine: a declaration of fields compiles to a decoder, whole columns and a table that a person can read.

Only mapped fields are decoded (`decode`), every value goes through a named converter column by column, and a payload that doesn't fit is
reported with its JSON path; the other payloads go on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ledger_pipeline.connect.decode import Decoded, Decoder, Edge, MappingError, Node, Step, as_list, leaf, read
from ledger_pipeline.connect.redact import without_values
from ledger_pipeline.model.records import ARROW, RECORDS, Record

Column = list[Any]
Rows = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Settings:
    """What a converter may know besides the payload: the connection, its entity's base currency, and its options."""

    connection: str
    options: dict[str, Any] = field(default_factory=dict)


class Report:
    """Collects what a converter refuses: a row, a message and the argument (by position) that is at fault."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.errors: dict[int, tuple[int, str]] = {}

    def error(self, row: int, message: str, argument: int = 0) -> None:
        """The first error of a row is kept."""
        self.errors.setdefault(row, (argument, message))


@dataclass(frozen=True, slots=True)
class Converter:
    """A named function over columns. `wire` are the JSON types that its arguments have on the wire.

    `run` takes lists of Python's values. One that has `columns` (see `on_columns`) is given Arrow's columns instead.
    """

    name: str
    wire: tuple[str, ...]
    run: Callable[[Sequence[Column], Report], pa.Array]
    doc: str
    columns: OnColumns | None = None


OnColumns = Callable[[Sequence[pa.Array], Report], pa.Array]


def on_columns(name: str, wire: tuple[str, ...], function: OnColumns, doc: str) -> Converter:
    """A converter that works on Arrow's columns (lists in it are list columns; without a path it gets one of nulls)."""

    def run(columns: Sequence[Column], report: Report) -> pa.Array:
        given = [leaf(column, kind) for column, kind in zip(columns, wire, strict=False)]
        return function(given or [pa.nulls(len(columns[0]))], report)

    return Converter(name, wire, run, doc, function)


@dataclass(frozen=True, slots=True)
class Field:
    """One canonical column: where its values are (`$.` from the payload's root, `^.` one level up, `?` may be absent or null)."""

    target: str
    paths: tuple[str, ...]
    convert: Converter
    doc: str = ""


@dataclass(frozen=True, slots=True)
class Mapping:
    """One stream → one canonical record (or part). `each` names the lists to walk (`refunds[].transactions.nodes[]`)."""

    record: str
    stream: str
    fields: tuple[Field, ...]
    each: str = ""
    where: Where | None = None
    version: int = 1
    doc: str = ""


@dataclass(frozen=True, slots=True)
class Where:
    """Keeps the rows for which a converter yields true."""

    paths: tuple[str, ...]
    convert: Converter


@dataclass(frozen=True, slots=True)
class Fault:
    """A payload that can't be staged: its position in the chunk, where, and why."""

    position: int
    record: str
    path: str
    message: str


@dataclass(frozen=True, slots=True)
class Beside:
    """Columns of the values that a plan reads beside its mappings, and the positions of the payloads that they are of."""

    positions: Rows
    columns: tuple[pa.Array, ...]


@dataclass(frozen=True, slots=True)
class Mapped:
    """Canonical tables by record (with `raw_id`, without `connection`), and the payloads that were refused.

    `beside` is None where the payloads have to be asked one by one.
    """

    tables: dict[str, pa.Table]
    faults: tuple[Fault, ...]
    beside: Beside | None = None


class Plan:
    """The compiled mappings of one stream: `Plan(mappings).run(payloads, raw_ids, settings)`.

    `beside` are paths of values that somebody else wants to know, and that no payload is refused for.
    """

    def __init__(self, mappings: Sequence[Mapping], beside: Sequence[str] = ()) -> None:
        if len({m.stream for m in mappings}) > 1:
            raise MappingError("one plan reads one stream")
        self.mappings = tuple(mappings)
        trie = Node()
        self._columns = [_CompiledMapping(m, trie) for m in self.mappings]
        self._beside = _beside(trie, beside)
        self._decoder = Decoder(trie)

    def run(self, payloads: Sequence[bytes | str], raw_ids: Sequence[int], settings: Settings) -> Mapped:
        """Stage a chunk. Faulty payloads contribute no row to any table; their position and JSON path are in `faults`."""
        decoded = self._decoder.read(payloads)
        kept = decoded.kept
        ids = np.asarray(raw_ids, np.int64)[kept] if len(kept) else np.zeros(0, np.int64)
        faults = [
            Fault(position, self.mappings[0].record, path, without_values(message))
            for position, path, message in decoded.faults
        ]
        pieces: dict[str, list[pa.Table]] = {}
        bad: set[int] = set()
        chunk = _Chunk(decoded)
        for compiled in self._columns:
            table, errors = compiled.run(chunk, settings)
            for row, path, message in errors:
                if row not in bad:
                    bad.add(row)
                    faults.append(Fault(int(kept[row]), compiled.mapping.record, path, without_values(message)))
            pieces.setdefault(compiled.mapping.record, []).append(table)
        tables = {record: _assemble(RECORDS[record], tables, ids, bad) for record, tables in pieces.items()}
        beside = None
        if decoded.has_beside and self._beside:
            beside = Beside(kept, tuple(read(decoded.rows, steps) for steps in self._beside))
        return Mapped(tables, tuple(faults), beside)

    def describe(self) -> list[dict[str, str]]:
        """The mapping as rows that a person reads: target, source, converter, meaning."""
        return [
            {
                "target": f"{mapping.record}.{f.target}",
                "source": ", ".join(readable(mapping, p) for p in f.paths) or "–",
                "converter": f.convert.name,
                "meaning": f.doc or RECORDS[mapping.record].field(f.target).doc,
            }
            for mapping in self.mappings
            for f in mapping.fields
        ]


def _beside(trie: Node, paths: Sequence[str]) -> list[tuple[Step, ...]]:
    """The ways to values that the mappings read as text or integer, or that none of them reads; else none at all."""
    found = []
    for path in paths:
        known: Edge | None = None
        node: Node | None = trie
        for key in path.split("."):
            known = node.children.get(key) if node else None
            if known is not None and known.is_list:
                return []
            node = known.node if known else None
        if known is not None and (known.node is not None or known.wire not in ("str", "int")):
            return []
        wire = known.wire if known else "str"
        try:
            found.append(trie.add(path, wire, is_beside=True)[1])
        except MappingError:
            return []
    return found


def readable(mapping: Mapping, path: str) -> str:
    """A path as a person reads it, from the payload's root: `lineItems.nodes[].quantity`."""
    each = mapping.each.rstrip(".")
    if path.startswith("$."):
        full = path[2:]
    elif path.startswith("^."):
        full = (each.removesuffix("[]").rpartition("[]")[0] + "[]." if each.count("[]") > 1 else "") + path[2:]
    else:
        full = f"{each}.{path}" if each else path
    return full.replace("?", "")


def _assemble(record: Record, pieces: list[pa.Table], ids: np.ndarray[Any, Any], bad: set[int]) -> pa.Table:
    """Rows of all mappings of a record in payload order, numbered within their payload where the record is a part."""
    filled = [piece for piece in pieces if piece.num_rows] or pieces[:1]
    table = pa.concat_tables(filled)
    rows = np.asarray(table["_row"].to_numpy(), np.int64)
    if len(filled) > 1 or bad:
        order = np.argsort(rows, kind="stable")
        if bad:
            order = order[~np.isin(rows[order], list(bad))]
        table, rows = table.take(pa.array(order)), rows[order]
    columns: dict[str, Any] = {"raw_id": pa.array(ids[rows] if len(rows) else rows, pa.int64())}
    if record.parent:
        is_first = np.concatenate([[True], rows[1:] != rows[:-1]]) if len(rows) else np.zeros(0, np.bool_)
        start = np.maximum.accumulate(np.where(is_first, np.arange(len(rows)), 0)) if len(rows) else rows
        columns["line_no"] = pa.array(np.arange(len(rows)) - start + 1, pa.int64())
    for column in record.columns:
        if column.name not in columns:
            columns[column.name] = table[column.name]
    return pa.table(columns).select(record.schema().names).cast(record.schema())


class _Chunk:
    """The decoded payloads of a chunk, level by level, and every column once, whichever mappings ask for it."""

    def __init__(self, decoded: Decoded) -> None:
        self._levels: dict[str, tuple[pa.StructArray, Rows]] = {"": (decoded.rows, np.arange(len(decoded.rows)))}
        self._columns: dict[_Read, pa.Array] = {}
        self._lists: dict[_Read, Column] = {}
        self._converted: dict[tuple[Any, ...], tuple[pa.Array, dict[int, tuple[int, str]]]] = {}

    def level(self, name: str, above: str, steps: tuple[Step, ...]) -> None:
        """Walk the lists of the level above, once."""
        if name not in self._levels:
            lists = read(self._levels[above][0], steps)
            self._levels[name] = lists.flatten(), pc.list_parent_indices(lists).to_numpy().astype(np.int64)

    def size(self, name: str) -> int:
        return len(self._levels[name][0])

    def parents(self, name: str) -> Rows:
        """Of each row of a level, its row in the level above."""
        return self._levels[name][1]

    def column(self, path: _Read) -> pa.Array:
        """A column at its own level."""
        if path not in self._columns:
            self._columns[path] = read(self._levels[path.level][0], path.steps)
        return self._columns[path]

    def values(self, path: _Read) -> Column:
        """The same as a list, for converters of lists."""
        if path not in self._lists:
            self._lists[path] = as_list(self.column(path), path.wire)
        return self._lists[path]

    def converted(
        self, level: str, reads: list[_Read], convert: Converter, settings: Settings
    ) -> tuple[pa.Array, dict[int, tuple[int, str]]]:
        """A field whose arguments all stand at `level`, with its errors by row."""
        key = (id(convert), *reads)
        if key not in self._converted:
            report = Report(settings)
            if convert.columns is not None:
                self._converted[key] = convert.columns([self.column(path) for path in reads], report), report.errors
            else:
                self._converted[key] = convert.run([self.values(path) for path in reads], report), report.errors
        return self._converted[key]

    def taken(
        self, reads: list[_Read], rows_at: dict[str, Rows], size: int, convert: Converter, report: Report
    ) -> pa.Array:
        """What a converter makes of columns of any levels in the rows of a mapping."""
        if convert.columns is not None:
            columns = [_taken(self.column(path), rows_at[path.level]) for path in reads] or [pa.nulls(size)]
            return convert.columns(columns, report)
        lists: list[Column] = []
        for path in reads:
            values, rows = self.values(path), rows_at[path.level]
            lists.append(values if _is_every(rows, len(values)) else [values[row] for row in rows.tolist()])
        return convert.run(lists or [[None] * size], report)


@dataclass(frozen=True, slots=True)
class _Read:
    """One path: the level at which it stands, and the way from there."""

    level: str
    steps: tuple[Step, ...]
    wire: str


class _CompiledMapping:
    """A mapping's paths as levels and steps, and how its rows are made from a chunk."""

    def __init__(self, mapping: Mapping, trie: Node) -> None:
        self.mapping = mapping
        _check_targets(mapping)
        self.levels = [trie]
        self.names = [""]
        self.lists: list[tuple[Step, ...]] = []
        for part in (p.strip(".") for p in mapping.each.split("[]") if p):
            node, steps = self.levels[-1].add(f"{part}[]", None)
            self.lists.append(steps)
            self.names.append(f"{self.names[-1]}{part}[]")
            self.levels.append(node)
        self.columns = [[self._read(path, wire) for path, wire in self._arguments(f)] for f in mapping.fields]
        self.where = (
            [self._read(p, w) for p, w in zip(mapping.where.paths, mapping.where.convert.wire, strict=True)]
            if mapping.where
            else []
        )

    def _arguments(self, target: Field) -> list[tuple[str, str]]:
        if len(target.paths) != len(target.convert.wire):
            raise MappingError(
                f"{self.mapping.record}.{target.target}: {target.convert.name} takes {len(target.convert.wire)} path(s)"
            )
        return list(zip(target.paths, target.convert.wire, strict=True))

    def _read(self, path: str, wire: str) -> _Read:
        level = len(self.levels) - 1
        if path.startswith("$."):
            level, path = 0, path[2:]
        elif path.startswith("^."):
            level, path = level - 1, path[2:]
        return _Read(self.names[level], self.levels[level].add(path, wire)[1], wire)

    def run(self, chunk: _Chunk, settings: Settings) -> tuple[pa.Table, list[tuple[int, str, str]]]:
        for name, above, lists in zip(self.names[1:], self.names, self.lists, strict=False):
            chunk.level(name, above, lists)
        rows_at = self._rows_at(chunk)
        rows = rows_at[""]
        if self.mapping.where is not None:
            hits = chunk.taken(self.where, rows_at, len(rows), self.mapping.where.convert, Report(settings))
            keep = np.flatnonzero(pc.fill_null(hits, False).to_numpy(zero_copy_only=False))
            if len(keep) < len(rows):
                rows_at = {name: rows[keep] for name, rows in rows_at.items()}
                rows = rows_at[""]
        record = RECORDS[self.mapping.record]
        arrays: dict[str, pa.Array] = {"_row": pa.array(rows, pa.int64())}
        errors: list[tuple[int, str, str]] = []
        for target, reads in zip(self.mapping.fields, self.columns, strict=True):
            array, found = self._field(chunk, target, reads, rows_at, settings)
            declared = record.field(target.target)
            if pa.types.is_string(array.type) and _has_zero(array):
                has_zero = pc.fill_null(pc.match_substring(array, "\0"), False)  # PostgreSQL's text can't hold it
                for row in np.flatnonzero(has_zero.to_numpy(zero_copy_only=False)).tolist():
                    found.setdefault(row, (0, "a zero character (\\u0000) in text"))
            if declared.is_required and array.null_count:
                for row in np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False)).tolist():
                    found.setdefault(row, (0, f"{target.target} is required and absent"))
            for row, (argument, message) in sorted(found.items()):
                path = readable(self.mapping, target.paths[argument]) if target.paths else target.target
                errors.append((int(rows[row]), f"$.{path}", message))
            arrays[target.target] = array if array.type == ARROW[declared.kind] else array.cast(ARROW[declared.kind])
        for missing in record.columns:
            if missing.name not in arrays and missing.name != "line_no":
                arrays[missing.name] = pa.nulls(len(rows), ARROW[missing.kind])
        return pa.table({n: arrays[n] for n in ["_row", *(c.name for c in record.columns if c.name in arrays)]}), errors

    def _rows_at(self, chunk: _Chunk) -> dict[str, Rows]:
        """Of each row of the mapping, its row at every level."""
        rows = np.arange(chunk.size(self.names[-1]))
        found = {self.names[-1]: rows}
        for name, above in zip(self.names[:0:-1], self.names[-2::-1], strict=True):
            rows = chunk.parents(name)[rows]
            found[above] = rows
        return found

    def _field(
        self, chunk: _Chunk, target: Field, reads: list[_Read], rows_at: dict[str, Rows], settings: Settings
    ) -> tuple[pa.Array, dict[int, tuple[int, str]]]:
        """A field's array and errors. One that stands above the mapping's rows is converted there and then repeated."""
        own = self.names[-1]
        level = max((path.level for path in reads), key=self.names.index, default=own)
        rows = rows_at[level]
        is_whole = len(rows) == chunk.size(own) if level == own else 2 * len(rows) >= chunk.size(level)
        if reads and is_whole and len({path.level for path in reads}) == 1:
            array, errors = chunk.converted(level, reads, target.convert, settings)
            if level == own:
                return array, dict(errors)
            hit = np.flatnonzero(np.isin(rows, list(errors))).tolist() if errors else []
            return array.take(pa.array(rows)), {row: errors[int(rows[row])] for row in hit}
        report = Report(settings)
        return chunk.taken(reads, rows_at, len(rows), target.convert, report), report.errors


def _has_zero(texts: pa.StringArray) -> bool:
    """Whether there is a zero byte where the texts stand."""
    _, offsets, data = texts.buffers()
    if data is None or not len(texts):
        return False
    ends = np.frombuffer(offsets, np.int32)
    start, end = int(ends[texts.offset]), int(ends[texts.offset + len(texts)])
    return start < end and int(np.frombuffer(data, np.uint8, end - start, start).min()) == 0


def _is_every(rows: Rows, size: int) -> bool:
    """Rows of a level that are all of it, in its order."""
    return len(rows) == size and (not size or (rows[0] == 0 and bool(np.all(np.diff(rows) == 1))))


def _taken(column: pa.Array, rows: Rows) -> pa.Array:
    return column if _is_every(rows, len(column)) else column.take(pa.array(rows))


def _check_targets(mapping: Mapping) -> None:
    record = RECORDS[mapping.record]
    targets = [f.target for f in mapping.fields]
    for target in targets:
        record.field(target)
        if targets.count(target) > 1:
            raise MappingError(f"{mapping.record}.{target} is mapped twice in stream {mapping.stream}")
    needed = [c.name for c in record.columns if c.is_required and c.name not in ("line_no", *targets)]
    if needed:
        raise MappingError(f"stream {mapping.stream} → {mapping.record}: {', '.join(needed)} required and not mapped")


def documents(mappings: Iterable[Mapping]) -> list[dict[str, str]]:
    """All mappings of a source as rows for the printed documentation."""
    by_stream: dict[str, list[Mapping]] = {}
    for mapping in mappings:
        by_stream.setdefault(mapping.stream, []).append(mapping)
    return [{"stream": stream, **row} for stream, group in by_stream.items() for row in Plan(group).describe()]
