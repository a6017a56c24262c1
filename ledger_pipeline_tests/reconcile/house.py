"""A company with a shop that sells on invoice, a processor that pays out, and two bank accounts, through the pipeline's own steps."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from ledger_pipeline import sources
from ledger_pipeline.config import LedgerConfig
from ledger_pipeline.connect import convert
from ledger_pipeline.connect.banking import Categorise, bank_account_role, role_of_text_line
from ledger_pipeline.connect.mapping import Field, Mapping
from ledger_pipeline.connect.source import Options, Source, Stream
from ledger_pipeline.model.records import RECORDS
from ledger_pipeline.orchestration import steps
from ledger_pipeline.orchestration.runtime import Runtime
from ledger_pipeline.store.database import Database
from ledger_pipeline_tests.fakes import Shelf
from ledger_pipeline_tests.reconcile.proven import Proven

MONDAY = date(2026, 10, 5)
RULES = (
    {"contains": "STRIPE", "role": "payout_in_transit", "direction": "both"},
    {"contains": "RENT", "role": "rent", "direction": "both"},
    {"contains": "OWN SAVINGS", "role": "transfer_in_transit", "direction": "both"},
)


class BankOptions(Options):
    """As the real bank sources have it."""

    categorise: tuple[Categorise, ...] = tuple(Categorise.model_validate(rule) for rule in RULES)


_TEXT, _INT, _CURRENCY = convert.text, convert.minor_units, convert.currency
_SALES = (
    Mapping(
        "sale",
        "orders",
        (
            Field("source_id", ("id",), _TEXT),
            Field("order_number", ("number",), _TEXT),
            Field("occurred_at", ("at",), convert.time_iso),
            Field("state", (), convert.constant("captured")),
            Field("currency", ("currency",), _CURRENCY),
            Field("total_minor", ("total",), _INT),
            Field("unpaid_minor", ("total",), _INT),
        ),
    ),
    Mapping(
        "sale_line",
        "orders",
        (
            Field("source_id", ("$.id",), _TEXT),
            Field("role", (), convert.constant("sales")),
            Field("quantity", (), convert.constant(1)),
            Field("currency", ("$.currency",), _CURRENCY),
            Field("net_minor", ("$.total",), _INT),
            Field("discount_minor", (), convert.constant(0)),
        ),
        each="lines[]",
    ),
)
_PAYOUTS = (
    Mapping(
        "processor_transaction",
        "balance",
        (
            Field("source_id", ("id",), _TEXT),
            Field("processor", (), convert.constant("stripe", pa.string())),
            Field("kind", (), convert.constant("payout", pa.string())),
            Field("occurred_at", ("at",), convert.time_iso),
            Field("currency", ("currency",), _CURRENCY),
            Field("amount_minor", ("amount",), _INT),
            Field("fee_minor", (), convert.constant(0)),
            Field("net_minor", ("amount",), _INT),
            Field("role", (), convert.constant("unidentified_receipts")),
            Field("settled_minor", ("amount",), _INT),
            Field("settled_currency", ("currency",), _CURRENCY),
            Field("source_object_id", ("payout",), _TEXT),
        ),
    ),
)
_LINES = (
    Mapping(
        "bank_transaction",
        "lines",
        (
            Field("source_id", ("id",), _TEXT),
            Field("account_id", ("account",), _TEXT),
            Field("booked_on", ("day",), convert.date_iso),
            Field("state", (), convert.constant("booked")),
            Field("currency", ("currency",), _CURRENCY),
            Field("amount_minor", ("amount", "currency"), convert.decimal_text_to_minor),
            Field("description", ("text",), _TEXT),
            Field("bank_role", ("account",), bank_account_role),
            Field("role", ("text", "amount"), role_of_text_line),
        ),
    ),
)


class House(Proven):
    """Acme in USD: connections `shop`, `stripe`, `bank`. Days count from Monday, 2026-10-05; amounts are cents."""

    def __init__(self, database: Database, folder: Path, monkeypatch: pytest.MonkeyPatch, base: str = "USD") -> None:
        self.shelf = Shelf()
        self.offered: dict[tuple[str, date], dict[str, dict[str, Any]]] = {}
        self.now = datetime(2026, 10, 30, 5, tzinfo=UTC)
        made = {
            "house_shop": Source("house_shop", "Shop", (Stream("orders", self.shelf.read, updated_at="updated"),), _SALES, Options),
            "house_processor": Source("house_processor", "Processor", (Stream("balance", self.shelf.read),), _PAYOUTS, Options),
            "house_bank": Source("house_bank", "Bank", (Stream("lines", self.shelf.read, updated_at="updated"),), _LINES, BankOptions),
        }  # fmt: skip
        load = sources.load
        monkeypatch.setattr(sources, "load", lambda name: made.get(name) or load(name))
        config = {
            "database_url": database.url,
            "entities": {"acme": {"name": "Acme", "base_currency": base, "time_zone": "UTC"}},
            "connections": {
                "shop": {"entity": "acme", "source": "house_shop"},
                "stripe": {"entity": "acme", "source": "house_processor"},
                "bank": {"entity": "acme", "source": "house_bank"},
            },
            "schedule": {"start": "2026-10-01"},
        }
        self.runtime = Runtime(LedgerConfig.model_validate(config), folder, clock=lambda: self.now)
        self.database = self.runtime.database

    # what the systems say -----------------------------------------------------------------------------------------------

    def _offer(self, name: str, stream: str, day: int, record: dict[str, Any]) -> None:
        """Offer a record in addition to what the day has, and run the day."""
        on = MONDAY + timedelta(days=day)
        of_day = self.offered.setdefault((name, on), {})
        of_day[record["id"]] = record
        self.shelf.put(stream, *of_day.values())
        done = steps.run_day(self.runtime, name, on, "night")
        assert done.checked.closed_by == []

    def invoice(
        self, id_: str, total: int, day: int = 0, number: str = "", currency: str = "USD", edit: int = 0
    ) -> None:
        """A sale that is owed: it stands on accounts_receivable. `edit` is the number of its version."""
        on = MONDAY + timedelta(days=day)
        record = {
            "id": id_,
            "number": number or id_,
            "at": f"{on}T12:00:00Z",
            "currency": currency,
            "total": total,
            "lines": [{}],
        }
        self._offer("shop", "orders", day, record | {"updated": f"{on}T12:00:{edit:02}Z"})

    def payout(self, id_: str, amount: int, day: int = 0, currency: str = "USD") -> None:
        """Money that leaves the processor."""
        at = f"{MONDAY + timedelta(days=day)}T08:00:00Z"
        self._offer(
            "stripe",
            "balance",
            day,
            {"id": f"txn_{id_}", "payout": id_, "at": at, "currency": currency, "amount": -amount},
        )

    def line(
        self,
        id_: str,
        amount: int,
        day: int = 0,
        text: str = "CREDIT",
        account: str = "a1",
        currency: str = "USD",
        edit: int = 0,
    ) -> None:
        """A booked bank line; money in is positive."""
        on = MONDAY + timedelta(days=day)
        written = f"{'-' if amount < 0 else ''}{abs(amount) // 100}.{abs(amount) % 100:02}"
        record = {"id": id_, "account": account, "day": f"{on}", "currency": currency, "amount": written, "text": text}
        self._offer("bank", "lines", day, record | {"updated": f"{on}T12:00:{edit:02}Z"})

    # what the books say -------------------------------------------------------------------------------------------------

    def role(self, id_: str) -> str:
        """Where a bank line's other side stands now."""
        [(role,)] = self.rows(
            "SELECT l.role FROM ledger.live_entry e JOIN ledger.line l USING (entry_id) "
            "WHERE e.connection = 'bank' AND e.source_id = %s AND l.role NOT LIKE 'bank:%%'",
            id_,
        )
        return str(role)

    def balance(self, role: str, currency: str = "USD") -> int:
        """Minor units, debit positive."""
        found = self.rows("SELECT amount_minor FROM ledger.balance WHERE (role, currency) = (%s, %s)", role, currency)
        return int(found[0][0]) if found else 0


assert {m.record for m in (*_SALES, *_PAYOUTS, *_LINES)} <= set(RECORDS)
