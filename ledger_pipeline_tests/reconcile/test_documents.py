"""Invoices, bills and pay runs from files: booked, paid by bank lines, reduced by credit notes, and named where they can't be booked."""

from __future__ import annotations

from pathlib import Path

import pytest

from ledger_pipeline.orchestration import categories
from ledger_pipeline.store.database import Database
from ledger_pipeline_tests.orchestration.test_events_out import told, wanting
from ledger_pipeline_tests.reconcile.ledgers import Ledgers


@pytest.fixture
def ledgers(database: Database, tmp_path: Path) -> Ledgers:
    return Ledgers(database, tmp_path)


def test_one_deposit_for_many_invoices_is_told_when_they_are_paid(ledgers: Ledgers) -> None:
    wanting(ledgers.runtime, zapier=("invoice.paid",))
    ledgers.deliver(
        "invoices", 0,
        ledgers.invoice("RE-1001", "100.00", "19.00", "154.00"), ledgers.invoice("RE-1001", "35.00", "0", "154.00", Code="SUB-Y"),
        ledgers.invoice("RE-1002", "200.00", "38.00"), ledgers.invoice("RE-1003", "10.00"),
        ledgers.invoice("RE-1004", "7.00", State="draft"),
    )  # fmt: skip
    assert ledgers.balances() == {
        "accounts_receivable": 402_00, "sales": -310_00, "deferred_revenue": -35_00, "sales_tax_payable:DE": -57_00
    }  # fmt: skip
    ledgers.deliver("bank", 30, "2026-11-04,402.00,SAMMELZAHLUNG RE-1001 RE-1002 RE-1003")
    ran = ledgers.run()
    assert (ran.matched, ran.placed) == (1, 1)
    assert ledgers.balances() == {
        "bank:giro": 402_00, "sales": -310_00, "deferred_revenue": -35_00, "sales_tax_payable:DE": -57_00
    }  # fmt: skip
    assert ledgers.fates("invoices")["RE-1004"] == ("ignored", "draft")
    ((_, _, data, _),) = told(ledgers.database)
    assert (data["amount_minor"], [m["source_id"] for m in data["members"] if m["record"] == "invoice"]) == (
        402_00, ["RE-1001", "RE-1002", "RE-1003"],
    )  # fmt: skip


def test_a_bill_paid_in_two_parts_stays_open_for_the_rest(ledgers: Ledgers) -> None:
    ledgers.deliver("bills", 0, "s7,B-20017,2026-10-05,2026-10-19,1000.00,190.00,4200")
    ledgers.deliver("bank", 10, "2026-10-15,-500.00,B-20017 RATE 1")
    ledgers.run()
    assert ledgers.balances() == {
        "bank:giro": -500_00,
        "rent": 1000_00,
        "input_tax": 190_00,
        "accounts_payable": -690_00,
    }
    ledgers.deliver("bank", 14, "2026-10-19,-690.00,B20017 REST")
    ran = ledgers.run()
    assert (ran.joined, ran.placed) == (1, 1)
    assert ledgers.balances() == {"bank:giro": -1190_00, "rent": 1000_00, "input_tax": 190_00}


def test_two_suppliers_may_give_the_same_number(ledgers: Ledgers) -> None:
    rows = [f"{supplier},B-20017,2026-10-05,,{net},0,4200" for supplier, net in (("s7", "10.00"), ("s8", "20.00"))]
    ledgers.deliver("bills", 0, *rows)
    ledgers.deliver("bills", 1, "s9,B-20017,2026-10-06,,40.00,,3400")
    assert set(ledgers.fates("bills")) == {"s7/B-20017", "s8/B-20017", "s9/B-20017"}
    assert ledgers.balances() == {"accounts_payable": -70_00, "rent": 30_00, "goods_received_not_invoiced": 40_00}


PAY = (
    "PR-2026-10,2026-10-07,GROSS,shop,3000.00,3500.00",
    "PR-2026-10,2026-10-07,GROSS,office,2000.00,3500.00",
    "PR-2026-10,2026-10-07,TAX,,-1500.00,3500.00",
    "PR-2026-10,2026-10-07,ER,,900.00,3500.00",
    "PR-2026-10,2026-10-07,ERP,,-900.00,3500.00",
    "PR-2026-10,2026-10-07,NET,,-3500.00,3500.00",
)
PAID = {
    "wages": 5000_00, "payroll_tax_withheld": -1500_00, "employer_payroll_tax": 900_00, "employer_payroll_tax_payable": -900_00,
    "bank:giro": -3500_00,
}  # fmt: skip


def test_a_pay_run_is_paid_by_a_transfer_that_names_it(ledgers: Ledgers) -> None:
    ledgers.deliver("payroll", 2, *PAY)
    assert ledgers.balances()["wages_payable"] == -3500_00
    ledgers.deliver("bank", 2, "2026-10-07,-3500.00,LOHN PR-2026-10")
    ledgers.run()
    assert ledgers.balances() == PAID
    assert ledgers.rows("SELECT gross_minor, net_minor FROM staging.pay_run") == [(5000_00, 3500_00)]
    assert ledgers.rows("SELECT department, amount_minor FROM staging.pay_run_line WHERE department <> '' ORDER BY 1") == [
        ("office", 2000_00), ("shop", 3000_00),
    ]  # fmt: skip


def test_a_pay_run_is_paid_by_many_transfers(ledgers: Ledgers) -> None:
    ledgers.deliver("payroll", 2, *PAY)
    salaries = ("1800.00", "1200.00", "500.00")
    ledgers.deliver("bank", 2, *(f"2026-10-07,-{salary},SALARY {n} PR-2026-10" for n, salary in enumerate(salaries)))
    ledgers.run()
    assert ledgers.balances() == PAID
    assert [(one.kind, len(one.members)) for one in ledgers.live()] == [("reference", 4)]


def test_transfers_that_do_not_name_the_pay_run_are_suggested(ledgers: Ledgers) -> None:
    ledgers.deliver("payroll", 2, *PAY)
    ledgers.deliver("bank", 2, *(f"2026-10-07,-{salary},SALARY" for salary in ("1800.00", "1200.00", "500.00")))
    ledgers.run()
    assert [(one.role, one.kind, one.state, len(one.members)) for one in ledgers.live()] == [
        ("wages_payable", "subset", "suggested", 4)
    ]


def test_a_credit_note_reduces_its_invoice(ledgers: Ledgers) -> None:
    ledgers.deliver("invoices", 0, ledgers.invoice("RE-3001", "100.00", "19.00"))
    ledgers.deliver("invoices", 1, ledgers.invoice("GS-3001", "-20.00", "-3.80", Reduces="RE-3001"))
    assert ledgers.balances()["accounts_receivable"] == 95_20
    ledgers.deliver("bank", 4, "2026-10-09,95.20,RE-3001 ABZGL. GUTSCHRIFT")
    ledgers.run()
    assert ledgers.balances() == {"bank:giro": 95_20, "sales": -80_00, "sales_tax_payable:DE": -15_20}
    assert [sorted(m.source_id for m in one.members)[:2] for one in ledgers.live()] == [["GS-3001", "RE-3001"]]


def test_a_credit_note_completes_an_invoice_that_was_paid_in_part(ledgers: Ledgers) -> None:
    ledgers.deliver("invoices", 0, ledgers.invoice("RE-3001", "100.00"))
    ledgers.deliver("bank", 4, "2026-10-09,70.00,RE-3001")
    ledgers.run()
    ledgers.deliver("invoices", 8, ledgers.invoice("GS-3001", "-30.00", Reduces="RE-3001"))
    assert ledgers.run().joined == 1
    assert ledgers.balances() == {"bank:giro": 70_00, "sales": -70_00}


def test_an_invoice_and_the_credit_note_that_cancels_it_are_settled_and_not_paid(ledgers: Ledgers) -> None:
    wanting(ledgers.runtime, zapier=("invoice.paid",))
    ledgers.deliver(
        "invoices", 0, ledgers.invoice("RE-3001", "100.00"), ledgers.invoice("GS-3001", "-100.00", Reduces="RE-3001")
    )
    assert ledgers.run().matched == 1
    assert ledgers.balances() == {}
    assert told(ledgers.database) == []


def test_a_credit_note_that_is_paid_out_is_no_paid_invoice(ledgers: Ledgers) -> None:
    wanting(ledgers.runtime, zapier=("invoice.paid",))
    ledgers.deliver("invoices", 0, ledgers.invoice("GS-3001", "-50.00"))
    ledgers.deliver("bank", 4, "2026-10-09,-50.00,GS-3001")
    assert ledgers.run().matched == 1
    assert ledgers.balances() == {"bank:giro": -50_00, "sales": 50_00}
    assert told(ledgers.database) == []


def test_what_cannot_be_booked_is_quarantined_by_name_and_the_rest_goes_on(ledgers: Ledgers) -> None:
    ledgers.deliver(
        "invoices", 0,
        ledgers.invoice("A", "100.005", total="100.01"), ledgers.invoice("B", "100.00", "19.00", "119.01"), ledgers.invoice("C", "5.00", Code="BOAT"),
        ledgers.invoice("D", "5.00", State="half"), ledgers.invoice("E", "5.00", Due="soon"), ledgers.invoice("F", "5.00"),
    )  # fmt: skip
    ledgers.deliver("payroll", 2, *(row.replace("-3500.00,", "-3499.00,") for row in PAY), *(
        row.replace("PR-2026-10", "PR-B").replace(",3500.00", ",3400.00") for row in PAY
    ), "PR-C,2026-10-07,B99,,1.00,0")  # fmt: skip
    assert ledgers.rows(
        "SELECT source_id, stage, reason FROM ops.quarantine ORDER BY connection, source_id"
    ) == [
        ("A", "staging", "line 2: 100.005 has more decimals than EUR has (2)"),
        ("B", "staging", "line 3: Total is 119.01 EUR, the rows add up to 119.00 EUR"),
        ("C", "posting", "no account for role 'yacht'"),
        ("D", "staging", "line 5: State: 'half' is no state; known are posted, draft, void"),
        ("E", "staging", "line 6: Due: 'soon' is no date as iso"),
        ("PR-2026-10", "staging", "line 2: the rows add up to 1.00 EUR, not to zero"),
        ("PR-B", "staging", "line 8: Net is 3400.00 EUR, the rows on wages_payable add up to 3500.00 EUR"),
        ("PR-C", "staging", "line 14: '***' stands in no `roles`, and there is no default_role"),
    ]  # fmt: skip
    assert ledgers.balances() == {"accounts_receivable": 5_00, "sales": -5_00}


def test_only_files_of_bank_lines_have_categorisation_rules(ledgers: Ledgers) -> None:
    assert categories.banks(ledgers.runtime) == ["bank"]
