"""What happened in the sample company, as plain facts that its servers render and its own books add up.

All money is an integer in the currency's minor unit (ISO 4217); all instants are aware datetimes in UTC;
`day` fields are dates in the entity's own zone. An object carries the instant at which it became visible (`at`)
and, where its state changes later, the instants of those changes, so that a server can answer "as of" any clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime


@dataclass(frozen=True, slots=True)
class EntityInfo:
    """A legal company: `zone` is an IANA name."""

    entity: str
    name: str
    base_currency: str
    zone: str


@dataclass(frozen=True, slots=True)
class ConnectionInfo:
    """One account at one system: `system` is shopify, stripe, plaid, bank_file or delimited_file."""

    connection: str
    entity: str
    system: str
    currency: str  # the shop's, the bank account's, or the processor's default


@dataclass(frozen=True, slots=True)
class Planted:
    """A fault that was put there on purpose: `day` is the local day on which it first shows in `stream`."""

    kind: str
    connection: str
    stream: str
    source_id: str
    day: date
    note: str


@dataclass(frozen=True, slots=True)
class Money:
    """An amount in the shop's currency together with what the customer saw (Shopify's MoneyBag)."""

    shop: int
    shop_currency: str
    presentment: int
    presentment_currency: str


@dataclass(frozen=True, slots=True)
class Tax:
    """One tax line of an order line: `jurisdiction` is US-NY, US-CA, GB…; `rate` as a decimal string ("0.08875")."""

    title: str
    jurisdiction: str
    rate: str
    amount: Money


@dataclass(frozen=True, slots=True)
class OrderLine:
    """`kind` is goods, gift_card or shipping; `unit_price` × `quantity` = `gross`.

    Tax is inside `gross` where the shop's prices include it.
    """

    line_id: int
    kind: str
    sku: str
    title: str
    quantity: int
    unit_price: Money
    gross: Money
    discount: Money
    taxes: tuple[Tax, ...]
    added_at: datetime | None = None  # set on a line that an edit added later


@dataclass(frozen=True, slots=True)
class Tender:
    """One Shopify transaction. `kind`: SALE, AUTHORIZATION, CAPTURE, VOID, REFUND. `status`: SUCCESS, FAILURE…"""

    tender_id: int
    kind: str
    status: str
    gateway: str  # stripe, shopify_payments, gift_card, shopify_store_credit, manual
    amount: Money
    at: datetime
    payment_id: str | None = None  # the processor's charge or refund id
    parent_id: int | None = None


@dataclass(frozen=True, slots=True)
class RefundLine:
    """`subtotal` is after discounts; it includes `tax` where the shop's prices include tax."""

    line_id: int
    quantity: int
    subtotal: Money
    tax: Money
    kind: str = "goods"  # goods, gift_card


@dataclass(frozen=True, slots=True)
class Refund:
    refund_id: int
    at: datetime
    lines: tuple[RefundLine, ...]
    shipping: Money | None
    shipping_tax: Money | None
    adjustment: Money | None  # an amount that belongs to no line (goodwill); positive = more money returned
    tenders: tuple[Tender, ...]


@dataclass(frozen=True, slots=True)
class Order:
    """An order with its whole life; `state_at(clock)` is the servers' business."""

    connection: str
    order_id: int
    name: str
    at: datetime  # created = processed
    customer_id: int | None
    shop_currency: str
    presentment_currency: str
    is_tax_included: bool
    ship_country: str  # for POS orders the shop's own place, so that the tax's jurisdiction is always to be seen
    ship_province: str | None
    source_name: str  # web, pos…
    lines: tuple[OrderLine, ...]
    tip: Money | None
    tenders: tuple[Tender, ...]
    refunds: tuple[Refund, ...] = ()
    is_test: bool = False
    cancelled_at: datetime | None = None
    edited_at: datetime | None = None
    fault: str | None = None  # the planted fault, if any (a `Planted.kind`): malformed_amount, duplicate_order, …
    overrides: dict[str, str] = field(
        default_factory=dict
    )  # JSON path → the broken literal that the wire shows instead


@dataclass(frozen=True, slots=True)
class ProcessorTransaction:
    """A balance transaction: `amount` − `fee` = net, in `currency` (of the settlement), signed as Stripe signs them."""

    connection: str
    txn_id: str
    kind: str  # charge, refund, refund_failure, dispute, dispute_reversal, payout, payout_failure, fee
    at: datetime
    available_at: datetime
    currency: str
    amount: int
    fee: int
    # ch_…, re_…, du_…, po_…; for Shopify Payments the number of the same thing; for payout_failure the failed payout
    source_id: str
    source_amount: int  # positive, in `source_currency`: what the customer paid or got back
    source_currency: str
    exchange_rate: str | None  # decimal string, settlement per source currency; None when the currencies are equal
    order_id: int | None  # the Shopify order that it belongs to, None for a payment without order
    charge_id: str | None = None  # for refunds and disputes
    payout_id: str | None = (
        None  # the payout that carries it (also for payout_failure); for kind payout the payout itself
    )
    description: str = ""
    tender_id: int | None = None  # the Shopify transaction that it belongs to, for charges and refunds of an order
    refund_id: int | None = None  # the Shopify refund that it belongs to, for refunds of an order


@dataclass(frozen=True, slots=True)
class Payout:
    """`amount` may be negative (a debit of the bank). `paid_at` is the arrival, maybe later than the clock."""

    connection: str
    payout_id: str
    at: datetime
    arrival_day: date
    currency: str
    amount: int
    paid_at: datetime | None
    failed_at: datetime | None
    member_ids: tuple[str, ...]  # txn_ids that it carries
    bank_account_id: str = ""


@dataclass(frozen=True, slots=True)
class Dispute:
    connection: str
    dispute_id: str
    charge_id: str
    order_id: int | None
    at: datetime
    amount: int  # positive, in the charge's currency
    currency: str
    settled_amount: int  # positive, in the balance's currency
    settled_currency: str
    fee: int  # in the balance's currency
    decided_at: datetime | None
    outcome: str | None  # won, lost, None while open
    txn_ids: tuple[str, ...] = ()
    reason: str = "fraudulent"


@dataclass(frozen=True, slots=True)
class BankAccount:
    connection: str
    account_id: str
    name: str
    mask: str
    currency: str
    opening: int  # the balance before the first day
    iban: str | None = None


@dataclass(frozen=True, slots=True)
class BankLine:
    """`amount` is positive when money comes in.

    A pending line and the booked line that replaces it are two objects with ids of their own: the pending one has
    `removed_at` = the booked one's `at`.
    """

    connection: str
    account_id: str
    line_id: str
    at: datetime  # first seen
    day: date
    amount: int
    currency: str
    description: str
    is_pending: bool = False
    replaces_pending_id: str | None = None
    removed_at: datetime | None = None
    modified_at: datetime | None = None
    modified_description: str | None = None
    category: str = ""  # PFC primary, such as RENT_AND_UTILITIES
    role: str = ""  # what the company's own bookkeeper would book it to
    modified_role: str | None = None  # the role after the modification
    payout_id: str | None = None  # the payout that it is, for the truth of matches
    merchant: str | None = None
    fault: str | None = None  # the planted fault, if any (a `Planted.kind`)
    wire_amount: str | None = None  # the literal that the wire shows instead (too many decimals)
    wire_currency: str | None = None  # an unofficial currency code that the wire shows instead


@dataclass(frozen=True, slots=True)
class StallReceipt:
    """One row of the market stall's till: `unit_price` in pence, no tax split; `paid_by` is cash."""

    receipt_no: str
    at: datetime
    sku: str
    description: str
    quantity: int
    unit_price: int
    paid_by: str
