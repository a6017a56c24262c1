"""Row 11: requests per 1,000 records of each source, against the sandbox, beside the fewest that the provider's paging allows."""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import date
from math import ceil
from pathlib import Path
from typing import Any

from ledger_pipeline.orchestration import steps
from ledger_pipeline.orchestration.runtime import Runtime
from ledger_pipeline.sources.shopify import queries
from ledger_pipeline_tests.bench.machine import Machine
from ledger_pipeline_tests.bench.table import Row, judged
from ledger_pipeline_tests.conftest import serving

PAGES = {"shopify": 100, "stripe": 100, "plaid": 500}
"""Records of one page at most, as the providers document it; Shopify's orders are priced by cost and go by 10."""


def rows(machine: Machine, folder: Path, day: date, orders_per_day: int) -> list[Row]:
    """One row a source: every stream of its first connection, pulled for one day."""
    made = []
    with serving(folder, orders_per_day=orders_per_day) as sandbox:
        sandbox.at_night_of(day)
        database = machine.database()
        runtime = sandbox.runtime(folder, database)
        for system in PAGES:
            name = next(n for n, c in runtime.config.connections.items() if c.source == system)
            made.append(_row(runtime, name, system, day))
        machine.drop(database)
    return made


def _row(runtime: Runtime, name: str, system: str, day: date) -> Row:
    link = runtime.link(name)
    calls = records = least = 0
    parts: dict[str, str] = {}
    for stream in link.source.streams:
        pulled = steps.pull(runtime, link, stream, day, "bench")
        fewest = _fewest(runtime, system, stream.name, name, pulled.records)
        calls, records, least = calls + pulled.calls, records + pulled.records, least + fewest
        parts[stream.name] = f"{stream.name} {pulled.calls} for {pulled.records:,} (least {fewest})"
    result = f"{1000 * calls / records:.1f} per 1,000"
    goal = f"{1000 * least / records:.1f}"
    return judged("11", f"requests of {system}", result, goal, calls <= least, "; ".join(parts.values()))


def _fewest(runtime: Runtime, system: str, stream: str, connection: str, records: int) -> int:
    if (system, stream) == ("stripe", "payout_members"):
        return 1 + _member_pages(runtime, connection)  # the events that tell of the payouts, and the payouts' pages
    if (system, stream) != ("shopify", "orders"):
        return max(1, ceil(records / PAGES[system]))
    counted = 1  # Shopify's own count, against which the listing is checked
    return counted + ceil(records / queries.MAX_PAGE_SIZE) + _completions(runtime, connection)


def _member_pages(runtime: Runtime, connection: str) -> int:
    with runtime.database.connect("reader") as reading:
        rows = reading.execute(
            "SELECT json_array_length(payload -> 'balance_transactions') FROM raw.record WHERE connection = %s AND stream = 'payout_members'",
            (connection,),
        ).fetchall()
    return sum(max(1, ceil(row[0] / PAGES["stripe"])) for row in rows)


def _completions(runtime: Runtime, connection: str) -> int:
    """Requests for what an order of a page can't carry: refunds (4 orders a request), and lines beyond the fifth."""
    with runtime.database.connect("reader") as reading:
        payloads = reading.execute(
            "SELECT payload::text FROM raw.record WHERE connection = %s AND stream = 'orders'", (connection,)
        ).fetchall()
    found: dict[str, int] = defaultdict(int)
    for (text,) in payloads:
        order: dict[str, Any] = json.loads(text)
        found["refunded"] += bool(order["refunds"])
        beyond = len(order["lineItems"]["nodes"]) - queries.LINES_PER_ORDER
        found["rest"] += ceil(max(0, beyond) / queries.REST_PER_PAGE)
    return ceil(found["refunded"] / queries.WHOLE_PER_REQUEST) + found["rest"]
