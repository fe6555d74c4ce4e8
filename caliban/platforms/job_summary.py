"""What the records of a job say of it, in its platform's own terms: for listings, so nobody is asked.

Apart from the platforms' own modules, so that listing ten thousand jobs imports none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from caliban.records import JobRecord, JobStatus, JsonObject, PlatformName


def _text(details: JsonObject, *path: str) -> str | None:
    value: object = details
    for key in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value if isinstance(value, str) else None


_TITLES: Mapping[PlatformName, Callable[[JsonObject], str | None]] = {
    PlatformName.LOCAL: lambda details: _text(details, "name"),
    PlatformName.CAIP: lambda details: _text(details, "jobId"),
    PlatformName.VERTEX: lambda details: _text(details, "displayName"),
    PlatformName.GKE: lambda details: _text(details, "job", "metadata", "name"),
    PlatformName.KUBERNETES: lambda details: _text(details, "job", "metadata", "name"),
}


def title(job: JobRecord) -> str | None:
    """The job's name on its platform; None where none is recorded (caliban 0.4.2 names no local job)."""
    read = _TITLES.get(job.platform)
    return read(job.details) if read else None


def ending(job: JobRecord) -> str | None:
    """How a failed job ended: ``exit code 1``; None where nobody knows."""
    code = job.details.get("ret_code")
    return None if code is None or job.status is not JobStatus.FAILED else f"exit code {code}"
