"""Migrate planned jobs to the platform that was requested, without a connection."""

from __future__ import annotations

from dataclasses import replace

from caliban.errors import CalibanError, PlatformError
from caliban.platforms.migration import Migration, MigrationTarget
from caliban.platforms.registry import Platforms
from caliban.records import PlatformId
from caliban.resubmit.plan import PlannedJob
from caliban.submission.boundary import expected, platform_errors


def migrate(job: PlannedJob, platforms: Platforms, id: PlatformId | None) -> PlannedJob:
    """Return the job as one of the platform ``id``; None leaves it where it ran before."""
    template = job.template
    if id is None or template.platform == id:
        return job
    try:
        platform = platforms.get(id)
        if not isinstance(platform, MigrationTarget):
            raise PlatformError("not-translatable", f"{id} does not accept jobs of other platforms")
        with platform_errors(id, "migrate a job"):
            migration = expected(platform.migrate(template), Migration)
    except CalibanError as error:
        return replace(job, problem=job.problem or error)
    migrated = replace(template, platform=id, spec=migration.spec, details=migration.details)
    return replace(job, template=migrated, dropped_settings=migration.dropped_settings)
