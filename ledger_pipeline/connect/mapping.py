"""The mapping engine: a declaration of fields compiles to typed decoders, whole columns and a table that a person can read.

Only mapped fields are decoded (msgspec structs), every value goes through a named converter column by column, and a payload that doesn't
fit is reported with its JSON path; the other payloads go on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from itertools import chain
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ledger_pipeline.connect.redact import without_values
from ledger_pipeline.model.records import ARROW, RECORDS, Record

Column = list[Any]
_WIRE: dict[str, Any] = {
    "str": str,
    "int": int,
    "bool": bool,
    "number": Decimal,
    "scalar": str | int,
    "raw": msgspec.Raw,
}


class MappingError(ValueError):
    """A mapping that can't work: a required field is missing, mapped twice, or a path contradicts another one."""


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
    """A named function over columns. `wire` are the JSON types that its arguments have on the wire."""

    name: str
    wire: tuple[str, ...]
    run: Callable[[Sequence[Column], Report], pa.Array]
    doc: str


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
class Mapped:
    """Canonical tables by record (with `raw_id`, without `connection`), and the payloads that were refused."""

    tables: dict[str, pa.Table]
    faults: tuple[Fault, ...]


class Plan:
    """The compiled mappings of one stream: `Plan(mappings).run(payloads, raw_ids, settings)`."""

    def __init__(self, mappings: Sequence[Mapping]) -> None:
        if len({m.stream for m in mappings}) > 1:
            raise MappingError("one plan reads one stream")
        self.mappings = tuple(mappings)
        trie = _Node()
        self._columns = [_CompiledMapping(m, trie) for m in self.mappings]
        self.decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(trie.struct("Payload"))

    def run(self, payloads: Sequence[bytes | str], raw_ids: Sequence[int], settings: Settings) -> Mapped:
        """Stage a chunk. Faulty payloads contribute no row to any table; their position and JSON path are in `faults`."""
        objects, kept, faults = self._decode(payloads)
        ids = np.asarray(raw_ids, np.int64)[kept] if len(kept) else np.zeros(0, np.int64)
        pieces: dict[str, list[pa.Table]] = {}
        bad: set[int] = set()
        chunk = _Chunk(objects)
        for compiled in self._columns:
            table, errors = compiled.run(chunk, settings)
            for row, path, message in errors:
                if row not in bad:
                    bad.add(row)
                    faults.append(Fault(int(kept[row]), compiled.mapping.record, path, without_values(message)))
            pieces.setdefault(compiled.mapping.record, []).append(table)
        return Mapped(
            {record: _assemble(RECORDS[record], tables, ids, bad) for record, tables in pieces.items()}, tuple(faults)
        )

    def _decode(self, payloads: Sequence[bytes | str]) -> tuple[list[Any], np.ndarray[Any, Any], list[Fault]]:
        objects: list[Any] = []
        kept: list[int] = []
        faults: list[Fault] = []
        decode = self.decoder.decode
        for position, payload in enumerate(payloads):
            try:
                objects.append(decode(payload))
                kept.append(position)
            except msgspec.ValidationError as error:
                message, _, path = str(error).partition(" - at `")
                faults.append(
                    Fault(position, self.mappings[0].record, path.rstrip("`") or "$", without_values(message))
                )
            except msgspec.DecodeError as error:
                faults.append(Fault(position, self.mappings[0].record, "$", f"not JSON: {error}"))
        return objects, np.asarray(kept, np.int64), faults

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


class _Node:
    """One object of the payload, as far as the mappings look into it."""

    def __init__(self) -> None:
        self.children: dict[str, _Edge] = {}

    def edge(self, key: str, is_optional: bool, is_list: bool, path: str) -> _Edge:
        edge = self.children.get(key)
        if edge is None:
            edge = self.children[key] = _Edge(f"f{len(self.children)}", is_optional, is_list)
        if edge.is_list != is_list:
            raise MappingError(f"{path}: {key} is a list in one path and none in another")
        edge.is_optional |= is_optional
        return edge

    def struct(self, name: str) -> Any:
        fields: list[Any] = []
        for edge in sorted(self.children.values(), key=lambda edge: edge.is_optional):
            wire: Any = edge.node.struct(f"{name}_{edge.attribute}") if edge.node else edge.leaf
            wire = list[wire] if edge.is_list else wire
            fields.append((edge.attribute, wire | None, None) if edge.is_optional else (edge.attribute, wire))
        rename = {edge.attribute: key for key, edge in self.children.items()}
        return msgspec.defstruct(name, fields, rename=rename, gc=False)


class _Edge:
    def __init__(self, attribute: str, is_optional: bool, is_list: bool) -> None:
        self.attribute = attribute
        self.is_optional = is_optional
        self.is_list = is_list
        self.node: _Node | None = None
        self.leaf: Any = None

    def object(self, path: str) -> _Node:
        if self.leaf is not None:
            raise MappingError(f"{path}: both a value and an object")
        if self.node is None:
            self.node = _Node()
        return self.node

    def value(self, wire: Any, path: str) -> None:
        if self.node is not None or (self.leaf is not None and self.leaf != wire):
            raise MappingError(f"{path}: its JSON type contradicts another field's ({self.leaf} and {wire})")
        self.leaf = wire


class _Chunk:
    """The decoded objects of a chunk, level by level, and every column once, whichever mappings ask for it."""

    def __init__(self, objects: list[Any]) -> None:
        self._levels: dict[str, tuple[list[Any], np.ndarray[Any, Any]]] = {"": (objects, np.arange(len(objects)))}
        self._read: dict[tuple[str, str], Column] = {}
        self._converted: dict[tuple[Any, ...], tuple[pa.Array, dict[int, tuple[int, str]]]] = {}

    def level(self, name: str, above: str, lists: Callable[[list[Any]], list[Any]]) -> None:
        """Walk the lists of the level above, once."""
        if name not in self._levels:
            found = lists(self._levels[above][0])
            parents = np.repeat(np.arange(len(found)), np.fromiter(map(len, found), np.int64, len(found)))
            self._levels[name] = list(chain.from_iterable(found)), parents

    def size(self, name: str) -> int:
        return len(self._levels[name][0])

    def parents(self, name: str) -> np.ndarray[Any, Any]:
        """Of each row of a level, its row in the level above."""
        return self._levels[name][1]

    def values(self, read: _Read) -> Column:
        """A column at its own level."""
        key = (read.level, read.expression)
        if key not in self._read:
            self._read[key] = read.run(self._levels[read.level][0])
        return self._read[key]

    def converted(
        self, level: str, reads: list[_Read], convert: Converter, settings: Settings
    ) -> tuple[pa.Array, dict[int, tuple[int, str]]]:
        """A field whose arguments all stand at `level`, with its errors by row."""
        key = (level, id(convert), *(read.expression for read in reads))
        if key not in self._converted:
            report = Report(settings)
            self._converted[key] = convert.run([self.values(read) for read in reads], report), report.errors
        return self._converted[key]


@dataclass(frozen=True, slots=True)
class _Read:
    """One path: the level at which it stands, and what reads it from that level's objects."""

    level: str
    expression: str
    run: Callable[[list[Any]], Column]


class _CompiledMapping:
    """Generated comprehensions, one per path, over the decoded objects of the level at which the path stands."""

    def __init__(self, mapping: Mapping, trie: _Node) -> None:
        self.mapping = mapping
        _check_targets(mapping)
        self.levels = [trie]
        self.names = [""]
        self.lists: list[Callable[[list[Any]], list[Any]]] = []
        for part in (p for p in mapping.each.split("[]") if p):
            self._descend(part.strip("."))
        self.columns = [[self._column(path, wire) for path, wire in self._arguments(f)] for f in mapping.fields]
        self.where = (
            [self._column(p, w) for p, w in zip(mapping.where.paths, mapping.where.convert.wire, strict=True)]
            if mapping.where
            else None
        )

    def _arguments(self, target: Field) -> list[tuple[str, str]]:
        if len(target.paths) != len(target.convert.wire):
            raise MappingError(
                f"{self.mapping.record}.{target.target}: {target.convert.name} takes {len(target.convert.wire)} path(s)"
            )
        return list(zip(target.paths, target.convert.wire, strict=True))

    def _descend(self, part: str) -> None:
        node, expression = self._walk(self.levels[-1], "o", part + "[]", None)
        self.lists.append(_evaluate(f"lambda objects: [({expression}) or () for o in objects]", {}))
        self.names.append(f"{self.names[-1]}{part}[]")
        self.levels.append(node)

    def _walk(self, node: _Node, variable: str, path: str, leaf: Any) -> tuple[_Node, str]:
        """Add a path to the trie; the expression yields its value, None where something optional is absent."""
        parts = path.split(".")
        wraps: list[str] = []
        expression = variable
        for number, part in enumerate(parts):
            is_last = number == len(parts) - 1
            key = part.rstrip("[]").rstrip("?")
            is_list, is_optional = part.endswith("[]"), "?" in part
            edge = node.edge(key, is_optional, is_list, path)
            expression = f"{expression}.{edge.attribute}"
            if is_last and not is_list:
                edge.value(leaf, path)
            elif is_list and not is_last:
                rest = ".".join(parts[number + 1 :])
                _, inner = self._walk(edge.object(path), "x", rest, leaf)
                expression = f"[{inner} for x in ({expression}) or ()]"
                break
            else:
                node = edge.object(path)
                if not is_last and edge.is_optional:
                    name = f"t{number}_{len(wraps)}"
                    wraps.append(f"None if ({name} := {expression}) is None else ")
                    expression = name
        return node, "(" + "".join(f"{w}(" for w in wraps) + expression + ")" * len(wraps) + ")"

    def _column(self, path: str, wire: str) -> _Read:
        level = len(self.levels) - 1
        if path.startswith("$."):
            level, path = 0, path[2:]
        elif path.startswith("^."):
            level, path = level - 1, path[2:]
        _, expression = self._walk(self.levels[level], "o", path, _WIRE[wire])
        return _Read(self.names[level], expression, _evaluate(f"lambda objects: [{expression} for o in objects]", {}))

    def run(self, chunk: _Chunk, settings: Settings) -> tuple[pa.Table, list[tuple[int, str, str]]]:
        for name, above, lists in zip(self.names[1:], self.names, self.lists, strict=False):
            chunk.level(name, above, lists)
        rows_at = self._rows_at(chunk)
        if self.where is not None and self.mapping.where is not None:
            hits = self.mapping.where.convert.run([_taken(chunk, c, rows_at) for c in self.where], Report(settings))
            keep = np.flatnonzero(hits.to_numpy(zero_copy_only=False).astype(np.bool_))
            rows_at = {name: rows[keep] for name, rows in rows_at.items()}
        rows = rows_at[""]
        record = RECORDS[self.mapping.record]
        arrays: dict[str, pa.Array] = {"_row": pa.array(rows, pa.int64())}
        errors: list[tuple[int, str, str]] = []
        for target, reads in zip(self.mapping.fields, self.columns, strict=True):
            array, found = self._field(chunk, target, reads, rows_at, settings)
            declared = record.field(target.target)
            if pa.types.is_string(array.type):
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

    def _rows_at(self, chunk: _Chunk) -> dict[str, np.ndarray[Any, Any]]:
        """Of each row of the mapping, its row at every level."""
        rows = np.arange(chunk.size(self.names[-1]))
        found = {self.names[-1]: rows}
        for name, above in zip(self.names[:0:-1], self.names[-2::-1], strict=True):
            rows = chunk.parents(name)[rows]
            found[above] = rows
        return found

    def _field(
        self,
        chunk: _Chunk,
        target: Field,
        reads: list[_Read],
        rows_at: dict[str, np.ndarray[Any, Any]],
        settings: Settings,
    ) -> tuple[pa.Array, dict[int, tuple[int, str]]]:
        """A field's array and errors. One that stands above the mapping's rows is converted there and then repeated."""
        own = self.names[-1]
        level = max((read.level for read in reads), key=self.names.index, default=own)
        rows = rows_at[level]
        is_whole = len(rows) == chunk.size(own) if level == own else 2 * len(rows) >= chunk.size(level)
        if reads and is_whole and len({read.level for read in reads}) == 1:
            array, errors = chunk.converted(level, reads, target.convert, settings)
            if level == own:
                return array, dict(errors)
            hit = np.flatnonzero(np.isin(rows, list(errors))).tolist() if errors else []
            return array.take(pa.array(rows)), {row: errors[int(rows[row])] for row in hit}
        report = Report(settings)
        values = [_taken(chunk, read, rows_at) for read in reads] or [[None] * len(rows)]
        return target.convert.run(values, report), report.errors


def _taken(chunk: _Chunk, read: _Read, rows_at: dict[str, np.ndarray[Any, Any]]) -> Column:
    """A column in the rows of a mapping."""
    values, rows = chunk.values(read), rows_at[read.level]
    if len(rows) == len(values) and (not len(rows) or (rows[0] == 0 and bool(np.all(np.diff(rows) == 1)))):
        return values
    return [values[row] for row in rows.tolist()]


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


def _evaluate(source: str, scope: dict[str, Any]) -> Any:
    """Compiles generated accessors; only names and attributes that this module made up are in them."""
    return eval(source, {"__builtins__": {"enumerate": enumerate}, **scope})  # noqa: S307


@cache
def extractor(*paths: str) -> Callable[[bytes | str], tuple[Any, ...]]:
    """A function that reads a few scalar paths (`id`, `shop.id`) from one payload; absent ones are None; never raises."""
    trie = _Node()
    helper = _CompiledMapping.__new__(_CompiledMapping)
    expressions = [
        helper._walk(trie, "o", ".".join(f"{part}?" for part in path.rstrip("?").split(".")), str | int | float | None)[
            1
        ]
        for path in paths
    ]
    decoder = msgspec.json.Decoder(trie.struct("Keys"))
    read = _evaluate(f"lambda o: ({', '.join(expressions)},)", {})

    def run(payload: bytes | str) -> tuple[Any, ...]:
        try:
            values: tuple[Any, ...] = read(decoder.decode(payload))
        except msgspec.DecodeError:
            return (None,) * len(paths)
        return values

    return run


def documents(mappings: Iterable[Mapping]) -> list[dict[str, str]]:
    """All mappings of a source as rows for the printed documentation."""
    by_stream: dict[str, list[Mapping]] = {}
    for mapping in mappings:
        by_stream.setdefault(mapping.stream, []).append(mapping)
    return [{"stream": stream, **row} for stream, group in by_stream.items() for row in Plan(group).describe()]
