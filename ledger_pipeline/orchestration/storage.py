"""Dagster's own storage in the books' PostgreSQL server, in a database of its own; starts or joins the embedded server where no URL is set."""

from __future__ import annotations

from typing import Any

from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage

from ledger_pipeline.orchestration.runtime import Runtime

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
        database = Runtime.from_file().database.with_name(DAGSTER_DATABASE)
        database.ensure_exists()
        return LedgerStorage(database.sqlalchemy_url("psycopg2"), should_autocreate_tables=True, inst_data=inst_data)
