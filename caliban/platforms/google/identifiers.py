"""Names of projects, regions, jobs and so on, checked before they become part of a URL.

They come from flags, the environment, and rows of a store that others may write.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from caliban.errors import PlatformError, UsageError

_SHOWN = 80


@dataclass(frozen=True)
class Identifier:
    """A kind of name.

    Attributes:
        id: of the error for a malformed one.
        title: what it is, for messages.
        pattern: what all of it matches.
        expected: how it is spelled, for messages.
        hint: what to do about a malformed one.
    """

    id: str
    title: str
    pattern: str
    expected: str
    hint: str

    def is_valid(self, value: object) -> bool:
        """Return whether ``value`` is such a name."""
        return isinstance(value, str) and re.fullmatch(self.pattern, value, re.ASCII) is not None

    def check(self, value: str) -> str:
        """Return ``value``, which a store or an answer contains.

        Raises:
            PlatformError: it is malformed.
        """
        if not self.is_valid(value):
            raise PlatformError(self.id, self._message(value), cause=f"expected {self.expected}", hint=self.hint)
        return value

    def check_given(self, value: str) -> str:
        """Return ``value``, which a flag or the environment contains.

        Raises:
            UsageError: it is malformed.
        """
        if not self.is_valid(value):
            raise UsageError(self.id, self._message(value), cause=f"expected {self.expected}", hint=self.hint)
        return value

    def _message(self, value: str) -> str:
        return f"not a {self.title}: {ascii(value[:_SHOWN])[1:-1]}" if value else f"the {self.title} is empty"


# Longer and shorter than Google allows today: what matters is that no name can change the URL that it is a part of.
# A name that is well formed but does not exist is reported by the service.
_PROJECT = r"(?:[a-z0-9](?:[a-z0-9.-]{0,61}[a-z0-9])?:)?[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_REGION = r"[a-z]{1,20}(?:-[a-z]{1,20}){1,3}[0-9]{1,2}"

PROJECT = Identifier(
    "project-malformed",
    "Google Cloud project ID",
    _PROJECT,
    "lowercase letters, digits and hyphens, such as my-project or example.com:my-project",
    "list project IDs with: gcloud projects list",
)
"""Source: https://cloud.google.com/resource-manager/docs/creating-managing-projects. A project number is one, too."""

REGION = Identifier(
    "region-malformed",
    "Google Cloud region",
    _REGION,
    "a region such as us-central1",
    "list regions with: gcloud compute regions list",
)

LOCATION = Identifier(
    "location-malformed",
    "Google Cloud zone or region",
    rf"{_REGION}(?:-[a-z0-9]{{1,8}})?",
    "a zone such as us-central1-a, or a region such as us-central1",
    "list zones with: gcloud compute zones list",
)

CLUSTER = Identifier(
    "cluster-name-malformed",
    "GKE cluster name",
    r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?",
    "lowercase letters, digits and hyphens, the first a letter",
    "list clusters with: gcloud container clusters list",
)

CAIP_JOB = Identifier(
    "job-id-malformed",
    "job ID of AI Platform Training",
    r"[A-Za-z][A-Za-z0-9_]{0,127}",
    "letters, digits and underscores, the first a letter",
    "the job's row in the store was changed; the job cannot be queried",
)
"""Source: https://cloud.google.com/ai-platform/training/docs/managing-models-jobs"""

VERTEX_JOB = Identifier(
    "job-id-malformed",
    "resource name of a Vertex AI custom job",
    rf"projects/{_PROJECT}/locations/{_REGION}/customJobs/[A-Za-z0-9_-]{{1,63}}",
    "projects/PROJECT/locations/REGION/customJobs/NUMBER",
    "the job's row in the store was changed; the job cannot be queried",
)

UNIVERSE = Identifier(
    "key-malformed",
    "universe domain",
    r"(?=.{1,253}\Z)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)+",
    "a domain such as googleapis.com",
    "create a new service account key in the Google Cloud console, and pass it with --cloud_key",
)
