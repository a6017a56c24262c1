"""Stated balances against the ledger: with and without a date, an opening balance, and what is around the first day that differs."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from ledger_pipeline.orchestration import quarantine
from ledger_pipeline.reconcile import statements
from ledger_pipeline.reconcile.statements import Account
from ledger_pipeline.store import staging
from ledger_pipeline.store.database import Database
from ledger_pipeline_tests.fakes import DAY, FakeCompany, row, table
from ledger_pipeline_tests.reconcile.conftest import NOW, TRANSIT, Desk, on
from ledger_pipeline_tests.reports.test_controls import Bank, line

NEXT, THIRD, FOURTH = (DAY + timedelta(days=n) for n in (1, 2, 3))
OUT = "uncategorised_expense"


def read(database: Database, names: Sequence[str] = ("bank",), through: date | None = None) -> list[Account]:
    with database.connect("reader") as connection:
        return statements.of_entity(connection, "acme", names, through)


def only(database: Database) -> Account:
    (account,) = read(database)
    return account


def differences(account: Account) -> list[int]:
    return [account.difference_minor(one) for one in account.balances]


# dated balances, by hand ---------------------------------------------------------------------------------------------------


def state(desk: Desk, amount: int, day: int, kind: str = "closing", pulled: int | None = None, **facts: Any) -> None:
    """The bank states a balance for a day, in a pull of that or another day."""
    at = on(day if pulled is None else pulled)
    name = f"{amount}/{day}/{kind}/{at}/{facts}"
    with desk.database.connect("writer") as c:
        found = c.execute(
            "INSERT INTO raw.record (connection, stream, source_id, content_hash, sync_date, fetched_at, run_id, payload) "
            "VALUES ('bank', 'accounts', %s, %s, %s, %s, 'r', '{}') RETURNING raw_id",
            (name, hashlib.sha256(name.encode()).digest(), at, NOW),
        ).fetchone()
        assert found is not None
        one = row("bank_balance", found[0], name, amount_minor=amount, stated_on=on(day), kind=kind, **facts)
        staging.write(c, "bank", at, "bank_balance", table("bank_balance", one))


def test_the_first_balance_says_what_the_ledger_lacks_and_later_ones_lack_the_same(desk: Desk) -> None:
    desk.bank("b1", 500)
    state(desk, 10_500, 0)
    desk.bank("b2", -200, 1)
    desk.bank("b3", 50, 2)
    state(desk, 10_350, 3)
    account = only(desk.database)
    assert [(b.day, b.stated_minor, b.ledger_minor) for b in account.balances] == [
        (on(0), 10_500, 500), (on(3), 10_350, 350),
    ]  # fmt: skip
    assert (account.opening_minor, account.first, account.said) == (10_000, None, "")


@pytest.mark.parametrize(("opening", "off"), [(10_000, []), (9_000, [1_000, 1_000])])
def test_with_an_opening_balance_the_ledger_lacks_nothing(desk: Desk, opening: int, off: list[int]) -> None:
    desk.books.post("ob", on(-1), ("bank:a1", opening), ("opening_balance", -opening), connection="hand")
    desk.bank("b1", 500)
    state(desk, 10_500, 0)
    state(desk, 10_500, 1)
    account = only(desk.database)
    assert [d for d in differences(account) if d] == off
    assert (account.opening_minor, account.last_agreeing) == (0, None)
    assert account.first == (account.balances[0] if off else None)


def test_balances_before_the_opening_lack_what_the_first_one_did(desk: Desk) -> None:
    state(desk, 10_000, 0)
    state(desk, 10_000, 1)
    desk.books.post("ob", on(2), ("bank:a1", 9_900), ("opening_balance", -9_900), connection="hand")
    state(desk, 10_000, 2)
    account = only(desk.database)
    assert (differences(account), account.opening_minor) == ([0, 0, 100], 10_000)


def test_the_first_day_that_differs_is_named_with_the_unmatched_line_that_explains_it(desk: Desk) -> None:
    """The books have a deposit twice, the bank once."""
    state(desk, 0, 0)
    desk.payout("po_1", 300)
    desk.bank("b1", 300, 1, "STRIPE po_1")
    desk.bank("b2", 70, 1, "NOBODY KNOWS")
    state(desk, 370, 1)
    desk.bank("b3", 300, 2, "AGAIN")
    desk.bank("b4", 10, 2, role=OUT)
    state(desk, 380, 2)
    state(desk, 380, 3)
    desk.bank("b5", 1, 4, "LATER")
    state(desk, 381, 4)
    desk.run()
    account = only(desk.database)
    assert differences(account) == [0, 0, -300, -300, -300]
    assert account.first is not None
    assert account.last_agreeing is not None
    assert (account.first.day, account.last_agreeing.day, len(account.differing)) == (on(2), on(1), 3)
    (one,) = account.lines
    assert (one.source_id, one.why, one.explains_minor) == ("b3", "unmatched", -300)
    assert one.note == f"nothing on {TRANSIT} belongs to it"
    assert account.is_explained
    assert account.said == (
        "differs from 2026-10-07 by -3.00 USD, agreed on 2026-10-06; explained by what is around it"
    )


def test_a_matched_line_is_no_explanation(desk: Desk) -> None:
    state(desk, 0, 0)
    desk.payout("po_1", 300)
    desk.bank("b1", 300, 1, "STRIPE po_1")
    state(desk, 0, 1)
    assert [one.source_id for one in only(desk.database).lines] == ["b1"]
    desk.run()
    account = only(desk.database)
    assert (differences(account), account.lines, account.is_explained) == ([0, -300], (), False)
    assert account.said.endswith("; not explained by what is around it")


def test_a_corrected_line_counts_as_it_stands(desk: Desk) -> None:
    state(desk, 0, 0)
    entry = desk.bank("b1", 300, 1)
    state(desk, 250, 1)
    desk.books.reverse(entry, on(1))
    desk.books.post(
        "b1", on(1), ("bank:a1", 250), (TRANSIT, -250), record="bank_transaction", connection="bank", kind="replacement", corrects=entry
    )  # fmt: skip
    assert differences(only(desk.database)) == [0, 0]


def test_only_the_accounts_own_money_counts(desk: Desk) -> None:
    """Not another account's, not another currency's; what another connection posts to the account does."""
    state(desk, 0, 0)
    state(desk, 0, 0, pulled=1, currency="EUR")
    desk.books.post("x1", on(1), ("bank:a2", 5), (OUT, -5), connection="bank")
    desk.books.post("x2", on(1), ("bank:a1", 7, "EUR", 8), (OUT, -7, "EUR", -8), connection="bank")
    desk.books.post("x3", on(1), ("bank:a1", 9), (OUT, -9), connection="hand")
    state(desk, 9, 2)
    state(desk, 7, 2, pulled=3, currency="EUR")
    assert [(a.currency, differences(a)) for a in read(desk.database)] == [("EUR", [0, 0]), ("USD", [0, 0])]


def test_the_last_word_for_a_day_counts_and_a_closing_balance_before_a_current_one(desk: Desk) -> None:
    state(desk, 1, 0)
    state(desk, 2, 0, pulled=1)
    state(desk, 3, 0, "current", pulled=2)
    state(desk, 4, 1, "available", pulled=3)
    state(desk, 5, 1, "opening", pulled=4)
    assert [(b.day, b.stated_minor) for b in only(desk.database).balances] == [(on(0), 2)]


def test_balances_until_a_day(desk: Desk) -> None:
    for day in range(3):
        state(desk, 100 * day, day)
    assert [differences(a) for a in read(desk.database, through=on(1))] == [[0, 100]]
    assert read(desk.database, through=on(-1)) == []
    assert read(desk.database, ["other"]) == []


# balances with and without a date, pulled ----------------------------------------------------------------------------------


@pytest.fixture
def bank(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bank:
    return Bank(FakeCompany(database, tmp_path, monkeypatch), monkeypatch)


def test_a_balance_without_a_date_agrees_with_what_the_pulls_knew(bank: Bank) -> None:
    """A line that the bank removes a day later is in the first balance and not in the second."""
    bank.night(DAY, 10000, line("l0", 500))
    bank.night(NEXT, 10700, line("l1", 400, NEXT), line("l2", 300, NEXT))
    bank.night(THIRD, 10350, {"id": "l2"}, line("l3", -50, THIRD))
    account = only(bank.company.database)
    assert [b.ledger_minor for b in account.balances] == [500, 1200, 850]
    assert (differences(account), account.opening_minor) == ([0, 0, 0], 9500)


@pytest.mark.parametrize("is_dated", [False, True])
def test_a_line_that_never_came_is_a_difference_that_nothing_explains(bank: Bank, is_dated: bool) -> None:
    bank.night(DAY, 10000, line("l0", 500), is_dated=is_dated)
    bank.night(NEXT, 10700, line("l1", 400, NEXT), is_dated=is_dated)
    bank.night(THIRD, 10750, line("l2", 50, THIRD), is_dated=is_dated)
    account = only(bank.company.database)
    assert differences(account) == [0, 300, 300]
    assert account.first is not None
    assert (account.first.day, account.lines, account.is_explained) == (NEXT, (), False)


@pytest.mark.parametrize("is_dated", [False, True])
def test_a_quarantined_line_explains_the_difference_until_it_is_repaired(bank: Bank, is_dated: bool) -> None:
    bank.night(DAY, 10000, line("l0", 500), is_dated=is_dated)
    bank.night(NEXT, 9900, line("l1", "a", NEXT, out=100), line("l2", 0, NEXT), is_dated=is_dated)
    account = only(bank.company.database)
    assert differences(account) == [0, -100]
    by_why = {one.source_id: (one.why, one.explains_minor) for one in account.lines}
    assert by_why["l1"] == ("quarantined", -100)
    assert account.is_explained
    bank.night(THIRD, 9900, line("l1", -100, NEXT), is_dated=is_dated)
    assert differences(only(bank.company.database)) == [0, 0, 0]


def test_what_a_person_left_out_of_the_books_is_named(bank: Bank) -> None:
    bank.night(DAY, 10000, line("l0", 500))
    bank.night(NEXT, 9900, line("l1", "a", NEXT, out=100))
    raw_id = bank.company.rows("SELECT raw_id FROM raw.record WHERE source_id = 'l1'")[0][0]
    quarantine.ignore(bank.runtime, raw_id, by="Ann", reason="not ours", run_id="act")
    account = only(bank.company.database)
    (one,) = account.lines
    assert (one.why, one.note, one.explains_minor) == ("ignored", "ignored by Ann: not ours", -100)
    assert (differences(account), account.is_explained) == ([0, -100], True)


def test_lines_around_are_those_since_the_balance_that_agreed(bank: Bank) -> None:
    """A line that was quarantined before the first balance is in the opening difference."""
    bank.night(DAY, 10000, line("l0", 500), line("l1", "a", DAY, out=7))
    bank.night(NEXT, 10000)
    bank.night(THIRD, 9900, line("l2", "a", THIRD, out=100))
    assert [one.source_id for one in only(bank.company.database).lines] == ["l2"]
