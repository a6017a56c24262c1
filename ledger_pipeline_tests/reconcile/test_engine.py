"""The matching engine, case by case, and against a brute force on small ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import date, timedelta
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger_pipeline.reconcile import engine
from ledger_pipeline.reconcile.engine import Group, Match, Member, Policy, Side, find_run, match, subset_sums

DAY = date(2026, 10, 5)  # a Monday


def left(id_: str, amount: int, day: int = 0, **more: object) -> Member:
    return Member(id_, "left", amount, "USD", DAY + timedelta(days=day), **more)  # type: ignore[arg-type]


def right(id_: str, amount: int, day: int = 0, **more: object) -> Member:
    return Member(id_, "right", amount, "USD", DAY + timedelta(days=day), **more)  # type: ignore[arg-type]


def only(result: engine.Result) -> Match:
    assert len(result.matches) == 1
    return result.matches[0]


# exact keys ----------------------------------------------------------------------------------------------------------------


def test_a_group_of_any_size_that_shares_a_key_and_sums_to_zero_is_a_full_match() -> None:
    key = ("order:1",)
    members = [left("sale", 10_000, keys=key), left("refund", -2_500, 9, keys=key)]
    members += [
        right("charge 1", -6_000, keys=key),
        right("charge 2", -4_000, keys=key),
        right("back", 2_500, 9, keys=key),
    ]
    found = only(match(members))
    assert (found.kind, found.remainder_minor, found.score, found.is_automatic) == ("exact", 0, 1000, True)
    assert found.members == ("back", "charge 1", "charge 2", "refund", "sale")
    assert found.reasons == ("share order:1", "amounts sum to zero")


def test_a_group_that_does_not_sum_to_zero_keeps_its_remainder() -> None:
    found = only(match([left("sale", 10_000, keys=("order:1",)), right("charge", -9_700, keys=("order:1",))]))
    assert (found.remainder_minor, found.is_automatic, found.reasons[1]) == (300, True, "amounts leave a remainder")


def test_keys_lead_from_one_to_the_next() -> None:
    members = [
        left("a", 5, keys=("order:1",)),
        right("b", -3, keys=("order:1", "payment:7")),
        right("c", -2, keys=("payment:7",)),
    ]
    assert only(match(members)).members == ("a", "b", "c")


def test_a_key_counts_within_its_currency() -> None:
    other = Member("charge", "right", -100, "CAD", DAY, ("order:1",))
    assert match([left("sale", 100, keys=("order:1",)), other]).matches == ()


def test_a_payment_that_fails_is_undone_on_its_own_side() -> None:
    found = only(match([left("payout", 100, keys=("payout:1",)), left("failure", -100, keys=("payout:1",))]))
    assert found.members == ("failure", "payout")


def test_an_earlier_group_takes_only_what_it_still_lacks() -> None:
    group = Group("m1", 40, "USD", ("order:1", "payment:7"))
    members = [right("a", -40, keys=("order:1",)), right("b", -15, keys=("payment:7",))]
    result = match(members, groups=[group])
    assert [(j.group, j.members) for j in result.joins] == [("m1", ("a",))]
    assert result.open == ("b",)


def test_members_that_name_different_orders_never_match() -> None:
    result = match([left("sale", 100, keys=("order:1",)), right("charge", -100, keys=("order:2",))])
    assert (result.matches, result.open) == ((), ("charge", "sale"))


# references ----------------------------------------------------------------------------------------------------------------


def test_a_reference_inside_the_text_is_found() -> None:
    members = [left("i1", 5_000, references=("INV-1001",)), left("i2", 5_000, references=("INV-1002",))]
    found = only(match([*members, right("line", -5_000, 4, text="ACH CREDIT INV 7 RE: inv-1002/OCT")]))
    assert (found.kind, found.members, found.remainder_minor) == ("reference", ("i2", "line"), 0)
    assert found.is_automatic


def test_one_deposit_for_many_invoices_that_it_names() -> None:
    members = [left(f"i{n}", 1_000 * n, references=(f"INV-100{n}",)) for n in (1, 2, 3, 4)]
    found = only(match([*members, right("line", -6_000, 4, text="INV-1001, INV-1002 + INV-1003")]))
    assert (found.members, found.kind, found.is_automatic) == (("i1", "i2", "i3", "line"), "reference", True)


def test_a_part_payment_keeps_what_is_still_owed_and_the_rest_joins_it_later() -> None:
    invoice = left("invoice", 10_000, references=("INV-1001",))
    found = only(match([invoice, right("first", -6_000, 3, text="part of INV-1001")]))
    assert (found.remainder_minor, found.kind, found.is_automatic) == (4_000, "reference", True)
    group = Group("m1", 4_000, "USD", (), ("INV-1001",))
    later = match([right("second", -4_000, 9, text="rest of INV-1001")], groups=[group])
    assert [(j.group, j.members) for j in later.joins] == [("m1", ("second",))]
    assert later.open == ()


def test_money_that_goes_the_other_way_does_not_join_a_part_payment() -> None:
    group = Group("m1", 4_000, "USD", (), ("INV-1001",))
    assert match([right("back", 500, 9, text="REFUND INV-1001")], groups=[group]).joins == ()


def test_more_than_what_is_owed_is_for_a_person_to_decide() -> None:
    found = only(match([left("invoice", 10_000, references=("INV-1001",)), right("line", -12_000, 3, text="INV-1001")]))
    assert (found.remainder_minor, found.is_automatic) == (-2_000, False)


def test_a_cut_reference_counts_where_amounts_agree_and_it_is_one_members() -> None:
    members = [
        left("p1", 5_000, references=("po_1OxAAABBBBCCCC7",)),
        left("p2", 5_000, references=("po_1OxAAABBBBCCCC8",)),
    ]
    line = right("line", -5_000, 3, text="STRIPE TRANSFER ST-ABBBBCCCC8")
    assert only(match([*members, line])).members == ("line", "p2")
    for amount in (5_100, 4_900):
        other = right("line", -amount, 3, text="STRIPE TRANSFER ST-ABBBBCCCC8")
        assert not any(m.is_automatic for m in match([*members, other]).matches)


def test_short_words_and_words_without_digits_name_nothing() -> None:
    assert engine.words_of("ab12") == engine.words_of("REFERENCE") == frozenset()
    assert engine.words_of("INV-1001") == {"INV1001"}


# a till's days -------------------------------------------------------------------------------------------------------------


def till(days: int, amount: int = 100, first: int = 0) -> list[Member]:
    return [
        left(f"s{d}{n}", amount + 7 * d + n, d, batch="till:stall")
        for d in range(first, first + days)
        for n in range(3)
    ]


def test_a_deposit_takes_whole_days_in_a_row_beginning_with_the_oldest() -> None:
    sales = till(6)
    taken = [m for m in sales if m.day <= DAY + timedelta(days=3)]
    found = only(match([*sales, right("cash", -sum(m.amount_minor for m in taken), 4)]))
    assert set(found.members) == {"cash", *(m.id for m in taken)}
    assert found.is_automatic
    assert found.reasons[0] == "the takings of till:stall from 2026-10-05 to 2026-10-08: 4 days, each whole"


def test_a_deposit_that_leaves_older_days_open_is_a_suggestion() -> None:
    sales = till(4)
    taken = [m for m in sales if m.day >= DAY + timedelta(days=2)]
    found = only(match([*sales, right("cash", -sum(m.amount_minor for m in taken), 4)]))
    assert not found.is_automatic


def test_a_deposit_takes_no_day_after_it() -> None:
    sales = till(3)
    assert not [
        m for m in match([*sales, right("cash", -sum(m.amount_minor for m in sales), 1)]).matches if m.is_automatic
    ]


def test_one_of_a_tills_sales_is_no_pair_and_no_part_of_another_sum() -> None:
    sales = [left("s1", 500, 0, batch="till"), left("s2", 300, 0, batch="till"), left("s3", 90, 1, batch="till")]
    assert match([*sales, right("l1", -500, 1)]).matches == ()
    assert match([*sales, right("l2", -590, 1)]).matches == ()


def test_the_run_of_amounts_that_sums_to_a_target() -> None:
    assert find_run([5, 3, 4, 3], 7) == (1, 3)
    assert find_run([5, 0, 0, 2], 5) == (0, 1)
    assert find_run([1, 2], 9) is None
    assert find_run([1], 0) is None


# scored --------------------------------------------------------------------------------------------------------------------


def test_a_pair_is_scored_by_amount_day_and_name() -> None:
    payout, line = left("p", 700, counterparty="stripe"), right("l", -700, 1, text="Stripe Transfer")
    pair = engine.score(payout, line, Policy(), engine.Names([payout, line]))
    assert pair is not None
    assert (pair.score, pair.reasons) == (960, ("amounts are equal", "1 business day apart", "the text names stripe"))


def test_a_weekend_counts_as_one_business_day() -> None:
    pair = engine.score(left("p", 7, 4), right("l", -7, 7), Policy(), engine.Names())
    assert pair is not None
    assert pair.reasons[1] == "1 business day apart"


def test_a_text_that_names_somebody_else_is_no_candidate() -> None:
    members = [left("p", 700, counterparty="stripe"), left("q", 900, counterparty="shopify_payments")]
    assert match([*members, right("l", -700, text="SHOPIFY PAYMENTS 81")]).matches == ()


def test_without_the_name_it_is_a_suggestion() -> None:
    found = only(match([left("p", 700), right("l", -700, 1, text="WIRE IN")]))
    assert (found.kind, found.score, found.is_automatic) == ("scored", 760, False)


def test_the_nearest_of_equal_amounts_match_and_all_are_used_once() -> None:
    stripe = {"counterparty": "stripe"}
    members = [left("p1", 700, 0, **stripe), left("p2", 700, 3, **stripe)]
    result = match([*members, right("l1", -700, 0, text="STRIPE"), right("l2", -700, 3, text="STRIPE")])
    assert [(m.members, m.is_automatic) for m in result.matches] == [(("l1", "p1"), True), (("l2", "p2"), True)]


def test_two_that_fit_equally_well_are_for_a_person_to_decide() -> None:
    result = match([left("p", 700, counterparty="stripe"), *(right(f"l{n}", -700, text="STRIPE") for n in (1, 2))])
    found = only(result)
    assert (found.members, found.is_automatic) == (("l1", "p"), False)
    assert found.reasons[-1] == "another candidate fits as well"
    assert result.open == ("l1", "l2", "p")


def test_a_banks_fee_within_the_tolerance_leaves_a_remainder() -> None:
    members = [left("p", 10_000, counterparty="stripe"), right("l", -9_985, text="STRIPE")]
    assert match(members).matches == ()
    found = only(match(members, Policy(tolerance_minor=20)))
    assert (found.remainder_minor, found.is_automatic) == (15, True)


def test_what_a_person_rejected_is_not_asked_again() -> None:
    members = [left("p", 700), right("l1", -700, 1), right("l2", -700, 2)]
    assert only(match(members)).members == ("l1", "p")
    again = match(members, rejected={frozenset(("l1", "p"))})
    assert only(again).members == ("l2", "p")
    assert match(members, rejected={frozenset(("l1", "p")), frozenset(("l2", "p"))}).matches == ()


def test_what_a_person_rejected_is_no_rival_of_what_is_left() -> None:
    members = [left("p", 700, counterparty="stripe"), *(right(f"l{n}", -700, text="STRIPE") for n in (1, 2))]
    found = only(match(members, rejected={frozenset(("l1", "p"))}))
    assert (found.members, found.is_automatic) == (("l2", "p"), True)


# subsets -------------------------------------------------------------------------------------------------------------------


def test_one_deposit_for_several_amounts_that_it_does_not_name_is_a_suggestion() -> None:
    members = [left("a", 1_013), left("b", 2_027), left("c", 3_041), right("l", -4_054, 1)]
    found = only(match(members))
    assert (found.kind, found.members, found.is_automatic) == ("subset", ("a", "c", "l"), False)


def test_several_against_one_of_the_left() -> None:
    assert only(match([left("p", 500), right("x", -200), right("y", -300)])).members == ("p", "x", "y")


def test_a_subset_has_limits() -> None:
    amounts = [2**n for n in range(8)]
    assert subset_sums(amounts, 255, Policy(group_size=6)) == []
    assert subset_sums(amounts, 63, Policy(group_size=6)) == [(0, 1, 2, 3, 4, 5)]
    assert subset_sums([1, 2, 3, 4], 5, Policy()) == [(0, 3), (1, 2)]


def test_a_size_with_too_many_selections_is_left_out() -> None:
    amounts = list(range(1, 13))
    assert subset_sums(amounts, 33, Policy(subset_steps=494)) == [(9, 10, 11)]
    assert subset_sums(amounts, 33, Policy(subset_steps=495)) == [(9, 10, 11), (0, 8, 10, 11)]  # 495 are four of twelve


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(1, 40), max_size=10), st.integers(1, 120), st.integers(2, 6))
def test_selections_are_those_of_a_brute_force(amounts: list[int], target: int, size: int) -> None:
    wanted = [
        positions
        for number in range(2, size + 1)
        for positions in combinations(range(len(amounts)), number)
        if sum(amounts[position] for position in positions) == target
    ]
    assert subset_sums(amounts, target, Policy(group_size=size)) == wanted[:2]


# all of it -----------------------------------------------------------------------------------------------------------------


def test_ids_are_unique_and_no_amount_is_zero() -> None:
    with pytest.raises(ValueError, match="same id"):
        match([left("a", 1), right("a", -1)])
    with pytest.raises(ValueError, match="zero"):
        match([left("a", 0)])


_SIDES = st.sampled_from(["left", "right"])
_KEYS = st.sampled_from([(), (), ("order:1",), ("order:2",), ("order:1", "payment:1")])
_TEXTS = st.sampled_from(["", "STRIPE", "SHOPIFY", "INV-1001", "INV-1002 INV-1003"])


@st.composite
def members(draw: st.DrawFn, *, plain: bool = False) -> list[Member]:
    made = []
    for n in range(draw(st.integers(0, 10))):
        side: Side = draw(_SIDES)  # type: ignore[assignment]
        amount = draw(st.integers(1, 4)) * draw(st.sampled_from([-1, 1]))
        day = DAY + timedelta(days=draw(st.integers(0, 18)))
        name = draw(st.sampled_from(["", "stripe", "shopify"]))
        if plain:
            made.append(
                Member(
                    f"m{n}",
                    side,
                    amount,
                    draw(st.sampled_from(["USD", "EUR"])),
                    day,
                    text=draw(_TEXTS),
                    counterparty=name,
                )
            )
            continue
        reference = draw(st.sampled_from([(), ("INV-1001",), ("INV-1002",), ("INV-1003",)]))
        batch = draw(st.sampled_from(["", "", "", "till"]))
        made.append(Member(f"m{n}", side, amount, "USD", day, draw(_KEYS), reference, draw(_TEXTS), name, batch))
    return made


@settings(max_examples=300, deadline=None)
@given(members(), st.randoms(use_true_random=False))
def test_whatever_comes_is_used_once_sums_up_and_does_not_depend_on_its_order(
    made: list[Member], random: object
) -> None:
    result = match(made)
    amounts = {m.id: m.amount_minor for m in made}
    used = Counter(id_ for m in result.matches for id_ in m.members)
    assert not [id_ for id_, times in used.items() if times > 1]
    for m in result.matches:
        assert m.remainder_minor == sum(amounts[id_] for id_ in m.members)
        assert m.is_automatic == (m.score >= Policy().automatic)
        if m.kind in ("scored", "subset"):
            assert m.remainder_minor == 0
    taken = {id_ for m in result.matches if m.is_automatic for id_ in m.members}
    assert set(result.open) == set(amounts) - taken
    shuffled = list(made)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert match(shuffled) == result


@settings(max_examples=300, deadline=None)
@given(members(plain=True))
def test_pairs_are_those_of_a_brute_force(made: list[Member]) -> None:
    """Greedy over all pairs, each compared with each."""
    policy = Policy(group_size=0)
    found = {m.members: m.score for m in match(made, policy).matches if m.kind == "scored"}
    assert found == brute_force(made, policy)


def brute_force(made: Sequence[Member], policy: Policy) -> dict[tuple[str, ...], int]:
    names = engine.Names(made)
    pairs = []
    for a, b in combinations(made, 2):
        one, other = (a, b) if a.side == "left" else (b, a)
        if one.side != other.side and one.currency == other.currency:
            pair = engine.score(one, other, policy, names)
            if pair is not None:
                pairs.append(pair)
    free, found = {m.id for m in made}, {}
    for pair in sorted(pairs, key=lambda p: (-p.score, p.days, p.left, p.right)):
        rivals = [p for p in pairs if p is not pair and {p.left, p.right} & {pair.left, pair.right}]
        points = min(pair.score, 849) if any(p.score > pair.score - 50 for p in rivals) else pair.score
        if {pair.left, pair.right} <= free and points >= policy.suggest:
            found[tuple(sorted((pair.left, pair.right)))] = points
            free -= {pair.left, pair.right}
    return found


def test_ten_thousand_of_one_amount_are_matched_in_bounded_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts comparisons, not seconds: each member is compared with a bounded number of others."""
    compared = Counter[str]()
    score = engine.score

    def counting(*arguments: object) -> object:
        compared["pairs"] += 1
        return score(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(engine, "score", counting)
    policy = Policy(candidates=5, subset_candidates=3)
    made = [left(f"p{n:05}", 999, n % 300) for n in range(2_000)] + [
        right(f"l{n:05}", -999, n % 300) for n in range(2_000)
    ]
    match(made, policy)
    assert 2_000 <= compared["pairs"] <= 2_000 * policy.candidates
