"""Files that somebody puts into a folder: those of a sync date, each content once, kept as it is before it is read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from ledger_pipeline.connect.errors import BadPayload, ConnectError
from ledger_pipeline.connect.source import Request

SIZE_LIMIT = 256 * 1024 * 1024
"""Bytes. A larger file fails the pull: nothing of it is read, so nothing of it can be judged."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """A file as it was found: its name, its bytes, and their SHA-256 in hex."""

    name: str
    content: bytes
    sha256: str


def check_pattern(pattern: str) -> str:
    """A glob in which `{date}` (or `{date:%Y%m%d}`) stands for the sync date; raises ValueError with what is wrong."""
    try:
        filled = pattern.format(date=date(2026, 10, 5))
    except (LookupError, AttributeError, ValueError) as error:
        raise ValueError(
            f"{pattern!r} is no pattern: only {{date}} and forms like {{date:%Y%m%d}} are replaced ({error})"
        ) from None
    if not filled or filled.startswith("/") or ".." in Path(filled).parts:
        raise ValueError(f"{pattern!r} is no pattern of names inside the folder")
    return pattern


def deliveries(request: Request, folder: Path, pattern: str, *, size_limit: int = SIZE_LIMIT) -> Iterator[Delivered]:
    """The files of the sync date by name; hidden ones (`.part` of a copy under way) are left alone.

    The same bytes under a second name are read once and named in `request.notes["repeated_files"]`. Raises a
    ConnectError when the folder is missing or a file too large. Files that the request itself gives are read instead.
    """
    if request.given is not None:
        for name, content in request.given:
            yield Delivered(name, content, request.keep_file(name, content) or hashlib.sha256(content).hexdigest())
        return
    if not folder.is_dir():
        raise ConnectError(request.connection, f"there is no folder {folder}")
    wanted = pattern.format(date=request.sync_date)
    found = sorted(p for p in folder.glob(wanted) if p.is_file() and not p.name.startswith("."))
    repeated: list[str] = []
    seen: set[str] = set()
    request.notes["files"] = len(found)
    for path in found:
        if (size := path.stat().st_size) > size_limit:
            raise BadPayload(
                request.connection, f"{path.name} has {size} bytes, more than {size_limit}", is_transient=False
            )
        content = path.read_bytes()
        if (digest := hashlib.sha256(content).hexdigest()) in seen:
            repeated.append(path.name)
            continue
        seen.add(digest)
        request.keep_file(path.name, content)
        yield Delivered(path.name, content, digest)
    if repeated:
        request.notes["repeated_files"] = repeated
        request.repeated += len(repeated)
