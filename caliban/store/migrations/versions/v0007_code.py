"""Keep what the image of each submission was built from."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add the tables of code; no row changes."""
    op.create_table(
        "code_files",
        sa.Column("sha256", sa.String(64), primary_key=True),
        sa.Column("content", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "code_manifests",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("sha256", sa.String(64), nullable=False, unique=True),
        sa.Column("content", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "submission_builds",
        sa.Column("submission_id", sa.Integer, sa.ForeignKey("submissions.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("manifest_id", sa.Integer, sa.ForeignKey("code_manifests.id")),
        sa.Column("git_commit", sa.String(64)),
        sa.Column("is_dirty", sa.Boolean),
        sa.Column("build_path", sa.Text),
    )


def downgrade() -> None:
    """Undo the upgrade."""
    op.drop_table("submission_builds")
    op.drop_table("code_manifests")
    op.drop_table("code_files")
