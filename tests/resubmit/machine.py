"""A service whose jobs run for some looks of a command that waits, and then end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from caliban.records import JobRecord, JobStatus, JobUpdate
from tests.fake_service import FakeService, fake_details


class Machine:
    """Each job runs for two looks, or for ``looks``, and succeeds, or ends for the next cause of ``ends``.

    Both are by the value of ``--sleep``, which tells experiments apart: the numbers of jobs that are submitted together
    are in no order.

    Attributes:
        running: for each look, the experiments that were asked about.
    """

    def __init__(self, service: FakeService, *, looks: int, submissions: int) -> None:
        self.running: list[list[int]] = []
        self.ends: dict[int, list[str]] = {}
        self.looks: dict[int, int] = {}
        self._ages: dict[int, int] = {}
        service.expect("statuses", *[self._look] * looks)
        service.expect("submit", *[service.accept] * submissions)

    @property
    def at_a_time(self) -> list[int]:
        """How many jobs were asked about, for each look."""
        return [len(each) for each in self.running]

    def _look(self, jobs: Sequence[JobRecord]) -> Mapping[int, JobUpdate]:
        self.running.append(sorted(map(_sleep, jobs)))
        return {job.id: self._update(job) for job in jobs}

    def _update(self, job: JobRecord) -> JobUpdate:
        self._ages[job.id] = self._ages.get(job.id, 0) + 1
        if self._ages[job.id] < self.looks.get(_sleep(job), 2):
            return JobUpdate(JobStatus.RUNNING)
        if causes := self.ends.get(_sleep(job)):
            details = fake_details(JobStatus.FAILED, {**job.details.raw, "cause": causes.pop(0)})
            return JobUpdate(JobStatus.FAILED, details)
        return JobUpdate(JobStatus.SUCCEEDED)


def _sleep(job: JobRecord) -> int:
    arguments = job.spec["arguments"]
    assert isinstance(arguments, list)
    return int(arguments[arguments.index("--sleep") + 1])
