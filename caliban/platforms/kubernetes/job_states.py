"""The states of the jobs of a namespace, read with few requests: the jobs, and the pods of those that need them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from caliban.errors import CalibanError, one_line
from caliban.platforms.base import GROUP_LABEL, TOKEN_LABEL
from caliban.platforms.kubernetes import details, job_spec
from caliban.platforms.kubernetes.client import Cluster
from caliban.platforms.kubernetes.details import JobState
from caliban.platforms.kubernetes.job_status import needs_pods, state_of
from caliban.records import JobRecord, JobStatus, JsonObject

_MAX_SELECTOR_VALUES = 50
"""A label selector is a part of a URL, whose length proxies limit."""


def selector_of(jobs: Sequence[JobRecord]) -> str | None:
    """Return a label selector of these jobs and few others: by group, else all jobs of caliban.

    None, for all jobs of the namespace, where some have no labels, as those of caliban 0.4.2.
    """
    labels = [details.stored_labels(job.details.raw) for job in jobs]
    if not all(TOKEN_LABEL in each for each in labels):
        return None
    groups = {str(each.get(GROUP_LABEL, "")) for each in labels}
    if "" in groups or len(groups) > _MAX_SELECTOR_VALUES:
        return TOKEN_LABEL
    return f"{TOKEN_LABEL},{GROUP_LABEL} in ({','.join(sorted(groups))})"


@dataclass(frozen=True)
class JobStates:
    """Reads states of jobs, explained by their pods.

    Attributes:
        cluster: where they are.
        namespace: in which.
        announce: reports what cannot be determined.
    """

    cluster: Cluster
    namespace: str
    announce: Callable[[str], None]

    def of_one(self, job: JsonObject, container: str | None) -> JobState:
        """Return the state of one job, explained by its pods if it failed.

        Args:
            job: as the cluster returned it.
            container: the name of its own container, if that is known.
        """
        state = state_of(job)
        if state.status is not JobStatus.FAILED:
            return state
        name = job_spec.name_of(job)
        return self.of([job], {name: container})[name]

    def of(self, jobs: Sequence[JsonObject], containers: Mapping[str, str | None]) -> dict[str, JobState]:
        """Return the state of each job by its name, explained by its pods where necessary.

        Args:
            jobs: as the cluster returned them.
            containers: the recorded name of each job's own container, by the job's name.
        """
        pods = self._pods([job_spec.name_of(job) for job in jobs if needs_pods(job)])
        names = [(job, job_spec.name_of(job)) for job in jobs]
        return {name: state_of(job, pods.get(name, ()), containers.get(name)) for job, name in names}

    def _pods(self, names: Sequence[str]) -> dict[str, list[JsonObject]]:
        """Return the pods of some jobs by the job's name; {} if they cannot be listed: the jobs have a reason, too."""
        found: dict[str, list[JsonObject]] = {}
        try:
            for start in range(0, len(names), _MAX_SELECTOR_VALUES):
                selector = f"job-name in ({','.join(names[start : start + _MAX_SELECTOR_VALUES])})"
                for pod in self.cluster.pods(self.namespace, selector):
                    found.setdefault(str(job_spec.label_of(pod, "job-name")), []).append(pod)
        except CalibanError as error:
            self.announce(f"cannot determine in full why jobs wait or failed: {one_line(error)}")
        return found
