"""Dagster's own storage in the books' PostgreSQL server, in a database of its own; starts or joins the embedded server where no URL is set."""

from __future__ import annotations

from typing import Any

from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage

from ledger_pipeline.orchestration.runtime import Runtime
from ledger_pipeline.store.database import Database

DAGSTER_DATABASE = "dagster"


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
        if not runtime.config.database_url:
            _commit_without_waiting(database)
        return LedgerStorage(database.sqlalchemy_url("psycopg2"), should_autocreate_tables=True, inst_data=inst_data)


def _commit_without_waiting(database: Database) -> None:
    """In the embedded server only: an event of Dagster's log doesn't wait for the disk (the books' own database always does).

    A run writes a hundred events; a power cut may cost the last half second of the log, never an entry.
    """
    with database.connect("owner", autocommit=True) as connection:
        row = connection.execute("SHOW synchronous_commit").fetchone()
        if row and row[0] != "off":
            connection.execute(f"ALTER DATABASE {DAGSTER_DATABASE} SET synchronous_commit = off")
