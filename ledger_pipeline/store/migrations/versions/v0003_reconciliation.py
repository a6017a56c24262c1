"""Matches between members of clearing accounts, what people decided about them, and which member is used where."""

from pathlib import Path

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """The statements stand in `v0003_reconciliation.sql`."""
    op.get_bind().exec_driver_sql(Path(__file__).with_suffix(".sql").read_text().replace("%", "%%"))


def downgrade() -> None:
    """Dropping what people decided is not something that a tool should do; restore a backup instead."""
    raise NotImplementedError("restore the backup that was taken before the upgrade")
