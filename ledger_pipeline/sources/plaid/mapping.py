"""Plaid's transactions and accounts as canonical records."""

from __future__ import annotations

import pyarrow as pa

from ledger_pipeline.connect.banking import (
    number_to_minor_negated,
    official_currency,
    own_account,
    own_account_role,
    role_of_debit_line,
)
from ledger_pipeline.connect.convert import constant, date_iso, each, number_to_minor, text
from ledger_pipeline.connect.mapping import Field, Mapping

STATE = each(
    "pending or booked", "pending true is pending.", ("bool",), lambda p: "pending" if p else "booked", pa.string()
)

TRANSACTION = Mapping(
    "bank_transaction",
    "transactions",
    fields=(
        Field("source_id", ("transaction_id",), text),
        Field("account_id", ("account_id",), own_account),
        Field("booked_on", ("date",), date_iso),
        Field("state", ("pending",), STATE),
        Field("currency", ("iso_currency_code?", "unofficial_currency_code?"), official_currency),
        Field("amount_minor", ("amount", "iso_currency_code?", "unofficial_currency_code?"), number_to_minor_negated),
        Field("description", ("name?",), text),
        Field("pending_id", ("pending_transaction_id?",), text),
        Field("bank_role", ("account_id",), own_account_role),
        Field("role", ("name?", "amount"), role_of_debit_line),
    ),
)
BALANCE = Mapping(
    "bank_balance",
    "accounts",
    fields=(
        Field("source_id", ("account_id",), text),
        Field("account_id", ("account_id",), own_account),
        Field("kind", (), constant("current", pa.string())),
        Field("currency", ("balances.iso_currency_code?", "balances.unofficial_currency_code?"), official_currency),
        Field("amount_minor", ("balances.current", "balances.iso_currency_code?"), number_to_minor),
    ),
)
MAPPINGS = (TRANSACTION, BALANCE)
