"""The bank's CAMT.053 statements and the stall's CSV files: they tie, parse, and repeat as planted."""

from __future__ import annotations

import csv
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from ledger_pipeline.sandbox.company import Company
from ledger_pipeline.sandbox.files import write_bank_statement, write_files, write_stall_csv

START = date(2026, 10, 5)
WEEK = [START + timedelta(days=n) for n in range(7)]
NAMES = {"c": "urn:iso:std:iso:20022:tech:xsd:camt.053.001.02"}


@pytest.fixture(scope="module")
def company() -> Company:
    return Company()


def statement(path: Path) -> ET.Element:
    (found,) = ET.parse(path).getroot().findall("c:BkToCstmrStmt/c:Stmt", NAMES)  # noqa: S314 (our own file)
    return found


def text(element: ET.Element, path: str) -> str:
    return element.findtext(path, namespaces=NAMES) or ""


def signed(element: ET.Element) -> Decimal:
    amount = Decimal(text(element, "c:Amt"))
    return amount if text(element, "c:CdtDbtInd") == "CRDT" else -amount


def balance(found: ET.Element, code: str) -> Decimal:
    (row,) = [one for one in found.findall("c:Bal", NAMES) if text(one, "c:Tp/c:CdOrPrtry/c:Cd") == code]
    return signed(row)


def test_every_statement_ties_and_follows_the_one_before(company: Company, tmp_path: Path) -> None:
    before = Decimal("40000.00")
    entries = 0
    for number, day in enumerate(WEEK, start=1):
        found = statement(write_bank_statement(company, day, tmp_path))
        rows = found.findall("c:Ntry", NAMES)
        entries += len(rows)
        assert balance(found, "OPBD") == before
        before = balance(found, "CLBD")
        assert balance(found, "OPBD") + sum(map(signed, rows)) == before
        assert text(found, "c:ElctrncSeqNb") == str(number)
        assert text(found, "c:TxsSummry/c:TtlNtries/c:NbOfNtries") == str(len(rows))
        assert {text(row, "c:BookgDt/c:Dt") for row in rows} <= {str(day)}
    assert entries > 5
    assert before == Decimal(company.closing_balance(company.bank_accounts[2], WEEK[-1])) / 100


def test_a_day_without_lines_has_a_statement_too(company: Company, tmp_path: Path) -> None:
    found = statement(write_bank_statement(company, START, tmp_path))
    assert found.findall("c:Ntry", NAMES) == []
    assert balance(found, "OPBD") == balance(found, "CLBD") == Decimal("40000.00")


def test_entries_are_the_companys_lines(company: Company, tmp_path: Path) -> None:
    account = company.bank_accounts[2]
    for day in WEEK:
        rows = statement(write_bank_statement(company, day, tmp_path)).findall("c:Ntry", NAMES)
        lines = company.bank_lines("bank_eur", account.account_id, day)
        assert [
            (text(row, "c:AcctSvcrRef"), int(signed(row) * 100), text(row, "c:NtryDtls/c:TxDtls/c:RmtInf/c:Ustrd"))
            for row in rows
        ] == [(line.line_id, line.amount, line.description) for line in lines]


def test_the_negative_payout_is_a_debit(company: Company, tmp_path: Path) -> None:
    rows = statement(write_bank_statement(company, WEEK[4], tmp_path)).findall("c:Ntry", NAMES)
    payouts = [row for row in rows if "STRIPE" in text(row, "c:NtryDtls/c:TxDtls/c:RmtInf/c:Ustrd")]
    assert [text(row, "c:CdtDbtInd") for row in payouts] == ["DBIT"]


def test_two_identical_entries_differ_in_their_references_only(company: Company, tmp_path: Path) -> None:
    rows = statement(write_bank_statement(company, WEEK[2], tmp_path)).findall("c:Ntry", NAMES)
    assert len({text(row, "c:AcctSvcrRef") for row in rows}) == len(rows) == 2
    for row in rows:
        row.tail = None
        for name in ("c:NtryRef", "c:AcctSvcrRef"):
            child = row.find(name, NAMES)
            assert child is not None
            row.remove(child)
    one, two = (ET.tostring(row) for row in rows)
    assert one == two


def test_a_week_of_files_holds_one_statement_twice(company: Company, tmp_path: Path) -> None:
    written = write_files(company, WEEK[0], WEEK[-1], tmp_path)
    names = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert sorted(str(path.relative_to(tmp_path)) for path in written) == names
    assert names == sorted(
        [f"bank_eur/{day}.camt.xml" for day in WEEK]
        + [f"stall_uk/{day}.csv" for day in WEEK]
        + ["bank_eur/2026-10-08-resent.camt.xml"]
    )
    again = tmp_path / "bank_eur"
    assert (again / "2026-10-08.camt.xml").read_bytes() == (again / "2026-10-08-resent.camt.xml").read_bytes()
    ids = [text(statement(path), "c:Id") for path in sorted(again.iterdir())]
    assert len(set(ids)) == 7


def test_a_late_statement_comes_weeks_later_and_continues_the_day_before_its_own(
    company: Company, tmp_path: Path
) -> None:
    (late,) = (p for p in company.planted(START, START + timedelta(days=27)) if p.kind == "statement_late")
    own_day = START + timedelta(days=18)
    assert late.day == own_day + timedelta(days=42)
    assert [path.name for path in write_files(company, own_day, own_day, tmp_path)] == [f"{own_day}.csv"]
    written = write_files(company, late.day, late.day, tmp_path)
    assert [path.name for path in written] == [f"{late.day}.camt.xml", f"{late.day}-late.camt.xml", f"{late.day}.csv"]
    before = statement(write_bank_statement(company, own_day - timedelta(days=1), tmp_path))
    found = statement(written[1])
    assert text(found, "c:Id") == late.source_id
    assert text(found, "c:CreDtTm").startswith(str(late.day + timedelta(days=1)))
    assert balance(found, "OPBD") == balance(before, "CLBD")
    assert balance(found, "OPBD") + sum(map(signed, found.findall("c:Ntry", NAMES))) == balance(found, "CLBD")


def test_writing_again_writes_the_same_bytes(company: Company, tmp_path: Path) -> None:
    once = {path: path.read_bytes() for path in write_files(company, WEEK[0], WEEK[-1], tmp_path)}
    assert {path: path.read_bytes() for path in write_files(Company(), WEEK[0], WEEK[-1], tmp_path)} == once


def test_the_stalls_rows_are_its_receipts(company: Company, tmp_path: Path) -> None:
    for day in WEEK:
        receipts = company.stall_receipts(day)
        with write_stall_csv(company, day, tmp_path).open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert list(rows[0]) == ["receipt_no", "sold_at", "sku", "description", "quantity", "unit_price", "paid_by"]
        assert [datetime.fromisoformat(row["sold_at"]) for row in rows] == [
            receipt.at.replace(microsecond=0) for receipt in receipts
        ]
        assert [row["receipt_no"] for row in rows] == [receipt.receipt_no for receipt in receipts]
        total = sum(int(row["quantity"]) * Decimal(row["unit_price"]) for row in rows)
        assert total * 100 == sum(receipt.quantity * receipt.unit_price for receipt in receipts)
        assert {row["paid_by"] for row in rows} == {"cash"}
        assert {row["sold_at"][:10] for row in rows} == {str(day)}
