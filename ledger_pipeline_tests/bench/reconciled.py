"""Row 10b: the sample company's own nights reconciled, at its usual size and ten times that, against what the company knows."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Iterable, Sequence
from datetime import timedelta
from itertools import pairwise
from math import log2
from pathlib import Path
from tempfile import TemporaryDirectory

from ledger_pipeline.config import LedgerConfig
from ledger_pipeline.orchestration import reconciling, steps
from ledger_pipeline.orchestration.runtime import Runtime
from ledger_pipeline.reconcile import matches
from ledger_pipeline.sandbox.truth import truth
from ledger_pipeline_tests.bench.machine import Machine
from ledger_pipeline_tests.bench.table import Row, judged, seconds
from ledger_pipeline_tests.conftest import START, SandboxCompany, serving

NAMES = ("shopify_us", "stripe_us", "plaid_us")
NIGHTS = 4
GOAL = 1.3
Pair = tuple[str, str]


def rows(machine: Machine, sizes: Sequence[int], runs: int) -> list[Row]:
    """CPU time of this process per n·log2(n) members; raises RuntimeError when precision isn't 1 or recall is below 0.98."""
    taken, members, said = {}, {}, {}
    for size in sizes:
        with (
            TemporaryDirectory(prefix="lp-reconciled-") as folder,
            serving(Path(folder) / "files", orders_per_day=size) as sandbox,
        ):
            taken[size], members[size], said[size] = _measure(machine, sandbox, Path(folder), runs)
    per = {size: taken[size] / (members[size] * log2(members[size])) for size in sizes}
    worst = max(per[larger] / per[smaller] for smaller, larger in pairwise(sizes))
    detail = "; ".join(
        f"{size} orders a day, {members[size]:,} members: {seconds(taken[size])}, {said[size]}" for size in sizes
    )
    return [
        judged(
            "10b", f"{NIGHTS} nights of the company reconciled at {' and '.join(map(str, sizes))} orders a day, time per n log n",
            f"{worst:.2f} x", f"<= {GOAL:.2f} x", worst <= GOAL, f"{detail}; Python's CPU, database apart",
        )
    ]  # fmt: skip


def _measure(machine: Machine, sandbox: SandboxCompany, folder: Path, runs: int) -> tuple[float, int, str]:
    whole = sandbox.runtime(folder, machine.database())
    chosen = {name: whole.config.connections[name].model_dump() for name in NAMES}
    runtime = Runtime(LedgerConfig.model_validate(whole.config.model_dump() | {"connections": chosen}), folder)
    for number in range(NIGHTS):
        night = START + timedelta(days=number)
        sandbox.at_night_of(night)
        for name in NAMES:
            steps.run_day(runtime, name, night, "bench")
    times = [_once(machine, runtime, folder) for _ in range(runs)]
    reconciling.run(runtime, ["hp_us"], "bench")
    found, wanted = _found(runtime), _expected(sandbox)
    wrong, missed = found - wanted, wanted - found
    if wrong or len(missed) > 0.02 * len(wanted):
        raise RuntimeError(f"{len(found):,} matches, {len(wrong):,} wrong, {len(missed):,} of {len(wanted):,} missed")
    with runtime.database.connect("reader") as connection:
        row = connection.execute("SELECT count(*) FROM recon.member").fetchone()
    machine.drop(runtime.database)
    return (
        statistics.median(times),
        row[0] if row else 0,
        f"precision 1, recall {1 - len(missed) / len(wanted):.3f} of {len(wanted):,}",
    )


def _once(machine: Machine, runtime: Runtime, folder: Path) -> float:
    """On a copy that nobody reconciled."""
    copy = machine.database(runtime.database.url.partition("?")[0].rpartition("/")[2])
    other = Runtime(runtime.config.model_copy(update={"database_url": copy.url}), folder)
    _ = other.database
    gc.collect()
    began = time.process_time()
    reconciling.run(other, ["hp_us"], "bench")
    taken = time.process_time() - began
    machine.drop(copy)
    return taken


def _found(runtime: Runtime) -> set[Pair]:
    """What is matched by itself: (order, balance transaction), and (payout, bank line)."""
    with runtime.database.connect("reader") as connection:
        payouts = dict(
            connection.execute("SELECT source_id, source_object_id FROM staging.processor_transaction").fetchall()
        )
        refunds = dict(connection.execute("SELECT source_id, order_id FROM staging.refund").fetchall())
        kept = matches.live(connection, "hp_us", "matched")
    pairs: set[Pair] = set()
    for one in kept:
        by_record: dict[str, list[str]] = {}
        for member in one.members:
            by_record.setdefault(member.record, []).append(member.source_id)
        moved = by_record.get("processor_transaction", [])
        pairs |= _every([payouts[m] for m in moved], by_record.get("bank_transaction", []))
        if one.role.startswith("order_clearing:"):
            orders = [*by_record.get("sale", []), *(refunds[r] for r in by_record.get("refund", []))]
            pairs |= _every(orders, moved)
    return pairs


def _every(lefts: Iterable[str], rights: Sequence[str]) -> set[Pair]:
    return {(left, right) for left in lefts for right in rights}


def _expected(sandbox: SandboxCompany) -> set[Pair]:
    company, days = sandbox.company, [START + timedelta(days=n) for n in range(NIGHTS)]
    shown = truth(company, days[-1])  # type: ignore[arg-type]
    lost = {row.source_id for row in shown.exceptions if row.fate == "quarantined" and row.stream == "orders"}
    moved = [txn for day in days for txn in company.processor_transactions("stripe_us", day)]  # type: ignore[attr-defined]
    pairs = {
        (str(txn.order_id), txn.txn_id)
        for txn in moved
        if txn.kind in ("charge", "refund") and txn.order_id is not None and str(txn.order_id) not in lost
    }
    return pairs | {(m.payout_id, m.line_id) for m in shown.matches if m.bank_connection == "plaid_us"}
