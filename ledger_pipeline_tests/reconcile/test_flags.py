"""What looks like a payment made twice, and what is a habit; worked out by hand on a calendar (5 October 2026 is a Monday)."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from ledger_pipeline.reconcile.calendar import Calendar
from ledger_pipeline.reconcile.flags import Payment, alike_charges, alike_lines, near_paths

MONDAY = date(2026, 10, 5)
UK = Calendar("GB")


def line(
    id_: str,
    day: int,
    amount: int = -500,
    text: str = "ACME SUPPLIES",
    *,
    new: bool = False,
    ref: str = "",
    path: str = "bank",
) -> Payment:
    return Payment(path, id_, 1, "bank:a", "GBP", amount, MONDAY + timedelta(days=day), text, ref, is_new=new)


def pairs(*lines: Payment) -> list[tuple[str, str, str]]:
    return [(f.what, f.earlier.source_id, f.later.source_id) for f in alike_lines(lines, UK)]


def test_equal_money_out_on_one_day_or_the_next_business_day_is_asked_about() -> None:
    assert pairs(line("a", 0), line("b", 0, new=True)) == [("line", "a", "b")]
    assert pairs(line("a", 0), line("b", 1, new=True)) == [("line", "a", "b")]
    assert pairs(line("a", 4), line("b", 7, new=True)) == [("line", "a", "b")]  # Friday and Monday
    assert pairs(line("a", 0), line("b", 2, new=True)) == []
    assert pairs(line("a", 0), line("b", 7, new=True)) == []


def test_money_in_with_equal_words_is_not_asked_about() -> None:
    assert pairs(line("a", 0, 500), line("b", 0, 500, new=True)) == []


def test_words_are_compared_without_their_marks() -> None:
    assert pairs(line("a", 0, text="Acme  Supplies*"), line("b", 0, text="ACME SUPPLIES", new=True)) == [
        ("line", "a", "b")
    ]
    assert pairs(line("a", 0, text="INVOICE 1001"), line("b", 0, text="INVOICE 1002", new=True)) == []


def test_other_amounts_and_what_no_new_line_is_part_of_are_left_alone() -> None:
    assert pairs(line("a", 0), line("b", 0, -501, new=True)) == []
    assert pairs(line("a", 0), line("b", 0)) == []


def test_a_daily_payment_is_asked_about_until_it_is_a_rhythm() -> None:
    days = [0, 1, 2, 3, 4, 7, 8, 9, 10, 11]
    asked = []
    for n, day in enumerate(days[1:], 1):
        lines = [line(f"l{d:02}", d) for d in days[:n]]
        asked.append(len(pairs(*lines, line(f"l{day:02}", day, new=True))))
    assert asked == [1, 1, 0, 0, 0, 0, 0, 0, 0]


def test_within_a_rhythm_one_more_than_ever_on_a_day_is_asked_about() -> None:
    habit = [line(f"h{d}", d) for d in range(4)]
    assert pairs(*habit, line("x", 4, new=True), line("y", 4, new=True)) == [("line", "x", "y")]
    twice = [*habit, *(line(f"i{d}", d) for d in range(4))]
    assert pairs(*twice, line("x", 4, new=True), line("y", 4, new=True)) == []


def test_the_same_reference_is_asked_about_in_both_directions_but_not_weekly() -> None:
    assert pairs(line("a", 0, 700, "X", ref="RF18-5390"), line("b", 3, 700, "Y", ref="rf18 5390", new=True)) == [
        ("reference", "a", "b")
    ]
    assert pairs(line("a", 0, 700, "X", ref="PAYROLL"), line("b", 7, 700, "Y", ref="PAYROLL", new=True)) == []
    assert pairs(line("a", 0, 700, "X", ref="NOTPROVIDED"), line("b", 0, 700, "Y", ref="NOTPROVIDED", new=True)) == []


def test_who_said_that_both_are_real_isnt_asked_about_the_next_day_again() -> None:
    first, second = line("a", 0), line("b", 1, new=True)
    (found,) = alike_lines([first, second], UK)
    assert alike_lines([first, second], UK, {found.pattern}) == []
    assert (
        alike_lines([first, line("c", 0, new=True)], UK, {found.pattern}) != []
    )  # two on one day are another question


def charge(id_: str, obj: str, day: int = 0, *, new: bool = False, order: str = "1001", amount: int = 4200) -> Payment:
    return Payment("stripe", id_, 1, order, "GBP", amount, MONDAY + timedelta(days=day), obj, is_new=new)


@pytest.mark.parametrize(
    ("second", "is_asked"),
    [
        (charge("t2", "ch_2", new=True), True),
        (charge("t2", "ch_2", 3, new=True), True),
        (charge("t2", "ch_2", 4, new=True), False),
        (charge("t2", "ch_1", new=True), False),
        (charge("t2", "ch_2", new=True, order="1002"), False),
        (charge("t2", "ch_2", new=True, amount=4201), False),
    ],
)
def test_two_charges_for_one_order(second: Payment, is_asked: bool) -> None:
    assert len(alike_charges([charge("t1", "ch_1"), second])) == is_asked


def test_near_lines_of_two_paths_are_asked_about_where_their_own_days_have_none() -> None:
    feed = [line("f1", 0, path="feed"), line("f2", 4, path="feed")]
    own = [line("o1", 1, new=True, path="own"), line("o2", 4, new=True, path="own")]
    (found,) = near_paths("own", [*feed, *own])
    assert (found.what, found.later.source_id, found.earlier.source_id) == ("path", "o1", "f1")
    assert near_paths("own", [line("f1", 0, path="feed"), line("o1", 4, new=True, path="own")]) == []
    assert near_paths("own", [line("f1", 0, path="feed"), line("o1", 0, new=True, path="own")]) == []


def test_no_words_of_the_bank_are_in_the_reason() -> None:
    (found,) = alike_lines([line("a", 0, text="JANE DOE"), line("b", 0, text="JANE DOE", new=True)], UK)
    assert found.reason == "two equal bank lines of -5.00 GBP, on the same day"
    assert "JANE" not in repr((found.pattern, found.reason))
