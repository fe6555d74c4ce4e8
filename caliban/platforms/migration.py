"""What a platform implements to take over the jobs of another one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from caliban.records import JobDetails, JobRecord, JsonObject


@dataclass(frozen=True)
class Migration:
    """A job of another platform, as a job of this one.

    Attributes:
        spec: the job spec, in this platform's shape.
        details: what :meth:`Platform.destination` reads to find the destination, as if the job had run here before.
        dropped_settings: settings of the other platform that this one does not have, one line each.
    """

    spec: JsonObject
    details: JobDetails
    dropped_settings: tuple[str, ...] = ()


class MigrationTarget(ABC):
    """A platform that takes over the jobs of another one: ``caliban resubmit --platform``."""

    @abstractmethod
    def migrate(self, job: JobRecord) -> Migration:
        """Convert ``job``, of another platform.

        Raises:
            PlatformError: ``not-translatable``: jobs of that platform, or this one, cannot be migrated.
        """
