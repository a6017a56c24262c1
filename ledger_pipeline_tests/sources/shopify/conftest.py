"""The sample company's two shops on loopback, and what maps and posts a payload the way the pipeline does."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest

from ledger_pipeline.connect.mapping import Fault, Mapped, Settings
from ledger_pipeline.connect.source import Request
from ledger_pipeline.sandbox.company import Company
from ledger_pipeline.sandbox.faults import Fault as SandboxFault
from ledger_pipeline.sandbox.server import running
from ledger_pipeline.sandbox.wire import Clock, Site
from ledger_pipeline.sources.shopify.reader import Orders
from ledger_pipeline.sources.shopify.spec import SOURCE, ShopifyOptions

START = date(2026, 10, 5)


@dataclass(frozen=True)
class Pulled:
    """Payloads of one pull, and the request with what the reader said about it."""

    payloads: list[bytes]
    request: Request


@dataclass
class Shops:
    """`pull` reads a stream of one day as it is the next morning; `faults` strike the server."""

    url: str
    company: Company
    clock: Clock
    site: Site

    def request(self, connection: str, stream: str, day: date, **options: Any) -> Request:
        self.clock.set(datetime(day.year, day.month, day.day, 5, 30, tzinfo=UTC) + timedelta(days=1))
        zone = ZoneInfo(self.company.zone(connection))
        start = datetime(day.year, day.month, day.day, tzinfo=zone)
        chosen = ShopifyOptions(
            shop_url=f"{self.url}/{connection}", access_token=f"shpat_sandbox_{connection}", **options
        )
        end = start + timedelta(days=1)
        client = SOURCE.connect(connection, chosen) if SOURCE.connect else None
        return Request(connection, stream, day, start.astimezone(UTC), end.astimezone(UTC), chosen, client)

    def pull(self, connection: str, stream: str, day: date, **options: Any) -> Pulled:
        """Bulk operations are looked at every few milliseconds."""
        request = self.request(connection, stream, day, **options)
        read = Orders(sleep=lambda _: time.sleep(0.005)) if stream == "orders" else SOURCE.stream(stream).read
        return Pulled([one for page in read(request) for one in page], request)

    def strike(self, kind: str, contains: str, times: int = 1, after: int = 0) -> None:
        route = "shopify_*/admin/api/2026-10/graphql.json"
        self.site.faults.add([SandboxFault(route, kind, times=times, after=after, contains=contains)])


@pytest.fixture(scope="package")
def company() -> Company:
    return Company(seed=7, start=START, orders_per_day=40)


@pytest.fixture
def shops(company: Company) -> Iterator[Shops]:
    clock, site = Clock(), Site(restore_rate=1e9)
    with running(company, clock=clock, site=site) as url:
        yield Shops(url, company, clock, site)


def mapped(payloads: list[bytes], stream: str = "orders", **options: Any) -> Mapped:
    return SOURCE.plans()[stream].run(payloads, list(range(len(payloads))), Settings("shop", options))


def only_fault(payload: bytes, stream: str = "orders") -> Fault:
    [fault] = mapped([payload], stream).faults
    return fault


def rows(tables: dict[str, pa.Table], leave_out: tuple[str, ...] = ("raw_id",)) -> dict[str, list[dict[str, Any]]]:
    """Rows by record, in an order of their own content; empty tables left out."""
    found = {
        name: [{k: v for k, v in row.items() if k not in leave_out and v is not None} for row in table.to_pylist()]
        for name, table in tables.items()
    }
    return {name: sorted(table, key=str) for name, table in found.items() if table}
