"""`open-items` and `reconcile` from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from ledger_pipeline.commands.reconcile import open_items, reconcile
from ledger_pipeline.store.database import Database
from ledger_pipeline_tests.commands.desk import Desk
from ledger_pipeline_tests.reconcile.conftest import Desk as Acme

CONFIG = """\
database_url: {url}
entities:
  acme: {{name: Acme Inc., base_currency: USD, time_zone: UTC}}
connections: {{}}
"""
BY = ("--by", "Ann")


class Office(Desk):
    """The commands on a company with an order and its payment, and a payout that the bank may show."""

    def __init__(self, folder: Path, database: Database) -> None:
        super().__init__(folder / "ledger.yaml")
        self.acme = Acme(database)
        self.config.write_text(CONFIG.format(url=database.url))
        self.app = typer.Typer()
        self.app.add_typer(reconcile, name="reconcile")
        self.app.command()(open_items)

    def fill(self) -> None:
        self.acme.sale("o1", 8_449)
        self.acme.charge("t1", "o1", 8_449)
        self.acme.payout("po_1", 50_000)
        self.acme.bank("b1", 50_000, 1, "WIRE IN 77")


@pytest.fixture
def desk(tmp_path: Path, database: Database) -> Office:
    return Office(tmp_path, database)


def test_run_says_what_it_matched_and_then_nothing_new(desk: Office) -> None:
    desk.fill()
    assert (
        desk("reconcile", "run").output == "acme: 1 matched, 1 suggested, 0 joined, 0 dissolved; 2 records are open\n"
    )
    assert desk("reconcile", "run").output == "acme: nothing new; 2 records are open\n"
    assert desk.json("reconcile", "run", "--entity", "acme")[0]["matched"] == 0
    assert desk("reconcile", "run", "--entity", "nobody").exit_code == 1


def test_a_suggestion_is_shown_with_its_reasons_and_accepted(desk: Office) -> None:
    desk.fill()
    desk("reconcile", "run")
    said = desk("reconcile", "suggestions").output
    assert "acme payout_in_transit: scored, score 760" in said
    assert "500.00 USD  stripe/processor_transaction/txn_po_1" in said
    assert "amounts are equal; 1 business day apart" in said
    assert said.endswith("1 suggestion\n")
    (one,) = desk.json("reconcile", "suggestions")
    done = desk("reconcile", "accept", str(one["match_id"]), *BY)
    assert (done.exit_code, done.output) == (0, f"match {one['match_id']} counts, accepted by Ann\n")
    assert desk.json("reconcile", "suggestions") == []
    assert desk("open-items").output == "acme: nothing is open at the end of 2026-10-06\n"
    again = desk("reconcile", "accept", str(one["match_id"]), *BY)
    assert (again.exit_code, "counts already" in again.output) == (1, True)


def test_a_rejected_suggestion_is_gone(desk: Office) -> None:
    desk.fill()
    desk("reconcile", "run")
    (one,) = desk.json("reconcile", "suggestions")
    assert (
        desk.json("reconcile", "reject", str(one["match_id"]), *BY, "--reason", "another customer")["match_id"]
        == one["match_id"]
    )
    desk("reconcile", "run")
    assert desk("reconcile", "suggestions").output == "0 suggestions\n"
    assert desk("reconcile", "reject", "99", *BY).exit_code == 1


def test_open_items_are_listed_with_their_cause_within_eighty_columns(desk: Office) -> None:
    desk.fill()
    desk("reconcile", "run")
    result = desk("open-items", "--date", "2026-10-20")
    assert result.exit_code == 1  # a payout is overdue, a deposit is unexplained
    assert max(map(len, result.stdout.partition("payout overdue")[0].splitlines())) <= 80
    assert "payment missing" in result.output
    assert "payout overdue: 500.00 USD po_1: " in result.output
    assert "deposit unexplained: -500.00 USD b1: " in result.output
    (data,) = desk.json("open-items", "--date", "2026-10-20", "--entity", "acme", code=1)
    assert [(i["amount_minor"], i["cause"], i["age_days"]) for i in data["open_items"]] == [
        (50_000, "payment missing", 15),
        (-50_000, "order missing", 14),
    ]
    assert (data["differences"], data["by_cause_base_minor"]["payment missing"]) == ([], 50_000)


def test_before_anything_is_posted(desk: Office) -> None:
    result = desk("open-items")
    assert (result.exit_code, "nothing is posted yet" in result.output) == (1, True)
    assert desk("open-items", "--date", "yesterday").exit_code == 2
