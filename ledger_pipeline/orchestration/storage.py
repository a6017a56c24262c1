"""Dagster's own storage in the books' PostgreSQL server, in a database of its own; starts or joins the embedded server where no URL is set."""

from __future__ import annotations

from typing import Any

import sqlalchemy
from alembic.config import Config
from alembic.script import ScriptDirectory
from dagster._core.storage.event_log import SqlEventLogStorageMetadata
from dagster._core.storage.runs import RunStorageSqlMetadata
from dagster._core.storage.schedules import ScheduleStorageSqlMetadata
from dagster._core.storage.sql import stamp_alembic_rev
from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage
from dagster_postgres.run_storage import run_storage
from dagster_postgres.utils import pg_alembic_config
from psycopg import sql

from ledger_pipeline.orchestration.runtime import Runtime
from ledger_pipeline.store.database import Connection, Database, lock

DAGSTER_DATABASE = "dagster"
_TABLES = (RunStorageSqlMetadata, SqlEventLogStorageMetadata, ScheduleStorageSqlMetadata)


class LedgerStorage(DagsterPostgresStorage):
    """`storage: custom:` in dagster.yaml; needs no configuration, because ledger.yaml says where the server is."""

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """Nothing to configure."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> LedgerStorage:
        """Called by Dagster in every process that needs the instance."""
        runtime = Runtime.from_file()
        database = runtime.database.with_name(DAGSTER_DATABASE)
        database.ensure_exists()
        is_made = _make(database, is_embedded=not runtime.config.database_url)
        return LedgerStorage(_url(database), should_autocreate_tables=not is_made, inst_data=inst_data)


def _url(database: Database) -> str:
    return database.sqlalchemy_url("psycopg2")


def _make(database: Database, *, is_embedded: bool) -> bool:
    """Make Dagster's tables where they aren't whole; False where that is left to Dagster.

    Dagster makes them statement by statement and takes them for whole as soon as the first of each kind is there: a process that was killed
    meanwhile would leave a storage that no later one could use. Here they come at once, and the stamp of their revision comes last; what
    an interrupted process has left is completed. A storage with an older revision waits for `dagster instance migrate`.
    """
    with database.connect("owner") as connection:
        has_setting = not is_embedded or _commits_without_waiting(connection)
        if has_setting and _is_whole(connection):
            return True
        lock(connection, "dagster", "storage")
        if not has_setting:
            _commit_without_waiting(connection)
        revision = _revision(connection)
        if revision is not None and revision != ScriptDirectory.from_config(_alembic()).get_current_head():
            return False
        if not _is_whole(connection):
            _complete(database)
    return True


def _alembic() -> Config:
    return pg_alembic_config(run_storage.__file__)


def _is_whole(connection: Connection) -> bool:
    names = sorted({table for metadata in _TABLES for table in metadata.tables})
    row = connection.execute(
        "SELECT count(*) FROM unnest(%s::text[]) AS name WHERE to_regclass(name) IS NULL", (names,)
    ).fetchone()
    return row is not None and row[0] == 0 and _revision(connection) is not None


def _revision(connection: Connection) -> str | None:
    there = connection.execute("SELECT to_regclass('alembic_version') IS NOT NULL").fetchone()
    row = connection.execute("SELECT version_num FROM alembic_version").fetchone() if there and there[0] else None
    return str(row[0]) if row else None


def _complete(database: Database) -> None:
    """All tables and indexes in one transaction, then what Dagster notes about data of older versions, then the stamp."""
    engine = sqlalchemy.create_engine(_url(database))
    with engine.begin() as making:
        for metadata in _TABLES:
            metadata.create_all(making)
            for table in metadata.sorted_tables:
                for index in table.indexes:
                    index.create(making, checkfirst=True)
    made = LedgerStorage(_url(database), should_autocreate_tables=False)
    for storage in (made.run_storage, made.schedule_storage):
        storage.migrate()
        storage.optimize()
    made.event_log_storage.reindex_events()
    made.event_log_storage.reindex_assets()
    with engine.begin() as making:
        stamp_alembic_rev(_alembic(), making)
    engine.dispose()


def _commits_without_waiting(connection: Connection) -> bool:
    row = connection.execute("SHOW synchronous_commit").fetchone()
    return row is not None and row[0] == "off"


def _commit_without_waiting(connection: Connection) -> None:
    """In the embedded server only: an event of Dagster's log doesn't wait for the disk (the books' own database always does).

    A run writes a hundred events; a power cut may cost the last half second of the log, never an entry.
    """
    name = sql.Identifier(connection.info.dbname)
    connection.execute(sql.SQL("ALTER DATABASE {} SET synchronous_commit = off").format(name))
