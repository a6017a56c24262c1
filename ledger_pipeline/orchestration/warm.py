"""A process that has imported everything and waits: for each run that it is given it forks a worker, which starts within a tenth of a second.

`python -m ledger_pipeline.orchestration.warm`, started by the launcher, one JSON object a line: in {"run_id", "instance"}, out
{"pid"} when a worker has been forked and {"run_id", "exit"} when one has ended. It ends when its input does; workers go on.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import sys
import traceback
from typing import Any


def main() -> None:
    """Serve until the launcher is gone."""
    output = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a worker prints must not be taken for an answer
    prepare()
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, signal.SIG_IGN)
    woken, wakes = os.pipe()
    os.set_blocking(wakes, False)
    signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    runs: dict[int, str] = {}
    with selectors.DefaultSelector() as selector:
        selector.register(0, selectors.EVENT_READ)
        selector.register(woken, selectors.EVENT_READ)
        waiting = b""
        tell(output, ready=True)
        while True:
            for key, _ in selector.select():
                if key.fd == woken:
                    os.read(woken, 4096)
                    reap(runs, output)
                    continue
                read = os.read(0, 65536)
                if not read:
                    return
                *lines, waiting = (waiting + read).split(b"\n")
                for line in lines:
                    given = json.loads(line)
                    pid = fork(given)
                    runs[pid] = given["run_id"]
                    tell(output, run_id=given["run_id"], pid=pid)


def prepare() -> None:
    """Import and build what every run needs, once for all."""
    from dagster_postgres import DagsterPostgresStorage

    from ledger_pipeline.checks import suites
    from ledger_pipeline.definitions import defs
    from ledger_pipeline.orchestration import nights

    _ = DagsterPostgresStorage, nights
    defs.get_repository_def().load_all_definitions()
    suites.warm_up()
    import pandas as pd

    _ = pd


def tell(output: Any, **what: object) -> None:
    """One line to the launcher."""
    output.write(json.dumps(what) + "\n")


def reap(runs: dict[int, str], output: Any) -> None:
    """Say which workers have ended, and how."""
    while runs:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        tell(output, run_id=runs.pop(pid, ""), exit=os.waitstatus_to_exitcode(status))


def fork(given: dict[str, Any]) -> int:
    """A worker for one run; returns its process id."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        for one in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD):
            signal.signal(one, signal.default_int_handler if one == signal.SIGINT else signal.SIG_DFL)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        code = work(given["run_id"], given["instance"])
    except BaseException:  # a forked child must never run on into its parent's loop
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def work(run_id: str, instance: str) -> int:
    """Execute a run, as `dagster api execute_run` does; 1 when the worker itself failed, a failed run is none of its faults."""
    from dagster._core.events import EngineEventData
    from dagster._core.instance import DagsterInstance, InstanceRef
    from dagster._core.origin import JobPythonOrigin
    from dagster._grpc.impl import core_execute_run
    from dagster._serdes import deserialize_value
    from dagster._utils.hosted_user_process import recon_job_from_origin
    from dagster._utils.interrupts import capture_interrupts

    from ledger_pipeline.orchestration.attempts import note_process
    from ledger_pipeline.orchestration.nights import keep_connections

    with capture_interrupts(), DagsterInstance.from_ref(deserialize_value(instance, InstanceRef)) as made:
        keep_connections(made)
        run = made.get_run_by_id(run_id)
        if run is None or not isinstance(run.job_code_origin, JobPythonOrigin):
            return 1
        note_process(made, run_id)
        made.report_engine_event(
            f"Started warm process for run (pid: {os.getpid()}).", run, EngineEventData.in_process(os.getpid())
        )
        for _event in core_execute_run(recon_job_from_origin(run.job_code_origin), run, made, inject_env_vars=True):
            pass
    return 0


if __name__ == "__main__":
    main()
