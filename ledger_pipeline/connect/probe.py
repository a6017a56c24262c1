"""A cheap look at a connection: is its key taken, how far is our clock off, what is left of the quota. One small request."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from ledger_pipeline.connect.errors import RequestRejected

if TYPE_CHECKING:
    from ledger_pipeline.connect.client import Client, Response

ATTEMPTS, SECONDS = 2, 20


@dataclass(frozen=True, slots=True)
class Quota:
    """`left` of `size` requests or points; `window` is the provider's own word for it."""

    left: int
    size: int | None
    window: str

    @property
    def share(self) -> float | None:
        """What is left, from 0 to 1; None where the provider doesn't say of how much."""
        return None if not self.size else self.left / self.size


@dataclass(frozen=True, slots=True)
class Probe:
    """One request that changes nothing and that every key may make."""

    method: str
    path: str
    params: Mapping[str, Any] | None = None
    json: Mapping[str, Any] | None = None
    quota: Callable[[Response], Quota | None] | None = None
    """Where the quota stands in the body."""


@dataclass(frozen=True, slots=True)
class Look:
    """What a probe has seen. `skew_seconds`: our clock minus theirs; `is_key_tested` is False for a source without a probe of its own."""

    is_key_tested: bool
    skew_seconds: float | None
    quotas: tuple[Quota, ...]


def look(client: Client, probe: Probe | None, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Look:
    """Send the probe, or ask for the base address where a source declares none; raises a ConnectError as any request does."""
    client.hurry(attempts=ATTEMPTS, seconds=SECONDS)
    began = clock()
    try:
        if probe is None:
            answer = client.get("")
        else:
            answer = client.request(probe.method, probe.path, params=probe.params, json=probe.json, is_safe=True)
    except RequestRejected:
        if probe is not None:
            raise
        return Look(False, None, ())  # it answers; whether it takes the key isn't known
    middle = began + (clock() - began) / 2
    own = probe.quota(answer) if probe is not None and probe.quota is not None else None
    return Look(probe is not None, skew(answer.headers, middle), (*([own] if own else []), *quotas(answer.headers)))


def skew(headers: Mapping[str, str], at: datetime) -> float | None:
    """Our clock minus that of the Date header, in seconds; None where there is none. The header has whole seconds."""
    try:
        theirs = parsedate_to_datetime(headers["Date"])
    except (KeyError, ValueError, TypeError):
        return None
    return (at - theirs).total_seconds() - 0.5


_SLASHED = (("X-Shopify-Shop-Api-Call-Limit", "bucket"),)
_PAIRS = (
    ("X-RateLimit-Remaining", "X-RateLimit-Limit", "window"),
    ("RateLimit-Remaining", "RateLimit-Limit", "window"),
    ("X-HubSpot-RateLimit-Daily-Remaining", "X-HubSpot-RateLimit-Daily", "day"),
    ("X-HubSpot-RateLimit-Remaining", "X-HubSpot-RateLimit-Max", "10 seconds"),
)
_KNOWN_SIZES = (
    ("X-DayLimit-Remaining", 5_000, "day"),
    ("X-MinLimit-Remaining", 60, "minute"),
    ("X-AppMinLimit-Remaining", 10_000, "minute, all tenants"),
)  # Xero says what is left only; its sizes are published


def quotas(headers: Mapping[str, str]) -> list[Quota]:
    """What the rate-limit headers of known providers say is left."""
    found = []
    for name, window in _SLASHED:
        used, _, size = headers.get(name, "").partition("/")
        if used.isdigit() and size.isdigit():
            found.append(Quota(int(size) - int(used), int(size), window))
    salesforce = re.search(r"api-usage=(\d+)/(\d+)", headers.get("Sforce-Limit-Info", ""))
    if salesforce:
        used_up, all_of_it = map(int, salesforce.groups())
        found.append(Quota(all_of_it - used_up, all_of_it, "day"))
    for left, of, window in _PAIRS:
        if (value := headers.get(left, "").split(",")[0].strip()).isdigit():
            most = headers.get(of, "").split(",")[0].strip()
            found.append(Quota(int(value), int(most) if most.isdigit() else None, window))
    for left, size_of, window in _KNOWN_SIZES:
        if (value := headers.get(left, "").strip()).isdigit():
            found.append(Quota(int(value), size_of, window))
    return found
