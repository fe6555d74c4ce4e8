"""Add the journal of submissions, three indexes, and the platforms that caliban 0.4.2 does not have."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_OLD_PLATFORMS = ("CAIP", "GKE", "LOCAL", "TEST")
_NEW_PLATFORMS = ("VERTEX", "KUBERNETES")
_OPEN = sa.text("state = 'OPEN'")


def upgrade() -> None:
    """Add tables, indexes and values; no row of caliban 0.4.2 changes."""
    if op.get_bind().dialect.name == "sqlite":
        _rebuild_job_specs((*_OLD_PLATFORMS, *_NEW_PLATFORMS))
    else:
        for platform in _NEW_PLATFORMS:
            op.execute(f"ALTER TYPE platform ADD VALUE IF NOT EXISTS '{platform}'")
    op.create_index("ix_jobs_experiment_id", "jobs", ["experiment_id"])
    op.create_index("ix_experiments_xgroup_id", "experiments", ["xgroup_id"])
    op.create_index("ix_experiment_groups_user_name", "experiment_groups", ["user", "name"])
    op.create_table(
        "submissions",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("token", sa.String(32), nullable=False, unique=True),
        sa.Column("experiment_id", sa.Integer, sa.ForeignKey("experiments.id"), nullable=False),
        sa.Column("job_spec_id", sa.Integer, sa.ForeignKey("job_specs.id"), nullable=False),
        sa.Column("resubmits", sa.Integer, sa.ForeignKey("jobs.id")),
        sa.Column("platform", sa.String(16), nullable=False),
        sa.Column("target", sa.JSON, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("user", sa.String, nullable=False),
        sa.Column("host", sa.String, nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("job_id", sa.Integer, sa.ForeignKey("jobs.id")),
        sa.Column("error", sa.Text),
    )
    op.create_index(
        "ix_submissions_one_open",
        "submissions",
        ["experiment_id"],
        unique=True,
        sqlite_where=_OPEN,
        postgresql_where=_OPEN,
    )


def downgrade() -> None:
    """Undo the upgrade; the database refuses that where a job spec of a new platform is recorded."""
    op.drop_table("submissions")
    op.drop_index("ix_experiment_groups_user_name", "experiment_groups")
    op.drop_index("ix_experiments_xgroup_id", "experiments")
    op.drop_index("ix_jobs_experiment_id", "jobs")
    if op.get_bind().dialect.name == "sqlite":
        _rebuild_job_specs(_OLD_PLATFORMS)
    else:
        _narrow_platform_type()


def _rebuild_job_specs(platforms: Sequence[str]) -> None:
    # SQLite cannot alter a CHECK constraint. For the order of steps (create, copy, drop, rename) see
    # https://www.sqlite.org/lang_altertable.html#otheralter; foreign keys are off during an upgrade.
    op.create_table(
        "job_specs_rebuilt",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("created", sa.DateTime, nullable=False),
        sa.Column("spec", sa.JSON, nullable=False),
        sa.Column("platform", sa.Enum(*platforms, name="platform", create_constraint=True), nullable=False),
        sa.Column("experiment_id", sa.Integer, sa.ForeignKey("experiments.id")),
    )
    op.execute(
        "INSERT INTO job_specs_rebuilt (id, created, spec, platform, experiment_id) "
        "SELECT id, created, spec, platform, experiment_id FROM job_specs"
    )
    op.drop_table("job_specs")
    op.rename_table("job_specs_rebuilt", "job_specs")


def _narrow_platform_type() -> None:
    # PostgreSQL cannot remove a value from an enum type.
    values = ", ".join(f"'{platform}'" for platform in _OLD_PLATFORMS)
    op.execute("ALTER TYPE platform RENAME TO platform_wide")
    op.execute(f"CREATE TYPE platform AS ENUM ({values})")
    op.execute("ALTER TABLE job_specs ALTER COLUMN platform TYPE platform USING platform::text::platform")
    op.execute("DROP TYPE platform_wide")
