"""Record which experiment another one was made from by changing parameters."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the table of origins; no row changes."""
    experiment = "experiments.id"
    op.create_table(
        "experiment_origins",
        sa.Column("experiment_id", sa.Integer, sa.ForeignKey(experiment, ondelete="CASCADE"), primary_key=True),
        sa.Column("origin_id", sa.Integer, sa.ForeignKey(experiment, ondelete="CASCADE"), nullable=False, index=True),
        sa.Column("created", sa.DateTime, nullable=False),
    )


def downgrade() -> None:
    """Undo the upgrade."""
    op.drop_table("experiment_origins")
