"""`python -m ledger_pipeline_tests.bench.pages COUNT`: a shop on loopback that serves up to COUNT orders by GraphQL pages from memory.

It prints its URL; /2000 below it is a shop with 2,000 orders.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

from ledger_pipeline_tests.bench import loopback, orders

ROOT = Path(__file__).resolve().parents[2]


def answer(asked: dict[str, Any], count: int, listed: list[bytes]) -> bytes:
    """What a shop with `count` orders, a multiple of a page, says to Shopify's two questions: how many, and the page after a cursor."""
    if "ordersCount" in asked["query"]:
        return json.dumps({"data": {"ordersCount": {"count": count, "precision": "EXACT"}}}).encode()
    number = int(asked["variables"].get("after") or 0)
    has_next = (number + 1) * orders.PAGE < count
    info = json.dumps({"hasNextPage": has_next, "endCursor": str(number + 1) if has_next else None}).encode()
    return b'{"data":{"orders":{"pageInfo":%s,"nodes":[%s]}}}' % (info, listed[number])


def server(most: int) -> ThreadingHTTPServer:
    """Shops at /COUNT, with up to `most` orders."""
    listed = [b",".join(page) for page in orders.payloads(most)]
    return loopback.server(lambda path, body: answer(json.loads(body), int(path.split("/")[1]), listed))


@contextmanager
def serving(most: int) -> Iterator[str]:
    """The shops in a process of its own, which ends with the block."""
    command = [sys.executable, "-m", "ledger_pipeline_tests.bench.pages", str(most)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        try:
            url = child.stdout.readline().strip() if child.stdout else ""
            if not url:
                raise RuntimeError("the shops did not start")
            yield url
        finally:
            child.terminate()


if __name__ == "__main__":
    shops = server(int(sys.argv[1]))
    print(f"http://127.0.0.1:{shops.server_port}", flush=True)
    shops.serve_forever()
