"""Keeps keys out of exceptions and logs: a wrapper that doesn't print, and a filter that masks what is known or
looks like a key.
"""

from __future__ import annotations

import base64
import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator
from urllib.parse import quote, quote_plus, urlsplit

MASK = "***"
_SHORTEST = 4  # a shorter "secret" would mask ordinary words
_SHORTEST_ADDRESS = 12
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


_PERSONAL = (
    re.compile(r"[\w.+-]+(?:@|%40)[\w-]+(?:\.[\w-]+)+"),  # e-mail addresses
    re.compile(r"(?<![\w.])(?:\+|%2B)\d[\d ()/-]{6,}\d"),  # international telephone numbers
)
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?:[ ]?[A-Z0-9]{4}){2,7}(?:[ ]?[A-Z0-9]{1,3})?\b")
_QUOTED = re.compile(r"(?<!\w)'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\"")
_FIGURE = re.compile(r"[-+]?[\d.,' \u00a0]+%?")
_CODE = re.compile(r"[A-Z]{1,4}|[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+|[a-z][a-z0-9_.-]{0,39}|\d[\w.,]{0,8}|NaN")
_MOMENT = re.compile(r"\d{2,4}[-/.]\d{1,2}[-/.]\d{1,4}(?:[T ][\d:.]+(?:Z|[+-][\d:]+)?)?|\d{1,2}:\d{2}[\d:.]*")
_LONGEST_FIGURE = 9  # a whole number of more digits may be a telephone's, an account's or a card's


def without_people(text: str) -> str:
    """Masks e-mail addresses, international telephone numbers, and IBANs but for their last four characters; names can't be told from other words."""
    text = _IBAN.sub(lambda match: MASK + match[0][-4:], text)
    for pattern in _PERSONAL:
        text = pattern.sub(MASK, text)
    return text


def without_values(message: str) -> str:
    """A message about a record, as it may be stored and logged: of quoted values figures, dates and codes are kept, others masked.

    `'12,50' is not a decimal number` stays; `'Jane Doe' is not a decimal number` says `'***'`. The value itself is in the payload.
    """

    def kept(match: re.Match[str]) -> str:
        return match[0] if is_harmless(match[1] if match[1] is not None else match[2]) else f"'{MASK}'"

    return without_people(_QUOTED.sub(kept, message))


def is_harmless(value: str) -> bool:
    """Whether a value is a figure, a date or a code (`card`, `USD`, `LENDING_CREDIT`), which name nobody."""
    if _FIGURE.fullmatch(value):
        whole = re.split(r"[.,]", value)[0]
        return sum(c.isdigit() for c in whole) <= _LONGEST_FIGURE or value.count(",") > 1
    return not value.strip() or bool(_CODE.fullmatch(value) or _MOMENT.fullmatch(value))


_remembered: set[str] = set()


def remember(values: Iterable[str]) -> None:
    """Secrets that this process uses, for logs that other libraries write."""
    _remembered.update(value for value in values if len(value) >= _SHORTEST)


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


def _masked(text: str, spans: Iterable[tuple[int, int]]) -> str:
    """One mask for each run of characters that spans cover; those that overlap or touch are one run."""
    runs: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if runs and start <= runs[-1][1]:
            runs[-1] = (runs[-1][0], max(runs[-1][1], end))
        else:
            runs.append((start, end))
    ends = [0, *(end for _, end in runs)]
    kept = [text[at:start] for at, (start, _) in zip(ends, runs, strict=False)]
    return MASK.join([*kept, text[ends[-1] :]])


class Redactor(logging.Filter):
    """`redactor(text)` masks the given secrets and whatever stands behind a sensitive header, parameter or JSON
    name. Where several of them overlap, all of it is masked.

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
        self._compiled: tuple[frozenset[str], tuple[re.Pattern[str], re.Pattern[str]] | None] = (frozenset(), None)

    def __call__(self, text: str) -> str:
        spans = list(self._spans(text))
        if not spans:
            return text
        text = _masked(text, spans)
        for pattern in _PATTERNS:  # again: a mask can join what a secret's own characters had cut
            text = pattern.sub(rf"\g<keep>{MASK}", text)
        return text

    def _spans(self, text: str) -> Iterator[tuple[int, int]]:
        """All that is known or looks like a key, as (first, after the last); they may overlap and stand in each other."""
        known = self._known()
        if known is not None:
            first, all_of_them = known
            found = first.search(text)
            if found is not None:  # most texts have none; looking for one is the cheaper half
                yield from (match.span(1) for match in all_of_them.finditer(text, found.start()))
        for pattern in _PATTERNS:
            yield from ((match.end("keep"), match.end()) for match in pattern.finditer(text))

    def _known(self) -> tuple[re.Pattern[str], re.Pattern[str]] | None:
        """One that finds a secret, and one that looks ahead and so finds the longest at every place, also within another."""
        secrets = self._fixed | {s.reveal() if isinstance(s, Secret) else s for s in self._live()}
        if secrets != self._compiled[0]:
            forms = sorted({form for secret in secrets for form in _forms(secret)}, key=len, reverse=True)
            any_of = "|".join(map(re.escape, forms))
            self._compiled = (secrets, (re.compile(any_of), re.compile(f"(?=({any_of}))")) if forms else None)
        return self._compiled[1]

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = self(record.getMessage()), None
        if record.exc_info and record.exc_info[0]:
            # Formatted here for good: another handler may have cached the plain text, or may format `exc_info` itself.
            record.exc_text = self(logging.Formatter().formatException(record.exc_info))
            record.exc_info = None
        return True


process_wide = Redactor(live=lambda: tuple(_remembered))
"""Masks every secret that was remembered."""


def remember_address(url: str) -> None:
    """An address that is a key, as a chat's or a workflow's: urllib3 logs its path and query at DEBUG.

    A path of fewer than twelve characters (`/hook`) is a word; masked, it would cut other secrets in two.
    """
    parts = urlsplit(url)
    remember(part for part in (parts.path, parts.query) if len(part) >= _SHORTEST_ADDRESS)
    logging.getLogger("urllib3.connectionpool").addFilter(process_wide)
