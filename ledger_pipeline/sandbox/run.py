"""The sandbox from the command line."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime
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


def webhooks(
    to: str, seconds: int, connections: list[str], seed: int, start: date, orders_per_day: int, hours: int
) -> bool:
    """Send webhooks in real time, those of the last hours first; say when the next one comes and what was answered.

    False when one wasn't taken. Raises ValueError for a connection that has no webhooks.
    """
    from ledger_pipeline.sandbox import hooks

    company = company_from(seed, start, orders_per_day)
    known = [name for name, one in company.connections.items() if one.system in hooks.tellers()]
    for name in connections:
        if name not in known:
            raise ValueError(f"{name!r} has no webhooks; connections that have are {', '.join(known)}")
    names = connections or known
    sent: Counter[tuple[str, int]] = Counter()
    told, coming = "", None
    for sent in hooks.follow(company, to, names, seconds, hours):
        if coming is None or coming[1].at <= datetime.now(UTC):
            coming = hooks.coming(company, names, datetime.now(UTC))
        after = (
            f"next: {coming[1].topic} of {coming[0]} at {coming[1].at:%H:%M:%S} UTC" if coming else "none in two days"
        )
        counts = ", ".join(f"{name}: {n} {_answered(status)}" for (name, status), n in sorted(sent.items()))
        line = f"{counts or 'nothing sent yet'}; {after}"
        if line != told:
            print(line, flush=True)
        told = line
    return all(200 <= status < 300 for _, status in sent)


def _answered(status: int) -> str:
    return f"answered {status}" if status else "not answered: is the receiver there?"


def truth_json(seed: int, start: date, orders_per_day: int, through: date) -> str:
    """The company's own books."""
    return truth(company_from(seed, start, orders_per_day), through).to_json()
