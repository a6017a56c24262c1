"""The GraphQL documents: one selection of an order for both ways of reading it, and what completes a partial one.

Nothing personal is selected: no names, e-mails, phones or streets; country and province codes and a customer's id only.
"""

from __future__ import annotations

LINES_PER_ORDER = 5
"""Line items that come with an order of a page; nine orders of ten have no more, and the others are completed."""
REST_PER_PAGE = 75
"""Nodes of one page when an order's own list is completed."""
WHOLE_PER_REQUEST = 4
"""Orders with refunds that one request completes."""
MAX_PAGE_SIZE = 10
"""A page of 10 orders is priced 952 of the 1000 points that one query may cost; see NOTES.md, 1."""

_SHOP = "{ shopMoney { amount } }"
_BOTH = "{ shopMoney { amount currencyCode } presentmentMoney { amount currencyCode } }"
_TAXES = f"taxLines {{ title rate channelLiable priceSet {_SHOP} }}"
_DISCOUNTS = f"discountAllocations {{ allocatedAmountSet {_SHOP} }}"
_LINE = (
    f"__typename id sku title quantity isGiftCard originalTotalSet {_SHOP} {_DISCOUNTS} {_TAXES} "
    f"duties {{ price {_SHOP} }}"
)
_SHIPPING = f"__typename id title originalPriceSet {_SHOP} {_DISCOUNTS} {_TAXES}"
_HEAD = f"""
  id legacyResourceId name test processedAt createdAt updatedAt cancelledAt currencyCode presentmentCurrencyCode
  taxesIncluded sourceName displayFinancialStatus
  customer {{ id }}
  shippingAddress {{ countryCodeV2 provinceCode }}
  totalPriceSet {_BOTH}
  totalTipReceivedSet {_SHOP}
  transactions {{ id kind status gateway paymentId amountSet {_BOTH} }}
"""
_REFUND_LINE = (
    f"id quantity subtotalSet {_SHOP} totalTaxSet {_SHOP} lineItem {{ id isGiftCard taxLines {{ channelLiable }} }}"
)
_REFUND_SHIPPING = (
    f"id subtotalAmountSet {_SHOP} taxAmountSet {_SHOP} shippingLine {{ id taxLines {{ channelLiable }} }}"
)
_ADJUSTMENT = f"id reason amountSet {_SHOP} taxAmountSet {_SHOP}"
_REFUND_TENDER = f"id kind status gateway paymentId amountSet {_BOTH}"


def _connection(field: str, selection: str, first: int) -> str:
    return f"{field}(first: {first}) {{ pageInfo {{ hasNextPage endCursor }} nodes {{ {selection} }} }}"


_REFUND = f"""
  id legacyResourceId createdAt processedAt totalRefundedSet {_SHOP} duties {{ amountSet {_SHOP} }}
  {_connection("refundLineItems", _REFUND_LINE, 8)}
  {_connection("refundShippingLines", _REFUND_SHIPPING, 2)}
  {_connection("orderAdjustments", _ADJUSTMENT, 3)}
  {_connection("transactions", _REFUND_TENDER, 4)}
"""
_LISTS = f"""
  {_connection("lineItems", _LINE, LINES_PER_ORDER)}
  {_connection("shippingLines", _SHIPPING, 2)}
"""

ORDERS_COUNT = "query Counted($query: String) { ordersCount(query: $query, limit: null) { count precision } }"
ORDERS = f"""query Orders($first: Int!, $after: String, $query: String) {{
  orders(first: $first, after: $after, query: $query, sortKey: UPDATED_AT) {{
    pageInfo {{ hasNextPage endCursor }}
    nodes {{ {_HEAD} {_LISTS} refunds {{ id }} }}
  }}
}}"""
"""Refunds come by id only: an order that has any is read again as a whole, by `whole_orders`."""


def whole_orders(count: int) -> str:
    """Orders by gid, refunds and all, in the answer's keys o0, o1…; variables id0, id1…"""
    variables = ", ".join(f"$id{n}: ID!" for n in range(count))
    roots = " ".join(f"o{n}: order(id: $id{n}) {{ ...Whole }}" for n in range(count))
    fragment = f"fragment Whole on Order {{ {_HEAD} {_LISTS} refunds {{ {_REFUND} }} }}"
    return f"query Whole({variables}) {{ {roots} }} {fragment}"


_REST = {
    ("order", "lineItems"): _LINE,
    ("order", "shippingLines"): _SHIPPING,
    ("refund", "refundLineItems"): _REFUND_LINE,
    ("refund", "refundShippingLines"): _REFUND_SHIPPING,
    ("refund", "orderAdjustments"): _ADJUSTMENT,
    ("refund", "transactions"): _REFUND_TENDER,
}
NESTED: dict[str, tuple[str, ...]] = {
    owner: tuple(field for kind, field in _REST if kind == owner) for owner in ("order", "refund")
}
"""The connections inside an order and inside a refund, any of which may go on beyond its first page."""


def rest_of(owner: str, field: str) -> str:
    """The following pages of one connection of an order or a refund, at data.owner.rest."""
    selection = _REST[owner, field]
    return f"""query Rest($id: ID!, $first: Int!, $after: String) {{
  owner: {owner}(id: $id) {{ rest: {field}(first: $first, after: $after) {{
    pageInfo {{ hasNextPage endCursor }} nodes {{ {selection} }} }} }}
}}"""


def bulk_orders(query: str) -> str:
    """The query of a bulk operation; lists that hold connections (refunds) stay out, and sizes are not given."""
    if '"' in query or "\\" in query:
        raise ValueError(f"a search text for a bulk query has no quotes: {query}")
    return f"""{{ orders(query: "{query}", sortKey: UPDATED_AT) {{ edges {{ node {{ {_HEAD} refunds {{ id }}
  lineItems {{ edges {{ node {{ {_LINE} }} }} }}
  shippingLines {{ edges {{ node {{ {_SHIPPING} }} }} }}
}} }} }} }}"""


BULK_RUN = """mutation Run($query: String!) { bulkOperationRunQuery(query: $query, groupObjects: false) {
  bulkOperation { id status } userErrors { code message }
} }"""
BULK_STATE = """query State($id: ID!) { bulkOperation(id: $id) {
  id status errorCode objectCount rootObjectCount fileSize url
} }"""


def _payments(field: str, sort: str, selection: str) -> str:
    return f"""query Payments($first: Int!, $after: String, $query: String) {{ shopifyPaymentsAccount {{
  {field}(first: $first, after: $after, query: $query{sort}) {{
    pageInfo {{ hasNextPage endCursor }} nodes {{ {selection} }}
  }}
}} }}"""


_MONEY = "{ amount currencyCode }"
BALANCE_TRANSACTIONS = _payments(
    "balanceTransactions",
    ", sortKey: PROCESSED_AT",
    f"id type test transactionDate amount {_MONEY} fee {_MONEY} net {_MONEY} sourceType sourceId "
    "sourceOrderTransactionId adjustmentReason associatedOrder { id } associatedPayout { id }",
)
PAYOUTS = _payments(
    "payouts", ", sortKey: ISSUED_AT", f"id legacyResourceId issuedAt status transactionType net {_MONEY}"
)
DISPUTES = _payments(
    "disputes",
    "",
    f"id legacyResourceId status type initiatedAt finalizedOn amount {_MONEY} reasonDetails {{ reason }} "
    "order { id legacyResourceId }",
)
