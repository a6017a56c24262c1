"""The sandbox company's servers in one process: each connection under its own path, in its provider's own wire format.

`/stripe_us/v1/charges` is Stripe, `/shopify_us/admin/api/…` is Shopify. What a system answers is written in its
`sources/<system>/sandbox.py` (or `targets/<system>/sandbox.py`), found by walking those folders. `/_control` sets the
clock and the faults; `/_truth` is what the books must come to.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import date, datetime
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route

from ledger_pipeline.sandbox.faults import Fault, FaultMiddleware, SandboxProtocol
from ledger_pipeline.sandbox.wire import FAULT_KEY, Clock, Site, iso_z, json_response

if TYPE_CHECKING:
    from ledger_pipeline.sandbox.company import Company

START_SECONDS = 15.0
_PACKAGE = Path(__file__).resolve().parents[1]


@cache
def systems() -> dict[str, ModuleType]:
    """The sandbox module of every system that has one, by the system's name."""
    found = {}
    for layer in ("sources", "targets"):
        for path in sorted((_PACKAGE / layer).glob("*/sandbox.py")):
            name = path.parent.name
            found[name] = import_module(f"ledger_pipeline.{layer}.{name}.sandbox")
    return found


def create_app(
    company: Company,
    *,
    clock: Clock | None = None,
    faults: Iterable[Fault | dict[str, Any]] = (),
    site: Site | None = None,
) -> Starlette:
    """The whole sandbox as one application. `site` sets the limits (Site(restore_rate=1e9) never throttles)."""
    clock = clock or Clock()
    site = site or Site()
    site.faults.add(faults)
    mounts: list[BaseRoute] = [*_control(company, clock, site)]
    refusals = {}
    for connection, info in company.connections.items():
        module = systems().get(info.system)
        if module is None:
            continue
        mounts.append(Mount(f"/{connection}", routes=module.routes(company, clock, connection, site)))
        refusals[connection] = module.refusal
    middleware = [Middleware(FaultMiddleware, book=site.faults, refusals=refusals, fault_key=FAULT_KEY)]
    app = Starlette(routes=mounts, middleware=middleware)
    app.state.clock, app.state.site = clock, site
    return app


def serve(
    company: Company,
    port: int = 8400,
    *,
    clock: Clock | None = None,
    faults: Iterable[Fault | dict[str, Any]] = (),
    site: Site | None = None,
    log_level: str = "warning",
) -> None:
    """Serve on 127.0.0.1:`port` until interrupted."""
    app = create_app(company, clock=clock, faults=faults, site=site)
    uvicorn.Server(_config(app, log_level, port=port)).run()


@contextmanager
def running(
    company: Company,
    *,
    clock: Clock | None = None,
    faults: Iterable[Fault | dict[str, Any]] = (),
    site: Site | None = None,
    log_level: str = "warning",
) -> Iterator[str]:
    """Serve in a thread on a free port while the block runs; gives the base URL, such as http://127.0.0.1:40001."""
    app = create_app(company, clock=clock, faults=faults, site=site)
    server = uvicorn.Server(_config(app, log_level))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="sandbox", daemon=True)
        thread.start()
        deadline = time.monotonic() + START_SECONDS
        while not server.started:
            if not thread.is_alive() or time.monotonic() > deadline:
                raise RuntimeError("the sandbox server did not start")
            time.sleep(0.005)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(START_SECONDS)


def _config(app: Starlette, log_level: str, port: int = 0) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        host="127.0.0.1",
        port=port,
        http=SandboxProtocol,
        loop="asyncio",
        log_level=log_level,
        access_log=False,
        lifespan="off",
        timeout_keep_alive=30,
        timeout_graceful_shutdown=1,
        server_header=False,
    )


def _control(company: Company, clock: Clock, site: Site) -> list[Route]:
    def clock_body() -> dict[str, Any]:
        return {"now": iso_z(clock.now()), "is_real": clock.is_real}

    async def get_clock(_: Request) -> Response:
        return json_response(clock_body())

    async def set_clock(request: Request) -> Response:
        try:
            now = (await _json(request))["now"]
            clock.set(None if now is None else datetime.fromisoformat(now))
        except (KeyError, TypeError, ValueError) as error:
            return json_response({"error": f'needs {{"now": an instant with offset, or null}}: {error}'}, 400)
        return json_response(clock_body())

    async def get_faults(_: Request) -> Response:
        return json_response([fault.as_json() for fault in site.faults.faults])

    async def add_faults(request: Request) -> Response:
        try:
            site.faults.add(await _json(request))
        except (AttributeError, TypeError, ValueError) as error:
            return json_response({"error": str(error)}, 400)
        return await get_faults(request)

    async def clear_faults(request: Request) -> Response:
        site.faults.clear()
        return await get_faults(request)

    async def requests(_: Request) -> Response:
        rows = sorted(site.faults.requests.items())
        return json_response([dict(zip(("method", "path", "status"), key, strict=True), count=n) for key, n in rows])

    async def forget_requests(request: Request) -> Response:
        site.faults.requests.clear()
        return await requests(request)

    async def health(_: Request) -> Response:
        return json_response({"status": "ok", "connections": sorted(company.connections), **clock_body()})

    async def get_truth(request: Request) -> Response:
        return await _truth(company, request)

    return [
        Route("/_control/clock", get_clock, methods=["GET"]),
        Route("/_control/clock", set_clock, methods=["POST"]),
        Route("/_control/faults", get_faults, methods=["GET"]),
        Route("/_control/faults", add_faults, methods=["POST"]),
        Route("/_control/faults", clear_faults, methods=["DELETE"]),
        Route("/_control/requests", requests, methods=["GET"]),
        Route("/_control/requests", forget_requests, methods=["DELETE"]),
        Route("/_control/health", health, methods=["GET"]),
        Route("/_truth", get_truth, methods=["GET"]),
    ]


async def _truth(company: Company, request: Request) -> Response:
    from ledger_pipeline.sandbox.truth import truth

    try:
        through = date.fromisoformat(request.query_params["through"])
    except (KeyError, ValueError):
        return json_response({"error": "needs ?through=YYYY-MM-DD"}, 400)
    answer = truth(company, through).to_json()
    body = answer if isinstance(answer, str | bytes) else msgspec.json.encode(answer)
    return Response(body, media_type="application/json")


async def _json(request: Request) -> Any:
    return msgspec.json.decode(await request.body())
