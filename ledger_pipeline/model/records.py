"""The canonical records: every field once, with its type, unit and meaning.

These declarations are what the staging tables, the Great Expectations suites, the asset metadata and the printed documentation are made
from. A record is a flat table; parts of a record (lines, taxes, tenders) are tables of their own that carry their parent's `source_id`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

Kind = Literal["text", "minor", "int", "bool", "timestamp", "date", "decimal", "currency"]

ARROW: dict[Kind, pa.DataType] = {
    "text": pa.string(),
    "currency": pa.string(),
    "minor": pa.int64(),
    "int": pa.int64(),
    "bool": pa.bool_(),
    "timestamp": pa.timestamp("us", "UTC"),
    "date": pa.date32(),
    "decimal": pa.string(),
}
SQL: dict[Kind, str] = {
    "text": "text",
    "currency": "text",
    "minor": "bigint",
    "int": "bigint",
    "bool": "boolean",
    "timestamp": "timestamptz",
    "date": "date",
    "decimal": "numeric",
}


@dataclass(frozen=True, slots=True)
class Field:
    """One column: `minor` is an integer in the minor unit of the record's currency column, `timestamp` is UTC, `decimal` is exact."""

    name: str
    kind: Kind
    doc: str
    is_required: bool = True
    one_of: tuple[str, ...] = ()
    minimum: int | None = None


@dataclass(frozen=True, slots=True)
class Total:
    """A check that a stated amount is the sum of its parts: each term is (record, column, sign). `role`: only parts that are booked to it."""

    name: str
    equals: str
    terms: tuple[tuple[str, str, int], ...]
    doc: str
    role: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """A canonical record. `date_field` says when it happened; a `parent` makes it a part, numbered by `line_no`.

    `identity` are the columns by which two connections that tell of the same events (`same_as`) mean the same one; records that are equal in
    them are counted. `agrees` are columns that must then be equal, too: where they aren't, a person has to look.
    """

    name: str
    doc: str
    fields: tuple[Field, ...]
    date_field: str | None = None
    parent: str | None = None
    totals: tuple[Total, ...] = ()
    money: tuple[tuple[str, str], ...] = ()  # (amount column, currency column) that the metadata sums
    identity: tuple[str, ...] = ()
    agrees: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[Field, ...]:
        """Key columns first, then the record's own."""
        key = (SOURCE_ID, LINE_NO) if self.parent else (SOURCE_ID,)
        return key + self.fields

    def schema(self) -> pa.Schema:
        """Arrow schema of the canonical columns together with `raw_id`, the landed payload that a row comes from."""
        return pa.schema([("raw_id", pa.int64()), *((f.name, ARROW[f.kind]) for f in self.columns)])

    def field(self, name: str) -> Field:
        """Raises KeyError with the known names."""
        for field in self.columns:
            if field.name == name:
                return field
        raise KeyError(f"record {self.name} has no field {name!r}; it has {', '.join(f.name for f in self.columns)}")


SOURCE_ID = Field("source_id", "text", "Id at the source; for a part, the id of the record that it belongs to.")
LINE_NO = Field("line_no", "int", "Position within the record, from 1.", minimum=1)

_CURRENCY = Field("currency", "currency", "ISO 4217 code of this record's amounts.")
_ROLE = "role that it is booked to (ACCOUNTING: sales, gift_card_liability, shipping_income…)"


def _settled(what: str) -> tuple[Field, Field]:
    return (
        Field("settled_minor", "minor", f"{what} in the currency in which the other side keeps it.", minimum=0),
        Field(
            "settled_currency",
            "currency",
            "ISO 4217 code of settled_minor; equals the record's currency unless a third party took another.",
        ),
    )


SALE = Record(
    "sale",
    "An order that a customer placed. Posted when money was captured; until then it waits.",
    (
        Field("order_number", "text", "The number that people use for it (#1001)."),
        Field("occurred_at", "timestamp", "When the order was placed."),
        Field(
            "state",
            "text",
            "captured is posted; every other state is the reason why it is not.",
            one_of=("captured", "authorised_only", "voided", "not_captured", "test"),
        ),
        Field("channel", "text", "Where it was sold (web, pos…).", is_required=False),
        Field("customer_id", "text", "The customer's id at the source; no name or address.", is_required=False),
        Field(
            "jurisdiction",
            "text",
            "Country, or country and province, that the tax belongs to (US-NY, GB).",
            is_required=False,
        ),
        _CURRENCY,
        Field(
            "total_minor",
            "minor",
            "What the customer owes, tax, shipping and tip included, discounts deducted.",
            minimum=0,
        ),
        Field("unpaid_minor", "minor", "The part of the total that no captured tender covers.", minimum=0),
        Field("presentment_currency", "currency", "The currency that the customer saw.", is_required=False),
        Field("presentment_minor", "minor", "The total as the customer saw it.", is_required=False),
    ),
    date_field="occurred_at",
    totals=(
        Total(
            "parts_minor",
            "total_minor",
            (("sale_line", "net_minor", 1), ("sale_line", "discount_minor", -1), ("sale_tax", "amount_minor", 1)),
            "lines − discounts + taxes = total",
        ),
        Total(
            "tenders_minor",
            "total_minor",
            (("sale_tender", "amount_minor", 1), ("sale", "unpaid_minor", 1)),
            "captured tenders + unpaid = total",
        ),
    ),
    money=(("total_minor", "currency"),),
    identity=("order_number", "currency"),
    agrees=("total_minor",),
)
SALE_LINE = Record(
    "sale_line",
    "What a sale consists of: goods, gift cards, shipping, tip.",
    (
        Field("line_id", "text", "The line's id at the source.", is_required=False),
        Field("role", "text", f"The {_ROLE}."),
        Field("sku", "text", "Stock keeping unit.", is_required=False),
        Field("title", "text", "What the customer reads.", is_required=False),
        Field("quantity", "int", "Units ordered, those that were returned later included.", minimum=0),
        _CURRENCY,
        Field("net_minor", "minor", "Quantity × price before discounts, without tax."),
        Field("discount_minor", "minor", "Line and order discounts on it, without tax.", minimum=0),
    ),
    parent="sale",
)
SALE_TAX = Record(
    "sale_tax",
    "A tax on a sale.",
    (
        Field("jurisdiction", "text", "Who it is owed to (US-NY, GB)."),
        Field("title", "text", "The tax's name at the source.", is_required=False),
        Field("rate", "decimal", "Fraction, 0.08875 for 8.875 %.", is_required=False),
        _CURRENCY,
        Field("amount_minor", "minor", "The tax."),
        Field("is_marketplace_liable", "bool", "True where the marketplace remits it."),
        Field("role", "text", "sales_tax_payable:{jurisdiction}, or marketplace_tax_clearing."),
    ),
    parent="sale",
)
SALE_TENDER = Record(
    "sale_tender",
    "A captured payment on a sale, as the shop saw it.",
    (
        Field("tender_id", "text", "The shop's id of it.", is_required=False),
        Field("gateway", "text", "stripe, shopify_payments, gift_card, cash…"),
        Field("role", "text", "order_clearing:{gateway}, gift_card_liability or store_credit_liability."),
        _CURRENCY,
        Field("amount_minor", "minor", "What it paid, in the sale's currency.", minimum=0),
        *_settled("What it paid"),
        Field("payment_id", "text", "The processor's id, where the shop knows it.", is_required=False),
    ),
    parent="sale",
)
REFUND = Record(
    "refund",
    "Money or goods given back on a sale.",
    (
        Field("order_id", "text", "The sale that it belongs to."),
        Field("occurred_at", "timestamp", "When it was made."),
        Field("state", "text", "refunded is posted.", one_of=("refunded", "test", "pending", "sale_not_posted")),
        _CURRENCY,
        Field("total_minor", "minor", "What the customer got back.", minimum=0),
    ),
    date_field="occurred_at",
    totals=(
        Total(
            "parts_minor",
            "total_minor",
            (("refund_line", "amount_minor", 1), ("refund_tax", "amount_minor", 1)),
            "lines + taxes = total",
        ),
        Total("tenders_minor", "total_minor", (("refund_tender", "amount_minor", 1),), "refunded tenders = total"),
    ),
    money=(("total_minor", "currency"),),
    identity=("order_id", "currency", "total_minor"),
)
REFUND_LINE = Record(
    "refund_line",
    "What was given back: goods, shipping, goodwill.",
    (
        Field("line_id", "text", "The sale's line.", is_required=False),
        Field("role", "text", "sales_returns, gift_card_liability, shipping_income…"),
        Field("quantity", "int", "Units.", is_required=False),
        _CURRENCY,
        Field("amount_minor", "minor", "Without tax; positive is money given back."),
    ),
    parent="refund",
)
REFUND_TAX = Record(
    "refund_tax",
    "Tax given back.",
    (
        Field("jurisdiction", "text", "Who it was owed to."),
        _CURRENCY,
        Field("amount_minor", "minor", "The tax; positive is money given back."),
        Field("role", "text", "sales_tax_payable:{jurisdiction}, or marketplace_tax_clearing."),
    ),
    parent="refund",
)
REFUND_TENDER = Record(
    "refund_tender",
    "The way in which the money went back.",
    (
        Field("tender_id", "text", "The shop's id of it.", is_required=False),
        Field("gateway", "text", "stripe, gift_card…"),
        Field("role", "text", "order_clearing:{gateway}, gift_card_liability or store_credit_liability."),
        _CURRENCY,
        Field("amount_minor", "minor", "In the refund's currency.", minimum=0),
        *_settled("What went back"),
    ),
    parent="refund",
)
PROCESSOR_TRANSACTION = Record(
    "processor_transaction",
    "A movement of the balance that a payment processor keeps: charge, refund, dispute, payout, fee.",
    (
        Field("processor", "text", "stripe, shopify_payments…"),
        Field(
            "kind",
            "text",
            "What moved the balance.",
            one_of=(
                "charge",
                "refund",
                "refund_failure",
                "dispute",
                "dispute_reversal",
                "payout",
                "payout_failure",
                "fee",
                "reserve",
                "test",
            ),
        ),
        Field("occurred_at", "timestamp", "When the balance moved."),
        _CURRENCY,
        Field("amount_minor", "minor", "Signed as the balance moved, before the fee."),
        Field("fee_minor", "minor", "What the processor kept; negative when it gave a fee back."),
        Field("net_minor", "minor", "amount − fee."),
        Field(
            "role",
            "text",
            "The other side of a charge or refund: order_clearing:{gateway}, accounts_receivable or unidentified_receipts.",
        ),
        Field("source_object_id", "text", "The charge, refund, dispute or payout behind it.", is_required=False),
        Field(
            "settled_minor",
            "minor",
            "What the customer paid or got back, signed like amount_minor, in settled_currency.",
        ),
        Field(
            "settled_currency",
            "currency",
            "The currency in which the customer paid; equals currency unless the processor converted.",
        ),
        Field("exchange_rate", "decimal", "The processor's own, currency per settled_currency.", is_required=False),
        Field("order_id", "text", "The shop's order, where the processor knows it.", is_required=False),
        Field("payout_id", "text", "The payout that carried it.", is_required=False),
        Field("description", "text", "The processor's words.", is_required=False),
    ),
    date_field="occurred_at",
    totals=(
        Total(
            "net_parts_minor",
            "net_minor",
            (("processor_transaction", "amount_minor", 1), ("processor_transaction", "fee_minor", -1)),
            "amount − fee = net",
        ),
    ),
    money=(("amount_minor", "currency"), ("fee_minor", "currency")),
    identity=("processor", "source_id"),
    agrees=("currency", "amount_minor", "fee_minor"),
)
PAYOUT = Record(
    "payout",
    "What a processor sent to the bank, or took from it. Its money is booked from the balance transaction; this is what matching refers to.",
    (
        Field("processor", "text", "stripe, shopify_payments…"),
        Field("occurred_at", "timestamp", "When it was issued."),
        Field(
            "state",
            "text",
            "Its state when it was pulled.",
            one_of=("pending", "in_transit", "paid", "failed", "canceled"),
        ),
        _CURRENCY,
        Field("amount_minor", "minor", "Negative when the processor debits the bank."),
        Field("arrives_on", "date", "When the bank should show it.", is_required=False),
    ),
    date_field="occurred_at",
    money=(("amount_minor", "currency"),),
    identity=("processor", "source_id"),
)
PAYOUT_MEMBER = Record(
    "payout_member",
    "That a payout carried a balance transaction, as the processor says it. A reference: the transaction's money is booked from itself.",
    (
        Field("processor", "text", "stripe…"),
        Field("payout_id", "text", "The payout."),
        Field("transaction_id", "text", "The balance transaction that it carried (processor_transaction.source_id)."),
        _CURRENCY,
        Field("net_minor", "minor", "What the transaction moved the balance by, its fee deducted."),
    ),
)
DISPUTE = Record(
    "dispute",
    "A customer's bank takes a payment back. Opening and winning move the balance (processor_transaction); losing is booked from here.",
    (
        Field("processor", "text", "stripe, shopify_payments…"),
        Field("opened_at", "timestamp", "When it was opened."),
        Field("decided_at", "timestamp", "When it was decided.", is_required=False),
        Field(
            "state",
            "text",
            "lost is posted; won was booked with its balance transaction; open waits; lost_undated was lost on a day that another record tells.",
            one_of=("open", "won", "lost", "lost_undated"),
        ),
        _CURRENCY,
        Field("amount_minor", "minor", "What was withdrawn from the balance, without the fee.", minimum=0),
        Field("charge_id", "text", "The payment in dispute.", is_required=False),
        Field("order_id", "text", "The shop's order.", is_required=False),
    ),
    date_field="decided_at",
    money=(("amount_minor", "currency"),),
    identity=("processor", "source_id"),
    agrees=("currency", "amount_minor"),
)
BANK_TRANSACTION = Record(
    "bank_transaction",
    "A line on a bank account. Only booked lines are posted.",
    (
        Field("account_id", "text", "The account's id at the source."),
        Field("booked_on", "date", "The bank's booking date, in its own zone."),
        Field("state", "text", "booked is posted.", one_of=("booked", "pending", "removed")),
        _CURRENCY,
        Field("amount_minor", "minor", "Positive is money coming in."),
        Field("description", "text", "The bank's words.", is_required=False),
        Field("reference", "text", "End-to-end or customer reference.", is_required=False),
        Field("pending_id", "text", "The pending line that this one replaces.", is_required=False),
        Field("bank_role", "text", "bank:{account_id}."),
        Field(
            "role",
            "text",
            "The other side: the first categorisation rule that fits, else unidentified_receipts or uncategorised_expense.",
        ),
    ),
    date_field="booked_on",
    money=(("amount_minor", "currency"),),
    identity=("bank_role", "currency", "amount_minor", "booked_on"),
)
BANK_BALANCE = Record(
    "bank_balance",
    "A balance that the bank states.",
    (
        Field("account_id", "text", "The account's id at the source."),
        Field(
            "stated_on",
            "date",
            "The day at whose end it holds; the pull's day for a balance without a date.",
            is_required=False,
        ),
        Field("kind", "text", "Which balance.", one_of=("opening", "closing", "available", "current")),
        _CURRENCY,
        Field("amount_minor", "minor", "Positive is money that the company has."),
    ),
    money=(("amount_minor", "currency"),),
)


def _document(record: str, party: Field) -> tuple[Field, ...]:
    return (
        Field("number", "text", f"The {record}'s number, as a payment's text names it."),
        Field("issued_on", "date", f"The {record}'s date."),
        Field("due_on", "date", "When it is to be paid.", is_required=False),
        Field("state", "text", "posted is posted.", one_of=("posted", "draft", "void")),
        party,
        Field("reduces", "text", f"Of a credit note: the number of the {record} that it reduces.", is_required=False),
        _CURRENCY,
        Field("total_minor", "minor", "Tax included; a credit note is negative."),
    )


def _lines_and_taxes(record: str) -> Total:
    terms = ((f"{record}_line", "net_minor", 1), (f"{record}_tax", "amount_minor", 1))
    return Total("parts_minor", "total_minor", terms, "lines + taxes = total")


INVOICE = Record(
    "invoice",
    "What a customer is billed; a credit note is one with a negative total.",
    _document(
        "invoice",
        Field("customer_id", "text", "The customer's id at the source; no name or address.", is_required=False),
    ),
    date_field="issued_on",
    totals=(_lines_and_taxes("invoice"),),
    money=(("total_minor", "currency"),),
    identity=("number", "currency"),
    agrees=("total_minor",),
)
INVOICE_LINE = Record(
    "invoice_line",
    "What an invoice is for.",
    (
        Field("role", "text", "sales, deferred_revenue, shipping_income…"),
        _CURRENCY,
        Field("net_minor", "minor", "Without tax."),
    ),
    parent="invoice",
)
INVOICE_TAX = Record(
    "invoice_tax",
    "A tax on an invoice.",
    (
        Field("jurisdiction", "text", "Who it is owed to (US-NY, GB)."),
        _CURRENCY,
        Field("amount_minor", "minor", "The tax."),
        Field("role", "text", "sales_tax_payable:{jurisdiction}."),
    ),
    parent="invoice",
)
BILL = Record(
    "bill",
    "What a supplier bills; a credit note is one with a negative total.",
    _document(
        "bill", Field("supplier_id", "text", "The supplier's id at the source; no name or address.", is_required=False)
    ),
    date_field="issued_on",
    totals=(_lines_and_taxes("bill"),),
    money=(("total_minor", "currency"),),
    identity=("supplier_id", "number", "currency"),
    agrees=("total_minor",),
)
BILL_LINE = Record(
    "bill_line",
    "What a bill is for.",
    (
        Field("role", "text", "An expense, goods_received_not_invoiced, prepaid…"),
        _CURRENCY,
        Field("net_minor", "minor", "Without tax that is reclaimed."),
    ),
    parent="bill",
)
BILL_TAX = Record(
    "bill_tax",
    "A tax on a bill that is reclaimed.",
    (
        _CURRENCY,
        Field("amount_minor", "minor", "The tax."),
        Field("role", "text", "input_tax."),
    ),
    parent="bill",
)
PAY_RUN = Record(
    "pay_run",
    "What a payroll comes to, by account; it says nothing of a single employee.",
    (
        Field("paid_on", "date", "When the employees are paid."),
        Field("state", "text", "posted is posted.", one_of=("posted", "draft", "void")),
        _CURRENCY,
        Field("gross_minor", "minor", "Gross pay."),
        Field("net_minor", "minor", "What the employees get; it stands on wages_payable until the bank shows it."),
    ),
    date_field="paid_on",
    totals=(
        Total(
            "balanced_minor",
            "gross_minor",
            (("pay_run", "gross_minor", 1), ("pay_run_line", "amount_minor", 1)),
            "lines sum to zero",
        ),
        Total(
            "payable_minor",
            "net_minor",
            (("pay_run_line", "amount_minor", -1),),
            "credits on wages_payable = net",
            role="wages_payable",
        ),
    ),
    money=(("gross_minor", "currency"), ("net_minor", "currency")),
    identity=("paid_on", "currency", "gross_minor"),
    agrees=("net_minor",),
)
PAY_RUN_LINE = Record(
    "pay_run_line",
    "What a pay run moves on one account.",
    (
        Field("role", "text", "wages, employer_payroll_tax, wages_payable, payroll_tax_withheld…"),
        Field("department", "text", "Whose cost it is.", is_required=False),
        _CURRENCY,
        Field("amount_minor", "minor", "Debit positive."),
    ),
    parent="pay_run",
)
PARTY = Record(
    "party",
    "A customer or supplier, by id only: no personal data is staged.",
    (
        Field("kind", "text", "What they are to us.", one_of=("customer", "supplier")),
        Field("country", "text", "ISO 3166 code.", is_required=False),
    ),
)

RECORDS: dict[str, Record] = {
    record.name: record
    for record in (
        SALE,
        SALE_LINE,
        SALE_TAX,
        SALE_TENDER,
        REFUND,
        REFUND_LINE,
        REFUND_TAX,
        REFUND_TENDER,
        PROCESSOR_TRANSACTION,
        PAYOUT,
        PAYOUT_MEMBER,
        DISPUTE,
        BANK_TRANSACTION,
        BANK_BALANCE,
        INVOICE,
        INVOICE_LINE,
        INVOICE_TAX,
        BILL,
        BILL_LINE,
        BILL_TAX,
        PAY_RUN,
        PAY_RUN_LINE,
        PARTY,
    )
}


def parts_of(record: str) -> tuple[Record, ...]:
    """The parts of a record, in the order of their declaration."""
    return tuple(r for r in RECORDS.values() if r.parent == record)
