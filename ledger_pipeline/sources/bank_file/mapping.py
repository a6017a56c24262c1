"""Statements as canonical bank lines and balances; a document with a `fault` is refused with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from ledger_pipeline.connect.banking import bank_account_role, role_of_text_line
from ledger_pipeline.connect.convert import currency, date_iso, decimal_text_to_minor, each, text
from ledger_pipeline.connect.mapping import Column, Converter, Field, Mapping, Report, Where


def _checked(kind: str) -> Converter:
    """A balance's id, or the document's fault as an error."""

    def run(columns: Sequence[Column], report: Report) -> pa.Array:
        for row, fault in enumerate(columns[1]):
            if fault is not None:
                report.error(row, fault, argument=1)
        return pa.array([None if i is None else f"{i}:{kind}" for i in columns[0]], pa.string())

    return Converter(
        f"{{statement}}:{kind}, unless it is refused",
        ("str", "str"),
        run,
        "A statement that doesn't tie or can't be read is an error.",
    )


def _either(stated: Any, fault: str | None) -> bool:
    return stated is not None or fault is not None


IS_STATED = each("is stated", "A balance that the statement has.", ("str", "str"), _either, pa.bool_())


def _always(kind: str) -> Converter:
    return each(kind, "A constant.", ("str",), lambda _: kind, pa.string())


def _balance(kind: str) -> Mapping:
    return Mapping(
        "bank_balance",
        "statements",
        where=Where((f"{kind}?.amount?", "fault?"), IS_STATED),
        fields=(
            Field("source_id", ("source_id?", "fault?"), _checked(kind)),
            Field("account_id", ("account_id?",), text),
            Field("stated_on", (f"{kind}?.date?",), date_iso),
            Field("kind", ("source_id?",), _always(kind)),
            Field("currency", (f"{kind}?.currency?",), currency),
            Field("amount_minor", (f"{kind}?.amount?", f"{kind}?.currency?"), decimal_text_to_minor),
        ),
    )


LINE = Mapping(
    "bank_transaction",
    "statements",
    each="lines[]",
    fields=(
        Field("source_id", ("line_id",), text),
        Field("account_id", ("^.account_id?",), text),
        Field("booked_on", ("booked_on",), date_iso),
        Field("state", ("state",), text),
        Field("currency", ("currency",), currency),
        Field("amount_minor", ("amount", "currency"), decimal_text_to_minor),
        Field("description", ("description?",), text),
        Field("reference", ("reference?",), text),
        Field("bank_role", ("^.account_id?",), bank_account_role),
        Field("role", ("description?", "amount"), role_of_text_line),
    ),
)
MAPPINGS = (_balance("opening"), _balance("closing"), LINE)
