"""Why something failed, in a word that says what to do, and whether trying again can help."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import dataclass

import psycopg

from ledger_pipeline.config import ConfigError
from ledger_pipeline.connect import errors as connect
from ledger_pipeline.connect.errors import ConnectError
from ledger_pipeline.store.gate import GateClosed

_WORDS: tuple[tuple[type[ConnectError], str], ...] = (
    (connect.AuthError, "credentials"),
    (connect.RateLimited, "rate limit"),
    (connect.TransportError, "network"),
    (connect.ServerFault, "server fault"),
    (connect.PageFault, "listing"),
    (connect.BadPayload, "schema change"),
    (connect.RequestRejected, "request rejected"),
    (connect.RedirectRefused, "redirect"),
)
_SERVER_GONE = ("08", "57P", "53300", "55P03", "40001", "40P01")
"""SQLSTATEs: connection lost, server stopping, too many connections, lock not available, serialisation, deadlock."""


@dataclass(frozen=True, slots=True)
class Cause:
    """`word` is stable and documented (docs/operations.md); a transient one goes away by itself."""

    word: str
    is_transient: bool


def cause_of(error: BaseException) -> Cause:
    """Of the error, or of the first one behind it that is known."""
    for one in _chain(error):
        found = _known(one)
        if found is not None:
            return found
    return Cause("unexpected", False)


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)


def _known(error: BaseException) -> Cause | None:
    if isinstance(error, ConnectError):
        word = next((word for kind, word in _WORDS if isinstance(error, kind)), "connection")
        if isinstance(error, connect.BadPayload) and error.is_transient:
            word = "network"
        is_transient = error.is_transient or (isinstance(error, connect.ServerFault) and error.status in _MAY_RECOVER)
        return Cause(word, is_transient and not error.is_outcome_unknown)
    if isinstance(error, GateClosed):
        return Cause("gate closed", False)
    if isinstance(error, ConfigError):
        return Cause("configuration", False)
    if isinstance(error, psycopg.errors.DiskFull) or (isinstance(error, OSError) and error.errno == errno.ENOSPC):
        return Cause("disk full", False)
    if isinstance(error, psycopg.errors.InsufficientPrivilege | psycopg.errors.InvalidAuthorizationSpecification):
        return Cause("database rights", False)
    if isinstance(error, psycopg.Error) and _is_lost(error):
        return Cause("database", True)
    if _is_lost_to_dagster(error):
        return Cause("database", True)
    return None


def _is_lost_to_dagster(error: BaseException) -> bool:
    """Dagster's own storage speaks through psycopg2, which isn't imported here; an SQLSTATE is there when a server said it."""
    kind = type(error)
    if kind.__module__.split(".")[0] != "psycopg2" or kind.__name__ not in _LOST_NAMES:
        return False
    state = getattr(error, "pgcode", None)
    return state is None or str(state).startswith(_SERVER_GONE)


_LOST_NAMES = ("OperationalError", "InterfaceError", "AdminShutdown", "CrashShutdown", "CannotConnectNow")


_MAY_RECOVER = frozenset({500, 502, 503, 504})


def _is_lost(error: psycopg.Error) -> bool:
    if error.sqlstate is None:  # no server said it: the connection broke or was never made
        return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    return error.sqlstate.startswith(_SERVER_GONE)
