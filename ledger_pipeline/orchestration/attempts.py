"""What happens when a step fails: a transient cause is tried again a few times, a permanent one is named and is not."""

import inspect
import json
import os
import random
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, TypeVar

import dagster as dg
import psutil
from dagster._core.storage.tags import GRPC_INFO_TAG

from ledger_pipeline.operations.causes import cause_of
from ledger_pipeline.orchestration.resources import Ledger

Context = dg.AssetExecutionContext | dg.AssetCheckExecutionContext
WORKER = "ledger/worker"
"""Run tag: host, process id and start of the process that works on the run, and the run's id: a retry is given its parent's tags."""
LONGEST_WAIT = 600
CLOCKS = 2.0
"""Seconds that two times of the same start may differ."""
LOOPBACK = ("localhost", "127.0.0.1", "::1")
_STARTED = re.compile(r"^Started process for run \(pid: (\d+)\)")
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
        note_worker(context, ledger.runtime.config.execution.engine)
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


def note_worker(context: Context, engine: str) -> None:
    """Say once per run which process works on it, so that a killed one can be told from a slow one.

    A step that the engine gives a process of its own doesn't: the run goes on when that has ended.
    """
    run = context.run
    if run.run_id not in _noted and (engine == "in_process" or run.remote_job_origin is None):
        note_process(context.instance, run.run_id)


def note_process(instance: dg.DagsterInstance, run_id: str) -> None:
    """This process works on the run."""
    started = int(psutil.Process().create_time())
    instance.add_run_tags(run_id, {WORKER: f"{socket.gethostname()}:{os.getpid()}:{started}:{run_id}"})
    _noted.add(run_id)


def is_worker_dead(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool | None:
    """True when the process that worked on the run is gone; None when that can't be told from here (another host, none has started)."""
    is_noted = run.tags.get(WORKER, "").endswith(f":{run.run_id}")
    found = _noted_process(run) if is_noted else _started_process(instance, run)
    if found is None:
        return None
    pid, earliest, latest = found
    try:
        process = psutil.Process(pid)
        is_another = not earliest - CLOCKS <= process.create_time() <= latest + CLOCKS
        return bool(is_another or process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def _noted_process(run: dg.DagsterRun) -> tuple[int, float, float] | None:
    """(process id, earliest and latest start) of a process of this host, by the tag."""
    host, pid, started, _ = run.tags[WORKER].rsplit(":", 3)
    return (int(pid), int(started), int(started)) if host == socket.gethostname() else None


def _started_process(instance: dg.DagsterInstance, run: dg.DagsterRun) -> tuple[int, float, float] | None:
    """The same by what Dagster says when it starts one as a child of the code server: it may be killed before it notes itself."""
    asked = json.loads(run.tags.get(GRPC_INFO_TAG, "{}"))
    if "socket" not in asked and asked.get("host") not in {*LOOPBACK, socket.gethostname()}:
        return None
    events = instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT).records
    for one in reversed(events):
        found = _STARTED.search(one.event_log_entry.user_message or one.event_log_entry.message)
        if found:
            return int(found[1]), 0.0, one.event_log_entry.timestamp
    return None
