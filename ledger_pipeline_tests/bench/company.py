"""A shop whose orders come from memory: the pipeline's own steps at work, without a request."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import Path

from ledger_pipeline.checks import suites
from ledger_pipeline.config import LedgerConfig
from ledger_pipeline.connect.source import Request
from ledger_pipeline.orchestration import steps
from ledger_pipeline.orchestration.runtime import Link, Runtime
from ledger_pipeline.store.database import Database
from ledger_pipeline_tests.bench import orders

DAY = date(2026, 10, 5)
AFTER = datetime(2026, 10, 6, 5, tzinfo=UTC)
CONNECTION = "shop"


@dataclass
class Till:
    """The fake reader. What it takes itself (0.3 s for 100,000) counts: the database is at work meanwhile."""

    count: int
    first: int = orders.FIRST

    def __call__(self, request: Request) -> Iterator[Sequence[bytes]]:
        for page in orders.payloads(self.count, self.first):
            request.pages += 1
            yield page


@dataclass
class Ran:
    """Wall clock and this process's CPU seconds by step, and the most memory that it has held (MB)."""

    seconds: dict[str, float] = field(default_factory=dict)
    cpu: dict[str, float] = field(default_factory=dict)
    peak_mb: float = 0.0

    @property
    def total(self) -> float:
        return sum(self.seconds.values())


def runtime_on(database: Database, folder: Path, shop_url: str = "https://acme.invalid") -> Runtime:
    """One entity with one shop, on that database."""
    config = LedgerConfig.model_validate(
        {
            "database_url": database.url,
            "entities": {"acme": {"name": "Acme", "base_currency": "USD", "time_zone": "UTC"}},
            "connections": {
                CONNECTION: {
                    "entity": "acme",
                    "source": "shopify",
                    "shop_url": shop_url,
                    "access_token": "none",
                }
            },
            "schedule": {"start": "2026-10-01"},
        }
    )
    return Runtime(config, folder, clock=lambda: AFTER)


def link_to(runtime: Runtime, till: Till) -> Link:
    """The shop's connection with Shopify's own mappings, its orders from the till."""
    link = runtime.link(CONNECTION)
    stream = replace(link.source.stream("orders"), read=till)
    return replace(link, source=replace(link.source, streams=(stream,), connect=None))


def run(database: Database, folder: Path, count: int, *, first: int = orders.FIRST) -> Ran:
    """One day of `count` orders, raw to posted; raises when not every order was posted or found posted already."""
    runtime = runtime_on(database, folder)
    link = link_to(runtime, Till(count, first))
    _ = runtime.database
    gc.collect()
    ran = Ran()

    def now() -> tuple[float, float]:
        return time.perf_counter(), time.process_time()

    def timed(name: str, began: tuple[float, float]) -> None:
        wall, cpu = now()
        ran.seconds[name], ran.cpu[name] = wall - began[0], cpu - began[1]

    began = now()
    steps.pull(runtime, link, link.source.streams[0], DAY, "bench")
    timed("land", began)
    began = now()
    steps.stage(runtime, link, DAY, "bench")
    timed("stage", began)
    began = now()
    checked = steps.check(runtime, link, DAY, "bench")
    timed("check", began)
    began = now()
    posted = steps.post(runtime, link, DAY, "bench")
    timed("post", began)
    done = posted.posted.originals + posted.posted.unchanged
    if not checked.is_open or done != count or posted.fates["posted"] != count:
        raise RuntimeError(
            f"{count} orders went in: gate open {checked.is_open}, posted {posted}, fates {posted.fates}"
        )
    ran.peak_mb = peak_mb()
    return ran


def warm_up() -> None:
    """Load the libraries that the first day of a process would otherwise pay for; not measured."""
    suites.warm_up()
    import pandas as pd

    _ = pd


def peak_mb() -> float:
    """The most memory this process has held. VmHWM where there is one: ru_maxrss starts at the parent's."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    import resource
    import sys

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)
