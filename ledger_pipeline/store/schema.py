"""Migrations: bring a database to the schema that this version of the code expects."""

from __future__ import annotations

from pathlib import Path

import psycopg

from ledger_pipeline.store.database import Database

HEAD = "0009"
"""The revision that this code needs; a test holds it against the newest migration."""


class SchemaIsNewer(Exception):
    """The database was migrated by a newer version of the code than this one."""

    def __init__(self, found: str) -> None:
        super().__init__(
            f"the database has schema {found}, this version of ledger_pipeline knows {HEAD} as the newest: nothing was done. "
            "Run the version that migrated it, or restore the backup from before the upgrade."
        )


def migrate(database: Database) -> bool:
    """Create the database if needed and apply what is missing; True when something was applied. Safe from several processes.

    Raises SchemaIsNewer, before anything is done, when the database has a revision that this code doesn't know.
    """
    database.ensure_exists()
    found = current(database)
    if found == HEAD:
        return False
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory
    from sqlalchemy import create_engine, text

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    if found is not None and found not in {
        one.revision for one in ScriptDirectory.from_config(config).walk_revisions()
    }:
        raise SchemaIsNewer(found)
    engine = create_engine(database.sqlalchemy_url("psycopg"))
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(7305202610)"))
        connection.execute(text("CREATE SCHEMA IF NOT EXISTS ops"))
        connection.commit()
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
            connection.commit()
        finally:
            connection.rollback()
            connection.execute(text("SELECT pg_advisory_unlock(7305202610)"))
    engine.dispose()
    return True


def current(database: Database) -> str | None:
    """The revision that the database has; None when it has never been migrated."""
    with database.connect("owner") as connection:
        try:
            row = connection.execute("SELECT version_num FROM ops.alembic_version").fetchone()
        except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
            connection.rollback() if connection.info.transaction_status == 0 else None
            return None
    return str(row[0]) if row else None
