"""The mapping engine: a declaration of fields compiles to typed decoders, whole columns and a table that a person can read.

Only mapped fields are decoded (msgspec structs), every value goes through a named converter column by column, and a payload that doesn't
fit is reported with its JSON path; the other payloads go on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from ledger_pipeline.model.records import ARROW, RECORDS, Record

Column = list[Any]
_WIRE: dict[str, Any] = {"str": str, "int": int, "bool": bool, "number": Decimal, "scalar": str | int, "raw": msgspec.Raw}


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
        for compiled in self._columns:
            table, errors = compiled.run(objects, settings)
            for row, path, message in errors:
                if row not in bad:
                    bad.add(row)
                    faults.append(Fault(int(kept[row]), compiled.mapping.record, path, message))
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
                faults.append(Fault(position, self.mappings[0].record, path.rstrip("`") or "$", message))
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
    table = pa.concat_tables(pieces)
    rows = np.asarray(table["_row"].to_numpy(), np.int64)
    order = np.argsort(rows, kind="stable") if len(pieces) > 1 else np.arange(len(rows))
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
        for key, edge in sorted(self.children.items(), key=lambda item: item[1].is_optional):
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


class _CompiledMapping:
    """Generated comprehensions, one per path, over the decoded objects."""

    def __init__(self, mapping: Mapping, trie: _Node) -> None:
        self.mapping = mapping
        _check_targets(mapping)
        self.levels = [trie]
        self.loops = "for i0, o0 in enumerate(objects)"
        self.scope: dict[str, Any] = {}
        for part in (p for p in mapping.each.split("[]") if p):
            self._descend(part.strip("."))
        self.rows = self._compile("i0")
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
        level = len(self.levels) - 1
        node, expression = self._walk(self.levels[-1], f"o{level}", part + "[]", None)
        name = f"list{level}"
        self.scope[name] = _evaluate(f"lambda o{level}: ({expression}) or ()", self.scope)
        self.loops += f" for o{level + 1} in {name}(o{level})"
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

    def _column(self, path: str, wire: str) -> Callable[[list[Any]], Column]:
        level = len(self.levels) - 1
        if path.startswith("$."):
            level, path = 0, path[2:]
        elif path.startswith("^."):
            level, path = level - 1, path[2:]
        _, expression = self._walk(self.levels[level], f"o{level}", path, _WIRE[wire])
        return self._compile(expression)

    def _compile(self, expression: str) -> Callable[[list[Any]], Column]:
        compiled: Callable[[list[Any]], Column] = _evaluate(f"lambda objects: [{expression} {self.loops}]", self.scope)
        return compiled

    def run(self, objects: list[Any], settings: Settings) -> tuple[pa.Table, list[tuple[int, str, str]]]:
        rows = np.asarray(self.rows(objects), np.int64)
        keep: list[int] | None = None
        if self.where is not None and self.mapping.where is not None:
            hits = self.mapping.where.convert.run([c(objects) for c in self.where], Report(settings)).to_pylist()
            keep = [i for i, hit in enumerate(hits) if hit]
            rows = rows[keep]
        record = RECORDS[self.mapping.record]
        arrays: dict[str, pa.Array] = {"_row": pa.array(rows, pa.int64())}
        errors: list[tuple[int, str, str]] = []
        for target, columns in zip(self.mapping.fields, self.columns, strict=True):
            report = Report(settings)
            values = [column(objects) for column in columns] or [[None] * len(rows if keep is None else self.rows(objects))]
            if keep is not None:
                values = [[column[i] for i in keep] for column in values]
            array = target.convert.run(values, report)
            declared = record.field(target.target)
            if declared.is_required and array.null_count:
                for row in np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False)).tolist():
                    report.error(row, f"{target.target} is required and absent")
            for row, (argument, message) in sorted(report.errors.items()):
                path = readable(self.mapping, target.paths[argument]) if target.paths else target.target
                errors.append((int(rows[row]), f"$.{path}", message))
            arrays[target.target] = array if array.type == ARROW[declared.kind] else array.cast(ARROW[declared.kind])
        for missing in record.columns:
            if missing.name not in arrays and missing.name != "line_no":
                arrays[missing.name] = pa.nulls(len(rows), ARROW[missing.kind])
        return pa.table({n: arrays[n] for n in ["_row", *(c.name for c in record.columns if c.name in arrays)]}), errors


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
        helper._walk(trie, "o", ".".join(f"{part}?" for part in path.rstrip("?").split(".")), str | int | float | None)[1]
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
