"""Sales tax by jurisdiction: what was owed, charged, given back and paid; and the sales on which it was charged."""

from __future__ import annotations

from typing import Any

from ledger_pipeline.reports.statements.statement import (
    Column,
    Row,
    Scope,
    Statement,
    Total,
    periods,
    zero,
)
from ledger_pipeline.store.database import Connection

_FIGURES = ("Opening", "Charged", "Refunded", "Paid", "Other", "Closing")


def sales_tax(connection: Connection, scope: Scope) -> Statement:
    """Credit positive: a closing is owed. Charged comes from sales, refunded from refunds, paid from entries with a bank line."""
    rows = _by_jurisdiction(connection, scope)
    columns = (
        Column("Jurisdiction"),
        *(Column(f"{figure} {scope.base_currency}", "money") for figure in _FIGURES),
        Column(f"Net sales of taxed orders {scope.base_currency}", "money"),
    )
    sums = [sum(row[n] for row in rows) for n in range(1, 8)]
    base = scope.base_currency
    return Statement(
        "sales_tax",
        "Sales tax by jurisdiction",
        scope,
        columns,
        (
            *(Row((row[0], *map(scope.money, row[1:7]), scope.money(row[7]))) for row in rows),
            Row(("Total", *map(scope.money, sums[:6]), None), "total"),
        ),
        (
            *(
                zero(f"{row[0]}: opening and movements make up the closing", sum(row[1:6]) - row[6], base)
                for row in rows
            ),
            zero("closings are the balance of the role sales_tax_payable", sums[5] - _balance(connection, scope), base),
        ),
        periods(connection, scope),
        (Total("charged", sums[1], base), Total("refunded", sums[2], base), Total("closing", sums[5], base)),
        notes=(
            "Tax that a marketplace remits is not in here (marketplace_tax_clearing).",
            "Net sales of taxed orders: goods less discounts and returns, in base, of the orders and refunds on which the jurisdiction's "
            "tax was charged; lines of them that are exempt are included. An order with two jurisdictions counts in both, so there is no total.",
        ),
    )


def _by_jurisdiction(connection: Connection, scope: Scope) -> list[tuple[Any, ...]]:
    """(jurisdiction, opening, charged, refunded, paid, other, closing, net sales), in base minor units."""
    return connection.execute(
        """
        WITH tax AS (
          SELECT l.entry_id, l.role, l.posted_on, -l.base_minor AS base,
                 CASE WHEN l.posted_on < %(first)s THEN 'opening'
                      WHEN e.record = 'sale' THEN 'charged'
                      WHEN e.record = 'refund' THEN 'refunded'
                      WHEN EXISTS (SELECT 1 FROM ledger.line b
                                    WHERE b.entry_id = l.entry_id AND split_part(b.role, ':', 1) = 'bank') THEN 'paid'
                      ELSE 'other' END AS cause
            FROM ledger.line l JOIN ledger.entry e USING (entry_id)
           WHERE l.entity = %(entity)s AND l.posted_on <= %(last)s AND split_part(l.role, ':', 1) = 'sales_tax_payable'),
        taxed AS (SELECT DISTINCT entry_id, role FROM tax WHERE cause IN ('charged', 'refunded')),
        net AS (
          SELECT t.role, -sum(s.base_minor) AS base
            FROM taxed t JOIN ledger.line s USING (entry_id)
           WHERE split_part(s.role, ':', 1) IN ('sales', 'sales_discounts', 'sales_returns')
           GROUP BY 1),
        sums AS (
          SELECT role,
                 coalesce(sum(base) FILTER (WHERE cause = 'opening'), 0) AS opening,
                 coalesce(sum(base) FILTER (WHERE cause = 'charged'), 0) AS charged,
                 coalesce(sum(base) FILTER (WHERE cause = 'refunded'), 0) AS refunded,
                 coalesce(sum(base) FILTER (WHERE cause = 'paid'), 0) AS paid,
                 coalesce(sum(base) FILTER (WHERE cause = 'other'), 0) AS other,
                 sum(base) AS closing,
                 bool_or(cause <> 'opening') AS moved
            FROM tax GROUP BY 1)
        SELECT coalesce(nullif(substr(role, strpos(role || ':', ':') + 1), ''), '(none)'),
               opening::bigint, charged::bigint, refunded::bigint, paid::bigint, other::bigint, closing::bigint,
               coalesce(net.base, 0)::bigint
          FROM sums LEFT JOIN net USING (role)
         WHERE moved OR closing <> 0
         ORDER BY 1
        """,
        scope.arguments,
    ).fetchall()


def _balance(connection: Connection, scope: Scope) -> int:
    row = connection.execute(
        "SELECT coalesce(-sum(base_minor), 0)::bigint FROM ledger.line WHERE entity = %(entity)s AND posted_on <= %(last)s "
        "AND (role = 'sales_tax_payable' OR role LIKE 'sales_tax_payable:%%')",
        scope.arguments,
    ).fetchone()
    return int(row[0]) if row else 0
