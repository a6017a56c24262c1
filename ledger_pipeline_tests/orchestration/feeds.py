"""A company whose one bank account is told of by several connections: files that are written alike, under names of their own."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from ledger_pipeline.orchestration import steps
from ledger_pipeline.orchestration.runtime import Runtime
from ledger_pipeline.store.database import Database
from ledger_pipeline.store.proof import verify

MONDAY = date(2026, 10, 5)
HEAD = """\
database_url: {url}
entities:
  acme: {{name: Acme, base_currency: GBP, time_zone: UTC, country: GB}}
connections:
"""
FEED = """\
  {name}:
    entity: acme
    source: delimited_file
    folder: {folder}/{name}
    pattern: "{{date}}*.csv"
    same_as: [{same_as}]
    accounts: {{ {name}-account: operating }}
    quarantine_limit: 1
    map:
      record: bank_transaction
      account: {{ value: {name}-account }}
      columns: {{ date: Date, amount: Amount, description: Text, reference: Reference }}
      currency: {{ value: GBP }}
"""
TILL = """\
  {name}:
    entity: acme
    source: delimited_file
    folder: {folder}/{name}
    pattern: "{{date}}*.csv"
    same_as: [{same_as}]
    quarantine_limit: 1
    map:
      record: sale
      group_by: Number
      columns: {{ occurred_at: {{column: Date, format: "%Y-%m-%d", time_zone: UTC}}, unit_price: Amount, gateway: {{value: till}} }}
      currency: {{ value: GBP }}
"""
END = 'schedule: {start: "2026-10-01"}\n'


def on(days: int) -> date:
    """Days after Monday."""
    return MONDAY + timedelta(days=days)


class Feeds:
    """The connections and what they deliver; a line is (day of booking, amount, words) and maybe a reference."""

    def __init__(self, folder: Path, database: Database, same_as: dict[str, str], kind: str = FEED) -> None:
        """`same_as`: by connection, the others of which it says that they tell of the same events."""
        self.folder, self.database = folder, database
        self.config = folder / "ledger.yaml"
        self.configure(same_as, kind)
        self.runtime.database.connect("reader")

    def configure(self, same_as: dict[str, str], kind: str = FEED) -> None:
        """Write ledger.yaml (anew)."""
        made = [kind.format(name=name, folder=self.folder, same_as=others) for name, others in same_as.items()]
        self.config.write_text(HEAD.format(url=self.database.url) + "".join(made) + END)
        for name in same_as:
            (self.folder / name).mkdir(exist_ok=True)
        self.runtime = Runtime.from_file(self.config)
        self.runtime.clock = lambda: datetime(2026, 11, 30, tzinfo=UTC)

    def deliver(self, name: str, day: int, *lines: tuple[Any, ...], head: str = "Date,Amount,Text,Reference") -> None:
        """A sync date's file."""
        rows = [",".join([str(on(line[0])), *map(str, line[1:])] + [""] * (4 - len(line))) for line in lines]
        (self.folder / name / f"{on(day)}.csv").write_text("\n".join([head, *rows]) + "\n")

    def sell(self, name: str, day: int, *sales: tuple[str, str]) -> None:
        """A sync date's sales: (number, amount)."""
        rows = [f"{number},{on(day)},{amount}" for number, amount in sales]
        (self.folder / name / f"{on(day)}.csv").write_text("\n".join(["Number,Date,Amount", *rows]) + "\n")

    def night(self, name: str, day: int, *lines: tuple[Any, ...]) -> steps.Day:
        """Deliver the lines and run the day; without lines, what was delivered."""
        if lines:
            self.deliver(name, day, *lines)
        return steps.run_day(self.runtime, name, on(day), "test")

    def rows(self, query: str, *arguments: Any) -> list[tuple[Any, ...]]:
        """What a query says, as the reader."""
        with self.database.connect("reader") as connection:
            return connection.execute(query, arguments).fetchall()

    def balances(self) -> dict[str, int]:
        """Balance by role, in minor units."""
        return dict(self.rows("SELECT role, amount_minor FROM ledger.balance WHERE amount_minor <> 0"))  # type: ignore[arg-type]

    def live(self) -> list[str]:
        """Connections of the entries that stand."""
        return [row[0] for row in self.rows("SELECT connection FROM ledger.live_entry ORDER BY 1, entry_id")]

    def fates(self, name: str) -> list[tuple[str, str]]:
        """(fate, reason) of a connection's payloads, in the order of landing."""
        return self.rows("SELECT fate, reason FROM ops.fate WHERE connection = %s ORDER BY raw_id", name)  # type: ignore[return-value]

    def is_proven(self) -> bool:
        """`verify` finds nothing."""
        return verify(self.database).findings == []


def book(feeds: Feeds, jobs: Iterable[tuple[str, int]]) -> None:
    """Run days in this order."""
    for name, day in jobs:
        feeds.night(name, day)
