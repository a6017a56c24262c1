"""The sample company: deterministic, tying in both currencies, found by id, with every planted fault where it says."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from datetime import time as time_of_day
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from ledger_pipeline.sandbox.company import BANK_RULES, Company, changes
from ledger_pipeline.sandbox.company.facts import day_bounds
from ledger_pipeline.sandbox.company.rates import cross, per_euro, processor_rate, settle
from ledger_pipeline.sandbox.events import (
    BankLine,
    Dispute,
    Money,
    Order,
    Payout,
    Planted,
    ProcessorTransaction,
)

START = date(2026, 10, 5)
WEEK = [START + timedelta(days=n) for n in range(7)]
FORTNIGHT = [START + timedelta(days=n) for n in range(14)]
SHOPS = ("shopify_us", "shopify_uk")
PROCESSORS = ("stripe_us", "stripe_uk", "shopify_uk")
PLANTED_KINDS = {
    "edited_order", "partial_refund", "full_refund", "refund_before_charge", "gift_card_sold", "gift_card_redeemed",
    "gift_card_pays_all", "tax_included", "test_order", "authorised_only", "cancelled_before_capture",
    "cancelled_after_capture", "dispute_lost", "dispute_won", "failed_payout", "negative_payout", "duplicate_order",
    "duplicate_event", "identical_bank_lines", "pending_amount_changed", "bank_line_modified", "bank_line_removed",
    "order_without_payment", "payment_without_order", "malformed_amount", "unknown_bank_currency",
    "too_many_decimals", "many_lines", "identical_statement_lines", "duplicate_statement", "unknown_bank_line",
}  # fmt: skip


@pytest.fixture(scope="module")
def company() -> Company:
    return Company()


def everything(company: Company, days: list[date]) -> dict[tuple[str, str, date], object]:
    found: dict[tuple[str, str, date], object] = {}
    for day in days:
        for shop in SHOPS:
            found["orders", shop, day] = company.orders(shop, day)
            found["touched", shop, day] = company.orders_touched(shop, day)
        for processor in PROCESSORS:
            found["transactions", processor, day] = company.processor_transactions(processor, day)
            found["payouts", processor, day] = company.payouts(processor, day)
            found["disputes", processor, day] = company.disputes(processor, day)
        for account in company.bank_accounts:
            found["bank", account.connection, day] = company.bank_lines(account.connection, account.account_id, day)
        found["stall", "stall_uk", day] = company.stall_receipts(day)
    return found


def all_orders(company: Company, days: list[date] = WEEK) -> Iterator[Order]:
    for day in days:
        for shop in SHOPS:
            yield from company.orders(shop, day)


def all_transactions(company: Company, days: list[date] = FORTNIGHT) -> Iterator[ProcessorTransaction]:
    for day in days:
        for processor in PROCESSORS:
            yield from company.processor_transactions(processor, day)


def all_lines(company: Company, days: list[date] = FORTNIGHT) -> Iterator[BankLine]:
    for day in days:
        for account in company.bank_accounts:
            yield from company.bank_lines(account.connection, account.account_id, day)


def the(company: Company, kind: str, connection: str | None = None) -> Planted:
    """The first planted fault of that kind."""
    rows = company.planted(WEEK[0], WEEK[-1])
    return next(row for row in rows if row.kind == kind and connection in (None, row.connection))


def the_order(company: Company, kind: str) -> Order:
    row = the(company, kind)
    order = company.order(row.connection, int(row.source_id))
    assert order is not None
    return order


def the_line(company: Company, kind: str) -> BankLine:
    row = the(company, kind)
    return next(line for line in all_lines(company, WEEK) if line.line_id == row.source_id)


def transactions_of(company: Company, order: Order) -> list[ProcessorTransaction]:
    return [txn for txn in all_transactions(company) if txn.order_id == order.order_id]


# The same company, however it is asked


def test_two_companies_of_one_seed_are_equal_whatever_the_order_of_calls() -> None:
    forwards = everything(Company(), FORTNIGHT)
    backwards = everything(Company(), FORTNIGHT[::-1])
    assert forwards == backwards


def test_a_forgotten_day_is_made_again_the_same(company: Company) -> None:
    fresh = Company()
    kept = everything(fresh, WEEK)
    for cache in (fresh._cache, fresh._delays_cache, fresh._payouts_cache):
        cache._days.clear()
    assert everything(fresh, WEEK) == kept


def test_another_seed_is_another_company(company: Company) -> None:
    assert company.orders("shopify_us", START) != Company(seed=8).orders("shopify_us", START)


def test_nothing_happens_before_the_start(company: Company) -> None:
    before = START - timedelta(days=1)
    assert not any(everything(company, [before]).values())


def test_the_shops_sell_in_the_ratio_eight_to_five() -> None:
    plain = Company(faults=False, orders_per_day=80)
    assert [len(plain.orders(shop, START)) for shop in SHOPS] == [80, 50]
    assert plain.planted(WEEK[0], WEEK[-1]) == []


@pytest.mark.parametrize("orders_per_day", [7, 150_001])
def test_a_size_out_of_bounds_is_refused(orders_per_day: int) -> None:
    with pytest.raises(ValueError, match="it must be 8 to 150000"):
        Company(orders_per_day=orders_per_day)


# Orders


def both(money: Money) -> tuple[int, int]:
    return money.shop, money.presentment


def summed(parts: list[Money]) -> tuple[int, int]:
    return sum(part.shop for part in parts), sum(part.presentment for part in parts)


def due(order: Order) -> tuple[int, int]:
    plus = [line.gross for line in order.lines]
    if not order.is_tax_included:
        plus += [tax.amount for line in order.lines for tax in line.taxes]
    if order.tip:
        plus.append(order.tip)
    gross, discount = summed(plus), summed([line.discount for line in order.lines])
    return gross[0] - discount[0], gross[1] - discount[1]


def test_an_orders_tenders_are_its_total_in_both_currencies(company: Company) -> None:
    for order in all_orders(company, FORTNIGHT):
        paid = [tender.amount for tender in order.tenders if tender.status == "SUCCESS"]
        kinds = {tender.kind for tender in order.tenders if tender.status == "SUCCESS"}
        if not kinds & {"AUTHORIZATION", "VOID"}:
            assert summed(paid) == due(order), order.name


def test_an_authorisation_and_its_capture_are_the_same_money(company: Company) -> None:
    captures = [(order, t) for order in all_orders(company) for t in order.tenders if t.kind == "CAPTURE"]
    assert captures
    for order, capture in captures:
        parent = next(tender for tender in order.tenders if tender.tender_id == capture.parent_id)
        assert (parent.kind, parent.amount, parent.payment_id) == ("AUTHORIZATION", capture.amount, capture.payment_id)


def test_price_times_quantity_is_gross_in_both_currencies(company: Company) -> None:
    for order in all_orders(company):
        for line in order.lines:
            assert both(line.gross) == (
                line.unit_price.shop * line.quantity,
                line.unit_price.presentment * line.quantity,
            )


def test_dinars_end_in_zero_and_every_presentment_currency_is_sold_in(company: Company) -> None:
    currencies = Counter(order.presentment_currency for order in all_orders(company, FORTNIGHT))
    assert set(currencies) == {"USD", "CAD", "EUR", "JPY", "KWD", "GBP"}
    for order in all_orders(company, FORTNIGHT):
        if order.presentment_currency == "KWD":
            assert all(tender.amount.presentment % 10 == 0 for tender in order.tenders)


def test_a_refund_returns_what_its_parts_say_and_no_more_than_was_paid(company: Company) -> None:
    refunded = [order for order in all_orders(company, FORTNIGHT) if order.refunds]
    assert refunded
    for order in refunded:
        paid = summed([t.amount for t in order.tenders if t.kind in ("SALE", "CAPTURE") and t.status == "SUCCESS"])
        for refund in order.refunds:
            parts = [line.subtotal for line in refund.lines]
            taxes = [line.tax for line in refund.lines]
            parts += [money for money in (refund.shipping, refund.adjustment) if money]
            taxes += [refund.shipping_tax] if refund.shipping_tax else []
            back = summed([tender.amount for tender in refund.tenders])
            assert back == summed(parts if order.is_tax_included else parts + taxes), order.name
            assert back[0] <= paid[0]
            assert back[1] <= paid[1]


def test_a_days_touched_orders_are_all_that_changed_that_day_and_no_others(company: Company) -> None:
    for shop in SHOPS:
        for day in FORTNIGHT:
            first, end = day_bounds(company.zone(shop), day)
            changed = {
                order.order_id
                for created in FORTNIGHT
                for order in company.orders(shop, created)
                if any(first <= at < end for at in changes(order))
            }
            touched = [order.order_id for order in company.orders_touched(shop, day)]
            assert set(touched) == changed
            assert len(touched) == len(changed)


def test_vat_is_a_sixth_of_a_price_with_tax_inside(company: Company) -> None:
    order = the_order(company, "tax_included")
    candle = next(line for line in order.lines if line.sku == "CND-CED")
    assert order.is_tax_included
    assert [(tax.jurisdiction, tax.rate, both(tax.amount)) for tax in candle.taxes] == [("GB", "0.2", (4_00, 4_00))]
    assert candle.gross.shop == 24_00


# Processors


def test_a_payout_is_the_net_of_its_members(company: Company) -> None:
    by_id = {txn.txn_id: txn for txn in all_transactions(company)}
    payouts = [payout for day in FORTNIGHT for name in PROCESSORS for payout in company.payouts(name, day)]
    assert len(payouts) > 30
    for payout in payouts:
        members = [by_id[txn_id] for txn_id in payout.member_ids]
        assert payout.amount == sum(txn.amount - txn.fee for txn in members)
        assert {(txn.connection, txn.currency, txn.payout_id) for txn in members} == {
            (payout.connection, payout.currency, payout.payout_id)
        }


def test_every_transaction_is_paid_out_once(company: Company) -> None:
    carried = Counter(
        txn_id
        for day in FORTNIGHT
        for name in PROCESSORS
        for p in company.payouts(name, day)
        for txn_id in p.member_ids
    )
    for txn in all_transactions(company, FORTNIGHT[:-2]):
        assert carried[txn.txn_id] == (0 if txn.kind == "payout" else 1), txn


def test_a_payout_takes_its_own_amount_from_the_balance(company: Company) -> None:
    payouts = {p.payout_id: p for day in WEEK for name in PROCESSORS for p in company.payouts(name, day)}
    moves = [txn for txn in all_transactions(company, WEEK) if txn.kind == "payout"]
    assert {txn.source_id: -txn.amount for txn in moves} == {name: payout.amount for name, payout in payouts.items()}


def test_a_payout_reaches_the_bank_on_the_next_business_day_unless_it_failed(company: Company) -> None:
    lines = {line.payout_id: line for line in all_lines(company) if line.payout_id}
    for day in WEEK:
        for name in PROCESSORS:
            for payout in company.payouts(name, day):
                if payout.failed_at:
                    assert payout.payout_id not in lines
                    continue
                line = lines[payout.payout_id]
                assert (line.amount, line.currency, line.day) == (payout.amount, payout.currency, payout.arrival_day)
                assert (line.day.weekday() < 5, line.day > day) == (True, True)


def test_a_foreign_charge_settles_at_the_processors_rate(company: Company) -> None:
    charges = [txn for txn in all_transactions(company, WEEK) if txn.exchange_rate is not None]
    assert {txn.source_currency for txn in charges} >= {"CAD", "EUR", "JPY"}
    for txn in charges:
        assert abs(txn.amount) == settle(txn.source_amount, txn.source_currency, txn.currency, txn.exchange_rate or "")
        assert len((txn.exchange_rate or "").partition(".")[2]) <= 9
        assert txn.connection == "stripe_us"


def test_stripe_charges_what_the_customer_saw_and_shopify_payments_what_the_shop_booked(company: Company) -> None:
    for order in all_orders(company):
        for tender in order.tenders:
            charge = tender.payment_id and company.find(_processor(order, tender.gateway), tender.payment_id)
            if isinstance(charge, ProcessorTransaction) and tender.kind in ("SALE", "CAPTURE"):
                money = tender.amount
                expected = (
                    (money.shop, "GBP")
                    if tender.gateway == "shopify_payments"
                    else (money.presentment, money.presentment_currency)
                )
                assert (charge.source_amount, charge.source_currency) == expected
                assert charge.tender_id == tender.tender_id


def _processor(order: Order, gateway: str) -> str:
    return order.connection if gateway == "shopify_payments" else order.connection.replace("shopify", "stripe")


# Ids


def test_ids_look_like_the_providers_own_and_are_unique(company: Company) -> None:
    txns = list(all_transactions(company))
    stripe = [txn for txn in txns if txn.connection.startswith("stripe_")]
    assert all(re.fullmatch(r"txn_3[0-9A-Za-z]{23}", txn.txn_id) for txn in stripe)
    assert all(re.fullmatch(r"(ch_3|re_3|po_1|du_1)[0-9A-Za-z]{23}", txn.source_id) for txn in stripe)
    assert all(txn.txn_id.isdecimal() for txn in txns if txn.connection == "shopify_uk")
    orders = list(all_orders(company, FORTNIGHT))
    assert all(len(str(order.order_id)) == 13 for order in orders)
    lines = list(all_lines(company))
    assert all(re.fullmatch(r"[0-9A-Za-z]{37}", line.line_id) for line in lines if line.connection != "bank_eur")
    children = [
        child
        for order in orders
        for child in (
            *(line.line_id for line in order.lines),
            *(tender.tender_id for tender in order.tenders),
            *(tender.tender_id for refund in order.refunds for tender in refund.tenders),
            *(refund.refund_id for refund in order.refunds),
        )
    ]
    for identities in ([t.txn_id for t in txns], [o.order_id for o in orders], [x.line_id for x in lines], children):
        assert len(set(identities)) == len(identities)


def test_everything_is_found_by_its_id(company: Company) -> None:
    stranger = Company()
    for day in WEEK:
        for name in PROCESSORS:
            for txn in company.processor_transactions(name, day):
                assert stranger.find(name, txn.txn_id) == txn
                if txn.kind in ("charge", "refund"):
                    assert stranger.find(name, txn.source_id) == txn
            for payout in company.payouts(name, day):
                assert stranger.find(name, payout.payout_id) == payout
            for dispute in company.disputes(name, day):
                assert stranger.find(name, dispute.dispute_id) == dispute
        for shop in SHOPS:
            for order in company.orders(shop, day):
                assert stranger.order(shop, order.order_id) == order


@pytest.mark.parametrize(
    "stranger", ["ch_3NirD82eZvKYlo2CIvbtLWuy", "po_1", "", "ch_3éééééééééééééééééééééé3", "123", "x_y"]
)
def test_an_unknown_id_is_not_found(company: Company, stranger: str) -> None:
    assert all(company.find(name, stranger) is None for name in PROCESSORS)


def test_another_accounts_id_is_not_found(company: Company) -> None:
    payout = company.payouts("stripe_us", WEEK[3])[0]
    assert company.find("stripe_uk", payout.payout_id) is None
    assert company.order("shopify_uk", company.orders("shopify_us", START)[0].order_id) is None
    assert company.order("shopify_us", company.orders("shopify_us", START)[0].order_id + 5_000) is None


# The clock


def instants(company: Company, days: list[date]) -> Iterator[tuple[str, datetime]]:
    for order in all_orders(company, days):
        yield from ((order.connection, at) for at in changes(order))
    for txn in all_transactions(company, days):
        yield txn.connection, txn.at
    for line in all_lines(company, days):
        yield from ((line.connection, at) for at in (line.at, line.removed_at, line.modified_at) if at)
    for day in days:
        for name in PROCESSORS:
            for payout in company.payouts(name, day):
                yield from ((name, at) for at in (payout.paid_at, payout.failed_at) if at)
            for dispute in company.disputes(name, day):
                yield from ((name, at) for at in (dispute.at, dispute.decided_at) if at)
        yield from (("stall_uk", receipt.at) for receipt in company.stall_receipts(day))


# The clocks go back in London on 25 October and in New York on 1 November 2026.
@pytest.mark.parametrize("start", [START, date(2026, 10, 22), date(2026, 10, 29)])
def test_the_night_is_quiet_but_for_one_planted_charge(start: date) -> None:
    company = Company(start=start)
    days = [start + timedelta(days=n) for n in range(7)]
    night = []
    for connection, at in instants(company, days):
        local = at.astimezone(ZoneInfo(company.zone(connection)))
        if local.time() < time_of_day(7):
            night.append((connection, local.time(), local.date()))
    assert night == [("stripe_us", time_of_day(0, 5), start + timedelta(days=3))]


def test_lists_are_by_the_local_day_and_in_order_of_time(company: Company) -> None:
    for (kind, connection, day), found in everything(company, WEEK).items():
        if kind in ("touched",):
            continue
        assert isinstance(found, list)
        first, end = day_bounds(company.zone(connection), day)
        moments = [item.at for item in found]
        assert moments == sorted(moments)
        assert all(first <= at < end for at in moments)


# The banks


def test_the_bookkeepers_rules_give_every_line_the_role_it_has(company: Company) -> None:
    def role(description: str, amount: int) -> str:
        known = next((role for words, role in BANK_RULES if words in description), None)
        return known or ("unidentified_receipts" if amount > 0 else "uncategorised_expense")

    days = [START + timedelta(days=n) for n in range(28)]
    roles = Counter(line.role for line in all_lines(company, days))
    assert {known for _, known in BANK_RULES} <= set(roles)
    for line in all_lines(company, days):
        assert role(line.description, line.amount) == line.role, line
        if line.modified_description:
            assert role(line.modified_description, line.amount) == line.modified_role


def test_a_balance_is_the_opening_and_all_booked_lines(company: Company) -> None:
    for account in company.bank_accounts:
        _, end = day_bounds(company.zone(account.connection), WEEK[-1])
        booked = [
            line.amount
            for day in WEEK
            for line in company.bank_lines(account.connection, account.account_id, day)
            if not line.is_pending and not line.wire_amount and not line.wire_currency
            if not (line.removed_at and line.removed_at < end)
        ]
        balance = account.opening + sum(booked)
        assert company.closing_balance(account, WEEK[-1]) == balance
        assert company.bank_balance(account.connection, account.account_id, end - timedelta(seconds=1)) == balance


def test_the_stalls_cash_is_banked_on_friday(company: Company) -> None:
    takings = sum(r.quantity * r.unit_price for day in WEEK[:4] for r in company.stall_receipts(day))
    cash = [line for line in all_lines(company, WEEK) if line.role == "order_clearing:cash"]
    assert [(line.amount, line.day, line.connection) for line in cash] == [(takings, WEEK[4], "plaid_uk")]


# Planted faults


def test_every_planted_kind_shows_in_the_first_seven_days(company: Company) -> None:
    rows = company.planted(WEEK[0], WEEK[-1])
    assert {row.kind for row in rows} == PLANTED_KINDS
    assert all(WEEK[0] <= row.day <= WEEK[-1] for row in rows)
    assert len(set(rows)) == len(rows)


def test_the_faults_come_again_in_the_second_week(company: Company) -> None:
    assert {row.kind for row in company.planted(FORTNIGHT[7], FORTNIGHT[13])} == PLANTED_KINDS


LATE_KINDS = {"edited_late", "dispute_lost_late", "bank_line_modified_late", "statement_late"}


def test_what_is_late_is_planted_once_in_four_weeks_and_changes_six_weeks_later(company: Company) -> None:
    rows = company.planted(START, START + timedelta(days=83))
    late = [row for row in rows if row.kind not in PLANTED_KINDS]
    assert Counter(row.kind for row in late) == Counter(dict.fromkeys(LATE_KINDS, 3))
    assert [(row.day - START).days for row in late if row.kind == "edited_late"] == [58, 86, 114]
    assert [(row.day - START).days for row in late if row.kind == "statement_late"] == [60, 88, 116]
    assert [(row.day - START).days for row in late if row.kind == "bank_line_modified_late"] == [16, 44, 72]


def test_late_changes_are_seen_on_their_day_and_nowhere_between(company: Company) -> None:
    made_on, changed_on = START + timedelta(days=16), START + timedelta(days=58)
    (edited,) = (one for one in company.orders("shopify_us", made_on) if one.fault == "edited_late")
    span = [START + timedelta(days=n) for n in range(16, 62)]
    touched = [day for day in span if edited in company.orders_touched("shopify_us", day)]
    assert touched == [made_on, changed_on]
    assert (edited.presentment_currency, [line.added_at is not None for line in edited.lines][-1]) == ("CAD", True)
    assert [
        day
        for day in span
        for txn in company.processor_transactions("stripe_us", day)
        if txn.order_id == edited.order_id
    ] == [made_on, changed_on]
    (dispute,) = (one for day in span[:7] for one in company.disputes("stripe_uk", day))
    assert (dispute.settled_currency, dispute.outcome) == ("EUR", "lost")
    assert dispute.decided_at is not None
    assert dispute.decided_at.date() == changed_on
    (line,) = (one for one in all_lines(company, [made_on]) if one.fault == "bank_line_modified_late")
    assert line.modified_at is not None
    assert (line.connection, line.modified_at.date()) == ("plaid_uk", changed_on)
    assert [company.statement_arrives(day) - day for day in span[:4]] == [timedelta(n) for n in (0, 0, 42, 0)]


def test_how_late_can_be_said_but_not_within_the_week() -> None:
    (line,) = (
        one
        for one in all_lines(Company(late_days=9), [START + timedelta(days=16)])
        if one.fault == "bank_line_modified_late"
    )
    assert line.modified_at is not None
    assert line.modified_at.date() == START + timedelta(days=25)
    with pytest.raises(ValueError, match="late_days is 6"):
        Company(late_days=6)


def test_the_edited_order_is_captured_twice(company: Company) -> None:
    order = the_order(company, "edited_order")
    added = [line for line in order.lines if line.added_at]
    assert [(line.added_at or order.at) - order.at > timedelta(days=2) for line in added] == [True]
    first, extra = transactions_of(company, order)
    assert extra.at - first.at > timedelta(days=2)
    assert extra.amount == added[0].gross.shop + sum(tax.amount.shop for tax in added[0].taxes)


def test_refunds_are_partial_and_full(company: Company) -> None:
    partial, full = the_order(company, "partial_refund"), the_order(company, "full_refund")
    assert 0 < partial.refunds[0].tenders[0].amount.shop < partial.tenders[0].amount.shop
    assert full.refunds[0].tenders[0].amount == full.tenders[0].amount
    assert full.presentment_currency == "CAD"
    charge, refund = transactions_of(company, full)
    assert charge.exchange_rate != refund.exchange_rate


def test_the_refund_at_the_shop_is_older_than_the_charge_at_stripe(company: Company) -> None:
    order = the_order(company, "refund_before_charge")
    charge, refund = transactions_of(company, order)
    zone = ZoneInfo("America/New_York")
    times = [at.astimezone(zone).strftime("%d %H:%M") for at in (order.at, order.refunds[0].at, charge.at, refund.at)]
    assert times == ["07 23:50", "07 23:58", "08 00:05", "08 08:15"]


def test_gift_cards_are_sold_and_redeemed_and_one_pays_for_all(company: Company) -> None:
    sold = the_order(company, "gift_card_sold")
    assert [(line.kind, line.gross.shop, line.taxes) for line in sold.lines] == [("gift_card", 100_00, ())]
    redeemed = the_order(company, "gift_card_redeemed")
    assert [tender.gateway for tender in redeemed.tenders] == ["gift_card", "stripe"]
    assert redeemed.tenders[0].amount.shop == 100_00
    free = the_order(company, "gift_card_pays_all")
    assert [tender.gateway for tender in free.tenders] == ["gift_card"]
    assert transactions_of(company, free) == []


def test_orders_that_no_money_came_from(company: Company) -> None:
    assert the_order(company, "test_order").is_test
    assert [t.kind for t in the_order(company, "authorised_only").tenders] == ["AUTHORIZATION"]
    voided = the_order(company, "cancelled_before_capture")
    assert ([t.kind for t in voided.tenders], voided.cancelled_at is not None) == (["AUTHORIZATION", "VOID"], True)
    unpaid = the_order(company, "order_without_payment")
    assert [(t.kind, t.gateway, t.status) for t in unpaid.tenders] == [("SALE", "stripe", "SUCCESS")]
    assert company.find("stripe_us", unpaid.tenders[0].payment_id or "") is None
    for kind in ("test_order", "authorised_only", "cancelled_before_capture", "order_without_payment"):
        assert transactions_of(company, the_order(company, kind)) == []


def test_an_order_cancelled_after_its_capture_is_refunded_in_full(company: Company) -> None:
    order = the_order(company, "cancelled_after_capture")
    assert order.cancelled_at is not None
    assert [txn.source_amount for txn in transactions_of(company, order)] == [order.tenders[-1].amount.presentment] * 2


def test_a_payment_without_order(company: Company) -> None:
    charge = company.find("stripe_us", the(company, "payment_without_order").source_id)
    assert isinstance(charge, ProcessorTransaction)
    assert (charge.kind, charge.order_id) == ("charge", None)


@pytest.mark.parametrize(
    ("kind", "connection", "kinds"),
    [
        ("dispute_lost", "stripe_us", ["charge", "dispute"]),
        ("dispute_won", "stripe_us", ["charge", "dispute", "dispute_reversal"]),
        ("dispute_lost", "shopify_uk", ["charge", "dispute"]),
    ],
)
def test_disputes_move_the_balance(company: Company, kind: str, connection: str, kinds: list[str]) -> None:
    dispute = company.find(connection, the(company, kind, connection).source_id)
    assert isinstance(dispute, Dispute)
    moves = [txn for txn in all_transactions(company) if txn.charge_id == dispute.charge_id]
    assert [txn.kind for txn in moves] == kinds
    assert tuple(txn.txn_id for txn in moves[1:]) == dispute.txn_ids
    assert dispute.outcome == kind.removeprefix("dispute_")
    assert sum(txn.amount for txn in moves) == (0 if dispute.outcome == "lost" else dispute.settled_amount)


def test_a_failed_payouts_money_is_carried_by_the_next_days(company: Company) -> None:
    row = the(company, "failed_payout")
    failed = company.find("stripe_us", row.source_id)
    assert isinstance(failed, Payout)
    assert (failed.paid_at, failed.failed_at is not None) == (None, True)
    failure = next(txn for txn in all_transactions(company, WEEK) if txn.kind == "payout_failure")
    assert (failure.source_id, failure.amount) == (failed.payout_id, failed.amount)
    (following,) = company.payouts("stripe_us", row.day + timedelta(days=1))
    assert failure.txn_id in following.member_ids


@pytest.mark.parametrize("seed", [7, 8, 99])
@pytest.mark.parametrize("orders_per_day", [8, 40, 400])
def test_a_negative_payout_is_of_one_refund(seed: int, orders_per_day: int) -> None:
    company = Company(seed=seed, orders_per_day=orders_per_day)
    payout = company.find("stripe_uk", the(company, "negative_payout").source_id)
    assert isinstance(payout, Payout)
    assert (payout.currency, payout.amount < 0, len(payout.member_ids)) == ("EUR", True, 1)
    member = company.find("stripe_uk", payout.member_ids[0])
    assert isinstance(member, ProcessorTransaction)
    assert member.kind == "refund"


def test_the_broken_literals_on_the_wire(company: Company) -> None:
    order = the_order(company, "malformed_amount")
    assert order.overrides == {"totalPriceSet.shopMoney.amount": "12,50"}
    assert due(order) == (12_50, 12_50)
    assert [o.fault for o in all_orders(company) if o.overrides] == ["malformed_amount"]
    assert the_line(company, "unknown_bank_currency").wire_currency == "USDT"
    assert the_line(company, "too_many_decimals").wire_amount == "12.345"
    broken = [line.fault for line in all_lines(company, WEEK) if line.wire_amount or line.wire_currency]
    assert broken == ["unknown_bank_currency", "too_many_decimals"]


def test_an_order_has_more_lines_than_a_nested_page(company: Company) -> None:
    assert len([line for line in the_order(company, "many_lines").lines if line.kind == "goods"]) == 60


def test_what_the_bank_changes_afterwards(company: Company) -> None:
    pending = the_line(company, "pending_amount_changed")
    booked = next(line for line in all_lines(company) if line.replaces_pending_id == pending.line_id)
    assert (pending.is_pending, pending.removed_at, booked.is_pending) == (True, booked.at, False)
    assert booked.amount < pending.amount < 0
    modified = the_line(company, "bank_line_modified")
    assert (modified.modified_description, modified.role, modified.modified_role) == (
        "STAPLES 0042 BROOKLYN NY",
        "uncategorised_expense",
        "office_supplies",
    )
    removed = the_line(company, "bank_line_removed")
    assert not removed.is_pending
    assert removed.removed_at is not None


@pytest.mark.parametrize("kind", ["identical_bank_lines", "identical_statement_lines"])
def test_twins_differ_in_nothing_but_their_id(company: Company, kind: str) -> None:
    one, two = (line for line in all_lines(company, WEEK) if line.fault == kind)
    assert (one.description, one.amount, one.day, one.at) == (two.description, two.amount, two.day, two.at)
    assert one.line_id != two.line_id


def test_every_pending_line_is_replaced_by_one_booked_line(company: Company) -> None:
    pending = [line.line_id for line in all_lines(company, WEEK) if line.is_pending]
    replaced = [line.replaces_pending_id for line in all_lines(company, FORTNIGHT) if line.replaces_pending_id]
    assert pending
    assert set(pending) <= set(replaced)
    assert len(set(replaced)) == len(replaced)


# Rates


def test_rates_are_the_ecbs_with_the_last_earlier_one_on_a_weekend() -> None:
    assert per_euro(date(2026, 10, 5), "GBP") == Decimal("0.8472")
    assert per_euro(date(2026, 10, 5), "USD") == Decimal("1.1204")
    assert per_euro(date(2026, 10, 11), "USD") == per_euro(date(2026, 10, 9), "USD")
    assert cross(date(2026, 10, 5), "KWD", "USD") == Decimal("3.25")
    assert processor_rate(date(2026, 10, 5), "KWD", "USD") == "3.2175"
    with pytest.raises(LookupError, match="no ECB rate"):
        per_euro(date(1998, 1, 1), "USD")


@pytest.mark.parametrize(
    ("amount", "currency", "rate", "settled"),
    [
        (1500, "JPY", "0.0062", 930),
        (1250, "KWD", "3.2175", 402),
        (10_00, "CAD", "0.7005", 700),
        (10_00, "CAD", "0.7015", 702),
    ],
)
def test_settled_amounts_round_half_to_even(amount: int, currency: str, rate: str, settled: int) -> None:
    assert settle(amount, currency, "USD", rate) == settled


# Size


def test_twenty_thousand_orders_a_day_are_made_in_seconds() -> None:
    company = Company(orders_per_day=20_000)
    started = time.monotonic()
    orders = company.orders("shopify_us", WEEK[1])
    txns = company.processor_transactions("stripe_us", WEEK[1])
    assert len(orders) > 20_000
    assert len(txns) > 19_000
    assert time.monotonic() - started < 30


def test_one_order_of_a_hundred_thousand_is_found_without_making_its_day() -> None:
    company = Company(orders_per_day=100_000)
    small = company.order("shopify_us", 5_20731_0099_999)
    assert small is not None
    started = time.monotonic()
    charge = company.find("stripe_us", small.tenders[-1].payment_id or "")
    assert charge is not None
    assert time.monotonic() - started < 1


def test_the_cache_forgets_old_days() -> None:
    company = Company(orders_per_day=40)
    company._cache._limit = 300
    for day in FORTNIGHT:
        company.processor_transactions("stripe_us", day)
        company.orders_touched("shopify_uk", day)
    assert len(company._cache._days) <= 8 or company._cache._count <= 300
    assert company._cache._count == sum(map(len, company._cache._days.values()))
