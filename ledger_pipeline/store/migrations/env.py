"""Alembic's entry point; run by `store.schema.migrate`, which hands over the connection."""

from alembic import context

connection = context.config.attributes["connection"]
context.configure(
    connection=connection, target_metadata=None, version_table_schema="ops", transaction_per_migration=True
)
with context.begin_transaction():
    context.run_migrations()
