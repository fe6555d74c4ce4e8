"""Keep the end of each job's output, and the last error in it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the table of the output of jobs; no row changes."""
    op.create_table(
        "job_logs",
        sa.Column("job_id", sa.Integer, sa.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("output", sa.LargeBinary),
        sa.Column("is_complete", sa.Boolean, nullable=False),
        sa.Column("unavailable", sa.Text),
        sa.Column("error_type", sa.Text),
        sa.Column("error_message", sa.Text),
        sa.Column("error_frame", sa.Text),
        sa.Column("recorded", sa.DateTime, nullable=False),
    )


def downgrade() -> None:
    """Undo the upgrade."""
    op.drop_table("job_logs")
