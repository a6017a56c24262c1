"""Roles and the chart of accounts: policy speaks of roles, an entity's chart says which account a role is.

A role may carry a parameter (`order_clearing:stripe`); an account takes the exact role, or all parameters of a role that it names bare.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

AccountType = Literal["asset", "liability", "equity", "income", "expense"]


@dataclass(frozen=True, slots=True)
class Account:
    """One account of a chart, and the roles that are booked to it."""

    code: str
    name: str
    type: AccountType
    roles: tuple[str, ...] = ()


def _chart(type_: AccountType, *rows: tuple[str, str, str]) -> tuple[Account, ...]:
    return tuple(Account(code, name, type_, tuple(roles.split())) for code, name, roles in rows)


DEFAULT_CHART: tuple[Account, ...] = (
    *_chart(
        "asset",
        ("1000", "Bank", "bank"),
        ("1050", "Payouts in transit", "payout_in_transit"),
        ("1060", "Unidentified receipts", "unidentified_receipts"),
        ("1070", "Transfers in transit", "transfer_in_transit"),
        ("1100", "Accounts receivable", "accounts_receivable"),
        ("1150", "Order clearing", "order_clearing"),
        ("1160", "Processor balances", "processor_balance"),
        ("1170", "Processor reserves", "processor_reserve"),
        ("1180", "Disputes receivable", "dispute_receivable"),
        ("1190", "Group companies", "intercompany"),
        ("1200", "Inventory", "inventory"),
        ("1300", "Prepaid expenses", "prepaid"),
        ("1400", "Input tax", "input_tax"),
    ),
    *_chart(
        "liability",
        ("2000", "Accounts payable", "accounts_payable"),
        ("2050", "Goods received, not invoiced", "goods_received_not_invoiced"),
        ("2100", "Sales tax payable", "sales_tax_payable"),
        ("2150", "Marketplace tax clearing", "marketplace_tax_clearing"),
        ("2200", "Gift card liability", "gift_card_liability"),
        ("2210", "Store credit liability", "store_credit_liability"),
        ("2220", "Customer deposits", "customer_deposits"),
        ("2230", "Deferred revenue", "deferred_revenue"),
        ("2300", "Tips payable", "tips_payable"),
        ("2400", "Wages payable", "wages_payable"),
        ("2410", "Payroll tax withheld", "payroll_tax_withheld"),
        ("2420", "Employer payroll tax payable", "employer_payroll_tax_payable"),
        ("2430", "Benefits payable", "benefits_payable"),
        ("2440", "Garnishments payable", "garnishments_payable"),
        ("2450", "Employee reimbursements", "employee_reimbursements"),
        ("2500", "Credit card payable", "credit_card_payable"),
    ),
    *_chart(
        "equity",
        ("3000", "Opening balances", "opening_balance"),
        ("3100", "Retained earnings", "retained_earnings"),
        ("3900", "Currency trading", "currency_trading"),
    ),
    *_chart(
        "income",
        ("4000", "Sales", "sales"),
        ("4100", "Sales discounts", "sales_discounts"),
        ("4200", "Sales returns", "sales_returns"),
        ("4300", "Shipping income", "shipping_income"),
        ("4400", "Gift card breakage", "gift_card_breakage"),
        ("4800", "Other income", "other_income"),
        ("4900", "Currency gains and losses", "fx_gain_loss"),
        ("4910", "Currency rounding", "fx_rounding"),
    ),
    *_chart(
        "expense",
        ("5000", "Cost of goods sold", "cost_of_goods_sold"),
        ("5100", "Inventory adjustments", "inventory_adjustment"),
        ("6000", "Payment processing fees", "processing_fees"),
        ("6010", "Marketplace fees", "marketplace_fees"),
        ("6020", "Fulfilment fees", "fulfilment_fees"),
        ("6030", "Advertising", "advertising"),
        ("6040", "Chargeback losses", "chargeback_loss"),
        ("6050", "Chargeback fees", "chargeback_fees"),
        ("6060", "Bank fees", "bank_fees"),
        ("6100", "Wages", "wages"),
        ("6110", "Employer payroll tax", "employer_payroll_tax"),
        ("6120", "Employer benefits", "employer_benefits"),
        ("6200", "Rent", "rent"),
        ("6210", "Software", "software"),
        ("6220", "Office supplies", "office_supplies"),
        ("6230", "Meals", "meals"),
        ("6240", "Travel", "travel"),
        ("6250", "Charitable donations", "donations"),
        ("6900", "Uncategorised expenses", "uncategorised_expense"),
    ),
)
"""The chart that an entity has unless its configuration says otherwise."""


CLEARING_ROLES = (
    *("order_clearing", "payout_in_transit", "transfer_in_transit"),
    *("marketplace_tax_clearing", "goods_received_not_invoiced"),
)
"""Roles (with any parameter) whose balance is zero once all records have arrived (ACCOUNTING.md, "What must come to zero")."""
DUE_ROLES = ("payout_in_transit", "accounts_receivable", "accounts_payable", "wages_payable")
"""Roles on which something stands that the bank will show: payouts, invoices, bills, pay runs."""
UNPLACED_ROLES = ("unidentified_receipts", "uncategorised_expense")
"""Roles of bank lines that no categorisation rule knows; what such a line turns out to be is found by matching."""


class Chart:
    """An entity's accounts and the account of each role; a later account with the same code or role takes over."""

    def __init__(self, accounts: Iterable[Account]) -> None:
        self.accounts: dict[str, Account] = {}
        self.by_role: dict[str, str] = {}
        for account in accounts:
            self.accounts[account.code] = account
            self.by_role.update(dict.fromkeys(account.roles, account.code))

    def account_of(self, role: str) -> str:
        """The account code of a role; raises KeyError when the chart has none for it."""
        code = self.by_role.get(role) or self.by_role.get(role.partition(":")[0])
        if code is None:
            raise KeyError(role)
        return code

    def has(self, role: str) -> bool:
        """True when the chart has an account for the role."""
        return role in self.by_role or role.partition(":")[0] in self.by_role
