"""`restore check`: noted heads against restored books that are whole, that lost their end, and that were written anew."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from ledger_pipeline.reports import restored
from ledger_pipeline.store.database import Database
from ledger_pipeline_tests.fakes import DAY, FakeCompany, order


@pytest.fixture
def books(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeCompany:
    """Two batches."""
    made = FakeCompany(database, tmp_path, monkeypatch)
    made.run(order("o1", 1000))
    made.run(order("o1", 1000), order("o2", 300))
    return made


def heads(database: Database) -> dict[str, Any]:
    """What `verify --json` prints of them."""
    with database.connect("reader") as connection:
        row = connection.execute("SELECT chain_no, encode(hash, 'hex') FROM ledger.batch ORDER BY 1 DESC").fetchone()
    assert row is not None
    return {"heads": [{"entity": "acme", "chain_no": row[0], "hash": row[1]}], "period_heads": []}


def compared(database: Database, noted: dict[str, Any]) -> restored.Compared:
    with database.connect("reader") as connection:
        (one,) = restored.compare(connection, noted)
    return one


def test_books_that_hold_what_was_noted_are_whole_also_when_they_went_on(books: FakeCompany) -> None:
    noted = heads(books.database)
    books.run(order("o1", 1000), order("o2", 300), order("o3", 50))
    one = compared(books.database, noted)
    assert (one.is_same, one.noted, one.found, one.newer, one.lost) == (True, 2, 3, 1, 0)


def test_a_backup_from_before_the_notes_says_how_much_is_lost(books: FakeCompany, copy_of: Callable[[str], Database]) -> None:  # fmt: skip
    restored_books = copy_of(urlsplit(books.database.url).path.lstrip("/"))
    books.run(order("o1", 1000), order("o2", 300), order("o3", 50))
    one = compared(restored_books, heads(books.database))
    assert (one.is_same, one.noted, one.found, one.lost) == (False, 3, 2, 1)


def test_a_chain_that_was_written_anew_is_not_the_noted_one(books: FakeCompany) -> None:
    noted = heads(books.database)
    noted["heads"][0]["hash"] = "00" * 32
    one = compared(books.database, noted)
    assert (one.is_same, one.lost, one.newer) == (False, 0, 0)


def test_every_connection_says_from_where_it_goes_on(books: FakeCompany) -> None:
    with books.database.connect("reader") as connection:
        (one,) = restored.resumptions(connection, ["shop", "other"])
    assert (one.connection, one.last_sync_date, one.pulled_at) == ("shop", DAY, books.now)


def test_the_command_ends_with_one_and_names_what_is_lost(books: FakeCompany, tmp_path: Path) -> None:
    folder = tmp_path / "restored"
    folder.mkdir()
    (folder / "ledger.yaml").write_text(
        f"database_url: {books.database.url}\nentities:\n  acme: {{name: Acme, base_currency: USD, time_zone: UTC}}\nconnections: {{}}\n"
    )

    def check(noted: dict[str, Any]) -> subprocess.CompletedProcess[str]:
        (folder / "heads.json").write_text(json.dumps(noted))
        line = [str(Path(sys.executable).parent / "ledger-pipeline"), "restore", "check", "heads.json"]
        return subprocess.run(line, cwd=folder, capture_output=True, text=True, timeout=60, check=False)

    whole = heads(books.database)
    assert check(whole).returncode == 0
    whole["heads"][0]["chain_no"] = 5
    lost = check(whole)
    assert (lost.returncode, lost.stderr) == (
        1,
        "error: acme: batches: 3 of 5 noted links are lost, the last one is 2\n",
    )
    nothing = check({"heads": [], "period_heads": []})
    assert (nothing.returncode, nothing.stderr) == (1, "error: heads.json holds no head: nothing was posted when it was written\n")  # fmt: skip
