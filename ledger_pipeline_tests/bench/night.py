"""Row 6: a night of twelve connections against a provider that takes 50 ms to answer, beside the same assets in one run of Dagster's default.

`python -m ledger_pipeline_tests.bench.night ours|default WORKERS` runs one of the two in a folder with a ledger.yaml and prints its seconds.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from ledger_pipeline_tests.bench import loopback
from ledger_pipeline_tests.bench.machine import PROCESS_SECONDS, Machine
from ledger_pipeline_tests.bench.table import Row, judged, seconds

CONNECTIONS, RECORDS, LATENCY, PAGE = 12, 1000, 0.05, 100
DAY = date(2026, 10, 5)
WORKERS = 4
_AT = int(datetime(2026, 10, 5, 12, tzinfo=UTC).timestamp())


def _movement(number: int) -> dict[str, Any]:
    source = {
        "id": f"ch_{number}",
        "object": "charge",
        "amount": 1000,
        "currency": "usd",
        "metadata": {"order_id": f"{number}"},
    }
    return {
        "id": f"txn_{number}", "object": "balance_transaction", "type": "charge", "reporting_category": "charge", "created": _AT,
        "currency": "usd", "amount": 1000, "fee": 59, "net": 941, "source": source, "exchange_rate": None, "description": None,
    }  # fmt: skip


def _answer(path: str, _: bytes) -> bytes:
    """Stripe's lists: balance transactions by pages, nothing else."""
    time.sleep(LATENCY)
    url = urlsplit(path)
    after = parse_qs(url.query).get("starting_after", ["txn_0"])[0]
    first = int(after.removeprefix("txn_")) + 1
    last = min(first + PAGE - 1, RECORDS) if url.path.endswith("balance_transactions") else 0
    data = [_movement(n) for n in range(first, last + 1)]
    has_more = bool(data) and last < RECORDS
    return json.dumps({"object": "list", "url": url.path, "has_more": has_more, "data": data}).encode()


def rows(machine: Machine, runs: int, default_runs: int) -> list[Row]:
    """Each in a fresh folder and database. The default executor, which takes minutes, may run less often."""
    with loopback.serving(_answer) as url:
        nights = [_night(machine, url, "ours") for _ in range(runs)]
        defaults = [_night(machine, url, "default") for _ in range(default_runs)]
    ours, default = statistics.median(nights), statistics.median(defaults)
    times = "once" if default_runs == 1 else f"{default_runs} times"
    return [
        judged(
            "6", f"a night of {CONNECTIONS} connections with {RECORDS:,} records each through Dagster", f"{ours / default:.2f} x",
            "<= 0.50 x", ours <= 0.5 * default,
            f"{seconds(ours)} by {WORKERS} workers, books included, against {seconds(default)} in one run of the default executor, which ran {times}; "
            f"{1000 * LATENCY:.0f} ms a request; stretch 0.20 x",
        )
    ]  # fmt: skip


def _night(machine: Machine, provider: str, how: str) -> float:
    database = machine.database()
    with tempfile.TemporaryDirectory(prefix="lp-night-") as name:
        folder = Path(name)
        connections = "".join(
            f"  shop_{n}: {{entity: acme, source: stripe, base_url: '{provider}', api_key: sk_test_none}}\n"
            for n in range(CONNECTIONS)
        )
        (folder / "ledger.yaml").write_text(
            f"database_url: '{database.url}'\nentities:\n  acme: {{name: Acme, base_currency: USD, time_zone: UTC}}\n"
            f"connections:\n{connections}schedule: {{start: '2026-10-01'}}\n"
        )
        command = [sys.executable, "-m", "ledger_pipeline_tests.bench.night", how, str(WORKERS)]
        root = str(Path(__file__).resolve().parents[2])
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=PROCESS_SECONDS, check=False,
            env={**_environment(), "PYTHONPATH": root},
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"a measured night failed:\n{done.stderr[-3000:]}")
    with database.connect("reader") as connection:
        posted = connection.execute("SELECT count(*) FROM ledger.entry").fetchone()
    if posted is None or posted[0] != CONNECTIONS * RECORDS:
        raise RuntimeError(f"{how}: {posted} entries instead of {CONNECTIONS * RECORDS}")
    machine.drop(database)
    return float(done.stdout.splitlines()[-1])


def _environment() -> dict[str, str]:
    import os

    return {name: value for name, value in os.environ.items() if name != "DAGSTER_HOME"}


# in the child ---------------------------------------------------------------------------------------------------------


def everything() -> Any:
    """One job over the assets and checks of all connections, with Dagster's own executor."""
    import dagster as dg

    from ledger_pipeline.orchestration import jobs
    from ledger_pipeline.orchestration.build import build_defs
    from ledger_pipeline.orchestration.runtime import Runtime

    names = jobs.enabled(Runtime.from_file().config)
    job = dg.define_asset_job(
        "everything", dg.AssetSelection.groups(*names), executor_def=dg.multi_or_in_process_executor
    )
    return dg.Definitions.merge(build_defs(), dg.Definitions(jobs=[job])).get_job_def("everything")


def _default() -> None:
    import dagster as dg

    from ledger_pipeline.orchestration.nights import instance
    from ledger_pipeline.orchestration.runtime import Runtime
    from ledger_pipeline_tests.bench import night

    with instance(Runtime.from_file()) as made:
        tags = {"dagster/partition": DAY.isoformat()}
        done = dg.execute_job(dg.reconstructable(night.everything), made, tags=tags)
        if not done.success:
            raise RuntimeError("the run failed")


def _ours(workers: int) -> None:
    from ledger_pipeline.orchestration import jobs
    from ledger_pipeline.orchestration.nights import Workers
    from ledger_pipeline.orchestration.runtime import Runtime

    with Workers(None, workers) as pool:
        ran = list(pool.night(jobs.enabled(Runtime.from_file().config), DAY))
    if not all(one.is_success for one in ran):
        raise RuntimeError(str([one for one in ran if not one.is_success]))


def main() -> None:
    how, workers = sys.argv[1], int(sys.argv[2])
    from ledger_pipeline.orchestration.runtime import Runtime

    _ = Runtime.from_file().database
    began = time.perf_counter()
    _ours(workers) if how == "ours" else _default()
    print(time.perf_counter() - began)


if __name__ == "__main__":
    main()
