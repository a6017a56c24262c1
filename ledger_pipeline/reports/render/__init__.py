"""Statements as files: HTML, CSV, Excel, JSON. Rows are written as they come, so that a general ledger needn't fit into memory.

Belongs here: how a statement looks in a file, and what keeps a spreadsheet from executing its text. Doesn't: any figure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ledger_pipeline.reports.render import delimited, excel, html, plain
from ledger_pipeline.reports.statements.statement import Check, Scope, Statement

Form = Literal["html", "csv", "xlsx", "json"]
FORMS: tuple[Form, ...] = ("html", "csv", "xlsx", "json")


@dataclass(frozen=True, slots=True)
class Written:
    """A statement, the file that it stands in, and its checks."""

    name: str
    path: Path
    checks: tuple[Check, ...]

    @property
    def ties(self) -> bool:
        """True when every check holds."""
        return all(check.holds for check in self.checks)


def write(statements: Iterable[Statement], scope: Scope, form: Form, folder: Path) -> list[Written]:
    """One HTML file or workbook for all, or one CSV or JSON file for each; the folder is made. Files of the same name are replaced.

    A CSV has no place for a warning: one that doesn't tie says so in its name. All checks also stand in a file of their own beside CSVs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{scope.entity}_{{}}_{scope.first}_{scope.last}"
    if form == "html":
        path = folder / f"{stem.format('statements')}.html"
        return _written(path, html.write(statements, scope, path))
    if form == "xlsx":
        path = folder / f"{stem.format('statements')}.xlsx"
        return _written(path, excel.write(statements, scope, path))
    if form == "json":
        return [_json(statement, folder / f"{stem.format(statement.name)}.json") for statement in statements]
    written = [_csv(statement, folder, stem) for statement in statements]
    delimited.write_checks(written, folder / f"{stem.format('checks')}.csv")
    return written


def _written(path: Path, done: Iterable[tuple[str, tuple[Check, ...]]]) -> list[Written]:
    return [Written(name, path, checks) for name, checks in done]


def _json(statement: Statement, path: Path) -> Written:
    plain.write(statement, path)
    return Written(statement.name, path, statement.checks)


def _csv(statement: Statement, folder: Path, stem: str) -> Written:
    paths = {
        ties: folder / f"{stem.format(statement.name)}{'' if ties else '.DOES_NOT_TIE'}.csv" for ties in (True, False)
    }
    paths[not statement.ties].unlink(missing_ok=True)
    delimited.write(statement, paths[statement.ties])
    return Written(statement.name, paths[statement.ties], statement.checks)
