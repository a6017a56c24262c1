"""Receivables ageing: what customers owe on the last day, order by order, by how long they have owed it.

An order owes from the day on which it was placed: the records carry no terms of payment. What has cleared it is found by the order's id,
which refunds carry and processors mostly know; what can't be led back to an order is one line per currency.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import groupby

from ledger_pipeline.model.money import from_minor
from ledger_pipeline.reports.charts import bar_chart
from ledger_pipeline.reports.statements.statement import (
    Cell,
    Chart,
    Column,
    Row,
    Scope,
    Statement,
    Total,
    all_zero,
    heading,
    periods,
    zero,
)
from ledger_pipeline.store.database import Connection

BUCKETS: tuple[tuple[str, int | None], ...] = (
    ("Current", 0),
    ("1–30 days", 30),
    ("31–60 days", 60),
    ("61–90 days", 90),
    ("Over 90 days", None),
)
"""Title, and the age in days up to which it reaches."""


@dataclass(frozen=True, slots=True)
class Item:
    """What an order still owes, or (without `source_id`) what belongs to no order; `label` says which."""

    currency: str
    label: str
    source_id: str
    connection: str
    dated: date | None
    amount_minor: int
    base_minor: int

    def bucket(self, on: date) -> int | None:
        """Position in BUCKETS; None for what has no age."""
        if self.dated is None:
            return None
        age = (on - self.dated).days
        return next(n for n, (_, limit) in enumerate(BUCKETS) if limit is None or age <= limit)


def receivables_ageing(connection: Connection, scope: Scope) -> Statement:
    """Open amounts in their own currency by age, oldest first, and in base; overpaid orders are negative."""
    items = _items(connection, scope)
    balances = _balances(connection, scope)
    columns = (
        Column("Order"),
        Column("Connection"),
        Column("Date", "date"),
        Column("Days", "count"),
        Column("Currency"),
        *(Column(title, "money") for title, _ in BUCKETS),
        Column("Total", "money"),
        Column(f"Total {scope.base_currency}", "money"),
    )
    rows: list[Row] = []
    by_currency: dict[str, int] = {}
    for currency, group in groupby(items, key=lambda item: item.currency):
        own = list(group)
        rows.append(heading(currency, columns))
        rows += [_row(scope, item) for item in own]
        rows.append(_sum(scope, currency, own))
        by_currency[currency] = sum(item.amount_minor for item in own)
    in_base = sum(item.base_minor for item in items)
    empty: tuple[Cell, ...] = (None,) * (len(columns) - 2)
    rows.append(Row(("Total", *empty, scope.money(in_base)), "total"))
    differences = [
        (currency, by_currency.get(currency, 0) - balances.get(currency, (0, 0))[0])
        for currency in sorted({*by_currency, *balances})
    ]
    return Statement(
        "receivables_ageing",
        "Receivables ageing",
        scope,
        columns,
        tuple(rows),
        (
            all_zero("open amounts are the balance of the role accounts_receivable", differences),
            zero("so they are in base", in_base - sum(base for _, base in balances.values()), scope.base_currency),
        ),
        periods(connection, scope),
        (Total("receivables", in_base, scope.base_currency),),
        (_chart(scope, items),),
        notes=("An order owes from the day on which it was placed; terms of payment are not known.",),
        as_of=True,
    )


def _items(connection: Connection, scope: Scope) -> list[Item]:
    """By currency: orders, oldest first, then what belongs to none. All versions of a record are led to the same order."""
    rows = connection.execute(
        """
        WITH ar AS (
          SELECT e.connection, e.record, e.source_id, e.kind, e.occurred_on, l.currency, l.amount_minor, l.base_minor
            FROM ledger.line l JOIN ledger.entry e USING (entry_id)
           WHERE l.entity = %(entity)s AND l.posted_on <= %(last)s AND split_part(l.role, ':', 1) = 'accounts_receivable'),
        orders AS (
          SELECT connection, source_id, max(occurred_on) FILTER (WHERE kind <> 'reversal') AS dated
            FROM ar WHERE record = 'sale' GROUP BY 1, 2),
        unique_orders AS (SELECT source_id, min(connection) AS connection FROM orders GROUP BY 1 HAVING count(*) = 1),
        named AS (
          SELECT DISTINCT ON (record, connection, source_id) record, connection, source_id, order_id
            FROM (SELECT 'processor_transaction' AS record, connection, source_id, order_id, raw_id FROM staging.processor_transaction
                   UNION ALL SELECT 'refund', connection, source_id, order_id, raw_id FROM staging.refund
                   UNION ALL SELECT 'dispute', connection, source_id, order_id, raw_id FROM staging.dispute) all_named
           ORDER BY record, connection, source_id, raw_id DESC),
        led AS (
          SELECT ar.*,
                 CASE WHEN ar.record = 'sale' THEN ar.source_id ELSE coalesce(o.source_id, u.source_id) END AS order_id,
                 CASE WHEN ar.record = 'sale' THEN ar.connection ELSE coalesce(o.connection, u.connection) END AS order_connection
            FROM ar
            LEFT JOIN named n ON ar.record <> 'sale' AND (n.record, n.connection, n.source_id) = (ar.record, ar.connection, ar.source_id)
            LEFT JOIN orders o ON (o.connection, o.source_id) = (ar.connection, n.order_id)
            LEFT JOIN unique_orders u ON u.source_id = n.order_id),
        open AS (
          SELECT currency, order_id, order_connection, sum(amount_minor) AS amount, sum(base_minor) AS base
            FROM led WHERE order_id IS NOT NULL GROUP BY 1, 2, 3)
        SELECT currency, '', order_id, order_connection, orders.dated, amount::bigint, base::bigint
          FROM open JOIN orders ON (orders.source_id, orders.connection) = (order_id, order_connection)
         WHERE amount <> 0
        UNION ALL
        SELECT currency, 'Exchange differences', '', '', NULL, 0, sum(base)::bigint
          FROM (SELECT currency, base FROM open WHERE amount = 0
                UNION ALL SELECT currency, base_minor FROM led WHERE order_id IS NULL AND amount_minor = 0) differences
         GROUP BY 1 HAVING sum(base) <> 0
        UNION ALL
        SELECT currency, 'Unallocated', '', '', NULL, sum(amount_minor)::bigint, sum(base_minor)::bigint
          FROM led WHERE order_id IS NULL AND amount_minor <> 0
         GROUP BY 1 HAVING sum(amount_minor) <> 0 OR sum(base_minor) <> 0
         ORDER BY 1, 5 NULLS LAST, 4, 3, 2
        """,
        scope.arguments,
    )
    return [Item(*row) for row in rows]


def _balances(connection: Connection, scope: Scope) -> dict[str, tuple[int, int]]:
    """(amount, base) of the role by currency."""
    rows = connection.execute(
        """
        SELECT currency, sum(amount_minor)::bigint, sum(base_minor)::bigint FROM ledger.line
         WHERE entity = %(entity)s AND posted_on <= %(last)s AND (role = 'accounts_receivable' OR role LIKE 'accounts_receivable:%%')
         GROUP BY 1
        """,
        scope.arguments,
    )
    return {currency: (amount, base) for currency, amount, base in rows}


def _row(scope: Scope, item: Item) -> Row:
    at = item.bucket(scope.last)
    amount = from_minor(item.amount_minor, item.currency)
    age = None if item.dated is None else (scope.last - item.dated).days
    buckets = (amount if n == at else None for n in range(len(BUCKETS)))
    label = item.source_id or item.label
    return Row((label, item.connection, item.dated, age, item.currency, *buckets, amount, scope.money(item.base_minor)))


def _sum(scope: Scope, currency: str, items: Sequence[Item]) -> Row:
    buckets = [sum(i.amount_minor for i in items if i.bucket(scope.last) == n) for n in range(len(BUCKETS))]
    whole = sum(i.amount_minor for i in items)
    figures = (from_minor(minor, currency) for minor in (*buckets, whole))
    base = scope.money(sum(i.base_minor for i in items))
    return Row((f"Total {currency}", "", None, None, currency, *figures, base), "total")


def _chart(scope: Scope, items: Iterable[Item]) -> Chart:
    """In base; what belongs to no order has no age and is left out."""
    sums = [0] * len(BUCKETS)
    for item in items:
        at = item.bucket(scope.last)
        if at is not None:
            sums[at] += item.base_minor
    title = "Receivables by age"
    bars = {"open": [scope.money(base) for base in sums]}
    return Chart(title, bar_chart([name for name, _ in BUCKETS], bars, title=title, unit=scope.base_currency))
