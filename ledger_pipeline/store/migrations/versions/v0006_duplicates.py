"""One business event by several paths, likely duplicates and what people say about them, and what a payout carried."""

from pathlib import Path

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """The statements stand in `v0006_duplicates.sql`."""
    op.get_bind().exec_driver_sql(Path(__file__).with_suffix(".sql").read_text().replace("%", "%%"))


def downgrade() -> None:
    """Dropping what people decided is not something that a tool should do; restore a backup instead."""
    raise NotImplementedError("restore the backup that was taken before the upgrade")
