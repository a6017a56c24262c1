"""The default accounting policy: which lines a record posts. A finance analyst can read this file; the engine executes it."""

from __future__ import annotations

from ledger_pipeline.model.rules.rule import Ignore, Post, Rule, When

SALE = Rule(
    "sale",
    record="sale",
    version=1,
    doc="Dr what was paid and what is still owed, and discounts; Cr income and liabilities by line, and taxes.",
    posts=(
        Post("debit", "{role}", "amount_minor", each="sale_tender", is_settled=True, is_collected=True),
        Post("debit", "accounts_receivable", "unpaid_minor"),
        Post("debit", "sales_discounts", "discount_minor", each="sale_line"),
        Post("credit", "{role}", "net_minor", each="sale_line"),
        Post("credit", "{role}", "amount_minor", each="sale_tax"),
    ),
    ignores=(
        Ignore(When("state", ("test",)), "test order"),
        Ignore(When("state", ("authorised_only",)), "authorised only"),
        Ignore(When("state", ("voided",)), "voided"),
        Ignore(When("state", ("not_captured",)), "not captured"),
    ),
)
REFUND = Rule(
    "refund",
    record="refund",
    version=1,
    doc="The reverse of a sale: Dr returns and taxes, Cr the way in which the money went back.",
    posts=(
        Post("debit", "{role}", "amount_minor", each="refund_line"),
        Post("debit", "{role}", "amount_minor", each="refund_tax"),
        Post("credit", "{role}", "amount_minor", each="refund_tender", is_settled=True, is_collected=True),
    ),
    ignores=(
        Ignore(When("state", ("test",)), "test order"),
        Ignore(When("state", ("pending",)), "refund pending"),
        Ignore(When("state", ("sale_not_posted",)), "its sale is not posted"),
    ),
)

_PAYMENTS = When("kind", ("charge", "refund", "refund_failure"))
_DISPUTES = When("kind", ("dispute", "dispute_reversal"))
_PAYOUTS = When("kind", ("payout", "payout_failure"))
_FEES = When("kind", ("fee",))
_RESERVES = When("kind", ("reserve",))

PROCESSOR_TRANSACTION = Rule(
    "processor_transaction",
    record="processor_transaction",
    version=1,
    doc="The processor's balance by amount and by fee; the other side by what moved it.",
    posts=(
        Post("debit", "processor_balance:{processor}", "amount_minor"),
        Post("credit", "{role}", "amount_minor", when=_PAYMENTS, is_settled=True),
        Post("credit", "dispute_receivable", "amount_minor", when=_DISPUTES),
        Post("credit", "payout_in_transit", "amount_minor", when=_PAYOUTS),
        Post("credit", "processing_fees", "amount_minor", when=_FEES),
        Post("credit", "processor_reserve:{processor}", "amount_minor", when=_RESERVES),
        Post("credit", "processor_balance:{processor}", "fee_minor"),
        Post("debit", "chargeback_fees", "fee_minor", when=_DISPUTES),
        Post(
            "debit",
            "processing_fees",
            "fee_minor",
            when=When("kind", ("charge", "refund", "refund_failure", "payout", "payout_failure", "fee", "reserve")),
        ),
    ),
    ignores=(Ignore(When("kind", ("test",)), "test transaction"),),
)
DISPUTE = Rule(
    "dispute",
    record="dispute",
    version=1,
    doc="A lost dispute becomes a loss; opening and winning are booked with the balance transactions.",
    posts=(
        Post("debit", "chargeback_loss", "amount_minor"),
        Post("credit", "dispute_receivable", "amount_minor"),
    ),
    ignores=(
        Ignore(When("state", ("open",)), "undecided"),
        Ignore(When("state", ("won",)), "settled by balance transaction"),
        Ignore(When("state", ("lost_undated",)), "lost; booked from the event that dates it"),
    ),
)
BANK_TRANSACTION = Rule(
    "bank_transaction",
    record="bank_transaction",
    version=1,
    doc="Dr the bank for money in; the other side is what the line was recognised as.",
    posts=(
        Post("debit", "{bank_role}", "amount_minor"),
        Post("credit", "{role}", "amount_minor"),
    ),
    ignores=(
        Ignore(When("state", ("pending",)), "pending"),
        Ignore(When("state", ("removed",)), "removed"),
    ),
)
_NOT_POSTED = (Ignore(When("state", ("draft",)), "draft"), Ignore(When("state", ("void",)), "void"))

INVOICE = Rule(
    "invoice",
    record="invoice",
    version=1,
    doc="Dr what the customer owes; Cr income or what is still to be delivered by line, and taxes. A credit note is the reverse.",
    posts=(
        Post("debit", "accounts_receivable", "total_minor"),
        Post("credit", "{role}", "net_minor", each="invoice_line"),
        Post("credit", "{role}", "amount_minor", each="invoice_tax"),
    ),
    ignores=_NOT_POSTED,
)
BILL = Rule(
    "bill",
    record="bill",
    version=1,
    doc="Dr expenses by line and the tax that is reclaimed; Cr what the supplier is owed. A credit note is the reverse.",
    posts=(
        Post("debit", "{role}", "net_minor", each="bill_line"),
        Post("debit", "{role}", "amount_minor", each="bill_tax"),
        Post("credit", "accounts_payable", "total_minor"),
    ),
    ignores=_NOT_POSTED,
)
PAY_RUN = Rule(
    "pay_run",
    record="pay_run",
    version=1,
    doc="Dr wages and the employer's part; Cr what is owed to employees, tax offices and funds, line by line.",
    posts=(Post("debit", "{role}", "amount_minor", each="pay_run_line"),),
    ignores=_NOT_POSTED,
)

RULES: dict[str, Rule] = {
    rule.record: rule
    for rule in (SALE, REFUND, PROCESSOR_TRANSACTION, DISPUTE, BANK_TRANSACTION, INVOICE, BILL, PAY_RUN)
}
"""By record. A record without a rule (payout, bank_balance, party) is a reference."""
