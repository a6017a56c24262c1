"""Receivables ageing: what customers owe on the last day, by order and invoice, by how long they have owed it.

An order owes from the day on which it was placed, an invoice from the day on which it is due. What has cleared them is found by the order's
id, which refunds carry and processors mostly know, and by the matches that reconciliation keeps; the rest is one line per currency.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import groupby

from ledger_pipeline.model.money import from_minor
from ledger_pipeline.reports.charts import bar_chart
from ledger_pipeline.reports.statements.netting import Part, net
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
    """What an order or invoice still owes, or (without `source_id`) what belongs to none; `label` says which."""

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
        age = _days(self.dated, on)
        return next(n for n, (_, limit) in enumerate(BUCKETS) if limit is None or age <= limit)


def _days(dated: date, on: date) -> int:
    """How long something has been owed; what isn't due yet is 0 days old."""
    return max(0, (on - dated).days)


def receivables_ageing(connection: Connection, scope: Scope) -> Statement:
    """Open amounts in their own currency by age, oldest first, and in base; what is overpaid, and a credit note that nothing used, is negative."""
    items = _items(connection, scope)
    balances = _balances(connection, scope)
    columns = (
        Column("Order or invoice"),
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
        notes=(
            "An order owes from the day on which it was placed, an invoice from its due date, or from its own date where it names none.",
            "What reconciliation has matched is netted, the oldest first; later matches and late records can move what is open, not the total.",
        ),
        as_of=True,
    )


_PARTS = """
    WITH ar AS MATERIALIZED (
      SELECT e.connection, e.record, e.source_id, l.role, l.currency, sum(l.amount_minor) AS amount, sum(l.base_minor) AS base,
             max(e.occurred_on) FILTER (WHERE e.kind <> 'reversal') AS dated, max(e.entry_id) FILTER (WHERE e.kind <> 'reversal') AS entry_id
        FROM ledger.line l JOIN ledger.entry e USING (entry_id)
       WHERE l.entity = %(entity)s AND l.posted_on <= %(last)s AND split_part(l.role, ':', 1) = 'accounts_receivable'
       GROUP BY 1, 2, 3, 4, 5),
    orders AS (SELECT connection, source_id, max(dated) AS dated FROM ar WHERE record = 'sale' GROUP BY 1, 2),
    unique_orders AS (SELECT source_id, min(connection) AS connection FROM orders GROUP BY 1 HAVING count(*) = 1),
    invoices AS (
      SELECT DISTINCT ON (connection, source_id) connection, source_id, coalesce(i.due_on, ar.dated) AS dated, i.number, i.reduces
        FROM ar JOIN ledger.entry e USING (entry_id, connection, source_id) LEFT JOIN staging.invoice i USING (connection, source_id)
       WHERE ar.record = 'invoice' ORDER BY 1, 2, e.entry_id DESC, i.raw_id = e.raw_id DESC NULLS LAST, i.raw_id DESC),
    numbered AS (
      SELECT connection, number, min(source_id) AS source_id FROM invoices WHERE reduces IS NULL GROUP BY 1, 2 HAVING count(*) = 1),
    reduced AS (
      SELECT i.connection, i.source_id, n.source_id AS of_id FROM invoices i JOIN numbered n ON (n.connection, n.number) = (i.connection, i.reduces)),
    named AS (
      SELECT DISTINCT ON (record, connection, source_id) record, connection, source_id, order_id
        FROM (SELECT 'processor_transaction' AS record, connection, source_id, order_id, raw_id FROM staging.processor_transaction
               UNION ALL SELECT 'refund', connection, source_id, order_id, raw_id FROM staging.refund
               UNION ALL SELECT 'dispute', connection, source_id, order_id, raw_id FROM staging.dispute) all_named
       ORDER BY record, connection, source_id, raw_id DESC),
    led AS (
      SELECT ar.*, used.match_id, ar.record IN ('sale', 'invoice') AS is_document, r.of_id AS reduces, coalesce(o.source_id, u.source_id) AS order_id,
             coalesce(o.connection, u.connection) AS order_connection
        FROM ar
        LEFT JOIN named n ON ar.record NOT IN ('sale', 'invoice')
                         AND (n.record, n.connection, n.source_id) = (ar.record, ar.connection, ar.source_id)
        LEFT JOIN orders o ON (o.connection, o.source_id) = (ar.connection, n.order_id)
        LEFT JOIN unique_orders u ON u.source_id = n.order_id
        LEFT JOIN reduced r ON ar.record = 'invoice' AND (r.connection, r.source_id) = (ar.connection, ar.source_id)
        LEFT JOIN recon.used used
               ON used.entity = %(entity)s AND (used.role, used.currency) = (ar.role, ar.currency)
              AND (used.connection, used.record, used.source_id) = (ar.connection, ar.record, ar.source_id)),
    placed AS (
      SELECT currency, amount, base, dated, match_id,
             CASE WHEN is_document THEN record WHEN order_id IS NOT NULL THEN 'sale' WHEN amount = 0 THEN 'difference'
                  WHEN match_id IS NOT NULL THEN record ELSE '' END AS of_record,
             CASE WHEN is_document THEN connection WHEN order_id IS NOT NULL THEN order_connection
                  WHEN amount <> 0 AND match_id IS NOT NULL THEN connection ELSE '' END AS of_connection,
             CASE WHEN is_document THEN coalesce(reduces, source_id) WHEN order_id IS NOT NULL THEN order_id
                  WHEN amount <> 0 AND match_id IS NOT NULL THEN source_id ELSE '' END AS of_id
        FROM led),
    parts AS MATERIALIZED (
      SELECT currency, of_record, of_connection, of_id, max(dated) AS dated, sum(amount) AS amount, sum(base) AS base,
             coalesce(array_agg(DISTINCT match_id) FILTER (WHERE match_id IS NOT NULL), '{}') AS matches
        FROM placed GROUP BY 1, 2, 3, 4),
    settled AS MATERIALIZED (
      SELECT match_id FROM parts, unnest(matches) AS match_id WHERE amount <> 0
       GROUP BY 1 HAVING sum(amount) = 0 AND bool_and(cardinality(matches) = 1)),
    judged AS (
      SELECT *, amount = 0 OR EXISTS (SELECT 1 FROM settled WHERE match_id = ANY(matches)) AS is_cleared
        FROM parts)
    SELECT currency, of_record, of_connection, of_id, coalesce(o.dated, i.dated, j.dated), amount::bigint, base::bigint, matches
      FROM judged j LEFT JOIN orders o ON of_record = 'sale' AND (o.connection, o.source_id) = (of_connection, of_id)
      LEFT JOIN invoices i ON of_record = 'invoice' AND (i.connection, i.source_id) = (of_connection, of_id)
     WHERE NOT is_cleared
    UNION ALL
    SELECT currency, 'difference', '', '', NULL, 0, sum(base)::bigint, '{}' FROM judged WHERE is_cleared GROUP BY 1 HAVING sum(base) <> 0
     ORDER BY 1, 2, 3, 4
"""
"""Documents with what leads to them, and what else matches use, as far as it isn't cleared. The many matches that come to zero end here."""
_DOCUMENTS = ("sale", "invoice")
_DIFFERENCES, _UNALLOCATED = "Exchange differences", "Unallocated"


def _items(connection: Connection, scope: Scope) -> list[Item]:
    """By currency: orders and invoices, oldest first, then what belongs to none. All versions of a record are led to the same order."""
    parts = [Part(*row) for row in connection.execute(_PARTS, scope.arguments)]
    netted = net(one for one in parts if one.record != "difference")
    items = [
        Item(one.currency, "", one.source_id, one.connection, one.dated, one.amount_minor, one.base_minor)
        for one in netted.open
        if one.record in _DOCUMENTS
    ]
    rest: dict[tuple[str, str], tuple[int, int]] = {}

    def add(currency: str, label: str, amount: int, base: int) -> None:
        before = rest.get((currency, label), (0, 0))
        rest[currency, label] = before[0] + amount, before[1] + base

    for one in netted.open:
        if one.record not in _DOCUMENTS:
            add(one.currency, _UNALLOCATED, one.amount_minor, one.base_minor)
    for one in parts:
        if one.record == "difference":
            add(one.currency, _DIFFERENCES, 0, one.base_minor)
    for currency, base in netted.differences.items():
        add(currency, _DIFFERENCES, 0, base)
    items += [Item(*at, "", "", None, *sums) for at, sums in rest.items() if sums != (0, 0)]
    return sorted(items, key=lambda i: (i.currency, i.dated or date.max, i.connection, i.source_id, i.label))


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
    age = None if item.dated is None else _days(item.dated, scope.last)
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
