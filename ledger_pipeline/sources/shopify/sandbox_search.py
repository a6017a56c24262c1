"""Shopify's search syntax, as far as the sandbox knows it: `updated_at:>='2026-10-05T04:00:00Z' AND test:false`.

Like Shopify, a term on an unknown field is ignored with a warning, and of a date-time without quotes only the
date counts.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

_TERM = re.compile(r"""(?P<not>-|NOT\s+)?(?P<name>\w+):(?P<op>>=|<=|>|<|=)?(?P<value>'[^']*'|"[^"]*"|[^\s()]+)""")
_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    ">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt, "": operator.eq,
}  # fmt: skip
_END = datetime(9999, 1, 1, tzinfo=UTC)
_START = datetime(1, 1, 2, tzinfo=UTC)


@dataclass(frozen=True)
class Term:
    """`op` is "" for equality; `until` ends the day that a bare date means."""

    name: str
    op: str
    value: Any
    until: datetime | None = None
    is_negated: bool = False

    def is_met(self, found: Any) -> bool:
        if found is None:
            return self.is_negated
        if self.until is not None and not self.op:
            return bool(self.value <= found < self.until) != self.is_negated
        return bool(_OPERATORS[self.op](found, self.value)) != self.is_negated


@dataclass
class Search:
    """Alternatives (OR) of terms that must all be met; `warnings` as they go on the wire."""

    alternatives: list[list[Term]] = field(default_factory=list)
    warnings: list[dict[str, str]] = field(default_factory=list)

    def is_met(self, values: Callable[[str], Any]) -> bool:
        """`values` gives a field's value of the record at hand."""
        if not self.alternatives:
            return True
        return any(all(term.is_met(values(term.name)) for term in terms) for terms in self.alternatives)

    def bounds(self, name: str) -> tuple[datetime, datetime]:
        """The instants between which the field must lie, as wide as the alternatives leave it."""
        spans = [
            _span([term for term in terms if term.name == name and not term.is_negated]) for terms in self.alternatives
        ]
        return (min(first for first, _ in spans), max(last for _, last in spans)) if spans else (_START, _END)

    def only(self, name: str) -> Any:
        """The value that the field must equal, or None."""
        if len(self.alternatives) != 1:
            return None
        equal = (
            term.value for term in self.alternatives[0] if term.name == name and not term.op and not term.is_negated
        )
        return next(equal, None)


def _span(terms: list[Term]) -> tuple[datetime, datetime]:
    first, last = _START, _END
    for term in terms:
        if term.op in (">", ">=", ""):
            first = max(first, term.value)
        if term.op in ("<", "<="):
            last = min(last, term.value)
        elif term.op == "" and term.until is not None:
            last = min(last, term.until)
    return first, last


def parse(text: str | None, fields: dict[str, str], zone: ZoneInfo) -> Search:
    """`fields` maps each known name to time, number, text or flag; dates without a zone are the shop's."""
    search = Search()
    if not text or not text.strip():
        return search
    search.alternatives = [[] for _ in range(len(re.split(r"\sOR\s", text)))]
    for place, part in enumerate(re.split(r"\sOR\s", text)):
        for match in _TERM.finditer(part):
            term = _term(match, fields, zone, search)
            if term is not None:
                search.alternatives[place].append(term)
        rest = re.sub(r"\bAND\b|[()]", " ", _TERM.sub(" ", part)).split()
        search.warnings += [
            {"field": "default", "message": f"Free text is not searched: {word}", "code": "invalid_value"}
            for word in rest
        ]
    return search


def _term(match: re.Match[str], fields: dict[str, str], zone: ZoneInfo, search: Search) -> Term | None:
    name, raw = match["name"], match["value"]
    kind = fields.get(name)
    if kind is None:
        search.warnings.append(
            {"field": name, "message": "Invalid search field for this query.", "code": "invalid_field"}
        )
        return None
    is_quoted = raw[0] in "'\""
    value = raw.strip("'\"")
    op = (match["op"] or "").replace("==", "")
    op = "" if op == "=" else op
    try:
        parsed, until = _value(kind, value if is_quoted else value.partition("T")[0] if kind == "time" else value, zone)
    except ValueError:
        search.warnings.append(
            {"field": name, "message": f"Input `{value}` is not a valid value.", "code": "invalid_value"}
        )
        return None
    return Term(name, op, parsed, until, bool(match["not"]))


def _value(kind: str, value: str, zone: ZoneInfo) -> tuple[Any, datetime | None]:
    if kind == "number":
        return int(value.rpartition("/")[2]), None
    if kind == "flag":
        if value.lower() not in ("true", "false"):
            raise ValueError(value)
        return value.lower() == "true", None
    if kind == "text":
        return value.lower(), None
    instant = datetime.fromisoformat(value)
    instant = instant.replace(tzinfo=zone) if instant.tzinfo is None else instant
    until = instant + timedelta(days=1) if len(value) == len("2026-10-05") else None
    return instant, until
