"""What a bank line is by its text: the first rule that fits, in the order in which the rules are declared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def first_fitting(description: str | None, is_in: bool, rules: Sequence[Mapping[str, Any]]) -> int | None:
    """The position of the rule that takes a line; None without one."""
    text = (description or "").casefold()
    for position, rule in enumerate(rules):
        if rule["contains"].casefold() in text and rule["direction"] in ("both", "in" if is_in else "out"):
            return position
    return None


def categorise(description: str | None, is_in: bool, rules: Sequence[Mapping[str, Any]]) -> str:
    """The role of the other side of a bank line; unknown money in is unidentified, unknown money out uncategorised."""
    position = first_fitting(description, is_in, rules)
    if position is not None:
        return str(rules[position]["role"])
    return "unidentified_receipts" if is_in else "uncategorised_expense"
