"""Alerts and their deliveries, what became of attempts and steps, and the history of health."""

from pathlib import Path

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """The statements stand in `v0005_operations.sql`."""
    op.get_bind().exec_driver_sql(Path(__file__).with_suffix(".sql").read_text().replace("%", "%%"))


def downgrade() -> None:
    """Dropping the record of what went wrong is not something that a tool should do; restore a backup instead."""
    raise NotImplementedError("restore the backup that was taken before the upgrade")
