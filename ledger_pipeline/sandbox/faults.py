"""Transport faults on demand: throttling, server errors, reset and truncated connections, slowness, expired tokens.

A fault names a route pattern and how often it strikes; the middleware lets it happen on the real socket. Kinds that
only the answer itself can show (a shifted page, a stale count) are handed to the route in the request's scope.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from fnmatch import fnmatchcase
from http import HTTPStatus
from typing import Any

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

SOCKET_KINDS = ("reset", "truncate", "slow")
REFUSAL_KINDS = ("429", "500", "503", "expired_token")
ANSWER_KINDS = ("page_shift", "stale_count", "early_end")
KINDS = REFUSAL_KINDS + SOCKET_KINDS + ANSWER_KINDS
_LINGER_OFF = struct.pack("ii", 1, 0)

Refusal = Callable[[str, float], Response]


@dataclass
class Fault:
    """Strikes `times` requests whose path (without its first slash) matches `route`, after `after` of them passed.

    `contains` narrows it to requests whose body has that text (all of Shopify is one path); `seconds` is for slow,
    `retry_after` for 429 and 503.
    """

    route: str
    kind: str
    times: int = 1
    after: int = 0
    retry_after: float = 0
    seconds: float = 1.0
    contains: str = ""
    seen: int = field(default=0, init=False)
    struck: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unknown fault kind {self.kind!r}; known: {', '.join(KINDS)}")

    @classmethod
    def read(cls, data: dict[str, Any]) -> Fault:
        """A fault from JSON; raises ValueError that names an unknown key or kind."""
        known = {one.name for one in fields(cls) if one.init}
        if unknown := sorted(set(data) - known):
            raise ValueError(f"unknown key {unknown[0]!r} in a fault; known: {', '.join(sorted(known))}")
        if missing := {"route", "kind"} - set(data):
            raise ValueError(f"a fault needs {' and '.join(sorted(missing))}")
        return cls(**{**data, "kind": str(data["kind"])})

    def is_about(self, path: str, body: bytes) -> bool:
        return fnmatchcase(path.lstrip("/"), self.route.lstrip("/")) and self.contains.encode() in body

    def as_json(self) -> dict[str, Any]:
        return {one.name: getattr(self, one.name) for one in fields(self)}


class FaultBook:
    """The faults that are planned, and a count of every request that was answered."""

    def __init__(self, faults: Iterable[Fault | dict[str, Any]] = ()) -> None:
        self.faults: list[Fault] = []
        self.requests: Counter[tuple[str, str, str]] = Counter()
        self.add(faults)

    def add(self, faults: Iterable[Fault | dict[str, Any]]) -> None:
        self.faults += [one if isinstance(one, Fault) else Fault.read(one) for one in faults]

    def clear(self) -> None:
        self.faults.clear()

    def strike(self, path: str, body: bytes) -> Fault | None:
        """The fault that this request meets, if any. Each counts all requests that it is about; one strikes."""
        due = None
        for fault in self.faults:
            if not fault.is_about(path, body):
                continue
            fault.seen += 1
            if due is None and fault.seen > fault.after and fault.struck < fault.times:
                fault.struck += 1
                due = fault
        return due

    def record(self, method: str, path: str, status: str) -> None:
        self.requests[method, path, status] += 1


class SandboxProtocol(H11Protocol):
    """uvicorn's HTTP protocol that lets a fault get at the connection's own transport, by the client's address."""

    transports: dict[tuple[str, int], asyncio.Transport] = {}  # noqa: RUF012  (one per process, on purpose)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self.client:
            self.transports[self.client] = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self.client:
            self.transports.pop(self.client, None)
        super().connection_lost(exc)


class FaultMiddleware:
    """Plays the planned faults and counts requests. `refusals` maps a connection to its provider's error answers."""

    def __init__(self, app: ASGIApp, book: FaultBook, refusals: dict[str, Refusal], fault_key: str) -> None:
        self.app, self.book, self.refusals, self.fault_key = app, book, refusals, fault_key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith("/_"):
            await self.app(scope, receive, send)
            return
        body = await _read(receive)
        fault = self.book.strike(scope["path"], body)
        status = "unanswered"

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)

        try:
            if fault is not None and fault.kind in ("reset", "truncate"):
                status = fault.kind
                await self._break(fault, scope, body, receive)
            else:
                await self._answer(fault, scope, _replayed(body, receive), counted)
        finally:
            self.book.record(scope["method"], scope["path"], status)

    async def _answer(self, fault: Fault | None, scope: Scope, receive: Receive, send: Send) -> None:
        if fault is not None and fault.kind in REFUSAL_KINDS:
            refuse = self.refusals.get(scope["path"].split("/")[1], plain_refusal)
            await refuse(fault.kind, fault.retry_after)(scope, receive, send)
            return
        if fault is not None and fault.kind == "slow":
            await asyncio.sleep(fault.seconds)
        if fault is not None and fault.kind in ANSWER_KINDS:
            scope[self.fault_key] = fault.kind
        await self.app(scope, receive, send)

    async def _break(self, fault: Fault, scope: Scope, body: bytes, receive: Receive) -> None:
        transport = SandboxProtocol.transports[tuple(scope["client"])]
        if fault.kind == "reset":
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_OFF)
            transport.abort()
        else:
            transport.write(half_of(*await _caught(self.app, scope, _replayed(body, receive))))
            transport.close()
        while (await receive())["type"] != "http.disconnect":
            pass


def plain_refusal(kind: str, retry_after: float) -> Response:
    """An error answer of no provider in particular."""
    status = {"expired_token": 401}.get(kind) or int(kind)
    headers = {"Retry-After": f"{retry_after:g}"} if kind in ("429", "503") else {}
    return Response(f'{{"error": "{HTTPStatus(status).phrase}"}}', status, headers, media_type="application/json")


def half_of(start: Message, body: bytes) -> bytes:
    """An HTTP/1.1 answer whose Content-Length promises the whole body, but which carries its first half only."""
    status = start["status"]
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}".encode()]
    lines += [name + b": " + value for name, value in start["headers"] if name.lower() != b"content-length"]
    lines.append(b"content-length: %d" % max(len(body), 2))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body[: len(body) // 2]


async def _read(receive: Receive) -> bytes:
    body, is_open = b"", True
    while is_open:
        message = await receive()
        body += message.get("body", b"")
        is_open = message.get("more_body", False)
    return body


def _replayed(body: bytes, receive: Receive) -> Receive:
    is_sent = False

    async def again() -> Message:
        nonlocal is_sent
        if is_sent:
            return await receive()
        is_sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def _caught(app: ASGIApp, scope: Scope, receive: Receive) -> tuple[Message, bytes]:
    start: Message = {}
    chunks: list[bytes] = []

    async def catch(message: Message) -> None:
        if message["type"] == "http.response.start":
            start.update(message)
        else:
            chunks.append(message.get("body", b""))

    await app(scope, receive, catch)
    return start, b"".join(chunks)
