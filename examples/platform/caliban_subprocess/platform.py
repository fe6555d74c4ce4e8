"""The platform SUBPROCESS: jobs are processes of this machine, started in the project's directory, without an image.

A job spec is ``{"directory": <the project's>, "command": ["python", "train.py"], "arguments": ["--foo", "3"]}``.
"""

from __future__ import annotations

import shlex
import shutil
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from caliban.attempts import Submission
from caliban.errors import PlatformError
from caliban.platforms.base import LogRequest, LogSource, MaySend, Platform, RefusedError, RemotePlatform
from caliban.records import (
    Destination,
    FailureCause,
    ImageRef,
    JobDetails,
    JobExit,
    JobRecord,
    JobStatus,
    JobUpdate,
    JsonObject,
    NewJob,
    OutputLine,
    StatusUnavailable,
)
from caliban_subprocess import output, processes
from caliban_subprocess.processes import State

if TYPE_CHECKING:
    from caliban.config import ProjectConfig
    from caliban.images.registry.push import Registry

_CAUSES = {
    JobStatus.FAILED: FailureCause.CODE_ERROR,
    JobStatus.STOPPED: FailureCause.STOPPED,
    JobStatus.UNKNOWN: FailureCause.UNKNOWN,
}


@dataclass(frozen=True)
class SubprocessDestination(Destination):
    """The machine, and the directory there in which each job has a directory of its own."""

    host: str
    directory: str

    def to_json(self) -> JsonObject:
        """Return ``{"host": ..., "directory": ...}``."""
        return asdict(self)

    @classmethod
    def from_json(cls, raw: JsonObject) -> SubprocessDestination | None:
        """Read what :meth:`to_json` returned; None where it is missing or malformed."""
        host, directory = raw.get("host"), raw.get("directory")
        return cls(host, directory) if isinstance(host, str) and isinstance(directory, str) else None


class SubprocessPlatform(Platform, RemotePlatform, LogSource):
    """Processes that run on after the command."""

    id = "SUBPROCESS"
    needs_image = False

    @classmethod
    def parse_details(cls, status: JobStatus, raw: JsonObject) -> JobDetails:
        """Read ``name``, ``host``, ``directory``; ``ret_code``, ``reason`` of an ended job; ``error`` of a refusal."""
        name, code, error = raw.get("name"), raw.get("ret_code"), raw.get("error")
        message = error or raw.get("reason")
        job_exit = JobExit(
            code if isinstance(code, int) else None,
            FailureCause.REFUSED if error else _CAUSES.get(status),
            " ".join(str(message).split()) if message else None,
        )
        return JobDetails(
            raw,
            display_name=name if isinstance(name, str) else None,
            destination=SubprocessDestination.from_json(raw),
            exit=job_exit if status in (*_CAUSES, JobStatus.SUCCEEDED) else None,
        )

    def destination(self, latest: JobRecord | None) -> SubprocessDestination:
        """Return a directory of this machine: a job that ran on another one runs here again."""
        directory = self.context.environ.get("CALIBAN_SUBPROCESS_DIR", self.context.home / ".caliban" / "subprocess")
        return SubprocessDestination(socket.gethostname(), str(Path(directory).absolute()))

    def image_registry(self, config: ProjectConfig, destination: Destination | None) -> Registry | None:
        """Return None: there are no images."""

    def connect(self, destination: Destination) -> None:
        """Create the directory for the jobs."""
        assert isinstance(destination, SubprocessDestination)
        with _errors(f"cannot create the directory {destination.directory}"):
            Path(destination.directory).mkdir(mode=0o700, parents=True, exist_ok=True)

    def statuses(self, jobs: Sequence[JobRecord]) -> Mapping[int, JobUpdate | StatusUnavailable]:
        """Read the directory of each job; a service would be queried for all of them in one request."""
        return {job.id: self._status(job) for job in jobs}

    def _status(self, job: JobRecord) -> JobUpdate | StatusUnavailable:
        try:
            return self._update(job.details, _read(job.details))
        except PlatformError as error:
            return StatusUnavailable(error.message)

    def _update(self, details: JobDetails, state: State | None) -> JobUpdate:
        if state is not None and state.is_running:
            return JobUpdate(JobStatus.RUNNING)
        if state is None or (state.code is None and not state.is_stopped):
            reason = {"reason": "it ended without an exit code"}
            return JobUpdate(JobStatus.UNKNOWN, self.parse_details(JobStatus.UNKNOWN, {**details.raw, **reason}))
        ended = JobStatus.FAILED if state.code else JobStatus.SUCCEEDED
        status = JobStatus.STOPPED if state.is_stopped else ended
        return JobUpdate(status, self.parse_details(status, {**details.raw, "ret_code": state.code}))

    def with_image(self, spec: JsonObject, image: ImageRef) -> JsonObject:
        """Return the spec with another directory."""
        _check(spec)
        return {**spec, "directory": image}

    def with_arguments(self, spec: JsonObject, image: ImageRef, arguments: Sequence[str]) -> JsonObject:
        """Return the spec with another directory and other arguments."""
        return {**self.with_image(spec, image), "arguments": list(arguments)}

    def job_name(self, spec: JsonObject, token: str) -> str:
        """Return a name for the job's directory, with the whole token."""
        return f"job-{token}"

    def submit(self, spec: JsonObject, submission: Submission, may_send: MaySend) -> NewJob:
        """Start the process, unless one was started for the token before."""
        cwd, command = _check(spec)
        found = self.find(submission)
        if found is not None:
            return found
        details = self._details(submission)
        if not Path(cwd).is_dir():
            raise _refused(details, f"directory not found: {cwd}")
        if shutil.which(command[0], path=self.context.environ.get("PATH")) is None:
            raise _refused(details, f"command not found: {command[0]}")
        may_send()
        with _errors(f"cannot start {submission.name}"):
            processes.start(_directory(details), command, cwd, self.context.environ)
            found = self.find(submission)
            if found is None:
                raise OSError("its process id could not be recorded")
        return found

    def find(self, submission: Submission) -> NewJob | None:
        """Return the process that was started for the token, whether it still runs or not."""
        details = self._details(submission)
        state = _read(details)
        if state is None:
            return None
        update = self._update(details, state)
        return NewJob(state.cwd, update.status, update.details or details)

    def _details(self, submission: Submission) -> JobDetails:
        return self.parse_details(JobStatus.RUNNING, {"name": submission.name, **submission.destination})

    def stop(self, job: JobRecord) -> JobUpdate:
        """Send SIGTERM to the process and its children, and SIGKILL ten seconds later."""
        state = _read(job.details)
        if state is not None and state.is_running:
            with _errors(f"cannot stop job {job.id}"):
                processes.stop(_directory(job.details), lambda seconds: self.context.clock.wait(Event(), seconds))
        return self._update(job.details, _read(job.details))

    def links(self, job: JobRecord) -> Sequence[str]:
        """Return the command that shows the job's output."""
        return (f"tail -f {shlex.quote(str(_directory(job.details) / 'output'))}",)

    def logs(self, job: JobRecord, request: LogRequest) -> Iterator[OutputLine]:
        """Yield the lines of the file that the process writes to."""
        directory, stopping = _directory(job.details), self.context.stopping

        def is_running() -> bool:
            state = processes.read(directory)
            return state is not None and state.is_running

        try:
            yield from output.read(
                directory / "output", request, is_running, lambda seconds: self.context.clock.wait(stopping, seconds)
            )
        except FileNotFoundError:
            raise PlatformError("output-gone", f"the output of job {job.id} was removed") from None
        except OSError as error:
            raise PlatformError("process-error", f"cannot read the output of job {job.id}", cause=str(error)) from error


def _check(spec: JsonObject) -> tuple[str, list[str]]:
    """Return the directory and the command line of a job spec."""
    directory, command, arguments = spec.get("directory"), spec.get("command"), spec.get("arguments")
    if isinstance(directory, str) and isinstance(command, list) and isinstance(arguments, list) and command:
        return directory, [str(word) for word in (*command, *arguments)]
    cause = 'expected {"directory": ..., "command": [...], "arguments": [...]}'
    raise PlatformError("malformed-job-spec", "the recorded job cannot be run again", cause=cause)


def _directory(details: JobDetails) -> Path:
    """Return the directory of a job of this machine."""
    destination = details.destination
    if not isinstance(destination, SubprocessDestination) or details.display_name is None:
        raise PlatformError("malformed-job-details", "the directory of the job is not recorded")
    if destination.host != socket.gethostname():
        raise PlatformError("other-host", f"the job runs on {destination.host}", hint="run the command there")
    return Path(destination.directory) / details.display_name


def _read(details: JobDetails) -> State | None:
    directory = _directory(details)
    with _errors(f"cannot read the state of {details.display_name}"):
        directory.parent.stat()  # without it, nothing is known of its jobs
        return processes.read(directory)


def _refused(details: JobDetails, cause: str) -> RefusedError:
    message = f"{details.display_name} was not started"
    return RefusedError("process-not-started", message, cause=cause, details=details.raw)


@contextmanager
def _errors(message: str) -> Iterator[None]:
    """Raise PlatformError for OSError: whether the job runs is then unknown."""
    try:
        yield
    except OSError as error:
        raise PlatformError("process-error", message, cause=str(error)) from error
