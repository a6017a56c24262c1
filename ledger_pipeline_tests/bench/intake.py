"""Row 8: signed webhooks to stored, at a constant rate from another process, and to posted through Dagster's daemon."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import requests

from ledger_pipeline.store.database import Database
from ledger_pipeline_tests.bench import to_posted
from ledger_pipeline_tests.bench.machine import Machine
from ledger_pipeline_tests.bench.table import Row, judged, unmeasured

P99_MS, P95_SECONDS = 25, 10


def rows(machine: Machine, folder: Path, seconds: int, events: int) -> list[Row]:
    """1,000 a second (the goal), 2,000 a second (every acknowledged one stored), and the way to the ledger where `events` are asked for."""
    made = []
    for rate in (1000, 2000):
        database = machine.database()
        found = storm(database, folder, rate, seconds)
        machine.drop(database)
        is_whole = found["stored"] == found["acknowledged"] == found["sent"]
        is_met = is_whole and (found["p99_ms"] <= P99_MS or rate != 1000)
        goal = f"p99 <= {P99_MS} ms, all stored" if rate == 1000 else "every acknowledged one stored"
        result = f"p50 {found['p50_ms']:.1f} ms, p99 {found['p99_ms']:.1f} ms"
        made.append(
            judged(
                "8", f"signed webhook to stored, {rate:,} a second for {seconds} s", result, goal, is_met, told(found)
            )
        )
    if not events:
        return [*made, unmeasured("8", "signed webhook to posted", f"p95 <= {P95_SECONDS} s", "in the full run only")]
    took = to_posted.measure(folder, free_port(), events, 4.0)
    p50, p95 = (took.seconds[min(int(share * len(took.seconds)), len(took.seconds) - 1)] for share in (0.5, 0.95))
    detail = f"{events} events, one every 4 s on average, {took.runs} runs; the first, cold, {took.first:.1f} s"
    result = f"p50 {p50:.1f} s, p95 {p95:.1f} s"
    made.append(judged("8", "signed webhook to posted", result, f"p95 <= {P95_SECONDS} s", p95 <= P95_SECONDS, detail))
    return made


def told(found: dict[str, Any]) -> str:
    """What came of a storm."""
    answers = ", ".join(f"{count:,} answered {status}" for status, count in sorted(found["answers"].items()))
    return (
        f"{found['rate']:,} events a second sent; {answers}; {found['sent_again']:,} sent again; {found['stored']:,} stored in "
        f"{found['commits']:,} commits; slowest {found['max_ms']:.0f} ms"
    )


def storm(database: Database, folder: Path, rate: int, seconds: int) -> dict[str, Any]:
    """A receiver and a sender, each a process of its own; what the sender saw, and what is stored."""
    port, url = free_port(), f"postgresql{database.url.removeprefix('postgresql')}"
    (folder / "ledger.yaml").write_text(
        f"database_url: {url}\n"
        + to_posted.CONFIG.format(url="http://127.0.0.1:9").replace("schedule: {is_running: false}", "")
    )
    receive = [sys.executable, "-m", "ledger_pipeline.cli", "webhooks", "--port", str(port)]
    with to_posted.process(receive, folder, "receiver.log"):
        base = f"http://127.0.0.1:{port}"
        to_posted.wait_until_up(base)
        send = [
            sys.executable,
            "-m",
            "ledger_pipeline_tests.bench.storm",
            f"{base}/stripe_us",
            to_posted.SECRET.decode(),
            str(rate),
            str(seconds),
            str(rate),
        ]
        done = subprocess.run(
            send,
            capture_output=True,
            text=True,
            timeout=20 * seconds + 120,
            check=True,
            cwd=Path(__file__).resolve().parents[2],
        )
        found: dict[str, Any] = json.loads(done.stdout)
        found["commits"] = requests.get(f"{base}/-/health", timeout=10).json()["commits"]
    with database.connect("reader") as connection:
        row = connection.execute("SELECT count(DISTINCT event_id) FROM ops.webhook_event").fetchone()
    found["stored"] = row[0] if row else 0
    time.sleep(1)
    return found


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
