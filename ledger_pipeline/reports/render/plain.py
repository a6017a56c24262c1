"""JSON: one object per statement; amounts are decimal text, cells stand in the order of the columns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ledger_pipeline.reports.statements.statement import Cell, Link, Row, Statement


def write(statement: Statement, path: Path) -> None:
    """The head first, then the rows, one a line."""
    head = json.dumps(about(statement), ensure_ascii=False, indent=2)
    with path.open("w", encoding="utf-8") as file:
        file.write(head.removesuffix("\n}") + ',\n  "rows": [')
        for number, row in enumerate(statement.rows):
            file.write(("," if number else "") + "\n    " + json.dumps(_row(row), ensure_ascii=False))
        file.write("\n  ]\n}\n")


def about(statement: Statement) -> dict[str, Any]:
    """Everything but the rows."""
    scope = statement.scope
    return {
        "statement": statement.name,
        "title": statement.title,
        "entity": scope.entity,
        "entity_name": scope.entity_name,
        "base_currency": scope.base_currency,
        "first": str(scope.first),
        "last": str(scope.last),
        "made_at": scope.made_at.isoformat(),
        "ties": statement.ties,
        "checks": [{"name": c.name, "holds": c.holds, "difference": c.difference} for c in statement.checks],
        "periods": [{"month": f"{p.month:%Y-%m}", "state": p.state} for p in statement.periods],
        "totals": {t.name: {"amount": f"{t.amount:f}", "currency": t.currency} for t in statement.totals},
        "notes": list(statement.notes),
        "columns": [{"title": c.title, "kind": c.kind} for c in statement.columns],
    }


def _row(row: Row) -> dict[str, Any]:
    return {"style": row.style, "cells": [_cell(cell) for cell in row.cells]}


def _cell(cell: Cell) -> int | str | None:
    if isinstance(cell, Link):
        return cell.value
    return cell if cell is None or isinstance(cell, int | str) else str(cell)
