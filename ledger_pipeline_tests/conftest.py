"""What tests share: an embedded PostgreSQL per worker, a fresh migrated database per test, the sandbox company on loopback."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import psutil
import psycopg
import pytest
import requests

from ledger_pipeline.orchestration.runtime import Runtime
from ledger_pipeline.store import embedded, schema
from ledger_pipeline.store.database import Database

SHARED = Path(__file__).resolve().parents[2] / "shared"
DEMO = Path(__file__).resolve().parents[1] / "ledger_pipeline" / "sandbox" / "demo.ledger.yaml"
START = date(2026, 10, 5)


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--nightly` (or LEDGER_NIGHTLY=1) also runs what takes many minutes."""
    parser.addoption("--nightly", action="store_true", help="also run the tests that are marked nightly")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what is marked nightly by day."""
    if config.getoption("--nightly") or os.environ.get("LEDGER_NIGHTLY") == "1":
        return
    for item in items:
        if item.get_closest_marker("nightly"):
            item.add_marker(pytest.mark.skip(reason="takes many minutes: --nightly or LEDGER_NIGHTLY=1"))


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """Ask for an id where a parameter is a binary file: what it was made of (a time, say) would differ between xdist's workers."""
    if isinstance(val, bytes) and b"\0" in val:
        raise pytest.UsageError(f"the parameter {argname} is a binary file: give it an id, pytest.param(..., id=...)")
    return None


@contextmanager
def _folder() -> Iterator[str]:
    """A temporary folder; hundreds of databases in it are removed by a process that nobody waits for: it takes half a minute."""
    folder = tempfile.mkdtemp(prefix="lp-pg-")
    try:
        yield folder
    finally:
        _removing.append(subprocess.Popen(["rm", "-rf", folder], start_new_session=True))


_removing: list[subprocess.Popen[bytes]] = []


@pytest.fixture(scope="session")
def server() -> Iterator[Database]:
    """A PostgreSQL server of this test process; stopped and removed at the end."""
    with _folder() as folder:
        os.chmod(folder, 0o755)  # noqa: S103 - as root the server runs as another user
        data = Path(folder) / "pg"
        url = embedded.start(data)
        with psycopg.connect(
            url, autocommit=True
        ) as connection:  # these data may die with the machine; tests kill processes only
            settings = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
            settings |= {"max_wal_size": "512MB"}  # the log's files are used again, not made anew
            settings |= {"autovacuum_naptime": "1h"}  # it would look into each of 1,000 databases
            for name, value in settings.items():
                connection.execute(f"ALTER SYSTEM SET {name} = '{value}'")  # type: ignore[call-overload]
            connection.execute("SELECT pg_reload_conf()")
        yield Database(url)
        postmaster = psutil.Process(int((data / "postmaster.pid").read_text().split()[0]))
        postmaster.send_signal(signal.SIGQUIT)  # no checkpoint of hundreds of databases that are removed anyway
        postmaster.wait(30)
        embedded.stop(data)


@pytest.fixture(scope="session")
def template(server: Database) -> str:
    """A migrated database that the tests' own are copied from."""
    schema.migrate(server.with_name("template_ledger"))
    return "template_ledger"


_number = itertools.count(1)


@pytest.fixture(scope="session")
def copy_of(server: Database) -> Callable[[str], Database]:
    """Copies a database of this server, by name, while nobody is connected to it."""

    def make(template: str) -> Database:
        name = f"test_{next(_number)}"
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return server.with_name(name)

    return make


@pytest.fixture(scope="session")
def new_database(copy_of: Callable[[str], Database], template: str) -> Callable[[], Database]:
    """Makes fresh migrated databases."""
    return lambda: copy_of(template)


@pytest.fixture
def database(new_database: Callable[[], Database]) -> Database:
    """A fresh migrated database."""
    return new_database()


class SandboxCompany:
    """The sample company, its clock, and pipelines that work on it."""

    def __init__(self, url: str, company: object, clock: object, files: Path) -> None:
        self.url, self.company, self.clock, self.files = url, company, clock, files

    def at_night_of(self, day: date) -> None:
        """Set the servers' clock to the night after a sync date, and deliver that day's files."""
        from ledger_pipeline.sandbox.files import write_files

        self.clock.set(datetime(day.year, day.month, day.day, 5, 30, tzinfo=UTC) + timedelta(days=1))  # type: ignore[attr-defined]
        write_files(self.company, START, day, self.files)  # type: ignore[arg-type]

    @contextmanager
    def fault(self, **fault: object) -> Iterator[None]:
        """A transport fault while the block runs: route, kind, times, after, seconds, retry_after."""
        requests.post(f"{self.url}/_control/faults", json=[fault], timeout=10).raise_for_status()
        try:
            yield
        finally:
            requests.delete(f"{self.url}/_control/faults", timeout=10).raise_for_status()

    def runtime(self, folder: Path, database: Database) -> Runtime:
        """The demo's configuration on this sandbox and that database."""
        text = DEMO.read_text().replace("${SANDBOX_URL:-http://127.0.0.1:8400}", self.url)
        text = text.replace("${SANDBOX_FILES:-.ledger/sandbox-files}", str(self.files))
        path = folder / "ledger.yaml"
        path.write_text(f"database_url: {database.url}\n{text}")
        return Runtime.from_file(path)


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxCompany]:
    """The default company, served without throttling."""
    with serving(tmp_path_factory.mktemp("files")) as made:
        yield made


@contextmanager
def serving(files: Path, **how: object) -> Iterator[SandboxCompany]:
    """A sandbox of one's own, for tests that move its clock or plant transport faults."""
    from ledger_pipeline.sandbox import server as sandbox_server
    from ledger_pipeline.sandbox.company import Company
    from ledger_pipeline.sandbox.wire import Clock, Site

    company, clock = Company(**how), Clock()  # type: ignore[arg-type]
    with sandbox_server.running(company, clock=clock, site=Site(restore_rate=1e9)) as url:
        yield SandboxCompany(url, company, clock, files)


@pytest.fixture(scope="session")
def contracts() -> Path:
    """The published contracts, where this checkout has them beside it."""
    folder = SHARED / "contracts"
    if not folder.is_dir():
        pytest.skip(f"no published contracts at {folder}")
    return folder


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The real data, where this checkout has them beside it."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}")
    return folder
