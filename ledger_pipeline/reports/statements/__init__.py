"""The statements of an entity for a range of days, each computed from the ledger's lines, with the checks that say whether it ties.

`make` computes them, `ledger_pipeline.reports.render` writes them. Belongs here: what a statement says. Doesn't: how it looks in a file.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping

from ledger_pipeline.reports.statements.balance_sheet import balance_sheet
from ledger_pipeline.reports.statements.cash_flow import cash_flow
from ledger_pipeline.reports.statements.general_ledger import DoesNotTie, general_ledger
from ledger_pipeline.reports.statements.gift_cards import gift_cards
from ledger_pipeline.reports.statements.profit_and_loss import profit_and_loss
from ledger_pipeline.reports.statements.receivables_ageing import receivables_ageing
from ledger_pipeline.reports.statements.sales_tax import sales_tax
from ledger_pipeline.reports.statements.statement import Scope, Statement
from ledger_pipeline.reports.statements.trial_balance import trial_balance
from ledger_pipeline.store.database import Connection

__all__ = ["STATEMENTS", "DoesNotTie", "Scope", "Statement", "make"]

STATEMENTS: Mapping[str, tuple[str, Callable[[Connection, Scope], Statement]]] = {
    "trial_balance": ("Opening, debits, credits and closing of every account.", trial_balance),
    "profit_and_loss": ("Income less expenses, beside the range before.", profit_and_loss),
    "balance_sheet": ("Assets, liabilities and equity on the last day.", balance_sheet),
    "cash_flow": ("What came to the bank and left it, by what stood on the other side.", cash_flow),
    "general_ledger": ("Every line with its running balance and its source.", general_ledger),
    "sales_tax": ("Tax charged, refunded and paid, by jurisdiction.", sales_tax),
    "gift_cards": ("What is owed on gift cards, month by month.", gift_cards),
    "receivables_ageing": ("What customers owe, by how long they have owed it.", receivables_ageing),
}
"""By name, in the order in which they are printed: what it says, and the function that computes it."""


def make(connection: Connection, scope: Scope, only: Collection[str] = ()) -> Iterator[Statement]:
    """All statements, or those of `only`, each computed when it is asked for. The connection is in a transaction of one snapshot
    (REPEATABLE READ), so that they agree with each other; a general ledger is read before the next one is asked for.

    Raises KeyError with the known names for an unknown one.
    """
    for name in only:
        if name not in STATEMENTS:
            raise KeyError(f"unknown statement {name!r}; known are {', '.join(STATEMENTS)}")
    return (compute(connection, scope) for name, (_, compute) in STATEMENTS.items() if not only or name in only)
