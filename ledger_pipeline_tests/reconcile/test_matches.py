"""Matches that are kept: once, through late edits, with what people decided about them."""

from __future__ import annotations

import psycopg
import pytest

from ledger_pipeline.reconcile import matches
from ledger_pipeline.reconcile.matches import DecisionRefused
from ledger_pipeline_tests.reconcile.conftest import NOW, Desk, on


def decide(desk: Desk, act: str, match_id: int) -> matches.Kept:
    with desk.database.connect() as connection:
        return getattr(matches, act)(connection, match_id, "Ann", "seen on paper", "run-2", NOW)


def test_an_order_and_its_payment_are_matched_and_a_second_run_writes_nothing(desk: Desk) -> None:
    desk.sale("o1", 8_449)
    desk.charge("t1", "o1", 8_449)
    ran = desk.run()
    assert (ran.matched, ran.open, ran.is_new) == (1, 0, True)
    (one,) = desk.live()
    assert (one.kind, one.state, one.decided_by, one.reasons[0]) == ("exact", "matched", "engine", "share order:o1")
    assert [(m.id, m.amount_minor) for m in one.members] == [
        ("shop/sale/o1", 8_449),
        ("stripe/processor_transaction/t1", -8_449),
    ]
    before = desk.count()
    assert not desk.run().is_new
    assert desk.count() == before == (1, 2, 0)


def test_what_comes_later_finds_its_order(desk: Desk) -> None:
    desk.sale("o1", 100)
    assert desk.run().matched == 0
    desk.charge("t1", "o1", 60, 1)
    assert desk.run().matched == 1
    assert desk.causes() == [("sale o1, charge t1", 40, "amount differs")]
    desk.charge("t2", "o1", 40, 2)
    ran = desk.run()
    assert (ran.joined, ran.matched) == (1, 0)
    assert [(m.source_id, m.reason) for m in desk.live()[0].members] == [
        ("o1", ""),
        ("t1", ""),
        ("t2", "share order:o1"),
    ]
    assert desk.open() == []


def test_a_refund_after_a_full_match_is_a_match_of_its_own(desk: Desk) -> None:
    desk.sale("o1", 100)
    desk.charge("t1", "o1", 100)
    desk.run()
    desk.refund("r1", "o1", 30, 5)
    desk.charge("t2", "o1", -30, 5, kind="refund")
    desk.run()
    assert [len(one.members) for one in desk.live()] == [2, 2]
    assert desk.open() == []


def test_a_late_edit_keeps_the_match_and_gives_it_a_remainder(desk: Desk) -> None:
    entry = desk.sale("o1", 100)
    desk.charge("t1", "o1", 100)
    desk.run()
    desk.edit(entry, "o1", 130)
    assert not desk.run().is_new
    assert [one.match_id for one in desk.live()] == [1]
    assert desk.causes() == [("sale o1, charge t1", 30, "amount differs")]


def test_a_match_whose_member_left_the_account_is_dissolved_and_the_rest_is_matched_anew(desk: Desk) -> None:
    desk.payout("po_1", 500)
    line = desk.bank("b1", 500, 1)
    desk.run()
    desk.books.reverse(line, on(1))
    desk.bank("b2", 500, 1)
    ran = desk.run()
    assert (ran.dissolved, ran.matched) == (1, 1)
    assert [m.source_id for m in desk.live()[0].members] == ["b2", "txn_po_1"]
    with desk.database.connect("reader") as connection:
        assert [row[:3] for row in matches.history(connection, 1)] == [
            ("dissolved", "engine", "bank_transaction b1 is not on the account any more")
        ]


def test_a_suggestion_waits_and_is_asked_once(desk: Desk) -> None:
    desk.payout("po_1", 500)
    desk.bank("b1", 500, 1, "WIRE IN 81")
    assert desk.run().suggested == 1
    before = desk.count()
    assert not desk.run().is_new
    assert desk.count() == before
    assert len(desk.open(1)) == 2


def test_an_accepted_suggestion_counts(desk: Desk) -> None:
    desk.payout("po_1", 500)
    desk.bank("b1", 500, 1, "WIRE IN 81")
    desk.run()
    one = decide(desk, "accept", 1)
    assert (one.state, one.decided_by) == ("matched", "Ann")
    assert desk.open() == []
    assert not desk.run().is_new
    with pytest.raises(DecisionRefused, match="counts already; it was decided by Ann"):
        decide(desk, "accept", 1)


def test_a_suggestion_whose_member_is_used_by_now_is_refused(desk: Desk) -> None:
    desk.payout("po_1", 500)
    desk.bank("b1", 500, 1, "WIRE IN 81")
    desk.run()
    with desk.database.connect() as connection:
        connection.execute(
            "INSERT INTO recon.match SELECT 99, entity, role, currency, kind, score, reasons, false, run_id, made_at FROM recon.match"
        )
        connection.execute(
            "INSERT INTO recon.member SELECT 99, connection, record, source_id, 0, '', run_id, joined_at FROM recon.member WHERE source_id = 'b1'"
        )
    with pytest.raises(DecisionRefused, match="bank_transaction b1 is in match 99 by now"):
        decide(desk, "accept", 1)


def test_a_rejected_suggestion_is_not_asked_again(desk: Desk) -> None:
    desk.payout("po_1", 500)
    desk.bank("b1", 500, 1, "WIRE IN 81")
    desk.run()
    decide(desk, "reject", 1)
    assert not desk.run().is_new
    assert desk.live() == []
    with pytest.raises(DecisionRefused, match="rejected or dissolved"):
        decide(desk, "accept", 1)
    with pytest.raises(DecisionRefused, match="no match 9"):
        decide(desk, "reject", 9)


def test_a_match_that_a_person_rejects_is_undone_for_good(desk: Desk) -> None:
    desk.sale("o1", 100)
    desk.charge("t1", "o1", 100)
    desk.run()
    decide(desk, "reject", 1)
    assert len(desk.open()) == 2
    assert not desk.run().is_new


def test_a_suggestion_that_a_better_match_overtakes_is_dissolved(desk: Desk) -> None:
    desk.payout("po_1", 500)
    desk.bank("b1", 500, 1, "WIRE IN 81")
    desk.run()
    desk.bank("b2", 500, 1, "STRIPE TRANSFER 82")
    ran = desk.run()
    assert (ran.dissolved, ran.matched) == (1, 1)
    with pytest.raises(DecisionRefused):
        decide(desk, "accept", 1)


def test_the_database_uses_a_member_once(desk: Desk) -> None:
    desk.sale("o1", 100)
    desk.charge("t1", "o1", 100)
    desk.run()
    again = "INSERT INTO recon.match SELECT 99, entity, role, currency, kind, score, reasons, false, run_id, made_at FROM recon.match"
    member = (
        "INSERT INTO recon.member SELECT 99, connection, record, source_id, 0, '', run_id, joined_at FROM recon.member"
    )
    with desk.database.connect() as connection:
        connection.execute(again)
    with pytest.raises(psycopg.errors.UniqueViolation), desk.database.connect() as connection:
        connection.execute(member)


def test_what_is_kept_is_append_only_and_its_use_is_the_databases_own(desk: Desk) -> None:
    desk.sale("o1", 100)
    desk.charge("t1", "o1", 100)
    desk.run()
    for statement in ("UPDATE recon.match SET score = 1", "DELETE FROM recon.member", "DELETE FROM recon.used",
                      "INSERT INTO recon.used VALUES ('acme', 'r', 'USD', 'c', 'sale', 's', 1)"):  # fmt: skip
        with pytest.raises(psycopg.errors.InsufficientPrivilege), desk.database.connect() as connection:
            connection.execute(statement)
    with pytest.raises(psycopg.errors.RestrictViolation), desk.database.connect("owner") as connection:
        connection.execute("DELETE FROM recon.member")


def test_no_member_joins_a_match_that_ended(desk: Desk) -> None:
    desk.sale("o1", 100)
    desk.charge("t1", "o1", 100)
    desk.run()
    decide(desk, "reject", 1)
    with pytest.raises(psycopg.errors.CheckViolation, match="has ended"), desk.database.connect() as connection:
        connection.execute("INSERT INTO recon.member VALUES (1, 'c', 'sale', 's', 1, '', 'r', now())")
    with pytest.raises(psycopg.errors.UniqueViolation), desk.database.connect() as connection:
        connection.execute(
            "INSERT INTO recon.event (match_id, event, by_whom, run_id, happened_at) VALUES (1, 'dissolved', 'x', 'r', now())"
        )
