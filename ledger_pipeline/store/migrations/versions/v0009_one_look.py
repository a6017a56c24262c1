"""One look at new lines, and payloads that share a record."""

from pathlib import Path

from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """The statements stand in `v0009_one_look.sql`."""
    op.get_bind().exec_driver_sql(Path(__file__).with_suffix(".sql").read_text().replace("%", "%%"))


def downgrade() -> None:
    """Dropping what was staged is not something that a tool should do; restore a backup instead."""
    raise NotImplementedError("restore the backup that was taken before the upgrade")
