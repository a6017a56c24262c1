"""The measures of the table. Each is a function that returns its rows."""

from __future__ import annotations

import statistics
import sys
import tempfile
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from pathlib import Path

from ledger_pipeline_tests.bench import (
    baseline,
    history,
    intake,
    loading,
    matching,
    night,
    plain_text,
    reconciled,
    requests_made,
)
from ledger_pipeline_tests.bench.machine import Machine, seconds_of
from ledger_pipeline_tests.bench.table import Row, by_step, judged, mb, seconds, unmeasured

MEMORY_MB = 700


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much is measured, and how often."""

    runs: int
    orders: int  # of the day
    growth: tuple[int, ...]  # orders of its days; the largest runs once
    loaded_orders: int
    dlt_runs: int
    history_lines: int
    history_orders: int
    journal_orders: int
    sandbox_orders: int  # a day
    bank_lines: tuple[int, ...]
    company_orders: tuple[int, ...]  # a day
    webhook_seconds: int
    webhook_events: int  # from webhook to posted; none: not measured
    nights: int  # likewise
    default_nights: int


FULL = Sizes(
    runs=5,
    orders=100_000,
    growth=(10_000, 100_000, 1_000_000),
    loaded_orders=100_000,
    dlt_runs=1,
    history_lines=10_000_000,
    history_orders=10_000,
    journal_orders=100_000,
    sandbox_orders=1_000,
    bank_lines=(1_000, 10_000, 100_000),
    company_orders=(40, 400),
    webhook_seconds=30,
    webhook_events=40,
    nights=5,
    default_nights=1,
)
QUICK = Sizes(
    runs=3,
    orders=2_500,
    growth=(2_000, 6_000),
    loaded_orders=2_000,
    dlt_runs=1,
    history_lines=200_000,
    history_orders=4_000,
    journal_orders=2_500,
    sandbox_orders=100,
    bank_lines=(1_000, 10_000),
    company_orders=(),
    webhook_seconds=2,
    webhook_events=0,
    nights=0,
    default_nights=0,
)


def the_day(machine: Machine, sizes: Sizes) -> list[Row]:
    """Row 1 and row 7: the day against a bare COPY, then the same day once more; each pair in turn."""
    days, again, bare = [], [], []
    for _ in range(sizes.runs):
        database = machine.database()
        first, second = machine.days([database], sizes.orders, rerun=True)
        bare.append(baseline.seconds(machine, baseline.contents_of(database)))
        machine.drop(database)
        days.append(first)
        again.append(second)
    day, copy = statistics.median(ran.total for ran in days), statistics.median(bare)
    rerun = statistics.median(ran.total for ran in again)
    peak = max(ran.peak_mb for ran in [*days, *again])
    pairs = sorted(ran.total / taken for ran, taken in zip(days, bare, strict=True))
    spread = f"pair by pair {pairs[0]:.2f} x to {pairs[-1]:.2f} x; Python's CPU {statistics.median(sum(r.cpu.values()) for r in days):.2f} s"
    return [
        judged(
            "1", f"{sizes.orders:,} orders, raw to posted, against bare COPY", f"{day / copy:.2f} x", "<= 2.5 x", day <= 2.5 * copy,
            f"{seconds(day)} ({by_step([ran.seconds for ran in days])}; {spread}) against {seconds(copy)}; peak {mb(peak)}",
        ),
        judged(
            "7", "the same night once more, nothing new", f"{rerun / day:.2f} x", "<= 0.20 x", rerun <= 0.2 * day,
            f"{seconds(rerun)} ({by_step([ran.seconds for ran in again])}) against {seconds(day)}",
        ),
    ]  # fmt: skip


def growth(machine: Machine, sizes: Sizes) -> list[Row]:
    """Row 4: time per order and peak memory by size; the worst step from one size to the next counts (the largest runs once)."""
    medians: dict[int, float] = {}
    peaks: dict[int, float] = {}
    for size in sizes.growth:
        repeats = sizes.runs if size < sizes.growth[-1] else 1
        databases = [machine.database() for _ in range(repeats)]
        runs = machine.days(databases, size)
        for database in databases:
            machine.drop(database)
        medians[size] = statistics.median(ran.total for ran in runs)
        peaks[size] = max(ran.peak_mb for ran in runs)
    per_order = {size: taken / size for size, taken in medians.items()}
    worst = max(per_order[larger] / per_order[smaller] for smaller, larger in pairwise(sizes.growth))
    detail = "; ".join(f"{n:,}: {per_order[n] * 1e6:.0f} us an order, peak {mb(peaks[n])}" for n in sizes.growth)
    detail += f"; {sizes.growth[-1]:,} ran once; below 1 the fixed costs of the smaller day outweigh any growth"
    return [
        judged("4a", f"time per order from size to size, {_span(sizes)}", f"{worst:.2f} x", "<= 1.10 x", worst <= 1.1, detail),
        judged("4b", f"peak memory, {_span(sizes)}", mb(max(peaks.values())), f"< {MEMORY_MB} MB", max(peaks.values()) < MEMORY_MB,
               "of the Python process; PostgreSQL's own is not in it"),
    ]  # fmt: skip


def _span(sizes: Sizes) -> str:
    return " / ".join(f"{n:,}" for n in sizes.growth) + " orders"


def old_ledger(machine: Machine, sizes: Sizes) -> list[Row]:
    """Row 5: posting the same day into an empty ledger and into a long one, in turn."""
    full = history.template(machine, sizes.history_lines)
    databases = [machine.database(template) for _ in range(sizes.runs) for template in ("template_bench", full)]
    runs = machine.days(databases, sizes.history_orders)
    empty_runs, full_runs = runs[::2], runs[1::2]
    for database in databases:
        machine.drop(database)
    posts = [statistics.median(ran.seconds["post"] for ran in runs) for runs in (empty_runs, full_runs)]
    days = [statistics.median(ran.total for ran in runs) for runs in (empty_runs, full_runs)]
    ratio = posts[1] / posts[0]
    return [
        judged(
            "5", f"{sizes.history_orders:,} orders posted into {sizes.history_lines:,} lines against into 0", f"{ratio:.2f} x",
            "<= 1.15 x", ratio <= 1.15,
            f"post {seconds(posts[1])} against {seconds(posts[0])}; the whole day {days[1] / days[0]:.2f} x",
        )
    ]  # fmt: skip


def start_up(machine: Machine, sizes: Sizes) -> list[Row]:
    """Row 9."""
    definitions = statistics.median(
        seconds_of([sys.executable, "-c", "import ledger_pipeline.definitions"]) for _ in range(sizes.runs)
    )
    help_command = [sys.executable, "-c", "from ledger_pipeline.cli import main; main()", "--help"]
    shown = statistics.median(seconds_of(help_command) for _ in range(sizes.runs))
    return [
        judged("9a", "definitions.py loads", seconds(definitions), "<= 2.5 s", definitions <= 2.5),
        judged("9b", "ledger-pipeline --help", seconds(shown), "<= 0.4 s", shown <= 0.4),
    ]


def plain_text_ledgers(machine: Machine, sizes: Sizes) -> list[Row]:
    """Row 3."""
    return plain_text.rows(machine, sizes.journal_orders, sizes.runs)


def requests(machine: Machine, sizes: Sizes) -> list[Row]:
    """Row 11."""
    with tempfile.TemporaryDirectory() as folder:
        return requests_made.rows(machine, Path(folder), date(2026, 10, 5), sizes.sandbox_orders)


def reconciliation(machine: Machine, sizes: Sizes) -> list[Row]:
    """Row 10; no database in it."""
    return matching.rows(sizes.bank_lines, sizes.runs)


def company_reconciled(machine: Machine, sizes: Sizes) -> list[Row]:
    """Row 10b: through the books, against the company's truth. CPU time, so that fewer runs do. It takes nights, so the quick run leaves it out."""
    if not sizes.company_orders:
        return [unmeasured("10b", "nights of the company reconciled", "<= 1.30 x", "in the full run only")]
    return reconciled.rows(machine, sizes.company_orders, max(1, sizes.runs // 2))


def connections_at_night(machine: Machine, sizes: Sizes) -> list[Row]:
    """Row 6; the other executor takes minutes, so the quick run leaves it out."""
    if not sizes.nights:
        return [unmeasured("6", "a night of 12 connections through Dagster", "<= 0.50 x", "in the full run only")]
    return night.rows(machine, sizes.nights, sizes.default_nights)


def loaded(machine: Machine, sizes: Sizes) -> list[Row]:
    """Row 2."""
    return loading.rows(machine, sizes.loaded_orders, sizes.runs, sizes.dlt_runs)


def webhooks(machine: Machine, sizes: Sizes) -> list[Row]:
    """Row 8: the receiver at 1,000 and at 2,000 events a second, and the way to the ledger with Dagster's daemon."""
    with tempfile.TemporaryDirectory(prefix="lp-bench-") as folder:
        return intake.rows(machine, Path(folder), sizes.webhook_seconds, sizes.webhook_events)


ALL = (
    the_day,
    loaded,
    growth,
    old_ledger,
    plain_text_ledgers,
    start_up,
    requests,
    reconciliation,
    company_reconciled,
    webhooks,
    connections_at_night,
)
