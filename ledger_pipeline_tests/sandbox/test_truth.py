"""The sample company's own books: balanced, explainable to the minor unit, and with a fate for every source record."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter, defaultdict
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest

from ledger_pipeline.sandbox.company import Company
from ledger_pipeline.sandbox.company.facts import day_bounds
from ledger_pipeline.sandbox.company.rates import per_euro
from ledger_pipeline.sandbox.events import (
    Money,
    Order,
    OrderLine,
    ProcessorTransaction,
    Refund,
    RefundLine,
    Tax,
    Tender,
)
from ledger_pipeline.sandbox.gains import is_pooled, month_end, value
from ledger_pipeline.sandbox.truth import (
    Books,
    Closing,
    Line,
    Truth,
    refund_lines,
    sale_lines,
    transaction_lines,
    truth,
    walk,
)

START = date(2026, 10, 5)
WEEK = [START + timedelta(days=n) for n in range(7)]
NOON = datetime(2026, 10, 5, 16, tzinfo=UTC)
LATER = NOON + timedelta(days=30)


@pytest.fixture(scope="module")
def company() -> Company:
    return Company()


@pytest.fixture(scope="module")
def week(company: Company) -> Truth:
    return truth(company, WEEK[-1])


def amount(books: Truth, entity: str, role: str, currency: str) -> int:
    return sum(
        row.amount_minor for row in books.balances if (row.entity, row.role, row.currency) == (entity, role, currency)
    )


def role_total(books: Truth, role: str) -> dict[tuple[str, str], int]:
    return {(row.entity, row.currency): row.amount_minor for row in books.balances if row.role == role}


# Balance


@pytest.mark.parametrize(
    ("seed", "orders_per_day", "faults", "days"),
    [
        (7, 40, True, 1),
        (7, 40, True, 3),
        (7, 40, True, 7),
        (7, 40, True, 15),
        (7, 40, False, 7),
        (8, 8, True, 9),
        (3, 300, True, 7),
    ],
)
def test_every_currency_and_the_base_sum_to_zero_in_each_entity(
    seed: int, orders_per_day: int, faults: bool, days: int
) -> None:
    books = truth(Company(seed, START, orders_per_day, faults), START + timedelta(days=days - 1))
    currencies: Counter[tuple[str, str]] = Counter()
    bases: Counter[str] = Counter()
    for row in books.balances:
        currencies[row.entity, row.currency] += row.amount_minor
        bases[row.entity] += row.base_minor
    assert set(bases) == {"hp_us", "hp_uk"}
    assert not any(currencies.values())
    assert not any(bases.values())


def test_an_entry_that_does_not_balance_is_refused(company: Company) -> None:
    with pytest.raises(ValueError, match="misses"):
        Books(company).post("hp_us", START, [Line("sales", "USD", -100), Line("bank:x", "USD", 99)])


def test_a_currency_without_a_conversion_is_refused(company: Company) -> None:
    with pytest.raises(ValueError, match="no rate for CAD"):
        Books(company).post("hp_us", START, [Line("sales", "CAD", -100), Line("bank:x", "CAD", 100)])


def test_lines_of_a_role_are_summed_before_conversion_and_the_rest_is_rounding(company: Company) -> None:
    books = Books(company)
    lines = [Line("a", "EUR", 1), Line("a", "EUR", 1), Line("b", "EUR", 1), Line("c", "EUR", -3)]
    books.post("hp_uk", START, lines)  # 0.8472: 2 → 1.69 → 2, 1 → 0.85 → 1, -3 → -2.54 → -3
    assert dict(books.bases) == {("hp_uk", "a", "EUR"): 2, ("hp_uk", "b", "EUR"): 1, ("hp_uk", "c", "EUR"): -3}
    books.post("hp_uk", START, [Line("d", "EUR", 2), Line("e", "EUR", 2), Line("f", "EUR", -4)])  # 2 + 2 - 3
    assert books.bases["hp_uk", "fx_rounding", "EUR"] == -1
    assert books.amounts["hp_uk", "fx_rounding", "EUR"] == 0


# Clearing


@pytest.mark.parametrize("day", WEEK)
@pytest.mark.parametrize("seed", [7, 21])
def test_without_faults_nothing_stays_in_order_clearing_but_the_stalls_cash(seed: int, day: date) -> None:
    company = Company(seed, faults=False)
    open_rows = [
        row for row in truth(company, day).balances if row.role.startswith("order_clearing:") and row.amount_minor
    ]
    assert {(row.entity, row.role, row.currency) for row in open_rows} <= {("hp_uk", "order_clearing:cash", "GBP")}


def test_what_stays_in_order_clearing_is_what_was_planted(company: Company, week: Truth) -> None:
    planted = {row.kind: row.source_id for row in company.planted(WEEK[0], WEEK[-1])}
    unpaid = company.order("shopify_us", int(planted["order_without_payment"]))
    malformed = company.order("shopify_uk", int(planted["malformed_amount"]))
    assert unpaid is not None
    assert malformed is not None
    stays = {
        (row.role, row.currency): row.amount_minor for row in week.balances if row.role.startswith("order_clearing:")
    }
    cash = stays.pop(("order_clearing:cash", "GBP"))
    assert {key: left for key, left in stays.items() if left} == {
        ("order_clearing:stripe", "USD"): unpaid.tenders[0].amount.shop,
        ("order_clearing:shopify_payments", "GBP"): -malformed.tenders[0].amount.shop,
    }
    not_banked = sum(r.quantity * r.unit_price for day in WEEK[4:] for r in company.stall_receipts(day))
    assert cash == not_banked


def test_a_refund_before_its_charge_leaves_nothing_open_before_and_after_the_night(company: Company) -> None:
    order_id = next(row.source_id for row in company.planted(WEEK[2], WEEK[2]) if row.kind == "refund_before_charge")
    moved_on = {
        day: [txn.kind for txn in company.processor_transactions("stripe_us", day) if str(txn.order_id) == order_id]
        for day in WEEK[2:4]
    }
    assert moved_on == {WEEK[2]: [], WEEK[3]: ["charge", "refund"]}
    assert [amount(truth(company, day), "hp_us", "order_clearing:stripe", "USD") for day in WEEK[2:4]] == [0, 0]


def test_the_processor_holds_what_is_not_paid_out_yet(company: Company, week: Truth) -> None:
    for connection, entity, currency, role in (
        ("stripe_us", "hp_us", "USD", "processor_balance:stripe"),
        ("stripe_uk", "hp_uk", "GBP", "processor_balance:stripe"),
        ("stripe_uk", "hp_uk", "EUR", "processor_balance:stripe"),
        ("shopify_uk", "hp_uk", "GBP", "processor_balance:shopify_payments"),
    ):
        carried = {txn_id for day in WEEK for p in company.payouts(connection, day) for txn_id in p.member_ids}
        waiting = sum(
            txn.amount - txn.fee
            for day in WEEK
            for txn in company.processor_transactions(connection, day)
            if txn.currency == currency and txn.kind != "payout" and txn.txn_id not in carried
        )
        assert waiting
        assert amount(week, entity, role, currency) == waiting


def test_what_is_in_transit_has_left_the_processor_and_not_reached_the_bank(company: Company, week: Truth) -> None:
    for entity, currency, connections in (
        ("hp_us", "USD", ("stripe_us",)),
        ("hp_uk", "GBP", ("stripe_uk", "shopify_uk")),
        ("hp_uk", "EUR", ("stripe_uk",)),
    ):
        sent = [
            p.amount
            for day in WEEK
            for name in connections
            for p in company.payouts(name, day)
            if p.currency == currency and p.failed_at is None and p.arrival_day > WEEK[-1]
        ]
        assert amount(week, entity, "payout_in_transit", currency) == sum(sent)


def test_the_bank_in_the_books_is_the_banks_own_balance(company: Company, week: Truth) -> None:
    for account in company.bank_accounts:
        entity = company.connections[account.connection].entity
        moved = company.closing_balance(account, WEEK[-1]) - account.opening
        assert amount(week, entity, f"bank:{account.account_id}", account.currency) == moved


def test_disputes_end_in_a_loss_or_in_nothing(company: Company, week: Truth) -> None:
    lost = {
        (company.connections[name].entity, d.settled_currency): d.settled_amount
        for day in WEEK
        for name in ("stripe_us", "shopify_uk")
        for d in company.disputes(name, day)
        if d.outcome == "lost"
    }
    assert role_total(week, "chargeback_loss") == lost
    assert role_total(week, "dispute_receivable") == {}
    assert role_total(week, "chargeback_fees") == {("hp_us", "USD"): 30_00, ("hp_uk", "GBP"): 15_00}
    undecided = truth(company, WEEK[2])
    assert role_total(undecided, "chargeback_loss") == {}
    assert role_total(undecided, "dispute_receivable")[("hp_uk", "GBP")] == lost["hp_uk", "GBP"]


# Worked entries


def money(shop: int, presentment: int | None = None, currency: str = "USD", seen_in: str | None = None) -> Money:
    return Money(shop, currency, shop if presentment is None else presentment, seen_in or currency)


def line(kind: str, gross: int, discount: int, tax: tuple[str, int] | None, currency: str = "USD") -> OrderLine:
    taxes = (Tax("tax", tax[0], "0.1", money(tax[1], currency=currency)),) if tax else ()
    price = money(gross, currency=currency)
    return OrderLine(1, kind, "X", "X", 1, price, price, money(discount, currency=currency), taxes)


def tender(gateway: str, paid: Money, kind: str = "SALE") -> Tender:
    return Tender(1, kind, "SUCCESS", gateway, paid, NOON)


def order(lines: list[OrderLine], tenders: list[Tender], tip: int = 0, is_tax_included: bool = False) -> Order:
    currency = tenders[0].amount.shop_currency
    return Order(
        "shopify_us", 1, "#1", NOON, None, currency, tenders[0].amount.presentment_currency, is_tax_included,
        "US", "NY", "web", tuple(lines), money(tip, currency=currency) if tip else None, tuple(tenders),
    )  # fmt: skip


def summed(lines: list[Line]) -> dict[str, int]:
    found: defaultdict[str, int] = defaultdict(int)
    for entry in lines:
        found[f"{entry.role} {entry.currency}"] += entry.amount
    return dict(found)


def test_the_policys_worked_sale() -> None:
    sold = order(
        [line("goods", 100_00, 10_00, ("US-NY", 8_50)), line("shipping", 5_99, 0, None)],
        [tender("gift_card", money(20_00)), tender("stripe", money(84_49))],
    )
    assert summed(sale_lines(sold, LATER)) == {
        "order_clearing:stripe USD": 84_49,
        "gift_card_liability USD": 20_00,
        "sales_discounts USD": 10_00,
        "sales USD": -100_00,
        "shipping_income USD": -5_99,
        "sales_tax_payable:US-NY USD": -8_50,
    }


def test_a_sale_with_tax_inside_splits_price_and_discount() -> None:
    # 120.00 less 12.00: tax 18.00 in 108.00, 2.00 in the discount.
    sold = order(
        [line("goods", 120_00, 12_00, ("GB", 18_00), "GBP")],
        [tender("shopify_payments", money(108_00, currency="GBP"))],
        is_tax_included=True,
    )
    assert summed(sale_lines(sold, LATER)) == {
        "order_clearing:shopify_payments GBP": 108_00,
        "sales GBP": -100_00,
        "sales_discounts GBP": 10_00,
        "sales_tax_payable:GB GBP": -18_00,
    }


def test_a_sale_in_another_currency_clears_in_what_the_customer_paid() -> None:
    paid = money(50_00, 71_25, "USD", "CAD")
    sold = order([line("goods", 48_00, 0, None)], [tender("stripe", paid)], tip=2_00)
    entry = sale_lines(sold, LATER)
    assert summed(entry) == {
        "order_clearing:stripe CAD": 71_25,
        "currency_trading CAD": -71_25,
        "currency_trading USD": 50_00,
        "sales USD": -48_00,
        "tips_payable USD": -2_00,
    }
    assert [(one.role, one.base) for one in entry if one.currency == "CAD"] == [
        ("currency_trading", -50_00),
        ("order_clearing:stripe", 50_00),
    ]


def test_shopify_payments_clears_in_the_shops_currency() -> None:
    sold = order(
        [line("goods", 50_00, 0, None, "GBP")], [tender("shopify_payments", money(50_00, 59_00, "GBP", "EUR"))]
    )
    assert summed(sale_lines(sold, LATER)) == {"order_clearing:shopify_payments GBP": 50_00, "sales GBP": -50_00}


def test_what_is_not_paid_is_receivable() -> None:
    sold = order([line("goods", 50_00, 0, None)], [tender("stripe", money(30_00))])
    assert summed(sale_lines(sold, LATER))["accounts_receivable USD"] == 20_00


def test_an_added_line_is_sold_only_after_the_edit() -> None:
    added = replace(line("goods", 7_00, 0, None), added_at=NOON + timedelta(days=2))
    extra = replace(tender("stripe", money(7_00)), at=NOON + timedelta(days=2))
    sold = order([line("goods", 50_00, 0, None), added], [tender("stripe", money(50_00)), extra])
    assert summed(sale_lines(sold, NOON + timedelta(days=1)))["sales USD"] == -50_00
    assert summed(sale_lines(sold, LATER))["sales USD"] == -57_00


def test_a_refund_of_goods_shipping_gift_card_and_goodwill() -> None:
    sold = order([line("goods", 50_00, 0, ("US-NY", 4_00))], [tender("stripe", money(54_00))])
    refund = Refund(
        1, NOON, (RefundLine(1, 1, money(30_00), money(2_40)), RefundLine(2, 1, money(5_00), money(0), "gift_card")),
        money(5_99), money(48), money(1_00), (tender("stripe", money(44_87), "REFUND"),),
    )  # fmt: skip
    assert summed(refund_lines(sold, refund)) == {
        "order_clearing:stripe USD": -44_87,
        "sales_returns USD": 31_00,
        "gift_card_liability USD": 5_00,
        "shipping_income USD": 5_99,
        "sales_tax_payable:US-NY USD": 2_88,
    }


def test_a_refund_with_tax_inside_takes_the_tax_out() -> None:
    sold = order(
        [line("goods", 12_00, 0, ("GB", 2_00), "GBP")], [tender("stripe", money(12_00, currency="GBP"))], 0, True
    )
    subtotal, tax = money(12_00, currency="GBP"), money(2_00, currency="GBP")
    back = tender("stripe", money(12_00, currency="GBP"), "REFUND")
    refund = Refund(1, NOON, (RefundLine(1, 1, subtotal, tax),), None, None, None, (back,))
    assert summed(refund_lines(sold, refund)) == {
        "order_clearing:stripe GBP": -12_00,
        "sales_returns GBP": 10_00,
        "sales_tax_payable:GB GBP": 2_00,
    }


def transaction(kind: str, settled: int, fee: int, order_id: int | None = 1, seen: int = 0) -> ProcessorTransaction:
    rate = "0.7" if seen else None
    return ProcessorTransaction(
        "stripe_us", "txn_1", kind, NOON, NOON, "USD", settled, fee, "x", seen or abs(settled),
        "CAD" if seen else "USD", rate, order_id,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("txn", "expected"),
    [
        (
            transaction("charge", 100_00, 3_20),
            {"processor_balance:stripe USD": 96_80, "order_clearing:stripe USD": -100_00, "processing_fees USD": 3_20},
        ),
        (
            transaction("charge", 100_00, 3_20, None),
            {"processor_balance:stripe USD": 96_80, "unidentified_receipts USD": -100_00, "processing_fees USD": 3_20},
        ),
        (
            transaction("charge", 70_00, 0, 1, 100_00),
            {
                "processor_balance:stripe USD": 70_00,
                "currency_trading USD": -70_00,
                "currency_trading CAD": 100_00,
                "order_clearing:stripe CAD": -100_00,
            },
        ),
        (
            transaction("refund", -70_00, 0, 1, 100_00),
            {
                "processor_balance:stripe USD": -70_00,
                "currency_trading USD": 70_00,
                "currency_trading CAD": -100_00,
                "order_clearing:stripe CAD": 100_00,
            },
        ),
        (
            transaction("dispute", -50_00, 15_00),
            {"processor_balance:stripe USD": -65_00, "dispute_receivable USD": 50_00, "chargeback_fees USD": 15_00},
        ),
        (
            transaction("dispute_reversal", 50_00, 0),
            {"processor_balance:stripe USD": 50_00, "dispute_receivable USD": -50_00},
        ),
        (
            transaction("payout", -80_00, 0, None),
            {"processor_balance:stripe USD": -80_00, "payout_in_transit USD": 80_00},
        ),
        (
            transaction("payout_failure", 80_00, 0, None),
            {"processor_balance:stripe USD": 80_00, "payout_in_transit USD": -80_00},
        ),
    ],
)
def test_balance_transactions(txn: ProcessorTransaction, expected: dict[str, int]) -> None:
    assert summed(transaction_lines(txn)) == expected


def test_an_unknown_balance_transaction_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown kind: topup"):
        transaction_lines(transaction("topup", 1, 0))


# States


def test_the_removed_line_is_in_the_books_for_a_day(company: Company) -> None:
    removed = next(row for row in company.planted(WEEK[0], WEEK[-1]) if row.kind == "bank_line_removed")

    def fate(day: date) -> list[tuple[str, str]]:
        rows = truth(company, day).exceptions
        return [(row.fate, row.reason) for row in rows if row.source_id == removed.source_id]

    assert fate(removed.day) == []
    assert fate(removed.day + timedelta(days=1)) == [("ignored", "removed")]


def test_the_modified_line_changes_its_role(company: Company) -> None:
    row = next(row for row in company.planted(WEEK[0], WEEK[-1]) if row.kind == "bank_line_modified")
    before = amount(truth(company, row.day), "hp_us", "uncategorised_expense", "USD")
    after = amount(truth(company, row.day + timedelta(days=1)), "hp_us", "uncategorised_expense", "USD")
    assert before - after == 36_18


def test_a_pending_line_is_ignored_until_it_is_replaced(company: Company) -> None:
    row = next(row for row in company.planted(WEEK[0], WEEK[-1]) if row.kind == "pending_amount_changed")
    reasons = [
        [one.reason for one in truth(company, day).exceptions if one.source_id == row.source_id]
        for day in (row.day - timedelta(days=1), row.day, row.day + timedelta(days=1))
    ]
    assert reasons == [[], ["pending"], ["removed"]]


# Fates


def test_every_source_record_has_one_fate(company: Company, week: Truth) -> None:
    counted = {
        (connection, stream): sum(fates.values())
        for connection, streams in week.fates.items()
        for stream, fates in streams.items()
    }
    expected: Counter[tuple[str, str]] = Counter()
    for day in WEEK:
        for shop in ("shopify_us", "shopify_uk"):
            expected[shop, "orders"] += len(company.orders(shop, day))
        for name in ("stripe_us", "stripe_uk", "shopify_uk"):
            expected[name, "balance_transactions"] += len(company.processor_transactions(name, day))
            expected[name, "payouts"] += len(company.payouts(name, day))
            expected[name, "disputes"] += len(company.disputes(name, day))
            if name.startswith("stripe"):  # Stripe tells of payouts that moved and disputes that were decided in events
                moved = [p.failed_at or p.paid_at for p in company.payouts(name, day)]
                expected[name, "payout_members"] += sum(
                    p.failed_at is None
                    and p.paid_at is not None
                    and p.paid_at.astimezone(ZoneInfo(company.zone(name))).date() <= WEEK[-1]
                    for p in company.payouts(name, day)
                )
                moved += [d.decided_at for d in company.disputes(name, day)]
                zone = ZoneInfo(company.zone(name))
                expected[name, "events"] += sum(
                    at is not None and at.astimezone(zone).date() <= WEEK[-1] for at in moved
                )
        for account in company.bank_accounts[:2]:
            lines = company.bank_lines(account.connection, account.account_id, day)
            expected[account.connection, "transactions"] += len(lines)
        expected["bank_eur", "statements"] += 1
        expected["stall_uk", "records"] += len(company.stall_receipts(day))
    expected["plaid_us", "accounts"] = expected["plaid_uk", "accounts"] = 1
    assert counted == {key: number for key, number in expected.items() if number}


def test_the_exceptions_are_the_planted_ones_with_their_reasons(company: Company, week: Truth) -> None:
    fates = {(row.connection, row.source_id): (row.fate, row.reason) for row in week.exceptions}
    expected = {
        "test_order": ("ignored", "test order"),
        "authorised_only": ("ignored", "authorised only"),
        "cancelled_before_capture": ("ignored", "voided"),
        "malformed_amount": ("quarantined", "malformed amount"),
        "unknown_bank_currency": ("quarantined", "unknown currency"),
        "too_many_decimals": ("quarantined", "too many decimals"),
        "bank_line_removed": ("ignored", "removed"),
        "pending_amount_changed": ("ignored", "removed"),
        "dispute_won": ("ignored", "settled by balance transaction"),
        "dispute_lost": ("ignored", "lost; booked from the event that dates it"),
    }
    found = {
        row.kind: fates[row.connection, row.source_id]
        for row in company.planted(WEEK[0], WEEK[-1])
        if (row.connection, row.source_id) in fates and row.stream != "statements"
    }
    assert found == expected
    ordinary = [row for row in week.exceptions if row.stream not in ("transactions", "statements")]
    assert len(ordinary) == 7
    assert {row.reason for row in week.exceptions} == {reason for _, reason in expected.values()}


def test_an_undecided_dispute_is_ignored_as_such(company: Company) -> None:
    reasons = {row.reason for row in truth(company, WEEK[2]).exceptions if row.stream == "disputes"}
    assert reasons == {"undecided"}


def test_matches_join_every_arrived_payout_to_its_bank_line(company: Company, week: Truth) -> None:
    arrived = {
        (name, p.payout_id)
        for day in WEEK
        for name in ("stripe_us", "stripe_uk", "shopify_uk")
        for p in company.payouts(name, day)
        if p.paid_at and p.arrival_day <= WEEK[-1]
    }
    assert {(match.connection, match.payout_id) for match in week.matches} == arrived
    assert len({match.line_id for match in week.matches}) == len(arrived)


def test_the_night_after_is_not_in_the_day(company: Company) -> None:
    _, end = day_bounds("America/New_York", WEEK[2])
    night = [txn for txn in company.processor_transactions("stripe_us", WEEK[3]) if txn.at < end + timedelta(minutes=6)]
    assert [txn.at - end for txn in night] == [timedelta(minutes=5)]
    counted = truth(company, WEEK[2]).fates["stripe_us"]["balance_transactions"]["posted"]
    assert counted == sum(len(company.processor_transactions("stripe_us", day)) for day in WEEK[:3])


# Form


def test_truth_as_json_says_the_same(week: Truth) -> None:
    read = json.loads(week.to_json())
    assert set(read) == {"through", "balances", "fates", "exceptions", "matches"}
    assert read["through"] == "2026-10-11"
    first = week.balances[0]
    assert read["balances"][0] == {
        "entity": first.entity,
        "role": first.role,
        "currency": first.currency,
        "amount_minor": first.amount_minor,
        "base_minor": first.base_minor,
    }
    assert read["fates"] == week.fates
    assert len(read["exceptions"]) == len(week.exceptions)


def test_truth_is_the_same_from_a_fresh_company_and_a_used_one(company: Company, week: Truth) -> None:
    assert truth(Company(), WEEK[-1]) == week
    assert truth(company, WEEK[-1]) == week


def test_truth_imports_nothing_of_the_code_that_it_judges() -> None:
    code = (
        "import sys, ledger_pipeline.sandbox.truth, ledger_pipeline.sandbox.files\n"
        "print([name for name in sys.modules if name.startswith('ledger_pipeline.') "
        "and not name.startswith('ledger_pipeline.sandbox')])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert run.stdout.strip() == "[]"


# Closed months and currency runs

OCTOBER, NOVEMBER = date(2025, 10, 1), date(2025, 11, 1)
CLOSED = Closing("hp_uk", OCTOBER, datetime(2025, 11, 11, 7, tzinfo=UTC))


def posted(books: Books, role: str) -> dict[date, tuple[int, int]]:
    return {key[3]: sums for key, sums in books.daily().items() if key[1] == role}


@pytest.fixture
def closed() -> Books:
    return Books(Company(), [CLOSED])


def test_what_is_seen_before_the_close_stays_in_its_month(closed: Books) -> None:
    entry = [Line("bank:1", "EUR", 100_00), Line("other_income", "EUR", -100_00)]
    closed.follow(
        "hp_uk", date(2025, 10, 30), [(date(2025, 11, 10), entry)]
    )  # pulled on the 11th at 05:30, closed at 07:00
    closed.follow("hp_uk", date(2025, 10, 30), [(date(2025, 11, 11), entry)])
    closed.follow(
        "hp_us", date(2025, 10, 30), [(date(2025, 11, 11), [replace(line, currency="USD") for line in entry])]
    )
    # 0.87955 GBP for one euro on 30 October, 0.8806 on 1 November: the rate is that of the record's own day
    own = round(100_00 * per_euro(date(2025, 10, 30), "GBP"))
    assert {key: sums for key, sums in closed.daily().items() if key[1] == "bank:1"} == {
        ("hp_uk", "bank:1", "EUR", date(2025, 10, 30)): (100_00, own),
        ("hp_uk", "bank:1", "EUR", NOVEMBER): (100_00, own),
        ("hp_us", "bank:1", "USD", date(2025, 10, 30)): (100_00, 100_00),
    }


def test_a_late_change_is_taken_back_and_posted_anew_in_the_open_month(closed: Books) -> None:
    old = [Line("bank:1", "GBP", -48_60), Line("uncategorised_expense", "GBP", 48_60)]
    new = [Line("bank:1", "GBP", -48_60), Line("office_supplies", "GBP", 48_60)]
    seen = [(date(2025, 10, 20), old), (date(2025, 10, 21), old), (date(2025, 12, 1), new), (date(2025, 12, 2), [])]
    closed.follow("hp_uk", date(2025, 10, 20), seen)
    assert posted(closed, "uncategorised_expense") == {
        date(2025, 10, 20): (48_60, 48_60),
        NOVEMBER: (-48_60, -48_60),
    }
    assert posted(closed, "office_supplies") == {}  # posted and taken back on the same day
    assert posted(closed, "bank:1") == {date(2025, 10, 20): (-48_60, -48_60), NOVEMBER: (48_60, 48_60)}


def test_several_closed_months_are_passed_over() -> None:
    months = (OCTOBER, NOVEMBER, date(2025, 12, 1))
    books = Books(Company(), [Closing("hp_uk", month, CLOSED.closed_at) for month in months])
    books.follow(
        "hp_uk", date(2025, 10, 20), [(date(2025, 12, 1), [Line("bank:1", "GBP", 1), Line("other_income", "GBP", -1)])]
    )
    assert list(posted(books, "bank:1")) == [date(2026, 1, 1)]


def test_the_currency_run_is_of_what_was_there_when_the_month_was_closed(closed: Books) -> None:
    entry = [Line("bank:1", "EUR", 100_00, 90_00), Line("other_income", "EUR", -100_00, -90_00)]
    closed.follow("hp_uk", date(2025, 10, 30), [(date(2025, 10, 30), entry)])
    closed.follow("hp_uk", date(2025, 10, 30), [(date(2025, 12, 1), entry)])
    closed.run_currencies()
    worth = round(100_00 * per_euro(date(2025, 10, 31), "GBP")) - 90_00
    assert posted(closed, "bank:1") == {
        date(2025, 10, 30): (100_00, 90_00),
        date(2025, 10, 31): (0, worth),
        NOVEMBER: (100_00, 90_00 - worth),
    }
    assert posted(closed, "fx_gain_loss") == {date(2025, 10, 31): (-worth, -worth), NOVEMBER: (worth, worth)}


def test_closing_moves_entries_in_time_and_changes_no_amount() -> None:
    company = Company(start=date(2025, 10, 13), orders_per_day=8, late_days=10)
    through = date(2025, 11, 30)
    closings = [Closing(entity, OCTOBER, datetime(2025, 11, 4, 7, tzinfo=UTC)) for entity in company.entities]
    plain, moved = walk(company, through), walk(company, through, closings)
    gains = ("fx_gain_loss", "currency_trading")
    amounts = [
        {key: amount for key, amount in books.amounts.items() if amount and key[1] not in gains}
        for books in (plain, moved)
    ]
    assert amounts[0] == amounts[1]
    assert moved.fates == plain.fates
    assert moved.bases["hp_uk", "fx_gain_loss", "GBP"]
    for entity in company.entities:
        assert sum(base for key, base in moved.bases.items() if key[0] == entity) == 0
    before = plain.daily()
    adjusted = {key[:3] for key, sums in moved.daily().items() if key[3] == NOVEMBER and before.get(key) != sums}
    assert ("hp_uk", "office_supplies", "EUR") in adjusted  # the late statement of 31 October
    assert ("hp_us", "order_clearing:stripe", "CAD") in adjusted  # the order of 29 October that was edited late


def test_thirteen_closed_months_are_revalued_and_leave_no_residue() -> None:
    company = Company(start=OCTOBER, orders_per_day=8)
    months = [date(2025 + (9 + n) // 12, (9 + n) % 12 + 1, 1) for n in range(13)]
    closings = [
        Closing(entity, month, datetime.combine(month_end(month), time(7), UTC) + timedelta(days=11))
        for month in months
        for entity in company.entities
    ]
    books = walk(company, month_end(months[-1]), closings)
    daily = books.daily()
    for last in map(month_end, months):
        held: defaultdict[tuple[str, str, str], list[int]] = defaultdict(lambda: [0, 0])
        for (entity, role, currency, day), sums in daily.items():
            if day <= last and is_pooled(role, currency, books.base_currency[entity]):
                pool = held[entity, role, currency]
                pool[0], pool[1] = pool[0] + sums[0], pool[1] + sums[1]
        assert any(amount for amount, _ in held.values())
        for (entity, role, currency), (amount, base) in held.items():
            assert base == (value(amount, currency, books.base_currency[entity], last) if amount else 0), (role, last)
    assert {entity for entity, role, _ in books.amounts if role == "fx_gain_loss"} == {"hp_us", "hp_uk"}
    trading = {key: (amount, books.bases[key]) for key, amount in books.amounts.items() if key[1] == "currency_trading"}
    for entity in company.entities:
        assert sum(base for key, (_, base) in trading.items() if key[0] == entity) == 0


def test_only_the_connections_that_are_asked_for() -> None:
    books = walk(Company(), WEEK[-1], connections=["bank_eur"])
    assert {connection for connection, _ in books.fates} == {"bank_eur"}
    assert {key[0] for key in books.amounts} == {"hp_uk"}
