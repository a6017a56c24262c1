"""Reads the files of a sync date and yields one document per group of rows, every cell as it stands in the file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any

import msgspec

from ledger_pipeline.connect.banking import line_id
from ledger_pipeline.connect.files import Delivered, deliveries
from ledger_pipeline.connect.source import Request
from ledger_pipeline.model.money import DIGITS, from_minor, to_minor
from ledger_pipeline.sources.delimited_file.options import (
    BankMap,
    Cell,
    DelimitedFileOptions,
    DocumentMap,
    PayRunMap,
    SaleMap,
    day_of,
    matches,
    number,
)
from ledger_pipeline.sources.delimited_file.table import MalformedFile, Row, key_of
from ledger_pipeline.sources.delimited_file.table import read as read_table

PAGE = 5_000
_encode = msgspec.json.Encoder().encode
_number = lru_cache(maxsize=65_536)(number)


def read(request: Request) -> Iterator[Sequence[bytes]]:
    """Documents in pages. What can't be used is a document with a `fault`, so that it gets its fate."""
    options: DelimitedFileOptions = request.options
    request.notes["rows"] = request.notes["repeated_rows"] = 0
    placed: dict[str, tuple[str, list[Any]]] = {}
    for file in deliveries(request, options.folder, options.pattern):
        found = [_encode(d) for d in _documents(request, file, options) if not _is_placed(request, d, file, placed)]
        for start in range(0, len(found), PAGE):
            request.pages += 1
            yield found[start : start + PAGE]


def _is_placed(
    request: Request, found: dict[str, Any], file: Delivered, placed: dict[str, tuple[str, list[Any]]]
) -> bool:
    """True for what an earlier file of this pull says in the same words; the same record with other rows is refused."""
    rows = [row.get("columns", row.get("cells")) for row in found["rows"]]
    name, before = placed.setdefault(found["source_id"], (file.name, rows))
    if name == file.name:
        return False
    if before == rows or found["record"] == "bank_transaction":
        request.repeated += 1
        return True
    line = found["rows"][0]["line"] if found["rows"] else 1
    found["fault"] = f"{file.name}, line {line}: {found['source_id']} stands in {name} too, with other rows"
    found["source_id"] = f"{found['source_id']}@{file.name}"
    return False


def _documents(request: Request, file: Delivered, options: DelimitedFileOptions) -> Iterator[dict[str, Any]]:
    try:
        names, rows = read_table(file.name, file.content, options)
        listed = list(rows)
    except MalformedFile as error:
        yield {
            "record": options.map.record, "source_id": f"file:{file.name}", "file": file.sha256, "rows": [],
            "units": error.rows, "control": {"currency": options.map.currency.value}, "fault": f"{file.name}, {error}",
        }  # fmt: skip
        return
    request.notes["rows"] += len(listed)
    table = _Table(file, names, [key_of(name) for name in names])
    if isinstance(options.map, BankMap):
        yield from _bank_lines(table, listed, options.map)
    else:
        yield from _groups(request, table, listed, options.map)


class _Table:
    """A file's columns and how a row of it is landed."""

    def __init__(self, file: Delivered, names: list[str], keys: list[str]) -> None:
        self.file = file
        self.at = {name: position for position, name in enumerate(names)}
        self.keys = keys
        self.width = len(names)

    def cell(self, row: Row, column: str) -> str:
        return row.cells[self.at[column]]

    def get(self, cell: Cell) -> Callable[[Row], str]:
        """A function that reads a row's value, fixed or from a column."""
        if cell.column is None:
            fixed = cell.value or ""
            return lambda row: fixed
        position = self.at[cell.column]
        return lambda row: row.cells[position]

    def landed(self, row: Row) -> dict[str, Any]:
        if len(row.cells) == self.width:
            return {"line": row.line, "columns": dict(zip(self.keys, row.cells, strict=True))}
        return {"line": row.line, "cells": row.cells}

    def fault(self, row: Row, reason: str) -> str:
        return f"{self.file.name}, line {row.line}: {reason}"

    def ragged(self, row: Row) -> str | None:
        if len(row.cells) == self.width:
            return None
        first = min(len(row.cells), self.width) + 1
        found = f"{len(row.cells)} columns where the header has {self.width}"
        return f"{self.file.name}, line {row.line}, column {first}: {found}"


def _groups(
    request: Request, table: _Table, rows: list[Row], options: SaleMap | DocumentMap
) -> Iterator[dict[str, Any]]:
    *whose, number_at = [table.at[column] for column in options.group_columns()]
    groups: dict[str, list[Row]] = {}
    for row in rows:
        cells = ["" if at >= len(row.cells) else row.cells[at].strip() for at in (*whose, number_at)]
        group = "/".join(cell for cell in cells if cell) if cells[-1] else f"line:{row.line}"
        groups.setdefault(group, []).append(row)
    for group, members in groups.items():
        request.notes["repeated_rows"] += len(members) - len({tuple(row.cells) for row in members})
        yield _group(table, group, members, options)


def _group(table: _Table, group: str, rows: list[Row], options: SaleMap | DocumentMap) -> dict[str, Any]:
    fault = next((said for row in rows if (said := table.ragged(row))), None)
    record: str = options.record
    source_id, control = group, {"currency": options.currency.value}
    if fault is None:
        try:
            record, source_id, control = _decide(table, group, rows, options)
        except _Refused as refused:
            fault = table.fault(refused.row, refused.reason)
            control = _control(table, rows, options)
    found: dict[str, Any] = {
        "record": record, "source_id": source_id, "file": table.file.sha256,
        "rows": [table.landed(row) for row in rows], "units": len(rows), "control": control,
    }  # fmt: skip
    if fault is not None:
        found["fault"] = fault
    return found


class _Refused(Exception):
    def __init__(self, row: Row, reason: str) -> None:
        self.row = row
        self.reason = reason


def _decide(
    table: _Table, group: str, rows: list[Row], options: SaleMap | DocumentMap
) -> tuple[str, str, dict[str, Any]]:
    """(what it is, its id, its control figure), or _Refused."""
    if group.startswith("line:") and not table.cell(rows[0], options.group_by).strip():
        raise _Refused(rows[0], f"{options.group_by} is empty, so it isn't known what the row belongs to")
    _refuse(table, rows, options)
    record: str = options.record
    if isinstance(options, SaleMap) and options.refund_when is not None:
        verdicts = [_matches(table, row, options.refund_when, options) for row in rows]
        if any(verdicts) and not all(verdicts):
            odd = rows[verdicts.index(not verdicts[0])]
            raise _Refused(odd, f"by {options.refund_when.column} some rows of {group} are a refund and others are not")
        record = "refund" if verdicts[0] else "sale"
    source_id = group
    if options.columns.source_id is not None and options.columns.source_id != options.group_by:
        source_id = _agreed(table, rows, Cell(column=options.columns.source_id)) or group
    if options.currency.column is not None and not _agreed(table, rows, options.currency):
        raise _Refused(rows[0], f"{options.currency.column} is empty, so the currency isn't known")
    return record, source_id, _control(table, rows, options)


def _refuse(table: _Table, rows: list[Row], options: SaleMap | DocumentMap | BankMap) -> None:
    for refusal in options.refuse_when:
        for row in rows:
            if _matches(table, row, refusal, options):
                raise _Refused(row, refusal.reason)


def _matches(table: _Table, row: Row, condition: Any, options: SaleMap | DocumentMap | BankMap) -> bool:
    try:
        return matches(condition, table.cell(row, condition.column), options.numbers)
    except ValueError as error:
        raise _Refused(row, f"{condition.column}: {error}") from None


def _agreed(table: _Table, rows: list[Row], cell: Cell) -> str:
    """The value that all rows of a group have in common."""
    get = table.get(cell)
    value = get(rows[0]).strip()
    for row in rows:
        if get(row).strip() != value:
            raise _Refused(
                row, f"{cell.column} is {get(row)!r} here and {value!r} in line {rows[0].line} of the same group"
            )
    return value


def _control(table: _Table, rows: list[Row], options: SaleMap | DocumentMap) -> dict[str, Any]:
    """What the rows are worth, unrounded; without an amount where a row isn't numeric or the currencies differ."""
    currency = table.get(options.currency)
    code = currency(rows[0]).strip().upper()
    worth = _worth(table, options)
    try:
        total = sum((worth(row) for row in rows), Decimal(0))
    except ValueError:
        return {"currency": code}
    if options.currency.column is not None and any(currency(row).strip().upper() != code for row in rows):
        return {"currency": None}
    return {"amount": format(total, "f"), "currency": code}


def _worth(table: _Table, options: SaleMap | DocumentMap) -> Callable[[Row], Decimal]:
    """quantity × unit price; amount and tax; of a pay run what is debited."""
    numbers = options.numbers
    if isinstance(options, SaleMap):
        quantity, price = table.get(options.columns.quantity), table.get(options.columns.unit_price)
        return lambda row: _number(quantity(row), numbers) * _number(price(row), numbers)
    amount = table.get(Cell(column=options.columns.amount))
    if isinstance(options, PayRunMap):
        return lambda row: max(_number(amount(row), numbers), Decimal(0))
    tax = table.get(Cell(column=options.columns.tax) if options.columns.tax else Cell(value="0"))
    return lambda row: _number(amount(row), numbers) + _number(tax(row).strip() or "0", numbers)


def _bank_lines(table: _Table, rows: list[Row], options: BankMap) -> Iterator[dict[str, Any]]:
    counted: Counter[str] = Counter()
    for row in rows:
        found: dict[str, Any] = {
            "record": "bank_transaction", "source_id": f"{table.file.name}:{row.line}", "file": table.file.sha256,
            "rows": [table.landed(row)], "units": 1, "control": {"currency": options.currency.value},
        }  # fmt: skip
        fault = table.ragged(row)
        if fault is None:
            try:
                found |= _bank_line(table, row, options, counted)
            except _Refused as refused:
                fault = table.fault(row, refused.reason)
            except ValueError as error:
                fault = table.fault(row, str(error))
        if fault is not None:
            found["fault"] = fault
        yield found


def _bank_line(table: _Table, row: Row, options: BankMap, counted: Counter[str]) -> dict[str, Any]:
    _refuse(table, [row], options)
    columns = options.columns
    account = table.get(options.account)(row).strip()
    currency = table.get(options.currency)(row).strip().upper()
    if not account or currency not in DIGITS:
        raise ValueError(
            "the account is empty" if not account else f"unknown currency {currency!r} (not an active ISO 4217 code)"
        )
    stated = number(table.get(columns.amount)(row), options.numbers)
    amount = format(from_minor(to_minor(stated if options.sign == "in_positive" else -stated, currency), currency), "f")
    booked_on = day_of(table.cell(row, columns.date.column), columns.date).isoformat()
    description = " ".join(table.cell(row, columns.description).split())
    reference = table.cell(row, columns.reference).strip() or None if columns.reference else None
    return {
        "source_id": line_id(account, booked_on, amount, currency, description, reference, counted),
        "control": {"amount": amount, "currency": currency},
        "account_id": account,
        "booked_on": booked_on,
        "amount": amount,
        "description": description,
        "reference": reference,
    }
