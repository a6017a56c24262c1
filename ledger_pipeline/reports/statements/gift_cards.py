"""Gift-card roll-forward: what is owed on cards, month by month, and what changed it."""

from __future__ import annotations

from collections import defaultdict
from datetime import date, timedelta

from ledger_pipeline.model.months import last_of_month, months_of
from ledger_pipeline.reports.charts import line_chart
from ledger_pipeline.reports.statements.cash_flow import ends
from ledger_pipeline.reports.statements.statement import (
    Chart,
    Column,
    Row,
    Scope,
    Statement,
    Total,
    periods,
    zero,
)
from ledger_pipeline.store.database import Connection

CAUSES = ("issued", "refunded to card", "redeemed", "returned", "breakage", "other")
"""Sold; a refund that goes to a card; a card that pays; a sold card that is given back; written off; anything else."""


def gift_cards(connection: Connection, scope: Scope) -> Statement:
    """One row per month of the range, credit positive: a closing is owed to the cards' holders."""
    by_day = _by_day(connection, scope)
    opening = _balance(connection, scope, scope.first - timedelta(days=1))
    columns = (
        Column("Month"),
        *(
            Column(f"{title} {scope.base_currency}", "money")
            for title in ("Opening", *map(str.capitalize, CAUSES), "Closing")
        ),
    )
    rows, balance, whole = [], opening, dict.fromkeys(CAUSES, 0)
    for month in months_of(scope.first, scope.last):
        own = {
            cause: sum(base for (day, c), base in by_day.items() if c == cause and month <= day <= last_of_month(month))
            for cause in CAUSES
        }
        closing = balance + sum(own.values())
        rows.append(Row((f"{month:%Y-%m}", *map(scope.money, (balance, *own.values(), closing)))))
        balance = closing
        whole = {cause: whole[cause] + own[cause] for cause in CAUSES}
    rows.append(Row(("Total", *map(scope.money, (opening, *whole.values(), balance))), "total"))
    base = scope.base_currency
    return Statement(
        "gift_cards",
        "Gift-card roll-forward",
        scope,
        columns,
        tuple(rows),
        (
            zero(
                "opening and movements make up the balance of the role gift_card_liability",
                balance - _balance(connection, scope, scope.last),
                base,
            ),
        ),
        periods(connection, scope),
        (
            Total("opening", opening, base),
            Total("issued", whole["issued"], base),
            Total("redeemed", whole["redeemed"], base),
            Total("closing", balance, base),
        ),
        (_chart(scope, opening, by_day),),
        notes=("An order that both sells a card and is paid with one counts with the difference: it has one line.",),
    )


def _by_day(connection: Connection, scope: Scope) -> dict[tuple[date, str], int]:
    """Base minor units by day and cause; a reversal takes back its original's cause."""
    rows = connection.execute(
        """
        SELECT l.posted_on,
               CASE WHEN e.record = 'sale' THEN CASE WHEN side.is_credit THEN 'issued' ELSE 'redeemed' END
                    WHEN e.record = 'refund' THEN CASE WHEN side.is_credit THEN 'refunded to card' ELSE 'returned' END
                    WHEN EXISTS (SELECT 1 FROM ledger.line b WHERE b.entry_id = l.entry_id AND b.role = 'gift_card_breakage') THEN 'breakage'
                    ELSE 'other' END,
               -sum(l.base_minor)::bigint
          FROM ledger.line l JOIN ledger.entry e USING (entry_id)
         CROSS JOIN LATERAL (SELECT (l.base_minor < 0) <> (e.kind = 'reversal') AS is_credit) side
         WHERE l.entity = %(entity)s AND l.posted_on BETWEEN %(first)s AND %(last)s
           AND split_part(l.role, ':', 1) = 'gift_card_liability'
         GROUP BY 1, 2
        """,
        scope.arguments,
    )
    found: dict[tuple[date, str], int] = defaultdict(int)
    for day, cause, base in rows:
        found[day, cause] += base
    return found


def _balance(connection: Connection, scope: Scope, day: date) -> int:
    row = connection.execute(
        "SELECT coalesce(-sum(base_minor), 0)::bigint FROM ledger.line WHERE entity = %(entity)s AND posted_on <= %(day)s "
        "AND (role = 'gift_card_liability' OR role LIKE 'gift_card_liability:%%')",
        {"entity": scope.entity, "day": day},
    ).fetchone()
    return int(row[0]) if row else 0


def _chart(scope: Scope, opening: int, by_day: dict[tuple[date, str], int]) -> Chart:
    title = "Owed on gift cards"
    points = ends(scope)
    values = [scope.money(opening + sum(base for (day, _), base in by_day.items() if day <= end)) for end in points]
    return Chart(title, line_chart([str(p) for p in points], {"owed": values}, title=title, unit=scope.base_currency))
