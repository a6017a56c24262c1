"""`reconcile statements` from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from ledger_pipeline.commands.statement_balances import statements
from ledger_pipeline.store.database import Database
from ledger_pipeline_tests.reconcile.conftest import Desk
from ledger_pipeline_tests.reconcile.test_statements import state

CONFIG = """\
database_url: {url}
entities:
  acme: {{name: Acme Inc., base_currency: USD, time_zone: UTC}}
connections:
  bank: {{entity: acme, source: stripe, api_key: k}}
"""


class Command:
    """The command on a company with a bank account."""

    def __init__(self, folder: Path, database: Database) -> None:
        self.acme = Desk(database)
        self.config = folder / "ledger.yaml"
        self.config.write_text(CONFIG.format(url=database.url))
        self.app = typer.Typer()
        self.app.command()(statements)

    def __call__(self, *arguments: str) -> Result:
        return CliRunner().invoke(self.app, [*arguments, "--config", str(self.config)], env={"COLUMNS": "80"})


@pytest.fixture
def command(tmp_path: Path, database: Database) -> Command:
    return Command(tmp_path, database)


def test_what_agrees_ends_with_0(command: Command) -> None:
    assert (command().exit_code, command().output) == (0, "no bank has stated a balance\n")
    state(command.acme, 10_000, 0)
    command.acme.bank("b1", 500, 1)
    state(command.acme, 10_500, 1)
    result = command("--entity", "acme")
    assert result.exit_code == 0, result.output
    assert "agrees" in result.output
    assert "105.00 USD" in result.output
    assert result.output.endswith("2 stated balances, all agree\n")
    assert command("--entity", "nobody").exit_code == 1


def test_what_differs_ends_with_1_and_names_the_day_and_the_lines(command: Command) -> None:
    state(command.acme, 10_000, 0)
    command.acme.bank("b1", 500, 1)
    state(command.acme, 10_000, 1)
    result = command()
    assert result.exit_code == 1
    table, _, rest = result.output.partition("bank a1: ")
    assert max(map(len, table.splitlines())) <= 80
    assert "differs" in table
    assert rest.splitlines() == [
        "differs from 2026-10-06 by -5.00 USD, agreed on 2026-10-05; explained by what is around it",
        "    2026-10-06  unmatched          -5.00 USD  b1: nothing on payout_in_transit belongs to it",
        "2 stated balances, 1 account differs",
    ]
    result = command("--json")
    assert result.exit_code == 1
    (data,) = json.loads(result.stdout)
    assert (data["agrees"], data["first_differing"], data["difference_minor"]) == (False, "2026-10-06", -500)
    assert (data["is_explained"], data["opening_minor"]) == (True, 10_000)
    assert [b["difference_minor"] for b in data["balances"]] == [0, -500]
    assert data["lines"][0]["source_id"] == "b1"
