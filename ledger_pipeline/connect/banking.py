"""What every bank source shares: the sign, the currency that may be unofficial, and the declared categorisation of lines."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated, Literal

import pyarrow as pa
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from ledger_pipeline.connect.convert import each, minor
from ledger_pipeline.connect.mapping import Column, Converter, Report
from ledger_pipeline.model.categories import categorise, first_fitting


class Categorise(BaseModel):
    """A rule for bank lines: the first one whose text occurs in the description (any case) says what the line is.

    `examples` are descriptions that it must take; a configuration whose rules say otherwise isn't loaded.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    contains: str = Field(min_length=1)
    role: str
    direction: Literal["in", "out", "both"] = "both"
    examples: tuple[str, ...] = ()


def _take_their_examples(rules: tuple[Categorise, ...]) -> tuple[Categorise, ...]:
    plain = [rule.model_dump() for rule in rules]
    for number, rule in enumerate(rules):
        for example in rule.examples:
            taken = first_fitting(example, rule.direction != "out", plain)
            if taken != number:
                by = (
                    "no rule takes it"
                    if taken is None
                    else f"rule {taken + 1} ({rules[taken].contains!r}) takes it first"
                )
                raise ValueError(f"rule {number + 1} ({rule.contains!r}): its example {example!r} isn't its own: {by}")
    return rules


Rules = Annotated[tuple[Categorise, ...], AfterValidator(_take_their_examples)]
"""Rules in their order, each held against its examples."""


def _role(sign: int, wire: Literal["number", "str"] = "number") -> Converter:
    def run(columns: Sequence[Column], report: Report) -> pa.Array:
        rules = report.settings.options.get("categorise", [])
        return pa.array(
            [
                categorise(d, sign * Decimal(a) > 0, rules) if a is not None else None
                for d, a in zip(*columns, strict=True)
            ],
            pa.string(),
        )

    return Converter("first categorisation rule that fits", ("str", wire), run, "ledger.yaml: categorise.")


role_of_line = _role(1)
role_of_debit_line = _role(-1)
"""For sources that state money out as positive (Plaid)."""
role_of_text_line = _role(1, "str")
"""For amounts that are decimal text."""


def _negated(columns: Sequence[Column], report: Report) -> pa.Array:
    currencies = [official or unofficial for official, unofficial in zip(columns[1], columns[2], strict=True)]
    values, is_valid = minor([columns[0], currencies], report)
    return pa.array(-values, pa.int64(), mask=~is_valid)


number_to_minor_negated = Converter(
    "JSON number to minor units, sign turned",
    ("number", "str", "str"),
    _negated,
    "Read as a decimal, never as a float; exact or an error. The source states money out as positive.",
)
official_currency = each(
    "official currency",
    "iso_currency_code; an unofficial code (crypto, loyalty points) has no minor unit and is an error.",
    ("str", "str"),
    lambda official, unofficial: official or _unofficial(unofficial),
    pa.string(),
)


def _unofficial(code: str | None) -> str:
    raise ValueError(f"unknown currency {code!r} (not an active ISO 4217 code)")


bank_account_role = each(
    "bank:{account}", "The ledger's account of this bank account.", ("str",), lambda a: f"bank:{a}", pa.string()
)


def _own_name(prefix: str) -> Converter:
    def run(columns: Sequence[Column], report: Report) -> pa.Array:
        names = report.settings.options.get("accounts", {})
        return pa.array([None if a is None else prefix + names.get(a, a) for a in columns[0]], pa.string())

    name = f"{prefix}{{account}}" if prefix else "account"
    return Converter(name, ("str",), run, "By its own name where ledger.yaml gives one (accounts).")


own_account = _own_name("")
own_account_role = _own_name("bank:")
"""For sources whose payload has the source's own id: file and feed name one account differently."""


def line_id(
    account_id: str,
    booked_on: str,
    amount: str,
    currency: str,
    description: str,
    reference: str | None,
    counted: Counter[str],
) -> str:
    """The identity of a line that has no id: what it says, and the how-manieth it is of the lines that say the same.

    `counted` belongs to one statement: delivered again, under whatever name, it yields the same ids; two equal lines are two. `amount`
    is decimal text in one form per value.
    """
    said = "\x1f".join((account_id, booked_on, amount, currency, description, reference or ""))
    digest = hashlib.sha256(said.encode()).hexdigest()[:32]
    counted[digest] += 1
    return f"{digest}:{counted[digest]}"
