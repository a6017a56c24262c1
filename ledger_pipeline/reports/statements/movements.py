"""What accounts had, what moved on them and what they have, by account, role and currency."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from ledger_pipeline.reports.statements.statement import Scope
from ledger_pipeline.store.database import Connection


@dataclass(frozen=True, slots=True)
class Movement:
    """Opening before the range, debits and credits (both positive) within it: in `currency`, and in base."""

    account: str
    name: str
    type: str
    role: str
    currency: str
    opening_minor: int
    debit_minor: int
    credit_minor: int
    opening_base: int
    debit_base: int
    credit_base: int

    @property
    def change_base(self) -> int:
        """Debits less credits, in base."""
        return self.debit_base - self.credit_base

    @property
    def closing_base(self) -> int:
        """In base, debit positive."""
        return self.opening_base + self.change_base

    @property
    def closing_minor(self) -> int:
        """In `currency`, debit positive."""
        return self.opening_minor + self.debit_minor - self.credit_minor


def movements(
    connection: Connection, scope: Scope, first: date | None = None, last: date | None = None
) -> list[Movement]:
    """Of the scope's range unless another is given, ordered by account, role and currency."""
    rows = connection.execute(
        """
        SELECT l.account, a.name, a.type, l.role, l.currency,
               coalesce(sum(l.amount_minor) FILTER (WHERE l.posted_on < %(first)s), 0)::bigint,
               coalesce(sum(l.amount_minor) FILTER (WHERE l.posted_on >= %(first)s AND l.amount_minor > 0), 0)::bigint,
               coalesce(-sum(l.amount_minor) FILTER (WHERE l.posted_on >= %(first)s AND l.amount_minor < 0), 0)::bigint,
               coalesce(sum(l.base_minor) FILTER (WHERE l.posted_on < %(first)s), 0)::bigint,
               coalesce(sum(l.base_minor) FILTER (WHERE l.posted_on >= %(first)s AND l.base_minor > 0), 0)::bigint,
               coalesce(-sum(l.base_minor) FILTER (WHERE l.posted_on >= %(first)s AND l.base_minor < 0), 0)::bigint
          FROM ledger.line l JOIN ledger.account a ON a.entity = l.entity AND a.code = l.account
         WHERE l.entity = %(entity)s AND l.posted_on <= %(last)s
         GROUP BY 1, 2, 3, 4, 5
         ORDER BY 1, 4, 5
        """,
        {"entity": scope.entity, "first": first or scope.first, "last": last or scope.last},
    )
    return [Movement(*row) for row in rows]
