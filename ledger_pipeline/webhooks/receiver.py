"""The receiver as a Starlette application: POST /{connection} is verified, stored durably and only then answered with 200.

Limits hold before anything is trusted: requests under way, the body's size while it is read, seconds. What is refused is counted, and
logged at most every few seconds, by connection and reason, without a byte of its body.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ledger_pipeline.connect.webhook import Delivery, WebhookRefused
from ledger_pipeline.store.database import Database
from ledger_pipeline.webhooks.doors import Doors, NotReady
from ledger_pipeline.webhooks.writer import NotStored, Writer

log = logging.getLogger(__name__)
STATUS = {"unsigned": 401, "wrong_signature": 401, "wrong_key": 401, "stale": 401, "future": 401}
"""The others are 400."""
LOG_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What the receiver takes at most."""

    body_bytes: int = 1 << 20
    waiting: int = 2000
    """Requests that are read, verified or waiting for their commit; more are answered with 429."""
    waiting_bytes: int = 64 << 20
    seconds: float = 10.0
    """For reading a body, and again for storing it."""


class _TooLarge(Exception):
    """A body is larger than the limit."""


@dataclass
class Receiver:
    """What one process receives. `counts` are answers by connection and outcome, since it started."""

    doors: Doors
    writer: Writer
    limits: Limits = Limits()
    clock: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    _waiting: int = 0
    _bytes: int = 0
    _told_at: dict[tuple[str, str], float] = field(default_factory=dict)
    _untold: Counter[tuple[str, str]] = field(default_factory=Counter)

    async def take(self, request: Request) -> Response:
        """One delivery."""
        name = request.path_params["connection"]
        door = await self.doors.door(name)
        if door is None:
            return self._refuse("", "unknown", 404, "no connection of that name takes webhooks")
        if self._waiting >= self.limits.waiting or self._bytes >= self.limits.waiting_bytes:
            return self._refuse(name, "busy", 429, "busy, send it again", retry=1)
        self._waiting += 1
        held = 0
        try:
            async with asyncio.timeout(self.limits.seconds):
                body = await self._body(request)
            held = len(body)
            self._bytes += held
            delivery = Delivery(dict(request.headers), body, self.clock())
            signed = await self.doors.verify(door, delivery)
            event = door.webhook.event(name, delivery, signed)
            async with asyncio.timeout(self.limits.seconds):
                is_new = await self.writer.put(event)
        except _TooLarge:
            return self._refuse(name, "too_large", 413, f"more than {self.limits.body_bytes} bytes", close=True)
        except WebhookRefused as refused:
            return self._refuse(name, refused.reason, STATUS.get(refused.reason, 400), str(refused))
        except (NotReady, NotStored, TimeoutError) as error:
            return self._refuse(name, "not_stored", 503, "not stored, send it again", retry=5, cause=str(error))
        except ClientDisconnect:
            return self._refuse(name, "disconnected", 400, "gone")
        finally:
            self._waiting -= 1
            self._bytes -= held
        self.counts[name, "stored" if is_new else "known"] += 1
        return JSONResponse({"status": "stored" if is_new else "known"})

    async def _body(self, request: Request) -> bytes:
        length = request.headers.get("content-length", "0")
        if not length.isdigit() or int(length) > self.limits.body_bytes:
            raise _TooLarge
        chunks: list[bytes] = []
        size = 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > self.limits.body_bytes:
                raise _TooLarge
            chunks.append(chunk)
        return b"".join(chunks)

    def _refuse(
        self, name: str, reason: str, status: int, message: str, *, retry: int = 0, close: bool = False, cause: str = ""
    ) -> Response:
        key = (name, reason)
        self.counts[key] += 1
        self._untold[key] += 1
        now = time.monotonic()
        if now - self._told_at.get(key, float("-inf")) >= LOG_SECONDS:
            why = f" ({cause})" if cause else ""
            log.warning("%s: %d refused, %s: %s%s", name or "–", self._untold.pop(key), reason, message, why)
            self._told_at[key] = now
        headers = {"Retry-After": str(retry)} if retry else {}
        return JSONResponse(
            {"status": "refused", "reason": reason, "message": message},
            status,
            headers | ({"Connection": "close"} if close else {}),
        )

    async def health(self, _: Request) -> Response:
        """200 while it takes webhooks; counts only, no names of connections that a stranger could try."""
        outcomes: Counter[str] = Counter()
        for (_name, outcome), count in self.counts.items():
            outcomes[outcome] += count
        return JSONResponse({"status": "ok", "waiting": self._waiting, "commits": self.writer.commits, **outcomes})


def create_app(
    config_path: Path,
    database: Database,
    limits: Limits | None = None,
    clock: Callable[[], datetime] | None = None,
) -> Starlette:
    """The application; `database` is migrated. Raises ConfigError when ledger.yaml has mistakes."""
    doors = Doors(config_path)
    names = doors.open_all()

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with Writer(database) as writer:
            receiver = Receiver(doors, writer, limits or Limits())
            if clock is not None:
                receiver.clock = clock
            app.state.receiver = receiver
            yield

    async def take(request: Request) -> Response:
        receiver: Receiver = request.app.state.receiver
        return await receiver.take(request)

    async def health(request: Request) -> Response:
        receiver: Receiver = request.app.state.receiver
        return await receiver.health(request)

    app = Starlette(
        routes=[Route("/-/health", health, methods=["GET"]), Route("/{connection}", take, methods=["POST"])],
        lifespan=lifespan,
    )
    app.state.names = tuple(names)
    return app


def names_of(app: Starlette) -> tuple[str, ...]:
    """The connections that took webhooks when the application was made."""
    names: tuple[str, ...] = app.state.names
    return names


def server(app: Starlette, host: str, port: int) -> uvicorn.Server:
    """Uvicorn with the receiver's settings; requests under way are answered before it stops."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            host=host,
            port=port,
            log_level="warning",
            access_log=False,
            server_header=False,
            lifespan="on",
            backlog=4096,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=15,
            h11_max_incomplete_event_size=64 << 10,
        )
    )
