"""A company whose invoices, bills, pay runs and bank lines arrive as files, through the pipeline's own steps."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from ledger_pipeline.orchestration import steps
from ledger_pipeline.orchestration.runtime import Runtime
from ledger_pipeline.store.database import Database
from ledger_pipeline_tests.reconcile.proven import Proven

MONDAY = date(2026, 10, 5)
CONFIG = """\
database_url: {url}
entities:
  acme: {{name: Acme, base_currency: EUR, time_zone: UTC}}
schedule: {{start: "2026-10-01"}}
connections:
  invoices:
    entity: acme
    source: delimited_file
    folder: {folder}/invoices
    quarantine_limit: 1
    map:
      record: invoice
      group_by: Number
      currency: {{ value: EUR }}
      roles: {{ SUB*: deferred_revenue, BOAT: yacht }}
      columns:
        issued_on: Date
        due_on: Due
        amount: Net
        tax: Tax
        total: Total
        jurisdiction: {{ value: DE }}
        code: Code
        state: State
        reduces: Reduces
        customer_id: Customer
  bills:
    entity: acme
    source: delimited_file
    folder: {folder}/bills
    quarantine_limit: 1
    map:
      record: bill
      group_by: Number
      currency: {{ value: EUR }}
      roles: {{ "4200": rent, "3400": goods_received_not_invoiced }}
      columns: {{ issued_on: Date, due_on: Due, amount: Net, tax: Tax, code: Account, supplier_id: Supplier }}
  payroll:
    entity: acme
    source: delimited_file
    folder: {folder}/payroll
    quarantine_limit: 1
    map:
      record: pay_run
      group_by: Run
      currency: {{ value: EUR }}
      roles:
        GROSS: wages
        NET: wages_payable
        TAX: payroll_tax_withheld
        ER: employer_payroll_tax
        ERP: employer_payroll_tax_payable
      columns: {{ paid_on: Paid, amount: Amount, code: Code, department: Department, net: Net }}
  bank:
    entity: acme
    source: delimited_file
    folder: {folder}/bank
    map:
      record: bank_transaction
      account: {{ value: giro }}
      currency: {{ value: EUR }}
      columns: {{ date: Date, amount: Amount, description: Text }}
"""
HEADS = {
    "invoices": "Number,Date,Due,Net,Tax,Total,Code,State,Reduces,Customer",
    "bills": "Supplier,Number,Date,Due,Net,Tax,Account",
    "payroll": "Run,Paid,Code,Department,Amount,Net",
    "bank": "Date,Amount,Text",
}


class Ledgers(Proven):
    """Acme in EUR: connections `invoices`, `bills`, `payroll`, `bank`. Days count from Monday, 2026-10-05; amounts are cents."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.folder = folder
        config = folder / "ledger.yaml"
        config.write_text(CONFIG.format(url=database.url, folder=folder))
        for name in HEADS:
            (folder / name).mkdir()
        self.runtime = Runtime.from_file(config)
        self.runtime.clock = lambda: datetime(2026, 11, 30, tzinfo=UTC)
        self.database = self.runtime.database

    def deliver(self, name: str, day: int, *rows: str) -> None:
        """Write a day's file and run the day."""
        on = MONDAY + timedelta(days=day)
        (self.folder / name / f"{on}.csv").write_text("\n".join([HEADS[name], *rows]) + "\n")
        assert steps.run_day(self.runtime, name, on, "night").checked.closed_by == []

    def invoice(self, number: str, net: str, tax: str = "0", total: str = "", **more: str) -> str:
        """A row; without a total it is net + tax where these are whole cents."""
        said = {"Due": "2026-11-04", "Code": "", "State": "posted", "Reduces": "", "Customer": "c1"} | more
        stated = total or f"{Decimal(net) + Decimal(tax):.2f}"
        return ",".join((number, str(MONDAY), said["Due"], net, tax, stated, *list(said.values())[1:]))

    def balances(self) -> dict[str, int]:
        """Minor units by role, debit positive; what isn't zero."""
        rows = self.rows("SELECT role, sum(amount_minor)::bigint FROM ledger.balance GROUP BY 1 ORDER BY 1")
        return {role: amount for role, amount in rows if amount}

    def fates(self, name: str) -> dict[str, tuple[str, str]]:
        """(fate, reason) of a connection's records, by source id; the newest."""
        rows = self.rows(
            "SELECT DISTINCT ON (source_id) source_id, fate, reason FROM ops.fate WHERE connection = %s ORDER BY source_id, raw_id DESC",
            name,
        )
        return {id_: (fate, reason) for id_, fate, reason in rows}
