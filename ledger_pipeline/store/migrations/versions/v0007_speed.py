"""Staged rows packed as columns, and what a day was staged, checked and posted from, so that the same work isn't done twice."""

from pathlib import Path

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """The statements stand in `v0007_speed.sql`."""
    op.get_bind().exec_driver_sql(Path(__file__).with_suffix(".sql").read_text().replace("%", "%%"))


def downgrade() -> None:
    """What a day was posted from can't be said again; restore a backup instead."""
    raise NotImplementedError("restore the backup that was taken before the upgrade")
