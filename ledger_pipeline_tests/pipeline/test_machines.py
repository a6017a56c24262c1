"""A backfill on several machines through Celery, one worker killed in the middle of a step: the same books as in one process, nothing twice."""

from __future__ import annotations

import random
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ledger_pipeline.orchestration.runtime import Runtime
from ledger_pipeline.store.database import Database
from ledger_pipeline.store.proof import verify
from ledger_pipeline_tests.conftest import DEMO, SandboxCompany, serving
from ledger_pipeline_tests.pipeline.books import WEEK, balances, run_days, stands
from ledger_pipeline_tests.pipeline.machines import DAEMON_LINE, Machine, code_line, quick_instance
from ledger_pipeline_tests.pipeline.postgres import postgres_by_tcp
from ledger_pipeline_tests.pipeline.processes import Process, free_port, listens, processes, until

DAYS = WEEK[:3]
LOST_AFTER_SECONDS = 15
STEPS_BEFORE_THE_KILL = 12


def taken(worker: Process) -> tuple[list[str], set[str]]:
    """(ids of the steps that a worker has taken, those that it has ended)."""
    text = worker.text()
    ended = set(re.findall(r"Task execute_plan\[([0-9a-f-]+)\] succeeded", text))
    return re.findall(r"Task execute_plan\[([0-9a-f-]+)\] received", text), ended


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_a_worker_lost_in_the_middle_of_a_backfill_changes_nothing_in_the_books(
    tmp_path: Path, new_database: Callable[[], Database]
) -> None:
    redis = shutil.which("redis-server")
    if redis is None:
        pytest.skip("needs redis-server on the PATH (apt-get install redis-server)")
    pytest.importorskip("dagster_celery", reason="pip install 'ledger_pipeline[celery]'")
    (tmp_path / "alone").mkdir()
    with serving(tmp_path / "files") as company, postgres_by_tcp() as url, processes() as keep:
        alone = company.runtime(tmp_path / "alone", new_database())
        run_days(alone, company, DAYS, clock_at=DAYS[-1])
        broker, code = free_port(), free_port()
        ledger = configuration(company, url)
        environment = {
            "LEDGER_BROKER_URL": f"redis://127.0.0.1:{broker}/0",
            "LEDGER_RESULT_URL": f"redis://127.0.0.1:{broker}/1",
            "LEDGER_LOST_AFTER_SECONDS": str(LOST_AFTER_SECONDS),
        }
        scheduler, one, two = (
            Machine(tmp_path / name, ledger, environment, code, quick_instance())
            for name in ("scheduler", "one", "two")
        )
        for machine in (scheduler, one, two):
            where = machine.run("python", "-c", "import ledger_pipeline; print(ledger_pipeline.__file__)").strip()
            assert Path(where).is_relative_to(machine.folder)
        keep(scheduler.start("broker", redis, "--port", str(broker), "--bind", "127.0.0.1", "--save", ""))
        Runtime.from_file(scheduler.work / "ledger.yaml").database  # noqa: B018 - the schema, once
        server = keep(scheduler.start("code", *code_line(code, "ledger_pipeline.definitions")))
        until(lambda: listens(code) and listens(broker), 90, alive=(server,))
        daemon = keep(scheduler.start("daemon", *DAEMON_LINE))
        workers = [keep(m.start("worker", "celery", "-A", "dagster_celery.app", "worker", "-c", "1", "-Q", "dagster", "-n", f"{m.folder.name}@%h", "-l", "INFO")) for m in (one, two)]  # fmt: skip
        until(lambda: all(" ready." in w.text() for w in workers), 60, alive=tuple(workers))
        scheduler.run("dagster", "job", "backfill", "-w", "workspace.yaml", "-j", "nightly", "--noprompt", "--from", str(DAYS[0]), "--to", str(DAYS[-1]))  # fmt: skip
        began = time.monotonic()

        def in_the_middle_of_a_step() -> bool:
            received, ended = taken(workers[0])
            return len(received) > STEPS_BEFORE_THE_KILL and received[-1] not in ended

        until(in_the_middle_of_a_step, 240, every=0.05, alive=(server, daemon, *workers))
        time.sleep(random.uniform(0, 0.5))
        workers[0].kill()
        received, ended = taken(workers[0])
        lost = [step for step in received if step not in ended]
        together = Runtime.from_file(scheduler.work / "ledger.yaml")
        until(lambda: set(statuses(together)) == {"SUCCESS"}, 420, every=1, alive=(server, daemon, workers[1]))
        again = [step for step in lost if step in taken(workers[1])[1]]
        print(f"{len(DAYS)} runs in {time.monotonic() - began:.0f} s; {len(ended)} steps by the one, {len(taken(workers[1])[1])} by the other, {len(again)} of {len(lost)} lost again")  # fmt: skip
        assert again == lost
        assert len(statuses(together)) == len(DAYS)
        assert stands(together) == stands(alone)
        assert balances(together) == balances(alone) != {}
        assert verify(together.database).findings == []


def configuration(company: SandboxCompany, url: str) -> str:
    """The demo's company on Celery."""
    text = DEMO.read_text().replace("${SANDBOX_URL:-http://127.0.0.1:8400}", company.url)
    text = text.replace("${SANDBOX_FILES:-.ledger/sandbox-files}", str(company.files))
    engine = "engine: celery, options: {broker: '${LEDGER_BROKER_URL}', backend: '${LEDGER_RESULT_URL}'}"
    return f"database_url: {url}\nexecution: {{{engine}}}\n{text}"


def statuses(runtime: Runtime) -> list[str]:
    """Of all of Dagster's runs."""
    with runtime.database.with_name("dagster").connect("owner") as connection:
        return [row[0] for row in connection.execute("SELECT status FROM runs")]
