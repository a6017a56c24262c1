"""Canonical rows written by hand, and a small source whose list is bytes that the test controls."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from ledger_pipeline import sources
from ledger_pipeline.config import LedgerConfig
from ledger_pipeline.connect import convert
from ledger_pipeline.connect.fx import ReferenceRates
from ledger_pipeline.connect.mapping import Field, Mapping
from ledger_pipeline.connect.source import Options, Request, Source, Stream
from ledger_pipeline.model.records import RECORDS
from ledger_pipeline.orchestration import steps
from ledger_pipeline.orchestration.runtime import Runtime
from ledger_pipeline.store.database import Database

NOON = datetime(2026, 10, 5, 12, tzinfo=UTC)
DAY = date(2026, 10, 5)
ecb_rate = ReferenceRates()
"""The package's own history of reference rates: (currency, base, day)."""

DEFAULTS: dict[str, dict[str, Any]] = {
    "sale": {"order_number": "#1", "occurred_at": NOON, "state": "captured", "currency": "USD", "unpaid_minor": 0},
    "sale_line": {"role": "sales", "quantity": 1, "currency": "USD", "discount_minor": 0},
    "sale_tax": {
        "jurisdiction": "US-NY",
        "currency": "USD",
        "is_marketplace_liable": False,
        "role": "sales_tax_payable:US-NY",
    },
    "sale_tender": {"gateway": "stripe", "role": "order_clearing:stripe", "currency": "USD", "settled_currency": "USD"},
    "refund": {"order_id": "o", "occurred_at": NOON, "state": "refunded", "currency": "USD"},
    "refund_line": {"role": "sales_returns", "currency": "USD"},
    "refund_tax": {"jurisdiction": "US-NY", "role": "sales_tax_payable:US-NY", "currency": "USD"},
    "refund_tender": {
        "gateway": "stripe",
        "role": "order_clearing:stripe",
        "currency": "USD",
        "settled_currency": "USD",
    },
    "processor_transaction": {
        "processor": "stripe",
        "kind": "charge",
        "occurred_at": NOON,
        "currency": "USD",
        "fee_minor": 0,
        "role": "order_clearing:stripe",
        "settled_currency": "USD",
    },
    "payout": {"processor": "stripe", "occurred_at": NOON, "state": "paid", "currency": "USD"},
    "dispute": {"processor": "stripe", "opened_at": NOON, "decided_at": NOON, "state": "lost", "currency": "USD"},
    "bank_transaction": {
        "account_id": "a1",
        "booked_on": DAY,
        "state": "booked",
        "currency": "USD",
        "bank_role": "bank:a1",
        "role": "payout_in_transit",
    },
    "bank_balance": {"account_id": "a1", "stated_on": DAY, "kind": "closing", "currency": "USD"},
    "invoice": {"number": "INV-1", "issued_on": DAY, "state": "posted", "currency": "USD"},
    "invoice_line": {"role": "sales", "currency": "USD"},
    "invoice_tax": {"jurisdiction": "US-NY", "currency": "USD", "role": "sales_tax_payable:US-NY"},
    "bill": {"number": "B-1", "issued_on": DAY, "state": "posted", "currency": "USD"},
    "bill_line": {"role": "rent", "currency": "USD"},
    "bill_tax": {"currency": "USD", "role": "input_tax"},
    "pay_run": {"paid_on": DAY, "state": "posted", "currency": "USD", "gross_minor": 0, "net_minor": 0},
    "pay_run_line": {"role": "wages", "currency": "USD"},
    "party": {"kind": "customer"},
}


def row(record: str, raw_id: int = 1, source_id: str = "s1", **values: Any) -> dict[str, Any]:
    """A canonical row; what isn't said is a sound default, a part is numbered by the order of `table`."""
    made = {"raw_id": raw_id, "source_id": source_id, **DEFAULTS[record], **values}
    if "settled_currency" in made and "settled_minor" not in made:
        made["settled_minor"] = made["amount_minor"]
    if record == "processor_transaction":
        made.setdefault("net_minor", made["amount_minor"] - made["fee_minor"])
    return made


def table(record: str, *rows: dict[str, Any]) -> pa.Table:
    """Rows as the canonical table; parts get their line numbers within their parent."""
    counted: dict[tuple[int, str], int] = {}
    numbered = []
    for one in rows:
        key = one["raw_id"], one["source_id"]
        counted[key] = counted.get(key, 0) + 1
        numbered.append({"line_no": counted[key], **one} if RECORDS[record].parent else one)
    return pa.Table.from_pylist(numbered, RECORDS[record].schema())


def tables(**rows: Sequence[dict[str, Any]]) -> dict[str, pa.Table]:
    """Tables of every record; empty ones where nothing is given."""
    return {name: table(name, *rows.get(name, ())) for name in RECORDS}


# a source --------------------------------------------------------------------------------------------------------


@dataclass
class Shelf:
    """What the fake source offers per stream, in pages: JSON objects or exact bytes. A pull reads what stands here."""

    pages: dict[str, list[list[Any]]] = field(default_factory=dict)
    before_page: Callable[[str, int], None] = lambda stream, page: None

    def put(self, stream: str, *records: Any, page_size: int = 100) -> None:
        """Replace what a stream offers."""
        self.pages[stream] = [list(records[n : n + page_size]) for n in range(0, len(records), page_size)]

    def read(self, request: Request) -> Iterator[Sequence[bytes]]:
        """The reader of every fake stream."""
        for number, page in enumerate(self.pages.get(request.stream, [])):
            self.before_page(request.stream, number)
            request.pages += 1
            yield [record if isinstance(record, bytes) else json.dumps(record).encode() for record in page]


class FakeOptions(Options):
    """`key` stands for a secret."""

    key: str = "k"


def _map(target: str, path: str, converter: convert.Converter) -> Field:
    return Field(target, (path,), converter)


_TEXT, _INT, _TIME, _CURRENCY = convert.text, convert.minor_units, convert.time_iso, convert.currency
MAPPINGS = (
    Mapping(
        "sale",
        "orders",
        (
            _map("source_id", "id", _TEXT),
            _map("order_number", "id", _TEXT),
            _map("occurred_at", "at", _TIME),
            _map("state", "state", _TEXT),
            _map("currency", "currency", _CURRENCY),
            _map("jurisdiction", "country?", _TEXT),
            _map("total_minor", "total", _INT),
            Field("unpaid_minor", (), convert.constant(0)),
        ),
    ),
    Mapping(
        "sale_line",
        "orders",
        (
            _map("source_id", "$.id", _TEXT),
            _map("role", "role", _TEXT),
            Field("quantity", (), convert.constant(1)),
            _map("currency", "$.currency", _CURRENCY),
            _map("net_minor", "net", _INT),
            Field("discount_minor", (), convert.constant(0)),
        ),
        each="lines[]",
    ),
    Mapping(
        "sale_tender",
        "orders",
        (
            _map("source_id", "$.id", _TEXT),
            Field("gateway", (), convert.constant("till")),
            Field("role", (), convert.constant("order_clearing:till")),
            _map("currency", "$.currency", _CURRENCY),
            _map("amount_minor", "$.total", _INT),
            _map("settled_minor", "$.total", _INT),
            _map("settled_currency", "$.currency", _CURRENCY),
        ),
        each="tenders[]",
    ),
    Mapping(
        "refund",
        "orders",
        (
            _map("source_id", "id", _TEXT),
            _map("order_id", "$.id", _TEXT),
            _map("occurred_at", "at", _TIME),
            Field("state", (), convert.constant("refunded")),
            _map("currency", "$.currency", _CURRENCY),
            _map("total_minor", "amount", _INT),
        ),
        each="refunds[]",
    ),
    Mapping(
        "refund_line",
        "orders",
        (
            _map("source_id", "id", _TEXT),
            Field("role", (), convert.constant("sales_returns")),
            _map("currency", "$.currency", _CURRENCY),
            _map("amount_minor", "amount", _INT),
        ),
        each="refunds[]",
    ),
    Mapping(
        "refund_tender",
        "orders",
        (
            _map("source_id", "id", _TEXT),
            Field("gateway", (), convert.constant("till")),
            Field("role", (), convert.constant("order_clearing:till")),
            _map("currency", "$.currency", _CURRENCY),
            _map("amount_minor", "amount", _INT),
            _map("settled_minor", "amount", _INT),
            _map("settled_currency", "$.currency", _CURRENCY),
        ),
        each="refunds[]",
    ),
    Mapping(
        "party",
        "people",
        (
            _map("source_id", "id", _TEXT),
            Field("kind", (), convert.constant("customer")),
            _map("country", "country?", _TEXT),
        ),
    ),
)


def order(id_: str = "o1", total: int = 1000, **more: Any) -> dict[str, Any]:
    """An order of the fake source: one line, one tender."""
    made = {"id": id_, "at": NOON.isoformat(), "state": "captured", "currency": "USD", "total": total, "refunds": []}
    return made | {"lines": [{"role": "sales", "net": more.pop("net", total)}], "tenders": [{}]} | more


def gone(id_: str) -> dict[str, Any]:
    """A deletion notice of the fake source."""
    return {"id": id_, "deleted": True}


def fake_source(shelf: Shelf, name: str = "fake") -> Source:
    """Orders with lines, tenders and refunds, and people who are references."""
    return Source(
        name,
        "Fake",
        streams=(
            Stream(
                "orders",
                shelf.read,
                updated_at="updated",
                gone_without="at",
                control=("total", "currency"),
                control_unit="minor",
            ),
            Stream("people", shelf.read),
        ),
        mappings=MAPPINGS,
        options=FakeOptions,
    )


class FakeCompany:
    """An entity with connections at the fake source, a clock that the test sets, and the steps of a day."""

    def __init__(
        self,
        database: Database,
        folder: Path,
        monkeypatch: Any,
        *,
        limit: float = 0.1,
        base: str = "USD",
        route: Sequence[dict[str, Any]] = (),
    ) -> None:
        """`route` are routes of the connection `shop`; the entity `other_ltd` (GBP, Tokyo's days) is there for them."""
        self.shelf = Shelf()
        self.now = datetime(2026, 10, 6, 5, tzinfo=UTC)
        source = fake_source(self.shelf)
        load = sources.load
        monkeypatch.setattr(sources, "load", lambda name: source if name == "fake" else load(name))
        config = LedgerConfig.model_validate(
            {
                "database_url": database.url,
                "entities": {
                    "acme": {"name": "Acme", "base_currency": base, "time_zone": "UTC"},
                    "other_ltd": {"name": "Other Ltd", "base_currency": "GBP", "time_zone": "Asia/Tokyo"},
                },
                "connections": {
                    "shop": {"entity": "acme", "source": "fake", "quarantine_limit": limit, "route": list(route)},
                    "other": {"entity": "acme", "source": "fake", "quarantine_limit": limit},
                },
                "schedule": {"start": "2026-10-01"},
            }
        )
        self.runtime = Runtime(config, folder, clock=lambda: self.now)
        self.database = self.runtime.database

    def pull(self, day: date = DAY, name: str = "shop") -> None:
        """All streams of a day."""
        link = self.runtime.link(name)
        for stream in link.source.streams:
            steps.pull(self.runtime, link, stream, day, "test")

    def prepare(self, *records: Any, day: date = DAY, name: str = "shop") -> steps.Checked:
        """Offer these orders, pull, stage and check; posting is left to the test."""
        self.shelf.put("orders", *records)
        self.pull(day, name)
        steps.stage(self.runtime, self.runtime.link(name), day, "test")
        return steps.check(self.runtime, self.runtime.link(name), day, "test")

    def post(self, day: date = DAY, name: str = "shop") -> steps.PostedDay:
        """The last step."""
        return steps.post(self.runtime, self.runtime.link(name), day, "test")

    def run(self, *records: Any, day: date = DAY, name: str = "shop") -> steps.Day:
        """Offer these orders and run the whole day."""
        self.shelf.put("orders", *records)
        return steps.run_day(self.runtime, name, day, "test")

    def rows(self, query: str, *arguments: Any) -> list[tuple[Any, ...]]:
        """What a query says, as the reader."""
        with self.database.connect("reader") as connection:
            return connection.execute(query, arguments).fetchall()

    def entries(self) -> list[tuple[Any, ...]]:
        """(record, source_id, kind, version, corrects, amount of debits) of all entries in the order of posting."""
        return self.rows(
            "SELECT e.record, e.source_id, e.kind, e.version, e.corrects_entry_id, "
            "(SELECT sum(amount_minor)::bigint FROM ledger.line l WHERE l.entry_id = e.entry_id AND amount_minor > 0), "
            "e.entry_id "
            "FROM ledger.entry e ORDER BY entry_id"
        )

    def balances(self) -> dict[str, int]:
        """Balance by role, in minor units."""
        return dict(self.rows("SELECT role, amount_minor FROM ledger.balance WHERE amount_minor <> 0"))  # type: ignore[arg-type]

    def fates(self) -> list[tuple[str, str, str]]:
        """(source_id, fate, reason) of every landed version, in the order of landing."""
        return self.rows("SELECT source_id, fate, reason FROM ops.fate ORDER BY raw_id")  # type: ignore[return-value]
