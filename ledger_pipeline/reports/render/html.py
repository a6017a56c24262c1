"""One HTML file: an index with every statement's checks, then the statements. Self-contained, without scripts, made to be printed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from decimal import Decimal
from html import escape
from pathlib import Path

from ledger_pipeline.reports.render.safe import printable
from ledger_pipeline.reports.statements.statement import Cell, Check, Column, Link, Row, Scope, Statement

_STYLE = """
:root { color-scheme: light; }
body { font: 14px/1.4 system-ui, sans-serif; color: #1d2328; margin: 2rem auto; max-width: 90rem; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.2rem; margin: 0 0 .2rem; }
p { margin: .2rem 0; } .small, .notes { color: #55606b; font-size: .85rem; }
section { margin-top: 3rem; overflow-x: auto; }
table { border-collapse: collapse; margin: .8rem 0; min-width: 50%; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .6rem; text-align: left; vertical-align: top; } th { vertical-align: bottom; }
th { border-bottom: 2px solid #1d2328; font-size: .8rem; } td { border-bottom: 1px solid #e4e7ea; }
th.n, td.n { text-align: right; } td.n, td:first-child { white-space: nowrap; } .negative { color: #9a1b1b; }
tr.heading td { font-weight: 600; padding-top: 1rem; border-bottom: 1px solid #9aa3ab; }
tr.total td { font-weight: 600; border-top: 1px solid #1d2328; background: #f6f7f8; }
tr.detail td { font-size: .72rem; color: #55606b; padding-top: 0; overflow-wrap: anywhere; }
tr:has(+ tr.detail) td { border-bottom: 0; } tr:target td { background: #fff3c4; }
.wide table { font-size: .78rem; } .wide td, .wide th { padding: .15rem .4rem; }
.ties { color: #1e6b36; } .off { color: #c00000; font-weight: 700; }
.banner { border: 2px solid #c00000; color: #c00000; font-weight: 700; padding: .5rem .8rem; margin: .6rem 0; }
svg { max-width: 100%; height: auto; }
@page { size: A4 landscape; margin: 14mm; }
@media print { body { margin: 0; max-width: none; font-size: 10px; } section { break-before: page; overflow: visible; }
  thead { display: table-header-group; } tr { break-inside: avoid; } a { color: inherit; text-decoration: none; } }
"""


def write(statements: Iterable[Statement], scope: Scope, path: Path) -> list[tuple[str, tuple[Check, ...]]]:
    """Names and checks of what was written. The statements go to a file beside it first: the index, which stands above them,
    is known when they are done."""
    body = path.with_name(path.name + ".part")
    done = []
    try:
        with body.open("w", encoding="utf-8") as file:
            for statement in statements:
                file.writelines(_section(statement))
                done.append(statement)
        with path.open("w", encoding="utf-8") as file, body.open(encoding="utf-8") as sections:
            file.writelines(_head(scope, done))
            while chunk := sections.read(1 << 20):
                file.write(chunk)
            file.write("</body>\n</html>\n")
    finally:
        body.unlink(missing_ok=True)
    return [(statement.name, statement.checks) for statement in done]


def _text(text: str) -> str:
    return escape(printable(text))


def _head(scope: Scope, statements: Sequence[Statement]) -> Iterator[str]:
    title = _text(f"{scope.entity_name}: statements {scope.first} to {scope.last}")
    yield f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n'
    yield f"<h1>{title}</h1>\n"
    yield f'<p class="small">In {scope.base_currency}. Made at {scope.made_at:%Y-%m-%d %H:%M:%S %Z}.</p>\n'
    off = [statement.title for statement in statements if not statement.ties]
    if off:
        yield f'<p class="banner">Doesn’t tie: {_text(", ".join(off))}</p>\n'
    yield "<table>\n<thead><tr><th>Statement</th><th>Days</th><th>Checks</th></tr></thead>\n<tbody>\n"
    for statement in statements:
        yield (
            f'<tr><td><a href="#{statement.name}">{_text(statement.title)}</a></td><td>{statement.dates}</td>'
            f"<td>{_verdict(statement)}</td></tr>\n"
        )
    yield "</tbody>\n</table>\n"


def _verdict(statement: Statement) -> str:
    if statement.ties:
        return f'<span class="ties">ties ({len(statement.checks)} checks)</span>'
    return f'<span class="off">does not tie: {_text("; ".join(statement.failures))}</span>'


def _section(statement: Statement) -> Iterator[str]:
    main = [at for at, column in enumerate(statement.columns) if not column.is_detail]
    detail = [at for at, column in enumerate(statement.columns) if column.is_detail]
    scope = statement.scope
    yield f'<section id="{statement.name}"{" class=wide" if len(main) > 9 else ""}>\n<h2>{_text(statement.title)}</h2>\n'
    periods = ", ".join(f"{period.month:%Y-%m} {period.state}" for period in statement.periods)
    yield f"<p>{_text(scope.entity_name)}, {statement.dates}</p>\n"
    yield f'<p class="small">Periods: {periods}. Made at {scope.made_at:%Y-%m-%d %H:%M:%S %Z}.</p>\n'
    if not statement.ties:
        yield f'<p class="banner">This statement doesn’t tie. {_text("; ".join(statement.failures))}</p>\n'
    yield from (chart.svg + "\n" for chart in statement.charts)
    yield "<table>\n<thead><tr>" + "".join(_title(statement.columns[at]) for at in main) + "</tr></thead>\n<tbody>\n"
    for row in statement.rows:
        yield _row(row, statement.columns, main)
        if detail and row.anchor:
            yield _detail(row, statement.columns, detail, len(main))
    yield "</tbody>\n</table>\n<table class=checks>\n<thead><tr><th>Check</th><th>Holds</th><th>Difference</th></tr></thead>\n<tbody>\n"
    for check in statement.checks:
        holds = '<td class="ties">yes</td>' if check.holds else '<td class="off">NO</td>'
        yield f"<tr><td>{_text(check.name)}</td>{holds}<td>{_text(check.difference)}</td></tr>\n"
    yield "</tbody>\n</table>\n"
    yield from (f'<p class="notes">{_text(note)}</p>\n' for note in statement.notes)
    yield "</section>\n"


def _title(column: Column) -> str:
    return f"<th{_align(column)}>{_text(column.title)}</th>"


def _align(column: Column) -> str:
    return ' class="n"' if column.kind in ("money", "count") else ""


def _row(row: Row, columns: Sequence[Column], main: Sequence[int]) -> str:
    style = f' class="{row.style}"' if row.style != "line" else ""
    anchor = f' id="{_text(row.anchor)}"' if row.anchor else ""
    if row.style == "heading":
        words = " ".join(_text(str(cell)) for cell in row.cells if cell is not None)
        return f'<tr{style}{anchor}><td colspan="{len(main)}">{words}</td></tr>\n'
    return f"<tr{style}{anchor}>" + "".join(_cell(row.cells[at], columns[at]) for at in main) + "</tr>\n"


def _cell(cell: Cell, column: Column) -> str:
    if isinstance(cell, Decimal):
        return f'<td class="n{" negative" if cell < 0 else ""}">{cell:,f}</td>'
    return f"<td{_align(column)}>{_words(cell)}</td>"


def _words(cell: Cell) -> str:
    if cell is None:
        return ""
    if isinstance(cell, Link):
        return f'<a href="#{_text(cell.anchor)}">{_text(str(cell.value))}</a>'
    if isinstance(cell, Decimal):
        return f"{cell:,f}"
    if isinstance(cell, date | int):
        return str(cell)
    return _text(cell)


def _detail(row: Row, columns: Sequence[Column], detail: Sequence[int], span: int) -> str:
    said = " · ".join(
        f"{_text(columns[at].title)} {_words(row.cells[at])}" for at in detail if row.cells[at] is not None
    )
    return f'<tr class="detail"><td colspan="{span}">{said}</td></tr>\n'
