"""Trial balance: every account's opening, debits, credits and closing, in base and beside it in a foreign currency."""

from __future__ import annotations

from collections import defaultdict
from itertools import groupby

from ledger_pipeline.model.money import from_minor
from ledger_pipeline.reports.statements.movements import Movement, movements
from ledger_pipeline.reports.statements.statement import (
    Cell,
    Check,
    Column,
    Row,
    Scope,
    Statement,
    Total,
    all_zero,
    periods,
    zero,
)
from ledger_pipeline.store.database import Connection

_FIGURES = ("Opening", "Debits", "Credits", "Closing")


def trial_balance(connection: Connection, scope: Scope) -> Statement:
    """One row per account and currency that has a balance or moved. Openings and closings are signed, debit positive."""
    found = movements(connection, scope)
    columns = (
        Column("Account"),
        Column("Name"),
        Column("Type"),
        *(Column(f"{figure} {scope.base_currency}", "money") for figure in _FIGURES),
        Column("Currency"),
        *(Column(f"{figure} in currency", "money") for figure in _FIGURES),
    )
    rows = [_row(scope, list(group)) for _, group in groupby(sorted(found, key=_of_account), key=_of_account)]
    sums = [sum(column) for column in zip(*map(_base, found), strict=True)] or [0, 0, 0, 0]
    total = Row(("", "Total", "", *map(scope.money, sums), scope.base_currency, None, None, None, None), "total")
    return Statement(
        "trial_balance",
        "Trial balance",
        scope,
        columns,
        (*(row for row in rows if any(row.cells[3:7]) or any(row.cells[8:])), total),
        _checks(scope, found, sums),
        periods(connection, scope),
        (Total("debits", sums[1], scope.base_currency), Total("credits", sums[2], scope.base_currency)),
        notes=(
            "Openings and closings are debit positive. Income and expense accounts run on over the year's end; the balance sheet closes them.",
        ),
    )


def _of_account(movement: Movement) -> tuple[str, str]:
    return movement.account, movement.currency


def _base(movement: Movement) -> tuple[int, int, int, int]:
    return movement.opening_base, movement.debit_base, movement.credit_base, movement.closing_base


def _foreign(movement: Movement) -> tuple[int, int, int, int]:
    return movement.opening_minor, movement.debit_minor, movement.credit_minor, movement.closing_minor


def _row(scope: Scope, group: list[Movement]) -> Row:
    head = group[0]
    in_base = (scope.money(sum(column)) for column in zip(*map(_base, group), strict=True))
    foreign: tuple[Cell, ...] = (None,) * 4
    if head.currency != scope.base_currency:
        foreign = tuple(from_minor(sum(column), head.currency) for column in zip(*map(_foreign, group), strict=True))
    return Row((head.account, head.name, head.type, *in_base, head.currency, *foreign))


def _checks(scope: Scope, found: list[Movement], sums: list[int]) -> tuple[Check, ...]:
    by_currency: dict[str, int] = defaultdict(int)
    for movement in found:
        by_currency[movement.currency] += movement.closing_minor
    return (
        zero("openings sum to zero", sums[0], scope.base_currency),
        zero("debits equal credits", sums[1] - sums[2], scope.base_currency),
        zero("closings sum to zero", sums[3], scope.base_currency),
        all_zero("closings sum to zero in every currency", sorted(by_currency.items())),
    )
