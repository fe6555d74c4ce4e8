"""Jobs in containers of a Docker Engine.

The recorded arguments are those of the ``docker`` client, so the client creates the containers; the Engine API does the
rest. How a container is started once: :mod:`caliban.platforms.docker.start`.
"""

from __future__ import annotations

import shutil
import socket
from collections.abc import Mapping, Sequence
from threading import Event

from caliban.attempts import Submission
from caliban.config import ProjectConfig
from caliban.errors import CalibanError, PlatformError, one_line
from caliban.escapes import escaped
from caliban.images.docker.identity import EngineIdentity
from caliban.images.registry.push import Registry
from caliban.platforms.base import (
    EXPERIMENT_LABEL,
    TOKEN_LABEL,
    ChecksJobs,
    ForegroundPlatform,
    MaySend,
    Platform,
    RemovesJobs,
)
from caliban.platforms.docker import gpu, job_spec, start
from caliban.platforms.docker.client import REMOVE_LABEL, Container, Containers, is_reference
from caliban.platforms.docker.details import (
    RUNNING_STATES,
    DockerDestination,
    container_update,
    parse_details,
    removed_update,
    stopped_update,
    submitted_details,
)
from caliban.platforms.docker.errors import (
    no_client,
    no_gpu,
    refused_arguments,
    rejected_arguments,
    translate_errors,
)
from caliban.platforms.docker.output import streamed_output
from caliban.platforms.docker.run_arguments import RunArguments, RunArgumentsError
from caliban.platforms.stored_json import one_line as one_line_of
from caliban.records import (
    Destination,
    ImageRef,
    JobDetails,
    JobRecord,
    JobStatus,
    JobUpdate,
    JsonObject,
    NewJob,
    StatusUnavailable,
)

_RESTART_DELAYS = (0.1, 0.5, 2.0, 5.0)
"""Seconds before a container that was restarted is waited for again."""


class DockerPlatform(Platform, ForegroundPlatform, ChecksJobs, RemovesJobs):
    """Containers of the Docker Engine of ``DOCKER_HOST``, or of the current docker context."""

    id = "LOCAL"
    _identity: EngineIdentity | CalibanError | None = None
    _gpu_problem: tuple[str | None] | None = None

    @classmethod
    def parse_details(cls, status: JobStatus, raw: JsonObject) -> JobDetails:
        """See :func:`caliban.platforms.docker.details.parse_details`."""
        return parse_details(status, raw)

    def destination(self, latest: JobRecord | None) -> DockerDestination:
        """Return the engine that answers. An unfinished job of another one is not run again here.

        Raises:
            PlatformError: ``job-out-of-reach``.
            ImageError: the engine cannot be reached.
        """
        here = self._here()
        if latest is not None and (obstacle := _obstacle(latest.details, here)) is not None:
            if not latest.status.is_final and latest.details.display_name is not None:
                raise _out_of_reach(f"cannot run job {latest.id} again", obstacle)
            if latest.details.display_name is not None:
                self.context.announce(f"{obstacle}: run again on the Docker Engine of {here}")
        return DockerDestination.of(here)

    def image_registry(self, config: ProjectConfig, destination: Destination | None) -> Registry | None:
        """Return None: jobs run the images of this machine's Docker Engine."""
        return None

    def connect(self, destination: Destination) -> None:
        """Connect to the Docker Engine."""
        self._here()

    def check_job(self, spec: JsonObject) -> None:
        """Check that there are a docker client and, for a job that requests GPUs, GPUs; each once.

        Raises:
            PlatformError: ``docker-client-missing``, ``gpu-unavailable``, ``malformed-job-spec``.
        """
        if shutil.which("docker", path=self.context.environ.get("PATH")) is None:
            raise no_client()
        if gpu.wants_gpu(job_spec.parse_command(spec).docker_arguments):
            if self._gpu_problem is None:
                self._gpu_problem = (gpu.missing_gpu(self.context.engine()),)
            if (reason := self._gpu_problem[0]) is not None:
                raise no_gpu(reason)

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

    def effects(self, job: JobRecord) -> tuple[str, ...]:
        """Return the arguments of ``docker run`` that are not those of every job."""
        return job_spec.effects(job.spec)

    def _arguments(self, spec: JsonObject) -> RunArguments:
        try:
            return job_spec.checked_arguments(job_spec.parse_command(spec), self.context.environ)
        except RunArgumentsError as error:
            raise rejected_arguments(error) from error

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
            return {job.id: StatusUnavailable(one_line(error)) for job in jobs}
        return {job.id: self._status(job, here, listed) for job in jobs}

    def _status(self, job: JobRecord, here: EngineIdentity, listed: Mapping[str, str]) -> JobUpdate | StatusUnavailable:
        obstacle = _obstacle(job.details, here)
        if obstacle is not None:
            return StatusUnavailable(obstacle)
        state = listed.get(job.details.id or _container_name(job))
        if state in RUNNING_STATES:
            return JobUpdate(JobStatus.RUNNING)
        try:
            with translate_errors(f"cannot determine the state of job {job.id}"):
                container = None if state is None else self._containers().inspect(_reference(job))
                return self._removed(job, here) if container is None else _update(job, container)
        except CalibanError as error:
            return StatusUnavailable(one_line(error))

    def submit(self, spec: JsonObject, submission: Submission, may_send: MaySend) -> NewJob:
        """Create the container with the recorded arguments, a name and the labels of the submission, then start it."""
        recorded, arguments = self._checked(spec, submission)
        here = self._here()
        _check_engine(submission, here)
        for flag in arguments.without_effect():
            self.context.announce(f"warning: {flag.shown} in the recorded --docker_run_args has no effect")
        command = ["docker", "create", "--name", submission.name]
        command += job_spec.credential_arguments(recorded.docker_arguments, self.context)
        command += arguments.for_create()
        command += ["--label", f"{TOKEN_LABEL}={submission.token}"]
        command += ["--label", f"{EXPERIMENT_LABEL}={submission.experiment_id}"]
        command += ["--label", REMOVE_LABEL] if arguments.removes else []
        command += [recorded.image, *recorded.arguments]
        container = start.create_and_start(
            lambda: start.create(command, recorded.image, submission, self.context, pulls=arguments.pulls),
            self._containers(),
            submission,
            may_send,
        )
        return _new_job(container, recorded.image, submission, here)

    def _checked(self, spec: JsonObject, submission: Submission) -> tuple[job_spec.DockerCommand, RunArguments]:
        recorded = job_spec.parse_command(spec)
        try:
            return recorded, job_spec.checked_arguments(recorded, self.context.environ)
        except RunArgumentsError as error:
            raise refused_arguments(submission, error) from error

    def find(self, submission: Submission) -> NewJob | None:
        """Return the container with the token of the submission; remove one that was never started."""
        here = self._here()
        _check_engine(submission, here)
        container = start.give_up(self._containers(), submission)
        if container is not None:
            return _new_job(container, container.image, submission, here)
        if not _absence_counts(DockerDestination.from_json(submission.destination), here):
            raise _out_of_reach(
                f"cannot look up the submission {submission.name}",
                f"it has no container on the Docker Engine of {here}, and may have gone to another one",
            )
        return None

    def stop(self, job: JobRecord) -> JobUpdate:
        """Stop the container as ``docker stop`` does: SIGTERM, then SIGKILL."""
        message = f"cannot stop job {job.id}"
        here = self._here()
        obstacle = _obstacle(job.details, here)
        if obstacle is not None:
            raise _out_of_reach(message, obstacle)
        with translate_errors(message):
            containers = self._containers()
            container = containers.inspect(_reference(job))
            if container is not None and container.state.is_running:
                was_running = containers.stop(container)
                container = containers.inspect(container.id)
                if was_running:
                    return stopped_update(job.details.raw, container.state if container else None)
            if container is not None:
                return _update(job, container)
            answer = self._removed(job, here)
        if isinstance(answer, StatusUnavailable):
            raise _out_of_reach(message, answer.reason)
        return answer

    def follow(self, job: JobRecord) -> JobUpdate:
        """Report the container's output until it ends for good, and return how it ended.

        A container that Docker restarts (``--restart on-failure``) has not ended.
        """
        containers, reference = self._containers(), _reference(job)
        lost = f"lost the connection to the Docker Engine while job {job.id} ran"
        delays = iter(_RESTART_DELAYS)
        clock = self.context.engine().clock
        with translate_errors(lost), streamed_output(reference, self.context, clock) as output:
            while True:
                was_answered = containers.wait(reference)
                container = containers.inspect(reference) if was_answered else containers.peek(reference)
                if container is not None and not container.state.is_running:
                    return _update(job, container)
                if was_answered:
                    if container is None:  # removed by the user, or by another command that recorded its end
                        return removed_update(job.details.raw)
                    output.restarted()
                    self.context.clock.wait(Event(), next(delays, _RESTART_DELAYS[-1]))

    def is_detached(self, job: JobRecord) -> bool:
        """Return whether the recorded arguments have ``--detach``."""
        return self._arguments(job.spec).detaches

    def remove(self, job: JobRecord) -> None:
        """Remove the container and its anonymous volumes, as ``docker run --rm`` does; leave it alone if it runs."""
        message = f"cannot remove the container of job {job.id}"
        obstacle = _obstacle(job.details, self._here())
        if obstacle is not None:
            raise _out_of_reach(message, obstacle)
        with translate_errors(message):
            found = self._containers().inspect(_reference(job))
            if found is not None:
                self._containers().remove(found.id)

    def _removed(self, job: JobRecord, here: EngineIdentity) -> JobUpdate | StatusUnavailable:
        if _absence_counts(DockerDestination.from_json(job.details.raw), here):
            return removed_update(job.details.raw)
        return StatusUnavailable(f"its container is not on the Docker Engine of {here}; it may have run on another one")

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


def _new_job(container: Container, image: ImageRef, submission: Submission, here: EngineIdentity) -> NewJob:
    details = submitted_details(submission, container.id, here, remove=container.remove_when_ended)
    if not container.state.was_started:  # until just now
        return NewJob(image, JobStatus.RUNNING, details)
    with translate_errors(f"cannot determine the state of the container {submission.name}"):
        update = container_update(details.raw, container.state)
    return NewJob(image, update.status, update.details or JobDetails())


def _update(job: JobRecord, container: Container) -> JobUpdate:
    return container_update(job.details.raw, container.state)


def _obstacle(details: JobDetails, here: EngineIdentity) -> str | None:
    """Return why the engine cannot be asked about a job; None where it can."""
    if details.display_name is None:
        return "no container name recorded"
    if not all(is_reference(text) for text in (details.display_name, details.id or details.display_name)):
        return "the recorded name or id of its container is malformed"
    recorded = DockerDestination.from_json(details.raw)
    if recorded.engine is None:  # of an earlier version, or an engine without an id
        host = details.raw.get("host")
        return None if host == socket.gethostname() else f"the job runs on {_shown(host)}"
    return _other_engine(recorded, here)


def _other_engine(recorded: DockerDestination, here: EngineIdentity) -> str | None:
    if recorded.engine in (None, here.id):
        return None
    return f"the job is on another Docker Engine ({_shown(recorded.engine_name or recorded.engine)})"


def _shown(recorded: object) -> str:
    """Return a recorded name as it may be shown: a row may have been written by anyone."""
    return escaped(one_line_of(str(recorded)) or "unknown")


def _absence_counts(recorded: DockerDestination, here: EngineIdentity) -> bool:
    """Return whether a container that this engine does not have does not exist.

    Machines that were cloned from one image may have engines of one id, but then of different names.
    """
    return recorded.engine is not None and recorded == DockerDestination.of(here)


def _check_engine(submission: Submission, here: EngineIdentity) -> None:
    obstacle = _other_engine(DockerDestination.from_json(submission.destination), here)
    if obstacle is not None:
        raise _out_of_reach(f"cannot look up the submission {submission.name}", obstacle)


def _out_of_reach(message: str, cause: str) -> PlatformError:
    return PlatformError(
        "job-out-of-reach",
        message,
        cause=cause,
        hint="run the command where DOCKER_HOST, or the docker context, names that engine",
    )


def _container_name(job: JobRecord) -> str:
    return str(job.details.display_name)


def _reference(job: JobRecord) -> str:
    """Return what names the container: its id, which no other one ever has."""
    return job.details.id or _container_name(job)
