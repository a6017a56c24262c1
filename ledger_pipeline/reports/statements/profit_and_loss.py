"""Profit and loss: income less expenses of the range, with the range before it, and by month as a chart."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import date

from ledger_pipeline.model.months import months_of, preceding_month
from ledger_pipeline.reports.charts import bar_chart
from ledger_pipeline.reports.statements.movements import Movement, movements
from ledger_pipeline.reports.statements.statement import (
    Chart,
    Column,
    Row,
    Scope,
    Statement,
    Total,
    heading,
    periods,
    preceding_range,
    zero,
)
from ledger_pipeline.store.database import Connection

CONTRA = frozenset({"sales_discounts", "sales_returns"})
"""Roles of income accounts that take away from revenue."""
COST_OF_SALES = frozenset({"cost_of_goods_sold", "inventory_adjustment"})
OTHER = frozenset({"other_income", "fx_gain_loss", "fx_rounding"})
"""Roles that don't come from operating."""
_SECTIONS = (
    ("revenue", "Revenue", "Net revenue"),
    ("cost", "Cost of sales", "Gross profit"),
    ("operating", "Operating expenses", "Operating profit"),
    ("other", "Other income and expenses", "Net profit"),
)
_TRAILING_MONTHS = 12

Pair = tuple[int, int]


def profit_and_loss(connection: Connection, scope: Scope) -> Statement:
    """Income is positive, expenses too, contra accounts are negative revenue; the results run down the page."""
    before = preceding_range(scope.first, scope.last)
    now, then = movements(connection, scope), movements(connection, scope, *before)
    lines = _lines(now, then)
    columns = (
        Column("Account"),
        Column("Name"),
        Column(f"{scope.first} to {scope.last}", "money"),
        Column(f"{before[0]} to {before[1]}", "money"),
        Column("Change", "money"),
    )
    rows: list[Row] = []
    totals: list[Total] = []
    result: Pair = (0, 0)
    for section, title, result_name in _SECTIONS:
        own = lines.get(section, {})
        rows.append(heading(title, columns, 1))
        rows += [_row(scope, code, name, pair) for (code, name), pair in sorted(own.items())]
        if section in ("cost", "operating"):
            spent = _sum(own.values())
            rows.append(_row(scope, "", f"Total {title.lower()}", spent, "total"))
            result = (result[0] - spent[0], result[1] - spent[1])
        else:
            result = _sum([result, *own.values()])
        rows.append(_row(scope, "", result_name, result, "total"))
        totals.append(Total(result_name.lower().replace(" ", "_"), result[0], scope.base_currency))
    return Statement(
        "profit_and_loss",
        "Profit and loss",
        scope,
        columns,
        tuple(rows),
        (
            zero(
                "net profit is what assets, liabilities and equity changed by",
                result[0] - _change(now),
                scope.base_currency,
            ),
            zero("so it is in the range before", result[1] - _change(then), scope.base_currency),
        ),
        periods(connection, scope),
        tuple(totals),
        (_chart(connection, scope),),
    )


def _section(movement: Movement) -> str | None:
    role = movement.role.partition(":")[0]
    if movement.type == "income":
        return "other" if role in OTHER else "revenue"
    if movement.type == "expense":
        return "cost" if role in COST_OF_SALES else "operating"
    return None


def _lines(now: Sequence[Movement], then: Sequence[Movement]) -> dict[str, dict[tuple[str, str], Pair]]:
    """Figures of both ranges by section and account; income is positive, expenses are positive."""
    made: dict[str, dict[tuple[str, str], Pair]] = defaultdict(dict)
    for at, found in enumerate((now, then)):
        for movement in found:
            section = _section(movement)
            if section is None or not movement.change_base:
                continue
            sign = -1 if movement.type == "income" else 1
            is_contra = movement.role.partition(":")[0] in CONTRA
            key = movement.account, f"less: {movement.name}" if is_contra else movement.name
            pair = list(made[section].get(key, (0, 0)))
            pair[at] += sign * movement.change_base
            made[section][key] = pair[0], pair[1]
    return made


def _sum(pairs: Iterable[Pair]) -> Pair:
    one, two = 0, 0
    for pair in pairs:
        one, two = one + pair[0], two + pair[1]
    return one, two


def _row(scope: Scope, code: str, name: str, pair: Pair, style: str = "line") -> Row:
    cells = (code, name, scope.money(pair[0]), scope.money(pair[1]), scope.money(pair[0] - pair[1]))
    return Row(cells, "total" if style == "total" else "line")


def _change(found: Iterable[Movement]) -> int:
    return sum(m.change_base for m in found if m.type in ("asset", "liability", "equity"))


def _chart(connection: Connection, scope: Scope) -> Chart:
    """The range by month; of a single month, the twelve that end with it, from the first one with entries."""
    wanted = months_of(scope.first, scope.last)
    first = scope.first
    if len(wanted) == 1:
        first = wanted[0]
        for _ in range(_TRAILING_MONTHS - 1):
            first = preceding_month(first)
        wanted = months_of(first, scope.last)
    found: dict[date, tuple[int, int]] = {
        month: (income, expense)
        for month, income, expense in connection.execute(
            """
            SELECT date_trunc('month', l.posted_on)::date,
                   coalesce(-sum(l.base_minor) FILTER (WHERE a.type = 'income'), 0)::bigint,
                   coalesce(sum(l.base_minor) FILTER (WHERE a.type = 'expense'), 0)::bigint
              FROM ledger.line l JOIN ledger.account a ON a.entity = l.entity AND a.code = l.account
             WHERE l.entity = %(entity)s AND l.posted_on BETWEEN %(from)s AND %(last)s AND a.type IN ('income', 'expense')
             GROUP BY 1
            """,
            scope.arguments | {"from": first},
        )
    }
    start = min(found, default=wanted[-1])
    wanted = [month for month in wanted if month >= start]
    pairs = [found.get(month, (0, 0)) for month in wanted]
    series = {
        "income": [scope.money(income) for income, _ in pairs],
        "expenses": [scope.money(expense) for _, expense in pairs],
        "net profit": [scope.money(income - expense) for income, expense in pairs],
    }
    title = "Profit and loss by month"
    return Chart(title, bar_chart([f"{m:%Y-%m}" for m in wanted], series, title=title, unit=scope.base_currency))
