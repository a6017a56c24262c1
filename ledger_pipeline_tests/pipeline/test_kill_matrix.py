"""`kill -9` of run worker, code server, daemon, webserver and PostgreSQL, each alone and in pairs, while days are posted: the same books, and everybody told."""

from __future__ import annotations

import itertools
import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from ledger_pipeline.orchestration import calendar, catching_up, steps
from ledger_pipeline.orchestration.runtime import Runtime
from ledger_pipeline.store.database import Database
from ledger_pipeline.store.proof import verify
from ledger_pipeline_tests.conftest import DEMO, SandboxCompany, serving
from ledger_pipeline_tests.operations.receivers import hook
from ledger_pipeline_tests.pipeline.books import balances, stands
from ledger_pipeline_tests.pipeline.postgres import postgres_in_a_folder
from ledger_pipeline_tests.pipeline.processes import free_port
from ledger_pipeline_tests.pipeline.rig import CODE, DAEMON, POSTGRES, WEB, WORKER, Kill, Rig

PARTS = (WORKER, CODE, DAEMON, WEB, POSTGRES)
KINDS = [*((part,) for part in PARTS), *itertools.combinations(PARTS, 2)]
KILLS = int(os.environ.get("LEDGER_KILLS", "30"))
CONNECTIONS = ("stripe_us", "shopify_us", "plaid_us")
DAYS = 10
BACK_WITHIN, TOLD_WITHIN, SETTLED_WITHIN = 180, 240, 1200
"""Seconds: until everything answers again after a kill, until its alert has come, until all is posted after the last one."""


def configuration(company: SandboxCompany, start: date, url: str, sink: str, ui: str) -> dict[str, Any]:
    """Three of the sandbox company's connections, in real time; nights are caught up. `same_minutes` is 0, so that every kill is told."""
    text = DEMO.read_text().replace("${SANDBOX_URL:-http://127.0.0.1:8400}", company.url)
    document = YAML(typ="safe").load(text)
    connections = {name: dict(document["connections"][name]) for name in CONNECTIONS}
    for one in connections.values():
        one.pop("webhook_secrets", None)
        one.pop("has_webhooks", None)
    return {
        **document,
        "database_url": url,
        "connections": connections,
        "schedule": {
            "cron": "0 * * * *",
            "start": start.isoformat(),
            "catch_up_days": DAYS + 1,
            "catch_up_attempts": 50,
        },
        "alerts": {
            "ui_url": ui,
            "channels": [{"type": "http", "url": sink}],
            "same_minutes": 0,
            "messages_per_ten_minutes": 10_000,
        },
        "retries": {"max_retries": 3, "seconds": 2},
        "health": {"daemon_seconds": 60},
    }


def due(runtime: Runtime, name: str) -> tuple[date, date]:
    """The first and the last day that must be in the books."""
    now = datetime.now(UTC)
    last = calendar.last_ended(now, runtime.config.entity_of(name).zone)
    while calendar.due_at(runtime.config, name, last) > now:
        last -= timedelta(days=1)
    return date.fromisoformat(runtime.config.schedule.start), last


def missing(runtime: Runtime) -> list[tuple[str, date]]:
    """Days that aren't posted."""
    return [
        (name, state.sync_date)
        for name in CONNECTIONS
        for state in catching_up.states_of(runtime.database, runtime.config, name, *due(runtime, name))
        if not state.is_posted
    ]


def in_words(kill: Kill) -> str:
    told = ", ".join(f"{part} told after {seconds:.0f} s" for part, seconds in kill.told_after.items())
    return f"{' and '.join(kill.parts)}: {told}"


@pytest.mark.nightly
@pytest.mark.timeout(5400)
def test_whatever_is_killed_the_books_are_the_same_and_everybody_is_told(
    tmp_path: Path, new_database: Callable[[], Database]
) -> None:
    start = datetime.now(UTC).date() - timedelta(days=DAYS)
    with serving(tmp_path / "files", start=start) as company, postgres_in_a_folder() as server, hook() as sink:
        company.clock.set(datetime.now(UTC))  # type: ignore[attr-defined]  # both runs are told the same of today
        web = free_port()
        document = configuration(company, start, server.url, sink.url, f"http://127.0.0.1:{web}")
        rig = Rig(tmp_path / "machine", document, server, sink, web)
        killed = Runtime.from_file(rig.machine.work / "ledger.yaml")
        assert killed.database.url == server.url
        with rig.running():
            kill_again_and_again(rig)
            settle(rig, killed)
            assert rig.hanging_sessions() == []
            false_alarms = rig.false_alarms()
        print(f"false alarms {dict(false_alarms)}")
        alone = undisturbed(tmp_path / "alone", document, new_database(), killed)
        assert stands(killed) == stands(alone)
        assert balances(killed) == balances(alone) != {}
        assert verify(killed.database).findings == []
        live, distinct = stands(killed)["live"]
        assert live == distinct > 0
        with killed.database.connect("reader") as connection:
            assert connection.execute("SHOW fsync").fetchone() == ("on",)
    print(f"{live} live entries, no findings")
    assert set(false_alarms) <= {DAEMON}, "a daemon's heartbeat comes late where runs take every CPU; nothing else does"


def kill_again_and_again(rig: Rig) -> None:
    """Each kind of kill in a random order, at random moments; the next one when the dead were told of and everything answers."""
    chance = random.Random(20261124)
    kinds = list(itertools.islice(itertools.cycle(KINDS), KILLS))
    chance.shuffle(kinds)
    began = time.monotonic()
    rig.until(lambda: rig.worker() is not None, 120)
    for number, parts in enumerate(kinds, 1):
        time.sleep(chance.uniform(0, 3))
        kill = rig.kill(parts)
        rig.until(lambda kill=kill: set(kill.parts) - {WORKER} <= set(kill.told_after), TOLD_WITHIN)  # type: ignore[misc]
        rig.until(rig.all_up, BACK_WITHIN)
        kill.up_at = datetime.now(UTC)
        print(f"{time.monotonic() - began:5.0f} s  {number:2}  {in_words(kill)}", flush=True)


def settle(rig: Rig, killed: Runtime) -> None:
    """No more work is made: every day is posted, every night closed, every failed run and everything killed told."""
    began = time.monotonic()
    (rig.machine.work / "stop").touch()  # quick.STOP
    rig.until(lambda: rig.is_closed() and missing(killed) == [], SETTLED_WITHIN, every=2)
    rig.until(lambda: rig.untold() == set(), TOLD_WITHIN)
    rig.until(lambda: all(set(kill.parts) == set(kill.told_after) for kill in rig.kills), TOLD_WITHIN)
    slowest = {
        part: round(max((k.told_after[part] for k in rig.kills if part in k.parts), default=0)) for part in PARTS
    }
    print(f"{len(rig.kills)} kills; at rest {time.monotonic() - began:.0f} s after the last; runs {dict(rig.ran())}")
    print(f"alerts {dict(Counter(alert['kind'] for alert in rig.alerts()))}; told at the latest after {slowest} s")
    assert max(slowest.values()) <= TOLD_WITHIN


def undisturbed(folder: Path, document: dict[str, Any], database: Database, like: Runtime) -> Runtime:
    """The same days in this process."""
    folder.mkdir()
    (folder / "ledger.yaml").write_text(json.dumps(document | {"database_url": database.url}))
    runtime = Runtime.from_file(folder / "ledger.yaml")
    for name in CONNECTIONS:
        first, last = due(like, name)
        for day in (first + timedelta(days=n) for n in range((last - first).days + 1)):
            steps.run_day(runtime, name, day, "undisturbed")
    return runtime
