"""How the tests pull: files in, documents, canonical tables and fates out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest

from ledger_pipeline.connect.mapping import Fault, Settings
from ledger_pipeline.connect.source import Request
from ledger_pipeline.model import journal
from ledger_pipeline.model.accounts import DEFAULT_CHART, Chart
from ledger_pipeline.model.rules import RULES
from ledger_pipeline.sources.delimited_file.spec import SOURCE

DAY = date(2026, 10, 5)
CHART = Chart(DEFAULT_CHART)


def no_rates(currency: str, base: str, day: date) -> Any:
    raise LookupError(currency)


@dataclass
class Pulled:
    payloads: list[bytes]
    tables: dict[str, pa.Table]
    faults: tuple[Fault, ...]
    request: Request
    fates: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    entries: list[list[tuple[str, int]]] = field(default_factory=list)
    days: list[date] = field(default_factory=list)

    @property
    def documents(self) -> list[dict[str, Any]]:
        return [msgspec.json.decode(payload) for payload in self.payloads]

    def rows(self, record: str) -> list[dict[str, Any]]:
        return self.tables[record].to_pylist()


class Puller:
    """One connection: its options once, its plan compiled once."""

    def __init__(self, **options: Any) -> None:
        self.options = SOURCE.options.model_validate(options)
        self.plan = SOURCE.plans(self.options)["records"]
        self.stream = SOURCE.stream("records")

    def pull(self, day: date = DAY, base: str = "GBP") -> Pulled:
        moment: Any = None
        request = Request("files", "records", day, moment, moment, self.options, None)
        payloads = [payload for page in self.stream.read(request) for payload in page]
        mapped = self.plan.run(payloads, range(len(payloads)), Settings("files", self.options.model_dump()))
        pulled = Pulled(payloads, mapped.tables, mapped.faults, request)
        self._decide(pulled, base)
        return pulled

    def _decide(self, pulled: Pulled, base: str) -> None:
        """Fates as the pipeline gives them; a payload with two of them fails the test."""
        fates: dict[int, tuple[str, str]] = {f.position: ("quarantined", f.message) for f in pulled.faults}

        def decide(raw_id: int, fate: str, reason: str) -> None:
            assert fates.setdefault(raw_id, (fate, reason)) == (fate, reason)

        for record in RULES:
            if record not in pulled.tables:
                continue
            made = journal.post(
                RULES[record], pulled.tables, base=base, zone="Europe/London", rates=no_rates, has_account=CHART.has
            )
            for raw_id in made.entries["raw_id"].to_pylist():
                decide(raw_id, "posted", "")
            for table, fate in ((made.ignored, "ignored"), (made.rejected, "rejected")):
                for raw_id, reason in zip(table["raw_id"].to_pylist(), table["reason"].to_pylist(), strict=True):
                    decide(raw_id, fate, reason)
            entries: list[list[tuple[str, int]]] = [[] for _ in range(made.entries.num_rows)]
            for entry, role, amount in zip(
                *(made.lines[name].to_pylist() for name in ("entry", "role", "amount_minor")), strict=True
            ):
                entries[entry].append((role, amount))
            pulled.entries += entries
            pulled.days += made.entries["occurred_on"].to_pylist()
        assert sorted(fates) == list(range(len(pulled.payloads)))
        pulled.fates = [fates[i][0] for i in range(len(pulled.payloads))]
        pulled.reasons = [fates[i][1] for i in range(len(pulled.payloads))]


@pytest.fixture
def puller() -> type[Puller]:
    return Puller


STALL = {
    "record": "sale",
    "group_by": "no",
    "currency": {"value": "GBP"},
    "columns": {
        "occurred_at": {"column": "at", "format": "%d.%m.%Y %H:%M", "time_zone": "Europe/London"},
        "quantity": "qty", "unit_price": "price", "gateway": "paid_by", "sku": "sku", "title": "title",
    },
}  # fmt: skip


@pytest.fixture
def pull_rows(tmp_path: Path) -> Callable[..., Pulled]:
    """Pull one file of the shape no,at,sku,title,qty,price,paid_by; `change` overrides parts of the map."""

    def run(
        content: str | bytes, name: str = "2026-10-05.csv", change: dict[str, Any] | None = None, **options: Any
    ) -> Pulled:
        (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
        return Puller(folder=tmp_path, pattern=name, map={**STALL, **(change or {})}, **options).pull()

    return run
