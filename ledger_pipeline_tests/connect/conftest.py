"""A loopback server that answers what a test tells it to, down to resets and broken-off bodies."""

from __future__ import annotations

import http.server
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from ledger_pipeline.connect.client import Client


@dataclass
class Got:
    """What arrived. `number` counts the server's requests from 1."""

    number: int
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Answer:
    """`fault`: reset (RST instead of an answer), truncate (a Content-Length longer than the body), drip (a byte
    every `seconds`).
    """

    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    fault: str = ""
    seconds: float = 0.0


def to_json(value: Any, **more: Any) -> Answer:
    return Answer(body=json.dumps(value).encode(), **more)


Script = Callable[[Got], Answer]


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, script: Script) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script = script
        self.got: list[Got] = []
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are part of the tests."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Quiet."""

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urlsplit(self.path)
        with self.server.lock:
            number = len(self.server.got) + 1
            got = Got(number, self.command, url.path, dict(parse_qsl(url.query)), dict(self.headers.items()), body)
            self.server.got.append(got)
        self._answer(self.server.script(got))

    do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815

    def _answer(self, answer: Answer) -> None:
        if answer.fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True
            return
        if answer.fault != "drip":
            time.sleep(answer.seconds)
        self.send_response(answer.status)
        length = len(answer.body) + (100 if answer.fault == "truncate" else 0)
        for name, value in {"Content-Length": str(length), **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if answer.fault == "drip":
            for byte in answer.body:
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
                time.sleep(answer.seconds)
        else:
            self.wfile.write(answer.body)
        self.close_connection |= bool(answer.fault)


@pytest.fixture
def serve() -> Iterator[Callable[[Script | list[Answer]], Server]]:
    """`serve(script)` or `serve([first, second, …])`; the last answer of a list is given again and again."""
    servers: list[Server] = []

    def start(script: Script | list[Answer]) -> Server:
        if isinstance(script, list):
            answers = script
            script = lambda got: answers[min(got.number, len(answers)) - 1]  # noqa: E731
        server = Server(script)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


class Clock:
    """Time that passes only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []
        self._lock = threading.Lock()

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self.now += seconds
            self.slept.append(seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def connect(clock: Clock) -> Iterator[Callable[..., Client]]:
    """`connect(url, auth, limit, …)`: a client on the test's clock, with the longest back-off instead of a random
    one.
    """
    clients: list[Client] = []

    def make(url: str, *args: Any, **options: Any) -> Client:
        defaults = {"clock": clock, "sleep": clock.sleep, "jitter": lambda low, high: high, "timeout": (2, 2)}
        clients.append(Client("stripe_us", url, *args, **{**defaults, **options}))
        return clients[-1]

    yield make
    for client in clients:
        client.close()
