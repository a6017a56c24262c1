"""`python -m ledger_pipeline_tests.bench [--quick] [--only the_day,growth]`: prints the table, exits 1 where a measured goal is missed."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time

from ledger_pipeline_tests.bench import rows
from ledger_pipeline_tests.bench.machine import machine
from ledger_pipeline_tests.bench.table import MISSED, Row, render


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m ledger_pipeline_tests.bench")
    parser.add_argument("--quick", action="store_true", help="smaller sizes, fewer runs")
    parser.add_argument("--only", default="", help="measures by name: " + ", ".join(f.__name__ for f in rows.ALL))
    given = parser.parse_args()
    sizes = rows.QUICK if given.quick else rows.FULL
    wanted = [f for f in rows.ALL if not given.only or f.__name__ in given.only.split(",")]
    began = time.monotonic()
    found: list[Row] = []
    with machine() as here:
        for measure in wanted:
            started, used = time.monotonic(), cpu()
            found += measure(here, sizes)
            taken = f"{time.monotonic() - started:.0f} s, {cpu() - used:.0f} s of CPU without PostgreSQL's"
            print(f"{measure.__name__}: {taken}", file=sys.stderr, flush=True)
        durability = here.durability()
    print(render(found))
    missed = [row.number for row in found if row.verdict == MISSED]
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(
        f"\n{'quick' if given.quick else 'full'}: medians of {sizes.runs} runs, {time.monotonic() - began:.0f} s in all"
    )
    print(f"{platform.machine()}, {os.cpu_count()} CPUs, load {load}, Python {platform.python_version()}, {durability}")
    print(f"missed: {', '.join(missed)}" if missed else "every measured goal is met")
    return 1 if missed else 0


def cpu() -> float:
    """Seconds that this process and its ended children have used."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


if __name__ == "__main__":
    sys.exit(main())
