"""Journal what one command submits as a batch, with its process and its lease.

``submissions.created`` stays as it is, naive local time: nothing says in which time zone it was written, so existing
rows are not converted. Rows of this version have a batch, whose times are UTC; rows without one are of revision 0003.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the table of batches, and two columns to the journal; no row changes."""
    op.create_table(
        "batches",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("command", sa.String(64)),
        sa.Column("newest_job", sa.Integer, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("opened", sa.DateTime, nullable=False),
        sa.Column("renewals", sa.Integer, nullable=False),
        sa.Column("renewed", sa.DateTime, nullable=False),
        sa.Column("finished", sa.DateTime),
    )
    op.create_index("ix_batches_command", "batches", ["command"])
    # processes of revision 0003 that are still running insert rows without the new columns
    op.add_column("submissions", sa.Column("batch_id", sa.Integer))
    op.add_column("submissions", sa.Column("sent", sa.DateTime))
    op.create_index("ix_submissions_batch_id", "submissions", ["batch_id"])


def downgrade() -> None:
    """Undo the upgrade."""
    op.drop_index("ix_submissions_batch_id", "submissions")
    op.drop_column("submissions", "sent")
    op.drop_column("submissions", "batch_id")
    op.drop_index("ix_batches_command", "batches")
    op.drop_table("batches")
