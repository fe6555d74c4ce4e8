"""The output of a job: that of the own container in each of its pods, oldest first, while it runs and afterwards.

Sources: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#get-read-log-of-the-specified-pod
and https://kubernetes.io/docs/concepts/cluster-administration/logging/ (a node keeps the output of a pod as long as the
pod, and serves only the newest of the files that it rotates).
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain

from caliban.errors import PlatformError
from caliban.platforms.base import LogRequest
from caliban.platforms.context import PlatformContext
from caliban.platforms.kubernetes import job_spec
from caliban.platforms.kubernetes.client import Cluster
from caliban.platforms.kubernetes.details import object_at, objects_in
from caliban.platforms.kubernetes.errors import KubernetesRefusedError, KubernetesUnreachableError
from caliban.platforms.kubernetes.job_status import status_of
from caliban.platforms.kubernetes.log_lines import OutputDeletedError, Position, split
from caliban.records import JobRecord, JsonObject, OutputLine

LIST_DELAYS = (0.5, 1.5)
"""Seconds before each further list of the pods of a job that has ended."""
_FIRST_DELAY, _MAX_DELAY = 1.0, 10.0
"""Seconds between two looks at a job that has nothing to read yet."""
_MAX_BREAKS = 5
"""How often a response that ends too early is continued without any new line."""
_NOTHING_YET = re.compile(
    r"is waiting to start|is not available|previous terminated container |container not found|is terminated$"
)
"""The API server's words for a container that has not run, in a response with the status 400 (pkg/registry/core/pod/
strategy.go and pkg/kubelet/kubelet_pods.go of kubernetes/kubernetes)."""


@dataclass(frozen=True)
class _Instance:
    """One run of the job's own container in a pod.

    Attributes:
        pod: the name of the pod.
        container: the name of the container.
        number: how often it was started before, in this pod.
        is_previous: whether it was started again since.
        has_ended: whether it has written all that it ever will.
        exit_code: of the ended container, or None.
    """

    pod: str
    container: str
    number: int
    is_previous: bool
    has_ended: bool
    exit_code: int | None = None

    @property
    def key(self) -> tuple[str, int]:
        return self.pod, self.number

    @property
    def options(self) -> dict[str, str]:
        """The parameters that request its output. Times are requested to read on where a response ended."""
        previous = {"previous": "true"} if self.is_previous else {}
        return {"container": self.container, "timestamps": "true", **previous}


@dataclass
class JobOutput:
    """Reads the output of one job.

    Attributes:
        cluster: where it is.
        namespace: in which.
        job: as recorded.
        container: the recorded name of its own container, if that is known.
        context: waits, and says when to stop.
    """

    cluster: Cluster
    namespace: str
    job: JobRecord
    container: str | None
    context: PlatformContext
    _positions: dict[tuple[str, int], Position] = field(default_factory=dict)
    _drained: set[tuple[str, int]] = field(default_factory=set)
    _pods_seen: set[str] = field(default_factory=set)

    def lines(self, request: LogRequest) -> Iterator[OutputLine]:
        """Yield the lines, oldest first; see :meth:`caliban.platforms.base.LogSource.logs`.

        Raises:
            PlatformError: ``output-gone``, ``output-refused``.
            CalibanError: the cluster cannot be asked.
        """
        try:
            yield from self._lines(request)
        except KubernetesRefusedError as error:
            if error.code != 403:
                raise
            raise self._refused(error) from error

    def _lines(self, request: LogRequest) -> Iterator[OutputLine]:
        instances = self._instances() or self._late_instances()
        if request.tail is None:
            yield from self._all(instances, is_final=not request.follow)
        else:
            yield from self._tail(instances, request.tail, is_final=not request.follow)
        if request.follow:
            yield from self._follow()

    def _late_instances(self) -> list[_Instance]:
        """Return the runs of a job that are not listed yet; [] for a job that has not ended.

        Raises:
            PlatformError: ``output-gone``: it has ended, and there are none.
        """
        job = self._current()
        if job is not None and not status_of(job).is_final:
            return []
        for delay in LIST_DELAYS if job else ():  # the list of pods may be older than the end of the job
            self.context.clock.wait(self.context.stopping, delay)
            if instances := self._instances():
                return instances
        raise self._gone("the pods of the job are deleted")

    def _all(self, instances: list[_Instance], *, is_final: bool) -> Iterator[OutputLine]:
        deleted = 0
        for instance in instances:
            try:
                yield from self._read(instance, keeps_rest=is_final or instance.has_ended)
            except OutputDeletedError:
                deleted += 1
        self._check_deleted(deleted, instances)

    def _tail(self, instances: list[_Instance], count: int, *, is_final: bool) -> Iterator[OutputLine]:
        """Yield the last lines of all instances together: the newest is asked first."""
        found: deque[OutputLine] = deque()
        deleted = 0
        for instance in reversed(instances):
            left = count - len(found)
            if left <= 0 and not (count == 0 and instance is instances[-1]):
                self._drained.add(instance.key)  # or it would be read in full by a request that follows
                continue
            keeps_rest = is_final or instance.has_ended
            try:
                lines = deque(self._read(instance, keeps_rest=keeps_rest, tail=left or 1), maxlen=left)
            except OutputDeletedError:
                deleted += 1
                continue
            found.extendleft(reversed(lines))
        self._check_deleted(deleted, instances)
        yield from found

    def _follow(self) -> Iterator[OutputLine]:
        delay = _FIRST_DELAY
        while not self.context.stopping.is_set():
            job = self._current()
            is_over = job is None or status_of(job).is_final
            instances = self._instances()
            has_news = False
            for instance in instances:
                if instance.key in self._drained:
                    continue
                try:
                    is_complete = instance.has_ended or is_over
                    for line in self._read(instance, follow=not is_complete, keeps_rest=is_complete):
                        has_news = True
                        yield line
                except OutputDeletedError:
                    self._drained.add(instance.key)
                if instance.has_ended:
                    self._drained.add(instance.key)
            # an exit code of 0 is the end of the program, even if another container keeps the job open
            is_done = bool(instances) and instances[-1].exit_code == 0 and instances[-1].key in self._drained
            if is_over or is_done:
                return
            is_running = any(not instance.has_ended for instance in instances)
            delay = _FIRST_DELAY if has_news or is_running else delay
            self.context.clock.wait(self.context.stopping, delay)
            delay = min(delay * 1.5, _MAX_DELAY)

    def _read(
        self, instance: _Instance, *, keeps_rest: bool, follow: bool = False, tail: int | None = None
    ) -> Iterator[OutputLine]:
        """Yield what an instance has written since it was read last. A response that ends too early is continued.

        Raises:
            OutputDeletedError: the node has deleted it.
        """
        position = self._positions.setdefault(instance.key, Position())
        breaks = 0
        while not self.context.stopping.is_set():
            options = {**instance.options, **({"follow": "true"} if follow else {}), **position.options()}
            if tail is not None and position.second is None:
                options["tailLines"] = str(tail)
            pieces = self._begun(instance, options)
            try:
                for line in position.new_lines(split(pieces, keeps_rest=keeps_rest and not follow)):
                    breaks = 0
                    yield replace(line, source=self._source(instance))
                return
            except KubernetesUnreachableError as error:
                breaks += 1
                if follow:
                    return  # the state of the job is looked at first
                if not error.is_transient or breaks > _MAX_BREAKS:
                    raise

    def _begun(self, instance: _Instance, options: Mapping[str, str]) -> Iterator[bytes]:
        """Request output; return the response, which has begun, or nothing if there is none yet.

        Raises:
            OutputDeletedError: the pod is deleted.
            KubernetesError: there is no response, after retries.
        """
        pieces = self.cluster.pod_log(self.namespace, instance.pod, options)
        try:
            return chain([next(pieces, b"")], pieces)
        except KubernetesRefusedError as error:
            if error.code == 400 and _NOTHING_YET.search(error.cause or ""):
                return iter(())
            if error.code == 404:
                raise OutputDeletedError from error
            raise

    def _source(self, instance: _Instance) -> str | None:
        """Return the pod, where the job has several."""
        return instance.pod if len(self._pods_seen) > 1 else None

    def _instances(self) -> list[_Instance]:
        """Return each run of the job's own container that may have written something, oldest first."""
        selector = f"job-name={self.job.details.display_name}"
        pods = [pod for pod in self.cluster.pods(self.namespace, selector) if self._is_of_job(pod)]
        pods.sort(key=lambda pod: (_text(pod, "metadata", "creationTimestamp"), _text(pod, "status", "startTime")))
        self._pods_seen.update(job_spec.name_of(pod) for pod in pods)
        return [instance for pod in pods for instance in self._instances_in(pod)]

    def _instances_in(self, pod: JsonObject) -> Iterator[_Instance]:
        name, container = job_spec.name_of(pod), self._container_in(pod)
        statuses = objects_in(object_at(pod, "status"), "containerStatuses")
        status = next((each for each in statuses if each.get("name") == container), {})
        phase = _text(pod, "status", "phase")
        ended = object_at(status, "state", "terminated")
        count = status.get("restartCount")
        number = count if isinstance(count, int) and not isinstance(count, bool) else 0
        has_ended = bool(ended) or phase in ("Succeeded", "Failed")
        if object_at(status, "lastState", "terminated") and number:
            yield _Instance(name, container, number - 1, is_previous=True, has_ended=True)
        if ended or object_at(status, "state", "running") or has_ended:
            code = ended.get("exitCode")
            yield _Instance(
                name,
                container,
                number,
                is_previous=False,
                has_ended=has_ended,
                exit_code=code if isinstance(code, int) and phase != "Failed" else None,
            )

    def _container_in(self, pod: JsonObject) -> str:
        names = [str(each.get("name")) for each in objects_in(object_at(pod, "spec"), "containers")]
        if self.container in names or not names:
            return str(self.container or "")
        return names[0] if len(names) == 1 else str(self.container or names[0])

    def _is_of_job(self, pod: JsonObject) -> bool:
        """Return whether a pod belongs to the recorded job, not to an earlier or later one of its name."""
        owners = [each.get("uid") for each in objects_in(object_at(pod, "metadata"), "ownerReferences")]
        return self.job.details.id is None or not owners or self.job.details.id in owners

    def _current(self) -> JsonObject | None:
        """Return the job as it is now; None if it is deleted."""
        found = self.cluster.get_job(self.namespace, str(self.job.details.display_name or ""))
        is_same = found is not None and self.job.details.id in (None, object_at(found, "metadata").get("uid"))
        return found if is_same else None

    def _check_deleted(self, deleted: int, instances: list[_Instance]) -> None:
        if deleted and deleted == len(instances):
            raise self._gone("the node has deleted it, or is deleted itself")

    def _gone(self, cause: str) -> PlatformError:
        return PlatformError(
            "output-gone",
            f"the output of job {self.job.id} is no longer on the {self.cluster.name}",
            cause=cause,
            hint="a cluster keeps the output of a job only as long as the job's pods",
        )

    def _refused(self, error: KubernetesRefusedError) -> PlatformError:
        permission = "get jobs" if error.kind == "jobs" else "get pods/log" if error.name else "list pods"
        return PlatformError(
            "output-refused",
            f"permission denied to read the output of job {self.job.id}",
            cause=error.cause,
            hint=f'ask the cluster\'s administrator for the permission "{permission}" in the namespace '
            f"{self.namespace}: kubectl create role caliban-output --verb=get,list --resource=pods,pods/log "
            f"--namespace {self.namespace}",
        )


def _text(pod: JsonObject, *path: str) -> str:
    value = object_at(pod, *path[:-1]).get(path[-1])
    return value if isinstance(value, str) else ""
