"""Writes the sync log around the steps: what each did, and why it failed. A log that can't be written never hides the error."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import date
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import psycopg

from ledger_pipeline.connect.redact import Redactor
from ledger_pipeline.operations.causes import cause_of
from ledger_pipeline.orchestration.runtime import Link, Runtime
from ledger_pipeline.store import raw, sync_log
from ledger_pipeline.store.sync_log import Failure

log = logging.getLogger(__name__)
P = ParamSpec("P")
R = TypeVar("R")
Step = Callable[Concatenate[Runtime, Link, date, str, P], R]
_redact = Redactor()


def failure_of(error: BaseException) -> Failure:
    """An error as the log keeps it."""
    cause = cause_of(error)
    return Failure(cause.word, cause.is_transient, _redact(f"{type(error).__name__}: {error}"))


def recorded(step: str, describe: Callable[[Any], Mapping[str, Any]]) -> Callable[[Step[P, R]], Step[P, R]]:
    """Decorates a step over (runtime, link, sync date, run id): one row of ops.sync_step, whether it ends or fails."""

    def decorate(work: Step[P, R]) -> Step[P, R]:
        @wraps(work)
        def run(runtime: Runtime, link: Link, sync_date: date, run_id: str, *args: P.args, **more: P.kwargs) -> R:
            started_at = runtime.clock()

            def keep(details: Mapping[str, Any], failure: Failure | None = None) -> None:
                sync_log.keep_step(
                    *(runtime.database, link.name, sync_date, run_id, step),
                    started_at=started_at,
                    ended_at=runtime.clock(),
                    details=details,
                    failure=failure,
                )

            try:
                done = work(runtime, link, sync_date, run_id, *args, **more)
            except BaseException as error:
                failure = failure_of(error)
                _try_to_keep(lambda: keep({}, failure))
                raise
            keep(describe(done))
            return done

        return run  # type: ignore[return-value]

    return decorate


def failed_pull(runtime: Runtime, pulled: raw.Pull, error: BaseException) -> None:
    """One row of ops.pull_failure."""
    _try_to_keep(lambda: sync_log.keep_failed_pull(runtime.database, pulled, failure_of(error), runtime.clock()))


def _try_to_keep(write: Callable[[], None]) -> None:
    try:
        write()
    except psycopg.Error as error:
        log.warning("the sync log could not be written: %s", type(error).__name__)
