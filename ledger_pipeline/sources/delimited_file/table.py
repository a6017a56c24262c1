"""Rows of a delimited or Excel file as text, each with its first line; what isn't right is named by line and column."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Any

from ledger_pipeline.sources.delimited_file.options import DelimitedFileOptions

_UNPACKED_LIMIT = 1024 * 1024 * 1024
_PATH = str.maketrans(".?[]", "____")


class MalformedFile(ValueError):
    """The file as a whole can't be read: encoding, header, quotes. `rows` is how many rows it seems to have."""

    def __init__(self, message: str, rows: int = 1) -> None:
        super().__init__(message)
        self.rows = rows


@dataclass(frozen=True, slots=True)
class Row:
    """`cells` in the order of the header; fewer or more of them is a ragged row."""

    line: int
    cells: list[str]


def key_of(column: str) -> str:
    """A column's name as a key of the landed document: the characters that JSON paths use become `_`."""
    return column.translate(_PATH)


def read(name: str, content: bytes, options: DelimitedFileOptions) -> tuple[list[str], Iterator[Row]]:
    """(column names, rows without the header); raises MalformedFile, at the latest while the rows are walked."""
    is_excel = name.lower().endswith((".xlsx", ".xlsm"))
    rows = _excel(content, options.sheet) if is_excel else _delimited(name, content, options)
    if isinstance(options.header, tuple):
        names, line = list(options.header), 0
    else:
        first = next(rows, None)
        if first is None:
            raise MalformedFile("line 1: the file is empty, it has no header")
        names, line = [cell.strip() for cell in first.cells], first.line
    _check_header(names, line, options.map.names(), rows)
    return names, rows


def _check_header(names: list[str], line: int, wanted: list[str], rows: Iterator[Row]) -> None:
    where = f"line {line}" if line else "header in ledger.yaml"
    keys = [key_of(name) for name in names]
    for position, name in enumerate(names, start=1):
        if name and keys[position - 1] in keys[: position - 1]:
            raise MalformedFile(f"{where}, column {position}: {name!r} stands twice", _count(rows))
    for name in wanted:
        if name not in names:
            raise MalformedFile(
                f"{where}: there is no column {name!r}; the columns are {', '.join(names)[:300]}", _count(rows)
            )


def _count(rows: Iterator[Row]) -> int:
    return max(1, sum(1 for _ in rows))


def _delimited(name: str, content: bytes, options: DelimitedFileOptions) -> Iterator[Row]:
    try:
        text = content.decode(options.encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        line, column = before.count(b"\n") + 1, error.start - (before.rfind(b"\n") + 1) + 1
        raise MalformedFile(
            f"line {line}, column {column}: byte 0x{content[error.start]:02X} is no {options.encoding}",
            max(1, content.count(b"\n") - 1),
        ) from None
    delimiter = options.delimiter or ("\t" if name.lower().endswith((".tsv", ".tab")) else ",")
    return _parsed(text, delimiter)


def _parsed(text: str, delimiter: str) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    line = 1
    try:
        for cells in reader:
            if cells:
                yield Row(line, cells)
            line = reader.line_num + 1
    except csv.Error as error:
        raise MalformedFile(f"line {line}: {error}", max(1, text.count("\n") - 1)) from None


def _excel(content: bytes, sheet: str | None) -> Iterator[Row]:
    from openpyxl import load_workbook
    from openpyxl.utils.exceptions import InvalidFileException

    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            unpacked = sum(part.file_size for part in archive.infolist())
        if unpacked > _UNPACKED_LIMIT:
            raise MalformedFile(f"it unpacks to {unpacked} bytes, more than {_UNPACKED_LIMIT}")
        book = load_workbook(io.BytesIO(content), read_only=True, data_only=True, keep_links=False)
    except (zipfile.BadZipFile, InvalidFileException, KeyError) as error:
        raise MalformedFile(f"it is no Excel workbook: {error}") from None
    if sheet is not None and sheet not in book.sheetnames:
        raise MalformedFile(f"there is no sheet {sheet!r}; the sheets are {', '.join(book.sheetnames)}")
    page = book[sheet] if sheet else book.worksheets[0]
    return _cells(page)


def _cells(page: Any) -> Iterator[Row]:
    width = 0
    for line, values in enumerate(page.iter_rows(values_only=True), start=1):
        cells = [_text(value) for value in values]
        while cells and not cells[-1]:
            cells.pop()
        width = width or len(cells)
        if cells:
            yield Row(line, cells + [""] * (width - len(cells)))


def _text(value: Any) -> str:
    """A cell's value: numbers as the shortest text that means them, days without a time as YYYY-MM-DD."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, datetime):
        return value.date().isoformat() if value.time() == time() else value.isoformat(sep=" ")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
    return str(value)
