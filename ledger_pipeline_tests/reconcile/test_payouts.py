"""What a payout is made of: named by the processor, or the run of transactions that follows the last one's."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from ledger_pipeline.reconcile.open_items import OpenItem
from ledger_pipeline.reconcile.payouts import Movement, Payout, alerts, explain

NOON = datetime(2026, 10, 5, 12, tzinfo=UTC)


def move(id_: str, net: int, day: int, kind: str = "charge", payout: str = "", fee: int = 0) -> Movement:
    return Movement(id_, kind, NOON + timedelta(days=day), net + fee, fee, payout)


def payout(id_: str, amount: int, day: int) -> Payout:
    return Payout("stripe_us", id_, "USD", amount, NOON + timedelta(days=day, hours=1), "paid")


def test_a_payout_is_the_run_that_follows_the_last_ones() -> None:
    moves = [
        move("c1", 970, 0, fee=30),
        move("c2", 500, 0),
        move("r1", -200, 1, "refund"),
        move("c3", 400, 1),
        move("c4", 50, 2),
    ]
    first, second = explain([payout("p1", 1_470, 2), payout("p2", 200, 3)], moves)
    assert (first.how, first.transactions, first.difference_minor) == ("inferred", 2, 0)
    assert first.parts == {"charge": 1_500, "fee": -30}
    assert second.parts == {"charge": 400, "refund": -200}
    assert second.note == "2 transactions: charge 4.00 USD, refund -2.00 USD"


def test_a_failed_payouts_money_comes_with_the_next() -> None:
    moves = [move("c1", 900, 0), move("c2", 100, 1), move("f", 900, 2, "payout_failure")]
    found = explain([payout("p1", 900, 1), payout("p2", 1_000, 3)], moves)
    assert [one.difference_minor for one in found] == [0, 0]
    assert found[1].parts == {"charge": 100, "payout_failure": 900}


def test_what_the_processor_names_counts_where_it_sums_up() -> None:
    moves = [move("c1", 100, 0, payout="gid://x/p1"), move("f1", 70, 0, "fee"), move("c3", 200, 0, payout="gid://x/p1")]
    first, second = explain([payout("gid://x/p1", 300, 2), payout("p2", 70, 3)], [*moves, move("c4", 70, 1)])
    assert (first.how, first.transactions, first.difference_minor) == ("stated", 2, 0)
    assert (second.how, second.parts) == ("inferred", {"charge": 70})  # what follows the named ones


def test_a_difference_is_named_and_the_next_payout_is_found_again() -> None:
    moves = [move(f"c{n}", 100 + n, n) for n in range(4)]
    found = explain([payout("p0", 100, 2), payout("p1", 96, 3), payout("p2", 102, 4)], moves)
    assert [one.difference_minor for one in found] == [0, -5, 0]
    assert found[1].note == "1 transactions: charge 1.01 USD; difference -0.05 USD"
    (alert,) = alerts("hp_us", found, [])
    assert (alert.what, alert.id, alert.amount_minor) == ("payout differs", "p1", 96)


def test_without_transactions_nothing_is_claimed() -> None:
    (found,) = explain([payout("p1", 100, 2)], [])
    assert (found.how, found.difference_minor, found.note) == ("unknown", None, "its transactions are not known")
    assert alerts("hp_us", [found], []) == []


def test_an_overdue_payout_and_a_deposit_without_one_are_alerts() -> None:
    def item(cause: str, side: str, amount: int, role: str = "payout_in_transit") -> OpenItem:
        day = date(2026, 10, 5)
        return OpenItem("hp_us", role, "USD", amount, amount, cause, day, 9, "x", "why", ("a/b/c",), None, side)  # type: ignore[arg-type]

    items = [
        item("payment missing", "left", 5),
        item("order missing", "right", -7),
        item("timing", "left", 9),
        item("payment missing", "left", 11, "order_clearing:stripe"),
        item("fx", "", 0),
    ]
    assert [(a.what, a.amount_minor) for a in alerts("hp_us", [], items)] == [
        ("payout overdue", 5),
        ("deposit unexplained", -7),
    ]


def test_what_the_processor_lists_goes_before_what_follows_from_the_order() -> None:
    moves = [move("c1", 1_000, 0), move("c2", 500, 0), move("c3", 500, 1)]
    listed = {"p1": [moves[0], moves[2]]}
    (found,) = explain([payout("p1", 1_500, 2)], moves, listed)
    assert (found.how, found.transactions, found.difference_minor) == ("stated", 2, 0)
    assert explain([payout("p1", 1_500, 2)], moves)[0].how == "inferred"


def test_a_difference_to_what_is_listed_is_named_even_where_a_run_would_fit() -> None:
    moves = [move("c1", 1_000, 0), move("c2", 500, 0)]
    (found,) = explain([payout("p1", 1_500, 2)], moves, {"p1": [moves[0]]})
    assert (found.how, found.difference_minor) == ("stated", 500)
    assert found.note == "1 transactions: charge 10.00 USD; difference 5.00 USD"
