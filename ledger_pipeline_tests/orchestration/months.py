"""A small company with a month that can be closed: a bank connection whose every night of September 2024 is in."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from ledger_pipeline.orchestration import steps
from ledger_pipeline.orchestration.runtime import Runtime
from ledger_pipeline.store.database import Database

SEPTEMBER = date(2024, 9, 1)
NOW = datetime(2024, 10, 1, 5, tzinfo=UTC)
NIGHTS = [date(2024, 9, 28) + timedelta(days=n) for n in range(3)]
CONFIG = """\
database_url: {url}
entities:
  acme: {{name: Acme, base_currency: GBP, time_zone: UTC}}
connections:
  bank:
    entity: acme
    source: delimited_file
    folder: {folder}/bank
    pattern: "{{date}}.csv"
    map:
      record: bank_transaction
      account: {{ value: bank }}
      columns:
        date: Date
        amount: Amount
        description: Text
      currency: {{ value: GBP }}
schedule:
  start: "2024-09-28"
"""


def company(folder: Path, database: Database) -> Path:
    """Its ledger.yaml; nothing is pulled yet."""
    (folder / "bank").mkdir()
    path = folder / "ledger.yaml"
    path.write_text(CONFIG.format(url=database.url, folder=folder))
    return path


def deliver(folder: Path, day: date, *lines: str) -> None:
    """A day's file: `date,amount,text` lines."""
    (folder / "bank" / f"{day}.csv").write_text("\n".join(["Date,Amount,Text", *lines]) + "\n")


def booked_month(folder: Path, database: Database) -> Path:
    """Three nights with a bank line each, done on the first of October; returns ledger.yaml."""
    path = company(folder, database)
    runtime = Runtime.from_file(path)
    runtime.clock = lambda: NOW
    for number, day in enumerate(NIGHTS, 1):
        deliver(folder, day, f"{day},{number}.00,line {number}")
        assert steps.run_day(runtime, "bank", day, "test").error is None
    return path
