"""The launcher goes on hearing of its workers after the database was away when one of them ended."""

from __future__ import annotations

import io
import json
import threading
from types import SimpleNamespace
from typing import cast

from dagster import DagsterInstance

from ledger_pipeline.orchestration.launcher import Warm


class Away:
    """An instance whose database doesn't answer."""

    def get_run_by_id(self, run_id: str) -> None:
        raise ConnectionError("the server closed the connection")


def test_a_worker_that_ends_while_the_database_is_away_doesnt_deafen_the_launcher() -> None:
    told = [{"run_id": "one", "exit": -9}, {"run_id": "two", "pid": 7}]
    warm = Warm.__new__(Warm)
    warm._instance = cast("DagsterInstance", Away())
    warm._ready, warm._forked, warm._changed = threading.Event(), {}, threading.Condition()
    lines = io.BytesIO(b"".join(json.dumps(one).encode() + b"\n" for one in told))
    warm._process = cast("object", SimpleNamespace(stdout=lines))  # type: ignore[assignment]
    warm._listen()
    assert warm._forked == {"two": 7}
