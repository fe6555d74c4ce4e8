"""What Google's training services have in common as platforms: credentials, projects, pages of jobs, retry_policy."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import ClassVar

from caliban.errors import CalibanError, PlatformError
from caliban.images.registry.names import repository
from caliban.platforms.base import JobUpdate, Platform, PlatformContext, RefusedError, RemotePlatform, StatusUnavailable
from caliban.platforms.google.client import PAGE_SIZE, PROJECT_VARIABLE, Google
from caliban.platforms.google.errors import QUOTA_EXHAUSTED, GoogleRefusedError, one_line
from caliban.platforms.google.image_registry import Registry
from caliban.platforms.retry import Backoff, RetryPolicy
from caliban.platforms.submit_once import submit_once
from caliban.records import ImageRef, JobRecord, JobStatus, JsonObject

_THREADS = 8
_FEW = 2
"""So many jobs are asked after one by one: a page may hold none of them."""


class GooglePlatform(Platform, RemotePlatform):
    """A training service of Google's, in any number of projects. Its methods may be called on several threads."""

    service_name: ClassVar[str]
    """For messages: ``Vertex AI``."""

    named_by: ClassVar[tuple[str, ...]]
    """The keys of ``jobs.details`` without which the service cannot be asked after a job."""

    nameless: ClassVar[str]
    """What is said of a job that lacks one of them."""

    is_run_by_digest: ClassVar[bool] = True
    """Whether jobs name their image by its digest."""

    def __init__(self, platform_context: PlatformContext, retry_policy: RetryPolicy | None = None) -> None:
        super().__init__(platform_context)
        self.google = Google(platform_context, retry_policy)
        self._lock = threading.Lock()
        self._named: set[str] = set()
        self._is_quota_gone = False

    def connect(self, target: JsonObject) -> None:
        """Fetch an access token: to learn before anything is built or written down whether there is one.

        Raises:
            CalibanError: there are no credentials, or Google does not accept them.
        """
        self.google.access_token()

    def reach_registry(self, registry: str | None, target: JsonObject) -> None:
        """Ask a registry of Google's for leave to push."""
        self._registry(registry, target).check()

    def publish(self, image: ImageRef, registry: str | None, target: JsonObject) -> ImageRef:
        """Push to ``registry``, else to the project's Container Registry, where it is not there already."""
        return self._registry(registry, target).push(image, by_digest=self.is_run_by_digest)

    def _registry(self, registry: str | None, target: JsonObject) -> Registry:
        return Registry(repository(registry, str(target["project"])), self.context, self.google)

    def statuses(self, jobs: Sequence[JobRecord]) -> Mapping[int, JobUpdate | StatusUnavailable]:
        """By pages where that is fewer calls, else one by one on a few threads; place by place."""
        found: dict[int, JobUpdate | StatusUnavailable] = {}
        by_place: dict[Hashable, list[JobRecord]] = {}
        for job in jobs:
            if self._is_named(job):
                by_place.setdefault(self._place(job), []).append(job)
            else:
                found[job.id] = StatusUnavailable(self.nameless)
        for group in by_place.values():
            try:
                found.update(self._observe(group))
            except CalibanError as error:
                reason = self._unreachable(error)
                found.update({job.id: reason for job in group})
        return found

    @abstractmethod
    def _place(self, job: JobRecord) -> Hashable:
        """What jobs that may be listed together have in common."""

    @abstractmethod
    def _key(self, job: JobRecord) -> str:
        """What tells the job from others of its place."""

    @abstractmethod
    def _pages(self, jobs: Sequence[JobRecord]) -> Iterator[Mapping[str, JsonObject]]:
        """Pages of the jobs of a place, by their keys; ``jobs`` are among them."""

    @abstractmethod
    def _get(self, job: JobRecord) -> JsonObject | None:
        """One job as the service has it; None when it has none of that name."""

    @abstractmethod
    def _cancel(self, job: JobRecord) -> None:
        """Ask for a job's end."""

    @abstractmethod
    def _observation(self, job: JobRecord, there: JsonObject) -> JobUpdate | StatusUnavailable:
        """A job's state, from what the service has."""

    def stop(self, job: JobRecord) -> JobUpdate:
        """Cancel the job, and look what came of it."""
        if not self._is_named(job):
            raise PlatformError("malformed-job-details", f"job {job.id} cannot be stopped", cause=self.nameless)
        try:
            self._cancel(job)
        except GoogleRefusedError as error:
            if error.code not in (400, 409):
                raise
            ended = self._ask(job)  # there is nothing to cancel in a job that has ended
            if isinstance(ended, StatusUnavailable) or not ended.status.is_final:
                raise
            return ended
        after = self._ask(job)
        return JobUpdate(JobStatus.RUNNING) if isinstance(after, StatusUnavailable) else after

    def _is_named(self, job: JobRecord) -> bool:
        return all(isinstance(job.details.get(key), str) for key in self.named_by)

    def _project(self, latest: JobRecord | None) -> str:
        """The project of ``--project_id``, else of the last attempt, else :meth:`Google.project`.

        Raises:
            UsageError: ``no-project``.
            CredentialsError: ``no-credentials``.
        """
        recorded = latest.details.get("project_id") if latest else None
        asked = self.context.project_id
        if not isinstance(recorded, str):
            return self.google.project()
        if asked and asked != recorded:
            self.context.announce(f"jobs of project {recorded} are re-run in project {asked}, as --project_id says")
            return asked
        preset = self.context.environ.get(PROJECT_VARIABLE)
        if not asked and preset and preset != recorded:
            self.context.announce(
                f"jobs of project {recorded} are re-run there, not in {preset}; --project_id moves them"
            )
        return recorded

    def _fresh(self, name: str, instead: Callable[[], str]) -> str:
        """``name``, if no other job of this process has asked for it; else ``instead()``."""
        with self._lock:
            if name in self._named:
                name = instead()
            self._named.add(name)
        return name

    def _submit_once(
        self,
        create: Callable[[], JsonObject],
        look_up: Callable[[], JsonObject | None],
        *,
        details: JsonObject,
        name: str,
        consistency_delay: float = 0,
    ) -> JsonObject:
        """The job that ``create`` asks for, once; see :func:`~caliban.platforms.submit_once.deliver`.

        Args:
            create: sends it.
            look_up: what the service has in its place.
            details: what is recorded of a job that is refused.
            name: of the job, for messages.
            consistency_delay: how long after a request a job may be missing from what ``look_up`` sees, in seconds.
        """
        stopping = self.context.stopping
        # A quota by the minute passes; one that stayed used up for a whole job's retry_policy is not waited for again.
        retry_policy = (
            replace(self.google.retry_policy, quota_deadline=0) if self._is_quota_gone else self.google.retry_policy
        )

        def send() -> JsonObject:
            created = create()
            self._is_quota_gone = False
            return created

        def refused(error: CalibanError) -> RefusedError:
            self._is_quota_gone = error.id == QUOTA_EXHAUSTED
            return refusal(error, details)

        return submit_once(
            send,
            look_up,
            name=name,
            backoff=Backoff(retry_policy, stopping, self._tell_of_quota, self.google.on_retry),
            stopping=stopping,
            refused=refused,
            consistency_delay=consistency_delay,
        )

    def _tell_of_quota(self) -> None:
        self.context.announce(
            f"{self.service_name} takes only so many requests a minute; the others wait for their turn ..."
        )

    def _observe(self, jobs: Sequence[JobRecord]) -> dict[int, JobUpdate | StatusUnavailable]:
        """The states of the jobs of one place."""
        listed = self._listed(jobs)
        found: dict[int, JobUpdate | StatusUnavailable] = {}
        rest: list[JobRecord] = []
        for job in jobs:
            there = listed.get(self._key(job))
            if there is None:
                rest.append(job)
            else:
                found[job.id] = self._observation(job, there)
        if rest:
            with ThreadPoolExecutor(min(_THREADS, len(rest))) as pool:
                found.update(zip((job.id for job in rest), pool.map(self._ask, rest), strict=True))
        return found

    def _listed(self, jobs: Sequence[JobRecord]) -> dict[str, JsonObject]:
        """Those of the jobs that turn up on pages, as long as asking for pages promises fewer calls."""
        wanted = {self._key(job) for job in jobs}
        listed: dict[str, JsonObject] = {}
        if len(wanted) <= _FEW:
            return listed
        limit = -(-len(wanted) // PAGE_SIZE) + len(wanted) // 10
        try:
            for number, page in enumerate(self._pages(jobs), start=1):
                listed.update({key: job for key, job in page.items() if key in wanted})
                if len(listed) == len(wanted) or number == limit:
                    break
        except GoogleRefusedError as error:
            if error.code != 400:  # a filter that is not understood must not hide the jobs
                raise
        return listed

    def _ask(self, job: JobRecord) -> JobUpdate | StatusUnavailable:
        try:
            there = self._get(job)
        except CalibanError as error:
            return self._unreachable(error)
        return JobUpdate(JobStatus.UNKNOWN) if there is None else self._observation(job, there)

    def _unreachable(self, error: CalibanError) -> StatusUnavailable:
        return StatusUnavailable(one_line(error))


def refusal(error: CalibanError, details: JsonObject) -> RefusedError:
    """``error`` as that of a job which for certain does not run."""
    return RefusedError(error.id, error.message, cause=error.cause, hint=error.hint, details=details)
