"""What can go wrong between us and another system.

    ConnectError            every error below: connection, method, URL without secrets, attempts, can retrying help
    ├── TransportError      no whole answer: not reached, reset, timed out; transient
    ├── RateLimited         the system asks to wait longer than we may (`wait_seconds`); transient
    ├── AuthError           401 or 403, or a token that cannot be had; permanent until somebody gives a new key
    ├── RequestRejected     another 4xx, or an error inside a 200; permanent; `provider_message`, redacted
    ├── ServerFault         5xx at every attempt; transient
    ├── BadPayload          truncated or not JSON (transient), too big or of another shape (permanent)
    ├── PageFault           a listing that repeats, shifts, ends early or never ends (`kind`, `stream`, `page`)
    └── RedirectRefused     a redirect or link to another host, or without TLS; permanent

Attributes instead of texts tell callers what to do: `is_transient` (try later), `is_outcome_unknown` (a write may
have happened: read it back before sending it again).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, Literal


class ConnectError(Exception):
    """`attempts` counts requests sent; `status` is None where no answer came."""

    transient: ClassVar[bool] = False

    def __init__(
        self,
        connection: str,
        message: str,
        *,
        method: str = "",
        url: str = "",
        attempts: int = 0,
        status: int | None = None,
        is_transient: bool | None = None,
        is_outcome_unknown: bool = False,
    ) -> None:
        self.connection = connection
        self.message = message
        self.method = method
        self.url = url
        self.attempts = attempts
        self.status = status
        self.is_transient = self.transient if is_transient is None else is_transient
        self.is_outcome_unknown = is_outcome_unknown
        super().__init__(str(self))

    def __str__(self) -> str:
        request = f"{self.method} {self.url}: " if self.url else ""
        tries = (
            f" (attempt {self.attempts})"
            if self.attempts == 1
            else f" ({self.attempts} attempts)"
            if self.attempts
            else ""
        )
        outcome = " It is unknown whether the request took effect." if self.is_outcome_unknown else ""
        helps = "Trying again later can help." if self.is_transient else "Trying again will not help."
        return f"{self.connection}: {request}{self.message}{tries}.{outcome} {helps}"

    def __reduce__(self) -> tuple[Callable[[], ConnectError], tuple[()], dict[str, Any]]:
        return partial(type(self), self.connection, self.message), (), self.__dict__


class TransportError(ConnectError):
    """Connection refused, reset, timed out."""

    transient = True


class RateLimited(ConnectError):
    """`wait_seconds` is what the system asks for, where it says so."""

    transient = True

    def __init__(self, connection: str, message: str, *, wait_seconds: float | None = None, **request: Any) -> None:
        self.wait_seconds = wait_seconds
        super().__init__(connection, message, **request)


class AuthError(ConnectError):
    """The key is wrong, expired, or not allowed to do this."""


class RequestRejected(ConnectError):
    """`provider_message` is the start of the answer's body, redacted."""

    def __init__(self, connection: str, message: str, *, provider_message: str = "", **request: Any) -> None:
        self.provider_message = provider_message
        super().__init__(connection, message, **request)


class ServerFault(ConnectError):
    """The system failed at every attempt."""

    transient = True


class BadPayload(ConnectError):
    """The body is not what it claims to be."""


FaultKind = Literal["repeat", "cursor", "shift", "early_end", "empty", "too_many"]


class PageFault(ConnectError):
    """The listing cannot be trusted. Another pull reads it anew, so it is transient but for a listing that is too
    long.
    """

    transient = True

    def __init__(
        self,
        connection: str,
        message: str,
        *,
        kind: FaultKind = "repeat",
        stream: str = "",
        page: int = 0,
        **request: Any,
    ) -> None:
        self.kind = kind
        self.stream = stream
        self.page = page
        super().__init__(connection, message, **request)

    def __str__(self) -> str:
        helps = "Trying again later can help." if self.is_transient else "Trying again will not help."
        return f"{self.connection}: {self.stream}, page {self.page}: {self.message}. {helps}"


class RedirectRefused(ConnectError):
    """Keys are sent to the connection's own host only."""
