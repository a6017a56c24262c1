"""`statements` from the command line: files, JSON, the last full month, and an end with 1 when something doesn't tie."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
import typer

from ledger_pipeline.commands.statements import scope_of, statements
from ledger_pipeline.config import ConfigError
from ledger_pipeline.orchestration.runtime import Runtime
from ledger_pipeline.reports.statements import STATEMENTS
from ledger_pipeline.store.database import Database
from ledger_pipeline_tests.commands.desk import Desk
from ledger_pipeline_tests.reports.statements.conftest import Books

CONFIG = """\
database_url: {url}
entities:
  acme: {{name: Acme Inc., base_currency: USD, time_zone: America/New_York, fiscal_year_start: 7}}
  other: {{name: Other Ltd, base_currency: JPY, time_zone: Asia/Tokyo}}
connections: {{}}
"""
OCTOBER = ("--from", "2026-10-01", "--to", "2026-10-31")


class Shop(Desk):
    """The command on books with one sale and its money."""

    catches = True

    def __init__(self, folder: Path, database: Database) -> None:
        super().__init__(folder / "ledger.yaml")
        self.folder, self.database = folder, database
        self.more = ("--output", str(folder / "out"))
        self.config.write_text(CONFIG.format(url=database.url))
        books = Books(database)
        books.post("=1+1", date(2026, 10, 5), ("order_clearing:x", 1000), ("sales", -1000))
        books.post("b1", date(2026, 10, 6), ("bank:a", 1000), ("order_clearing:x", -1000), record="bank_transaction")
        self.app = typer.Typer()
        self.app.command()(statements)

    def files(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "out").iterdir())

    def unbalance(self) -> None:
        """An edit by a superuser behind the books' back."""
        with self.database.connect("owner") as connection:
            connection.execute("ALTER TABLE ledger.line DISABLE TRIGGER ALL")
            connection.execute("UPDATE ledger.line SET base_minor = base_minor + 7 WHERE role = 'bank:a'")


@pytest.fixture
def desk(tmp_path: Path, database: Database) -> Shop:
    return Shop(tmp_path, database)


def test_every_entity_gets_its_file_and_the_table_fits_a_terminal(desk: Shop) -> None:
    done = desk(*OCTOBER)
    assert done.exit_code == 0, done.output
    assert desk.files() == [f"{e}_statements_2026-10-01_2026-10-31.html" for e in ("acme", "other")]
    assert "Acme Inc., 2026-10-01 to 2026-10-31" in done.stdout
    assert all(len(line) <= 80 for line in done.stdout.splitlines() if not line.startswith("wrote"))
    assert done.stdout.count("wrote ") == 2


@pytest.mark.parametrize("form", ["csv", "json", "xlsx"])
def test_a_format_and_statements_can_be_chosen(desk: Shop, form: str) -> None:
    rows = desk.json("--entity", "acme", *OCTOBER, "--format", form, "--only", "cash_flow", "--only", "trial_balance")
    assert [(row["statement"], row["ties"]) for row in rows] == [("trial_balance", True), ("cash_flow", True)]
    assert {Path(row["file"]).name for row in rows} <= set(desk.files())
    assert all(row["file"].endswith(form) and row["checks"] for row in rows)


def test_figures_reach_the_file(desk: Shop) -> None:
    (row,) = desk.json("--entity", "acme", *OCTOBER, "--format", "json", "--only", "profit_and_loss")
    totals = json.loads(Path(row["file"]).read_text())["totals"]
    assert totals["net_profit"] == {"amount": "10.00", "currency": "USD"}


def test_what_does_not_tie_ends_with_1_and_is_named(desk: Shop) -> None:
    desk.unbalance()
    done = desk("--entity", "acme", *OCTOBER, "--format", "csv")
    assert done.exit_code == 1
    assert "does not tie" in done.stdout
    assert "acme_trial_balance_2026-10-01_2026-10-31.DOES_NOT_TIE.csv" in desk.files()
    rows = desk.json("--entity", "acme", *OCTOBER, code=1)
    off = {
        row["statement"]: [c["difference"] for c in row["checks"] if not c["holds"]] for row in rows if not row["ties"]
    }
    assert off == {
        "trial_balance": ["0.07 USD", "0.07 USD"],
        "profit_and_loss": ["-0.07 USD"],
        "balance_sheet": ["0.07 USD"],
        "cash_flow": ["-0.07 USD"],
        "general_ledger": ["1 entries", "0.07 USD"],
    }


def test_without_dates_it_is_the_last_month_that_ended_in_the_entitys_zone(desk: Shop) -> None:
    runtime = Runtime.from_file(desk.config)
    runtime.clock = lambda: datetime(2026, 11, 30, 20, tzinfo=UTC)  # 1 December in Tokyo
    ranges = {entity: scope_of(runtime, entity, None) for entity in ("acme", "other")}
    assert [str(d) for d in (ranges["acme"].first, ranges["acme"].last)] == ["2026-10-01", "2026-10-31"]
    assert [str(d) for d in (ranges["other"].first, ranges["other"].last)] == ["2026-11-01", "2026-11-30"]
    assert ranges["acme"].fiscal_year_first == date(2026, 7, 1)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--format", "pdf"), "'pdf' is no format; known are html, csv, xlsx, json"),
        (("--only", "cashflow"), f"'cashflow' is no statement; known are {', '.join(STATEMENTS)}"),
        (("--from", "2026-10-01"), "--from and --to go together"),
        (("--from", "1.10.2026", "--to", "2026-10-31"), "'1.10.2026' is no date; write YYYY-MM-DD"),
    ],
)
def test_a_wrong_use_is_said_and_ends_with_2(desk: Shop, arguments: tuple[str, ...], said: str) -> None:
    done = desk(*arguments)
    assert done.exit_code == 2
    assert said in " ".join(done.output.replace("│", " ").split())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--entity", "acne"), "unknown entity 'acne'; known are acme, other"),
        (("--from", "2026-10-31", "--to", "2026-10-01"), "--to 2026-10-01 lies before --from 2026-10-31"),
    ],
)
def test_what_the_configuration_does_not_know_is_refused(desk: Shop, arguments: tuple[str, ...], said: str) -> None:
    done = desk(*arguments)
    assert isinstance(done.exception, ConfigError)
    assert done.exception.mistakes == [said]
