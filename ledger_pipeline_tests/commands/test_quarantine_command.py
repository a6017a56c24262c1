"""`quarantine …`, `fates` and `measures` from the command line, on a bank whose first night has a line that can't be read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ledger_pipeline.orchestration import steps
from ledger_pipeline.orchestration.runtime import Runtime
from ledger_pipeline.store.database import Database
from ledger_pipeline_tests.commands.desk import Desk
from ledger_pipeline_tests.orchestration.months import NIGHTS, NOW, company, deliver

BY = ("--by", "Ann Auditor")


@pytest.fixture
def desk(tmp_path: Path, database: Database) -> Desk:
    path = company(tmp_path, database)
    runtime = Runtime.from_file(path)
    runtime.clock = lambda: NOW
    deliver(tmp_path, NIGHTS[0], f"{NIGHTS[0]},1.00,line 1", f"{NIGHTS[0]},1.234,too fine")
    steps.run_day(runtime, "bank", NIGHTS[0], "test")
    return Desk(path)


def test_a_version_is_listed_looked_into_retried_ignored_and_taken_back(desk: Desk) -> None:
    (row,) = desk.json("quarantine")
    assert (row["connection"], row["fate"], row["earlier_versions"]) == ("bank", "quarantined", 0)
    assert "1.234 has more decimals" in row["reason"]
    assert desk.json("quarantine", "list", "--connection", "bank") == [row]
    raw_id = str(row["raw_id"])
    file = desk.json("quarantine", "show", raw_id)
    assert file["held"]["path"] == row["path"]
    assert "too fine" in json.dumps(file["payload"])
    assert len(file["can"]) == 3
    again = desk.json("quarantine", "retry", raw_id, *BY, code=1)
    assert [(o["before"], o["after"]) for o in again["outcomes"]] == [("quarantined", "quarantined")]
    ignored = desk("quarantine", "ignore", raw_id, *BY, "--reason", "the bank's own test")
    assert (ignored.exit_code, "ignored by Ann Auditor: the bank's own test" in ignored.stdout) == (0, True)
    assert desk.json("quarantine") == []
    assert "ignore by Ann Auditor" in desk("quarantine", "show", raw_id).stdout
    back = desk.json("quarantine", "withdraw", raw_id, *BY, "--reason", "a mistake", code=1)
    assert back["outcomes"][0]["after"] == "quarantined"
    day = desk.json("quarantine", "retry", "--connection", "bank", "--date", str(NIGHTS[0]), *BY, code=1)
    assert [o["raw_id"] for o in day["outcomes"]] == [row["raw_id"]]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("retry", "999", *BY), 1, "error: no version with id 999 has landed"),
        (("show", "999"), 1, "error: no version with id 999 has landed"),
        (("ignore", "1", *BY, "--reason", " "), 1, "error: a decision needs a name and a reason"),
        (("retry", *BY), 2, "give ids, or --connection and --date"),
        (("retry", "1", "--connection", "bank", "--date", "2024-09-28", *BY), 2, "give ids, or --connection and --date"),
    ],
)  # fmt: skip
def test_a_wrong_use_is_said_in_a_line(desk: Desk, arguments: tuple[str, ...], code: int, said: str) -> None:
    result = desk("quarantine", *arguments)
    assert (result.exit_code, said in " ".join(result.stderr.replace("│", " ").split())) == (code, True), result.stderr


def test_fates_come_with_controls_and_end_with_one_when_one_differs(desk: Desk, database: Database) -> None:
    found = desk.json("fates", "--date", str(NIGHTS[0]))
    assert {f["fate"]: f["records"] for f in found["fates"]} == {"posted": 1, "quarantined": 1}
    (landed, *_) = found["controls"]
    assert (landed["theirs"], landed["ours"], landed["explained"], landed["holds"]) == ("2", "1", "1", True)
    text = desk("fates", "--date", str(NIGHTS[0]))
    assert (
        max(len(line) for line in text.stdout.splitlines() if "too fine" not in line and "decimals" not in line) <= 80
    )
    assert "explained by" in text.stdout
    with database.connect("owner") as connection:
        connection.execute("DELETE FROM ops.fate WHERE fate = 'posted'")
    assert desk.json("fates", code=1)["controls"][0]["holds"] is False
    assert "1 records are not explained" in desk("fates").stdout
    assert desk("fates", "--to", str(NIGHTS[0])).exit_code == 2


def test_measures_are_printed_by_sync_date(desk: Desk) -> None:
    found = {row["measure"]: row for row in desk.json("measures")}
    assert (found["completeness"]["share"], found["completeness"]["sync_date"]) == ("0.5000", str(NIGHTS[0]))
    assert "50.00%" in desk("measures", "--connection", "bank").stdout
    assert desk.json("measures", "--from", str(NIGHTS[1]), "--to", str(NIGHTS[1])) == []
