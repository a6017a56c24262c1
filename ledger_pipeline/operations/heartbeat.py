"""The look from outside: PostgreSQL, the daemons, the webserver, the code location, the disk. For cron; it needs none of them to be alive.

It starts no server. Alerts go straight to the channels, because the table that keeps them may be what is dead; a small file remembers what was told.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import requests

from ledger_pipeline import config as configuration
from ledger_pipeline.connect.redact import Redactor
from ledger_pipeline.model.alert import Alert, Kind
from ledger_pipeline.operations import dagster_tables, health
from ledger_pipeline.operations.channels import AlertFailed, Channel, open_channels
from ledger_pipeline.store import alerts as table
from ledger_pipeline.store.database import Database

if TYPE_CHECKING:
    from ledger_pipeline.orchestration.runtime import Runtime

log = logging.getLogger(__name__)
TIMEOUT_SECONDS = 5
CODE_SECONDS = 20
STATE_FILE = "heartbeat.json"
_LOCATIONS = """{ workspaceOrError { __typename ... on PythonError { message } ... on Workspace { locationEntries { name loadStatus
locationOrLoadError { __typename ... on PythonError { message } } } } } }"""
_redact = Redactor()


@dataclass(frozen=True, slots=True)
class Beat:
    """One line of the command. `is_alive` is None for what wasn't looked at, and why stands in `sentence`."""

    name: str
    is_alive: bool | None
    sentence: str
    kind: Kind


def beats(runtime: Runtime, now: datetime) -> Iterator[Beat]:
    """Each with a time-out of its own; one that is dead hides no other."""
    database, why = books(runtime)
    yield Beat("postgresql", database is not None, why, "database_dead")
    yield _daemons(runtime, database, now)
    url = str(configuration.resolve(runtime.config.alerts.ui_url)).rstrip("/")
    yield from _webserver(url)
    found = health.disk(runtime.data_folder, runtime.config.health)
    yield Beat("disk", found.state != "fail", found.sentence, "disk_full")
    if database is not None:
        yield _undelivered(database, now)


def books(runtime: Runtime) -> tuple[Database | None, str]:
    """(the books' database where it answers, what was seen). The embedded server isn't started."""
    url = url_of(runtime)
    if url is None:
        return None, "the embedded server is not running"
    database = Database(url)
    try:
        with psycopg.connect(url, connect_timeout=TIMEOUT_SECONDS, autocommit=True) as connection:
            connection.execute("SET statement_timeout = '5s'")
            connection.execute("SELECT 1")
    except psycopg.Error as error:
        first = (str(error).splitlines() or [""])[0]
        return None, _redact(f"{type(error).__name__}: {first}")[:300]
    return database, "answers"


def url_of(runtime: Runtime) -> str | None:
    """Where the books' database is; None when the embedded server has no postmaster file."""
    given = str(configuration.resolve(runtime.config.database_url))
    if given:
        return given
    try:
        lines = (runtime.data_folder / "postgres" / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return None
    port, socket_folder = lines[3], lines[4]
    return f"postgresql://postgres:@/ledger?host={socket_folder}&port={port}"


def _daemons(runtime: Runtime, database: Database | None, now: datetime) -> Beat:
    if database is None:
        return Beat("daemon", None, "can't be told without PostgreSQL", "daemon_dead")
    try:
        seen = dagster_tables.heartbeats(database, now)
    except psycopg.Error as error:
        return Beat("daemon", False, f"Dagster's database can't be asked ({type(error).__name__})", "daemon_dead")
    found = health.of_daemons(seen, runtime.config.health.daemon_seconds)
    return Beat("daemon", found.state == "ok", found.sentence, "daemon_dead")


def _webserver(url: str) -> Iterator[Beat]:
    if not url:
        yield Beat("webserver", None, "alerts.ui_url isn't set", "webserver_dead")
        yield Beat("code location", None, "alerts.ui_url isn't set", "code_location_dead")
        return
    try:
        answer = requests.get(f"{url}/server_info", timeout=TIMEOUT_SECONDS)
        answer.raise_for_status()
        version = str(answer.json().get("dagster_version", "?"))[:20]
    except (requests.RequestException, ValueError) as error:
        yield Beat("webserver", False, f"it was not reached ({type(error).__name__})", "webserver_dead")
        yield Beat("code location", None, "can't be told without the webserver", "code_location_dead")
        return
    yield Beat("webserver", True, f"answers, Dagster {version}", "webserver_dead")
    yield _code_location(url)


def _code_location(url: str) -> Beat:
    def said(is_alive: bool, sentence: str) -> Beat:
        return Beat("code location", is_alive, _redact(sentence)[:300], "code_location_dead")

    try:
        answer = requests.post(f"{url}/graphql", json={"query": _LOCATIONS}, timeout=CODE_SECONDS)
        answer.raise_for_status()
        workspace: dict[str, Any] = answer.json()["data"]["workspaceOrError"]
    except (requests.RequestException, ValueError, KeyError, TypeError) as error:
        return said(False, f"the webserver doesn't say ({type(error).__name__})")
    entries = workspace.get("locationEntries")
    if not entries:
        return said(False, str(workspace.get("message") or "no code location is known"))
    for entry in entries:
        loaded = entry.get("locationOrLoadError") or {}
        if loaded.get("__typename") != "RepositoryLocation":
            message = str(loaded.get("message") or entry.get("loadStatus")).strip().splitlines()[0]
            return said(False, f"{entry['name']}: {message}")
    return said(True, f"{', '.join(entry['name'] for entry in entries)} loaded")


def _undelivered(database: Database, now: datetime) -> Beat:
    try:
        with database.connect("reader") as connection:
            found = table.undelivered(connection, now - timedelta(days=1))
    except psycopg.Error as error:
        return Beat("alerts", False, f"their table can't be read ({type(error).__name__})", "alerts_unsent")
    if found:
        said = "; ".join(f"channel {channel} never took {count} ({error})" for channel, count, error in found)
        return Beat("alerts", False, said, "alerts_unsent")
    return Beat("alerts", True, "all delivered", "alerts_unsent")


# telling --------------------------------------------------------------------------------------------------------------


def tell(runtime: Runtime, found: list[Beat], now: datetime) -> list[str]:
    """Send what is dead and wasn't told within the window, and what came back to life; returns why a channel failed, one line each."""
    config = runtime.config.alerts
    path = runtime.data_folder / STATE_FILE
    told = _remembered(path)
    failures = []
    for channel in open_channels(config):
        own = told.setdefault(channel.name, {})
        dead = [_alert(beat, now) for beat in found if beat.is_alive is False]
        due = [alert for alert in dead if _is_due(own.get(alert.about[0]), now, config.same_minutes)]
        back = [beat.name for beat in found if beat.is_alive and beat.name in own]
        try:
            _send(channel, [alert for alert in due if channel.takes(alert)], back, now)
        except AlertFailed as error:
            failures.append(f"alert channel {channel.name}: {error}")
            continue
        own.update({alert.about[0]: now.isoformat() for alert in due})
        for name in back:
            del own[name]
    _remember(path, told)
    _keep(runtime, [_alert(beat, now) for beat in found if beat.is_alive is False])
    return failures


def _alert(beat: Beat, now: datetime) -> Alert:
    key = f"heartbeat:{beat.name}:{now:%Y%m%dT%H%M%S}"
    return Alert(beat.kind, key, f"{beat.name}: {beat.sentence}", now, about=(beat.name,))


def _is_due(last: str | None, now: datetime, same_minutes: int) -> bool:
    return last is None or now - datetime.fromisoformat(last) >= timedelta(minutes=same_minutes)


def _send(channel: Channel, alerts: list[Alert], back: list[str], now: datetime) -> None:
    if len(alerts) == 1:
        channel.send(channel.of_one(alerts[0]))
    elif alerts:
        for message, _ in channel.of_many(alerts):
            channel.send(message)
    if back:
        from ledger_pipeline.operations.channels import Message

        said = f"Alive again: {', '.join(back)}"
        alert = Alert("unhealthy", f"alive:{now.isoformat()}", said, now, severity="warning", about=("alive",))
        channel.send(Message(f"[ledger] {said}", said, (alert,)))


def _remembered(path: Path) -> dict[str, dict[str, str]]:
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        log.warning("%s can't be read (%s); everything is told anew", path.name, type(error).__name__)
        return {}
    return found if isinstance(found, dict) else {}


def _remember(path: Path, told: dict[str, dict[str, str]]) -> None:
    beside = path.with_suffix(f".{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(json.dumps(told))
        beside.replace(path)
    except OSError as error:  # a full disk must not keep anybody from being told
        log.warning("%s can't be written (%s); the same is told again next time", path.name, type(error).__name__)


def _keep(runtime: Runtime, alerts: list[Alert]) -> None:
    """For the history, where the table is there; what was sent was sent."""
    url = url_of(runtime)
    if not alerts or url is None:
        return
    try:
        with Database(url).connect() as connection:
            table.keep(connection, alerts, [], timedelta(minutes=runtime.config.alerts.same_minutes))
    except psycopg.Error as error:
        log.info("the alerts could not be kept (%s)", type(error).__name__)


def now() -> datetime:
    """UTC."""
    return datetime.now(UTC)
