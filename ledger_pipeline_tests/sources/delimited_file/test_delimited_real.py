"""A year of a real shop's invoices, 305 files: every row has one fate, and the money by fate adds up."""

from __future__ import annotations

import csv
import re
import time
from collections import Counter
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

DATA = Path(__file__).resolve().parents[3] / ".." / "shared" / "data" / "online_retail" / "by-day"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data/online_retail is absent")

INVOICES: dict[str, Any] = {
    "record": "sale",
    "group_by": "InvoiceNo",
    "currency": {"value": "GBP"},
    "refund_when": {"column": "InvoiceNo", "starts_with": "C"},
    "refuse_when": [{"column": "InvoiceNo", "starts_with": "A", "reason": "bad debt adjustment: no sale"}],
    "roles": {
        "POST": "shipping_income", "DOT": "shipping_income", "C2": "shipping_income", "D": "sales_discounts",
        "gift_*": "gift_card_liability",
        "AMAZONFEE": "marketplace_fees", "BANK CHARGES": "bank_fees", "CRUK": "donations",
    },
    "columns": {
        "occurred_at": {"column": "InvoiceDate", "format": "%Y-%m-%d %H:%M:%S", "time_zone": "Europe/London"},
        "quantity": "Quantity", "unit_price": "UnitPrice", "sku": "StockCode", "title": "Description",
        "customer_id": "CustomerID", "country": "Country", "gateway": {"value": "shop"},
    },
}  # fmt: skip


PLACE = re.compile(r"^.*line \d+: (1 × [\d.]+: )?")


@pytest.mark.slow
def test_every_row_of_305_days_has_one_fate_and_the_money_ties(puller: Any) -> None:
    began = time.perf_counter()
    connection = puller(folder=DATA, map=INVOICES)
    units: Counter[str] = Counter()
    money: Counter[str] = Counter()
    records: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    cancelled_rows, cancelled, repeated, posted_minor = 0, Decimal(0), 0, 0
    files = sorted(DATA.glob("*.csv"))
    for path in files:
        pulled = connection.pull(date.fromisoformat(path.stem))
        repeated += pulled.request.notes["repeated_rows"]
        for payload, fate, reason in zip(pulled.payloads, pulled.fates, pulled.reasons, strict=True):
            source_id, _, rows = connection.stream.identify(payload)
            amount, currency, _ = connection.stream.told(payload.decode())
            assert amount is not None
            assert currency == "GBP"
            units[fate] += rows
            money[fate] += Decimal(amount)  # type: ignore[assignment]
            records[fate] += 1
            reasons[PLACE.sub("", reason)] += 1
            if source_id.startswith("C"):
                cancelled_rows, cancelled = cancelled_rows + rows, cancelled + Decimal(amount)
        posted_minor += sum(a for entry in pulled.entries for role, a in entry if role == "order_clearing:shop")
    assert len(files) == 305
    assert (sum(units.values()), sum(money.values()), sum(records.values())) == (
        541_909,
        Decimal("9747747.934"),
        25_900,
    )
    assert (cancelled_rows, cancelled) == (9_288, Decimal("-896812.49"))
    assert repeated == 5_268
    assert units == {"posted": 539_669, "ignored": 2_115, "quarantined": 125}
    assert records == {"posted": 23_791, "ignored": 2_102, "quarantined": 7}
    assert money == {"posted": Decimal("9756128.72"), "ignored": 0, "quarantined": Decimal("-8380.786")}
    assert reasons == {
        "": 23_791, "zero amount": 2_102, "bad debt adjustment: no sale": 3,
        "0.001 has more decimals than GBP has (2)": 4
    }  # fmt: skip
    assert Decimal(posted_minor) / 100 == money["posted"]
    assert time.perf_counter() - began < 120, "measured: 18 s on two cores"


def test_a_real_invoice_becomes_its_entry(puller: Any) -> None:
    pulled = puller(folder=DATA, map=INVOICES).pull(date(2010, 12, 1))
    documents = pulled.documents
    position = next(i for i, d in enumerate(documents) if d["source_id"] == "536365")
    with (DATA / "2010-12-01.csv").open(newline="") as file:
        rows = [
            (number, row) for number, row in enumerate(csv.DictReader(file), start=2) if row["InvoiceNo"] == "536365"
        ]
    assert documents[position]["rows"] == [{"line": number, "columns": row} for number, row in rows]
    total = sum(Decimal(row["Quantity"]) * Decimal(row["UnitPrice"]) for _, row in rows)
    sale = next(sale for sale in pulled.rows("sale") if sale["source_id"] == "536365")
    assert (sale["total_minor"], sale["customer_id"], sale["jurisdiction"]) == (
        int(total * 100),
        "17850.0",
        "United Kingdom",
    )
    assert [("order_clearing:shop", int(total * 100)), ("sales", -int(total * 100))] in pulled.entries


def test_a_real_cancellation_is_a_refund_and_a_discount_lands_in_its_role(puller: Any) -> None:
    pulled = puller(folder=DATA, map=INVOICES).pull(date(2010, 12, 1))
    refund = next(r for r in pulled.rows("refund") if r["source_id"] == "C536379")
    assert (refund["total_minor"], refund["state"]) == (2750, "refunded")
    assert [("order_clearing:shop", -2750), ("sales_discounts", 2750)] in pulled.entries
