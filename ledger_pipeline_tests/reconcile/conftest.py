"""A company whose clearing accounts a test fills record by record: entries in the sealed tables, and the staged rows behind them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from ledger_pipeline.reconcile import matches, open_items
from ledger_pipeline.reconcile.engine import Policy
from ledger_pipeline.reconcile.matches import Kept, Ran
from ledger_pipeline.reconcile.open_items import OpenItem
from ledger_pipeline.store import staging
from ledger_pipeline.store.database import Database
from ledger_pipeline_tests.fakes import row, table
from ledger_pipeline_tests.reports.statements.conftest import Books

MONDAY = date(2026, 10, 5)
NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
CLEARING, TRANSIT = "order_clearing:stripe", "payout_in_transit"


def on(days: int) -> date:
    """Days after Monday."""
    return MONDAY + timedelta(days=days)


class Desk:
    """Acme, whose base is USD. Amounts are minor units as they stand on the clearing account, debit positive."""

    def __init__(self, database: Database) -> None:
        self.database, self.books = database, Books(database)

    def _post(
        self, record: str, source_id: str, day: date, lines: list[tuple[Any, ...]], connection: str, facts: dict[str, Any], **how: Any
    ) -> int:  # fmt: skip
        entry = self.books.post(source_id, day, *lines, record=record, connection=connection, **how)
        with self.database.connect("writer") as c:
            found = c.execute("SELECT raw_id FROM ledger.entry WHERE entry_id = %s", (entry,)).fetchone()
            assert found is not None
            staging.write(c, connection, day, record, table(record, row(record, found[0], source_id, **facts)))
        return entry

    def sale(self, id_: str, amount: int, day: int = 0, role: str = CLEARING, *foreign: Any, **how: Any) -> int:
        """An order; `foreign` is (currency, base amount)."""
        line = (role, amount, *foreign) if foreign else (role, amount)
        other = ("sales", -amount, *foreign[:1], -foreign[1]) if foreign else ("sales", -amount)
        return self._post(
            "sale", id_, on(day), [line, other], how.pop("connection", "shop"), {"total_minor": amount, "order_number": f"#{id_}"}, **how
        )  # fmt: skip

    def edit(self, entry: int, id_: str, amount: int, day: int = 0, new_day: int | None = None) -> int:
        """The sale's entry is reversed and replaced, on its own day or another."""
        at = day if new_day is None else new_day
        self.books.reverse(entry, on(at))
        return self.sale(id_, amount, at, kind="replacement", corrects=entry)

    def refund(self, id_: str, order: str, amount: int, day: int = 0) -> int:
        """The shop gives back; the amount is positive."""
        facts = {"order_id": order, "total_minor": amount}
        return self._post("refund", id_, on(day), [(CLEARING, -amount), ("sales_returns", amount)], "shop", facts)

    def charge(
        self, id_: str, order: str | None, amount: int, day: int = 0, *foreign: Any, kind: str = "charge", fee: int = 0
    ) -> int:
        """The processor takes money (a refund is negative); it clears the order with the other sign."""
        line = (CLEARING, -amount, *foreign[:1], -foreign[1]) if foreign else (CLEARING, -amount)
        other = ("processor_balance:stripe", amount, *foreign) if foreign else ("processor_balance:stripe", amount)
        facts = {"kind": kind, "order_id": order, "amount_minor": amount, "fee_minor": fee}
        return self._post("processor_transaction", id_, on(day), [line, other], "stripe", facts)

    def payout(self, id_: str, amount: int, day: int = 0, kind: str = "payout", txn: str = "") -> int:
        """Money that leaves the processor (a failure is negative)."""
        facts = {"kind": kind, "source_object_id": id_, "amount_minor": -amount}
        lines = [(TRANSIT, amount), ("processor_balance:stripe", -amount)]
        return self._post("processor_transaction", txn or f"txn_{id_}", on(day), lines, "stripe", facts)

    def bank(self, id_: str, amount: int, day: int = 0, text: str = "STRIPE TRANSFER", role: str = TRANSIT) -> int:
        """A deposit."""
        facts = {"amount_minor": amount, "description": text, "role": role, "booked_on": on(day)}
        return self._post("bank_transaction", id_, on(day), [("bank:a1", amount), (role, -amount)], "bank", facts)

    def run(self, policy: Policy | None = None) -> Ran:
        """Reconcile."""
        with self.database.connect() as connection:
            return matches.run(connection, "acme", policy or Policy(), "run-1", NOW)

    def live(self) -> list[Kept]:
        """Matches and suggestions."""
        with self.database.connect("reader") as connection:
            return matches.live(connection, "acme")

    def open(self, through: int = 60, policy: Policy | None = None) -> list[OpenItem]:
        """Open items at the end of a day, checked against the balances."""
        with self.database.connect("reader") as connection:
            items = open_items.of_entity(connection, "acme", on(through), policy)
            assert open_items.differences(connection, "acme", items, on(through)) == []
        return items

    def causes(self, through: int = 60, policy: Policy | None = None) -> list[tuple[str, int, str]]:
        """(what, amount, cause) of what is open."""
        return [(i.what, i.amount_minor, i.cause) for i in self.open(through, policy)]

    def count(self) -> tuple[int, int, int]:
        """Rows of matches, members and events."""
        with self.database.connect("reader") as connection:
            found = connection.execute(
                "SELECT (SELECT count(*) FROM recon.match), (SELECT count(*) FROM recon.member), (SELECT count(*) FROM recon.event)"
            ).fetchone()
        assert found is not None
        return found[0], found[1], found[2]


@pytest.fixture
def desk(database: Database) -> Desk:
    return Desk(database)
