"""The statements of the booked week: they tie, in both entities, and say what the ledger's balances say."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from ledger_pipeline.orchestration.runtime import Runtime
from ledger_pipeline.reports import render
from ledger_pipeline.reports.render import FORMS
from ledger_pipeline.reports.statements import make
from ledger_pipeline.reports.statements.statement import Row, Scope, Statement
from ledger_pipeline_tests.conftest import START
from ledger_pipeline_tests.pipeline.books import WEEK, WITH_WEEK, balances
from ledger_pipeline_tests.reports.statements.conftest import MADE_AT

pytestmark = WITH_WEEK
ENTITIES = ("hp_us", "hp_uk")


def scope_of(runtime: Runtime, entity: str, first: date, last: date) -> Scope:
    config = runtime.config.entities[entity]
    return Scope(entity, config.name, config.base_currency, first, last, MADE_AT)


def made(
    runtime: Runtime, entity: str, first: date = START, last: date = WEEK[-1]
) -> dict[str, tuple[Statement, list[Row]]]:
    with runtime.database.connect("reader") as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        return {s.name: (s, list(s.rows)) for s in make(connection, scope_of(runtime, entity, first, last))}


def role_balance(runtime: Runtime, entity: str, role: str, last: date = WEEK[-1]) -> int:
    """Base balance of a role with all its parameters."""
    return sum(
        base for (e, r, _, day), (_, base) in balances(runtime).items()
        if e == entity and r.partition(":")[0] == role and day <= last
    )  # fmt: skip


@pytest.mark.parametrize("entity", ENTITIES)
@pytest.mark.parametrize("days", [(0, 6), (2, 4), (6, 6)])
def test_every_statement_ties(week: Runtime, entity: str, days: tuple[int, int]) -> None:
    for statement, rows in made(week, entity, WEEK[days[0]], WEEK[days[1]]).values():
        assert statement.failures == [], statement.name
        assert rows
        assert all(len(row.cells) == len(statement.columns) for row in rows)


@pytest.mark.parametrize("entity", ENTITIES)
def test_totals_are_the_balances_of_their_roles(week: Runtime, entity: str) -> None:
    totals = {f"{name}.{t.name}": t.amount_minor for name, (s, _) in made(week, entity).items() for t in s.totals}
    assert totals["cash_flow.closing_cash"] == role_balance(week, entity, "bank")
    assert totals["sales_tax.closing"] == -role_balance(week, entity, "sales_tax_payable") > 0
    assert totals["gift_cards.closing"] == -role_balance(week, entity, "gift_card_liability")
    assert totals["receivables_ageing.receivables"] == role_balance(week, entity, "accounts_receivable")
    assert (
        totals["cash_flow.operating_cash_flow"] == totals["cash_flow.closing_cash"] - totals["cash_flow.opening_cash"]
    )
    assert totals["trial_balance.debits"] == totals["general_ledger.debits"] > 0


@pytest.mark.parametrize("entity", ENTITIES)
def test_two_ranges_make_up_the_whole(week: Runtime, entity: str) -> None:
    flows = (
        ("profit_and_loss", "net_profit"),
        ("sales_tax", "charged"),
        ("gift_cards", "issued"),
        ("general_ledger", "debits"),
    )
    parts = [made(week, entity), made(week, entity, WEEK[0], WEEK[2]), made(week, entity, WEEK[3], WEEK[6])]
    for name, total in flows:
        whole, one, two = ({t.name: t.amount_minor for t in part[name][0].totals}[total] for part in parts)
        assert whole == one + two, (name, total)
        assert whole, (name, total)


@pytest.mark.parametrize("form", FORMS)
def test_the_files_are_written(week: Runtime, form: render.Form, tmp_path: Path) -> None:
    scope = scope_of(week, "hp_uk", START, WEEK[-1])
    with week.database.connect("reader") as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        written = render.write(make(connection, scope), scope, form, tmp_path)
    assert len(written) == 8
    assert all(one.ties and one.path.stat().st_size > 100 for one in written)
