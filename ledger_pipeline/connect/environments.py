"""How a credential or an address tells that it is live or a test's, so that the two are never mixed."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from typing import Literal
from urllib.parse import urlsplit

Mode = Literal["live", "test"]
Tell = Callable[[str], Mode | None]


def by_prefix(live: tuple[str, ...], test: tuple[str, ...]) -> Tell:
    """Of keys that say it at their beginning; None for any other."""

    def tell(value: str) -> Mode | None:
        return "live" if value.startswith(live) else "test" if value.startswith(test) else None

    return tell


def by_host(live: tuple[str, ...] = (), test: tuple[str, ...] = ()) -> Tell:
    """Of addresses: loopback is a test's; a host, or a `.domain` that it ends with, is what it is listed as; None for any other."""

    def tell(value: str) -> Mode | None:
        try:
            host = urlsplit(value).hostname or ""
        except ValueError:
            return None
        if is_loopback(host) or _is_of(host, test):
            return "test"
        return "live" if _is_of(host, live) else None

    return tell


def is_loopback(host: str) -> bool:
    """`localhost`, 127.0.0.0/8 and ::1."""
    try:
        return host == "localhost" or ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _is_of(host: str, listed: tuple[str, ...]) -> bool:
    return any(host.endswith(one) if one.startswith(".") else host == one for one in listed)
