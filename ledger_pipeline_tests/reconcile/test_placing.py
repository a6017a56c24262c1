"""Bank lines that no rule knows post by what they match, and go back when the match ends; declared ones follow their rule."""

from __future__ import annotations

from pathlib import Path

import pytest

from ledger_pipeline.orchestration import reconciling, replay
from ledger_pipeline.store import periods
from ledger_pipeline.store.database import Database
from ledger_pipeline_tests.reconcile.house import MONDAY, House


@pytest.fixture
def house(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    return House(database, tmp_path, monkeypatch)


def states(house: House) -> list[tuple[str, str, str]]:
    return [(one.role, one.kind, one.state) for one in house.live()]


# by what they match --------------------------------------------------------------------------------------------------------


def test_a_line_that_names_an_invoice_pays_it(house: House) -> None:
    house.invoice("s1", 120_00, number="INV-1001")
    house.line("b1", 120_00, 3, "WIRE FROM CUSTOMER INV-1001")
    assert house.role("b1") == "unidentified_receipts"
    ran = house.run()
    assert (ran.matched, ran.placed) == (1, 1)
    assert house.role("b1") == "accounts_receivable"
    assert (house.balance("accounts_receivable"), house.balance("unidentified_receipts")) == (0, 0)
    assert house.rows("SELECT kind, rule, raw_id = min(raw_id) OVER () FROM ledger.entry WHERE connection = 'bank' ORDER BY entry_id") == [
        ("original", "bank_transaction", True),
        ("reversal", "bank_transaction", True),
        ("replacement", "bank_transaction", True),
    ]  # fmt: skip


def test_a_payout_under_an_unknown_descriptor_is_found_by_its_id(house: House) -> None:
    house.payout("po_1MxyzABC", 500_00)
    house.line("b1", 500_00, 2, "ACH CREDIT PO1MXYZABC")
    house.run()
    assert house.role("b1") == "payout_in_transit"
    assert house.balance("payout_in_transit") == 0


def test_one_deposit_for_many_invoices(house: House) -> None:
    for number in (1001, 1002, 1003):
        house.invoice(f"s{number}", 100_00 + number, number=f"INV-{number}")
    house.line("b1", 300_00 + 3006, 4, "ACME BULK INV-1001 INV-1002, INV-1003")
    house.run()
    assert house.role("b1") == "accounts_receivable"
    assert house.balance("accounts_receivable") == 0
    assert [len(one.members) for one in house.live()] == [4]


def test_an_invoice_paid_in_parts_stays_open_for_the_rest(house: House) -> None:
    house.invoice("s1", 100_00, number="INV-2001")
    house.line("b1", 40_00, 3, "INV-2001 PART 1")
    house.run()
    assert (house.role("b1"), house.balance("accounts_receivable")) == ("accounts_receivable", 60_00)
    house.line("b2", 60_00, 9, "INV2001 REST")
    ran = house.run()
    assert (ran.joined, ran.placed) == (1, 1)
    assert (house.role("b2"), house.balance("accounts_receivable")) == ("accounts_receivable", 0)
    assert [len(one.members) for one in house.live()] == [3]


def test_a_reference_is_never_ignored_for_an_equal_amount(house: House) -> None:
    house.invoice("s1", 80_00, 0, number="INV-3001")
    house.invoice("s2", 80_00, 0, number="INV-3002")
    house.line("b1", 80_00, 1, "PAYMENT OF INV-3002")
    house.run()
    (one,) = [m for m in house.live() if m.state == "matched"]
    assert {m.source_id for m in one.members} == {"s2", "b1"}
    assert house.balance("accounts_receivable") == 80_00


def test_more_than_is_owed_is_a_suggestion(house: House) -> None:
    house.invoice("s1", 80_00, number="INV-3001")
    house.line("b1", 90_00, 1, "INV-3001")
    house.run()
    assert states(house) == [("accounts_receivable", "reference", "suggested")]
    assert house.role("b1") == "unidentified_receipts"


def test_an_equal_amount_alone_is_a_suggestion_and_one_that_fits_two_accounts_is_asked_about_once(house: House) -> None:
    house.invoice("s1", 80_00)
    house.payout("po_1", 80_00)
    house.line("b1", 80_00, 0, "CREDIT")
    house.run()
    (one,) = house.live()
    assert (one.state, one.score < 850) == ("suggested", True)
    assert house.role("b1") == "unidentified_receipts"


def test_a_declared_rule_is_not_overridden(house: House) -> None:
    house.invoice("s1", 700_00, number="INV-4001")
    house.line("b1", -700_00, 1, "RENT INV-4001")
    house.line("b2", 700_00, 1, "RENT REBATE INV-4001")
    house.run()
    assert (house.role("b1"), house.role("b2")) == ("rent", "rent")
    assert house.live() == []


# what people decide --------------------------------------------------------------------------------------------------------


def test_an_accepted_suggestion_moves_the_line_and_a_rejected_match_moves_it_back(house: House) -> None:
    house.invoice("s1", 80_00)
    house.line("b1", 80_00, 0, "CREDIT")
    house.run()
    (one,) = house.live()
    reconciling.accept(house.runtime, one.match_id, "Ann", "called them", "accept")
    assert (house.role("b1"), house.balance("accounts_receivable")) == ("accounts_receivable", 0)
    assert not house.run().is_new
    reconciling.reject(house.runtime, one.match_id, "Bob", "another customer", "reject")
    assert (house.role("b1"), house.balance("accounts_receivable")) == ("unidentified_receipts", 80_00)
    assert not house.run().is_new
    assert house.live() == []


# transfers between own accounts --------------------------------------------------------------------------------------------


def test_two_lines_that_say_transfer_are_one(house: House) -> None:
    house.line("out", -1_000_00, 0, "ONLINE TRANSFER TO SAV ...4321", account="checking")
    house.line("in", 1_000_00, 1, "TRANSFER FROM CHK ...1234", account="savings")
    ran = house.run()
    assert (ran.matched, ran.placed) == (1, 2)
    assert (house.role("out"), house.role("in")) == ("transfer_in_transit", "transfer_in_transit")
    assert house.balance("transfer_in_transit") == 0
    assert house.balance("uncategorised_expense") == 0
    assert (house.balance("bank:checking"), house.balance("bank:savings")) == (-1_000_00, 1_000_00)


def test_equal_amounts_that_do_not_say_so_are_a_suggestion(house: House) -> None:
    house.line("out", -1_000_00, 0, "CHECK 1021", account="checking")
    house.line("in", 1_000_00, 0, "TRANSFER FROM A CUSTOMER", account="savings")
    house.run()
    assert states(house) == [("transfer_in_transit", "scored", "suggested")]
    assert house.role("out") == "uncategorised_expense"


def test_money_does_not_move_within_one_account(house: House) -> None:
    house.line("out", -50_00, 0, "TRANSFER", account="checking")
    house.line("in", 50_00, 0, "TRANSFER", account="checking")
    house.run()
    assert house.live() == []


def test_a_declared_transfer_waits_for_its_other_half_and_is_named_when_it_does_not_come(house: House) -> None:
    house.line("out", -75_00, 0, "OWN SAVINGS PLAN", account="checking")
    house.run()
    early = reconciling.position(house.runtime, "acme", MONDAY)
    late = reconciling.position(house.runtime, "acme", MONDAY.replace(day=25))
    assert [(i.role, i.cause, i.amount_minor) for i in early.items] == [("transfer_in_transit", "timing", 75_00)]
    assert [(i.cause, i.note) for i in late.items] == [
        ("payment missing", "bank transaction out: no other own account shows it")
    ]
    house.line("in", 75_00, 2, "OWN SAVINGS PLAN", account="savings")
    assert house.run().matched == 1
    assert reconciling.position(house.runtime, "acme", MONDAY.replace(day=25)).items == ()


# late edits, reruns, replays -----------------------------------------------------------------------------------------------


def test_a_finished_match_survives_a_late_edit_and_the_difference_is_posted(house: House) -> None:
    house.invoice("s1", 120_00, number="INV-1001")
    house.line("b1", 120_00, 3, "INV-1001")
    house.run()
    (before,) = house.live()
    house.invoice("s1", 150_00, number="INV-1001", edit=1)
    house.line("b1", 110_00, 3, "INV-1001", edit=1)
    assert not house.run().is_new
    assert [one.match_id for one in house.live()] == [before.match_id]
    assert (house.role("b1"), house.balance("accounts_receivable")) == ("accounts_receivable", 40_00)


def test_a_line_that_is_edited_to_say_something_else_keeps_what_it_is_matched_with(house: House) -> None:
    house.invoice("s1", 120_00, number="INV-1001")
    house.line("b1", 120_00, 3, "INV-1001")
    house.run()
    house.line("b1", 120_00, 3, "RENT", edit=1)
    assert not house.run().is_new
    assert house.role("b1") == "accounts_receivable"


def test_a_line_goes_back_when_what_it_paid_is_gone(house: House) -> None:
    house.invoice("s1", 120_00, number="INV-1001")
    house.line("b1", 120_00, 3, "INV-1001")
    house.run()
    house.invoice("s1", 0, number="INV-1001", edit=1)
    ran = house.run()
    assert (ran.dissolved, ran.placed) == (1, 1)
    assert (house.role("b1"), house.balance("accounts_receivable")) == ("unidentified_receipts", 0)


def test_running_a_night_again_and_a_replay_leave_what_was_moved(house: House) -> None:
    house.invoice("s1", 120_00, number="INV-1001")
    house.line("b1", 120_00, 3, "INV-1001")
    house.run()
    before = house.rows("SELECT count(*) FROM ledger.entry")
    house.line("b1", 120_00, 3, "INV-1001")
    first, last = MONDAY, MONDAY.replace(day=20)
    for found in (
        replay.preview(house.runtime, "bank", first, last),
        replay.replay(house.runtime, "bank", first, last),
    ):
        assert (found.changes, found.unchanged) == ([], 1)
    assert house.rows("SELECT count(*) FROM ledger.entry") == before


def test_in_a_closed_month_the_line_moves_in_the_first_open_one(house: House) -> None:
    house.invoice("s1", 120_00, number="INV-1001")
    house.line("b1", 120_00, 3, "INV-1001")
    month = MONDAY.replace(day=1)
    with house.database.connect() as connection:
        periods.record_event(connection, "acme", month, "closing", by="Ann", at=house.now)
        closed = periods.content(connection, "acme", month)
        periods.record_event(connection, "acme", month, "closed", by="Ann", at=house.now, closed=closed)
    ran = house.run()
    assert ran.placed == 1
    assert house.rows("SELECT kind, posted_on::text, is_prior_period FROM ledger.entry WHERE connection = 'bank' ORDER BY entry_id") == [
        ("original", "2026-10-08", False),
        ("reversal", "2026-11-01", True),
        ("replacement", "2026-11-01", True),
    ]  # fmt: skip
