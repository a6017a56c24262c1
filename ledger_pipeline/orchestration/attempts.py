"""What happens when a step fails: a transient cause is tried again a few times, a permanent one is named and is not."""

import inspect
import os
import random
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, TypeVar

import dagster as dg
import psutil

from ledger_pipeline.operations.causes import cause_of
from ledger_pipeline.orchestration.resources import Ledger

Context = dg.AssetExecutionContext | dg.AssetCheckExecutionContext
WORKER = "ledger/worker"
"""Run tag: host, process id and start of the process that works on the run."""
LONGEST_WAIT = 600
_noted: set[str] = set()
Work = TypeVar("Work", bound=Callable[..., Any])


def retried(work: Work) -> Work:
    """Decorates what Dagster runs (below its own decorator): a function of `context` and `ledger`, a generator or not."""
    if inspect.isgeneratorfunction(work):

        @wraps(work)
        def generate(context: Any, **more: Any) -> Iterator[Any]:
            with guarded(context, more["ledger"]):
                yield from work(context, **more)

        return generate  # type: ignore[return-value]

    @wraps(work)
    def run(context: Any, **more: Any) -> Any:
        with guarded(context, more["ledger"]):
            return work(context, **more)

    return run  # type: ignore[return-value]


@contextmanager
def guarded(context: Context, ledger: Ledger) -> Iterator[None]:
    """Around a step's body. Raises RetryRequested for a transient cause while tries are left, else a Failure that names the cause."""
    try:
        note_worker(context)
        yield
    except (dg.Failure, dg.RetryRequested):
        raise
    except Exception as error:
        cause, retries = cause_of(error), ledger.runtime.config.retries
        if cause.is_transient and context.op_execution_context.retry_number < retries.max_retries:
            wait = seconds_to_wait(context.op_execution_context.retry_number, retries.seconds)
            context.log.warning("%s: %s; trying again in %.0f s", cause.word, error, wait)
            raise dg.RetryRequested(retries.max_retries, wait) from error
        if cause.word == "unexpected":
            raise
        raise dg.Failure(f"{cause.word}: {error}", {"cause": cause.word}, allow_retries=False) from error


def seconds_to_wait(tried: int, seconds: int) -> float:
    """Doubled with every try, a quarter up or down, at most ten minutes."""
    return min(LONGEST_WAIT, seconds * 2.0**tried * random.uniform(0.75, 1.25))


def note_worker(context: Context) -> None:
    """Say once per run which process works on it, so that a killed one can be told from a slow one."""
    run = context.run
    if run.run_id in _noted:
        return
    started = int(psutil.Process().create_time())
    context.instance.add_run_tags(run.run_id, {WORKER: f"{socket.gethostname()}:{os.getpid()}:{started}"})
    _noted.add(run.run_id)


def is_worker_dead(run: dg.DagsterRun) -> bool | None:
    """True when the process that worked on the run is gone; None when that can't be told from here (another host, not noted yet)."""
    host, _, rest = run.tags.get(WORKER, "").rpartition(":")[0].rpartition(":")
    started = run.tags.get(WORKER, "").rpartition(":")[2]
    if host != socket.gethostname() or not rest:
        return None
    try:
        process = psutil.Process(int(rest))
        is_another = abs(process.create_time() - int(started)) > 2
        return bool(is_another or process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
