"""The trial balance and the fates of a sync date, straight from the database."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from ledger_pipeline.store.database import Connection


@dataclass(frozen=True, slots=True)
class Row:
    """Signed, debit positive: `amount_minor` in `currency`, `base_minor` in the entity's base currency."""

    entity: str
    account: str
    name: str
    type: str
    role: str
    currency: str
    amount_minor: int
    base_minor: int


def of_entities(
    connection: Connection, *, entity: str | None = None, through: date | None = None, by_role: bool = False
) -> list[Row]:
    """Balances by account (and role) and currency of all entries posted until `through`, accounts without any balance left out."""
    role = "l.role" if by_role else "''"
    rows = connection.execute(
        f"""
        SELECT l.entity, l.account, a.name, a.type, {role} AS role, l.currency, sum(l.amount_minor)::bigint, sum(l.base_minor)::bigint
          FROM ledger.line l JOIN ledger.account a ON a.entity = l.entity AND a.code = l.account
         WHERE (%(entity)s::text IS NULL OR l.entity = %(entity)s) AND (%(through)s::date IS NULL OR l.posted_on <= %(through)s)
         GROUP BY 1, 2, 3, 4, 5, 6
        HAVING sum(l.amount_minor) <> 0 OR sum(l.base_minor) <> 0
         ORDER BY 1, 2, 5, 6
        """,
        {"entity": entity, "through": through},
    )
    return [Row(*row) for row in rows]


def unbalanced(rows: Sequence[Row]) -> list[str]:
    """What doesn't sum to zero; empty for a sound ledger."""
    sums: dict[tuple[str, str], int] = defaultdict(int)
    for row in rows:
        sums[row.entity, row.currency] += row.amount_minor
        sums[row.entity, "base"] += row.base_minor
    return [f"{entity}: {total} {currency} minor units" for (entity, currency), total in sorted(sums.items()) if total]
