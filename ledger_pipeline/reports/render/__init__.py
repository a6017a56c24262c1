"""Statements as files: HTML, CSV, Excel, JSON. Rows are written as they come, so that a general ledger needn't fit into memory.

Belongs here: how a statement looks in a file, and what keeps a spreadsheet from executing its text. Doesn't: any figure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
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
    if form in ("html", "xlsx"):
        path = folder / f"{stem.format('statements')}.{form}"
        with _whole(path) as part:
            done = (html if form == "html" else excel).write(statements, scope, part)
        return [Written(name, path, checks) for name, checks in done]
    if form == "json":
        return [_json(statement, folder / f"{stem.format(statement.name)}.json") for statement in statements]
    written = [_csv(statement, folder, stem) for statement in statements]
    delimited.write_checks(written, folder / f"{stem.format('checks')}.csv")
    return written


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """A path to write to; what is there becomes the file at the end, and vanishes on an exception."""
    part = path.with_name(f".{path.name}.part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _json(statement: Statement, path: Path) -> Written:
    with _whole(path) as part:
        plain.write(statement, part)
    return Written(statement.name, path, statement.checks)


def _csv(statement: Statement, folder: Path, stem: str) -> Written:
    name = stem.format(statement.name)
    sound, unsound = folder / f"{name}.csv", folder / f"{name}.DOES_NOT_TIE.csv"
    path, other = (sound, unsound) if statement.ties else (unsound, sound)
    with _whole(path) as part:
        delimited.write(statement, part)
    other.unlink(missing_ok=True)
    return Written(statement.name, path, statement.checks)
