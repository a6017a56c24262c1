"""Payloads → nested Arrow columns of what the mappings look at, by one of two ways that yield the same.

Arrow's own JSON reader takes a whole chunk at once and leaves the interpreter to others meanwhile. Where anything about the chunk isn't plain,
msgspec decodes it payload by payload, which names the fault and its JSON path, and the others go on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from itertools import chain
from typing import Annotated, Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

WIRE: dict[str, tuple[Any, pa.DataType]] = {
    "str": (str, pa.string()),
    "int": (Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)], pa.int64()),
    "bool": (bool, pa.bool_()),
    "number": (Decimal, pa.string()),
    "scalar": (str | int, pa.string()),
    "any": (str | int | float, pa.null()),
}
"""JSON types that a value may have on the wire: how msgspec checks them, and as what they stand in a column.

A number stands as the decimal text of its digits, without an exponent; a scalar (text or integer) as its text. `any` is only for `extractor`.
"""
_NUMBER = r"(?:(?:0|-?[1-9][0-9]*)(?:\.[0-9]+)?|-0\.[0-9]+)"
"""Decimal texts that are written as `format(Decimal(text), "f")` writes them; msgspec reads the integer -0 as 0."""


class MappingError(ValueError):
    """A mapping that can't work: a required field is missing, mapped twice, or a path contradicts another one."""


@dataclass(frozen=True, slots=True)
class Step:
    """One key of a path; a list is walked."""

    key: str
    is_list: bool


class Node:
    """One object of the payload, as far as the mappings look into it."""

    def __init__(self) -> None:
        self.children: dict[str, Edge] = {}

    def add(self, path: str, wire: str | None, *, is_beside: bool = False) -> tuple[Node, tuple[Step, ...]]:
        """Add a path (`home?.lines[].price`) of a value, or of a list where `wire` is None: the node it ends in, and its steps.

        What is only read `is_beside` isn't demanded of a payload. Raises MappingError where it contradicts what has been added before.
        """
        node, steps = self, []
        parts = path.split(".")
        for number, part in enumerate(parts):
            key, is_list, is_optional = part.rstrip("[]").rstrip("?"), part.endswith("[]"), "?" in part
            edge = node.children.get(key)
            if edge is None:
                edge = node.children[key] = Edge(f"f{len(node.children)}", key, is_optional, is_list, is_beside)
            if edge.is_list != is_list:
                raise MappingError(f"{path}: {key} is a list in one path and none in another")
            if not is_beside:
                edge.is_optional |= is_optional
            if number == len(parts) - 1 and not is_list:
                edge.value(wire, path)
            else:
                node = edge.object(path)
            steps.append(Step(key, is_list))
        return node, tuple(steps)

    def struct(self, name: str) -> Any:
        """As msgspec decodes and checks it."""
        fields: list[Any] = []
        edges = [edge for edge in self.children.values() if not edge.is_beside]
        for edge in sorted(edges, key=lambda edge: edge.is_optional):
            wire: Any = edge.node.struct(f"{name}_{edge.attribute}") if edge.node else WIRE[edge.wire or "str"][0]
            wire = list[wire] if edge.is_list else wire
            fields.append((edge.attribute, wire | None, None) if edge.is_optional else (edge.attribute, wire))
        return msgspec.defstruct(name, fields, rename={edge.attribute: edge.key for edge in edges}, gc=False)

    def type(self) -> pa.StructType:
        """As a column of it is typed."""
        return pa.struct([(edge.key, edge.type()) for edge in self.children.values()])

    def column(self, objects: Sequence[Any]) -> pa.StructArray:
        """Decoded objects (None where there is none) as a column; what is only read beside is null."""
        if not self.children:
            return pa.array([None if one is None else {} for one in objects], pa.struct([]))
        columns = []
        for edge in self.children.values():
            name = edge.attribute
            columns.append(
                pa.nulls(len(objects), edge.type())
                if edge.is_beside
                else edge.column([None if one is None else getattr(one, name) for one in objects])
            )
        return pa.StructArray.from_arrays(columns, fields=list(self.type()), mask=_absent(objects))

    def is_whole(self, column: pa.StructArray) -> bool:
        """True where a column that Arrow read has all that msgspec would demand of it."""
        return all(edge.is_whole(column.field(edge.key), column.null_count) for edge in self.children.values())

    def edges(self) -> Iterator[Edge]:
        """All keys, at any depth."""
        for edge in self.children.values():
            yield edge
            if edge.node:
                yield from edge.node.edges()


class Edge:
    """A key of an object, and what stands there: a value of a wire type, an object, or a list of objects."""

    def __init__(self, attribute: str, key: str, is_optional: bool, is_list: bool, is_beside: bool) -> None:
        self.attribute = attribute
        self.key = key
        self.is_optional = is_optional or is_beside
        self.is_list = is_list
        self.is_beside = is_beside
        self.node: Node | None = None
        self.wire: str | None = None

    def object(self, path: str) -> Node:
        if self.wire is not None:
            raise MappingError(f"{path}: both a value and an object")
        if self.node is None:
            self.node = Node()
        return self.node

    def value(self, wire: str | None, path: str) -> None:
        if self.node is not None or (self.wire is not None and self.wire != wire):
            raise MappingError(f"{path}: its JSON type contradicts another field's ({self.wire} and {wire})")
        self.wire = wire

    def type(self) -> pa.DataType:
        kind = self.node.type() if self.node else WIRE[self.wire or "str"][1]
        return pa.list_(kind) if self.is_list else kind

    def column(self, values: list[Any]) -> pa.Array:
        if self.node is None:
            return leaf(values, self.wire or "str")
        if not self.is_list:
            return self.node.column(values)
        items = self.node.column(list(chain.from_iterable(value or () for value in values)))
        lengths = np.fromiter((len(value or ()) for value in values), np.int64, len(values))
        return pa.ListArray.from_arrays(_offsets(lengths), items, type=self.type(), mask=_absent(values))

    def is_whole(self, column: pa.Array, absent: int) -> bool:
        """`absent` is in how many rows there is no object that could have it."""
        if not self.is_optional and column.null_count != absent:
            return False
        if self.node is None:
            return self.wire != "number" or _all_plain(column)
        if not self.is_list:
            return self.node.is_whole(column)
        items = column.flatten()
        return items.null_count == 0 and self.node.is_whole(items)


def _absent(values: Sequence[Any]) -> pa.Array:
    return pa.array([value is None for value in values], pa.bool_())


def _offsets(lengths: np.ndarray[Any, Any]) -> pa.Array:
    return pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())


def _all_plain(texts: pa.Array) -> bool:
    return pc.all(pc.match_substring_regex(texts, f"^{_NUMBER}$"), min_count=0).as_py() is not False


# columns and lists of Python's values ---------------------------------------------------------------------------------------


def leaf(values: Sequence[Any], wire: str) -> pa.Array:
    """Values as msgspec decodes them, or lists of such, as a column."""
    if any(isinstance(value, list) for value in values):
        items = leaf(list(chain.from_iterable(value or () for value in values)), wire)
        lengths = np.fromiter((len(value or ()) for value in values), np.int64, len(values))
        return pa.ListArray.from_arrays(_offsets(lengths), items, mask=_absent(values))
    if wire == "number":
        values = [format(value, "f") if isinstance(value, Decimal) else value for value in values]
    elif wire == "scalar":
        values = [value if value is None else str(value) for value in values]
    return pa.array(values, WIRE[wire][1])


def as_list(column: pa.Array, wire: str) -> list[Any]:
    """A column as a list of Python's values; lists in it become lists."""
    if pa.types.is_list(column.type):
        flat = as_list(column.flatten(), wire)
        out: list[Any] = []
        start = 0
        for length in pc.list_value_length(column).to_pylist():
            out.append(None if length is None else flat[start : start + length])
            start += length or 0
        return out
    values: list[Any] = (
        column.to_numpy(zero_copy_only=False).tolist() if pa.types.is_string(column.type) else column.to_pylist()
    )
    return [None if value is None else Decimal(value) for value in values] if wire == "number" else values


def read(rows: pa.StructArray, steps: Sequence[Step]) -> pa.Array:
    """The column at a path of objects: null where an object above is absent; where lists are walked a list, empty for one that is absent."""
    column = rows
    for number, step in enumerate(steps):
        above, column = column, column.field(step.key)
        if step.is_list and number < len(steps) - 1:
            lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy()
            mask = above.is_null() if above.null_count else None
            return pa.ListArray.from_arrays(_offsets(lengths), read(column.flatten(), steps[number + 1 :]), mask=mask)
    return column


# payloads -------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Decoded:
    """The payloads that fit as a column of objects, their positions, and of the others (position, JSON path, message)."""

    rows: pa.StructArray
    kept: np.ndarray[Any, Any]
    faults: list[tuple[int, str, str]]
    has_beside: bool


class Decoder:
    """Reads payloads as far as a trie looks into them."""

    def __init__(self, root: Node) -> None:
        self.root = root
        self._object: msgspec.json.Decoder[Any] = msgspec.json.Decoder(root.struct("Payload"))
        leaves = [edge for edge in root.edges() if edge.node is None]
        numbers = {edge.key for edge in leaves if edge.wire == "number"}
        others = {edge.key for edge in leaves if edge.wire != "number"}
        can_quote = not numbers & others and all(re.fullmatch(r"\w+", key, re.ASCII) for key in numbers)
        self._options = (
            pj.ParseOptions(explicit_schema=pa.schema(list(root.type())), unexpected_field_behavior="ignore")
            if root.children and can_quote
            else None
        )
        self._numbers = rf'"({"|".join(sorted(numbers))})"(\s*:\s*)({_NUMBER})' if numbers else None

    def read(self, payloads: Sequence[bytes | str]) -> Decoded:
        """Decode a chunk; what is no JSON or doesn't fit is left out and named."""
        every = np.arange(len(payloads))
        texts = [_encoded(payload) for payload in payloads]
        lines = self._lines(texts)
        is_plain = all(text[:1] == b"{" and text[-1:] == b"}" for text in texts) and _is_utf8(lines)
        rows = self._columns(lines, len(texts)) if is_plain else None
        if rows is not None:
            return Decoded(rows, every, [], True)
        objects, kept, faults = self._objects(texts)
        if faults or not is_plain:
            good = [texts[position] for position in kept]
            rows = self._columns(self._lines(good), len(good))
        has_beside = rows is not None
        return Decoded(self.root.column(objects) if rows is None else rows, every[kept], faults, has_beside)

    def _lines(self, texts: Sequence[bytes]) -> pa.Buffer:
        data = b"\n".join([*texts, b""])
        return _quoted(data, self._numbers) if self._numbers else pa.py_buffer(data)

    def _columns(self, lines: pa.Buffer, size: int) -> pa.StructArray | None:
        """By Arrow, all payloads at once; None where it can't be sure of every one.

        Arrow doesn't tell which value came from which line. But each payload begins with { and ends with }, and no text goes over the end of
        a line, so after each line the reader is outside of all objects or refuses the next one: every line has at least one object. Where
        there are as many objects as lines, every line is one. (Of what nobody reads it lets NaN pass, which PostgreSQL's json doesn't hold.)
        """
        if self._options is None or not size or lines.size >= _LARGEST:
            return None
        try:
            table = pj.read_json(lines, pj.ReadOptions(False, lines.size + 1), self._options, _POOL)
        except pa.ArrowInvalid:
            return None
        if table.num_rows != size or table.column(0).num_chunks != 1:
            return None
        rows = pa.StructArray.from_arrays([c.chunk(0) for c in table.columns], fields=list(table.schema))
        return rows if self.root.is_whole(rows) else None

    def _objects(self, texts: Sequence[bytes]) -> tuple[list[Any], list[int], list[tuple[int, str, str]]]:
        objects: list[Any] = []
        kept: list[int] = []
        faults: list[tuple[int, str, str]] = []
        decode = self._object.decode
        for position, text in enumerate(texts):
            try:
                objects.append(decode(text))
                kept.append(position)
            except msgspec.ValidationError as error:
                message, _, path = str(error).partition(" - at `")
                faults.append((position, path.rstrip("`") or "$", message))
            except (msgspec.DecodeError, UnicodeError) as error:
                faults.append((position, "$", f"not JSON: {error}"))
        return objects, kept, faults


_LARGEST = 2**31 - 1
"""Bytes that Arrow reads as one block."""
_POOL = pa.system_memory_pool()
"""Chunk after chunk of the same size: Arrow's own pool gives the pages back each time, and they cost a sixth of the reading."""


def _encoded(payload: bytes | str) -> bytes:
    """A lone surrogate becomes what is no UTF-8, and so is refused where it is decoded."""
    return payload if isinstance(payload, bytes) else payload.encode(errors="surrogatepass")


def _one(data: pa.Buffer) -> pa.LargeBinaryArray:
    """A column of one value, which isn't copied."""
    ends = pa.py_buffer(np.array([0, data.size], np.int64))
    return pa.Array.from_buffers(pa.large_binary(), 1, [None, ends, data])


def _is_utf8(data: pa.Buffer) -> bool:
    try:
        _one(data).cast(pa.large_string())
    except pa.ArrowInvalid:
        return False
    return True


def _quoted(data: bytes, numbers: str) -> pa.Buffer:
    """Numbers of these keys as texts, so that Arrow keeps them digit by digit.

    Between the two quotes stands no other, so the second one can't be within a text: what matches is the end of a key and its number. A key
    that only ends like that (`a\\"rate`) is none of ours. What isn't JSON before isn't afterwards.
    """
    _, offsets, buffer = pc.replace_substring_regex(
        _one(pa.py_buffer(data)), numbers, r'"\1"\2"\3"', memory_pool=_POOL
    ).buffers()
    return buffer.slice(0, int(np.frombuffer(offsets, np.int64, 2)[1]))


@cache
def extractor(*paths: str) -> Callable[[bytes | str], tuple[Any, ...]]:
    """A function that reads a few scalar paths (`id`, `shop.id`) from one payload; absent ones are None; never raises."""
    root = Node()
    for path in paths:
        root.add(".".join(f"{part}?" for part in path.rstrip("?").split(".")), "any")
    decoder = msgspec.json.Decoder(root.struct("Keys"))
    expressions = [_expression(root, path.rstrip("?").split(".")) for path in paths]
    values = eval(f"lambda o: ({', '.join(expressions)},)", {"__builtins__": {}})  # noqa: S307 only names made up here

    def run(payload: bytes | str) -> tuple[Any, ...]:
        try:
            found: tuple[Any, ...] = values(decoder.decode(payload))
        except msgspec.DecodeError:
            return (None,) * len(paths)
        return found

    return run


def _expression(node: Node, keys: Sequence[str], variable: str = "o") -> str:
    edge = node.children[keys[0]]
    found = f"{variable}.{edge.attribute}"
    if edge.node is None:
        return found
    inner = f"{variable}_"
    return f"(None if ({inner} := {found}) is None else {_expression(edge.node, keys[1:], inner)})"
