"""Fetches what references lead to and remembers managers' answers for a short while, one keeper per process.

A value counts for TTL_SECONDS. When its manager isn't reached, the last one counts for STALE_SECONDS since it was fetched, and the
manager is left alone for PAUSE_SECONDS; a refusal counts at once.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

from ledger_pipeline.secrets import aws, files, vault
from ledger_pipeline.secrets.references import Reference, SecretError

log = logging.getLogger(__name__)

TTL_SECONDS = 60.0
STALE_SECONDS = 900.0
PAUSE_SECONDS = 5.0

Version = Literal["current", "previous"]
Document = str | dict[str, Any]
"""A secret as a whole: a text, or its fields."""


class Manager(Protocol):
    """A secret manager. Documents are fetched whole, so that the fields of a pair of keys belong together."""

    def fetch(self, reference: Reference, version: Version) -> Document | None:
        """Raises SecretError; None where there is no previous version."""
        ...


@dataclass(frozen=True, slots=True)
class _Kept:
    document: Document | None
    at: float
    is_expired: bool = False

    def __repr__(self) -> str:
        return "_Kept(***)"


@dataclass(frozen=True, slots=True)
class _Failed:
    error: SecretError
    at: float


class Keeper:
    """Values of references. Thread-safe; a child process begins with an empty one."""

    def __init__(
        self,
        environment: Mapping[str, str] | None = None,
        managers: Mapping[str, Manager] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._environment, self._clock, self._given = environment, clock, managers
        self.forget()

    def forget(self) -> None:
        """Begin anew: no value, no open connection, no lock that another thread held when a process was forked."""
        self._lock = threading.RLock()
        self._managers = self._given or {"aws": aws.Manager(), "vault": vault.Manager(self._environment)}
        self._kept: dict[tuple[str, str, bool, Version], _Kept] = {}
        self._failed: dict[tuple[str, str, bool, Version], _Failed] = {}

    def value(self, reference: Reference, version: Version = "current") -> str:
        """What it leads to; `previous` is the current value where no earlier one is kept. Raises SecretError."""
        if reference.scheme == "env":
            return self._variable(reference)
        if reference.scheme == "file":
            return files.value(reference)
        document = self._document(reference, version)
        if document is None:
            document = self._document(reference, "current")
        return _field(reference, document)

    def expire(self, references: Iterable[Reference]) -> None:
        """Ask their managers anew at the next use; what is kept still stands in for a manager that isn't reached."""
        places = {(reference.scheme, reference.place) for reference in references}
        with self._lock:
            for name, kept in self._kept.items():
                if name[:2] in places:
                    self._kept[name] = replace(kept, is_expired=True)

    def _variable(self, reference: Reference) -> str:
        environment = os.environ if self._environment is None else self._environment
        if found := environment.get(reference.place):
            return found
        if reference.default is None:
            raise SecretError(reference, f"environment variable {reference.place} is not set")
        return reference.default

    def _document(self, reference: Reference, version: Version) -> Document | None:
        name = reference.scheme, reference.place, bool(reference.key), version
        with self._lock:
            now = self._clock()
            kept, failed = self._kept.get(name), self._failed.get(name)
            if kept and not kept.is_expired and now - kept.at < TTL_SECONDS:
                return kept.document
            if failed and now - failed.at < PAUSE_SECONDS:
                return self._stale(kept, failed.error, now)
            try:
                document = self._managers[reference.scheme].fetch(reference, version)
            except SecretError as error:
                if not error.is_transient:
                    self._kept.pop(name, None)
                    raise
                self._failed[name] = _Failed(error, now)
                log.warning("%s", error)
                return self._stale(kept, error, now)
            self._failed.pop(name, None)
            self._kept[name] = _Kept(document, self._clock())
            return document

    def _stale(self, kept: _Kept | None, error: SecretError, now: float) -> Document | None:
        if kept is None or now - kept.at >= STALE_SECONDS:
            raise SecretError(error.reference, error.message, is_transient=True) from None
        return kept.document


def _field(reference: Reference, document: Document | None) -> str:
    if isinstance(document, str):
        found: Any = document
    else:
        found = (document or {}).get(reference.key)
        if found is None:
            raise SecretError(reference, f"the secret has no key {reference.key!r}")
    if isinstance(found, dict | list | bool) or not str(found):
        raise SecretError(reference, "the value is no text")
    return str(found)


keeper = Keeper()


os.register_at_fork(after_in_child=keeper.forget)
