"""Open items: each has one cause, and they sum to the balance (the desk checks that every time)."""

from __future__ import annotations

import pytest

from ledger_pipeline.reconcile import open_items
from ledger_pipeline.reconcile.engine import Policy
from ledger_pipeline.reconcile.open_items import CAUSES
from ledger_pipeline_tests.reconcile.conftest import CLEARING, Desk, on


def history(desk: Desk) -> None:
    """One order that was paid, one payout that arrived: both sides of both accounts are known."""
    desk.sale("old", 50, -30)
    desk.charge("old", "old", 50, -30)
    desk.payout("po_old", 40, -28)
    desk.bank("old", 40, -27)
    desk.run()


def test_the_causes_are_those_of_the_policy() -> None:
    assert list(CAUSES) == ["timing", "payment missing", "order missing", "amount differs", "fee differs", "fx",
                            "duplicate", "refund pending", "foreign"]  # fmt: skip


def test_an_order_without_its_payment_waits_a_day(desk: Desk) -> None:
    history(desk)
    desk.sale("o1", 8_449)
    desk.run()
    assert desk.causes(1) == [("sale o1", 8_449, "timing")]
    assert desk.causes(2) == [("sale o1", 8_449, "payment missing")]
    (item,) = desk.open(12)
    assert (item.since, item.age_days, item.base_minor, item.note) == (
        on(0),
        12,
        8_449,
        "sale o1: expected until 2026-10-06",
    )


def test_a_payment_without_its_order(desk: Desk) -> None:
    history(desk)
    desk.charge("t1", "o1", 1_250)
    desk.run()
    assert desk.causes(1) == [("charge t1", -1_250, "timing")]
    assert desk.causes(2) == [("charge t1", -1_250, "order missing")]


def test_a_payout_has_its_usual_delay_and_three_business_days(desk: Desk) -> None:
    """Usually one business day: Monday's is due on Friday."""
    history(desk)
    desk.payout("po_1", 500)
    desk.run()
    assert desk.causes(4) == [("payout po_1", 500, "timing")]
    assert desk.causes(5) == [("payout po_1", 500, "payment missing")]


def test_a_deposit_that_no_payout_explains(desk: Desk) -> None:
    history(desk)
    desk.bank("b1", 321, 4)
    desk.run()
    assert desk.causes(7) == [("bank transaction b1", -321, "timing")]  # Friday's, seen on Monday
    assert desk.causes(8) == [("bank transaction b1", -321, "order missing")]


def test_the_same_deposit_twice_is_a_duplicate(desk: Desk) -> None:
    history(desk)
    desk.payout("po_1", 500)
    desk.bank("b1", 500, 1, "STRIPE TRANSFER 77")
    desk.run()
    desk.bank("b2", 500, 1, "STRIPE TRANSFER 77")
    desk.run()
    assert desk.causes(20) == [("bank transaction b2", -500, "duplicate")]
    assert desk.open(20)[0].note == "bank transaction b2 says the same as bank transaction b1"


def test_a_charge_twice_for_one_order_is_a_duplicate(desk: Desk) -> None:
    history(desk)
    desk.sale("o1", 100)
    desk.charge("t1", "o1", 100)
    desk.charge("t2", "o1", 100)
    desk.run()
    assert [(amount, cause) for _, amount, cause in desk.causes()] == [(-100, "duplicate")]


def test_a_difference_that_is_the_fee(desk: Desk) -> None:
    history(desk)
    desk.sale("o1", 100)
    desk.charge("t1", "o1", 97, fee=3)
    desk.sale("o2", 100)
    desk.charge("t2", "o2", 90, fee=3)
    desk.run()
    assert [(amount, cause) for _, amount, cause in desk.causes()] == [(3, "fee differs"), (10, "amount differs")]


def test_a_bank_fee_within_the_tolerance(desk: Desk) -> None:
    history(desk)
    policy = Policy(tolerance_minor=15)
    desk.payout("po_1", 500)
    desk.bank("b1", 488, 1)
    desk.run(policy)
    assert [(amount, cause) for _, amount, cause in desk.causes(policy=policy)] == [(12, "fee differs")]


def test_a_refund_that_the_processor_has_not_made(desk: Desk) -> None:
    history(desk)
    desk.sale("o1", 100)
    desk.charge("t1", "o1", 100)
    desk.run()
    desk.refund("r1", "o1", 30)
    desk.sale("o2", 70)
    desk.charge("t2", "o2", 70)
    desk.refund("r2", "o2", 20)
    desk.run()
    assert [(amount, cause) for _, amount, cause in desk.causes()] == [(-30, "refund pending"), (-20, "refund pending")]


def test_an_order_in_one_currency_and_its_payment_in_another(desk: Desk) -> None:
    history(desk)
    desk.sale("o1", 100)
    desk.charge("t1", "o1", 130, 0, "CAD", 99)
    desk.run()
    assert [(i.currency, i.amount_minor, i.cause) for i in desk.open()] == [("CAD", -130, "fx"), ("USD", 100, "fx")]


def test_a_part_that_was_paid_in_another_currency(desk: Desk) -> None:
    history(desk)
    desk.sale("o1", 100)
    desk.charge("t1", "o1", 60)
    desk.charge("t2", "o1", 50, 0, "CAD", 38)
    desk.run()
    assert [(i.currency, i.amount_minor, i.cause) for i in desk.open()] == [("CAD", -50, "fx"), ("USD", 40, "fx")]


def test_base_amounts_without_amounts_are_one_item_per_account(desk: Desk) -> None:
    for n in (1, 2):
        desk.sale(f"o{n}", 100, 0, CLEARING, "CAD", 75)
        desk.charge(f"t{n}", f"o{n}", 100, 3, "CAD", 73)
    desk.run()
    (item,) = desk.open()
    assert (item.amount_minor, item.base_minor, item.cause, item.members) == (0, 4, "fx", ())


def test_an_account_whose_other_side_nothing_books_is_foreign(desk: Desk) -> None:
    desk.sale("o1", 100, role="order_clearing:paypal")
    desk.run()
    assert desk.causes(9) == [("sale o1", 100, "timing")]
    assert desk.causes(30) == [("sale o1", 100, "foreign")]


def test_a_persons_own_entry_is_foreign(desk: Desk) -> None:
    history(desk)
    desk.books.post("m1", on(0), (CLEARING, 77), ("sales", -77), record="journal")
    desk.run()
    assert desk.causes() == [("journal m1", 77, "foreign")]


def test_what_the_other_side_shows_later_is_timing_on_the_days_before(desk: Desk) -> None:
    desk.payout("po_1", 500)
    desk.bank("b1", 500, 14)
    desk.run(Policy(suggest=0, automatic=0))
    assert desk.causes(13) == [("payout po_1", 500, "timing")]
    assert desk.causes(14) == []


def test_takings_are_banked_by_whole_days(desk: Desk) -> None:
    cash = "order_clearing:cash"
    for day in range(5):
        for n in range(3):
            desk.sale(f"s{day}{n}", 100 + day * 7 + n, day, cash)
    desk.bank("b1", 3 * (100 + 107 + 114) + 9 - 0, 4, "CASH DEPOSIT", cash)
    ran = desk.run()
    assert ran.matched == 1
    assert len(desk.live()[0].members) == 10
    assert {(amount, cause) for _, amount, cause in desk.causes(8)} == {(121 + n, "timing") for n in range(3)} | {
        (128 + n, "timing") for n in range(3)
    }
    assert {cause for *_, cause in desk.causes(30)} == {"payment missing"}


def test_one_deposit_for_two_payouts_is_suggested(desk: Desk) -> None:
    history(desk)
    desk.payout("po_1", 501)
    desk.payout("po_2", 302)
    desk.bank("b1", 803, 1)
    assert desk.run().suggested == 1


def test_a_reference_inside_the_text_and_a_part_payment(desk: Desk) -> None:
    wire = "order_clearing:wire"
    desk.sale("INV-1001", 1_000, 0, wire)
    desk.bank("b1", 600, 3, "PART OF INV-1001, THANKS", wire)
    desk.run()
    assert desk.causes() == [("sale INV-1001, bank transaction b1", 400, "amount differs")]
    desk.bank("b2", 400, 9, "REST INV 1001", wire)
    assert desk.run().joined == 1
    assert desk.open() == []


def test_a_failed_payout_is_undone(desk: Desk) -> None:
    desk.payout("po_1", 500)
    desk.payout("po_1", -500, 1, "payout_failure", "txn_f")
    desk.run()
    assert desk.open() == []


def test_open_items_that_do_not_sum_up_are_named(desk: Desk) -> None:
    desk.sale("o1", 100)
    with desk.database.connect("reader") as connection:
        items = open_items.of_entity(connection, "acme", on(9))
        assert open_items.differences(connection, "acme", items, on(9)) == []
        assert open_items.differences(connection, "acme", [], on(9)) == [
            "order_clearing:stripe USD: open items (0, 0), balance (100, 100)"
        ]


def test_a_closed_months_correction_belongs_to_the_day_of_its_posting(desk: Desk) -> None:
    entry = desk.sale("o1", 100)
    desk.charge("t1", "o1", 100)
    desk.run()
    desk.edit(entry, "o1", 130, 0, new_day=40)
    assert desk.open(39) == []
    assert desk.causes(40) == [("sale o1, charge t1", 30, "amount differs")]


@pytest.mark.parametrize("day", [0, 1, 5, 30])
def test_the_sum_is_the_balance_on_every_day(desk: Desk, day: int) -> None:
    history(desk)
    desk.sale("o1", 100)
    desk.charge("t1", "o1", 60, 1)
    desk.refund("r1", "o9", 5, 5)
    desk.payout("po_1", 55, 2)
    desk.run()
    desk.open(day)
