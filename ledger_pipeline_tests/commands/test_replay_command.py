"""`preview` and `replay` on the books of a bank's file, whose categorisation rules are changed after the fact."""

from __future__ import annotations

from pathlib import Path

import pytest

from ledger_pipeline.orchestration.runtime import Runtime
from ledger_pipeline.store.database import Database
from ledger_pipeline_tests.commands.desk import Desk
from ledger_pipeline_tests.orchestration.months import NIGHTS, booked_month

RANGE = ("--from", "2024-09-28", "--to", "2024-09-30")
WHO = ("--by", "Ann", "--reason", "line 2 was interest")


class Bank(Desk):
    """The commands on three bank lines."""

    def recognise(self) -> None:
        """From now on the rules know what `line 2` is."""
        text = self.config.read_text().replace(
            "schedule:", "    categorise: [{ contains: LINE 2, role: other_income }]\nschedule:"
        )
        self.config.write_text(text)

    def roles(self) -> dict[str, int]:
        with Runtime.from_file(self.config).database.connect("reader") as connection:
            rows = connection.execute("SELECT role, amount_minor FROM ledger.balance WHERE amount_minor <> 0")
            return dict(rows.fetchall())


@pytest.fixture
def desk(tmp_path: Path, database: Database) -> Bank:
    return Bank(booked_month(tmp_path, database))


def test_nothing_differs_while_nothing_changed(desk: Bank) -> None:
    said = desk("preview", "--date", str(NIGHTS[0]))
    assert said.exit_code == 0
    assert "no difference: the books say what today's mappings and rules say" in said.output
    (found,) = desk.json("replay", *RANGE)
    assert (found["payloads"], found["unchanged"], found["kinds"]) == (3, 3, {})


def test_a_replay_shows_accounts_and_entries_and_keeps_nothing(desk: Bank) -> None:
    desk.recognise()
    before = desk.roles()
    said = desk("replay", *RANGE, "--entries")
    assert "1060" in said.output
    assert "4800" in said.output
    assert "reversal of entry 2" in said.output
    (found,) = desk.json("replay", *RANGE)
    assert found["kinds"] == {"reversal": 1, "replacement": 1}
    assert {(m["month"], m["account"], m["amount_minor"]) for m in found["moved"]} == {
        ("2024-09-01", "1060", 200),
        ("2024-09-01", "4800", -200),
    }
    assert desk.roles() == before


def test_an_applied_replay_is_asked_for_and_named(desk: Bank) -> None:
    desk.recognise()
    assert desk("replay", *RANGE, "--apply").exit_code == 2
    no = desk("replay", *RANGE, "--apply", *WHO, answer="n\n")
    assert (no.exit_code, "nothing was posted" in no.output) == (1, True)
    assert "other_income" not in desk.roles()
    yes = desk("replay", *RANGE, "--apply", *WHO, answer="y\n")
    assert (yes.exit_code, "posted 2 entries as replay-" in yes.output) == (0, True)
    assert desk.roles()["other_income"] == -200
    with Runtime.from_file(desk.config).database.connect("reader") as connection:
        assert connection.execute("SELECT action, by_whom, reason FROM ops.action").fetchall() == [
            ("replay", "Ann", "line 2 was interest")
        ]
    assert desk("replay", *RANGE, "--apply", "--yes", *WHO).exit_code == 0
    assert desk.json("replay", *RANGE)[0]["kinds"] == {}


@pytest.mark.parametrize(
    "arguments",
    [
        ("preview",),
        ("preview", "--date", "2024-09-28", "--from", "2024-09-28", "--to", "2024-09-28"),
        ("preview", "--date", "yesterday"),
        ("replay", "--from", "2024-09-28"),
        ("replay", "--from", "2024-09-30", "--to", "2024-09-28"),
        ("replay", *RANGE, "--apply", "--by", " ", "--reason", "x"),
        ("replay", *RANGE, "--apply", *WHO, "--json"),
    ],
)
def test_wrong_use_ends_with_two(desk: Bank, arguments: tuple[str, ...]) -> None:
    assert desk(*arguments).exit_code == 2
