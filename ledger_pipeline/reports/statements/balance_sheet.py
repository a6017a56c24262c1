"""Balance sheet on the last day, beside the day before the range; earnings are closed into equity by computing, not by entries."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from ledger_pipeline.reports.statements.statement import (
    Column,
    Row,
    Scope,
    Statement,
    Total,
    fiscal_year_first,
    heading,
    periods,
    zero,
)
from ledger_pipeline.store.database import Connection

_SECTIONS = (("asset", "Assets", 1), ("liability", "Liabilities", -1), ("equity", "Equity", -1))


def balance_sheet(connection: Connection, scope: Scope) -> Statement:
    """Assets debit positive, liabilities and equity credit positive. The earnings of the fiscal year, and of all years before
    it, are rows of equity; nothing is posted for them."""
    then = scope.first - timedelta(days=1)
    found = _sums(connection, scope, then)
    columns = (
        Column("Account"),
        Column("Name"),
        Column(str(scope.last), "money"),
        Column(str(then), "money"),
        Column("Change", "money"),
    )
    rows: list[Row] = []
    sums: dict[str, tuple[int, int]] = {}
    for type_, title, sign in _SECTIONS:
        own = [(code, name, sign * now, sign * before) for code, name, t, now, before, *_ in found if t == type_]
        if type_ == "equity":
            own += _earnings(found)
        rows.append(heading(title, columns, 1))
        rows += [_row(scope, *line) for line in own if line[2] or line[3]]
        sums[type_] = sum(line[2] for line in own), sum(line[3] for line in own)
        rows.append(_row(scope, "", f"Total {title.lower()}", *sums[type_], is_total=True))
    together = sums["liability"][0] + sums["equity"][0], sums["liability"][1] + sums["equity"][1]
    rows.append(_row(scope, "", "Total liabilities and equity", *together, is_total=True))
    return Statement(
        "balance_sheet",
        "Balance sheet",
        scope,
        columns,
        tuple(rows),
        tuple(
            zero(f"assets equal liabilities and equity on {day}", sums["asset"][at] - together[at], scope.base_currency)
            for at, day in enumerate((scope.last, then))
        ),
        periods(connection, scope),
        tuple(
            Total(name, sums[type_][0], scope.base_currency)
            for name, type_ in (("assets", "asset"), ("liabilities", "liability"), ("equity", "equity"))
        ),
        notes=(f"The fiscal year of {scope.last} began on {scope.fiscal_year_first}.",),
        as_of=True,
    )


def _sums(connection: Connection, scope: Scope, then: date) -> list[tuple[Any, ...]]:
    """(code, name, type, base on the last day, on `then`, before the fiscal year of the last day, before that of `then`)."""
    return connection.execute(
        """
        SELECT l.account, a.name, a.type, sum(l.base_minor)::bigint,
               coalesce(sum(l.base_minor) FILTER (WHERE l.posted_on <= %(then)s), 0)::bigint,
               coalesce(sum(l.base_minor) FILTER (WHERE l.posted_on < %(year)s), 0)::bigint,
               coalesce(sum(l.base_minor) FILTER (WHERE l.posted_on < %(year_then)s), 0)::bigint
          FROM ledger.line l JOIN ledger.account a ON a.entity = l.entity AND a.code = l.account
         WHERE l.entity = %(entity)s AND l.posted_on <= %(last)s
         GROUP BY 1, 2, 3
         ORDER BY 1
        """,
        scope.arguments
        | {
            "then": then,
            "year": scope.fiscal_year_first,
            "year_then": fiscal_year_first(then, scope.fiscal_year_start),
        },
    ).fetchall()


def _earnings(found: list[tuple[Any, ...]]) -> list[tuple[str, str, int, int]]:
    """Profit of earlier years, and of the current one, on both days."""
    profits = [(-now, -then, -earlier, -earlier_then) for _, _, t, now, then, earlier, earlier_then in found
               if t in ("income", "expense")]  # fmt: skip
    now, then, earlier, earlier_then = (sum(column) for column in zip(*profits, strict=True)) if profits else (0,) * 4
    return [
        ("", "Retained earnings of earlier years (computed)", earlier, earlier_then),
        ("", "Earnings of the current year (computed)", now - earlier, then - earlier_then),
    ]


def _row(scope: Scope, code: str, name: str, now: int, then: int, *, is_total: bool = False) -> Row:
    cells = (code, name, scope.money(now), scope.money(then), scope.money(now - then))
    return Row(cells, "total" if is_total else "line")
