"""Jobs in containers of a Docker Engine.

The recorded arguments are those of the ``docker`` client, so the client creates the containers; the Engine API does the
rest. How a container is started once: :mod:`caliban.platforms.docker.start`.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path

from caliban.attempts import Submission
from caliban.config import ProjectConfig
from caliban.errors import CalibanError
from caliban.images.docker.endpoint import is_engine_here
from caliban.images.docker.engine import ANSWER_SECONDS
from caliban.images.docker.identity import EngineIdentity
from caliban.images.image_platform import platform_of_local_jobs
from caliban.images.registry.push import Registry
from caliban.platforms.base import (
    ChecksJobs,
    ForegroundPlatform,
    KillsJobs,
    LogRequest,
    LogSource,
    MaySend,
    Platform,
    RemovesJobs,
    unavailable,
)
from caliban.platforms.context import PlatformContext
from caliban.platforms.docker import job_spec, mounts, start, where
from caliban.platforms.docker.client import IMPATIENT_SECONDS, Container, Containers, stop_seconds
from caliban.platforms.docker.create_command import create_command
from caliban.platforms.docker.details import (
    DockerDestination,
    container_update,
    parse_details,
    removed_update,
    stopped_update,
    submitted_details,
)
from caliban.platforms.docker.errors import refused_arguments, rejected_arguments, translate_errors
from caliban.platforms.docker.following import follow
from caliban.platforms.docker.job_outputs import JobOutputs
from caliban.platforms.docker.logs import gone, job_lines
from caliban.platforms.docker.needs import Needs
from caliban.platforms.docker.resource_changes import DockerResources
from caliban.platforms.docker.run_arguments import RunArguments, RunArgumentsError
from caliban.platforms.docker.state import RUNNING_STATES
from caliban.records import (
    Destination,
    ImageRef,
    JobDetails,
    JobRecord,
    JobStatus,
    JobUpdate,
    JsonObject,
    NewJob,
    OutputLine,
    StatusUnavailable,
)
from caliban.store.owner import machine_id


class DockerPlatform(DockerResources, Platform, ForegroundPlatform, LogSource, ChecksJobs, KillsJobs, RemovesJobs):
    """Containers of the Docker Engine of ``DOCKER_HOST``, or of the current docker context."""

    id = "LOCAL"
    _identity: EngineIdentity | CalibanError | None = None
    _needs: Needs | None = None

    @classmethod
    def parse_details(cls, status: JobStatus, raw: JsonObject) -> JobDetails:
        """See :func:`caliban.platforms.docker.details.parse_details`."""
        return parse_details(status, raw)

    def __init__(self, context: PlatformContext) -> None:
        super().__init__(context)
        self._outputs = JobOutputs(context)

    def destination(self, latest: JobRecord | None) -> DockerDestination:
        """Return the engine that answers. An unfinished job of another one is not run again here.

        Raises:
            PlatformError: ``job-out-of-reach``.
            ImageError: the engine cannot be reached.
        """
        here = self._here()
        obstacle = None if latest is None else where.other_engine(latest.details, here, self._machine())
        if latest is not None and obstacle is not None and latest.details.display_name is not None:
            if latest.status.is_final:
                self.context.announce(f"{obstacle}: run again on the Docker Engine of {here}")
            elif self._found(latest) is None:
                raise where.out_of_reach(f"cannot run job {latest.id} again", obstacle)
        return DockerDestination.of(here)

    @classmethod
    def without_names(cls, destination: JsonObject) -> JsonObject:
        """Return the id of an engine; one without an id is told from others by its name."""
        engine = where.id_without_name(destination)
        return destination if engine is None else {"engine": engine}

    def image_registry(self, config: ProjectConfig, destination: Destination | None) -> Registry | None:
        """Return None: jobs run the images of this machine's Docker Engine."""
        return None

    def image_platform(self, config: ProjectConfig, spec: JsonObject) -> str | None:
        """Return ``--platform`` of the recorded arguments, or what ``docker create`` would assume without it."""
        return self._arguments(spec).platform or platform_of_local_jobs(self.context.environ)

    def connect(self, destination: Destination) -> None:
        """Connect to the Docker Engine, and report which files of this machine it does not have."""
        self._here()
        for warning in job_spec.credential_warnings(self.context):
            self.context.warn(warning)

    def check_job(self, spec: JsonObject) -> None:
        """Check that there are a docker client and, for a job that requests GPUs, GPUs."""
        self._needs = self._needs or Needs(self.context)
        self._needs.check(spec)

    def with_image(self, spec: JsonObject, image: ImageRef) -> JsonObject:
        """Return the same command with another image.

        Raises:
            PlatformError: ``malformed-job-spec``, ``docker-run-args-rejected``.
        """
        self._arguments(spec)
        return job_spec.with_image(spec, image)

    def with_arguments(self, spec: JsonObject, image: ImageRef, arguments: Sequence[str]) -> JsonObject:
        """Return the same ``docker run`` arguments with another image and other arguments of its entrypoint.

        Raises:
            PlatformError: ``malformed-job-spec``, ``docker-run-args-rejected``.
        """
        self._arguments(spec)
        return job_spec.with_arguments(spec, image, arguments)

    def with_absolute_paths(self, spec: JsonObject, directory: Path | None) -> JsonObject:
        """Return the spec with absolute paths in its ``docker run`` arguments.

        Raises:
            PlatformError: ``malformed-job-spec``, ``docker-run-args-rejected``.
        """
        try:
            located, warnings = job_spec.with_absolute_paths(spec, directory, self.context)
        except RunArgumentsError as error:
            raise rejected_arguments(error) from error
        for warning in warnings:
            self.context.warn(warning)
        return located

    def effects(self, job: JobRecord) -> tuple[str, ...]:
        """Return the arguments of ``docker run`` that are not those of every job."""
        return job_spec.effects(job.spec)

    def _arguments(self, spec: JsonObject) -> RunArguments:
        try:
            arguments = job_spec.checked_arguments(job_spec.parse_command(spec), self.context.environ)
            for warning in mounts.warnings(arguments, self.context.environ):
                self.context.warn(warning)
        except RunArgumentsError as error:
            raise rejected_arguments(error) from error
        return arguments

    def job_name(self, spec: JsonObject, token: str) -> str:
        """Return ``caliban-20200529-105340-<start of the token>``: sorted by time, and unique."""
        return f"caliban-{self.context.clock.now():%Y%m%d-%H%M%S}-{token[:8]}"

    def statuses(self, jobs: Sequence[JobRecord]) -> Mapping[int, JobUpdate | StatusUnavailable]:
        """List all containers in one request, and inspect each that has ended."""
        if not jobs:
            return {}
        try:
            here = self._here()
            with translate_errors("cannot list containers"):
                listed = self._containers().listed()
        except CalibanError as error:
            return {job.id: unavailable(error) for job in jobs}
        return {job.id: self._status(job, here, listed) for job in jobs}

    def _status(self, job: JobRecord, here: EngineIdentity, listed: Mapping[str, str]) -> JobUpdate | StatusUnavailable:
        if (obstacle := where.unnamed(job.details)) is not None:
            return StatusUnavailable(obstacle, is_permanent=True)
        state = listed.get(job.details.id or _container_name(job))
        if state in RUNNING_STATES:
            return JobUpdate(JobStatus.RUNNING)
        try:
            with translate_errors(f"cannot determine the state of job {job.id}"):
                container = None if state is None else self._kept(_reference(job))
                return self._removed(job, here) if container is None else _update(job, container)
        except CalibanError as error:
            return unavailable(error)

    def submit(self, spec: JsonObject, submission: Submission, may_send: MaySend) -> NewJob:
        """Create the container with the recorded arguments, a name and the labels of the submission, then start it."""
        recorded, arguments = self._checked(spec, submission)
        here = self._here()
        where.check_engine(submission, here, self._machine())
        for flag in arguments.without_effect():
            self.context.announce(f"warning: {flag.shown} in the recorded --docker_run_args has no effect")
        entrypoint = self.context.engine().image_entrypoint(recorded.image)
        command = create_command(recorded, arguments, submission, entrypoint or (), here, self.context)
        downloads = arguments.pulls or entrypoint is None
        containers = self._containers()
        try:
            container = start.create_and_start(
                lambda: start.create(command, recorded.image, submission, self.context, downloads=downloads),
                containers,
                submission,
                may_send,
                lambda created: None if arguments.detaches else self._outputs.attach(containers, created),
            )
        except BaseException:
            self._outputs.detach()
            raise
        return self._new_job(container, recorded.image, submission, here)

    def _checked(self, spec: JsonObject, submission: Submission) -> tuple[job_spec.DockerCommand, RunArguments]:
        recorded = job_spec.parse_command(spec)
        try:
            return recorded, job_spec.checked_arguments(recorded, self.context.environ)
        except RunArgumentsError as error:
            raise refused_arguments(submission, error) from error

    def find(self, submission: Submission) -> NewJob | None:
        """Return the container with the token of the submission; remove one that was never started."""
        here = self._here()
        container = start.give_up(self._containers(), submission)
        if container is not None:  # wherever it was to go, this is the engine that it went to
            return self._new_job(container, container.image, submission, here)
        where.check_engine(submission, here, self._machine())
        if not where.absence_counts(submission.destination, where.submitted_on(submission), here, self._machine()):
            raise where.out_of_reach(
                f"cannot look up the submission {submission.name}",
                f"it has no container on the Docker Engine of {here}, and may have gone to another one",
            )
        return None

    def grace_seconds(self, job: JobRecord) -> float:
        """Return what ``--stop-timeout`` says: the default of 10 s is less than a minute."""
        seconds = self._arguments(job.spec).stop_seconds
        return 0 if seconds is None else stop_seconds(seconds)

    def stop(self, job: JobRecord) -> JobUpdate:
        """Stop the container as ``docker stop`` does: by its signal, then SIGKILL. What it writes is still reported."""
        return self._ended(job, f"cannot stop job {job.id}", Containers.stop)

    def kill(self, job: JobRecord) -> JobUpdate:
        """Kill the container, as ``docker kill`` does."""
        return self._ended(job, f"cannot kill job {job.id}", Containers.kill, IMPATIENT_SECONDS)

    def _ended(
        self,
        job: JobRecord,
        message: str,
        end: Callable[[Containers, Container], bool],
        seconds: float = ANSWER_SECONDS,
    ) -> JobUpdate:
        try:
            update = self._end(job, message, end, seconds)
            if update.status is JobStatus.STOPPED:
                self._outputs.finish_soon(job.id)
        except KeyboardInterrupt:  # it is stopped in another way next
            raise
        except BaseException:
            self._outputs.close(job.id)
            raise
        self._outputs.close(job.id)
        return update

    def _end(
        self, job: JobRecord, message: str, end: Callable[[Containers, Container], bool], seconds: float
    ) -> JobUpdate:
        here = self._here()
        if (obstacle := where.unnamed(job.details)) is not None:
            raise where.out_of_reach(message, obstacle)
        with translate_errors(message):
            containers = self._containers()
            container = containers.inspect(_reference(job), seconds=seconds)
            if container is not None and container.state.is_running:
                was_running = end(containers, container)
                container = self._kept(container.id, is_followed=self._outputs.follows(job.id))
                if was_running:
                    return stopped_update(job.details.raw, container.state if container else None)
            if container is not None:
                if not self._outputs.follows(job.id):
                    self._outputs.keep(containers, container)
                return _update(job, container)
            answer = self._removed(job, here)
        if isinstance(answer, StatusUnavailable):
            raise where.out_of_reach(message, answer.reason)
        return answer

    def follow(self, job: JobRecord) -> JobUpdate:
        """Report the container's output until it ends for good, and return how it ended.

        A container that Docker restarts (``--restart on-failure``) has not ended.
        """
        return follow(job, _reference(job), self._containers(), self._outputs, self.context)

    def logs(self, job: JobRecord, request: LogRequest) -> Generator[OutputLine, None, None]:
        """Yield the log of the container; the log file of this machine is read by those who ask for it."""
        if (obstacle := where.unnamed(job.details)) is not None:
            raise gone(job, f"{obstacle}; caliban 0.4.2 records none")
        here = self._here()
        if self._found(job) is None:
            answer = self._removed(job, here)
            if isinstance(answer, StatusUnavailable):
                raise where.out_of_reach(f"cannot read the output of job {job.id}", answer.reason)
            raise gone(job, "its container was removed")
        yield from job_lines(job, _reference(job), self._containers(), request, self.context.stopping)

    def is_detached(self, job: JobRecord) -> bool:
        """Return whether the recorded arguments have ``--detach``."""
        return self._arguments(job.spec).detaches

    def remove(self, job: JobRecord) -> None:
        """Remove the container and its anonymous volumes, as ``docker run --rm`` does; leave it alone if it runs."""
        message = f"cannot remove the container of job {job.id}"
        here = self._here()
        if (obstacle := where.unnamed(job.details)) is not None:
            raise where.out_of_reach(message, obstacle)
        with translate_errors(message):
            found = self._found(job)
            if found is not None:
                self._containers().remove(found.id)
        if found is None and (obstacle := where.other_engine(job.details, here, self._machine())) is not None:
            raise where.out_of_reach(message, obstacle)

    def _removed(self, job: JobRecord, here: EngineIdentity) -> JobUpdate | StatusUnavailable:
        """Return the state of a job whose container the engine does not have."""
        raw, machine = job.details.raw, self._machine()
        if (obstacle := where.other_engine(job.details, here, machine)) is not None:
            return StatusUnavailable(obstacle, is_permanent=True)
        if where.absence_counts(raw, where.recorded_machine(raw), here, machine):
            return removed_update(raw)
        reason = f"its container is not on the Docker Engine of {here}; it may have run on another one"
        return StatusUnavailable(reason, is_permanent=True)

    def _found(self, job: JobRecord) -> Container | None:
        """Return the container of a job, if this engine has it, whatever the engine is called."""
        if where.unnamed(job.details) is not None:
            return None
        with translate_errors(f"cannot look for the container of job {job.id}"):
            return self._containers().inspect(_reference(job))

    def _kept(self, reference: str, *, is_followed: bool = False) -> Container | None:
        """Return a container; if it has ended, its output is kept in its log file."""
        containers = self._containers()
        container = containers.inspect(reference)
        if container is not None and not is_followed:
            self._outputs.keep(containers, container)
        return container

    def _machine(self) -> str | None:
        """Return which machine the engine is on; None where that is not certain to be this one."""
        is_here = is_engine_here(self.context.environ) and self._here().name == socket.gethostname()
        return machine_id() if is_here else None

    def _new_job(self, container: Container, image: ImageRef, submission: Submission, here: EngineIdentity) -> NewJob:
        remove = container.remove_when_ended
        details = submitted_details(submission, container.id, here, machine=self._machine(), remove=remove)
        if not container.state.was_started:  # until just now
            return NewJob(image, JobStatus.RUNNING, details)
        self._outputs.keep(self._containers(), container)
        with translate_errors(f"cannot determine the state of the container {submission.name}"):
            update = container_update(details.raw, container.state)
        return NewJob(image, update.status, update.details or JobDetails())

    def _here(self) -> EngineIdentity:
        """Return which engine answers. It is asked once: an engine that cannot be reached is not waited for again."""
        if self._identity is None:
            try:
                self._identity = self.context.engine().identity()
            except CalibanError as error:
                self._identity = error
        if isinstance(self._identity, CalibanError):
            raise self._identity
        return self._identity

    def _containers(self) -> Containers:
        return Containers(self.context.engine())


def _update(job: JobRecord, container: Container) -> JobUpdate:
    return container_update(job.details.raw, container.state, job_spec.time_limit(job.spec), container.stop_seconds)


def _container_name(job: JobRecord) -> str:
    return str(job.details.display_name)


def _reference(job: JobRecord) -> str:
    """Return what names the container: its id, which no other one ever has."""
    return job.details.id or _container_name(job)
