"""What a statement is, whatever writes it: columns, rows, totals, charts, and the checks that say whether it ties.

Money in cells is a Decimal in major units that carries its currency's digits; nothing here formats it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Literal

from ledger_pipeline.model.money import from_minor
from ledger_pipeline.model.months import last_of_month, months_of, preceding_month
from ledger_pipeline.store.database import Connection

Kind = Literal["text", "money", "date", "count"]
Style = Literal["line", "heading", "total"]


@dataclass(frozen=True, slots=True)
class Link:
    """A cell that leads to the row with that anchor, in forms that have links."""

    value: int | str
    anchor: str


Cell = str | int | Decimal | date | Link | None


@dataclass(frozen=True, slots=True)
class Column:
    """`is_detail`: drill-down to the source, which HTML shows in small print below the row."""

    title: str
    kind: Kind = "text"
    is_detail: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """One cell per column. A heading opens a section; a total closes one."""

    cells: tuple[Cell, ...]
    style: Style = "line"
    anchor: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """A sum that has to come out; `difference` is zero where it does."""

    name: str
    holds: bool
    difference: str


@dataclass(frozen=True, slots=True)
class Total:
    """A figure of the statement as a whole; `name` is lower case with underscores."""

    name: str
    amount_minor: int
    currency: str

    @property
    def amount(self) -> Decimal:
        """In major units."""
        return from_minor(self.amount_minor, self.currency)


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawing with its title, as SVG text."""

    title: str
    svg: str


@dataclass(frozen=True, slots=True)
class Period:
    """A month of the range; one that was never closed is open."""

    month: date
    state: str


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose statements, for which days (both included), and when they are made. The fiscal year starts with a month, 1 to 12."""

    entity: str
    entity_name: str
    base_currency: str
    first: date
    last: date
    made_at: datetime
    fiscal_year_start: int = 1

    def __post_init__(self) -> None:
        if self.last < self.first:
            raise ValueError(f"a range from {self.first} to {self.last} runs backwards")

    @property
    def arguments(self) -> dict[str, object]:
        """For queries: entity, first, last."""
        return {"entity": self.entity, "first": self.first, "last": self.last}

    def money(self, base_minor: int) -> Decimal:
        """Base amounts in major units."""
        return from_minor(base_minor, self.base_currency)

    @property
    def fiscal_year_first(self) -> date:
        """First day of the fiscal year in which the range ends."""
        return fiscal_year_first(self.last, self.fiscal_year_start)


@dataclass(frozen=True, slots=True)
class Statement:
    """`rows` of a general ledger are streamed: they can be read once, within the transaction that made it.

    `name` is lower case with underscores; `as_of` statements speak of the last day, the others of the range.
    """

    name: str
    title: str
    scope: Scope
    columns: tuple[Column, ...]
    rows: Iterable[Row]
    checks: tuple[Check, ...]
    periods: tuple[Period, ...]
    totals: tuple[Total, ...] = ()
    charts: tuple[Chart, ...] = ()
    notes: tuple[str, ...] = ()
    as_of: bool = False
    line_count: int | None = None
    """How many lines a streamed statement has."""

    @property
    def ties(self) -> bool:
        """True when every check holds."""
        return all(check.holds for check in self.checks)

    @property
    def failures(self) -> list[str]:
        """What doesn't hold, and by how much."""
        return [f"{check.name}: off by {check.difference}" for check in self.checks if not check.holds]

    @property
    def dates(self) -> str:
        """`2026-10-01 to 2026-10-31`, or `as of 2026-10-31`."""
        return f"as of {self.scope.last}" if self.as_of else f"{self.scope.first} to {self.scope.last}"


def zero(name: str, minor: int, currency: str) -> Check:
    """Holds when nothing is left."""
    return Check(name, minor == 0, f"{from_minor(minor, currency):,} {currency}")


def all_zero(name: str, by_currency: Iterable[tuple[str, int]]) -> Check:
    """Holds when nothing is left in any currency."""
    left = [f"{from_minor(minor, currency):,} {currency}" for currency, minor in by_currency if minor]
    return Check(name, not left, ", ".join(left) or "0")


def periods(connection: Connection, scope: Scope) -> tuple[Period, ...]:
    """The months that the range touches, with their states."""
    states = dict(
        connection.execute(
            "SELECT month, state FROM ledger.period WHERE entity = %(entity)s AND month <= %(last)s", scope.arguments
        ).fetchall()
    )
    return tuple(Period(month, states.get(month, "open")) for month in months_of(scope.first, scope.last))


def fiscal_year_first(day: date, start: int) -> date:
    """First day of the fiscal year that a day lies in; the year starts with month `start`."""
    return date(day.year if day.month >= start else day.year - 1, start, 1)


def preceding_range(first: date, last: date) -> tuple[date, date]:
    """As many whole months before a range of whole months, else as many days before it."""
    before = first - timedelta(days=1)
    if first.day == 1 and last == last_of_month(last):
        start = first
        for _ in months_of(first, last):
            start = preceding_month(start)
        return start, before
    return before - (last - first), before


def heading(text: str, columns: Sequence[Column], at: int = 0) -> Row:
    """A row that opens a section, its text in column `at`."""
    return Row(tuple(text if n == at else None for n in range(len(columns))), "heading")
