"""The five tables of caliban 0.4.2.

Where they exist, only the revision is recorded. Downgrading leaves the tables and their content in place.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_PLATFORMS = ("CAIP", "GKE", "LOCAL", "TEST")
_STATUSES = ("SUBMITTED", "RUNNING", "SUCCEEDED", "FAILED", "STOPPED", "UNKNOWN")


def upgrade() -> None:
    """Create the tables, in the order that their foreign keys require."""
    if sa.inspect(op.get_bind()).has_table("experiment_groups"):
        return
    op.create_table(
        "container_specs",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("user", sa.String),
        sa.Column("spec", sa.JSON),
        _created(),
    )
    op.create_table(
        "experiment_groups",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String),
        _created(),
        sa.Column("user", sa.String),
    )
    op.create_table(
        "experiments",
        sa.Column("id", sa.Integer, primary_key=True),
        _created(),
        sa.Column("args", sa.JSON),
        sa.Column("kwargs", sa.JSON),
        sa.Column("container_spec_id", sa.Integer, sa.ForeignKey("container_specs.id")),
        sa.Column("xgroup_id", sa.Integer, sa.ForeignKey("experiment_groups.id")),
    )
    op.create_table(
        "job_specs",
        sa.Column("id", sa.Integer, primary_key=True),
        _created(),
        sa.Column("spec", sa.JSON, nullable=False),
        sa.Column("platform", sa.Enum(*_PLATFORMS, name="platform", create_constraint=True), nullable=False),
        sa.Column("experiment_id", sa.Integer, sa.ForeignKey("experiments.id")),
    )
    op.create_table(
        "jobs",
        sa.Column("id", sa.Integer, primary_key=True),
        _created(),
        sa.Column("job_spec_id", sa.Integer, sa.ForeignKey("job_specs.id")),
        sa.Column("experiment_id", sa.Integer, sa.ForeignKey("experiments.id")),
        sa.Column("container", sa.String, nullable=False),
        sa.Column("status", sa.Enum(*_STATUSES, name="jobstatus", create_constraint=True)),
        sa.Column("details", sa.JSON),
        sa.Column("user", sa.String),
    )


def downgrade() -> None:
    """Leave a store that caliban 0.4.2 takes for its own."""


def _created() -> sa.Column[object]:
    return sa.Column("created", sa.DateTime(timezone=True), nullable=False)
