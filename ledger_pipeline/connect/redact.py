"""Keeps keys out of exceptions and logs: a wrapper that doesn't print, and a filter that masks what is known or
looks like a key.
"""

from __future__ import annotations

import base64
import json
import logging
import re
from collections.abc import Callable, Iterable
from urllib.parse import quote, quote_plus

MASK = "***"
_SHORTEST = 4  # a shorter "secret" would mask ordinary words
_NAMES = (
    r"(?:access|refresh|id|auth|session|api|security|bearer|shop|public)[-_]?token|token|(?:[\w-]*[-_])?(?:secret|password|signature)"
    r"|passwd|pwd|sig|hmac|(?:[\w-]*[-_])?(?:api[-_]?|access[-_]?|private[-_]?)key|assertion|client_assertion"
    r"|(?:proxy-)?authorization|(?:set-)?cookie|[\w-]*-access-token|[\w-]*-credential"
)
_PATTERNS = (
    re.compile(rf"(?i)(?P<keep>(?<![\w-])(?:{_NAMES}|key|code)=)[^&#\s'\"<>,;)]+"),
    re.compile(rf"(?i)(?P<keep>\"(?:{_NAMES})\"\s*:\s*\")(?:[^\"\\]|\\.)+"),
    re.compile(rf"(?i)(?P<keep>'(?:{_NAMES})'\s*:\s*')(?:[^'\\]|\\.)+"),
    re.compile(rf"(?i)(?P<keep>\\\"(?:{_NAMES})\\\"\s*:\s*\\\")(?:[^\"\\]|\\[^\"])+"),  # JSON inside JSON
    re.compile(
        r"(?i)(?P<keep>\b(?:(?:proxy-)?authorization|(?:set-)?cookie|x-[\w-]*(?:token|key|secret)|plaid-secret):\s*)"
        r"[^\r\n]+"
    ),
    re.compile(r"(?i)(?P<keep>\b(?:Bearer|Basic)\s+)[\w.~+/=-]{6,}"),
    re.compile(r"(?P<keep>//)[^/@\s]+(?=@)"),
)


class Secret:
    """A key that prints as `***`; `reveal()` where it goes into a request."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return MASK

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(("Secret", self._value))


def _forms(secret: str) -> set[str]:
    """The ways in which a secret appears: as it is, URL-encoded, in base64, inside JSON or a repr."""
    raw = {secret, secret.strip()}
    encoded = {form for s in raw for form in (quote(s), quote(s, safe=""), quote_plus(s), repr(s)[1:-1])}
    encoded |= {json.dumps(s, ensure_ascii=is_ascii)[1:-1] for s in raw for is_ascii in (True, False)}
    for s in raw:
        data = s.encode()
        encoded |= {f(data).decode().rstrip("=") for f in (base64.b64encode, base64.urlsafe_b64encode)}
    return {form for form in raw | encoded if len(form) >= _SHORTEST}


class Redactor(logging.Filter):
    """`redactor(text)` masks the given secrets and whatever stands behind a sensitive header, parameter or JSON
    name.

    `live` is asked at every use, for tokens that come into being later. As a `logging.Filter` it rewrites messages
    and tracebacks; add it to handlers, since a logger's filter doesn't see its children's records. Secrets under 4
    characters are only masked by name.
    """

    def __init__(
        self, secrets: Iterable[str | Secret] = (), live: Callable[[], Iterable[str | Secret]] = tuple
    ) -> None:
        super().__init__()
        self._fixed = frozenset(s.reveal() if isinstance(s, Secret) else s for s in secrets)
        self._live = live
        self._compiled: tuple[frozenset[str], re.Pattern[str] | None] = (frozenset(), None)

    def __call__(self, text: str) -> str:
        known = self._known()
        if known is not None:
            text = known.sub(MASK, text)
        for pattern in _PATTERNS:
            text = pattern.sub(rf"\g<keep>{MASK}", text)
        return text

    def _known(self) -> re.Pattern[str] | None:
        secrets = self._fixed | {s.reveal() if isinstance(s, Secret) else s for s in self._live()}
        if secrets != self._compiled[0]:
            forms = sorted({form for secret in secrets for form in _forms(secret)}, key=len, reverse=True)
            self._compiled = (secrets, re.compile("|".join(map(re.escape, forms))) if forms else None)
        return self._compiled[1]

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = self(record.getMessage()), None
        if record.exc_info and record.exc_info[0]:
            # Formatted here for good: another handler may have cached the plain text, or may format `exc_info` itself.
            record.exc_text = self(logging.Formatter().formatException(record.exc_info))
            record.exc_info = None
        return True
