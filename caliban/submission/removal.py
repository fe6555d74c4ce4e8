"""Remove what ended jobs left on their platforms, where their submitters asked for that (``docker run --rm``).

The end is recorded first: a process that is killed in between leaves a job that is still marked, and the next command
that reads it removes what it left.
"""

from __future__ import annotations

from collections.abc import Iterable

from caliban.errors import CalibanError, one_line
from caliban.platforms.base import RemovesJobs
from caliban.platforms.registry import Platforms, has_capability, parse_details
from caliban.platforms.stored_json import REMOVE_KEY
from caliban.records import JobDetails, JobRecord, JobUpdate
from caliban.store.database import Store
from caliban.store.states import record_states
from caliban.submission.boundary import platform_errors


def is_due(job: JobRecord) -> bool:
    """Return whether what a job left behind is to be removed; its end must be recorded."""
    is_marked = job.status.is_final and job.details.remove_when_ended
    return is_marked and has_capability(job.platform, RemovesJobs)


def remove_ended(jobs: Iterable[JobRecord], store: Store, platforms: Platforms) -> None:
    """Remove what is due of some jobs, as they are recorded. What cannot be removed is announced, and stays due."""
    updates: dict[int, JobUpdate] = {}
    for job in jobs:
        if not is_due(job):
            continue
        try:
            with platform_errors(job.platform, "remove a job"):
                platform = platforms.get(job.platform)
                assert isinstance(platform, RemovesJobs)
                platform.remove(job)
            updates[job.id] = JobUpdate(job.status, without_mark(job))
        except CalibanError as error:
            _announce(f"job {job.id} has ended, and was not removed", error, platforms)
    if not updates:
        return
    try:
        with store.writing() as session:
            record_states(session, updates)
    except CalibanError as error:
        _announce("cannot record which jobs were removed", error, platforms)


def without_mark(job: JobRecord) -> JobDetails:
    """Return the details of a job of which nothing is to be removed any more."""
    raw = {key: value for key, value in job.details.raw.items() if key != REMOVE_KEY}
    return parse_details(job.platform, job.status, raw)


def _announce(what: str, error: CalibanError, platforms: Platforms) -> None:
    platforms.context.announce(f"{what}: {one_line(error)}")
