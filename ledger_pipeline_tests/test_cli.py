"""The command line: exit codes, JSON, and errors of one line that a person can act on."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ledger_pipeline.cli import app
from ledger_pipeline.store.database import Database

CONFIG = """\
database_url: {url}
entities:
  acme:
    name: Acme Inc.
    base_currency: GBP
    time_zone: Europe/London
connections:
  stall:
    entity: acme
    source: delimited_file
    folder: {folder}
    pattern: "{{date}}.csv"
    map:
      record: bank_transaction
      account: {{ value: a1 }}
      columns:
        date: {{ column: Date, format: "%d/%m/%Y" }}
        amount: Amount
        description: Text
      currency: {{ value: GBP }}
  shop:
    entity: acme
    source: stripe
    api_key: sk_live_hunter2
schedule:
  start: "2026-10-01"
"""
DAY = "2026-10-05"
FILE = "Date,Amount,Text\n05/10/2026,12.50,STRIPE\n05/10/2026,-3.20,RENT\n"


class Office:
    """A folder with its ledger.yaml, and the command run in it."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.config = folder / "ledger.yaml"
        self.config.write_text(CONFIG.format(url=url, folder=folder))

    def run(self, *arguments: str, code: int = 0) -> Any:
        """JSON output of a command."""
        result = CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False)
        assert result.exit_code == code, result.output
        return json.loads(result.stdout)

    def import_(self, text: str = FILE, name: str = "a.csv", code: int = 0) -> Any:
        """Import a file for the day."""
        path = self.folder / name
        path.write_text(text)
        return self.run(
            "import", str(path), "--connection", "stall", "--date", DAY, "--config", str(self.config), code=code
        )


@pytest.fixture
def office(database: Database, tmp_path: Path) -> Office:
    return Office(tmp_path, database.url)


def command(*arguments: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """As a person runs it."""
    line = [sys.executable, "-m", "ledger_pipeline.cli", *arguments]
    return subprocess.run(line, capture_output=True, text=True, timeout=60, cwd=folder, check=False)


def test_help_is_instant_and_lists_the_commands() -> None:
    seconds = []
    for _ in range(3):  # the machine may be busy: the best of three counts
        began = time.perf_counter()
        done = command("--help")
        seconds.append(time.perf_counter() - began)
        assert done.returncode == 0
    assert min(seconds) < 1
    for name in ("init", "demo", "sync", "import", "trial-balance", "entries", "quarantine", "config", "sandbox"):
        assert name in done.stdout


def test_help_imports_nothing_heavy() -> None:
    code = "import sys\nfrom ledger_pipeline.cli import app\ntry: app(['--help'])\nexcept SystemExit: pass\n"
    code += "print(sorted({'dagster', 'pandas', 'pyarrow', 'psycopg', 'great_expectations', 'pydantic'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_an_import_is_posted_and_reported(office: Office) -> None:
    done = office.import_()
    assert (done["new_entries"], done["gate"], done["refused"]) == (2, "open", [])
    again = office.import_()
    assert again["new_entries"] == 0
    rows = office.run("trial-balance", "--config", str(office.config))
    assert {(r["account"], r["amount"], r["base"]) for r in rows} == {
        ("1000", "9.30", "9.30"),
        ("1060", "-12.50", "-12.50"),
        ("6900", "3.20", "3.20"),
    }
    assert office.run("trial-balance", "--through", "2026-10-04", "--config", str(office.config)) == []
    by_role = office.run("trial-balance", "--by-role", "--config", str(office.config))
    assert {r["role"] for r in by_role} == {"bank:a1", "unidentified_receipts", "uncategorised_expense"}


def test_an_entry_leads_back_to_its_payload(office: Office, database: Database) -> None:
    office.import_()
    with database.connect("reader") as connection:
        source_id, payload, content_hash = connection.execute(  # type: ignore[misc]
            "SELECT e.source_id, r.payload, encode(r.content_hash, 'hex') FROM ledger.entry e JOIN raw.record r USING (raw_id) LIMIT 1"
        ).fetchone()
    found = office.run("entries", "--source-id", source_id, "--config", str(office.config))
    assert found["versions"][0]["payload"] == payload
    assert found["versions"][0]["content_hash"] == content_hash
    assert found["versions"][0]["fate"] == "posted"
    entry = found["entries"][0]
    assert (entry["kind"], entry["rule"], entry["version"]) == ("original", "bank_transaction", 1)
    assert sum(line["amount_minor"] for line in entry["lines"]) == 0


def test_what_is_refused_is_in_quarantine_and_ends_with_one(office: Office) -> None:
    done = office.import_(FILE + "05/10/2026,1.234,TOO FINE\n", code=1)
    assert done["new_entries"] == 2
    rows = office.run("quarantine", "--config", str(office.config))
    assert len(rows) == 1
    assert rows[0]["connection"] == "stall"
    assert "1.234 has more decimals than GBP has (2)" in rows[0]["reason"]
    assert office.run("quarantine", "--connection", "shop", "--config", str(office.config)) == []


def test_a_sound_configuration_is_said_to_be(office: Office) -> None:
    assert office.run("config", "check", str(office.config)) == {
        "mistakes": [],
        "file": str(office.config),
        "environment": "production",
        "entities": 1,
        "connections": 2,
    }


def test_mistakes_of_the_configuration_end_with_one(office: Office) -> None:
    office.config.write_text(
        office.config.read_text()
        .replace("api_key", "apikey")
        .replace("source: stripe", "source: stripe\n    is_enabled: x")
    )
    said = office.run("config", "check", str(office.config), code=1)["mistakes"]
    assert "connections.shop.is_enabled" in said[0]
    office.config.write_text(office.config.read_text().replace("\n    is_enabled: x", ""))
    said = office.run("config", "check", str(office.config), code=1)["mistakes"]
    assert any("connections.shop.apikey" in one for one in said)
    assert "hunter2" not in str(said)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("import", "FILE", "--connection", "stal"), 1, "error: unknown connection 'stal'; known are shop, stall"),
        (("import", "FILE", "--connection", "shop"), 1, "error: connection 'shop' is Stripe; files are imported into bank_file and delimited_file connections"),
        (("import", "FILE", "--connection", "stall", "--date", "5.10."), 2, "is no date; write YYYY-MM-DD"),
        (("import", "nothing.csv", "--connection", "stall"), 2, "does not exist"),
        (("sync", "--connection", "nope", "--date", DAY), 1, "error: unknown connection 'nope'; known are shop, stall"),
        (("sync", "--date", "2020-01-01"), 1, "error: 2020-01-01 lies before schedule.start (2026-10-01)"),
        (("sync", "--from", "2026-10-05"), 2, "--from and --to go together"),
        (("sync", "--from", "2026-10-05", "--to", "2026-10-04"), 1, "error: --to 2026-10-04 lies before --from 2026-10-05"),
        (("sync", "--date", DAY, "--from", DAY, "--to", DAY), 2, "not both"),
        (("trial-balance", "--entity", "acne"), 1, "error: unknown entity 'acne'; known are acme"),
        (("entries", "--source-id", "zz"), 1, "error: no record with source id 'zz' has been pulled"),
    ],
)  # fmt: skip
def test_a_wrong_use_is_said_in_a_line(office: Office, arguments: tuple[str, ...], code: int, said: str) -> None:
    (office.folder / "f.csv").write_text(FILE)
    line = [str(office.folder / "f.csv") if a == "FILE" else a for a in arguments]
    done = command(*line, "--config", str(office.config), folder=office.folder)
    assert done.returncode == code, done.stderr
    assert said in " ".join(done.stderr.replace("│", " ").split())
    assert "Traceback" not in done.stderr


def test_a_database_that_cannot_be_reached_is_said_in_a_line(office: Office) -> None:
    office.config.write_text(CONFIG.format(url="postgresql://u:hunter2@127.0.0.1:1/x", folder=office.folder))
    done = command("quarantine", "--config", str(office.config))
    assert done.returncode == 1
    assert done.stderr.startswith("error: the database can't be reached: ")
    assert "hunter2" not in done.stderr
    assert "Traceback" not in done.stderr


def test_init_writes_a_configuration_and_overwrites_none(tmp_path: Path) -> None:
    assert command("init", str(tmp_path)).returncode == 0
    (tmp_path / "ledger.yaml").write_text("mine")
    (tmp_path / "workspace.yaml").unlink()
    again = command("init", str(tmp_path))
    assert again.returncode == 1
    assert f"error: {tmp_path / 'ledger.yaml'} exists; --force overwrites it" in again.stderr
    assert (tmp_path / "ledger.yaml").read_text() == "mine"
    assert not (tmp_path / "workspace.yaml").exists()
    assert command("init", str(tmp_path), "--force").returncode == 0
    assert (tmp_path / "ledger.yaml").read_text().startswith("# Your company")
