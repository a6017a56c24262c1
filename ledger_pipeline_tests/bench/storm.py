"""`python -m ledger_pipeline_tests.bench.storm URL SECRET RATE SECONDS`: signed Stripe events at a constant rate, from a process of its own.

An open loop: an event is due at its time whether or not the ones before were answered, and its latency counts from then.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import sys
import time
from collections import Counter
from urllib.parse import urlsplit

CONNECTIONS = 256
ANSWER_SECONDS = 30


def request(path: str, host: str, secret: bytes, number: int, tag: str) -> bytes:
    """One whole HTTP request, about 1.3 KB of body, as large as a small charge event."""
    now = int(time.time())
    body = json.dumps(
        {
            "id": f"evt_{tag}_{number}",
            "object": "event",
            "type": "charge.succeeded",
            "created": now,
            "data": {"object": {"id": f"ch_{tag}_{number}", "amount": 1000 + number, "description": "x" * 1100}},
        }
    ).encode()
    signature = hmac.new(secret, f"{now}.".encode() + body, hashlib.sha256).hexdigest()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        f"Stripe-Signature: t={now},v1={signature}\r\n\r\n"
    )
    return head.encode() + body


class Line(asyncio.Protocol):
    """A connection with one request at a time."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.answer: asyncio.Future[int] | None = None
        self.read = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self.read += data
        head, found, rest = self.read.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        if len(rest) >= length and self.answer is not None and not self.answer.done():
            self.read = b""
            self.answer.set_result(int(head[9:12]))

    def connection_lost(self, _: Exception | None) -> None:
        if self.answer is not None and not self.answer.done():
            self.answer.set_result(0)


async def storm(url: str, secret: bytes, rate: int, seconds: int, tag: str) -> dict[str, object]:
    """What was answered, and how fast (ms); events that were not taken are sent once more at the end, as a provider would."""
    loop, parts = asyncio.get_running_loop(), urlsplit(url)
    ready = [request(parts.path, parts.netloc, secret, n, tag) for n in range(rate * seconds)]
    free: asyncio.Queue[Line] = asyncio.Queue()
    for _ in range(CONNECTIONS):
        free.put_nowait((await loop.create_connection(Line, parts.hostname, parts.port))[1])
    answers: Counter[int] = Counter()
    latencies: list[float] = []
    acknowledged: list[int] = []
    refused: list[int] = []

    async def send(number: int, due: float) -> None:
        line = await free.get()
        try:
            line.answer = loop.create_future()
            line.transport.write(ready[number])  # type: ignore[union-attr]
            status = await asyncio.wait_for(line.answer, ANSWER_SECONDS)
        finally:
            free.put_nowait(line)
        answers[status] += 1
        latencies.append(loop.time() - due)
        (acknowledged if status == 200 else refused).append(number)

    began = loop.time()
    sending: set[asyncio.Task[None]] = set()
    for number in range(len(ready)):
        due = began + number / rate
        if (wait := due - loop.time()) > 0:
            await asyncio.sleep(wait)
        task = loop.create_task(send(number, due))
        sending.add(task)
        task.add_done_callback(sending.discard)
    while sending:
        await asyncio.wait(sending)
    took = loop.time() - began
    first_latencies = sorted(latencies)
    again = list(refused)
    for number in again:
        await send(number, loop.time())

    def quantile(share: float) -> float:
        return round(1000 * first_latencies[min(int(share * len(first_latencies)), len(first_latencies) - 1)], 2)

    return {
        "sent": len(ready), "seconds": round(took, 2), "rate": round(len(ready) / took), "answers": dict(answers), "sent_again": len(again),
        "acknowledged": len(set(acknowledged)), "p50_ms": quantile(0.5), "p95_ms": quantile(0.95), "p99_ms": quantile(0.99),
        "max_ms": quantile(1),
    }  # fmt: skip


if __name__ == "__main__":
    given = sys.argv[1:]
    try:
        import uvloop

        run = uvloop.run
    except ImportError:
        run = asyncio.run
    print(json.dumps(run(storm(given[0], given[1].encode(), int(given[2]), int(given[3]), given[4]))))
