"""Secrets in mounted files (Docker, Kubernetes): read at every use, so that a replaced file counts at once."""

from __future__ import annotations

import logging
import stat
from functools import cache
from pathlib import Path

from ledger_pipeline.secrets.references import Reference, SecretError

log = logging.getLogger(__name__)
MAX_BYTES = 1 << 16


def value(reference: Reference) -> str:
    """The file's text without one line end at its end. Raises SecretError for one that isn't there, is empty, too long or no UTF-8."""
    path = Path(reference.place)
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(path.stat().st_mode)
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise SecretError(reference, f"the file can't be read ({error.strerror})") from None
    if mode & stat.S_IROTH:
        _warn_of_readers(reference)
    if len(data) > MAX_BYTES:
        raise SecretError(reference, f"the file is longer than {MAX_BYTES} bytes")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise SecretError(reference, "the file is not UTF-8") from None
    text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        raise SecretError(reference, "the file is empty")
    return text


@cache
def _warn_of_readers(reference: Reference) -> None:
    """Once per process and file: orchestrators mount secrets for everybody in the container, so that it is no refusal."""
    log.warning("%s: everybody on this machine may read the file; chmod o-r", reference)
