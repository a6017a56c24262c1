"""Health: every connection with its key, clock, quota and last record; the database, the disk, the daemons and the queue.

ok, warn or fail, by the thresholds of ledger.yaml (`health`); a connection to the sandbox is named and left out.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import psycopg

from ledger_pipeline.config import ConfigError
from ledger_pipeline.connect import probe
from ledger_pipeline.connect.errors import ConnectError
from ledger_pipeline.connect.redact import Redactor
from ledger_pipeline.operations import dagster_tables
from ledger_pipeline.operations.settings import HealthConfig
from ledger_pipeline.store import health as table
from ledger_pipeline.store.health import Finding, State

if TYPE_CHECKING:
    from ledger_pipeline.orchestration.runtime import Link, Runtime

PROBES_AT_ONCE = 8
_WORST: tuple[State, ...] = ("sandbox", "ok", "warn", "fail")
_redact = Redactor()


def look(runtime: Runtime) -> list[Finding]:
    """Everything, connections first, in the order of ledger.yaml. Raises nothing: what can't be looked at fails."""
    names = [name for name, one in runtime.config.connections.items() if one.is_enabled]
    with ThreadPoolExecutor(PROBES_AT_ONCE, thread_name_prefix="health") as pool:
        connections = list(pool.map(lambda name: of_connection(runtime, name), names))
    return [*connections, of_database(runtime), of_disk(runtime), *of_dagster(runtime)]


def worst(findings: list[Finding]) -> State:
    """Of all states; `ok` when there is nothing but the sandbox."""
    found = max((_WORST.index(one.state) for one in findings), default=1)
    return _WORST[max(1, found)]


# connections ----------------------------------------------------------------------------------------------------------


def of_connection(runtime: Runtime, name: str) -> Finding:
    """One connection: its probe, then what it has brought."""
    subject, settings = f"connection/{name}", runtime.config.health
    try:
        link = runtime.link(name)
        if is_sandbox(runtime.config.connections[name].is_sandbox, link):
            return Finding(subject, "sandbox", "the sandbox; not looked at")
        states, said, details = _of_system(link, runtime.clock, settings)
        more = _of_records(runtime, name, settings)
    except (ConnectError, ConfigError) as error:
        return Finding(subject, "fail", _redact(str(error))[:500], {"error": type(error).__name__})
    except psycopg.Error as error:
        return Finding(subject, "fail", f"the database can't be asked ({type(error).__name__})")
    state = max(*states, more[0], key=_WORST.index)
    return Finding(subject, state, "; ".join([*said, more[1]]), details | more[2])


def is_sandbox(said: bool | None, link: Link) -> bool:
    """What ledger.yaml says; without a word, a connection whose address is on the loopback."""
    if said is not None:
        return said
    if link.source.connect is None:
        return False
    with link.source.connect(link.name, link.options) as client:
        host = (urlsplit(client.base_url).hostname or "").strip("[]")
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _of_system(
    link: Link, clock: Callable[[], datetime], settings: HealthConfig
) -> tuple[list[State], list[str], dict[str, Any]]:
    if link.source.connect is None:
        return _of_folder(link)
    with link.source.connect(link.name, link.options) as client:
        seen = probe.look(client, link.source.probe)
    states: list[State] = ["ok"]
    said = ["the key is taken" if seen.is_key_tested else "the address answers; the key was not tried"]
    details: dict[str, Any] = {"is_key_tested": seen.is_key_tested, "clock_skew_seconds": seen.skew_seconds}
    if seen.skew_seconds is not None:
        off = abs(seen.skew_seconds)
        states.append(_above(off, settings.clock_skew_warn_seconds, settings.clock_skew_fail_seconds))
        said.append(f"our clock is {seen.skew_seconds:+.0f} s off" if off >= 5 else "the clocks agree")
    for quota in seen.quotas:
        of = f" of {quota.size:,}" if quota.size else ""
        said.append(f"{quota.left:,}{of} left ({quota.window})")
        if quota.share is not None:
            states.append(_below(quota.share, settings.quota_warn, settings.quota_fail))
    details["quota"] = [{"left": q.left, "size": q.size, "window": q.window} for q in seen.quotas]
    return states, said, details


def _of_folder(link: Link) -> tuple[list[State], list[str], dict[str, Any]]:
    """Of a source that reads files."""
    folder: Path | None = getattr(link.options, "folder", None)
    if folder is None:
        return ["ok"], ["nothing to look at"], {}
    if not folder.is_dir():
        return ["fail"], ["its folder is not there"], {}
    if not os.access(folder, os.R_OK | os.X_OK):
        return ["fail"], ["its folder can't be read"], {}
    return ["ok"], ["its folder can be read"], {}


def _of_records(runtime: Runtime, name: str, settings: HealthConfig) -> tuple[State, str, dict[str, Any]]:
    with runtime.database.connect("reader") as connection:
        last = table.last_record(connection, name)
    if last is None:
        return "ok", "no record yet", {"last_record_at": None}
    age = runtime.clock() - last
    state: State = "warn" if age > timedelta(days=settings.last_record_warn_days) else "ok"
    return state, f"last new record {_ago(age)}", {"last_record_at": last.isoformat()}


# the machine ----------------------------------------------------------------------------------------------------------


def of_database(runtime: Runtime) -> Finding:
    """Whether it answers, how large it is, and how old its oldest transaction is."""
    try:
        with runtime.database.connect("owner") as connection:
            connection.execute("SET LOCAL statement_timeout = '10s'")
            row = connection.execute(
                "SELECT pg_database_size(current_database()), (SELECT coalesce(extract(epoch FROM max(clock_timestamp() - xact_start)), 0)"
                "::double precision FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()), "
                "(SELECT count(*) FROM pg_stat_activity), current_setting('max_connections')::int"
            ).fetchone()
    except psycopg.Error as error:
        return Finding("database", "fail", f"it can't be asked ({type(error).__name__})")
    size, oldest, used, most = row or (0, 0.0, 0, 1)
    state: State = "warn" if oldest > 3600 or used > 0.9 * most else "ok"
    said = f"{size / 2**20:,.0f} MiB; oldest transaction {oldest:.0f} s; {used} of {most} connections"
    return Finding("database", state, said, {"bytes": size, "oldest_seconds": oldest, "connections": used})


def of_disk(runtime: Runtime) -> Finding:
    """What is free where the data live."""
    return disk(runtime.data_folder, runtime.config.health)


def disk(folder: Path, settings: HealthConfig) -> Finding:
    """What is free on a folder's disk; of the folder above where it isn't there yet."""
    there = next(one for one in (folder, *folder.parents) if one.exists())
    usage = shutil.disk_usage(there)
    share = usage.free / usage.total
    state = _below(share, settings.disk_warn, settings.disk_fail)
    return Finding("disk", state, f"{usage.free / 2**30:,.1f} GiB free ({share:.0%})", {"free_bytes": usage.free})


def of_dagster(runtime: Runtime) -> list[Finding]:
    """Daemons and queue."""
    now, settings = runtime.clock(), runtime.config.health
    try:
        beats = dagster_tables.heartbeats(runtime.database, now)
        waiting, oldest = dagster_tables.queue(runtime.database, now)
    except psycopg.Error as error:
        return [Finding("daemon", "fail", f"Dagster's database can't be asked ({type(error).__name__})")]
    return [
        of_daemons(beats, settings.daemon_seconds),
        Finding(
            "queue",
            "warn" if oldest > 60 * settings.queue_warn_minutes else "ok",
            f"{waiting} runs wait" + (f", the oldest for {oldest / 60:.0f} minutes" if waiting else ""),
            {"queued": waiting, "oldest_seconds": oldest},
        ),
    ]


def of_daemons(beats: dagster_tables.Heartbeats, limit: int) -> Finding:
    """`fail` when one is silent; `warn` when none has ever run: nights from cron need none."""
    if not beats.ages:
        return Finding("daemon", "warn", "no daemon has run here")
    dead = beats.dead(limit)
    details = {"seconds_since": {name: round(age) for name, age in sorted(beats.ages.items())}}
    if dead:
        ages = ", ".join(f"{name} ({_ago(timedelta(seconds=beats.ages[name]))})" for name in dead)
        return Finding("daemon", "fail", f"silent: {ages}", details)
    return Finding(
        "daemon", "ok", f"{len(beats.ages)} daemons, last heartbeat {max(beats.ages.values()):.0f} s ago", details
    )


def _above(value: float, warn: float, fail: float) -> State:
    return "fail" if value > fail else "warn" if value > warn else "ok"


def _below(value: float, warn: float, fail: float) -> State:
    return "fail" if value < fail else "warn" if value < warn else "ok"


def _ago(age: timedelta) -> str:
    hours = age.total_seconds() / 3600
    if hours < 1:
        return f"{max(0, age.total_seconds()) / 60:.0f} minutes ago"
    return f"{hours:.0f} hours ago" if hours < 48 else f"{hours / 24:.0f} days ago"
