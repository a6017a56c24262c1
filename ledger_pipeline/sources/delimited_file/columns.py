"""What all maps of a delimited file share: where a column stands in the landed document, and what the rows of a group have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from ledger_pipeline.connect.convert import constant, each, text
from ledger_pipeline.connect.mapping import Column, Converter, Field, Report, Where
from ledger_pipeline.sources.delimited_file.options import Cell
from ledger_pipeline.sources.delimited_file.table import key_of

STREAM = "records"
CURRENCY = "control.currency?"
Target = tuple[tuple[str, ...], Converter]
"""Paths and what is made of them."""


def _identified(columns: Sequence[Column], report: Report) -> pa.Array:
    for row, fault in enumerate(columns[1]):
        if fault is not None:
            report.error(row, fault, argument=1)
    return pa.array(columns[0], pa.string())


IDENTIFIED = Converter(
    "id, unless it is refused", ("str", "str"), _identified, "A group or file that can't be used is an error."
)
ID = Field("source_id", ("source_id?", "fault?"), IDENTIFIED)
PART_ID = Field("source_id", ("^.source_id?",), text)


def is_a(record: str) -> Where:
    """Documents of a record, and those that are refused."""
    return Where(
        ("record?", "fault?"),
        each(f"is a {record}", "Or is refused.", ("str", "str"), lambda r, f: r == record or f is not None, pa.bool_()),
    )


def only(record: str, up: str = "") -> Where:
    """Documents of a record that aren't refused; `up` is `^.` for what is read row by row."""
    return Where(
        (f"{up}record?", f"{up}fault?"),
        each(f"is a {record}", "And not refused.", ("str", "str"), lambda r, f: r == record and f is None, pa.bool_()),
    )


NEVER = Where(("record?",), each("never", "These files state no tax.", ("str",), lambda _: False, pa.bool_()))


def path_of(cell: Cell | str, inside: str = "rows[].") -> str:
    """Where a column's cells are in the document."""
    name = cell if isinstance(cell, str) else cell.column or ""
    return f"{inside}columns?.{key_of(name)}?"


def grouped(name: str, doc: str, wire: tuple[str, ...], function: Callable[..., Any], kind: pa.DataType) -> Converter:
    """A converter from a function of one document's columns, each a list with a value per row."""
    return each(name, doc, wire, function, kind)


def agreed(cell: Cell) -> Target:
    """A value that all rows of a group have in common."""
    if cell.column is None:
        return (), constant(cell.value or "", pa.string())
    return agreed_as(cell.column, "what all rows say", str, pa.string())


def agreed_as(column: str, name: str, parse: Callable[[str], Any], kind: pa.DataType) -> Target:
    """What a text means that all rows of a group have in common; absent where it is empty."""

    def one(lines: list[int], values: list[str | None]) -> Any:
        said = common(column, lines, values)
        try:
            return parse(said) if said else None
        except ValueError as error:
            raise ValueError(f"line {lines[0]}: {column}: {error}") from None

    return ("rows[].line", path_of(column)), grouped(name, "The rows of a group must agree.", ("int", "str"), one, kind)


def common(column: str, lines: Sequence[int], values: Sequence[str | None]) -> str:
    """The one text of a group's cells; raises ValueError that names the first row that differs."""
    if len(set(values)) > 1:
        odd = next(i for i, value in enumerate(values) if value != values[0])
        raise ValueError(f"line {lines[odd]}: {column} is {values[odd]!r}, in line {lines[0]} it is {values[0]!r}")
    return (values[0] or "").strip() if values else ""
