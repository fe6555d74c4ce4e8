"""The tables of the store as SQLAlchemy classes: the five of caliban 0.4.2, the journal, the output of jobs, origins.

The five have the columns that caliban 0.4.2 creates, as read from ``sqlite_master`` of its SQLite stores and from
``pg_dump -s`` of a PostgreSQL database that it created.
"""

from __future__ import annotations

from datetime import datetime, timezone

from sqlalchemy import JSON, DateTime, Dialect, Enum, ForeignKey, Index, LargeBinary, String, Text, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

from caliban.attempts import SubmissionState
from caliban.records import JobStatus

REVISIONS = ("0001", "0002", "0003", "0004", "0005", "0006", "0007")
"""Every revision that this version supports, oldest first; see the files in ``migrations/versions``."""

HEAD = REVISIONS[-1]
"""The revision that the classes below describe."""

FIRST_WITH_JOURNAL = "0002"
FIRST_WITH_BATCHES = "0004"
FIRST_WITH_JOB_LOGS = "0005"
FIRST_WITH_ORIGINS = "0006"
FIRST_WITH_CODE = "0007"

HAS_JOB_LOGS = "has_job_logs"
"""The key of ``session.info`` under which sessions of a store say whether it has the table of the output of jobs."""

HAS_ORIGINS = "has_origins"
"""The same for the table of the origins of experiments."""

VERSION_TABLE = "caliban_version"
"""Not Alembic's default name, which another tool may use in the same PostgreSQL database."""


class LocalTime(TypeDecorator[datetime]):
    """Naive local time, as caliban 0.4.2 records it with ``datetime.now()``.

    Its PostgreSQL columns are ``timestamp with time zone`` nevertheless: the server reads the naive time as one of the
    session's time zone and returns it in that zone, so dropping the zone returns what was written.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Drop the zone that PostgreSQL added."""
        return None if value is None else value.replace(tzinfo=None)


class UtcTime(TypeDecorator[datetime]):
    """A time with a time zone, stored as naive UTC on every database."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Convert to UTC, and drop the zone."""
        return None if value is None else value.astimezone(timezone.utc).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Add the zone."""
        return None if value is None else value.replace(tzinfo=timezone.utc)


class Base(DeclarativeBase):
    """Holds the metadata of all tables."""


class ContainerSpecRow(Base):
    """What an image is built from, or the name of an existing image."""

    __tablename__ = "container_specs"

    id: Mapped[int] = mapped_column(primary_key=True)
    user: Mapped[str | None] = mapped_column(String)
    spec: Mapped[object | None] = mapped_column(JSON)
    created: Mapped[datetime] = mapped_column(LocalTime)


class ExperimentGroupRow(Base):
    """A named group of one user. No constraint of the database makes the name unique per user."""

    __tablename__ = "experiment_groups"
    __table_args__ = (Index("ix_experiment_groups_user_name", "user", "name"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None] = mapped_column(String)
    created: Mapped[datetime] = mapped_column(LocalTime)
    user: Mapped[str | None] = mapped_column(String)


class ExperimentRow(Base):
    """One set of flags, run with one container spec."""

    __tablename__ = "experiments"

    id: Mapped[int] = mapped_column(primary_key=True)
    created: Mapped[datetime] = mapped_column(LocalTime)
    args: Mapped[object | None] = mapped_column(JSON)
    kwargs: Mapped[object | None] = mapped_column(JSON)
    container_spec_id: Mapped[int | None] = mapped_column(ForeignKey("container_specs.id"))
    xgroup_id: Mapped[int | None] = mapped_column(ForeignKey("experiment_groups.id"), index=True)


class JobSpecRow(Base):
    """What is requested from a platform, in the platform's own shape; which platform is free text."""

    __tablename__ = "job_specs"

    id: Mapped[int] = mapped_column(primary_key=True)
    created: Mapped[datetime] = mapped_column(LocalTime)
    spec: Mapped[object] = mapped_column(JSON, nullable=False)
    platform: Mapped[str] = mapped_column(String)
    experiment_id: Mapped[int | None] = mapped_column(ForeignKey("experiments.id"))


class JobRow(Base):
    """One attempt of an experiment."""

    __tablename__ = "jobs"

    id: Mapped[int] = mapped_column(primary_key=True)
    created: Mapped[datetime] = mapped_column(LocalTime)
    job_spec_id: Mapped[int | None] = mapped_column(ForeignKey("job_specs.id"))
    experiment_id: Mapped[int | None] = mapped_column(ForeignKey("experiments.id"), index=True)
    container: Mapped[str] = mapped_column(String)
    status: Mapped[JobStatus | None] = mapped_column(Enum(JobStatus, name="jobstatus", create_constraint=True))
    details: Mapped[object | None] = mapped_column(JSON)
    user: Mapped[str | None] = mapped_column(String)


_OPEN = text("state = 'OPEN'")


class BatchRow(Base):
    """What one command submits. Its process renews the row while submissions of it are open.

    ``command`` identifies the command that was typed, where typing it again continues the batch. ``newest_job`` is the
    highest ``jobs.id`` when the command was typed first: jobs of its experiments above that belong to it.
    """

    __tablename__ = "batches"

    id: Mapped[int] = mapped_column(primary_key=True)
    command: Mapped[str | None] = mapped_column(String(64), index=True)
    newest_job: Mapped[int]
    owner: Mapped[str] = mapped_column(Text)
    opened: Mapped[datetime] = mapped_column(UtcTime)
    renewals: Mapped[int]
    renewed: Mapped[datetime] = mapped_column(UtcTime)
    finished: Mapped[datetime | None] = mapped_column(UtcTime)


class SubmissionRow(Base):
    """The journal: a row is written before a submission is sent, and settled together with its job.

    ``batch_id`` and ``sent`` (when a request was last made) are null in rows of revision 0003, which knew no batches.
    """

    __tablename__ = "submissions"
    __table_args__ = (
        Index(
            "ix_submissions_one_open",
            "experiment_id",
            unique=True,
            sqlite_where=_OPEN,
            postgresql_where=_OPEN,
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    token: Mapped[str] = mapped_column(String(32), unique=True)
    experiment_id: Mapped[int] = mapped_column(ForeignKey("experiments.id"))
    job_spec_id: Mapped[int] = mapped_column(ForeignKey("job_specs.id"))
    resubmits: Mapped[int | None] = mapped_column(ForeignKey("jobs.id"))
    platform: Mapped[str] = mapped_column(String)
    target: Mapped[object] = mapped_column(JSON, nullable=False)
    name: Mapped[str] = mapped_column(String)
    user: Mapped[str] = mapped_column(String)
    host: Mapped[str] = mapped_column(String)
    pid: Mapped[int]
    created: Mapped[datetime] = mapped_column(LocalTime)
    state: Mapped[SubmissionState] = mapped_column(Enum(SubmissionState, native_enum=False, length=16))
    job_id: Mapped[int | None] = mapped_column(ForeignKey("jobs.id"))
    error: Mapped[str | None] = mapped_column(Text)
    batch_id: Mapped[int | None] = mapped_column(index=True)
    sent: Mapped[datetime | None] = mapped_column(UtcTime)


class JobLogRow(Base):
    """The end of a job's output, or why there is none.

    ``output`` is compressed (zlib), at most :data:`caliban.outputs.stored.STORED_BYTES` when decompressed; null where
    the job wrote nothing, or ``unavailable`` says why it could not be fetched. The last error in the output has columns
    of its own, so that listings read no output.
    """

    __tablename__ = "job_logs"

    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    output: Mapped[bytes | None] = mapped_column(LargeBinary)
    is_complete: Mapped[bool]
    unavailable: Mapped[str | None] = mapped_column(Text)
    error_type: Mapped[str | None] = mapped_column(Text)
    error_message: Mapped[str | None] = mapped_column(Text)
    error_frame: Mapped[str | None] = mapped_column(Text)
    recorded: Mapped[datetime] = mapped_column(UtcTime)


class ExperimentOriginRow(Base):
    """The experiment that another one was made from, by changing parameters of a re-run."""

    __tablename__ = "experiment_origins"

    experiment_id: Mapped[int] = mapped_column(ForeignKey("experiments.id", ondelete="CASCADE"), primary_key=True)
    origin_id: Mapped[int] = mapped_column(ForeignKey("experiments.id", ondelete="CASCADE"), index=True)
    created: Mapped[datetime] = mapped_column(UtcTime)


class CodeFileRow(Base):
    """The text of a file that entered an image, compressed (zlib); shared by all manifests that name it.

    At most :data:`caliban.code_record.MAX_TEXT` when decompressed.
    """

    __tablename__ = "code_files"

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    content: Mapped[bytes] = mapped_column(LargeBinary)


class CodeManifestRow(Base):
    """What an image was built from (:class:`caliban.code_record.CodeManifest`), compressed (zlib)."""

    __tablename__ = "code_manifests"

    id: Mapped[int] = mapped_column(primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    content: Mapped[bytes] = mapped_column(LargeBinary)


class SubmissionBuildRow(Base):
    """From what, and where, the image of a submission was built.

    ``manifest_id`` is null where the files are not recorded. ``build_path`` is the directory of the project where that
    is not the one of the container spec: the project has moved.
    """

    __tablename__ = "submission_builds"

    submission_id: Mapped[int] = mapped_column(ForeignKey("submissions.id", ondelete="CASCADE"), primary_key=True)
    manifest_id: Mapped[int | None] = mapped_column(ForeignKey("code_manifests.id"))
    git_commit: Mapped[str | None] = mapped_column(String(64))
    is_dirty: Mapped[bool | None]
    build_path: Mapped[str | None] = mapped_column(Text)
