"""Cash flow by the direct method: what came to the bank accounts and left them, by what stood on the other side.

Cash is what is booked to the role `bank`; a payout that is under way is none. An entry that changes the base value of bank accounts
without moving any money is an effect of exchange rates.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

from ledger_pipeline.model.accounts import DEFAULT_CHART
from ledger_pipeline.model.money import from_minor
from ledger_pipeline.model.months import last_of_month, months_of
from ledger_pipeline.reports.charts import line_chart
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
    zero,
)
from ledger_pipeline.store.database import Connection

WORKING_CAPITAL = frozenset(
    {role for account in DEFAULT_CHART if account.type in ("asset", "liability") for role in account.roles}
    | {"intercompany"}
)
"""Roles of operating; other assets are investments, other liabilities are borrowing."""
_ACTIVITIES = ("operating", "investing", "financing")
DAYS_IN_A_CHART = 92
"""A longer range is drawn by month."""


@dataclass(frozen=True, slots=True)
class Flow:
    """One counter role: receipts positive, payments negative, in base."""

    role: str
    name: str
    type: str
    receipts: int
    payments: int

    @property
    def activity(self) -> str:
        """operating, investing or financing, by the account's type and the role."""
        role = self.role.partition(":")[0]
        if self.type == "equity" and role != "currency_trading":
            return "financing"
        if self.type in ("asset", "liability") and role not in WORKING_CAPITAL:
            return "investing" if self.type == "asset" else "financing"
        return "operating"

    @property
    def net(self) -> int:
        """Receipts less payments."""
        return self.receipts + self.payments


def cash_flow(connection: Connection, scope: Scope) -> Statement:
    """Receipts and payments by counter role and activity; opening, flows and the effect of exchange rates make up the closing."""
    cash = [m for m in movements(connection, scope) if m.role.partition(":")[0] == "bank"]
    flows, effect = _flows(connection, scope), _exchange_effect(connection, scope)
    opening, closing = sum(m.opening_base for m in cash), sum(m.closing_base for m in cash)
    net = {activity: sum(f.net for f in flows if f.activity == activity) for activity in _ACTIVITIES}
    columns = (
        Column("Role"),
        Column("Account"),
        *(Column(f"{title} {scope.base_currency}", "money") for title in ("Receipts", "Payments", "Net")),
        Column("Currency"),
        Column("Net in currency", "money"),
    )
    rows: list[Row] = []
    for activity in _ACTIVITIES:
        own = [f for f in flows if f.activity == activity]
        rows.append(heading(f"Cash flow from {activity} activities", columns, 1))
        rows += [_row(scope, f.role, f.name, f.receipts, f.payments, f.net) for f in own]
        sums = (sum(f.receipts for f in own), sum(f.payments for f in own), net[activity])
        rows.append(_row(scope, "", f"Net cash from {activity} activities", *sums, is_total=True))
    rows += [
        _row(scope, "", f"Cash before {scope.first}", None, None, opening, is_total=True),
        _row(scope, "", "Net change from activities", None, None, sum(net.values()), is_total=True),
        _row(scope, "", "Effect of exchange rates", None, None, effect, is_total=True),
        _row(scope, "", f"Cash on {scope.last}", None, None, closing, is_total=True),
        heading(f"Cash on {scope.last} by bank account", columns, 1),
        *(_holding(scope, m) for m in cash if m.closing_minor or m.closing_base),
    ]
    return Statement(
        "cash_flow",
        "Cash flow",
        scope,
        columns,
        tuple(rows),
        (
            zero(
                "opening, flows and exchange effect make up the closing",
                opening + sum(net.values()) + effect - closing,
                scope.base_currency,
            ),
        ),
        periods(connection, scope),
        (
            Total("opening_cash", opening, scope.base_currency),
            *(Total(f"{activity}_cash_flow", net[activity], scope.base_currency) for activity in _ACTIVITIES),
            Total("exchange_effect", effect, scope.base_currency),
            Total("closing_cash", closing, scope.base_currency),
        ),
        (_chart(connection, scope, opening),),
        notes=("A reversal takes back a receipt or a payment; it is no payment or receipt of its own.",),
    )


_TOUCHED = """
    WITH touched AS (
      SELECT l.entry_id, bool_or(l.amount_minor <> 0) AS moves, sum(l.base_minor)::bigint AS base
        FROM ledger.line l
       WHERE l.entity = %(entity)s AND l.posted_on BETWEEN %(first)s AND %(last)s AND split_part(l.role, ':', 1) = 'bank'
       GROUP BY 1)
"""


def _flows(connection: Connection, scope: Scope) -> list[Flow]:
    """Counter lines of the entries that moved money; a transfer between own accounts has none."""
    rows = connection.execute(
        _TOUCHED
        + """
        , counter AS (
          SELECT l.role, a.name, a.type, -l.base_minor AS base, e.kind = 'reversal' AS is_reversal
            FROM touched t JOIN ledger.entry e USING (entry_id) JOIN ledger.line l USING (entry_id)
            JOIN ledger.account a ON a.entity = l.entity AND a.code = l.account
           WHERE t.moves AND split_part(l.role, ':', 1) <> 'bank')
        SELECT role, name, type,
               coalesce(sum(base) FILTER (WHERE (base > 0) <> is_reversal), 0)::bigint,
               coalesce(sum(base) FILTER (WHERE (base > 0) = is_reversal), 0)::bigint
          FROM counter GROUP BY 1, 2, 3
        HAVING sum(base) <> 0 OR (role NOT LIKE 'currency_trading%%' AND bool_or(base <> 0))
         ORDER BY 1, 2
        """,
        scope.arguments,
    )
    return [Flow(*row) for row in rows]


def _exchange_effect(connection: Connection, scope: Scope) -> int:
    row = connection.execute(
        _TOUCHED + "SELECT coalesce(sum(base), 0)::bigint FROM touched WHERE NOT moves", scope.arguments
    ).fetchone()
    return int(row[0]) if row else 0


def _row(
    scope: Scope, role: str, name: str, receipts: int | None, payments: int | None, net: int, *, is_total: bool = False
) -> Row:
    figures = (None if figure is None else scope.money(figure) for figure in (receipts, payments, net))
    return Row((role, name, *figures, scope.base_currency, None), "total" if is_total else "line")


def _holding(scope: Scope, movement: Movement) -> Row:
    amount = from_minor(movement.closing_minor, movement.currency)
    base = scope.money(movement.closing_base)
    return Row((movement.role, movement.name, None, None, base, movement.currency, amount))


def _chart(connection: Connection, scope: Scope, opening: int) -> Chart:
    """Cash at the end of each day; of each month where the range is long."""
    moved = dict(
        connection.execute(
            """
            SELECT l.posted_on, sum(l.base_minor)::bigint FROM ledger.line l
             WHERE l.entity = %(entity)s AND l.posted_on BETWEEN %(first)s AND %(last)s AND split_part(l.role, ':', 1) = 'bank'
             GROUP BY 1 ORDER BY 1
            """,
            scope.arguments,
        ).fetchall()
    )
    title = "Cash at the end of the day"
    points = ends(scope)
    values = [scope.money(opening + sum(base for day, base in moved.items() if day <= end)) for end in points]
    return Chart(title, line_chart([str(p) for p in points], {"cash": values}, title=title, unit=scope.base_currency))


def ends(scope: Scope) -> list[date]:
    """The days of the range; of a long one, the last days of its months."""
    days = (scope.last - scope.first).days + 1
    if days <= DAYS_IN_A_CHART:
        return [scope.first + timedelta(days=n) for n in range(days)]
    return [min(last_of_month(month), scope.last) for month in months_of(scope.first, scope.last)]
