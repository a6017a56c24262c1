"""The rows of a group as invoice, bill or pay run, by the map that ledger.yaml declares; a stated total must be what the rows add up to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import pyarrow as pa

from ledger_pipeline.connect.convert import constant, currency, each, text
from ledger_pipeline.connect.mapping import Field, Mapping, Where
from ledger_pipeline.model.money import MoneyError, from_minor, to_minor
from ledger_pipeline.sources.delimited_file.columns import (
    CURRENCY,
    ID,
    NEVER,
    PART_ID,
    STREAM,
    Target,
    agreed,
    agreed_as,
    common,
    grouped,
    is_a,
    only,
    path_of,
)
from ledger_pipeline.sources.delimited_file.options import (
    BillColumns,
    BillMap,
    Cell,
    Day,
    DocumentMap,
    InvoiceColumns,
    InvoiceMap,
    Numbers,
    PayRunColumns,
    PayRunMap,
    day_of,
    number,
)

PAYABLE, WAGES = "wages_payable", "wages"
Minor = Callable[[str | None, str | None], int]
"""(cell, currency) → minor units."""


def document_mappings(options: DocumentMap) -> tuple[Mapping, ...]:
    """The record and its parts; the tax part exists, and is empty where no column states a tax."""
    if isinstance(options, PayRunMap):
        return _pay_run(options), _pay_run_lines(options)
    return _head(options), _lines(options), _taxes(options)


# invoices and bills ------------------------------------------------------------


def _head(options: InvoiceMap | BillMap) -> Mapping:
    columns = options.columns
    known = {"reduces": columns.reduces}
    if isinstance(columns, InvoiceColumns):
        known["customer_id"] = columns.customer_id
    elif isinstance(columns, BillColumns):
        known["supplier_id"] = columns.supplier_id
    fields = [
        ID,
        Field("number", *agreed(Cell(column=options.group_by))),
        Field("issued_on", *_day(columns.issued_on)),
        *([Field("due_on", *_day(columns.due_on))] if columns.due_on else []),
        Field("state", *_state(options)),
        *(Field(target, *agreed(Cell(column=column))) for target, column in known.items() if column),
        Field("currency", (CURRENCY,), currency),
        Field("total_minor", *_sum(options.numbers, columns.total, columns.amount, columns.tax)),
    ]
    return Mapping(options.record, STREAM, where=is_a(options.record), fields=tuple(fields))


def _lines(options: InvoiceMap | BillMap) -> Mapping:
    return Mapping(
        f"{options.record}_line", STREAM, each="rows[]", where=only(options.record, "^."),
        fields=(
            PART_ID,
            Field("role", *_role(options, options.columns.code)),
            Field("currency", (f"^.{CURRENCY}",), currency),
            Field("net_minor", *_amount(options.numbers, options.columns.amount)),
        ),
    )  # fmt: skip


def _taxes(options: InvoiceMap | BillMap) -> Mapping:
    column = options.columns.tax
    amount: Target = (), constant(0, pa.int64())
    where = NEVER
    if column is not None:
        amount = _amount(options.numbers, column)
        where = _has_amount(options, column)
    up = "" if column is None else "^."
    fields = [
        Field("source_id", (f"{up}source_id?",), text),
        Field("currency", (f"{up}{CURRENCY}",), currency),
        Field("amount_minor", *amount),
    ]
    if isinstance(options, InvoiceMap):
        jurisdiction = options.columns.jurisdiction or Cell(value="none")
        fields += [
            Field("jurisdiction", *_cell(jurisdiction, "text", "Whom the tax is owed to.", str.strip)),
            Field("role", *_cell(jurisdiction, "sales_tax_payable:{jurisdiction}", "Whom it is owed to.", _tax_role)),
        ]
    else:
        fields.append(Field("role", (), constant("input_tax", pa.string())))
    each_row = "" if column is None else "rows[]"
    return Mapping(f"{options.record}_tax", STREAM, each=each_row, where=where, fields=tuple(fields))


def _tax_role(jurisdiction: str) -> str | None:
    return f"sales_tax_payable:{jurisdiction.strip()}" if jurisdiction.strip() else None


def _has_amount(options: InvoiceMap | BillMap, column: str) -> Where:
    def keeps(kind: str | None, fault: str | None, cell: str | None) -> bool:
        return kind == options.record and fault is None and _value(cell or "0", options.numbers) != 0

    converter = each("a row with a tax", "Of a document that isn't refused.", ("str", "str", "str"), keeps, pa.bool_())
    return Where(("^.record?", "^.fault?", path_of(column, "")), converter)


# pay runs ------------------------------------------------------------


def _pay_run(options: PayRunMap) -> Mapping:
    columns = options.columns
    return Mapping(
        "pay_run", STREAM, where=is_a("pay_run"),
        fields=(
            ID,
            Field("paid_on", *_day(columns.paid_on)),
            Field("state", *_state(options)),
            Field("currency", (CURRENCY,), currency),
            Field("gross_minor", *_pay(options, columns.gross, WAGES, 1)),
            Field("net_minor", *_pay(options, columns.net, PAYABLE, -1)),
        ),
    )  # fmt: skip


def _pay_run_lines(options: PayRunMap) -> Mapping:
    columns = options.columns
    department = [Field("department", (path_of(columns.department, ""),), text)] if columns.department else []
    return Mapping(
        "pay_run_line", STREAM, each="rows[]", where=only("pay_run", "^."),
        fields=(
            PART_ID,
            Field("role", *_role(options, columns.code)),
            *department,
            Field("currency", (f"^.{CURRENCY}",), currency),
            Field("amount_minor", *_amount(options.numbers, columns.amount)),
        ),
    )  # fmt: skip


def _pay(options: PayRunMap, stated: str | None, role: str, sign: int) -> Target:
    """What the rows on a role add up to, with every row's sum zero; a stated net must be that, a stated gross is taken as it is."""
    columns, minor = options.columns, _minor(options.numbers)

    def pay(
        lines: list[int],
        code: str | None,
        amounts: list[str | None],
        codes: list[str | None],
        *given: list[str | None],
    ) -> int:
        found = of_role = 0
        for line, amount, word in zip(lines, amounts, codes, strict=True):
            with_line = _naming(line)
            value = with_line(minor, amount, code)
            found += value
            if with_line(options.role_of, (word or "").strip()).partition(":")[0] == role:
                of_role += sign * value
        if found:
            raise ValueError(f"line {lines[0]}: the rows add up to {_written(found, code)}, not to zero")
        if not given:
            return of_role
        said: int = _naming(lines[0])(minor, common(stated or "", lines, given[0]), code)
        if role == PAYABLE and said != of_role:
            told = f"{stated} is {_written(said, code)}, the rows on {role} add up to {_written(of_role, code)}"
            raise ValueError(f"line {lines[0]}: {told}")
        return said

    paths = [path_of(column) for column in (columns.amount, columns.code, *([stated] if stated else []))]
    doc = f"Σ of the rows on {role}, exact; all rows sum to zero."
    converter = grouped(f"sum on {role}", doc, ("int", "str", *("str",) * len(paths)), pay, pa.int64())
    return ("rows[].line", CURRENCY, *paths), converter


# figures, days, roles ------------------------------------------------------------

_value = lru_cache(maxsize=65_536)(number)


def _minor(numbers: Numbers) -> Minor:
    """Exact, or an error with the figure."""

    def minor(cell: str | None, code: str | None) -> int:
        try:
            return to_minor(_value(cell or "", numbers), code or "")
        except MoneyError as error:
            raise ValueError(str(error)) from None

    return minor


def _written(minor: int, code: str | None) -> str:
    return f"{from_minor(minor, code or ''):f} {code}"


def _naming(line: int) -> Callable[..., Any]:
    """Calls a function; its ValueError names the line."""

    def run(function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except ValueError as error:
            raise ValueError(f"line {line}: {error}") from None

    return run


def _sum(numbers: Numbers, stated: str | None, amount: str, tax: str | None) -> Target:
    """Σ amount + tax of a group's rows; a stated total must be that."""
    columns = [amount, *([tax] if tax else [])]
    minor = _minor(numbers)

    def total(lines: list[int], code: str | None, *given: list[str | None]) -> int:
        result = 0
        for line, net, *taxes in zip(lines, *given[: len(columns)], strict=True):
            result += _naming(line)(minor, net, code)
            result += sum(_naming(line)(minor, cell, code) for cell in taxes if (cell or "").strip())
        if stated is not None:
            said = _naming(lines[0])(minor, common(stated, lines, given[-1]), code)
            if said != result:
                raise ValueError(
                    f"line {lines[0]}: {stated} is {_written(said, code)}, the rows add up to {_written(result, code)}"
                )
        return result

    paths = [path_of(column) for column in (*columns, *([stated] if stated else []))]
    doc = "Σ amount + tax, exact in the currency's minor unit or an error that names the row; a stated total must be that."
    converter = grouped("sum of the rows", doc, ("int", "str", *("str",) * len(paths)), total, pa.int64())
    return ("rows[].line", CURRENCY, *paths), converter


def _amount(numbers: Numbers, column: str) -> Target:
    minor = _minor(numbers)
    return (path_of(column, ""), f"^.{CURRENCY}"), each(
        "exact amount", "As the file writes numbers.", ("str", "str"), minor, pa.int64()
    )


def _day(day: Day) -> Target:
    return agreed_as(day.column, f"date as {day.format}", lambda said: day_of(said, day), pa.date32())


def _state(options: DocumentMap) -> Target:
    column = options.columns.state
    if column is None:
        return (), constant("posted", pa.string())
    return agreed_as(column, "posted, draft or void", options.state_of, pa.string())


def _role(options: DocumentMap, column: str | None) -> Target:
    if column is None:
        return (), constant(options.role_of(""), pa.string())
    return _cell(Cell(column=column), "role by code", "ledger.yaml: roles.", lambda code: options.role_of(code.strip()))


def _cell(cell: Cell, name: str, doc: str, function: Callable[[str], str | None]) -> Target:
    """What a row's own value means, or one that is fixed."""
    if cell.column is None:
        return (), constant(function(cell.value or "") or "", pa.string())
    return (path_of(cell, ""),), each(name, doc, ("str",), lambda said: function(said or "") or None, pa.string())


# what the printed mapping shows ------------------------------------------------------------

_DOCUMENT: dict[str, Any] = {
    "issued_on": Day(column="date"),
    "due_on": Day(column="due"),
    "amount": "net",
    "tax": "tax",
    "code": "account",
    "reduces": "credits",
}
_EUR = Cell(value="EUR")
EXAMPLES: Sequence[DocumentMap] = (
    InvoiceMap(
        record="invoice", group_by="number", currency=_EUR,
        columns=InvoiceColumns(**_DOCUMENT, customer_id="customer", jurisdiction=Cell(column="tax_country")),
    ),
    BillMap(record="bill", group_by="number", currency=_EUR, columns=BillColumns(**_DOCUMENT, supplier_id="supplier")),
    PayRunMap(
        record="pay_run", group_by="run", currency=_EUR, default_role="wages",
        columns=PayRunColumns(paid_on=Day(column="paid_on"), amount="amount", code="account", department="department"),
    ),
)  # fmt: skip
"""A connection's own columns take their place."""
