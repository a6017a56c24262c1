"""One workbook: a summary with all checks, then a sheet per statement. Numbers are numbers, dates are dates, text is never a formula.

Excel keeps 15 digits of a number; an amount with more is written as text, so that no digit is lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

from ledger_pipeline.reports.render.safe import is_dangerous, is_plain, printable
from ledger_pipeline.reports.statements.statement import Cell, Check, Link, Row, Scope, Statement

ROWS_PER_SHEET = 1_000_000
"""A sheet of Excel holds 1,048,576 rows; a longer ledger goes on on another."""
_DIGITS = 15
_LONGEST = 32_767
_HEAD_ROWS = 2
_WIDTHS = {"money": 17, "date": 12, "count": 11, "text": 22}
Styled = dict[tuple[int, object], Any]
"""Cells that are set anew in each row, by column and number format."""
_GREEN, _RED, _GREY = "FF1E6B36", "FFC00000", "FFEDEFF2"


def write(statements: Iterable[Statement], scope: Scope, path: Path) -> list[tuple[str, tuple[Check, ...]]]:
    """Names and checks of what was written; the workbook is streamed to disk."""
    from openpyxl import Workbook

    book = Workbook(write_only=True)
    summary = book.create_sheet("Summary")
    done = []
    try:
        for statement in statements:
            _sheets(book, statement)
            done.append(statement)
        _summary(summary, scope, done)
    except BaseException:
        for sheet in book.worksheets:
            sheet.close()
        raise
    book.save(path)
    return [(statement.name, statement.checks) for statement in done]


def _sheets(book: Any, statement: Statement) -> None:
    """As many sheets as the rows need, at least one."""
    sheet, left, number = _sheet(book, statement, 1), ROWS_PER_SHEET - _HEAD_ROWS, 1
    styled: Styled = {}
    for row in statement.rows:
        if not left:
            number += 1
            sheet, left = _sheet(book, statement, number), ROWS_PER_SHEET - _HEAD_ROWS
        sheet.append(_row(sheet, row, styled))
        left -= 1


def _sheet(book: Any, statement: Statement, number: int) -> Any:
    from openpyxl.utils import get_column_letter

    sheet = book.create_sheet(statement.title[:28] + (f" {number}" if number > 1 else ""))
    for at, column in enumerate(statement.columns, 1):
        sheet.column_dimensions[get_column_letter(at)].width = _WIDTHS[column.kind]
    sheet.freeze_panes = f"A{_HEAD_ROWS + 1}"
    sheet.page_setup.orientation = "landscape"
    sheet.page_setup.fitToWidth, sheet.page_setup.fitToHeight = 1, 0
    sheet.sheet_properties.pageSetUpPr.fitToPage = True
    sheet.print_title_rows = f"1:{_HEAD_ROWS}"
    ties = _made(sheet, "ties" if statement.ties else f"DOES NOT TIE: {'; '.join(statement.failures)}")
    ties.font = _font(bold=True, color=_GREEN if statement.ties else _RED)
    title = _made(sheet, f"{statement.title}: {statement.scope.entity_name}, {statement.dates}")
    title.font = _font(bold=True)
    sheet.append([title, ties])
    sheet.append([_styled(_made(sheet, column.title), is_bold=True) for column in statement.columns])
    return sheet


def _row(sheet: Any, row: Row, styled: Styled) -> list[Any]:
    if row.style == "line":
        return [_quick(sheet, at, cell, styled) for at, cell in enumerate(row.cells)]
    return [_styled(_made(sheet, cell), is_bold=True) for cell in row.cells]


def _quick(sheet: Any, at: int, cell: Cell, styled: Styled) -> Any:
    """As `_made`, several times faster on a long ledger: plain values as they are, and a column's numbers and dates in one cell
    object, which openpyxl has written out before the next row sets it."""
    value = cell.value if isinstance(cell, Link) else cell
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, str):
        return value if is_plain(value) and value.isprintable() and len(value) <= _LONGEST else _made(sheet, value)
    if isinstance(value, Decimal):
        if len(value.as_tuple().digits) > _DIGITS:
            return _made(sheet, value)
        key: tuple[int, object] = at, value.as_tuple().exponent
    else:
        key = at, "date"
    made = styled.get(key)
    if made is None:
        made = styled[key] = _made(sheet, value)
    else:
        made.value = value
    return made


def _summary(sheet: Any, scope: Scope, statements: Sequence[Statement]) -> None:
    for letter, width in zip("ABCD", (30, 70, 14, 24), strict=True):
        sheet.column_dimensions[letter].width = width
    for line in _about(scope, statements):
        sheet.append([_made(sheet, cell) for cell in line])
    sheet.append([])
    sheet.append(
        [_styled(_made(sheet, title), is_bold=True) for title in ("Statement", "Check", "Holds", "Difference")]
    )
    for statement in statements:
        for check in statement.checks:
            cells = [
                _made(sheet, c) for c in (statement.title, check.name, "yes" if check.holds else "NO", check.difference)
            ]
            if not check.holds:
                for cell in cells:
                    cell.font = _font(bold=True, color=_RED)
            sheet.append(cells)


def _about(scope: Scope, statements: Sequence[Statement]) -> Iterator[tuple[Cell, Cell]]:
    yield "Entity", f"{scope.entity_name} ({scope.entity})"
    yield "Base currency", scope.base_currency
    yield "From", scope.first
    yield "To", scope.last
    yield "Made at", f"{scope.made_at:%Y-%m-%d %H:%M:%S %Z}"
    for period in statements[0].periods if statements else ():
        yield f"Period {period.month:%Y-%m}", period.state


def _made(sheet: Any, cell: Cell) -> Any:
    """A cell of the right type: what is text here stays text there."""
    from openpyxl.cell import WriteOnlyCell

    value = cell.value if isinstance(cell, Link) else cell
    if isinstance(value, Decimal) and len(value.as_tuple().digits) <= _DIGITS:
        made = WriteOnlyCell(sheet, value)
        made.number_format = _number_format(value)
        return made
    if isinstance(value, date):
        made = WriteOnlyCell(sheet, value)
        made.number_format = "yyyy-mm-dd"
        return made
    if isinstance(value, int):
        return WriteOnlyCell(sheet, value)
    made = WriteOnlyCell(sheet)
    if value is not None:
        text = printable(format(value, "f") if isinstance(value, Decimal) else value)[:_LONGEST]
        made.value = text
        made.data_type = "s"  # openpyxl takes a leading = for a formula
        if is_dangerous(text):
            made.quotePrefix = True
    return made


def _number_format(value: Decimal) -> str:
    exponent = value.as_tuple().exponent
    digits = -exponent if isinstance(exponent, int) else 0
    return "#,##0" + ("." + "0" * digits if digits > 0 else "")


def _styled(cell: Any, *, is_bold: bool) -> Any:
    from openpyxl.styles import PatternFill

    cell.font = _font(bold=is_bold)
    cell.fill = PatternFill("solid", fgColor=_GREY)
    return cell


def _font(**how: Any) -> Any:
    from openpyxl.styles import Font

    return Font(**how)
