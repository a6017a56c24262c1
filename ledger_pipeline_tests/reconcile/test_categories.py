"""What each categorisation rule took, and which rule would take a text."""

from __future__ import annotations

from pathlib import Path

import pytest

from ledger_pipeline.orchestration import categories
from ledger_pipeline.store.database import Database
from ledger_pipeline_tests.reconcile.house import MONDAY, House


@pytest.fixture
def house(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    return House(database, tmp_path, monkeypatch)


def test_lines_are_counted_by_what_took_them(house: House) -> None:
    house.invoice("s1", 120_00, number="INV-1001")
    house.payout("po_1", 90_00)
    house.line("b1", 120_00, 1, "INV-1001")
    house.line("b2", -700_00, 1, "RENT OCTOBER")
    house.line("b3", 50_00, 1, "RENT REBATE")
    house.line("b4", 5_00, 1, "?")
    house.line("b5", 90_00, 1, "STRIPE PO_1")
    house.run()
    found = categories.counts(house.runtime, ["bank"], MONDAY, MONDAY.replace(day=30))
    assert [(t.by, t.number, t.contains, t.role, t.lines, t.in_minor, t.out_minor) for t in found] == [
        ("match", 0, "", "accounts_receivable", 1, 120_00, 0),
        ("rule", 1, "STRIPE", "payout_in_transit", 1, 90_00, 0),
        ("rule", 2, "RENT", "rent", 2, 50_00, 700_00),
        ("rule", 3, "OWN SAVINGS", "transfer_in_transit", 0, 0, 0),
        ("nothing", 0, "", "unidentified_receipts", 1, 5_00, 0),
    ]
    assert categories.counts(house.runtime, ["bank"], MONDAY, MONDAY)[0].lines == 0


def test_the_rule_for_a_text_is_told_by_its_place(house: House) -> None:
    assert categories.banks(house.runtime) == ["bank"]
    assert categories.rule_for(house.runtime, "bank", "october rent", is_in=False) == (2, "rent")
    assert categories.rule_for(house.runtime, "bank", "october", is_in=False) == (0, "uncategorised_expense")
