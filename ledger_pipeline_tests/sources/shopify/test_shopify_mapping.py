"""What each kind of order becomes: golden rows beside their payloads, and entries to the cent."""

from __future__ import annotations

import json
from collections import Counter
from datetime import date
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from ledger_pipeline.model import journal
from ledger_pipeline.model.money import divide_half_even
from ledger_pipeline.model.rules import RULES
from ledger_pipeline.sources.shopify.spec import SOURCE

from .conftest import mapped, only_fault, rows

GOLDEN = Path(__file__).parent / "golden"
CASES = sorted(path.stem for path in GOLDEN.glob("*.json") if not path.name.endswith(".rows.json"))


def payload(case: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((GOLDEN / f"{case}.json").read_text())
    return found


def encoded(order: dict[str, Any]) -> bytes:
    return json.dumps(order).encode()


def no_rate(currency: str, base: str, day: date) -> Fraction:
    raise LookupError(f"{currency} to {base} on {day}")


def posted(order: dict[str, Any], record: str = "sale", base: str = "USD", **options: Any) -> journal.Journal:
    tables = mapped([encoded(order)], **options).tables
    return journal.post(RULES[record], tables, base=base, zone="America/New_York", rates=no_rate)


def lines(made: journal.Journal) -> dict[tuple[str, str], int]:
    return {(row["role"], row["currency"]): row["amount_minor"] for row in made.lines.to_pylist()}


@pytest.mark.parametrize("case", CASES)
def test_rows_are_those_of_the_golden_file(case: str) -> None:
    found = mapped([encoded(payload(case))])
    assert found.faults == ()
    assert json.loads(json.dumps(rows(found.tables), default=str)) == json.loads(
        (GOLDEN / f"{case}.rows.json").read_text()
    )


@pytest.mark.parametrize("case", CASES)
def test_parts_and_tenders_come_to_the_stated_totals(case: str) -> None:
    found = rows(mapped([encoded(payload(case))]).tables)
    [sale] = found["sale"]
    sums: Counter[str] = Counter()
    for record, column in (
        ("sale_line", "net_minor"), ("sale_line", "discount_minor"), ("sale_tax", "amount_minor"),
        ("sale_tender", "amount_minor"),
        ("refund_line", "amount_minor"), ("refund_tax", "amount_minor"), ("refund_tender", "amount_minor"),
    ):  # fmt: skip
        sums[f"{record}.{column}"] = sum(row[column] for row in found.get(record, []))
    assert (
        sale["total_minor"]
        == sums["sale_line.net_minor"] - sums["sale_line.discount_minor"] + sums["sale_tax.amount_minor"]
    )
    assert sale["total_minor"] == sums["sale_tender.amount_minor"] + sale["unpaid_minor"]
    refunded = sum(row["total_minor"] for row in found.get("refund", []))
    assert refunded == sums["refund_line.amount_minor"] + sums["refund_tax.amount_minor"]
    assert refunded == sums["refund_tender.amount_minor"]


def test_the_worked_example_of_the_policy_posts_to_the_cent() -> None:
    assert lines(posted(payload("tax_exclusive_discount_gift_card"))) == {
        ("order_clearing:stripe", "USD"): 8449,
        ("gift_card_liability", "USD"): 2000,
        ("sales_discounts", "USD"): 1000,
        ("sales", "USD"): -10000,
        ("shipping_income", "USD"): -599,
        ("sales_tax_payable:US-NY", "USD"): -850,
    }


def test_tax_included_is_split_out_of_price_and_discount() -> None:
    inside_discount = divide_half_even(360 * 540, 3600 - 360)
    assert inside_discount == 60
    assert lines(posted(payload("tax_included_discount"), base="GBP")) == {
        ("order_clearing:shopify_payments", "GBP"): 3635,
        ("sales_discounts", "GBP"): 300,
        ("sales", "GBP"): -3000,
        ("shipping_income", "GBP"): -(395 - 66),
        ("sales_tax_payable:GB", "GBP"): -(540 + 66),
    }


def test_a_discount_of_the_whole_price_has_no_tax_to_take_out() -> None:
    order = payload("free_order") | {"taxesIncluded": True}
    [line] = rows(mapped([encoded(order)]).tables)["sale_line"]
    assert (line["net_minor"], line["discount_minor"]) == (1200, 1200)


def test_a_partial_refund_gives_back_goods_shipping_goodwill_and_tax() -> None:
    assert lines(posted(payload("partial_refund_shipping_goodwill"), "refund")) == {
        ("sales_returns", "USD"): 4200,
        ("shipping_income", "USD"): 599,
        ("sales_tax_payable:US-NY", "USD"): 408,
        ("order_clearing:stripe", "USD"): -5207,
    }


def test_a_full_refund_with_tax_included_takes_the_tax_out_of_the_lines() -> None:
    assert lines(posted(payload("tax_included_full_refund"), "refund", base="GBP")) == {
        ("sales_returns", "GBP"): 2700,
        ("shipping_income", "GBP"): 329,
        ("sales_tax_payable:GB", "GBP"): 606,
        ("order_clearing:shopify_payments", "GBP"): -3635,
    }


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("test_order", "test order"),
        ("authorised_only", "authorised only"),
        ("voided", "voided"),
        ("not_captured", "not captured"),
    ],
)
def test_an_order_without_money_waits_and_says_why(case: str, reason: str) -> None:
    made = posted(payload(case))
    assert (made.entries.num_rows, made.ignored["reason"].to_pylist()) == (0, [reason])


def test_the_unpaid_part_of_an_order_is_receivable() -> None:
    assert lines(posted(payload("partially_paid"))) == {
        ("order_clearing:stripe", "USD"): 3000,
        ("accounts_receivable", "USD"): 2000,
        ("sales", "USD"): -5000,
    }


@pytest.mark.parametrize(
    ("case", "currency", "amount"), [("presentment_jpy", "JPY", 3021), ("presentment_kwd", "KWD", 6150)]
)
def test_a_third_party_keeps_what_the_customer_paid(case: str, currency: str, amount: int) -> None:
    assert lines(posted(payload(case))) == {
        ("order_clearing:stripe", currency): amount,
        ("currency_trading", currency): -amount,
        ("currency_trading", "USD"): 2000,
        ("sales", "USD"): -2000,
    }


def test_shopify_payments_keeps_the_shops_currency() -> None:
    assert lines(posted(payload("presentment_eur_own_gateway"), base="GBP")) == {
        ("order_clearing:shopify_payments", "GBP"): 2000,
        ("sales", "GBP"): -2000,
    }


def test_a_gift_card_that_is_sold_is_owed() -> None:
    assert lines(posted(payload("gift_card_sold"))) == {
        ("order_clearing:stripe", "USD"): 5000,
        ("gift_card_liability", "USD"): -5000,
    }


def test_tip_duty_store_credit_and_tax_that_the_channel_remits() -> None:
    assert lines(posted(payload("tip_duty_marketplace"))) == {
        ("store_credit_liability", "USD"): 500,
        ("order_clearing:manual", "USD"): 6000,
        ("sales", "USD"): -5000,
        ("tips_payable", "USD"): -500,
        ("sales_tax_payable:duties", "USD"): -600,
        ("marketplace_tax_clearing", "USD"): -400,
    }


def test_a_removal_without_money_is_no_refund() -> None:
    made = posted(payload("removal_without_money"), "refund")
    assert (made.entries.num_rows, made.ignored["reason"].to_pylist()) == (0, ["zero amount"])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"test": True}, "test order"),
        ({"transactions": []}, "its sale is not posted"),
        ({}, "refund pending"),
    ],
)
def test_a_refund_is_not_posted_where_its_sale_is_not_or_it_is_pending(change: dict[str, Any], reason: str) -> None:
    made = posted(payload("pending_refund") | change, "refund")
    assert (made.entries.num_rows, made.ignored["reason"].to_pylist()) == (0, [reason])


def test_a_comma_in_an_amount_is_refused_with_its_path() -> None:
    order = payload("gift_card_sold")
    order["totalPriceSet"]["shopMoney"]["amount"] = "12,50"
    fault = only_fault(encoded(order))
    assert (fault.path, fault.message) == ("$.totalPriceSet.shopMoney.amount", "'12,50' is not a decimal number")


@pytest.mark.parametrize(
    ("at", "path"),
    [
        (("discountAllocations", 0, "allocatedAmountSet"), "discountAllocations[].allocatedAmountSet.shopMoney.amount"),
        (("originalTotalSet",), "originalTotalSet.shopMoney.amount"),
    ],
)
def test_a_malformed_amount_deep_in_a_line_is_refused_with_its_path(at: tuple[str | int, ...], path: str) -> None:
    order = payload("tax_exclusive_discount_gift_card")
    place = order["lineItems"]["nodes"][0]
    for step in at:
        place = place[step]
    place["shopMoney"]["amount"] = "1.005"
    fault = only_fault(encoded(order))
    assert (fault.path, fault.message) == (f"$.lineItems.nodes[].{path}", "1.005 has more decimals than USD has (2)")


def test_a_tax_without_an_address_needs_a_home_jurisdiction() -> None:
    order = payload("tax_exclusive_discount_gift_card") | {"shippingAddress": None}
    assert only_fault(encoded(order)).message == (
        "a tax without a shipping address: set home_jurisdiction to where such orders are taxed"
    )
    [tax] = rows(mapped([encoded(order)], home_jurisdiction="US-MA").tables)["sale_tax"]
    assert (tax["jurisdiction"], tax["role"]) == ("US-MA", "sales_tax_payable:US-MA")


@pytest.mark.parametrize(
    ("address", "jurisdiction"),
    [
        (("CA", "ON"), "CA-ON"),
        (("AU", "NSW"), "AU-NSW"),
        (("US", None), "US"),
        (("GB", "ENG"), "GB"),
        (("JP", "JP-13"), "JP"),
    ],
)
def test_provinces_count_where_they_tax(address: tuple[str, str | None], jurisdiction: str) -> None:
    order = payload("gift_card_sold") | {
        "shippingAddress": dict(zip(("countryCodeV2", "provinceCode"), address, strict=True))
    }
    assert rows(mapped([encoded(order)]).tables)["sale"][0]["jurisdiction"] == jurisdiction


def test_a_payment_without_a_gateway_is_refused() -> None:
    order = payload("gift_card_sold")
    order["transactions"][0]["gateway"] = None
    fault = only_fault(encoded(order))
    assert (fault.record, fault.message) == ("sale_tender", "gateway is required and absent")


def transaction(**change: Any) -> bytes:
    money = {"amount": "36.35", "currencyCode": "GBP"}
    return encoded(
        {
            "id": "gid://shopify/ShopifyPaymentsBalanceTransaction/1", "type": "CHARGE", "test": False,
            "transactionDate": "2026-10-05T14:03:30Z", "amount": money,
            "fee": {"amount": "0.87", "currencyCode": "GBP"},
            "net": {"amount": "35.48", "currencyCode": "GBP"}, "sourceType": "CHARGE", "sourceId": "44",
            "sourceOrderTransactionId": "45", "adjustmentReason": None, "associatedOrder": {"id": "gid://shopify/Order/5001"},
            "associatedPayout": {"id": None}, **change,
        }
    )  # fmt: skip


@pytest.mark.parametrize(
    ("change", "kind", "role"),
    [
        ({}, "charge", "order_clearing:shopify_payments"),
        ({"associatedOrder": None}, "charge", "unidentified_receipts"),
        ({"test": True}, "test", "order_clearing:shopify_payments"),
        ({"type": "RESERVED_FUNDS", "associatedOrder": None}, "reserve", "unidentified_receipts"),
        ({"type": "CHARGEBACK_FEE"}, "fee", "order_clearing:shopify_payments"),
        ({"type": "TRANSFER_FAILURE", "associatedOrder": None}, "payout_failure", "unidentified_receipts"),
    ],
)
def test_a_balance_transaction_is_booked_by_its_type(change: dict[str, Any], kind: str, role: str) -> None:
    [row] = rows(mapped([transaction(**change)], "balance_transactions").tables)["processor_transaction"]
    assert (row["kind"], row["role"]) == (kind, role)
    assert (row["amount_minor"], row["fee_minor"], row["net_minor"]) == (3635, 87, 3548)


def test_a_balance_transaction_of_an_unknown_type_is_refused_by_name() -> None:
    fault = only_fault(transaction(type="LENDING_CREDIT"), "balance_transactions")
    assert fault.message.startswith("no rule for the balance transaction type 'LENDING_CREDIT'; known are ACH_BANK")


def test_a_withdrawal_is_a_negative_payout() -> None:
    payout = {
        "id": "gid://shopify/ShopifyPaymentsPayout/1", "legacyResourceId": "1", "issuedAt": "2026-10-06T06:00:00Z",
        "status": "SCHEDULED", "transactionType": "WITHDRAWAL", "net": {"amount": "12.00", "currencyCode": "GBP"},
    }  # fmt: skip
    [row] = rows(mapped([encoded(payout)], "payouts").tables)["payout"]
    assert (row["amount_minor"], row["state"]) == (-1200, "in_transit")


@pytest.mark.parametrize(
    ("status", "type_", "state"),
    [("LOST", "CHARGEBACK", "lost"), ("ACCEPTED", "CHARGEBACK", "lost"), ("WON", "CHARGEBACK", "won"),
     ("NEEDS_RESPONSE", "CHARGEBACK", "open"), ("LOST", "INQUIRY", "won")],
)  # fmt: skip
def test_a_dispute_is_lost_on_the_day_it_is_final(status: str, type_: str, state: str) -> None:
    dispute = {
        "id": "gid://shopify/ShopifyPaymentsDispute/1", "legacyResourceId": "1", "status": status, "type": type_,
        "initiatedAt": "2026-10-07T10:00:00Z", "finalizedOn": "2026-10-09T16:00:00Z",
        "amount": {"amount": "20.00", "currencyCode": "GBP"},
        "order": {"id": "gid://shopify/Order/5001", "legacyResourceId": "5001"},
    }  # fmt: skip
    tables = mapped([encoded(dispute)], "disputes").tables
    [row] = rows(tables)["dispute"]
    assert (row["state"], row["order_id"], row["decided_at"].isoformat()) == (
        state,
        "5001",
        "2026-10-09T16:00:00+00:00",
    )
    made = journal.post(RULES["dispute"], tables, base="GBP", zone="Europe/London", rates=no_rate)
    booked = {("chargeback_loss", "GBP"): 2000, ("dispute_receivable", "GBP"): -2000} if state == "lost" else {}
    assert lines(made) == booked


def test_every_mapped_column_tells_its_source() -> None:
    for plan in SOURCE.plans().values():
        for row in plan.describe():
            assert row["converter"]
            assert row["meaning"]
