"""CSV by RFC 4180: UTF-8, commas, CRLF, text in quotes, numbers plain with a point. Headings and totals are told by the first column."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Protocol

from ledger_pipeline.reports.render.safe import neutralised
from ledger_pipeline.reports.statements.statement import Cell, Check, Link, Statement


class Checked(Protocol):
    """A statement's name and checks."""

    @property
    def name(self) -> str:
        """As in STATEMENTS."""

    @property
    def checks(self) -> tuple[Check, ...]:
        """All of them."""


def write(statement: Statement, path: Path) -> None:
    """The statement's columns after one that says what a row is: heading, line or total."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC)
        writer.writerow(["Row", *(column.title for column in statement.columns)])
        for row in statement.rows:
            writer.writerow([row.style, *map(_cell, row.cells)])


def write_checks(written: Iterable[Checked], path: Path) -> None:
    """Every check of every statement."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC)
        writer.writerow(["Statement", "Check", "Holds", "Difference"])
        for one in written:
            for check in one.checks:
                writer.writerow([one.name, check.name, "yes" if check.holds else "NO", neutralised(check.difference)])


def _cell(cell: Cell) -> object:
    if isinstance(cell, Link):
        return _cell(cell.value)
    if isinstance(cell, Decimal | int):
        return cell
    if isinstance(cell, date):
        return cell.isoformat()
    return neutralised(cell or "")
