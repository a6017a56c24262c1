"""From a signed webhook to the posted entry, with the receiver, Dagster's daemon and its code server as processes of their own.

The provider is a list in this process: a charge is added to it, its event is signed and sent at once, and the ledger is asked until the
entry stands in it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psutil
import requests

from ledger_pipeline.orchestration.runtime import Runtime
from ledger_pipeline_tests.bench import loopback

SECRET = b"whsec_bench"
CONFIG = """\
entities:
  acme: {{name: Acme, base_currency: USD, time_zone: America/New_York}}
connections:
  stripe_us:
    entity: acme
    source: stripe
    api_key: sk_bench
    base_url: {url}
    webhook_secrets: [whsec_bench]
schedule: {{is_running: false}}
"""
START_SECONDS = 90
POSTED_SECONDS = 120


@dataclass
class Provider:
    """Stripe's list of balance transactions, newest first, in one page."""

    charges: list[dict[str, Any]] = field(default_factory=list)

    def charge(self) -> dict[str, Any]:
        """Something was sold now."""
        number, now = len(self.charges) + 1, int(time.time())
        source = {"id": f"ch_{number}", "object": "charge", "amount": 1000 + number, "currency": "usd", "metadata": {}}
        made = {
            "id": f"txn_{number}", "object": "balance_transaction", "type": "charge", "reporting_category": "charge", "created": now,
            "amount": 1000 + number, "fee": 30, "net": 970 + number, "currency": "usd", "exchange_rate": None, "description": None,
            "source": source,
        }  # fmt: skip
        self.charges.append(made)
        return made

    def answer(self, path: str, _: bytes) -> bytes:
        """What a list answers."""
        url = urlsplit(path)
        query = parse_qs(url.query)
        first, last = (
            int(query.get(f"created[{op}]", [default])[0]) for op, default in (("gte", "0"), ("lt", "9" * 12))
        )
        found = self.charges if url.path.endswith("balance_transactions") else []
        data = [one for one in reversed(found) if first <= one["created"] < last]
        return json.dumps({"object": "list", "data": data, "has_more": False}).encode()


@contextmanager
def process(command: list[str], folder: Path, log: str) -> Iterator[subprocess.Popen[bytes]]:
    """A command of this environment in a session of its own, which ends with the block, children and all."""
    environment = {
        **os.environ,
        "DAGSTER_HOME": str(folder),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    with (folder / log).open("wb") as output:
        child = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=output, stderr=output, start_new_session=True
        )
        try:
            yield child
        finally:
            family = [child, *psutil.Process(child.pid).children(recursive=True)] if child.poll() is None else []
            for one in family:
                with_signal(one, signal.SIGTERM)
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                child.kill()
            for one in family:
                with_signal(one, signal.SIGKILL)


def with_signal(one: Any, number: int) -> None:
    """Signal a process that may be gone."""
    try:
        one.send_signal(number)
    except (psutil.NoSuchProcess, ProcessLookupError):
        return


def send(url: str, charge: dict[str, Any]) -> int:
    """The charge's event, signed as Stripe does; the status that was answered."""
    event = {
        "id": f"evt_{charge['id']}",
        "type": "charge.succeeded",
        "created": charge["created"],
        "data": {"object": charge["source"]},
    }
    body, now = json.dumps(event).encode(), int(time.time())
    signature = hmac.new(SECRET, f"{now}.".encode() + body, hashlib.sha256).hexdigest()
    headers = {"Stripe-Signature": f"t={now},v1={signature}", "Content-Type": "application/json"}
    return requests.post(f"{url}/stripe_us", body, headers=headers, timeout=10).status_code


@dataclass(frozen=True, slots=True)
class Outcome:
    """Seconds from sending each event to its entry in the ledger, and the answers; `entries` is what stands in the end."""

    seconds: list[float]
    answers: list[int]
    entries: int
    first: float
    runs: int


def measure(folder: Path, port: int, events: int, mean_gap: float, *, seed: int = 1) -> Outcome:
    """Send `events` at random moments, `mean_gap` seconds apart on average, after one that lets the warm process start."""
    from ledger_pipeline.orchestration.nights import PACKAGED

    provider = Provider()
    with loopback.serving(provider.answer) as provider_url:
        (folder / "ledger.yaml").write_text(CONFIG.format(url=provider_url))
        (folder / "dagster.yaml").write_text((PACKAGED / "dagster.yaml").read_text())
        runtime = Runtime.from_file(folder / "ledger.yaml")
        database = runtime.database
        url = f"http://127.0.0.1:{port}"
        receive = [sys.executable, "-m", "ledger_pipeline.cli", "webhooks", "--port", str(port)]
        daemon = [str(Path(sys.executable).parent / "dagster-daemon"), "run", "-m", "ledger_pipeline.definitions"]
        with (
            process(receive, folder, "receiver.log"),
            process(daemon, folder, "daemon.log"),
            database.connect("reader", autocommit=True) as reading,
        ):
            wait_until_up(url)
            sent: dict[str, float] = {}
            posted: dict[str, float] = {}
            answers: list[int] = []

            def look() -> None:
                rows = reading.execute("SELECT source_id FROM ledger.entry WHERE connection = 'stripe_us'").fetchall()
                for (source_id,) in rows:
                    posted.setdefault(source_id, time.monotonic())

            def wait_for(ids: set[str], until: float) -> None:
                while not ids <= set(posted) and time.monotonic() < until:
                    time.sleep(0.02)
                    look()

            def one() -> str:
                charge = provider.charge()
                sent[charge["id"]] = time.monotonic()
                answers.append(send(url, charge))
                return str(charge["id"])

            first = one()
            wait_for({first}, time.monotonic() + POSTED_SECONDS)
            time.sleep(12)  # the warm process imports meanwhile
            draw = random.Random(seed)
            measured = []
            for _ in range(events):
                due = time.monotonic() + draw.expovariate(1 / mean_gap)
                while time.monotonic() < due:
                    time.sleep(0.02)
                    look()
                measured.append(one())
            wait_for(set(sent), time.monotonic() + POSTED_SECONDS)
            row = reading.execute(
                "SELECT count(*), (SELECT count(DISTINCT run_id) FROM ledger.batch) FROM ledger.entry"
            ).fetchone()
    missing = [id_ for id_ in sent if id_ not in posted]
    if missing:
        raise RuntimeError(
            f"not posted within {POSTED_SECONDS} s: {missing}\n{(folder / 'daemon.log').read_text()[-3000:]}"
        )
    return Outcome(
        sorted(posted[id_] - sent[id_] for id_ in measured), answers, int(row[0]) if row else 0, posted[first] - sent[first],
        int(row[1]) if row else 0,
    )  # fmt: skip


def wait_until_up(url: str) -> None:
    """Until the receiver at that address answers."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            requests.get(f"{url}/-/health", timeout=2).raise_for_status()
        except requests.ConnectionError:
            time.sleep(0.2)
        else:
            return
    raise RuntimeError("the receiver did not start")


if __name__ == "__main__":
    where = Path(sys.argv[1])
    where.mkdir(parents=True, exist_ok=True)
    print(measure(where, 8399, int(sys.argv[2]), float(sys.argv[3])))
