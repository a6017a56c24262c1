"""Each statement against figures that were worked out by hand."""

from __future__ import annotations

import re
from datetime import date
from decimal import Decimal

import pytest

from ledger_pipeline.model.accounts import Account
from ledger_pipeline.model.months import months_of
from ledger_pipeline.reports.statements import STATEMENTS, DoesNotTie, make
from ledger_pipeline.reports.statements.general_ledger import general_ledger
from ledger_pipeline.reports.statements.statement import (
    Link,
    Row,
    all_zero,
    fiscal_year_first,
    preceding_range,
    zero,
)
from ledger_pipeline.store.database import Database
from ledger_pipeline_tests.reports.statements.conftest import Books, scope_of, shown

OCTOBER = ("2026-10-01", "2026-10-31")
D = date(2026, 10, 5)


def day(text: str) -> date:
    return date.fromisoformat(text)


# trial balance -------------------------------------------------------------------------------------------------


def test_a_trial_balance_has_opening_debits_credits_closing_by_account_and_currency(books: Books) -> None:
    books.post("o1", day("2026-09-30"), ("order_clearing:stripe", 1000), ("sales", -1000))
    books.post("o2", day("2026-10-01"), ("order_clearing:stripe", 700), ("sales", -700))
    books.post("o3", day("2026-10-31"), ("order_clearing:till", 300, "EUR", 330), ("sales", -300, "EUR", -330))
    books.post("b1", D, ("bank:a1", 1200), ("order_clearing:stripe", -1200), record="bank_transaction")
    books.post("o4", day("2026-11-01"), ("order_clearing:stripe", 5), ("sales", -5))
    statement, rows = books.make("trial_balance", *OCTOBER)
    assert shown(rows, 0, 3, 4, 5, 6, 7, 10, 11) == [
        ("1000", "0.00", "12.00", "0.00", "12.00", "USD", "", ""),
        ("1150", "0.00", "3.30", "0.00", "3.30", "EUR", "0.00", "3.00"),
        ("1150", "10.00", "7.00", "12.00", "5.00", "USD", "", ""),
        ("4000", "0.00", "0.00", "3.30", "-3.30", "EUR", "3.00", "-3.00"),
        ("4000", "-10.00", "0.00", "7.00", "-17.00", "USD", "", ""),
        ("", "0.00", "22.30", "22.30", "0.00", "USD", "", ""),
    ]
    assert statement.ties
    assert {t.name: t.amount for t in statement.totals} == {"debits": Decimal("22.30"), "credits": Decimal("22.30")}


def test_an_account_that_came_to_nothing_before_the_range_is_left_out(books: Books) -> None:
    books.post("a", day("2026-09-01"), ("rent", 5), ("bank:a1", -5))
    books.post("b", day("2026-09-02"), ("rent", -5), ("bank:a1", 5))
    _, rows = books.make("trial_balance", *OCTOBER)
    assert shown(rows, 1) == [("Total",)]


def test_an_empty_ledger_ties(books: Books) -> None:
    for name in STATEMENTS:
        statement, _ = books.make(name, *OCTOBER)
        assert statement.ties, name


# profit and loss -----------------------------------------------------------------------------------------------


def test_profit_and_loss_runs_from_revenue_to_net_profit_beside_the_month_before(books: Books) -> None:
    books.post("s", day("2026-09-15"), ("order_clearing:x", 4000), ("sales", -4000))
    books.post(
        "o", D, ("order_clearing:x", 9599), ("sales_discounts", 1000), ("sales", -10000), ("shipping_income", -599)
    )
    books.post("r", D, ("sales_returns", 500), ("order_clearing:x", -500), record="refund")
    books.post("c", D, ("cost_of_goods_sold", 3000), ("inventory", -3000))
    books.post("f", D, ("processing_fees", 250), ("processor_balance:x", -250))
    books.post("i", D, ("bank:a", 40), ("other_income", -40))
    books.post("g", D, ("bank:a", -15), ("fx_gain_loss", 15))
    statement, rows = books.make("profit_and_loss", *OCTOBER)
    assert shown(rows, 0, 1, 2, 3, 4) == [
        ("4000", "Sales", "100.00", "40.00", "60.00"),
        ("4100", "less: Sales discounts", "-10.00", "0.00", "-10.00"),
        ("4200", "less: Sales returns", "-5.00", "0.00", "-5.00"),
        ("4300", "Shipping income", "5.99", "0.00", "5.99"),
        ("", "Net revenue", "90.99", "40.00", "50.99"),
        ("5000", "Cost of goods sold", "30.00", "0.00", "30.00"),
        ("", "Total cost of sales", "30.00", "0.00", "30.00"),
        ("", "Gross profit", "60.99", "40.00", "20.99"),
        ("6000", "Payment processing fees", "2.50", "0.00", "2.50"),
        ("", "Total operating expenses", "2.50", "0.00", "2.50"),
        ("", "Operating profit", "58.49", "40.00", "18.49"),
        ("4800", "Other income", "0.40", "0.00", "0.40"),
        ("4900", "Currency gains and losses", "-0.15", "0.00", "-0.15"),
        ("", "Net profit", "58.74", "40.00", "18.74"),
    ]
    assert statement.ties
    assert statement.columns[3].title == "2026-09-01 to 2026-09-30"
    assert re.findall(r">(\d{4}-\d\d)<", statement.charts[0].svg) == ["2026-09", "2026-10"]


@pytest.mark.parametrize(
    ("first", "last", "before"),
    [
        ("2026-10-01", "2026-10-31", ("2026-09-01", "2026-09-30")),
        ("2026-03-01", "2026-03-31", ("2026-02-01", "2026-02-28")),
        ("2026-01-01", "2026-12-31", ("2025-01-01", "2025-12-31")),
        ("2026-10-05", "2026-10-11", ("2026-09-28", "2026-10-04")),
        ("2026-10-01", "2026-10-30", ("2026-09-01", "2026-09-30")),
        ("2026-10-05", "2026-10-05", ("2026-10-04", "2026-10-04")),
    ],
)
def test_the_range_before_is_as_many_months_or_days(first: str, last: str, before: tuple[str, str]) -> None:
    assert tuple(map(str, preceding_range(day(first), day(last)))) == before


# balance sheet -------------------------------------------------------------------------------------------------


def year_end(books: Books) -> None:
    books.post("e", day("2025-01-01"), ("bank:a", 10000), ("opening_balance", -10000))
    books.post("y1", day("2025-12-31"), ("bank:a", 700), ("sales", -700))
    books.post("y2", day("2026-01-01"), ("bank:a", 50), ("sales", -50))
    books.post("y3", day("2026-06-30"), ("rent", 20), ("accounts_payable", -20))
    books.post("y4", day("2026-10-31"), ("bank:a", 3), ("sales", -3))


def test_a_balance_sheet_closes_past_years_into_retained_earnings_without_an_entry(books: Books) -> None:
    year_end(books)
    statement, rows = books.make("balance_sheet", *OCTOBER)
    assert shown(rows, 1, 2, 3) == [
        ("Bank", "107.53", "107.50"),
        ("Total assets", "107.53", "107.50"),
        ("Accounts payable", "0.20", "0.20"),
        ("Total liabilities", "0.20", "0.20"),
        ("Opening balances", "100.00", "100.00"),
        ("Retained earnings of earlier years (computed)", "7.00", "7.00"),
        ("Earnings of the current year (computed)", "0.33", "0.30"),
        ("Total equity", "107.33", "107.30"),
        ("Total liabilities and equity", "107.53", "107.50"),
    ]
    assert statement.ties
    assert {t.name: t.amount_minor for t in statement.totals} == {"assets": 10753, "liabilities": 20, "equity": 10733}


def test_the_day_before_a_fiscal_year_still_shows_its_own_years_earnings(books: Books) -> None:
    year_end(books)
    _, rows = books.make("balance_sheet", "2026-01-01", "2026-01-31")
    earnings = [row for row in shown(rows, 1, 2, 3) if "earnings" in row[0].lower()]
    assert earnings == [
        ("Retained earnings of earlier years (computed)", "7.00", "0.00"),
        ("Earnings of the current year (computed)", "0.50", "7.00"),
    ]


def test_a_fiscal_year_may_begin_in_another_month(books: Books) -> None:
    year_end(books)
    _, rows = books.make("balance_sheet", *OCTOBER, fiscal_year_start=7)
    earnings = [row for row in shown(rows, 1, 2) if "earnings" in row[0].lower()]
    assert earnings == [
        ("Retained earnings of earlier years (computed)", "7.30"),
        ("Earnings of the current year (computed)", "0.03"),
    ]
    assert fiscal_year_first(day("2026-06-30"), 7) == day("2025-07-01")
    assert fiscal_year_first(day("2026-07-01"), 7) == day("2026-07-01")


# cash flow -----------------------------------------------------------------------------------------------------


def test_cash_flow_goes_by_what_stood_on_the_other_side(database: Database) -> None:
    books = Books(
        database,
        Account("1500", "Equipment", "asset", ("equipment",)),
        Account("2600", "Bank loan", "liability", ("loan",)),
    )
    books.post("x0", day("2026-09-30"), ("bank:a", 10000), ("opening_balance", -10000))
    books.post("x1", D, ("bank:a", 5000), ("payout_in_transit", -5000), record="bank_transaction")
    books.post("x2", D, ("payout_in_transit", 900), ("processor_balance:s", -900))
    books.post("x3", D, ("bank:a", -1000), ("rent", 900), ("bank_fees", 100), record="bank_transaction")
    books.post("x4", D, ("bank:a", -2000), ("equipment", 2000), record="bank_transaction")
    books.post("x5", D, ("bank:a", 3000), ("loan", -3000), record="bank_transaction")
    books.post("x6", D, ("bank:a", -50), ("retained_earnings", 50), record="bank_transaction")
    books.post("x7", D, ("bank:a", -600), ("bank:b", 600), record="bank_transaction")
    wrong = books.post("x8", D, ("bank:a", -77), ("rent", 77), record="bank_transaction")
    books.reverse(wrong, day("2026-10-20"))
    statement, rows = books.make("cash_flow", *OCTOBER)
    assert shown(rows, 0, 1, 2, 3, 4) == [
        ("bank_fees", "Bank fees", "0.00", "-1.00", "-1.00"),
        ("payout_in_transit", "Payouts in transit", "50.00", "0.00", "50.00"),
        ("rent", "Rent", "0.00", "-9.00", "-9.00"),
        ("", "Net cash from operating activities", "50.00", "-10.00", "40.00"),
        ("equipment", "Equipment", "0.00", "-20.00", "-20.00"),
        ("", "Net cash from investing activities", "0.00", "-20.00", "-20.00"),
        ("loan", "Bank loan", "30.00", "0.00", "30.00"),
        ("retained_earnings", "Retained earnings", "0.00", "-0.50", "-0.50"),
        ("", "Net cash from financing activities", "30.00", "-0.50", "29.50"),
        ("", "Cash before 2026-10-01", "", "", "100.00"),
        ("", "Net change from activities", "", "", "49.50"),
        ("", "Effect of exchange rates", "", "", "0.00"),
        ("", "Cash on 2026-10-31", "", "", "149.50"),
        ("bank:a", "Bank", "", "", "143.50"),
        ("bank:b", "Bank", "", "", "6.00"),
    ]
    assert statement.ties


def test_gains_on_cash_in_another_currency_are_an_effect_and_no_flow(books: Books) -> None:
    books.post("e", day("2026-09-30"), ("bank:eur", 10000, "EUR", 11000), ("opening_balance", -10000, "EUR", -11000))
    books.post(
        "p", D, ("bank:eur", -4000, "EUR", -4480), ("payout_in_transit", 4000, "EUR", 4480), record="bank_transaction"
    )
    pools = (
        ("realised_gain", "2026-10-05", 80),
        ("revaluation", "2026-10-31", -30),
        ("revaluation_reversal", "2026-11-01", 30),
    )
    for record, on, gain in pools:
        books.post(
            record, day(on),
            ("bank:eur", 0, "EUR", gain), ("currency_trading", 0, "EUR", -gain),
            ("fx_gain_loss", -gain, "USD", -gain), ("currency_trading", gain, "USD", gain),
            record=record,
        )  # fmt: skip
    statement, rows = books.make("cash_flow", *OCTOBER)
    figures = {row[0]: row[1] for row in shown(rows, 1, 4)}
    assert figures["Cash before 2026-10-01"] == "110.00"
    assert figures["Payouts in transit"] == "-44.80"
    assert figures["Effect of exchange rates"] == "0.50"
    assert figures["Cash on 2026-10-31"] == "65.70"
    assert "Currency gains and losses" not in figures
    assert shown(rows, 0, 4, 5, 6)[-1] == ("bank:eur", "65.70", "EUR", "60.00")
    assert statement.ties


def test_the_exchange_within_an_entry_is_no_flow(books: Books) -> None:
    books.post(
        "p", D,
        ("bank:a", 110), ("currency_trading", -110), ("currency_trading", 100, "EUR", 110),
        ("payout_in_transit", -100, "EUR", -110),
        record="bank_transaction",
    )  # fmt: skip
    statement, rows = books.make("cash_flow", *OCTOBER)
    assert [row for row in shown(rows, 0, 4) if row[0]] == [("payout_in_transit", "1.10"), ("bank:a", "1.10")]
    assert statement.ties


# sales tax -----------------------------------------------------------------------------------------------------


def test_sales_tax_is_rolled_forward_by_jurisdiction(books: Books) -> None:
    ny, gb = "sales_tax_payable:US-NY", "sales_tax_payable:GB"
    books.post("o0", day("2026-09-10"), ("order_clearing:x", 108), ("sales", -100), (ny, -8))
    books.post("o1", D, ("order_clearing:x", 1028), ("sales", -1000), ("sales_discounts", 50), (ny, -78))
    books.post("o2", D, ("order_clearing:x", 240), ("sales", -200), (gb, -40))
    books.post("o3", D, ("order_clearing:x", 999), ("sales", -999))
    books.post("r1", D, ("order_clearing:x", -216), ("sales_returns", 200), (ny, 16), record="refund")
    books.post("t1", D, ("bank:a", -8), (ny, 8), record="bank_transaction")
    books.post("m1", D, ("sales", -3), (gb, 3), record="manual")
    changed = books.post("o4", D, ("order_clearing:x", 55), ("sales", -50), (ny, -5))
    books.reverse(changed, D)
    statement, rows = books.make("sales_tax", *OCTOBER)
    assert shown(rows, 0, 1, 2, 3, 4, 5, 6, 7) == [
        ("GB", "0.00", "0.40", "0.00", "0.00", "-0.03", "0.37", "2.00"),
        ("US-NY", "0.08", "0.78", "-0.16", "-0.08", "0.00", "0.62", "7.50"),
        ("Total", "0.08", "1.18", "-0.16", "-0.08", "-0.03", "0.99", ""),
    ]
    assert statement.ties


# gift cards ----------------------------------------------------------------------------------------------------


def test_gift_cards_are_rolled_forward_month_by_month_by_cause(books: Books) -> None:
    card = "gift_card_liability"
    books.post("g0", day("2026-09-01"), ("order_clearing:x", 1000), (card, -1000))
    books.post("g1", day("2026-10-02"), ("order_clearing:x", 500), (card, -500))
    books.post("g2", day("2026-10-03"), (card, 200), ("sales", -200))
    books.post("g3", day("2026-10-04"), ("sales_returns", 30), (card, -30), record="refund")
    books.post("g4", day("2026-10-05"), (card, 70), ("order_clearing:x", -70), record="refund")
    books.post("g5", day("2026-11-06"), (card, 11), ("gift_card_breakage", -11), record="manual")
    books.post("g6", day("2026-11-07"), (card, -5), ("advertising", 5), record="manual")
    wrong = books.post("g7", day("2026-11-08"), ("order_clearing:x", 99), (card, -99))
    books.reverse(wrong, day("2026-11-09"))
    books.post("g8", day("2026-12-01"), ("order_clearing:x", 1), (card, -1))
    statement, rows = books.make("gift_cards", "2026-10-01", "2026-11-30")
    assert [column.title for column in statement.columns][2:5] == ["Issued USD", "Refunded to card USD", "Redeemed USD"]
    assert shown(rows, *range(9)) == [
        ("2026-10", "10.00", "5.00", "0.30", "-2.00", "-0.70", "0.00", "0.00", "12.60"),
        ("2026-11", "12.60", "0.00", "0.00", "0.00", "0.00", "-0.11", "0.05", "12.54"),
        ("Total", "10.00", "5.00", "0.30", "-2.00", "-0.70", "-0.11", "0.05", "12.54"),
    ]
    assert statement.ties


# receivables ---------------------------------------------------------------------------------------------------


def staged(books: Books, table: str, source_id: str, order_id: str, connection: str) -> None:
    """What a payment or refund said about its order, as staging keeps it."""
    extra = {
        "processor_transaction": ("processor, kind, occurred_at, amount_minor, fee_minor, net_minor, role, settled_minor, settled_currency",
                                  "'s', 'charge', now(), 1, 0, 1, 'accounts_receivable', 1, 'USD'"),
        "refund": ("occurred_at, state, total_minor", "now(), 'refunded', 1"),
    }[table]  # fmt: skip
    with books.database.connect("writer") as connected:
        connected.execute(
            f"INSERT INTO staging.{table} (connection, sync_date, raw_id, source_id, order_id, currency, {extra[0]}) "
            f"VALUES (%s, '2026-10-05', 1, %s, %s, 'USD', {extra[1]})",
            (connection, source_id, order_id),
        )


def test_receivables_are_aged_by_order_with_what_cleared_them(books: Books) -> None:
    ar, payment = "accounts_receivable", "processor_transaction"
    for order_id, on, amount in (("a", "2026-10-31", 100), ("b", "2026-10-30", 200), ("c", "2026-10-01", 300), ("d", "2026-09-30", 400),
                                 ("e", "2026-08-01", 500), ("f", "2026-07-01", 600), ("paid", "2026-07-02", 700)):  # fmt: skip
        books.post(order_id, day(on), (ar, amount), ("sales", -amount))
    books.post("t1", D, ("processor_balance:s", 700), (ar, -700), record=payment, connection="stripe")
    books.post("t2", D, ("processor_balance:s", 150), (ar, -150), record=payment, connection="stripe")
    books.post("t3", D, ("processor_balance:s", 9), (ar, -9), record=payment, connection="stripe")
    books.post("r1", D, ("sales_returns", 25), (ar, -25), record="refund")
    books.post("late", day("2026-11-01"), (ar, 1), ("sales", -1))
    staged(books, payment, "t1", "paid", "stripe")
    staged(books, payment, "t2", "f", "stripe")
    staged(books, "refund", "r1", "e", "shop")
    statement, rows = books.make("receivables_ageing", *OCTOBER)
    assert shown(rows, 0, 3, 5, 6, 7, 8, 9, 10) == [
        ("f", "122", "", "", "", "", "4.50", "4.50"),
        ("e", "91", "", "", "", "", "4.75", "4.75"),
        ("d", "31", "", "", "4.00", "", "", "4.00"),
        ("c", "30", "", "3.00", "", "", "", "3.00"),
        ("b", "1", "", "2.00", "", "", "", "2.00"),
        ("a", "0", "1.00", "", "", "", "", "1.00"),
        ("Unallocated", "", "", "", "", "", "", "-0.09"),
        ("Total USD", "", "1.00", "5.00", "4.00", "0.00", "9.25", "19.16"),
        ("Total", "", "", "", "", "", "", ""),
    ]
    assert shown(rows, 11)[-1] == ("19.16",)
    assert statement.ties


def test_receivables_follow_an_order_through_its_correction_and_its_currency(books: Books) -> None:
    ar = "accounts_receivable"
    wrong = books.post("o1", day("2026-08-20"), (ar, 1000, "EUR", 1100), ("sales", -1000, "EUR", -1100))
    books.reverse(wrong, D)
    books.post("o1", D, (ar, 800, "EUR", 880), ("sales", -800, "EUR", -880), kind="replacement", corrects=wrong)
    books.post("o2", D, (ar, 50, "EUR", 55), ("sales", -50, "EUR", -55))
    books.post("t", D, ("processor_balance:s", 50, "EUR", 57), (ar, -50, "EUR", -57), record="processor_transaction")
    staged(books, "processor_transaction", "t", "o2", "shop")
    books.post("fx", D, (ar, 0, "EUR", 7), ("fx_gain_loss", 0, "EUR", -7), record="revaluation")
    statement, rows = books.make("receivables_ageing", *OCTOBER)
    assert shown(rows, 0, 2, 4, 10, 11) == [
        ("o1", "2026-10-05", "EUR", "8.00", "8.80"),
        ("Exchange differences", "", "EUR", "0.00", "0.05"),
        ("Total EUR", "", "EUR", "8.00", "8.85"),
        ("Total", "", "", "", "8.85"),
    ]
    assert statement.ties


def test_a_payment_whose_order_id_is_used_by_two_shops_is_unallocated(books: Books) -> None:
    for shop in ("one", "two"):
        books.post("7", D, ("accounts_receivable", 100), ("sales", -100), connection=shop)
    books.post("t", D, ("bank:a", 100), ("accounts_receivable", -100), record="processor_transaction", connection="s")
    staged(books, "processor_transaction", "t", "7", "s")
    _, rows = books.make("receivables_ageing", *OCTOBER)
    assert shown(rows, 0, 1, 10)[:3] == [("7", "one", "1.00"), ("7", "two", "1.00"), ("Unallocated", "", "-1.00")]


# general ledger ------------------------------------------------------------------------------------------------


def by_title(rows: list[Row], titles: list[str]) -> list[dict[str, object]]:
    return [dict(zip(titles, row.cells, strict=True)) for row in rows if row.anchor]


def test_the_general_ledger_runs_from_opening_to_closing_and_leads_to_the_source(books: Books) -> None:
    books.post("o0", day("2026-09-30"), ("bank:a", 1000), ("sales", -1000))
    first = books.post("o1", D, ("bank:a", 500), ("sales", -500))
    back = books.reverse(first, day("2026-10-06"))
    new = books.post(
        "o1", day("2026-10-06"), ("bank:a", 450, "EUR", 495), ("sales", -450, "EUR", -495), kind="replacement",
        corrects=first,
    )  # fmt: skip
    statement, rows = books.make("general_ledger", *OCTOBER)
    assert shown(rows, 2, 10, 11, 12, 13) == [
        ("Opening", "", "", "", "10.00"),
        ("sale", "", "5.00", "", "15.00"),
        ("sale", "", "", "5.00", "10.00"),
        ("sale", "4.50", "4.95", "", "14.95"),
        ("Closing 1000", "", "9.95", "5.00", "14.95"),
        ("Opening", "", "", "", "-10.00"),
        ("sale", "", "", "5.00", "-15.00"),
        ("sale", "", "5.00", "", "-10.00"),
        ("sale", "-4.50", "", "4.95", "-14.95"),
        ("Closing 4000", "", "5.00", "9.95", "-14.95"),
    ]
    titles = [column.title for column in statement.columns]
    lines = by_title(rows, titles)
    assert [(line["Kind"], line["Corrects"], line["Reversed by"]) for line in lines[:3]] == [
        ("original", None, Link(back, f"e{back}-1")),
        ("reversal", Link(first, f"e{first}-1"), None),
        ("replacement", Link(first, f"e{first}-1"), None),
    ]
    assert {f"e{entry}-{line}" for entry in (first, back, new) for line in (1, 2)} == {
        r.anchor for r in rows if r.anchor
    }
    assert lines[0] | {"Payload SHA-256": len(str(lines[0]["Payload SHA-256"]))} == lines[0] | {
        "Source id": "o1", "Connection": "shop", "Mapping version": "m1", "Rule": "sale v1", "Batch": first, "Run": "run-1",
        "Occurred on": D, "Payload SHA-256": 64, "Shown by": "ledger-pipeline entries --source-id o1 --connection shop",
    }  # fmt: skip
    assert statement.ties
    assert statement.line_count == 6


def test_what_a_reversal_corrects_outside_the_range_is_no_dead_link(books: Books) -> None:
    first = books.post("o1", day("2026-09-30"), ("bank:a", 500), ("sales", -500))
    books.reverse(first, D)
    statement, rows = books.make("general_ledger", *OCTOBER)
    titles = [column.title for column in statement.columns]
    assert [line["Corrects"] for line in by_title(rows, titles)] == [first, first]


def test_the_general_ledger_keeps_accounts_that_only_have_a_balance_and_quotes_the_command(books: Books) -> None:
    books.post("o0", day("2026-09-30"), ("prepaid", 1000), ("bank:a", -1000))
    books.post("it's; rm -rf ~", D, ("rent", 5), ("bank:a", -5))
    _, rows = books.make("general_ledger", *OCTOBER)
    assert [row.cells[2] for row in rows if row.style == "heading"] == [
        "1000 Bank",
        "1300 Prepaid expenses",
        "6200 Rent",
    ]
    assert "--source-id 'it'\"'\"'s; rm -rf ~' --connection" in str(next(row for row in rows if row.anchor).cells[-1])


def test_the_general_ledger_refuses_to_end_on_another_balance(books: Books) -> None:
    books.post("o1", D, ("bank:a", 500), ("sales", -500))
    with books.database.connect("reader") as connection:  # no snapshot: an entry slips in between
        rows = general_ledger(connection, scope_of(*OCTOBER)).rows
        books.post("o2", D, ("bank:a", 1), ("sales", -1))
        with pytest.raises(DoesNotTie, match=r"account 1000: lines lead to 5\.01, its balance is 5\.00"):
            list(rows)


# all -----------------------------------------------------------------------------------------------------------


def test_a_statement_says_whether_its_months_are_closed(books: Books) -> None:
    with books.database.connect("owner") as connection:
        for number, event in enumerate(("closing", "closed"), 1):
            connection.execute(
                "INSERT INTO ledger.period_event (entity, event_no, month, event, happened_at, by_whom, entry_count, line_count, content_hash, "
                "previous_hash, hash) VALUES ('acme', %(n)s, '2026-09-01', %(e)s, now(), 'Ann', %(c)s, %(c)s, %(h)s, %(p)s, %(n2)s)",
                {"n": number, "e": event, "c": 0 if event == "closed" else None, "h": bytes(32) if event == "closed" else None,
                 "p": bytes([number] * 32), "n2": bytes([number + 9] * 32)},
            )  # fmt: skip
    statement, _ = books.make("trial_balance", "2026-09-15", "2026-10-02")
    assert [(str(p.month), p.state) for p in statement.periods] == [("2026-09-01", "closed"), ("2026-10-01", "open")]


def test_another_entitys_entries_are_not_counted(books: Books) -> None:
    books.post("o1", D, ("bank:a", 500), ("sales", -500))
    with books.snapshot() as connection:
        other = scope_of(*OCTOBER)
        for statement in make(connection, type(other)("other", "Other", "USD", other.first, other.last, other.made_at)):
            assert not [row for row in statement.rows if row.style == "line" and statement.name != "gift_cards"]
            assert all(total.amount_minor == 0 for total in statement.totals)


def test_only_the_wanted_statements_are_made_and_an_unknown_one_is_refused(books: Books) -> None:
    with books.snapshot() as connection:
        assert [s.name for s in make(connection, scope_of(*OCTOBER), {"sales_tax", "cash_flow"})] == [
            "cash_flow",
            "sales_tax",
        ]
        with pytest.raises(KeyError, match="unknown statement 'cashflow'; known are trial_balance, "):
            make(connection, scope_of(*OCTOBER), ["cashflow"])


def test_a_check_says_by_how_much_it_is_off() -> None:
    assert (zero("x", 0, "JPY").holds, zero("x", 5, "JPY").difference) == (True, "5 JPY")
    off = all_zero("x", [("EUR", 0), ("USD", -1234567)])
    assert (off.holds, off.difference) == (False, "-12,345.67 USD")


def test_a_range_that_runs_backwards_is_refused() -> None:
    with pytest.raises(ValueError, match="runs backwards"):
        scope_of("2026-10-31", "2026-10-01")
    assert [str(m) for m in months_of(day("2025-12-31"), day("2026-01-01"))] == ["2025-12-01", "2026-01-01"]
