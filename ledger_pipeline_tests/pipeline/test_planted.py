"""Each fault that the sandbox company plants, and what the books did with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ledger_pipeline.orchestration.runtime import Runtime
from ledger_pipeline_tests.conftest import SandboxCompany
from ledger_pipeline_tests.pipeline.books import WEEK, WITH_WEEK

Rows = list[tuple[Any, ...]]


class Books:
    """Looks things up in the booked week."""

    def __init__(self, runtime: Runtime, company: Any) -> None:
        self.runtime, self.company = runtime, company

    def ask(self, query: str, *arguments: Any) -> Rows:
        with self.runtime.database.connect("reader") as connection:
            return connection.execute(query, arguments).fetchall()

    def fate(self, planted: Any) -> tuple[str, str]:
        """(fate, reason) of the newest version."""
        rows = self.ask(
            "SELECT fate, reason FROM ops.fate WHERE connection = %s AND stream = %s AND source_id LIKE %s AND fate <> 'superseded'",
            planted.connection,
            planted.stream,
            f"%{planted.source_id}%",
        )
        assert len(rows) == 1, rows
        return rows[0]

    def entries(self, source_id: str) -> Rows:
        """(record, kind) of every entry of a record or its origin, in posting order."""
        return self.ask(
            "SELECT record, kind FROM ledger.entry WHERE source_id = %s OR origin_id = %s ORDER BY entry_id",
            source_id,
            source_id,
        )

    def lines(self, source_id: str, record: str = "%") -> dict[tuple[str, str], int]:
        """Net lines of a record (or of everything from its origin): (role, currency) → amount."""
        rows = self.ask(
            "SELECT l.role, l.currency, sum(l.amount_minor)::bigint FROM ledger.entry e JOIN ledger.line l USING (entry_id) "
            "WHERE (e.source_id = %s OR e.origin_id = %s) AND e.record LIKE %s GROUP BY 1, 2 HAVING sum(l.amount_minor) <> 0",
            source_id,
            source_id,
            record,
        )
        return {(role, currency): amount for role, currency, amount in rows}

    def of_order(self, order_id: str, role: str) -> dict[str, int]:
        """A role's net amounts by currency over an order, its refunds and its processor transactions."""
        rows = self.ask(
            "SELECT l.currency, sum(l.amount_minor)::bigint FROM ledger.line l JOIN ledger.entry e USING (entry_id) WHERE l.role = %s AND "
            "(e.origin_id = %s OR e.source_id IN (SELECT source_id FROM staging.processor_transaction WHERE order_id = %s)) GROUP BY 1",
            role,
            order_id,
            order_id,
        )
        return dict(rows)

    def quarantined(self, source_id: str) -> tuple[str, str]:
        """(path, reason)."""
        rows = self.ask("SELECT DISTINCT path, reason FROM ops.quarantine WHERE source_id = %s", source_id)
        assert len(rows) == 1, rows
        return rows[0]


def edited_order(books: Books, p: Any) -> None:
    assert books.entries(p.source_id) == [("sale", "original"), ("sale", "reversal"), ("sale", "replacement")]


def gift_card_sold(books: Books, p: Any) -> None:
    assert books.lines(p.source_id)["gift_card_liability", "USD"] == -100_00


def gift_card_redeemed(books: Books, p: Any) -> None:
    assert books.lines(p.source_id)["gift_card_liability", "USD"] == 100_00


def gift_card_pays_all(books: Books, p: Any) -> None:
    lines = books.lines(p.source_id)
    assert (
        lines["gift_card_liability", "USD"]
        == -sum(v for (role, _), v in lines.items() if role != "gift_card_liability")
        > 0
    )
    assert not [role for role, _ in lines if role.startswith("order_clearing")]


def dispute_lost(books: Books, p: Any) -> None:
    rows = books.ask(
        "SELECT source_id FROM ledger.entry WHERE record = 'dispute' AND source_id LIKE %s", f"%{p.source_id}"
    )
    lines = books.lines(rows[0][0], "dispute")
    (currency,) = {c for _, c in lines}
    assert lines["chargeback_loss", currency] == -lines["dispute_receivable", currency] > 0


def dispute_won(books: Books, p: Any) -> None:
    assert books.ask("SELECT 1 FROM ledger.entry WHERE record = 'dispute' AND source_id = %s", p.source_id) == []
    moved = books.ask(
        "SELECT kind, amount_minor FROM staging.processor_transaction WHERE source_object_id = %s ORDER BY occurred_at",
        p.source_id,
    )
    assert [kind for kind, _ in moved] == ["dispute", "dispute_reversal"]
    assert moved[0][1] == -moved[1][1] < 0


def tax_included(books: Books, p: Any) -> None:
    lines = books.lines(p.source_id, "sale")
    total = books.ask("SELECT total_minor FROM staging.sale WHERE source_id = %s", p.source_id)[0][0]
    income = sum(v for (role, _), v in lines.items() if role in ("sales", "shipping_income", "sales_discounts"))
    assert -income - lines["sales_tax_payable:GB", "GBP"] == total


def negative_payout(books: Books, p: Any) -> None:
    (txn,) = books.ask(
        "SELECT source_id, amount_minor FROM staging.processor_transaction WHERE source_object_id = %s AND kind = 'payout'",
        p.source_id,
    )
    assert txn[1] > 0
    assert books.lines(txn[0]) == {("processor_balance:stripe", "EUR"): txn[1], ("payout_in_transit", "EUR"): -txn[1]}


def partial_refund(books: Books, p: Any) -> None:
    assert ("refund", "original") in books.entries(p.source_id)
    assert books.lines(p.source_id, "refund")["sales_returns", "USD"] > 0
    assert set(books.of_order(p.source_id, "order_clearing:stripe").values()) == {0}


def full_refund(books: Books, p: Any) -> None:
    assert books.lines(p.source_id).get(("order_clearing:stripe", "CAD"), 0) == 0
    assert set(books.of_order(p.source_id, "order_clearing:stripe").values()) == {0}


def test_order(books: Books, p: Any) -> None:
    assert books.fate(p) == ("ignored", "test order")
    assert books.entries(p.source_id) == []


test_order.__test__ = False  # type: ignore[attr-defined]


def authorised_only(books: Books, p: Any) -> None:
    assert books.fate(p) == ("ignored", "authorised only")


def cancelled_before_capture(books: Books, p: Any) -> None:
    assert books.fate(p) == ("ignored", "voided")


def cancelled_after_capture(books: Books, p: Any) -> None:
    assert {record for record, _ in books.entries(p.source_id)} == {"sale", "refund"}
    assert set(books.of_order(p.source_id, "order_clearing:stripe").values()) == {0}


def identical_bank_lines(books: Books, p: Any) -> None:
    twins = [q.source_id for q in books.company.planted(WEEK[0], WEEK[-1]) if q.kind == "identical_bank_lines"]
    first, second = (books.lines(twin) for twin in twins)
    assert first == second != {}


def pending_amount_changed(books: Books, p: Any) -> None:
    assert books.entries(p.source_id) == []
    (booked,) = books.ask(
        "SELECT source_id, amount_minor FROM staging.bank_transaction WHERE pending_id = %s", p.source_id
    )
    (pending,) = books.ask(
        "SELECT DISTINCT amount_minor FROM staging.bank_transaction WHERE source_id = %s", p.source_id
    )
    assert booked[1] != pending[0]
    assert booked[1] in books.lines(booked[0]).values()


def refund_before_charge(books: Books, p: Any) -> None:
    assert books.of_order(p.source_id, "order_clearing:stripe") == {"USD": 0}
    days = books.ask(
        "SELECT kind, occurred_at FROM staging.processor_transaction WHERE order_id = %s ORDER BY occurred_at",
        p.source_id,
    )
    (refunded,) = books.ask("SELECT min(occurred_at) FROM staging.refund WHERE order_id = %s", p.source_id)
    assert [kind for kind, _ in days] == ["charge", "refund"]
    assert refunded[0] < days[0][1]


def failed_payout(books: Books, p: Any) -> None:
    moved = books.ask(
        "SELECT source_id, kind FROM staging.processor_transaction WHERE source_object_id = %s", p.source_id
    )
    assert {kind for _, kind in moved} == {"payout", "payout_failure"}
    in_transit = [books.lines(source_id)["payout_in_transit", "USD"] for source_id, _ in moved]
    assert sum(in_transit) == 0
    assert max(in_transit) > 0


def duplicate_event(books: Books, p: Any) -> None:
    assert (
        books.ask("SELECT sum(repeated) FROM raw.pull WHERE connection = 'stripe_us' AND stream = 'events'")[0][0] >= 1
    )
    rows = books.ask(
        "SELECT count(*) FROM raw.record WHERE stream = 'events' AND payload->>'type' = 'payout.failed' AND payload#>>'{data,object,id}' = %s",
        p.source_id,
    )
    assert rows == [(1,)]


def duplicate_order(books: Books, p: Any) -> None:
    assert (
        books.ask("SELECT sum(repeated) FROM raw.pull WHERE connection = 'shopify_us' AND stream = 'orders'")[0][0] >= 1
    )
    assert books.entries(p.source_id) == [("sale", "original")]


def bank_line_modified(books: Books, p: Any) -> None:
    assert [kind for _, kind in books.entries(p.source_id)] == ["original", "reversal", "replacement"]


def bank_line_removed(books: Books, p: Any) -> None:
    assert [kind for _, kind in books.entries(p.source_id)] == ["original", "reversal"]
    assert books.lines(p.source_id) == {}
    assert books.fate(p) == ("ignored", "removed at the source")


def unknown_bank_line(books: Books, p: Any) -> None:
    roles = {role for role, _ in books.lines(p.source_id)}
    assert roles & {"uncategorised_expense", "unidentified_receipts"}


def identical_statement_lines(books: Books, p: Any) -> None:
    rows = books.ask(
        "SELECT count(*), count(DISTINCT source_id) FROM staging.bank_transaction WHERE connection = 'bank_eur' AND sync_date = %s "
        "GROUP BY amount_minor, description HAVING count(*) > 1",
        p.day,
    )
    assert rows == [(2, 2)]
    posted = books.ask(
        "SELECT count(*) FROM ledger.entry e JOIN staging.bank_transaction s USING (connection, source_id) WHERE s.sync_date = %s AND "
        "s.connection = 'bank_eur'",
        p.day,
    )
    assert posted == [(2,)]


def duplicate_statement(books: Books, p: Any) -> None:
    assert books.ask("SELECT count(*) FROM raw.file WHERE connection = 'bank_eur'") == [(7,)]
    (notes,) = books.ask("SELECT notes FROM raw.pull WHERE connection = 'bank_eur' AND sync_date = %s", p.day)
    assert notes[0]["files"] == 2
    assert len(notes[0]["repeated_files"]) == 1


def malformed_amount(books: Books, p: Any) -> None:
    assert books.quarantined(p.source_id) == ("$.totalPriceSet.shopMoney.amount", "'12,50' is not a decimal number")
    assert books.entries(p.source_id) == []
    (kept,) = books.ask("SELECT payload::text LIKE '%%12,50%%' FROM raw.record WHERE source_id = %s", p.source_id)
    assert kept == (True,)


def unknown_bank_currency(books: Books, p: Any) -> None:
    assert books.quarantined(p.source_id) == (
        "$.iso_currency_code",
        "unknown currency 'USDT' (not an active ISO 4217 code)",
    )


def too_many_decimals(books: Books, p: Any) -> None:
    assert books.quarantined(p.source_id) == ("$.amount", "12.345 has more decimals than USD has (2)")


def order_without_payment(books: Books, p: Any) -> None:
    assert books.ask("SELECT 1 FROM staging.processor_transaction WHERE order_id = %s", p.source_id) == []
    assert books.lines(p.source_id)["order_clearing:stripe", "USD"] > 0


def payment_without_order(books: Books, p: Any) -> None:
    assert books.lines(p.source_id)["unidentified_receipts", "USD"] < 0


def many_lines(books: Books, p: Any) -> None:
    rows = books.ask("SELECT count(*) FROM staging.sale_line WHERE source_id = %s AND role = 'sales'", p.source_id)
    assert rows[0][0] >= 60
    assert books.entries(p.source_id) == [("sale", "original")]


EXPECTED: dict[str, Callable[[Books, Any], None]] = {
    f.__name__: f
    for f in (
        *(
            edited_order,
            gift_card_sold,
            gift_card_redeemed,
            gift_card_pays_all,
            dispute_lost,
            dispute_won,
            tax_included,
        ),
        *(negative_payout, partial_refund, full_refund, test_order, authorised_only, cancelled_before_capture),
        *(cancelled_after_capture, identical_bank_lines, pending_amount_changed, refund_before_charge, failed_payout),
        *(duplicate_event, duplicate_order, bank_line_modified, bank_line_removed, unknown_bank_line, malformed_amount),
        *(identical_statement_lines, duplicate_statement, unknown_bank_currency, too_many_decimals, many_lines),
        *(order_without_payment, payment_without_order),
    )
}


@WITH_WEEK
@pytest.mark.parametrize("kind", sorted(EXPECTED))
def test_what_the_books_did_with(kind: str, week: Runtime, sandbox: SandboxCompany) -> None:
    planted = [p for p in sandbox.company.planted(WEEK[0], WEEK[-1]) if p.kind == kind]  # type: ignore[attr-defined]
    assert planted, f"the company plants no {kind}"
    for one in planted:
        EXPECTED[kind](Books(week, sandbox.company), one)


def test_every_planted_kind_is_looked_at(sandbox: SandboxCompany) -> None:
    kinds = {p.kind for p in sandbox.company.planted(WEEK[0], WEEK[-1])}  # type: ignore[attr-defined]
    assert kinds == set(EXPECTED)
