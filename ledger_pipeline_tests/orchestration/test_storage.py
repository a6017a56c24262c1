"""Dagster's own storage: whole or not there, wherever the process that makes it dies, and however many make it at once."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy
from dagster._core.storage.event_log.migration import ASSET_DATA_MIGRATIONS, EVENT_LOG_DATA_MIGRATIONS
from dagster._core.storage.runs.migration import OPTIONAL_DATA_MIGRATIONS, REQUIRED_DATA_MIGRATIONS
from dagster._core.storage.schedules.migration import (
    OPTIONAL_SCHEDULE_DATA_MIGRATIONS,
    REQUIRED_SCHEDULE_DATA_MIGRATIONS,
)
from psycopg import sql

from ledger_pipeline.orchestration import storage
from ledger_pipeline.store.database import Database


def tables_and_indexes(database: Database) -> set[str]:
    with database.connect("owner") as connection:
        rows = connection.execute("SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace").fetchall()
    return {row[0] for row in rows}


def opened(database: Database) -> storage.LedgerStorage:
    """What Dagster gets, in a database of this test."""
    is_made = storage._make(database, is_embedded=True)
    return storage.LedgerStorage(database.sqlalchemy_url("psycopg2"), should_autocreate_tables=not is_made)


def dies_at(url: str, statement: int) -> None:
    """Make the storage in this process, which is killed right after so many statements of Dagster's."""
    seen = 0

    def count(*_: Any) -> None:
        nonlocal seen
        seen += 1
        if seen == statement:
            os.kill(os.getpid(), signal.SIGKILL)

    sqlalchemy.event.listen(sqlalchemy.engine.Engine, "after_cursor_execute", count)
    opened(Database(url))


@pytest.fixture
def whole(new_database: Callable[[], Database]) -> set[str]:
    """The tables and indexes of a storage that Dagster made by itself, undisturbed."""
    database = new_database()
    storage.DagsterPostgresStorage(database.sqlalchemy_url("psycopg2"), should_autocreate_tables=True)
    return tables_and_indexes(database)


def is_sound(database: Database, whole: set[str]) -> None:
    made = opened(database)
    assert tables_and_indexes(database) == whole
    marks = {**REQUIRED_DATA_MIGRATIONS, **OPTIONAL_DATA_MIGRATIONS}
    assert [name for name in marks if not made.run_storage.has_built_index(name)] == []
    marks = {**REQUIRED_SCHEDULE_DATA_MIGRATIONS, **OPTIONAL_SCHEDULE_DATA_MIGRATIONS}
    assert [name for name in marks if not made.schedule_storage.has_built_index(name)] == []
    marks = {**EVENT_LOG_DATA_MIGRATIONS, **ASSET_DATA_MIGRATIONS}
    assert [name for name in marks if not made.event_log_storage.has_secondary_index(name)] == []


def test_a_process_that_dies_while_it_makes_the_tables_leaves_nothing_that_stays_broken(
    new_database: Callable[[], Database], whole: set[str]
) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ledger_pipeline.orchestration.storage"])
    for statement in (20, 60, 100, 140, 180):
        database = new_database()
        process = context.Process(target=dies_at, args=(database.url, statement))
        process.start()
        process.join(60)
        assert process.exitcode == -signal.SIGKILL
        is_sound(database, whole)


def test_what_an_earlier_version_left_half_made_is_completed(
    new_database: Callable[[], Database], whole: set[str]
) -> None:
    database = new_database()
    storage.DagsterPostgresStorage(database.sqlalchemy_url("psycopg2"), should_autocreate_tables=True)
    with database.connect("owner") as connection:
        connection.execute(
            "DROP TABLE run_tags, daemon_heartbeats; DROP INDEX idx_run_partitions; DELETE FROM alembic_version"
        )
    is_sound(database, whole)


def test_a_storage_of_an_older_dagster_waits_for_its_migration(new_database: Callable[[], Database]) -> None:
    database = new_database()
    opened(database)
    with database.connect("owner") as connection:
        connection.execute("DROP TABLE concurrency_slots CASCADE; UPDATE alembic_version SET version_num = '001'")
    opened(database)
    with database.connect("owner") as connection:
        row = connection.execute("SELECT to_regclass('concurrency_slots'), version_num FROM alembic_version").fetchone()
    assert row == (None, "001")


def test_processes_that_make_it_at_once_all_get_it(new_database: Callable[[], Database], whole: set[str]) -> None:
    database = new_database()
    with database.connect("owner") as connection:
        connection.execute(
            sql.SQL("ALTER DATABASE {} SET synchronous_commit = on").format(sql.Identifier(connection.info.dbname))
        )
    with ThreadPoolExecutor(6) as pool:
        for made in [pool.submit(opened, database) for _ in range(6)]:
            made.result()
    with database.connect("owner") as connection:
        assert connection.execute("SHOW synchronous_commit").fetchone() == ("off",)
    is_sound(database, whole)
