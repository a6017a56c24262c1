"""`period …` from the command line: a month is listed, checked, refused, closed with an acceptance, and reopened."""

from __future__ import annotations

from pathlib import Path

import pytest

from ledger_pipeline.commands.periods import period
from ledger_pipeline.orchestration import steps
from ledger_pipeline.orchestration.runtime import Runtime
from ledger_pipeline.store.database import Database
from ledger_pipeline_tests.commands.desk import Desk
from ledger_pipeline_tests.orchestration.months import NIGHTS, booked_month

MONTH = ("--entity", "acme", "--month", "2024-09")
BY = ("--by", "Ann Auditor")


class PeriodDesk(Desk):
    """The command on the books of September 2024."""

    app = period


@pytest.fixture
def desk(tmp_path: Path, database: Database) -> Desk:
    return PeriodDesk(booked_month(tmp_path, database))


def test_a_month_is_listed_with_its_state(desk: Desk) -> None:
    (row,) = desk.json("list")
    assert (row["entity"], row["month"], row["state"], row["entries"]) == ("acme", "2024-09", "open", 3)
    desk.json("begin", *MONTH, *BY)
    (row,) = desk.json("list", "--entity", "acme")
    assert (row["state"], row["by"]) == ("closing", "Ann Auditor")


def test_a_sound_month_closes_and_opens_again(desk: Desk) -> None:
    assert {c["name"]: c["holds"] for c in desk.json("check", *MONTH)["checks"] if not c["holds"]} == {}
    closed = desk.json("close", *MONTH, *BY)
    assert (closed["state"], closed["event"]["entries"], closed["event"]["lines"]) == ("closed", 3, 6)
    again = desk("close", *MONTH, *BY)
    assert (again.exit_code, again.stderr) == (1, "error: period 2024-09 of acme is closed already; reopen it first\n")
    opened = desk.json("reopen", *MONTH, *BY, "--reason", "the bank sent a correction")
    assert (opened["event"], opened["reason"]) == ("reopened", "the bank sent a correction")
    events = desk.json("history", "--entity", "acme")
    assert [(e["event"], e["by"]) for e in events] == [
        ("closing", "Ann Auditor"),
        ("closed", "Ann Auditor"),
        ("reopened", "Ann Auditor"),
    ]
    assert [e["previous_hash"] for e in events[1:]] == [e["hash"] for e in events[:-1]]
    assert events[1]["content_hash"] == closed["event"]["content_hash"]


def test_a_failing_check_stops_the_closing_until_it_is_accepted_with_a_reason(desk: Desk) -> None:
    runtime = Runtime.from_file(desk.config)
    link = runtime.link("bank")
    steps.stage(runtime, link, NIGHTS[-1], "again")  # staged again, never checked again
    checked = desk.json("check", *MONTH, code=1)
    assert [c["name"] for c in checked["checks"] if not c["holds"]] == ["nights_are_in"]
    refused = desk.json("close", *MONTH, *BY, code=1)
    assert (refused["state"], refused["failing"]) == ("closing", ["nights_are_in"])
    taken = desk.json("close", *MONTH, *BY, "--accept", "nights_are_in=seen by the bank = fine")
    (accepted,) = [c for c in taken["event"]["checks"] if not c["holds"]]
    assert (accepted["name"], accepted["accepted"], accepted["accepted_by"]) == (
        "nights_are_in",
        "seen by the bank = fine",
        "Ann Auditor",
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("close", *MONTH), "--by"),
        (("reopen", *MONTH, *BY), "--reason"),
        (("check", "--entity", "acme", "--month", "2024-13"), "no month; write YYYY-MM"),
        (("close", *MONTH, *BY, "--accept", "nights_are_in"), "say why"),
        (("close", *MONTH, *BY, "--accept", "nights_are_in= "), "say why"),
        (("close", *MONTH, *BY, "--accept", "all=fine"), "is no check; known are nights_are_in"),
    ],
)
def test_wrong_use_ends_with_two(desk: Desk, arguments: tuple[str, ...], said: str) -> None:
    result = desk(*arguments)
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.replace("│", " ").split())
    assert desk.json("history") == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("check", "--entity", "nobody", "--month", "2024-09"), "unknown entity 'nobody'; known are acme"),
        (("begin", *MONTH, "--by", " "), "say who changes the period"),
        (("reopen", *MONTH, *BY, "--reason", "r"), "period 2024-09 of acme is open: it can't become open"),
    ],
)
def test_a_refusal_is_one_line(desk: Desk, arguments: tuple[str, ...], said: str) -> None:
    result = desk(*arguments)
    assert (result.exit_code, result.stderr) == (1, f"error: {said}\n")


def test_people_read_tables_of_eighty_columns(desk: Desk) -> None:
    outputs = [desk("check", *MONTH).stdout, desk("close", *MONTH, *BY).stdout, desk("list").stdout]
    outputs.append(desk("history").stdout)
    assert max(len(line) for text in outputs for line in text.splitlines()) <= 80
    assert "debits_equal_credits" in outputs[0]
    assert "acme 2024-09 is closed" in outputs[1]
    assert "3 entries, 6 lines, closed by Ann Auditor" in outputs[1]
    assert "closed" in outputs[2]
    assert "acme 2024-09 closed on" in outputs[3]
