"""How the sandbox's Shopify shows an order, a refund, a payment: plain dicts with the schema's names, as of an instant.

Unsigned 64-bit numbers and big integers are strings and amounts are decimal strings, as Shopify sends them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Any

from ledger_pipeline.sandbox.company import changes
from ledger_pipeline.sandbox.events import (
    Dispute,
    Money,
    Order,
    OrderLine,
    Payout,
    ProcessorTransaction,
    Refund,
    Tender,
)
from ledger_pipeline.sandbox.wire import digits, iso_z

Shape = dict[str, Any]
PAID_KINDS = ("SALE", "CAPTURE")

TRANSACTION_TYPES = {
    "charge": ("CHARGE", "CHARGE"),
    "refund": ("REFUND", "REFUND"),
    "refund_failure": ("REFUND_FAILURE", "REFUND"),
    "dispute": ("DISPUTE_WITHDRAWAL", "DISPUTE"),
    "dispute_reversal": ("DISPUTE_REVERSAL", "DISPUTE"),
    "payout": ("TRANSFER", "TRANSFER"),
    "payout_failure": ("TRANSFER_FAILURE", "TRANSFER"),
    "fee": ("CHARGEBACK_FEE", "ADJUSTMENT"),
}


def gid(kind: str, number: object) -> str:
    return f"gid://shopify/{kind}/{number}"


def decimal_text(minor: int, currency: str) -> str:
    """At least one digit after the point: (8449, USD) → 84.49, (1500, JPY) → 1500.0."""
    places = digits(currency)
    if places == 0:
        return f"{minor}.0"
    text = f"{abs(minor):0{places + 1}d}"
    return f"{'-' if minor < 0 else ''}{text[:-places]}.{text[-places:]}"


def money(minor: int, currency: str) -> Shape:
    return {"amount": decimal_text(minor, currency), "currencyCode": currency}


def bag(shop: int, presentment: int, order: Order) -> Shape:
    return {
        "shopMoney": money(shop, order.shop_currency),
        "presentmentMoney": money(presentment, order.presentment_currency),
    }


@cache
def _rate(text: str) -> tuple[Decimal, Decimal]:
    """A tax rate and the same in per cent."""
    return Decimal(text), Decimal(format((Decimal(text) * 100).normalize(), "f"))


def updated_at(order: Order, now: datetime) -> datetime:
    """The order's last change up to `now`."""
    return max(at for at in changes(order) if at <= now)


class Sum:
    """Adds Money in both currencies."""

    __slots__ = ("presentment", "shop")

    def __init__(self, parts: Iterable[Money] = ()) -> None:
        self.shop = self.presentment = 0
        for part in parts:
            self.shop += part.shop
            self.presentment += part.presentment

    def plus(self, other: Sum, sign: int = 1) -> Sum:
        total = Sum()
        total.shop = self.shop + sign * other.shop
        total.presentment = self.presentment + sign * other.presentment
        return total

    def bag(self, order: Order) -> Shape:
        return bag(self.shop, self.presentment, order)


class OrderShape:
    """One order as of an instant."""

    def __init__(self, order: Order, now: datetime) -> None:
        self.order, self.now = order, now
        self.lines = [line for line in order.lines if line.added_at is None or line.added_at <= now]
        self.goods = [line for line in self.lines if line.kind != "shipping"]
        self.refunds = [refund for refund in order.refunds if refund.at <= now]
        self.tenders = [tender for tender in order.tenders if tender.at <= now]
        self.is_cancelled = order.cancelled_at is not None and order.cancelled_at <= now
        self.returned: dict[int, int] = {}
        for refund in self.refunds:
            for line in refund.lines:
                self.returned[line.line_id] = self.returned.get(line.line_id, 0) + line.quantity

    def bag(self, part: Money) -> Shape:
        return bag(part.shop, part.presentment, self.order)

    def shape(self) -> Shape:
        order = self.order
        line_items = {line.line_id: self._line(line) for line in self.goods}
        shipping = [self._shipping_line(line) for line in self.lines if line.kind == "shipping"]
        transactions = self._transactions()
        cancelled_at = iso_z(order.cancelled_at) if self.is_cancelled and order.cancelled_at else None
        at = iso_z(order.at)
        shown = {
            "__typename": "Order",
            "id": gid("Order", order.order_id),
            "legacyResourceId": str(order.order_id),
            "name": order.name,
            "number": int(order.name.lstrip("#")) % 2**31,
            "test": order.is_test,
            "cancelReason": "CUSTOMER" if self.is_cancelled else None,
            "cancelledAt": cancelled_at,
            "closed": self.is_cancelled,
            "confirmed": True,
            "createdAt": at,
            "processedAt": at,
            "updatedAt": iso_z(updated_at(order, self.now)),
            "edited": order.edited_at is not None and order.edited_at <= self.now,
            "currencyCode": order.shop_currency,
            "presentmentCurrencyCode": order.presentment_currency,
            "taxesIncluded": order.is_tax_included,
            "taxExempt": False,
            "sourceName": order.source_name,
            "email": None,
            "note": None,
            "tags": [],
            "discountCodes": ["WELCOME"] if any(line.discount.shop for line in self.lines) else [],
            "displayFulfillmentStatus": "RESTOCKED" if self.is_cancelled else "FULFILLED",
            "customer": None if order.customer_id is None else customer(order.customer_id),
            "shippingAddress": _address(order),
            "subtotalLineItemsQuantity": sum(line.quantity for line in self.goods),
            "lineItems": [*line_items.values()],
            "shippingLines": shipping,
            "shippingLine": shipping[0] if shipping else None,
            "taxLines": self._order_taxes(),
            "transactions": transactions,
            "paymentGatewayNames": list(dict.fromkeys(tender.gateway for tender in self.tenders)),
            "refunds": [self._refund(refund, line_items, shipping, transactions) for refund in self.refunds],
            **self._totals(),
        }
        for path, literal in order.overrides.items():
            _put(shown, path.split("."), literal)
        return shown

    # Totals.

    def _due(self, lines: Sequence[OrderLine], *, has_tip: bool) -> Sum:
        due = Sum(line.gross for line in lines).plus(Sum(line.discount for line in lines), -1)
        if not self.order.is_tax_included:
            due = due.plus(Sum(tax.amount for line in lines for tax in line.taxes))
        return due.plus(Sum([self.order.tip])) if has_tip and self.order.tip else due

    def _totals(self) -> Shape:
        order, lines = self.order, self.lines
        shipping = [line for line in lines if line.kind == "shipping"]
        total = self._due(lines, has_tip=True)
        tax = Sum(tax.amount for line in lines for tax in line.taxes)
        discount = Sum(line.discount for line in lines)
        subtotal = Sum(line.gross for line in self.goods).plus(Sum(line.discount for line in self.goods), -1)
        paid = [one.amount for one in self.tenders if one.kind in PAID_KINDS and one.status == "SUCCESS"]
        received = Sum(paid)
        refunded = Sum(tender.amount for refund in self.refunds for tender in refund.tenders if tender.at <= self.now)
        returned_goods = Sum(line.subtotal for refund in self.refunds for line in refund.lines)
        returned_tax = Sum(line.tax for refund in self.refunds for line in refund.lines).plus(
            Sum(refund.shipping_tax for refund in self.refunds if refund.shipping_tax)
        )
        returned_shipping = Sum(refund.shipping for refund in self.refunds if refund.shipping)
        returned = returned_goods.plus(returned_shipping)
        if not order.is_tax_included:
            returned = returned.plus(returned_tax)
        outstanding = Sum() if self.is_cancelled else total.plus(received, -1)
        zero = Sum().bag(order)
        return {
            "totalPriceSet": total.bag(order),
            "originalTotalPriceSet": self._due([one for one in lines if one.added_at is None], has_tip=True).bag(order),
            "currentTotalPriceSet": total.plus(returned, -1).bag(order),
            "subtotalPriceSet": subtotal.bag(order),
            "currentSubtotalPriceSet": subtotal.plus(returned_goods, -1).bag(order),
            "totalTaxSet": tax.bag(order),
            "currentTotalTaxSet": tax.plus(returned_tax, -1).bag(order),
            "totalDiscountsSet": discount.bag(order),
            "currentTotalDiscountsSet": discount.bag(order),
            "totalShippingPriceSet": Sum(one.gross for one in shipping)
            .plus(Sum(one.discount for one in shipping), -1)
            .bag(order),
            "totalTipReceivedSet": self.bag(order.tip) if order.tip else zero,
            "totalOutstandingSet": outstanding.bag(order),
            "totalReceivedSet": received.bag(order),
            "netPaymentSet": received.plus(refunded, -1).bag(order),
            "totalRefundedSet": refunded.bag(order),
            "totalRefundedShippingSet": returned_shipping.bag(order),
            "currentTotalDutiesSet": None,
            "originalTotalDutiesSet": None,
            "displayFinancialStatus": self._financial_status(total, received, refunded),
            "fullyPaid": received.shop >= total.shop,
            "unpaid": received.shop == 0 and total.shop > 0,
        }

    def _financial_status(self, total: Sum, received: Sum, refunded: Sum) -> str:
        kinds = {tender.kind for tender in self.tenders if tender.status == "SUCCESS"}
        if received.shop == 0 and total.shop > 0:
            return "VOIDED" if "VOID" in kinds else "AUTHORIZED" if "AUTHORIZATION" in kinds else "PENDING"
        if refunded.shop:
            return "REFUNDED" if refunded.shop >= received.shop else "PARTIALLY_REFUNDED"
        return "PAID" if received.shop >= total.shop else "PARTIALLY_PAID"

    # Lines.

    def _taxes(self, line: OrderLine) -> list[Shape]:
        return [self._tax(tax.title, tax.rate, self.bag(tax.amount)) for tax in line.taxes]

    def _tax(self, title: str, rate: str, price: Shape) -> Shape:
        share, percentage = _rate(rate)
        return {
            "title": title,
            "rate": share,
            "ratePercentage": percentage,
            "channelLiable": False,
            "priceSet": price,
            "source": "Shopify",
        }

    def _order_taxes(self) -> list[Shape]:
        sums: dict[tuple[str, str], list[Money]] = {}
        for line in self.lines:
            for tax in line.taxes:
                sums.setdefault((tax.title, tax.rate), []).append(tax.amount)
        return [self._tax(title, rate, Sum(parts).bag(self.order)) for (title, rate), parts in sums.items()]

    def _discounts(self, line: OrderLine) -> list[Shape]:
        return [{"allocatedAmountSet": self.bag(line.discount)}] if line.discount.shop else []

    def _line(self, line: OrderLine) -> Shape:
        left = line.quantity - self.returned.get(line.line_id, 0)
        gross = self.bag(line.gross)
        discounted = Sum([line.gross]).plus(Sum([line.discount]), -1).bag(self.order) if line.discount.shop else gross
        return {
            "__typename": "LineItem",
            "id": gid("LineItem", line.line_id),
            "name": line.title,
            "title": line.title,
            "sku": line.sku,
            "vendor": "Harbour & Pine",
            "quantity": line.quantity,
            "currentQuantity": left,
            "refundableQuantity": left,
            "isGiftCard": line.kind == "gift_card",
            "requiresShipping": line.kind == "goods",
            "taxable": bool(line.taxes),
            "originalUnitPriceSet": self.bag(line.unit_price),
            "originalTotalSet": gross,
            "discountedTotalSet": discounted,
            "totalDiscountSet": self.bag(line.discount),
            "discountAllocations": self._discounts(line),
            "duties": [],
            "taxLines": self._taxes(line),
        }

    def _shipping_line(self, line: OrderLine) -> Shape:
        return {
            "id": gid("ShippingLine", line.line_id),
            "title": line.title,
            "code": line.title,
            "source": "shopify",
            "isRemoved": False,
            "originalPriceSet": self.bag(line.gross),
            "discountedPriceSet": Sum([line.gross]).plus(Sum([line.discount]), -1).bag(self.order),
            "discountAllocations": self._discounts(line),
            "taxLines": self._taxes(line),
        }

    # Payments and refunds.

    def _transactions(self) -> list[Shape]:
        """Payments and refunds alike, by instant; a parent is the transaction's own shape."""
        tenders = [*self.tenders, *(one for refund in self.refunds for one in refund.tenders if one.at <= self.now)]
        shown: dict[int, Shape] = {}
        for tender in sorted(tenders, key=lambda one: (one.at, one.tender_id)):
            shown[tender.tender_id] = self._transaction(tender, shown.get(tender.parent_id or 0))
        return [*shown.values()]

    def _transaction(self, tender: Tender, parent: Shape | None) -> Shape:
        at = iso_z(tender.at)
        return {
            "__typename": "OrderTransaction",
            "id": gid("OrderTransaction", tender.tender_id),
            "kind": tender.kind,
            "status": tender.status,
            "gateway": tender.gateway,
            "formattedGateway": tender.gateway.replace("_", " ").title(),
            "manualPaymentGateway": tender.gateway == "manual",
            "test": self.order.is_test,
            "createdAt": at,
            "processedAt": at,
            "paymentId": tender.payment_id,
            "amountSet": self.bag(tender.amount),
            "parentTransaction": parent,
            "fees": [],
            "order": lambda _args: OrderShape(self.order, self.now).shape(),
        }

    def _refund(
        self, refund: Refund, line_items: dict[int, Shape], shipping: list[Shape], transactions: list[Shape]
    ) -> Shape:
        own = {gid("OrderTransaction", tender.tender_id) for tender in refund.tenders}
        at = iso_z(refund.at)
        return {
            "__typename": "Refund",
            "id": gid("Refund", refund.refund_id),
            "legacyResourceId": str(refund.refund_id),
            "createdAt": at,
            "processedAt": at,
            "updatedAt": at,
            "note": None,
            "duties": [],
            "totalRefundedSet": Sum(tender.amount for tender in refund.tenders).bag(self.order),
            "refundLineItems": [self._refund_line(refund, n, line_items) for n in range(len(refund.lines))],
            "refundShippingLines": self._refund_shipping(refund, shipping),
            "orderAdjustments": self._adjustments(refund),
            "transactions": [one for one in transactions if one["id"] in own],
        }

    def _refund_line(self, refund: Refund, n: int, line_items: dict[int, Shape]) -> Shape:
        line = refund.lines[n]
        subtotal = self.bag(line.subtotal)
        return {
            "id": gid("RefundLineItem", f"{refund.refund_id}{n:03d}"),
            "quantity": line.quantity,
            "restockType": "CANCEL" if self.is_cancelled else "NO_RESTOCK" if line.kind == "gift_card" else "RETURN",
            "restocked": line.kind != "gift_card",
            "priceSet": line_items[line.line_id]["originalUnitPriceSet"],
            "subtotalSet": subtotal,
            "totalTaxSet": self.bag(line.tax),
            "lineItem": line_items[line.line_id],
        }

    def _refund_shipping(self, refund: Refund, shipping: list[Shape]) -> list[Shape]:
        if refund.shipping is None:
            return []
        tax = self.bag(refund.shipping_tax) if refund.shipping_tax else Sum().bag(self.order)
        return [
            {
                "id": gid("RefundShippingLine", f"{refund.refund_id}900"),
                "subtotalAmountSet": self.bag(refund.shipping),
                "taxAmountSet": tax,
                "shippingLine": shipping[0],
            }
        ]

    def _adjustments(self, refund: Refund) -> list[Shape]:
        """Money returned beyond the refund's lines stands with a minus, as Shopify books its refund discrepancy."""
        extra = refund.adjustment
        if extra is None:
            return []
        return [
            {
                "id": gid("OrderAdjustment", f"{refund.refund_id}800"),
                "reason": "REFUND_DISCREPANCY",
                "amountSet": bag(-extra.shop, -extra.presentment, self.order),
                "taxAmountSet": Sum().bag(self.order),
            }
        ]


def _put(target: Any, path: list[str], literal: str) -> None:
    """Writes into a nested shape; list places are numbers. Shared parts are copied first."""
    for step in path[:-1]:
        key: Any = int(step) if isinstance(target, list) else step
        target[key] = target[key].copy()
        target = target[key]
    target[int(path[-1]) if isinstance(target, list) else path[-1]] = literal


_COUNTRIES = {
    "US": "United States", "GB": "United Kingdom", "CA": "Canada", "DE": "Germany", "IE": "Ireland", "JP": "Japan",
    "KW": "Kuwait", "AU": "Australia",
}  # fmt: skip


def _address(order: Order) -> Shape:
    country = order.ship_country
    return {
        "id": gid("MailingAddress", f"{order.order_id}?model_name=Address"),
        "city": None,
        "country": _COUNTRIES.get(country, country),
        "countryCodeV2": country,
        "province": order.ship_province,
        "provinceCode": order.ship_province,
        "zip": None,
    }


def customer(number: int) -> Shape:
    """A reference record without a person's data: customers are numbered."""
    return {
        "__typename": "Customer",
        "id": gid("Customer", number),
        "legacyResourceId": str(number),
        "displayName": f"Customer {number % 10**6}",
        "firstName": "Customer",
        "lastName": str(number % 10**6),
        "email": f"customer{number % 10**6}@example.com",
        "state": "DISABLED",
        "taxExempt": False,
        "numberOfOrders": "1",
        "createdAt": "2026-01-05T09:00:00Z",
        "updatedAt": "2026-01-05T09:00:00Z",
    }


# Shopify Payments.


def balance_transaction(
    one: ProcessorTransaction, payout: Payout | None, order: Callable[[], Order | None], now: datetime
) -> Shape:
    """`payout` carries the transaction and has been made by `now`, else None; `order` is asked only where selected."""
    name, source = TRANSACTION_TYPES[one.kind]

    def associated_order(_args: Shape) -> Shape | None:
        found = order()
        return {"id": gid("Order", found.order_id), "name": found.name} if found else None

    def adjustments(_args: Shape) -> list[Shape]:
        found = order() if one.kind.startswith("dispute") else None
        if found is None:
            return []
        return [
            {
                "amount": money(one.amount, one.currency),
                "fees": money(one.fee, one.currency),
                "net": money(one.amount - one.fee, one.currency),
                "name": found.name,
                "link": f"https://admin.shopify.com/store/{one.connection}/orders/{found.order_id}",
                "orderTransactionId": str(one.tender_id or 0),
            }
        ]

    return {
        "__typename": "ShopifyPaymentsBalanceTransaction",
        "id": gid("ShopifyPaymentsBalanceTransaction", one.txn_id),
        "type": name,
        "test": False,
        "transactionDate": iso_z(one.at),
        "amount": money(one.amount, one.currency),
        "fee": money(one.fee, one.currency),
        "net": money(one.amount - one.fee, one.currency),
        "sourceType": source,
        "sourceId": one.source_id,
        "sourceOrderTransactionId": None if one.tender_id is None else str(one.tender_id),
        "adjustmentReason": None,
        "adjustmentsOrders": adjustments,
        "associatedOrder": associated_order,
        "associatedPayout": {
            "id": gid("ShopifyPaymentsPayout", payout.payout_id) if payout else None,
            "status": payout_status(payout, now) if payout else "PENDING",
        },
    }


def payout_status(one: Payout, now: datetime) -> str:
    if one.failed_at is not None and one.failed_at <= now:
        return "FAILED"
    return "PAID" if one.paid_at is not None and one.paid_at <= now else "SCHEDULED"


def payout_shape(one: Payout, members: Callable[[], list[ProcessorTransaction]], now: datetime) -> Shape:
    return {
        "__typename": "ShopifyPaymentsPayout",
        "id": gid("ShopifyPaymentsPayout", one.payout_id),
        "legacyResourceId": one.payout_id,
        "issuedAt": iso_z(one.at),
        "status": payout_status(one, now),
        "transactionType": "DEPOSIT" if one.amount >= 0 else "WITHDRAWAL",
        "net": money(one.amount, one.currency),
        "gross": money(one.amount, one.currency),
        "summary": lambda _args: _summary(members(), one.currency),
    }


def _summary(members: list[ProcessorTransaction], currency: str) -> Shape:
    def gross(*kinds: str) -> Shape:
        return money(sum(one.amount for one in members if one.kind in kinds), currency)

    def fee(*kinds: str) -> Shape:
        return money(sum(one.fee for one in members if one.kind in kinds), currency)

    disputes = ("dispute", "dispute_reversal", "fee")
    zero = money(0, currency)
    return {
        "chargesGross": gross("charge"),
        "chargesFee": fee("charge"),
        "refundsFeeGross": gross("refund", "refund_failure"),
        "refundsFee": fee("refund", "refund_failure"),
        "adjustmentsGross": gross(*disputes),
        "adjustmentsFee": fee(*disputes),
        "retriedPayoutsGross": gross("payout_failure"),
        "retriedPayoutsFee": fee("payout_failure"),
        **dict.fromkeys(
            ("advanceFees", "advanceGross", "reservedFundsFee", "reservedFundsGross", "usdcRebateCreditAmount"), zero
        ),
    }


def dispute_shape(one: Dispute, order: Callable[[], Order | None], now: datetime) -> Shape:
    is_decided = one.decided_at is not None and one.decided_at <= now

    def its_order(_args: Shape) -> Shape | None:
        found = order()
        return OrderShape(found, now).shape() if found else None

    return {
        "__typename": "ShopifyPaymentsDispute",
        "id": gid("ShopifyPaymentsDispute", one.dispute_id),
        "legacyResourceId": one.dispute_id,
        "amount": money(one.amount, one.currency),
        "initiatedAt": iso_z(one.at),
        "evidenceDueBy": iso_z(one.at + timedelta(days=7)),
        "evidenceSentOn": None,
        "finalizedOn": iso_z(one.decided_at) if is_decided and one.decided_at else None,
        "order": its_order,
        "reasonDetails": {"reason": one.reason.upper(), "networkReasonCode": "4837"},
        "status": (one.outcome or "").upper() if is_decided else "NEEDS_RESPONSE",
        "type": "CHARGEBACK",
    }
