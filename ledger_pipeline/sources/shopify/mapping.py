"""Shopify's objects as canonical records, in the shop's currency.

Amounts are decimal strings, ids are gids, times are ISO 8601 in UTC.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ledger_pipeline.connect.convert import (
    computed_once,
    constant,
    currency,
    decimal_text_to_minor,
    distinct,
    integer,
    lookup,
    text,
    text_of_number,
    time_iso,
)
from ledger_pipeline.connect.mapping import Converter, Field, Mapping, OnColumns, Report, Where, on_columns
from ledger_pipeline.model.money import Int64s, column_to_minor, divide_half_even

SHOP_MONEY_GATEWAYS = frozenset({"shopify_payments", "gift_card", "shopify_store_credit", "manual", "cash"})
"""Gateways whose money is kept in the shop's currency; any other is a third party that keeps what the customer paid."""
OWN_LIABILITIES = {"gift_card": "gift_card_liability", "shopify_store_credit": "store_credit_liability"}
PROVINCES = frozenset({"US", "CA", "AU"})
"""Countries whose provinces levy sales taxes of their own."""
DUTIES = "sales_tax_payable:duties"

Bools = np.ndarray[Any, np.dtype[np.bool_]]


# plain columns ------------------------------------------------------------------------------------


def is_zero(amount: str) -> bool:
    """True for 0, 0.0, -0.00; what is no number isn't zero, so that it is reported where it is converted."""
    return not amount.strip("0.-")


def _are_zero(amounts: pa.Array) -> pa.Array:
    return pc.equal(pc.ascii_trim(amounts, "0.-"), "")


def _is(column: pa.Array, *values: str) -> pa.Array:
    """Which rows have one of these texts; false where there is none."""
    return pc.is_in(column, value_set=pa.array(values, pa.string()))


def bools(column: pa.Array) -> Bools:
    """Absent is false."""
    return np.asarray(pc.fill_null(column, False).to_numpy(zero_copy_only=False), np.bool_)


def _gid_numbers(columns: Sequence[pa.Array], report: Report) -> pa.Array:
    gids = columns[0]
    known = next((gid for gid in gids[:8].to_pylist() if gid is not None), "")
    prefix = known[: known.rfind("/") + 1]
    tails = pc.utf8_slice_codeunits(gids, len(prefix))
    is_usual = pc.and_(pc.starts_with(gids, prefix), pc.invert(pc.match_substring_regex(tails, "[/?]")))
    if pc.all(is_usual, min_count=0).as_py() is not False:
        return tails
    return pa.array([None if gid is None else _gid_number(gid) for gid in gids.to_pylist()], pa.string())


def _gid_number(gid: str) -> str:
    return gid[gid.rfind("/") + 1 :].partition("?")[0]


gid_number = on_columns("number of a gid", ("str",), _gid_numbers, "What stands last in gid://shopify/Order/123.")
decimal_number = on_columns(
    "exact decimal", ("number",), lambda columns, report: columns[0], "A JSON number, digit by digit."
)
_POSITION = constant(1, pa.int64())
_NOTHING = constant(0, pa.int64())
_PAYMENTS = constant("shopify_payments", pa.string())
AMOUNT = decimal_text_to_minor


# sums and splits ----------------------------------------------------------------------------------


def summed(lists: pa.ListArray, currencies: pa.Array, report: Report, argument: int) -> Int64s:
    """Each row's list of decimal strings as one sum in minor units."""
    rows = pc.list_parent_indices(lists)
    values, _, errors = column_to_minor(lists.flatten(), currencies.take(rows))
    for position, message in errors.items():
        report.error(rows[position].as_py(), message, argument)
    counts = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
    total = np.concatenate([[0], np.cumsum(values)])
    ends = np.cumsum(counts, dtype=np.int64)
    return np.asarray(total[ends] - total[ends - counts], np.int64)


def amounts(columns: Sequence[pa.Array], report: Report, argument: int = 0) -> Int64s:
    """A column of decimal strings and one of currencies in minor units; 0 where there is an error."""
    values, _, errors = column_to_minor(columns[0], columns[1])
    for row, message in errors.items():
        report.error(row, message, argument)
    return values


def split(columns: Sequence[pa.Array], report: Report) -> tuple[Int64s, Int64s]:
    """(net before discount, discount) without tax, from (gross, currency, discounts, taxes, is tax in the price).

    With tax included: discount without tax = discount − half_even(discount × tax ÷ (gross − discount)), and the net
    amount is what makes net − discount + tax the price that was paid.
    """
    gross, code, discounts, taxes, included = columns
    net = amounts((gross, code), report)
    discount = summed(discounts, code, report, 2)
    is_included = bools(included)
    if not is_included.any():
        return net, discount
    tax = np.where(is_included, summed(taxes, code, report, 3), 0)
    inside = np.zeros_like(discount)
    for row in np.flatnonzero((discount != 0) & (tax != 0) & (net > discount)).tolist():
        inside[row] = divide_half_even(int(discount[row]) * int(tax[row]), int(net[row] - discount[row]))
    return net - tax - inside, discount - inside


_SPLIT = ("str", "str", "str", "str", "bool")
NET = on_columns(
    "amount without tax, before discounts",
    _SPLIT,
    lambda columns, report: pa.array(split(columns, report)[0], pa.int64()),
    "Gross; where prices include tax, less the tax that is in the price paid and the tax that is in the discount.",
)
DISCOUNT = on_columns(
    "discounts without tax",
    _SPLIT,
    lambda columns, report: pa.array(split(columns, report)[1], pa.int64()),
    "Allocated discounts summed; where prices include tax, less discount × tax ÷ (gross − discount), half to even.",
)


def _without_tax(sign: int) -> OnColumns:
    def run(columns: Sequence[pa.Array], report: Report) -> pa.Array:
        amount, tax, code, included = columns
        inside = np.where(bools(included), amounts((tax, code), report, 1), 0)
        return pa.array(sign * (amounts((amount, code), report) - inside), pa.int64())

    return run


_NET_OF_TAX = ("str", "str", "str", "bool")
REFUNDED = on_columns(
    "refunded amount without tax", _NET_OF_TAX, _without_tax(1), "Less the tax, where prices include it."
)
ADJUSTED = on_columns(
    "adjustment without tax",
    _NET_OF_TAX,
    _without_tax(-1),
    "With its sign turned, because Shopify shows money that was returned beyond the lines as negative; "
    "less the tax, where prices include it.",
)
TURNED = on_columns(
    "decimal text to minor units, sign turned",
    ("str", "str"),
    lambda columns, report: pa.array(-amounts(columns, report), pa.int64()),
    "Exact.",
)


# where tax belongs --------------------------------------------------------------------------------


def _place(country: str | None, province: str | None, home: str) -> str | None:
    if country is None:
        return home or None
    return f"{country}-{province}" if country in PROVINCES and province else country


def _home(report: Report) -> str:
    return str(report.settings.options.get("home_jurisdiction") or "")


def _jurisdiction(columns: Sequence[pa.Array], report: Report) -> pa.Array:
    home = _home(report)
    return computed_once(
        columns, ("str", "str"), lambda country, province: _place(country, province, home), report, pa.string()
    )


def _taxed_in(columns: Sequence[pa.Array], report: Report) -> pa.Array:
    places = _jurisdiction(columns, report)
    for row in np.flatnonzero(places.is_null()).tolist() if places.null_count else ():
        report.error(row, "a tax without a shipping address: set home_jurisdiction to where such orders are taxed")
    return places


def _tax_roles(columns: Sequence[pa.Array], report: Report) -> pa.Array:
    """Columns: whether the channel remits it (a value, or a list of the taxed line's), country, province."""
    home = _home(report)

    def role(is_liable: bool | None, country: str | None, province: str | None) -> str:
        return "marketplace_tax_clearing" if is_liable else f"sales_tax_payable:{_place(country, province, home)}"

    given = (_liable(columns[0], report), *columns[1:])
    return computed_once(given, ("bool", "str", "str"), role, report, pa.string())


def _liable(column: pa.Array, report: Report) -> pa.Array:
    """One value a row; a list of different ones is an error."""
    if not pa.types.is_list(column.type):
        return column
    rows, size = np.arange(len(column)), len(column)
    while pa.types.is_list(column.type):
        rows, column = rows[pc.list_parent_indices(column).to_numpy()], column.flatten()
    is_liable = bools(column)
    some, others = (np.bincount(rows[which], minlength=size) > 0 for which in (is_liable, ~is_liable))
    for row in np.flatnonzero(some & others).tolist():
        report.error(row, "the channel remits a part of these taxes only; the refund doesn't say which part is its")
    return pa.array(some)


JURISDICTION = on_columns(
    "jurisdiction of an address", ("str", "str"), _jurisdiction,
    "Country and province for the US, Canada and Australia (US-NY), else the country; without one home_jurisdiction.",
)  # fmt: skip
TAXED_IN = on_columns(
    "jurisdiction of a tax", ("str", "str"), _taxed_in, "As of the address; a tax without any is an error."
)
TAX_ROLE = on_columns(
    "who is owed a tax", ("bool", "str", "str"), _tax_roles,
    "marketplace_tax_clearing where the channel is liable, else sales_tax_payable:{jurisdiction}.",
)  # fmt: skip


# payments -----------------------------------------------------------------------------------------


def sale_state(is_test: bool, kinds: list[str], statuses: list[str], status: str | None, total: str) -> str:
    """Why an order is or isn't posted, from its transactions; a free order is captured once Shopify calls it paid."""
    if is_test:
        return "test"
    done = {kind for kind, state in zip(kinds, statuses, strict=True) if state == "SUCCESS"}
    if done & {"SALE", "CAPTURE"}:
        return "captured"
    if "VOID" in done or status == "VOIDED":
        return "voided"
    if done & {"AUTHORIZATION", "EMV_AUTHORIZATION"}:
        return "authorised_only"
    return "captured" if is_zero(total) and status == "PAID" else "not_captured"


def refund_state(*columns: Any) -> str:
    """The order's five, then the kinds and statuses of the refund's own transactions."""
    sale = sale_state(*columns[:5])
    if sale != "captured":
        return "test" if sale == "test" else "sale_not_posted"
    waits = any(kind == "REFUND" and status in WAITING for kind, status in zip(columns[5], columns[6], strict=True))
    return "pending" if waits else "refunded"


def _are_captured(columns: Sequence[pa.Array], report: Report) -> pa.Array:
    kind, status = columns
    return pc.and_(_is(status, "SUCCESS"), _is(kind, "SALE", "CAPTURE"))


def _are_repaid(columns: Sequence[pa.Array], report: Report) -> pa.Array:
    kind, status, total = columns
    is_repaid = pc.and_(_is(kind, "REFUND"), _is(status, "SUCCESS", *WAITING))
    return pc.and_(is_repaid, pc.invert(_are_zero(total)))


WAITING = ("PENDING", "AWAITING_RESPONSE")


def _unpaid(columns: Sequence[pa.Array], report: Report) -> pa.Array:
    total, code, status, kinds, statuses, paid = columns
    unpaid = amounts((total, code), report)
    order = pc.list_parent_indices(kinds).to_numpy()
    captured = np.flatnonzero(bools(_are_captured((kinds.flatten(), statuses.flatten()), report)))
    is_captured = np.zeros(len(unpaid), np.bool_)
    is_captured[order[captured]] = True
    is_partly = is_captured & bools(_is(status, "PARTIALLY_PAID"))
    unpaid[is_captured & ~is_partly] = 0
    counted = captured[is_partly[order[captured]]]
    if len(counted):
        within = order[counted]
        values, _, errors = column_to_minor(paid.flatten().take(pa.array(counted)), code.take(pa.array(within)))
        for position, message in errors.items():
            report.error(int(within[position]), message, 5)
        np.subtract.at(unpaid, within, values)
        unpaid[is_partly] = np.maximum(unpaid[is_partly], 0)
    return pa.array(unpaid, pa.int64())


def _gateway_role(gateway: str | None) -> str:
    if not gateway:
        raise ValueError("a payment without a gateway")
    return OWN_LIABILITIES.get(gateway, f"order_clearing:{gateway}")


def _settled(columns: Sequence[pa.Array], report: Report) -> pa.Array:
    gateways, shop, shop_currency, seen, seen_currency = columns
    is_own = _is(gateways, *SHOP_MONEY_GATEWAYS)
    texts, codes = pc.if_else(is_own, shop, seen), pc.if_else(is_own, shop_currency, seen_currency)
    return pa.array(amounts((texts, codes), report, 3), pa.int64())


def _states(state: Callable[..., str]) -> OnColumns:
    """An order's total counts only as zero or not, so that there are few distinct rows."""

    def run(columns: Sequence[pa.Array], report: Report) -> pa.Array:
        total = pc.if_else(_are_zero(columns[4]), "0", "1")
        return computed_once((*columns[:4], total, *columns[5:]), ("str",) * len(columns), state, report, pa.string())

    return run


SALE_STATE = on_columns(
    "state of an order",
    ("bool", "str", "str", "str", "str"),
    _states(sale_state),
    "test; captured by a SALE or CAPTURE that succeeded; voided; authorised only; not captured.",
)
REFUND_STATE = on_columns(
    "state of a refund",
    ("bool", "str", "str", "str", "str", "str", "str"),
    _states(refund_state),
    "As the order's where that is not captured; pending while a transaction is; else refunded.",
)
UNPAID = on_columns(
    "what is still owed", ("str", "str", "str", "str", "str", "str"), _unpaid,
    "The total less captured payments where PARTIALLY_PAID, the total where nothing was captured, else 0.",
)  # fmt: skip
GATEWAY_ROLE = distinct(
    "role of a gateway",
    "gift_card → gift_card_liability; shopify_store_credit → store_credit_liability; else order_clearing:{gateway}.",
    ("str",), _gateway_role,
)  # fmt: skip
SETTLED = on_columns(
    "what the gateway keeps", ("str", "str", "str", "str", "str"), _settled,
    f"Shop money for {', '.join(sorted(SHOP_MONEY_GATEWAYS))}; presentment money for any other gateway.",
)  # fmt: skip
SETTLED_CURRENCY = distinct(
    "its currency", "The shop's for Shopify's own gateways, else the customer's.", ("str", "str", "str"),
    lambda gateway, shop, seen: shop if gateway in SHOP_MONEY_GATEWAYS else seen,
)  # fmt: skip
LINE_ROLE = distinct(
    "role of a line", "gift_card_liability for gift cards, else sales.", ("bool",),
    lambda is_gift_card: "gift_card_liability" if is_gift_card else "sales",
)  # fmt: skip
RETURN_ROLE = distinct(
    "role of a returned line", "gift_card_liability for gift cards, else sales_returns.", ("bool",),
    lambda is_gift_card: "gift_card_liability" if is_gift_card else "sales_returns",
)  # fmt: skip
IS_CAPTURED = on_columns("captured payments", ("str", "str"), _are_captured, "A SALE or CAPTURE that succeeded.")
IS_REPAID = on_columns(
    "repayments", ("str", "str", "str"), _are_repaid, "A REFUND that succeeded or waits, in a refund of money."
)
TRUE_OR_NOT = on_columns(
    "true or not", ("bool",), lambda columns, report: pc.fill_null(columns[0], False), "Absent is false."
)
IS_SOMETHING = on_columns(
    "not zero", ("str",), lambda columns, report: pc.invert(_are_zero(columns[0])), "The amount is not zero."
)
ARE_SOMETHING = on_columns(
    "neither zero",
    ("str", "str"),
    lambda columns, report: pc.invert(pc.or_(_are_zero(columns[0]), _are_zero(columns[1]))),
    "Both amounts are not zero.",
)


# orders -------------------------------------------------------------------------------------------

_ADDRESS = ("$.shippingAddress?.countryCodeV2?", "$.shippingAddress?.provinceCode?")
_CODE = "$.currencyCode"
_ORDER = Field("source_id", ("$.legacyResourceId",), text_of_number)
_CURRENCY = Field("currency", (_CODE,), currency)
_STATE = (
    "$.test",
    "$.transactions[].kind",
    "$.transactions[].status",
    "$.displayFinancialStatus?",
    "$.totalPriceSet.shopMoney.amount",
)
_TOTAL = "totalPriceSet.shopMoney.amount"


def _money(field: str) -> str:
    return f"{field}.shopMoney.amount"


SALE = Mapping(
    "sale",
    "orders",
    fields=(
        _ORDER,
        Field("order_number", ("name",), text),
        Field("occurred_at", ("processedAt",), time_iso),
        Field("state", _STATE, SALE_STATE),
        Field("channel", ("sourceName?",), text),
        Field("customer_id", ("customer?.id",), gid_number),
        Field("jurisdiction", _ADDRESS, JURISDICTION),
        _CURRENCY,
        Field("total_minor", (_TOTAL, _CODE), AMOUNT, "Before returns, as the order was last edited."),
        Field(
            "unpaid_minor",
            (_TOTAL, _CODE, "displayFinancialStatus?", "transactions[].kind", "transactions[].status",
             "transactions[].amountSet.shopMoney.amount"),
            UNPAID,
        ),
        Field("presentment_currency", ("presentmentCurrencyCode",), currency),
        Field("presentment_minor", ("totalPriceSet.presentmentMoney.amount", "presentmentCurrencyCode"), AMOUNT),
    ),
)  # fmt: skip

_GOODS, _SHIPPING = "lineItems.nodes[]", "shippingLines.nodes[]"
_PRICED = (
    _CODE,
    "discountAllocations[].allocatedAmountSet.shopMoney.amount",
    "taxLines[].priceSet.shopMoney.amount",
    "$.taxesIncluded",
)

LINE = Mapping(
    "sale_line",
    "orders",
    each=_GOODS,
    fields=(
        _ORDER,
        Field("line_id", ("id",), gid_number),
        Field("role", ("isGiftCard",), LINE_ROLE),
        Field("sku", ("sku?",), text),
        Field("title", ("title",), text),
        Field("quantity", ("quantity",), integer),
        _CURRENCY,
        Field("net_minor", (_money("originalTotalSet"), *_PRICED), NET),
        Field("discount_minor", (_money("originalTotalSet"), *_PRICED), DISCOUNT),
    ),
)
SHIPPING_LINE = Mapping(
    "sale_line",
    "orders",
    each=_SHIPPING,
    fields=(
        _ORDER,
        Field("line_id", ("id?",), gid_number),
        Field("role", (), constant("shipping_income", pa.string())),
        Field("title", ("title",), text),
        Field("quantity", (), _POSITION),
        _CURRENCY,
        Field("net_minor", (_money("originalPriceSet"), *_PRICED), NET),
        Field("discount_minor", (_money("originalPriceSet"), *_PRICED), DISCOUNT),
    ),
)
TIP = Mapping(
    "sale_line",
    "orders",
    where=Where((_money("totalTipReceivedSet"),), IS_SOMETHING),
    fields=(
        _ORDER,
        Field("role", (), constant("tips_payable", pa.string())),
        Field("quantity", (), _POSITION),
        _CURRENCY,
        Field("net_minor", (_money("totalTipReceivedSet"), _CODE), AMOUNT),
        Field("discount_minor", (), _NOTHING),
    ),
)
DUTY = Mapping(
    "sale_line",
    "orders",
    each=f"{_GOODS}.duties[]",
    fields=(
        _ORDER,
        Field("line_id", ("^.id",), gid_number),
        Field("role", (), constant(DUTIES, pa.string())),
        Field("quantity", (), _POSITION),
        _CURRENCY,
        Field("net_minor", (_money("price"), _CODE), AMOUNT),
        Field("discount_minor", (), _NOTHING),
    ),
)


def _taxes(lines: str) -> Mapping:
    return Mapping(
        "sale_tax",
        "orders",
        each=f"{lines}.taxLines[]",
        fields=(
            _ORDER,
            Field("jurisdiction", _ADDRESS, TAXED_IN),
            Field("title", ("title",), text),
            Field("rate", ("rate?",), decimal_number),
            _CURRENCY,
            Field("amount_minor", (_money("priceSet"), _CODE), AMOUNT),
            Field("is_marketplace_liable", ("channelLiable?",), TRUE_OR_NOT),
            Field("role", ("channelLiable?", *_ADDRESS), TAX_ROLE),
        ),
    )


def _tender_fields(order: Field) -> tuple[Field, ...]:
    shop, seen = "amountSet.shopMoney", "amountSet.presentmentMoney"
    return (
        order,
        Field("tender_id", ("id",), gid_number),
        Field("gateway", ("gateway?",), text),
        Field("role", ("gateway?",), GATEWAY_ROLE),
        _CURRENCY,
        Field("amount_minor", (f"{shop}.amount", _CODE), AMOUNT),
        Field(
            "settled_minor",
            ("gateway?", f"{shop}.amount", _CODE, f"{seen}.amount", f"{seen}.currencyCode"),
            SETTLED,
        ),
        Field("settled_currency", ("gateway?", _CODE, f"{seen}.currencyCode"), SETTLED_CURRENCY),
    )


TENDER = Mapping(
    "sale_tender",
    "orders",
    each="transactions[]",
    where=Where(("kind", "status"), IS_CAPTURED),
    fields=(*_tender_fields(_ORDER), Field("payment_id", ("paymentId?",), text)),
)

# refunds ------------------------------------------------------------------------------------------

_REFUND = Field("source_id", ("^.legacyResourceId",), text_of_number)
_OF_REFUND = "^.totalRefundedSet.shopMoney.amount"
_REFUND_LINES = "refunds[].refundLineItems.nodes[]"
_REFUND_SHIPPING = "refunds[].refundShippingLines.nodes[]"
_ADJUSTMENTS = "refunds[].orderAdjustments.nodes[]"
_IS_OF_MONEY = Where((_OF_REFUND,), IS_SOMETHING)

REFUND = Mapping(
    "refund",
    "orders",
    each="refunds[]",
    fields=(
        Field("source_id", ("legacyResourceId",), text_of_number),
        Field("order_id", ("$.legacyResourceId",), text_of_number),
        Field("occurred_at", ("processedAt",), time_iso),
        Field("state", (*_STATE, "transactions.nodes[].kind", "transactions.nodes[].status"), REFUND_STATE),
        _CURRENCY,
        Field("total_minor", (_money("totalRefundedSet"), _CODE), AMOUNT),
    ),
)
REFUND_LINE = Mapping(
    "refund_line",
    "orders",
    each=_REFUND_LINES,
    where=_IS_OF_MONEY,
    fields=(
        _REFUND,
        Field("line_id", ("lineItem.id",), gid_number),
        Field("role", ("lineItem.isGiftCard",), RETURN_ROLE),
        Field("quantity", ("quantity",), integer),
        _CURRENCY,
        Field("amount_minor", (_money("subtotalSet"), _money("totalTaxSet"), _CODE, "$.taxesIncluded"), REFUNDED),
    ),
)
REFUND_SHIPPING_LINE = Mapping(
    "refund_line",
    "orders",
    each=_REFUND_SHIPPING,
    where=_IS_OF_MONEY,
    fields=(
        _REFUND,
        Field("role", (), constant("shipping_income", pa.string())),
        _CURRENCY,
        Field(
            "amount_minor", (_money("subtotalAmountSet"), _money("taxAmountSet"), _CODE, "$.taxesIncluded"), REFUNDED
        ),
    ),
)
ADJUSTMENT = Mapping(
    "refund_line",
    "orders",
    each=_ADJUSTMENTS,
    where=_IS_OF_MONEY,
    fields=(
        _REFUND,
        Field("role", (), constant("sales_returns", pa.string())),
        _CURRENCY,
        Field("amount_minor", (_money("amountSet"), _money("taxAmountSet"), _CODE, "$.taxesIncluded"), ADJUSTED),
    ),
)
REFUND_DUTY = Mapping(
    "refund_line",
    "orders",
    each="refunds[].duties?[]",
    where=_IS_OF_MONEY,
    fields=(
        _REFUND,
        Field("role", (), constant(DUTIES, pa.string())),
        _CURRENCY,
        Field("amount_minor", (_money("amountSet"), _CODE), AMOUNT),
    ),
)


def _refund_taxes(lines: str, amount: str, liable: str, convert: Converter = AMOUNT) -> Mapping:
    return Mapping(
        "refund_tax",
        "orders",
        each=lines,
        where=Where((_OF_REFUND, amount), ARE_SOMETHING),
        fields=(
            _REFUND,
            Field("jurisdiction", _ADDRESS, TAXED_IN),
            _CURRENCY,
            Field("amount_minor", (amount, _CODE), convert),
            Field("role", (liable, *_ADDRESS), TAX_ROLE),
        ),
    )


REFUND_TENDER = Mapping(
    "refund_tender",
    "orders",
    each="refunds[].transactions.nodes[]",
    where=Where(("kind", "status", _OF_REFUND), IS_REPAID),
    fields=_tender_fields(_REFUND),
)

# Shopify Payments ---------------------------------------------------------------------------------

_KINDS = {
    "CHARGE": "charge",
    "REFUND": "refund",
    "REFUND_FAILURE": "refund_failure",
    "DISPUTE_WITHDRAWAL": "dispute",
    "DISPUTE_REVERSAL": "dispute_reversal",
    "TRANSFER": "payout",
    "TRANSFER_FAILURE": "payout_failure",
    "TRANSFER_CANCEL": "payout_failure",
    "TRANSFER_REFUND": "payout_failure",
    "CHARGEBACK_FEE": "fee",
    "CHARGEBACK_FEE_REFUND": "fee",
    "STRIPE_FEE": "fee",
    "ACH_BANK_FAILURE_DEBIT_FEE": "fee",
    "ACH_BANK_FAILURE_DEBIT_REVERSAL_FEE": "fee",
    "REFERRAL_FEE": "fee",
    "REFERRAL_FEE_TAX": "fee",
    "CHARGEBACK_HOLD": "reserve",
    "CHARGEBACK_HOLD_RELEASE": "reserve",
    "RESERVED_FUNDS": "reserve",
    "RESERVED_FUNDS_REVERSAL": "reserve",
    "RESERVED_FUNDS_WITHDRAWAL": "reserve",
}
"""ShopifyPaymentsTransactionType, as far as we know how it is booked; loans, labels, credits… are quarantined."""


def _kind(is_test: bool, type_: str) -> str:
    if is_test:
        return "test"
    if type_ not in _KINDS:
        raise ValueError(f"no rule for the balance transaction type {type_!r}; known are {', '.join(sorted(_KINDS))}")
    return _KINDS[type_]


def _transaction_role(order: str | None) -> str:
    return "order_clearing:shopify_payments" if order else "unidentified_receipts"


def _signed_payout(columns: Sequence[pa.Array], report: Report) -> pa.Array:
    values = amounts(columns[:2], report)
    is_debit = bools(_is(columns[2], "WITHDRAWAL"))
    return pa.array(np.where(is_debit, -np.abs(values), values), pa.int64())


_PAYOUT_STATES = {
    "SCHEDULED": "in_transit",
    "IN_TRANSIT": "in_transit",
    "PAID": "paid",
    "FAILED": "failed",
    "CANCELED": "canceled",
}
_DISPUTE_STATES = {
    "NEEDS_RESPONSE": "open",
    "UNDER_REVIEW": "open",
    "ACCEPTED": "lost",
    "LOST": "lost",
    "WON": "won",
    "PREVENTED": "won",
    "CHARGE_REFUNDED": "won",
}


def _dispute_state(status: str, type_: str) -> str:
    if status not in _DISPUTE_STATES:
        raise ValueError(f"unknown dispute status {status!r}; known are {', '.join(sorted(_DISPUTE_STATES))}")
    found = _DISPUTE_STATES[status]
    return "won" if type_ == "INQUIRY" and found == "lost" else found


KIND = distinct("kind of balance transaction", "By type; test for test transactions.", ("bool", "str"), _kind)
TRANSACTION_ROLE = distinct(
    "order or unknown",
    "order_clearing:shopify_payments where the order is known, else unidentified_receipts.",
    ("str",),
    _transaction_role,
)  # fmt: skip
PAID_OUT = on_columns(
    "signed payout", ("str", "str", "str"), _signed_payout, "Negative for a WITHDRAWAL, whatever sign the amount has."
)
DISPUTE_STATE = distinct(
    "dispute status",
    "An inquiry moves no money, so one that is lost costs nothing; "
    + "; ".join(f"{k} → {v}" for k, v in _DISPUTE_STATES.items()),
    ("str", "str"), _dispute_state,
)  # fmt: skip

_OWN = ("amount.amount", "amount.currencyCode")

BALANCE_TRANSACTION = Mapping(
    "processor_transaction",
    "balance_transactions",
    fields=(
        Field("source_id", ("id",), text),
        Field("processor", (), _PAYMENTS),
        Field("kind", ("test", "type"), KIND),
        Field("occurred_at", ("transactionDate",), time_iso),
        Field("currency", ("amount.currencyCode",), currency),
        Field("amount_minor", _OWN, AMOUNT),
        Field("fee_minor", ("fee.amount", "fee.currencyCode"), AMOUNT),
        Field("net_minor", ("net.amount", "net.currencyCode"), AMOUNT),
        Field("role", ("associatedOrder?.id",), TRANSACTION_ROLE),
        Field("source_object_id", ("sourceId?",), text_of_number),
        Field("settled_minor", _OWN, AMOUNT, "Shopify Payments states its movements in the payout's currency only."),
        Field("settled_currency", ("amount.currencyCode",), currency),
        Field("order_id", ("associatedOrder?.id",), gid_number),
        Field("payout_id", ("associatedPayout?.id?",), text, "Known once the payout has been made."),
        Field("description", ("adjustmentReason?",), text),
    ),
)
PAYOUT = Mapping(
    "payout",
    "payouts",
    fields=(
        Field("source_id", ("id",), text),
        Field("processor", (), _PAYMENTS),
        Field("occurred_at", ("issuedAt",), time_iso),
        Field(
            "state",
            ("status",),
            lookup(
                "payout status",
                _PAYOUT_STATES,
            ),
        ),
        Field("currency", ("net.currencyCode",), currency),
        Field("amount_minor", ("net.amount", "net.currencyCode", "transactionType"), PAID_OUT),
    ),
)
DISPUTE = Mapping(
    "dispute",
    "disputes",
    fields=(
        Field("source_id", ("id",), text),
        Field("processor", (), _PAYMENTS),
        Field("opened_at", ("initiatedAt",), time_iso),
        Field("decided_at", ("finalizedOn?",), time_iso),
        Field("state", ("status", "type"), DISPUTE_STATE),
        Field("currency", ("amount.currencyCode",), currency),
        Field("amount_minor", _OWN, AMOUNT),
        Field("order_id", ("order?.legacyResourceId",), text_of_number),
    ),
)

IS_THERE = on_columns(
    "is there",
    ("str",),
    lambda columns, report: columns[0].is_valid(),
    "The value is not absent.",
)
CUSTOMER = Mapping(
    "party",
    "orders",
    where=Where(("customer?.id",), IS_THERE),
    fields=(
        Field("source_id", ("customer?.id",), gid_number),
        Field("kind", (), constant("customer", pa.string())),
    ),
    doc="Who ordered, by number only: no name, e-mail or address is asked for.",
)
MAPPINGS = (
    SALE, LINE, SHIPPING_LINE, TIP, DUTY, _taxes(_GOODS), _taxes(_SHIPPING), TENDER,
    REFUND, REFUND_LINE, REFUND_SHIPPING_LINE, ADJUSTMENT, REFUND_DUTY,
    _refund_taxes(_REFUND_LINES, _money("totalTaxSet"), "lineItem.taxLines[].channelLiable?"),
    _refund_taxes(_REFUND_SHIPPING, _money("taxAmountSet"), "shippingLine.taxLines[].channelLiable?"),
    _refund_taxes(_ADJUSTMENTS, _money("taxAmountSet"), "$.lineItems.nodes[].taxLines[].channelLiable?", TURNED),
    REFUND_TENDER,
    CUSTOMER,
    BALANCE_TRANSACTION, PAYOUT, DISPUTE,
)  # fmt: skip
