"""The states of the jobs of a namespace, read with few requests.

The jobs, the pods of those that need them, and events where there are none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from caliban.errors import CalibanError, one_line
from caliban.platforms.base import GROUP_LABEL, TOKEN_LABEL
from caliban.platforms.context import PlatformContext
from caliban.platforms.kubernetes import details, events, job_spec, kueue
from caliban.platforms.kubernetes.client import Cluster
from caliban.platforms.kubernetes.details import JobState
from caliban.platforms.kubernetes.job_output import LIST_DELAYS
from caliban.platforms.kubernetes.job_status import (
    is_suspended,
    lacks_pods,
    needs_events,
    needs_events_of_next_pod,
    needs_pods,
    pods_to_explain,
    state_of,
    status_of,
)
from caliban.platforms.kubernetes.pod_status import Explanation
from caliban.platforms.stored_json import text
from caliban.records import JobRecord, JobStatus, JsonObject

_MAX_SELECTOR_VALUES = 50
"""A label selector is a part of a URL, whose length proxies limit."""
_MAX_EVENTS = 10_000


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


def container_of(job: JobRecord) -> str | None:
    """Return the name of a job's own container: as recorded, else that of its spec."""
    return text(job.details.raw, "container") or job_spec.container_name(job.spec)


def is_recorded(job: JobRecord, found: JsonObject) -> bool:
    """Return whether a job of the cluster is the recorded one, not a later one of the same name."""
    return job.details.id in (None, details.object_at(found, "metadata").get("uid"))


@dataclass(frozen=True)
class ListedJob:
    """A job in a namespace, whoever submitted it.

    Attributes:
        name: its name in the namespace.
        state: its state.
        created: when, by the cluster's clock: ``2026-11-25T13:00:00Z``.
        group: the value of its experiment group label; None for a job without one.
    """

    name: str
    state: JobState
    created: str
    group: str | None


@dataclass(frozen=True)
class JobStates:
    """Reads states of jobs, explained by their pods, and by events where there are none.

    Attributes:
        cluster: where they are.
        namespace: in which.
        context: reports what cannot be determined, and waits.
    """

    cluster: Cluster
    namespace: str
    context: PlatformContext

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

    def of(
        self, jobs: Sequence[JsonObject], containers: Mapping[str, str | None], *, waits: bool = True
    ) -> dict[str, JobState]:
        """Return the state of each job by its name, explained by its pods where necessary.

        Args:
            jobs: as the cluster returned them.
            containers: the recorded name of each job's own container, by the job's name.
            waits: whether to list the pods again where those of failed jobs are missing: the list may be late.
        """
        by_name = {job_spec.name_of(job): job for job in jobs}
        pods = self._pods([name for name, job in by_name.items() if needs_pods(job)])
        silent: list[JsonObject] = []
        if pods is not None:
            silent = self._list_again(by_name, pods, containers, waits=waits)
        said = {**self._events(by_name, silent, pods or {}), **self._queues(list(by_name.values()))}
        return {
            name: state_of(job, None if pods is None else pods.get(name, ()), containers.get(name), said.get(name, ()))
            for name, job in by_name.items()
        }

    def _list_again(
        self,
        jobs: Mapping[str, JsonObject],
        pods: dict[str, list[JsonObject]],
        containers: Mapping[str, str | None],
        *,
        waits: bool,
    ) -> list[JsonObject]:
        """Add the pods that explain failed jobs and were missing in the list; return the jobs without any."""

        def lacking() -> list[str]:
            return [name for name, job in jobs.items() if lacks_pods(job, pods.get(name, ()), containers.get(name))]

        names = lacking()
        for delay in LIST_DELAYS if waits else ():
            if not names or self.context.clock.wait(self.context.stopping, delay):
                break
            pods.update(self._pods(names) or {})
            names = lacking()
        return [jobs[name] for name in names if not pods.get(name)]

    def _pods(self, names: Sequence[str]) -> dict[str, list[JsonObject]] | None:
        """Return the pods of some jobs by the job's name; None if they cannot be listed: the jobs have reasons, too."""
        found: dict[str, list[JsonObject]] = {}
        try:
            for start in range(0, len(names), _MAX_SELECTOR_VALUES):
                selector = f"job-name in ({','.join(names[start : start + _MAX_SELECTOR_VALUES])})"
                for pod in self.cluster.pods(self.namespace, selector):
                    found.setdefault(str(job_spec.label_of(pod, "job-name")), []).append(pod)
        except CalibanError as error:
            self._announce(error)
            return None
        return found

    def _events(
        self,
        jobs: Mapping[str, JsonObject],
        silent: Sequence[JsonObject],
        pods: Mapping[str, Sequence[JsonObject]],
    ) -> dict[str, list[Explanation]]:
        """Return what events say of jobs whose pods say nothing.

        Those for which no pod could be created, those of ``pods`` that cannot start, and ``silent``, whose pods are
        deleted.
        """
        podless = [job for job in jobs.values() if needs_events(job) or needs_events_of_next_pod(job)]
        preparing = {name: each for name, job in jobs.items() if (each := pods_to_explain(job, pods.get(name, ())))}
        found: dict[str, list[Explanation]] = {}
        try:
            if podless:
                found |= events.explanations(self._list_events(events.JOB_EVENTS), podless)
            if silent or preparing:
                of_pods = list(self._list_events(events.POD_EVENTS))
                found |= events.explanations(of_pods, silent)
                found |= {name: [said] for name, said in events.of_waiting_pods(of_pods, preparing).items()}
        except CalibanError as error:
            self._announce(error)
        return found

    def _list_events(self, selector: str) -> Iterator[JsonObject]:
        return islice(self.cluster.events(self.namespace, selector), _MAX_EVENTS)

    def _queues(self, jobs: Sequence[JsonObject]) -> dict[str, list[Explanation]]:
        """Return what Kueue says of jobs that are suspended."""
        suspended = [job for job in jobs if is_suspended(job) and not status_of(job).is_final]
        workloads: list[JsonObject] = []
        try:
            for start in range(0, len(suspended), _MAX_SELECTOR_VALUES):
                uids = map(_uid, suspended[start : start + _MAX_SELECTOR_VALUES])
                selector = f"{kueue.JOB_UID_LABEL} in ({','.join(uids)})"
                workloads.extend(islice(self.cluster.workloads(self.namespace, selector), _MAX_EVENTS))
        except CalibanError as error:
            self._announce(error)
        return kueue.explanations(suspended, workloads)

    def _announce(self, error: CalibanError) -> None:
        self.context.announce(f"cannot determine in full why jobs wait or failed: {one_line(error)}")


def _uid(job: JsonObject) -> str:
    return str(details.object_at(job, "metadata").get("uid"))
