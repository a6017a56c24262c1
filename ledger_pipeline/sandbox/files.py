"""The files that the sample company gets: a CAMT.053 statement a day for the EUR account, a CSV a day from the till."""

from __future__ import annotations

import csv
import io
import os
from datetime import date, timedelta
from pathlib import Path
from xml.etree import ElementTree as ET
from zoneinfo import ZoneInfo

from ledger_pipeline.sandbox.company import Company
from ledger_pipeline.sandbox.events import BankAccount, BankLine

NAMESPACE = "urn:iso:std:iso:20022:tech:xsd:camt.053.001.02"
BANK_CONNECTION = "bank_eur"
STALL_CONNECTION = "stall_uk"
STALL_COLUMNS = ("receipt_no", "sold_at", "sku", "description", "quantity", "unit_price", "paid_by")


def write_files(company: Company, first: date, last: date, root: Path) -> list[Path]:
    """Writes root/bank_eur/2026-10-05.camt.xml and root/stall_uk/2026-10-05.csv for each day, and the planted copy
    and the planted late ones.

    Returns the paths in the order of writing. Files that are there are replaced with the same bytes.
    """
    written = []
    day = first
    while day <= last:
        written += _write_statements(company, day, root / BANK_CONNECTION)
        if company.plan.has_duplicate_statement(day):
            again = root / BANK_CONNECTION / f"{day}-resent.camt.xml"
            _replace(again, written[-1].read_bytes())
            written.append(again)
        written.append(write_stall_csv(company, day, root / STALL_CONNECTION))
        day += timedelta(days=1)
    return written


def _write_statements(company: Company, day: date, folder: Path) -> list[Path]:
    """What the bank delivers on a day: that day's statement, and one of weeks ago that is late."""
    written = [write_bank_statement(company, day, folder)] if company.statement_arrives(day) == day else []
    of = day - timedelta(days=company.plan.late_days)
    if company.statement_arrives(of) == day:
        written.append(write_bank_statement(company, of, folder, delivered_on=day))
    return written


def write_stall_csv(company: Company, day: date, folder: Path) -> Path:
    """One row a receipt: sold_at is ISO 8601 with the local offset, unit_price in pounds with two decimals."""
    zone = ZoneInfo(company.zone(STALL_CONNECTION))
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\r\n")
    rows.writerow(STALL_COLUMNS)
    for receipt in company.stall_receipts(day):
        sold_at = receipt.at.astimezone(zone).isoformat(timespec="seconds")
        rows.writerow(
            (receipt.receipt_no, sold_at, receipt.sku, receipt.description, receipt.quantity,
             _major(receipt.unit_price), receipt.paid_by)
        )  # fmt: skip
    path = folder / f"{day}.csv"
    _replace(path, text.getvalue().encode("utf-8"))
    return path


def write_bank_statement(company: Company, day: date, folder: Path, delivered_on: date | None = None) -> Path:
    """One camt.053.001.02 document with one statement: opening + entries = closing balance, also on empty days.

    `delivered_on`: when it comes on another day than its own; the file is then named by that day.
    """
    account = next(account for account in company.bank_accounts if account.connection == BANK_CONNECTION)
    ET.register_namespace("", NAMESPACE)
    document = ET.Element(f"{{{NAMESPACE}}}Document")
    message = _add(document, "BkToCstmrStmt")
    created = f"{(delivered_on or day) + timedelta(days=1)}T01:30:00+02:00"
    header = _add(message, "GrpHdr")
    _add(header, "MsgId", f"CAMT053-{account.mask}-{day:%Y%m%d}")
    _add(header, "CreDtTm", created)
    _statement(_add(message, "Stmt"), company, account, day, created)
    ET.indent(document)
    path = folder / (f"{delivered_on}-late.camt.xml" if delivered_on else f"{day}.camt.xml")
    _replace(path, ET.tostring(document, encoding="UTF-8", xml_declaration=True))
    return path


def _statement(statement: ET.Element, company: Company, account: BankAccount, day: date, created: str) -> None:
    lines = company.bank_lines(account.connection, account.account_id, day)
    _add(statement, "Id", f"{account.iban}-{day:%Y%m%d}")
    _add(statement, "ElctrncSeqNb", str((day - company.start).days + 1))
    _add(statement, "CreDtTm", created)
    owner = _add(statement, "Acct")
    _add(_add(owner, "Id"), "IBAN", account.iban or "")
    _add(owner, "Ccy", account.currency)
    _add(owner, "Nm", account.name)
    _add(_add(owner, "Ownr"), "Nm", company.entities[company.connections[account.connection].entity].name)
    _add(_add(_add(owner, "Svcr"), "FinInstnId"), "BIC", "AIBKIE2D")
    opening = company.closing_balance(account, day - timedelta(days=1))
    _balance(statement, "OPBD", opening, account.currency, day)
    _balance(statement, "CLBD", company.closing_balance(account, day), account.currency, day)
    summary = _add(_add(statement, "TxsSummry"), "TtlNtries")
    net = sum(line.amount for line in lines)
    _add(summary, "NbOfNtries", str(len(lines)))
    _add(summary, "Sum", _major(sum(abs(line.amount) for line in lines)))
    _add(summary, "TtlNetNtryAmt", _major(abs(net)))
    _add(summary, "CdtDbtInd", _side(net))
    for number, line in enumerate(lines, start=1):
        _entry(_add(statement, "Ntry"), number, line)


def _balance(statement: ET.Element, code: str, amount: int, currency: str, day: date) -> None:
    balance = _add(statement, "Bal")
    _add(_add(_add(balance, "Tp"), "CdOrPrtry"), "Cd", code)
    _add(balance, "Amt", _major(abs(amount))).set("Ccy", currency)
    _add(balance, "CdtDbtInd", _side(amount))
    _add(_add(balance, "Dt"), "Dt", str(day))


def _entry(entry: ET.Element, number: int, line: BankLine) -> None:
    _add(entry, "NtryRef", str(number))
    _add(entry, "Amt", _major(abs(line.amount))).set("Ccy", line.currency)
    _add(entry, "CdtDbtInd", _side(line.amount))
    _add(entry, "Sts", "BOOK")
    _add(_add(entry, "BookgDt"), "Dt", str(line.day))
    _add(_add(entry, "ValDt"), "Dt", str(line.day))
    _add(entry, "AcctSvcrRef", line.line_id)
    domain = _add(_add(entry, "BkTxCd"), "Domn")
    _add(domain, "Cd", "PMNT")
    family = _add(domain, "Fmly")
    _add(family, "Cd", "RCDT" if line.amount >= 0 else "ICDT")
    _add(family, "SubFmlyCd", "ESCT")
    details = _add(_add(entry, "NtryDtls"), "TxDtls")
    _add(_add(details, "Refs"), "EndToEndId", "NOTPROVIDED")
    _add(_add(details, "RmtInf"), "Ustrd", line.description)


def _add(parent: ET.Element, name: str, text: str | None = None) -> ET.Element:
    child = ET.SubElement(parent, f"{{{NAMESPACE}}}{name}")
    child.text = text
    return child


def _side(amount: int) -> str:
    return "CRDT" if amount >= 0 else "DBIT"


def _major(minor: int) -> str:
    """Two decimals; both kinds of file are in currencies that have two."""
    return f"{minor // 100}.{minor % 100:02d}"


def _replace(path: Path, content: bytes) -> None:
    """Whole or not at all, so that a watcher of the folder never reads half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content)
    os.replace(part, path)
