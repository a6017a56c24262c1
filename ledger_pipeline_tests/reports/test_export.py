"""The exported journals load in beancount (and hledger) without errors, and say the same balances as the ledger."""

from __future__ import annotations

import shutil
import subprocess
from collections import defaultdict
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from beancount import loader
from beancount.core import convert, data
from typer.testing import CliRunner

from ledger_pipeline.cli import app
from ledger_pipeline.model.money import digits_of, from_minor
from ledger_pipeline.reports.export import Format, journal
from ledger_pipeline.store.database import Database
from ledger_pipeline.store.proof import verify
from ledger_pipeline_tests.fakes import ecb_rate
from ledger_pipeline_tests.store.test_proof import edit, fill, two_entities

BASES = {"acme": "USD", "uk": "GBP"}
Balances = dict[tuple[str, str, str], Decimal]


@pytest.fixture(scope="module")
def books(new_database: Callable[[], Database], tmp_path_factory: pytest.TempPathFactory) -> Database:
    """Two entities with corrections, a removed order, foreign amounts, odd ids and fx_rounding; then one entry's base amounts are turned
    round, so that every one of its lines has an amount and a base of opposite signs."""
    database = new_database()
    with pytest.MonkeyPatch.context() as monkeypatch:
        fill(two_entities(database, tmp_path_factory.mktemp("books"), monkeypatch))
    assert verify(database).findings == []
    edit(
        database,
        "UPDATE ledger.line SET base_minor = -base_minor WHERE amount_minor <> 0 AND base_minor <> 0 AND entry_id = "
        "(SELECT entry_id FROM ledger.entry WHERE source_id = 'o4')",
    )
    return database


def text(database: Database, form: Format, entity: str | None = None) -> str:
    with database.connect("reader") as connection:
        return "".join(journal(connection, form, BASES, entity=entity, rates=ecb_rate, chunk=2))


def load(source: str) -> list[Any]:
    entries, errors, _ = loader.load_string(source)
    assert [error.message for error in errors] == []
    return list(entries)


def ours(database: Database) -> tuple[Balances, Balances]:
    """(by entity, account and currency; in base by entity, account and base currency); a line of nothing but base counts in base."""
    with database.connect("reader") as connection:
        rows = connection.execute(
            "SELECT entity, account, currency, amount_minor, base_minor FROM ledger.line"
        ).fetchall()
    own: Balances = defaultdict(Decimal)
    base: Balances = defaultdict(Decimal)
    for entity, account, currency, amount, in_base in rows:
        worth = from_minor(in_base, BASES[entity])
        key = (entity, account, currency if amount else BASES[entity])
        own[key] += from_minor(amount, currency) if amount else worth
        base[entity, account, BASES[entity]] += worth
    return without_zeros(own), without_zeros(base)


def without_zeros(balances: Balances) -> Balances:
    return {key: amount for key, amount in balances.items() if amount}


def beancounts(entries: list[Any]) -> tuple[Balances, Balances]:
    """The same from a loaded journal: units, and what the postings weigh."""
    names = {e.account: (e.meta["entity"], e.meta["code"]) for e in entries if isinstance(e, data.Open)}
    own: Balances = defaultdict(Decimal)
    base: Balances = defaultdict(Decimal)
    for entry in entries:
        for posting in entry.postings if isinstance(entry, data.Transaction) else ():
            weight = convert.get_weight(posting)
            own[(*names[posting.account], posting.units.currency)] += posting.units.number
            base[(*names[posting.account], weight.currency)] += weight.number
    rounded = {key: round(amount, digits_of(key[2])) for key, amount in base.items()}
    assert all(abs(base[key] - rounded[key]) < Decimal("1e-9") for key in base)
    return without_zeros(own), without_zeros(rounded)


def test_beancount_loads_it_and_its_balances_are_ours(books: Database) -> None:
    own, base = ours(books)
    assert {currency for _, _, currency in own} == {"USD", "GBP"}
    assert ("uk", "4910", "GBP") in own
    assert beancounts(load(text(books, "beancount"))) == (own, base)


def test_an_amount_that_differs_is_an_error_in_beancount(books: Database) -> None:
    good = text(books, "beancount")
    bad = good.replace(" 1300.00 USD", " 1300.01 USD").replace("  13.00 USD\n", "  13.01 USD\n", 1)
    assert bad != good
    assert ["Transaction does not balance" in error.message for error in loader.load_string(bad)[1]] == [True]


def test_every_account_and_entry_is_there_with_its_source(books: Database) -> None:
    entries = load(text(books, "beancount"))
    with books.connect("reader") as connection:
        accounts = connection.execute("SELECT entity, code, name FROM ledger.account").fetchall()
        known = connection.execute(
            "SELECT entry_id::text, entity, connection, source_id, raw_id::text, encode(content_hash, 'hex'), posted_on FROM ledger.entry"
        ).fetchall()
    opened = [(e.meta["entity"], e.meta["code"], e.meta["name"]) for e in entries if isinstance(e, data.Open)]
    assert sorted(opened) == sorted(accounts)
    names = ("entry-id", "entity", "connection", "source_id", "raw-id", "raw-hash")
    booked = [
        (*(e.meta[name.replace("_", "-")] for name in names), e.date)
        for e in entries
        if isinstance(e, data.Transaction)
    ]
    assert sorted(booked) == sorted(known)
    assert 'o2 é\n"x",\\' in {row[3] for row in booked}


def test_corrections_are_linked_to_what_they_correct(books: Database) -> None:
    entries = [e for e in load(text(books, "beancount")) if isinstance(e, data.Transaction)]
    corrected = [e for e in entries if e.meta["kind"] != "original"]
    assert sorted(e.meta["kind"] for e in corrected) == ["replacement", "reversal", "reversal"]
    for entry in entries:
        expected = {f"entry-{entry.meta['entry-id']}"}
        assert entry.links == expected | ({f"entry-{entry.meta['corrects']}"} if entry in corrected else set())


def test_one_entity_is_exported_by_itself(books: Database) -> None:
    entries = load(text(books, "beancount", "uk"))
    assert {e.meta["entity"] for e in entries if isinstance(e, data.Open | data.Transaction)} == {"uk"}
    own, base = ours(books)
    of_uk = [{key: amount for key, amount in balances.items() if key[0] == "uk"} for balances in (own, base)]
    assert list(beancounts(entries)) == of_uk


def test_an_hledger_journal_keeps_every_entry_and_escapes_what_would_end_a_tag(books: Database) -> None:
    said = text(books, "hledger")
    with books.connect("reader") as connection:
        row = connection.execute("SELECT count(*) FROM ledger.entry").fetchone()
    assert row is not None
    assert said.count("    ; entry-id:") == row[0]
    assert '    ; source-id:o2 é%0A"x"%2C\\\n' in said
    assert "account Assets:Uk:1150-Order-clearing  ; type:A\n" in said


def test_a_price_stands_for_each_day_and_currency_that_the_ecb_quotes(books: Database) -> None:
    with books.connect("reader") as connection:
        rows = connection.execute(
            "SELECT DISTINCT posted_on, currency, CASE entity WHEN 'uk' THEN 'GBP' ELSE 'USD' END FROM ledger.line"
        ).fetchall()
    expected = {(day, currency, base) for day, currency, base in rows if currency not in (base, "KWD")}
    assert expected
    prices = [entry for entry in load(text(books, "beancount")) if isinstance(entry, data.Price)]
    assert {(p.date, p.currency, p.amount.currency) for p in prices} == expected
    for price in prices:
        rate = ecb_rate(price.currency, price.amount.currency, price.date)
        assert abs(price.amount.number * rate.denominator / rate.numerator - 1) < Decimal("1e-7")
    assert text(books, "hledger").count("\nP ") == len(prices)


@pytest.mark.skipif(shutil.which("hledger") is None, reason="hledger is not installed")
def test_hledger_loads_it_and_its_balances_are_ours(books: Database, tmp_path: Path) -> None:
    path = tmp_path / "books.journal"
    path.write_text(text(books, "hledger"), encoding="utf-8")
    subprocess.run(["hledger", "-f", str(path), "check", "--strict"], check=True, timeout=30)
    line = ["hledger", "-f", str(path), "balance", "--flat", "--no-total", "--layout", "bare", "-O", "csv"]
    done = subprocess.run(line, check=True, timeout=30, capture_output=True, text=True)
    rows = [row.replace('"', "").split(",") for row in done.stdout.splitlines()[1:]]
    labels = {
        (account.split(":")[1].lower(), account.split(":")[2].split("-")[0], c): Decimal(a) for account, c, a in rows
    }
    assert without_zeros(labels) == ours(books)[0]


CONFIG = """\
database_url: {url}
entities:
  acme: {{name: Acme, base_currency: USD, time_zone: UTC}}
  uk: {{name: UK, base_currency: GBP, time_zone: UTC}}
connections:
  shop: {{entity: acme, source: stripe, api_key: k}}
  other: {{entity: uk, source: stripe, api_key: k}}
schedule: {{start: "2026-10-01"}}
"""


def test_the_commands_export_a_file_and_end_with_one_where_the_books_were_edited(
    books: Database, tmp_path: Path
) -> None:
    config = tmp_path / "ledger.yaml"
    config.write_text(CONFIG.format(url=books.url))
    path = tmp_path / "books.beancount"
    run = CliRunner().invoke
    done = run(app, ["export", "--format", "beancount", "--output", str(path), "--config", str(config)])
    assert (done.exit_code, path.read_text(encoding="utf-8")) == (0, text(books, "beancount"))
    assert run(app, ["export", "--format", "gnucash", "--config", str(config)]).exit_code == 2
    found = run(app, ["verify", "--json", "--config", str(config)])
    assert (found.exit_code, '"ledger.batch"' in found.stdout) == (1, True)
    sound = run(app, ["verify", "--entity", "uk", "--config", str(config)])
    assert (sound.exit_code, "0 findings" in sound.stdout) == (0, True)
    assert run(app, ["verify", "--entity", "nope", "--config", str(config)]).exit_code == 1
