"""``job_specs.platform`` and ``submissions.platform`` become free text, so that installed packages can add platforms.

No value changes. caliban 0.4.2 reads the columns as before.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_PLATFORMS = ("CAIP", "GKE", "LOCAL", "TEST", "VERTEX", "KUBERNETES")
_JOB_SPECS = "id, created, spec, platform, experiment_id"


def upgrade() -> None:
    """Drop the constraint on SQLite and the enum type on PostgreSQL."""
    if op.get_bind().dialect.name == "sqlite":
        _rebuild_job_specs(sa.String())
        with op.batch_alter_table("submissions") as submissions:
            submissions.alter_column(
                "platform", type_=sa.String(), existing_type=sa.String(16), existing_nullable=False
            )
    else:
        op.execute("ALTER TABLE job_specs ALTER COLUMN platform TYPE VARCHAR USING platform::text")
        op.execute("DROP TYPE platform")
        op.alter_column("submissions", "platform", type_=sa.String(), existing_nullable=False)


def downgrade() -> None:
    """Restrict the values again; the database refuses that where a job spec of another platform is recorded."""
    if op.get_bind().dialect.name == "sqlite":
        _rebuild_job_specs(sa.Enum(*_PLATFORMS, name="platform", create_constraint=True))
        with op.batch_alter_table("submissions") as submissions:
            submissions.alter_column(
                "platform", type_=sa.String(16), existing_type=sa.String(), existing_nullable=False
            )
    else:
        op.execute("DROP TYPE IF EXISTS platform")  # caliban 0.4.2 creates it when it opens the store
        op.execute(f"CREATE TYPE platform AS ENUM ({', '.join(map(repr, _PLATFORMS))})")
        op.execute("ALTER TABLE job_specs ALTER COLUMN platform TYPE platform USING platform::text::platform")
        op.alter_column("submissions", "platform", type_=sa.String(16), existing_nullable=False)


def _rebuild_job_specs(platform: sa.types.TypeEngine[str]) -> None:
    # As in revision 0002: SQLite cannot alter a CHECK constraint (https://www.sqlite.org/lang_altertable.html#otheralter).
    op.create_table(
        "job_specs_rebuilt",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("created", sa.DateTime, nullable=False),
        sa.Column("spec", sa.JSON, nullable=False),
        sa.Column("platform", platform, nullable=False),
        sa.Column("experiment_id", sa.Integer, sa.ForeignKey("experiments.id")),
    )
    op.execute(f"INSERT INTO job_specs_rebuilt ({_JOB_SPECS}) SELECT {_JOB_SPECS} FROM job_specs")
    op.drop_table("job_specs")
    op.rename_table("job_specs_rebuilt", "job_specs")
