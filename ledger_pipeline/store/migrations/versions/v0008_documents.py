"""Staging tables of invoices, bills and pay runs."""

from pathlib import Path

from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """The statements stand in `v0008_documents.sql`."""
    op.get_bind().exec_driver_sql(Path(__file__).with_suffix(".sql").read_text().replace("%", "%%"))


def downgrade() -> None:
    """Dropping what was staged is not something that a tool should do; restore a backup instead."""
    raise NotImplementedError("restore the backup that was taken before the upgrade")
