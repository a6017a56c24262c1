"""The sandbox from the command line."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

from ledger_pipeline.sandbox.company import company_from
from ledger_pipeline.sandbox.truth import truth


def parse_fault(text: str) -> dict[str, Any]:
    """`route=kind[=times]`; raises ValueError with the form."""
    parts = text.split("=")
    if len(parts) not in (2, 3):
        raise ValueError(f"{text!r}: a fault is route=kind[=times], such as stripe_us/v1/payouts=429=3")
    return {"route": parts[0], "kind": parts[1], "times": int(parts[2]) if len(parts) == 3 else 1}


def serve(port: int, seed: int, start: date, orders_per_day: int, clock: str, faults: list[str], fast: bool) -> None:
    """Serve on 127.0.0.1 until interrupted."""
    from ledger_pipeline.sandbox import server
    from ledger_pipeline.sandbox.wire import Clock, Site

    set_clock = Clock()
    if clock:
        set_clock.set(datetime.fromisoformat(clock))
    site = Site(restore_rate=1e9) if fast else Site()
    server.serve(
        company_from(seed, start, orders_per_day),
        port,
        clock=set_clock,
        faults=[parse_fault(f) for f in faults],
        site=site,
    )


def webhooks(to: str, seconds: int, connections: list[str], seed: int, start: date, orders_per_day: int) -> None:
    """Send webhooks in real time, and say every ten seconds what was answered."""
    from ledger_pipeline.sandbox import hooks

    company = company_from(seed, start, orders_per_day)
    names = connections or [name for name, one in company.connections.items() if one.system in hooks.tellers()]
    for number, sent in enumerate(hooks.follow(company, to, names, seconds)):
        if number % 10 == 0 and sent:
            print(", ".join(f"{name}: {count} answered {status}" for (name, status), count in sorted(sent.items())))


def truth_json(seed: int, start: date, orders_per_day: int, through: date) -> str:
    """The company's own books."""
    return truth(company_from(seed, start, orders_per_day), through).to_json()
