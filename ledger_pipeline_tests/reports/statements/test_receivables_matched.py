"""The ageing follows what reconciliation has matched, and ties whatever that is."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from ledger_pipeline.reconcile import matches
from ledger_pipeline.reports.statements import STATEMENTS, Scope, Statement
from ledger_pipeline.store.database import Database
from ledger_pipeline_tests.reconcile.ledgers import Ledgers
from ledger_pipeline_tests.reports.statements.conftest import Books, shown

AR = "accounts_receivable"
NOW = datetime(2026, 12, 1, tzinfo=UTC)


@pytest.fixture
def ledgers(database: Database, tmp_path: Path) -> Ledgers:
    return Ledgers(database, tmp_path)


def ageing(database: Database, last: date = date(2026, 11, 30), base: str = "EUR") -> Statement:
    """Acme's at the end of a day; it ties."""
    with database.connect("reader") as connection:
        made = STATEMENTS["receivables_ageing"][1](
            connection, Scope("acme", "Acme", base, last.replace(day=1), last, NOW)
        )
    assert made.failures == []
    return made


def lines(made: Statement, *at: int) -> list[tuple[str, ...]]:
    """Without the totals."""
    return [row for row in shown(list(made.rows), *at) if not row[0].startswith("Total")]


def test_an_invoice_owes_from_its_due_date_and_is_gone_once_it_is_paid(ledgers: Ledgers) -> None:
    rows = [
        ledgers.invoice("RE-10001", "100.00"),
        ledgers.invoice("RE-10002", "50.00", Due=""),
        ledgers.invoice("RE-10003", "7.00"),
    ]
    ledgers.deliver("invoices", 0, *rows)
    ledgers.deliver("bank", 35, "2026-11-09,100.00,RE-10001")
    ledgers.run()
    assert lines(ageing(ledgers.database), 0, 1, 2, 3, 6, 10) == [
        ("RE-10002", "invoices", "2026-10-05", "56", "", "50.00"),
        ("RE-10003", "invoices", "2026-11-04", "26", "7.00", "7.00"),
    ]
    before = lines(ageing(ledgers.database, date(2026, 10, 31)), 0, 3, 5, 10)
    assert before == [
        ("RE-10002", "26", "", "50.00"),
        ("RE-10001", "0", "100.00", "100.00"),
        ("RE-10003", "0", "7.00", "7.00"),
    ]


def test_what_is_paid_in_part_ages_for_the_rest(ledgers: Ledgers) -> None:
    ledgers.deliver("invoices", 0, ledgers.invoice("RE-1001", "100.00", "19.00"))
    ledgers.deliver("bank", 35, "2026-11-09,60.00,RE-1001 RATE 1")
    ledgers.run()
    made = ageing(ledgers.database)
    assert lines(made, 0, 6, 10, 11) == [("RE-1001", "59.00", "59.00", "59.00")]
    assert [total.amount_minor for total in made.totals] == [59_00]


def test_one_deposit_clears_many_invoices(ledgers: Ledgers) -> None:
    rows = [ledgers.invoice(f"RE-100{n}", f"{n}00.00") for n in (1, 2, 3)]
    ledgers.deliver("invoices", 0, *rows, ledgers.invoice("RE-1004", "7.00"))
    ledgers.deliver("bank", 30, "2026-11-04,600.00,SAMMELZAHLUNG RE-1001 RE-1002 RE-1003")
    ledgers.run()
    assert lines(ageing(ledgers.database), 0, 10) == [("RE-1004", "7.00")]


def test_a_credit_note_counts_with_the_invoice_that_it_reduces(ledgers: Ledgers) -> None:
    ledgers.deliver(
        "invoices", 0, ledgers.invoice("RE-1001", "100.00"), ledgers.invoice("GS-1", "-30.00", Reduces="RE-1001", Due=""),
        ledgers.invoice("GS-2", "-5.00", Due=""),
    )  # fmt: skip
    for _ in ("before", "after"):
        assert lines(ageing(ledgers.database), 0, 10) == [("GS-2", "-5.00"), ("RE-1001", "70.00")]
        ledgers.run()
    ledgers.deliver("bank", 30, "2026-11-04,70.00,RE-1001")
    ledgers.run()
    assert lines(ageing(ledgers.database), 0, 10) == [("GS-2", "-5.00")]


# by hand -----------------------------------------------------------------------------------------------------------------


def matched(database: Database, *members: tuple[str, str, str, int], currency: str = "USD") -> int:
    """Keep a match of (connection, record, id, amount) on the account; its id."""
    with database.connect() as connection:
        row = connection.execute("SELECT nextval('recon.match_id_seq')").fetchone()
        assert row is not None
        connection.execute(
            "INSERT INTO recon.match VALUES (%s, 'acme', %s, %s, 'reference', 900, '{}', false, 'r', %s)",
            (row[0], AR, currency, NOW),
        )
        for member in members:
            connection.execute(
                "INSERT INTO recon.member VALUES (%s, %s, %s, %s, %s, '', 'r', %s)", (row[0], *member, NOW)
            )
    return int(row[0])


def owed(books: Books, id_: str, on: date, amount: int, *foreign: object) -> tuple[str, str, str, int]:
    """An order that is to be paid later."""
    books.post(id_, on, (AR, amount, *foreign), ("sales", -amount, *foreign[:1], *(-f for f in foreign[1:])))  # type: ignore[operator]
    return "shop", "sale", id_, amount


def paid(books: Books, id_: str, on: date, amount: int, *foreign: object) -> tuple[str, str, str, int]:
    """A deposit."""
    books.post(
        id_, on, ("bank:a", amount, *foreign), (AR, -amount, *foreign[:1], *(-f for f in foreign[1:])),  # type: ignore[operator]
        record="bank_transaction", connection="bank",
    )  # fmt: skip
    return "bank", "bank_transaction", id_, -amount


def test_a_dissolved_match_leaves_the_order_open_beside_the_payment(books: Books) -> None:
    on = date(2026, 10, 5)
    members = owed(books, "o1", on, 100), owed(books, "o2", on, 50), paid(books, "b1", on, 120)
    match_id = matched(books.database, *members)
    assert lines(ageing(books.database, base="USD"), 0, 10) == [("o2", "0.30")]
    with books.database.connect() as connection:
        matches.reject(connection, match_id, "Ann", "another customer", "r", NOW)
    assert lines(ageing(books.database, base="USD"), 0, 10) == [
        ("o1", "1.00"),
        ("o2", "0.50"),
        ("Unallocated", "-1.20"),
    ]


def test_what_a_payment_has_too_much_is_unallocated(books: Books) -> None:
    on = date(2026, 10, 5)
    matched(books.database, owed(books, "o1", on, 100), paid(books, "b1", on, 130))
    paid(books, "b2", on, 5)
    assert lines(ageing(books.database, base="USD"), 0, 10) == [("Unallocated", "-0.35")]


def test_a_payment_of_the_next_month_clears_nothing_in_this_one(books: Books) -> None:
    matched(books.database, owed(books, "o1", date(2026, 10, 5), 100), paid(books, "b1", date(2026, 11, 2), 100))
    assert lines(ageing(books.database, date(2026, 10, 31), "USD"), 0, 3, 10) == [("o1", "26", "1.00")]
    assert lines(ageing(books.database, date(2026, 11, 2), "USD"), 0, 10) == []


def test_rates_of_what_is_cleared_are_exchange_differences(books: Books) -> None:
    on = date(2026, 10, 5)
    matched(
        books.database, owed(books, "o1", on, 100, "EUR", 110), paid(books, "b1", on, 60, "EUR", 69), currency="EUR"
    )
    assert lines(ageing(books.database, base="USD"), 0, 10, 11) == [
        ("o1", "0.40", "0.44"), ("Exchange differences", "0.00", "-0.03"),
    ]  # fmt: skip


def test_the_sum_is_the_balance_whatever_is_matched(books: Books) -> None:
    """At random: orders, refunds and payments in two currencies, late edits, matches of any members, some dissolved."""
    dice = random.Random(20261124)
    days = [date(2026, month, 1 + n) for month in (9, 10, 11) for n in range(0, 28, 3)]
    free: dict[str, list[tuple[str, str, str, int]]] = {"USD": [], "EUR": []}
    for n in range(120):
        currency, on, amount = dice.choice(["USD", "EUR"]), dice.choice(days), dice.randint(1, 999)
        foreign = () if currency == "USD" else ("EUR", amount + dice.randint(-9, 99))
        free[currency].append(dice.choice([owed, owed, paid])(books, f"r{n}", on, amount, *foreign))
        if free[currency] and dice.random() < 0.4:
            of = dice.sample(free[currency], min(len(free[currency]), dice.randint(2, 5)))
            match_id = matched(books.database, *of, currency=currency)
            if dice.random() < 0.25:
                with books.database.connect() as connection:
                    matches.reject(connection, match_id, "Ann", "", "r", NOW)
            else:
                free[currency] = [one for one in free[currency] if one not in of]
        if n % 12 == 11:
            for on in dice.sample(days, 3):
                made = ageing(books.database, on, "USD")
                open_ = [row for row in made.rows if row.style not in ("heading", "total")]
                assert sum(row.cells[11] for row in open_) == made.totals[0].amount  # type: ignore[misc]
