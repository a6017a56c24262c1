"""Likely duplicates of a bank account are posted and asked about; what a person says is kept, applied, and can be taken back."""

from __future__ import annotations

import json
from pathlib import Path

import dagster as dg
import psycopg
import pytest
from typer.testing import CliRunner

from ledger_pipeline.cli import app
from ledger_pipeline.orchestration import duplicates
from ledger_pipeline.orchestration.build import build_defs
from ledger_pipeline.reconcile.flags import DecisionRefused, Flag
from ledger_pipeline.store.database import Database
from ledger_pipeline_tests.orchestration.feeds import Feeds, on

PAID = (0, "-250.00", "ACME SUPPLIES")
ANN = {"by": "Ann Lee", "reason": "called the supplier", "run_id": "act"}


@pytest.fixture
def feeds(database: Database, tmp_path: Path) -> Feeds:
    return Feeds(tmp_path, database, {"feed": "", "file": "feed"})


def flags(feeds: Feeds, *, is_open: bool = True) -> list[Flag]:
    return duplicates.waiting(feeds.runtime, is_open=is_open)[0]


def test_equal_payments_are_flagged_and_posted(feeds: Feeds) -> None:
    day = feeds.night("feed", 0, PAID, PAID)
    assert day.checked is not None
    (flag,) = day.checked.likely_duplicates
    assert (flag.what, flag.amount_minor, flag.reason) == (
        "line",
        -25_000,
        "two equal bank lines of -250.00 GBP, on the same day",
    )
    assert feeds.balances()["bank:operating"] == -50_000
    feeds.night("feed", 0)
    feeds.night("feed", 1, (1, "-250.00", "ACME SUPPLIES"))
    assert [f.happened_on for f in flags(feeds)] == [on(0), on(1)]


def test_a_duplicate_is_ignored_by_name_and_its_entry_reversed_until_both_are_real(feeds: Feeds) -> None:
    feeds.night("feed", 0, PAID, PAID, (0, "-1.00", "FEE"))
    (flag,) = flags(feeds)
    done = duplicates.decide(feeds.runtime, flag.flag_id, "duplicate", **ANN)
    assert (done.entries, done.closed) == (1, [])
    assert feeds.balances()["bank:operating"] == -25_100
    assert flags(feeds) == []
    ignored = [reason for fate, reason in feeds.fates("feed") if fate == "ignored"]
    twin = f"feed/bank_transaction/{flag.twin_source_id}"
    assert ignored == [f"ignored by Ann Lee: a duplicate of {twin}: called the supplier"]
    feeds.night("feed", 0)
    assert feeds.balances()["bank:operating"] == -25_100
    assert flags(feeds) == []
    assert feeds.is_proven()
    with pytest.raises(DecisionRefused, match="decided so already, by Ann Lee"):
        duplicates.decide(feeds.runtime, flag.flag_id, "duplicate", **ANN)
    duplicates.decide(feeds.runtime, flag.flag_id, "both_real", **ANN)
    assert feeds.balances()["bank:operating"] == -50_100
    assert [f.decision for f in flags(feeds, is_open=False)] == ["both_real"]
    assert feeds.rows("SELECT action, by_whom FROM ops.action") == [("duplicates", "Ann Lee")] * 2
    assert feeds.is_proven()


def test_a_line_that_two_paths_book_on_days_near_each_other_is_flagged_and_can_be_united(feeds: Feeds) -> None:
    feeds.night("feed", 1, (0, "-80.00", "CARD 4417 GARAGE"))
    feeds.night("file", 1, (1, "-80.00", "Garage"))
    (flag,) = flags(feeds)
    assert (flag.what, flag.connection, flag.twin_connection) == ("path", "file", "feed")
    assert feeds.live() == ["feed", "file"]
    duplicates.decide(feeds.runtime, flag.flag_id, "duplicate", **ANN)
    assert feeds.live() == ["feed"]
    assert feeds.balances()["bank:operating"] == -8_000
    assert feeds.is_proven()


def test_what_exact_identity_unites_is_not_flagged(feeds: Feeds) -> None:
    feeds.night("feed", 0, PAID)
    feeds.night("file", 0, PAID)
    assert flags(feeds) == []


def test_flags_and_decisions_cannot_be_changed(feeds: Feeds) -> None:
    feeds.night("feed", 0, PAID, PAID)
    (flag,) = flags(feeds)
    duplicates.decide(feeds.runtime, flag.flag_id, "both_real", **ANN)
    for table in ("flag", "flag_decision"):
        with pytest.raises(psycopg.errors.Error, match="append-only"), feeds.database.connect("owner") as connection:
            connection.execute(f"DELETE FROM recon.{table}")


def test_the_command_lists_and_decides(feeds: Feeds) -> None:
    feeds.night("feed", 0, PAID, PAID)

    def run(*arguments: str, code: int = 0) -> str:
        result = CliRunner().invoke(
            app, ["duplicates", *arguments, "--config", str(feeds.config)], catch_exceptions=False
        )
        assert result.exit_code == code, result.output
        return result.output

    assert "two equal bank lines of -250.00 GBP, on the same day" in run()
    (flag,) = json.loads(run("list", "--json"))["flags"]
    id_ = str(flag["flag_id"])
    word = ("--by", "Ann Lee", "--reason", "two orders")
    assert "stays; 0 new entries" in run("decide", id_, "both-real", *word)
    assert "0 wait for a person" in run("list")
    assert "both real, says Ann Lee: two orders" in run("list", "--all")
    assert "there is no flag 999" in run("decide", "999", "duplicate", *word, code=1)


def test_the_asset_check_warns_and_the_day_is_posted(feeds: Feeds) -> None:
    feeds.deliver("feed", 0, PAID, PAID)
    defs = build_defs(feeds.config)
    job = defs.get_job_def("nightly")
    with dg.DagsterInstance.ephemeral() as instance:
        done = job.execute_in_process(
            instance=instance,
            partition_key=str(on(0)),
            asset_selection=[key for key in job.asset_layer.asset_graph.get_all_asset_keys() if "feed" in key.path],
        )
    assert done.success
    (found,) = [e for e in done.get_asset_check_evaluations() if e.check_name == "likely_duplicates"]
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert found.description == "1 to decide: `ledger-pipeline duplicates`"
    assert feeds.balances()["bank:operating"] == -50_000


STATEMENT = """\
:20:{name}
:25:GB12/345
:28C:{number}
:60F:C261005GBP{opening}
:61:2610051005D3,50NTRFNONREF
:86:COFFEE
:62F:C261005GBP{closing}
"""


def test_an_equal_line_of_a_statement_that_continues_another_files_is_flagged(feeds: Feeds) -> None:
    """Two sync dates' files: an intraday statement, the next one, and the first one once more."""
    folder = feeds.folder / "mt"
    folder.mkdir()
    own = f"  mt: {{entity: acme, source: bank_file, folder: {folder}, quarantine_limit: 1}}\n"
    feeds.config.write_text(feeds.config.read_text().replace("schedule:", own + "schedule:"))
    feeds.runtime = type(feeds.runtime).from_file(feeds.config)
    first = STATEMENT.format(name="A", number="1/1", opening="10,00", closing="6,50")
    (folder / f"{on(0)}.sta").write_text(first)
    (folder / f"{on(1)}.sta").write_text(STATEMENT.format(name="B", number="1/2", opening="6,50", closing="3,00"))
    (folder / f"{on(2)}.sta").write_text(first.replace(":20:A", ":20:C"))
    for day in range(3):
        assert feeds.night("mt", day).error is None
    (flag,) = flags(feeds)
    assert (flag.what, flag.amount_minor, flag.sync_date) == ("statement", -350, on(1))
    assert feeds.balances()["bank:GB12/345"] == -350
    duplicates.decide(feeds.runtime, flag.flag_id, "duplicate", **ANN)
    assert feeds.balances()["bank:GB12/345"] == -350  # the one line that stands isn't taken out
    assert flags(feeds) == []
