"""Jobs in containers of this machine's Docker Engine.

The recorded arguments are those of the ``docker`` client, so the client starts the containers; docker-py does the rest.
"""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from caliban.config import ProjectConfig
from caliban.errors import CalibanError, PlatformError
from caliban.images.registry.push import Registry
from caliban.platforms.base import EXPERIMENT_LABEL, TOKEN_LABEL, ForegroundPlatform, MaySend, Platform
from caliban.platforms.docker import job_spec
from caliban.platforms.docker.details import (
    RUNNING_STATES,
    DockerDestination,
    container_update,
    parse_details,
    removed_update,
    stopped_update,
    submitted_details,
    was_refused,
)
from caliban.platforms.docker.errors import client_missing, not_started, translate_errors
from caliban.platforms.docker.output import streamed_output
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
    Submission,
)

if TYPE_CHECKING:
    import docker

_STOP_TIMEOUT = 10
"""Seconds between SIGTERM and SIGKILL, the default of ``docker stop``."""

_DROPPED_ARGUMENTS = ("--rm", "--rm=true")
"""A container that removes itself removes its exit code too."""


class DockerPlatform(Platform, ForegroundPlatform):
    """Containers of the Docker Engine of ``DOCKER_HOST``, or of the current docker context."""

    id = "LOCAL"

    @classmethod
    def parse_details(cls, status: JobStatus, raw: JsonObject) -> JobDetails:
        """See :func:`caliban.platforms.docker.details.parse_details`."""
        return parse_details(status, raw)

    def destination(self, latest: JobRecord | None) -> DockerDestination:
        """Return the only destination: this machine."""
        return DockerDestination()

    def image_registry(self, config: ProjectConfig, destination: Destination | None) -> Registry | None:
        """Return None: jobs run the images of this machine's Docker Engine."""
        return None

    def connect(self, destination: Destination) -> None:
        """Connect to the Docker Engine."""
        self.context.engine()

    def with_image(self, spec: JsonObject, image: ImageRef) -> JsonObject:
        """Return the same command with another image."""
        return job_spec.with_image(spec, image)

    def with_arguments(self, spec: JsonObject, image: ImageRef, arguments: Sequence[str]) -> JsonObject:
        """Return the same ``docker run`` arguments with another image and other arguments of its entrypoint."""
        return job_spec.with_arguments(spec, image, arguments)

    def effects(self, job: JobRecord) -> tuple[str, ...]:
        """Return the arguments of ``docker run`` that are not those of every job."""
        return job_spec.effects(job.spec)

    def job_name(self, spec: JsonObject, token: str) -> str:
        """Return ``caliban-20200529-105340-<start of the token>``: sorted by time, and unique."""
        return f"caliban-{self.context.clock.now():%Y%m%d-%H%M%S}-{token[:8]}"

    def statuses(self, jobs: Sequence[JobRecord]) -> Mapping[int, JobUpdate | StatusUnavailable]:
        """List all containers in one request, and inspect each that has ended."""
        found: dict[int, JobUpdate | StatusUnavailable] = {}
        here: dict[str, JobRecord] = {}
        for job in jobs:
            obstacle = _obstacle(job)
            if obstacle is None:
                here[_container_name(job)] = job
            else:
                found[job.id] = StatusUnavailable(obstacle)
        if here:
            try:
                found.update(self._container_updates(here))
            except CalibanError as error:
                found.update({job.id: StatusUnavailable(error.message) for job in here.values()})
        return found

    def _container_updates(self, jobs: Mapping[str, JobRecord]) -> dict[int, JobUpdate]:
        with translate_errors("cannot list containers"):
            listed = self._api().containers(all=True, filters={"label": TOKEN_LABEL})
            states = {name.lstrip("/"): entry["State"] for entry in listed for name in entry["Names"]}
            return {job.id: self._container_update(name, job, states.get(name)) for name, job in jobs.items()}

    def _container_update(self, name: str, job: JobRecord, state: str | None) -> JobUpdate:
        if state in RUNNING_STATES:
            return JobUpdate(JobStatus.RUNNING)
        inspected = None if state is None else self._inspect(name)
        return container_update(job.details.raw, inspected) if inspected else removed_update(job.details.raw)

    def submit(self, spec: JsonObject, submission: Submission, may_send: MaySend) -> NewJob:
        """Run ``docker run --detach`` with the recorded arguments, a name and the labels of the submission."""
        recorded = job_spec.parse_command(spec)
        command = ["docker", "run", "--detach", "--name", submission.name]
        command += ["--label", f"{TOKEN_LABEL}={submission.token}"]
        command += ["--label", f"{EXPERIMENT_LABEL}={submission.experiment_id}"]
        command += job_spec.credential_arguments(recorded.docker_arguments, self.context)
        command += [word for word in recorded.docker_arguments if word not in _DROPPED_ARGUMENTS]
        may_send()
        try:
            ended = subprocess.run(
                [*command, recorded.image, *recorded.arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                env=dict(self.context.environ),
                start_new_session=True,  # Ctrl-C must not interrupt the request
                check=False,
            )
        except OSError as error:
            raise client_missing(submission, error) from error
        if ended.returncode != 0:
            return self._adopt(submission, ended.stderr.decode("utf-8", "backslashreplace"), ended.returncode)
        container_id = ended.stdout.decode().strip().splitlines()[-1]
        return NewJob(recorded.image, JobStatus.RUNNING, submitted_details(submission, container_id))

    def _adopt(self, submission: Submission, stderr: str, exit_code: int) -> NewJob:
        """Return the container of the submission if it was started; remove one that was created only.

        Raises:
            RefusedError: no container was started.
        """
        found = self.find(submission)
        if found is not None and not was_refused(found.details):
            return found
        if found is not None:
            with translate_errors(f"cannot remove the container {submission.name}, which did not start"):
                self._api().remove_container(submission.name, force=True)
        raise not_started(submission, stderr, exit_code)

    def find(self, submission: Submission) -> NewJob | None:
        """Return the container with the token of the submission."""
        with translate_errors("cannot check whether the container was started"):
            api = self._api()
            found = api.containers(all=True, filters={"label": f"{TOKEN_LABEL}={submission.token}"})
            if not found:
                return None
            inspected = api.inspect_container(found[0]["Id"])
        update = container_update(submitted_details(submission, inspected["Id"]).raw, inspected["State"])
        return NewJob(inspected["Config"]["Image"], update.status, update.details or JobDetails())

    def stop(self, job: JobRecord) -> JobUpdate:
        """Stop the container as ``docker stop`` does: SIGTERM, then SIGKILL."""
        import docker.errors

        obstacle = _obstacle(job)
        if obstacle is not None:
            raise PlatformError("job-out-of-reach", f"cannot stop job {job.id}", cause=obstacle)
        name, raw = _container_name(job), job.details.raw
        with translate_errors(f"cannot stop job {job.id}"):
            state = self._inspect(name)
            if state is None:
                return removed_update(raw)
            if state["Status"] not in RUNNING_STATES:
                return container_update(raw, state)
            try:
                self._api().stop(name, timeout=_STOP_TIMEOUT)
            except docker.errors.NotFound:  # removed in the meantime, and so stopped
                return stopped_update(raw, None)
            return stopped_update(raw, self._inspect(name))

    def follow(self, job: JobRecord) -> JobUpdate:
        """Report the container's output until it ends, and return how it ended."""
        name = _container_name(job)
        with (
            translate_errors(f"lost the connection to the Docker Engine while job {job.id} ran"),
            streamed_output(name, self.context),
        ):
            api = self._api()
            api.wait(name)
            return container_update(job.details.raw, api.inspect_container(name)["State"])

    def _inspect(self, name: str) -> Mapping[str, Any] | None:
        """Return ``State`` of a container; None where there is no such container."""
        import docker.errors

        try:
            state: Mapping[str, Any] = self._api().inspect_container(name)["State"]
        except docker.errors.NotFound:
            return None
        return state

    def _api(self) -> docker.APIClient:
        return self.context.engine().client.api


def _obstacle(job: JobRecord) -> str | None:
    """Return why this machine's engine does not know a job; None where it does."""
    if job.details.display_name is None:
        return "no container name recorded"
    host = job.details.raw.get("host")
    return None if host == socket.gethostname() else f"the job runs on {host}"


def _container_name(job: JobRecord) -> str:
    return str(job.details.display_name)
