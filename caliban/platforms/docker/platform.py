"""Jobs in containers on this machine's Docker Engine.

A job spec has the shape that caliban 0.4.2 records: ``{"command": ["docker", "run", <args>, <image>, <words>],
"container": <image>}``, so that either can re-run the other's. The recorded arguments are those of the ``docker``
client, so the client starts the container; docker-py asks after it.
"""

from __future__ import annotations

import csv
import io
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from caliban.errors import CalibanError, PlatformError
from caliban.platforms.base import (
    EXPERIMENT_LABEL,
    TOKEN_LABEL,
    ForegroundPlatform,
    JobUpdate,
    Platform,
    RefusedError,
    StatusUnavailable,
)
from caliban.records import ImageRef, JobRecord, JobStatus, JsonObject, NewJob, PlatformName, Submission

CREDENTIALS_IN_CONTAINER = "/.caliban/credentials.json"
_CREDENTIALS_VARIABLE = "GOOGLE_APPLICATION_CREDENTIALS"
_DEFAULT_CREDENTIALS = Path(".config/gcloud/application_default_credentials.json")
# https://cloud.google.com/docs/authentication/application-default-credentials

_RUNNING = ("running", "paused", "restarting")
_STOP_SECONDS = 10  # what `docker stop` gives a container before it kills it
_LEFT_OUT = ("--rm", "--rm=true")  # a container that removes itself takes its exit code with it


def new_job_spec(image: ImageRef, words: Sequence[str], *, docker_run_args: Sequence[str], gpu: bool) -> JsonObject:
    """The spec of a job that runs ``image`` with ``words`` as the arguments of its entry point."""
    command = ["docker", "run", *(["--gpus", "all"] if gpu else []), "--ipc", "host"]
    command += ["-e", "PYTHONUNBUFFERED=1", *docker_run_args, image, *words]
    return {"command": command, "container": image}


class LocalPlatform(Platform, ForegroundPlatform):
    """Containers of the Docker Engine that ``DOCKER_HOST`` or the default socket reaches."""

    name = PlatformName.LOCAL

    def connect(self, target: JsonObject) -> None:
        """Connect to the Docker Engine."""
        self.context.engine()

    def statuses(self, jobs: Sequence[JobRecord]) -> Mapping[int, JobUpdate | StatusUnavailable]:
        """One call lists the containers of all jobs, and one more reads the exit code of each that ended."""
        polls: dict[int, JobUpdate | StatusUnavailable] = {}
        ours: dict[str, JobRecord] = {}
        for job in jobs:
            name, host = job.details.get("name"), job.details.get("host")
            if not isinstance(name, str):
                polls[job.id] = StatusUnavailable("no container name is recorded")
            elif host != socket.gethostname():
                polls[job.id] = StatusUnavailable(f"it runs on {host}")
            else:
                ours[name] = job
        if ours:
            try:
                polls.update(self._observe(ours))
            except CalibanError as error:
                polls.update({job.id: StatusUnavailable(error.message) for job in ours.values()})
        return polls

    def _observe(self, jobs: Mapping[str, JobRecord]) -> dict[int, JobUpdate]:
        with self._translate_errors("the containers of running jobs cannot be listed"):
            api = self.context.engine().client.api
            listed = api.containers(all=True, filters={"label": TOKEN_LABEL})
            states = {name.lstrip("/"): entry["State"] for entry in listed for name in entry["Names"]}
            observed = {}
            for name, job in jobs.items():
                if name not in states:
                    observed[job.id] = _removed(job.details)
                elif states[name] in _RUNNING:
                    observed[job.id] = JobUpdate(JobStatus.RUNNING)
                else:
                    observed[job.id] = _ended(job.details, api.inspect_container(name)["State"])
        return observed

    def with_image(self, spec: JsonObject, image: ImageRef) -> JsonObject:
        """The same command with another image."""
        arguments, _, words = _split(spec)
        return {**spec, "command": ["docker", "run", *arguments, image, *words], "container": image}

    def with_arguments(self, spec: JsonObject, image: ImageRef, arguments: Sequence[str]) -> JsonObject:
        """The same ``docker run`` arguments, with another image and other words behind it."""
        docker_arguments, _, _ = _split(spec)
        return {**spec, "command": ["docker", "run", *docker_arguments, image, *arguments], "container": image}

    def target(self, latest: JobRecord | None) -> JsonObject:
        """There is one place: here."""
        return {}

    def job_name(self, spec: JsonObject, token: str) -> str:
        """``caliban-20200529-105340-<first half of the token>``: sorts by time, and says whose it is."""
        return f"caliban-{datetime.now():%Y%m%d-%H%M%S}-{token[:8]}"

    def submit(self, spec: JsonObject, submission: Submission) -> NewJob:
        """``docker run --detach`` with the recorded arguments, a name and the labels of the submission."""
        arguments, image, words = _split(spec)
        command = ["docker", "run", "--detach", "--name", submission.name]
        command += ["--label", f"{TOKEN_LABEL}={submission.token}"]
        command += ["--label", f"{EXPERIMENT_LABEL}={submission.experiment_id}"]
        command += [*self._credential_arguments(arguments), *(word for word in arguments if word not in _LEFT_OUT)]
        try:
            ended = subprocess.run(  # its own session: Ctrl-C is for us, and must not cut the request in two
                [*command, image, *words],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                env=dict(self.context.environ),
                start_new_session=True,
                check=False,
            )
        except OSError as error:
            raise RefusedError(
                "docker-client-missing",
                "the docker command cannot be run, so no container was started",
                cause=str(error),
                hint="install the Docker client: https://docs.docker.com/engine/install/",
                details=_details(submission, error=str(error)),
            ) from error
        if ended.returncode != 0:
            return self._after_refusal(submission, ended)
        container_id = ended.stdout.decode().strip().splitlines()[-1]
        return NewJob(image, JobStatus.RUNNING, _details(submission, container_id=container_id))

    def _after_refusal(self, submission: Submission, ended: subprocess.CompletedProcess[bytes]) -> NewJob:
        """Adopt the container when it is ours and runs; else clear away what was made of it, and tell why."""
        words = ended.stderr.decode("utf-8", "backslashreplace").strip()
        adopted = self.find(submission)
        if adopted is not None and adopted.status is not JobStatus.FAILED:
            return adopted
        if adopted is not None:
            with self._translate_errors(f"the container {submission.name}, which never started, cannot be removed"):
                self.context.engine().client.api.remove_container(submission.name, force=True)
        help_line = "Run 'docker run --help' for more information"
        cause = "\n".join(line for line in words.splitlines() if line.strip() and line.strip() != help_line)
        raise RefusedError(
            "container-not-started",
            f"the container {submission.name} was not started",
            cause=cause,
            hint=_hint(cause),
            details=_details(submission, ret_code=ended.returncode, error=cause),
        )

    def find(self, submission: Submission) -> NewJob | None:
        """The container with the submission's token."""
        with self._translate_errors("whether the container was started cannot be found out"):
            api = self.context.engine().client.api
            found = api.containers(all=True, filters={"label": f"{TOKEN_LABEL}={submission.token}"})
            if not found:
                return None
            inspected = api.inspect_container(found[0]["Id"])
        details = _details(submission, container_id=inspected["Id"])
        image: str = inspected["Config"]["Image"]
        if inspected["State"]["Status"] in _RUNNING:
            return NewJob(image, JobStatus.RUNNING, details)
        ended = _ended(details, inspected["State"])
        return NewJob(image, ended.status, ended.details or details)

    def stop(self, job: JobRecord) -> JobUpdate:
        """``docker stop``: SIGTERM, and SIGKILL ten seconds later."""
        import docker.errors

        name = str(job.details.get("name"))
        with self._translate_errors(f"job {job.id} could not be stopped"):
            api = self.context.engine().client.api
            try:
                state = api.inspect_container(name)["State"]
            except docker.errors.NotFound:
                return _removed(job.details)
            if state["Status"] not in _RUNNING:
                return _ended(job.details, state)
            api.stop(name, timeout=_STOP_SECONDS)
        return JobUpdate(JobStatus.STOPPED)

    def follow(self, job: JobRecord) -> JobUpdate:
        """Pass on the container's output until it ends, and read its exit code."""
        name = str(job.details["name"])
        with self._output_passed_on(name), self._translate_errors(f"the Docker Engine was lost while job {job.id} ran"):
            api = self.context.engine().client.api
            api.wait(name)
            return _ended(job.details, api.inspect_container(name)["State"])

    @contextmanager
    def _output_passed_on(self, name: str) -> Iterator[None]:
        logs = subprocess.Popen(
            ["docker", "logs", "--follow", name],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(self.context.environ),
            start_new_session=True,
        )
        pumps = [
            threading.Thread(target=self._pump, args=(stream, is_stderr), daemon=True)
            for stream, is_stderr in ((logs.stdout, False), (logs.stderr, True))
        ]
        try:
            for pump in pumps:
                pump.start()
            yield
        except BaseException:  # Ctrl-C too: nobody reads the output any more, and the pumps must end
            logs.terminate()
            raise
        finally:
            for pump in pumps:
                pump.join()
            logs.wait()

    def _pump(self, stream: IO[bytes], is_stderr: bool) -> None:
        while data := stream.read1(65536):  # type: ignore[attr-defined]  # Popen's pipes are BufferedReaders
            self.context.reporter.job_output(data, is_stderr=is_stderr)
        stream.close()

    def _credential_arguments(self, arguments: Sequence[str]) -> list[str]:
        """Hand Google credentials to the container, read-only and at run time, unless the person does so already."""
        environ = self.context.environ
        if any(_CREDENTIALS_VARIABLE in word for word in arguments):
            return []
        named = self.context.cloud_key or environ.get(_CREDENTIALS_VARIABLE)
        path = Path(named) if named else self.context.home / _DEFAULT_CREDENTIALS
        if not path.is_file():
            if named:
                self.context.reporter.warn(f"there is no credentials file {path}; the job runs without")
            return []
        mount = io.StringIO()
        csv.writer(mount, lineterminator="").writerow(
            ["type=bind", f"src={path.absolute()}", f"dst={CREDENTIALS_IN_CONTAINER}", "readonly"]
        )
        return ["--mount", mount.getvalue(), "-e", f"{_CREDENTIALS_VARIABLE}={CREDENTIALS_IN_CONTAINER}"]

    @contextmanager
    def _translate_errors(self, what: str) -> Iterator[None]:
        """Turn what docker-py and the connection below it raise into ours."""
        import docker.errors
        import requests

        try:
            yield
        except (docker.errors.DockerException, requests.RequestException, OSError) as error:
            raise PlatformError(
                "docker-engine-failed", what, cause=str(error), hint="see whether Docker runs: docker info"
            ) from error


def _split(spec: JsonObject) -> tuple[list[str], ImageRef, list[str]]:
    """A recorded command -> the arguments of ``docker run``, the image, the words behind it.

    Raises:
        PlatformError: ``malformed-job-spec``.
    """
    command, image = spec.get("command"), spec.get("container")
    problem = None
    if not isinstance(command, list) or not all(isinstance(word, str) for word in command):
        problem = '"command" is not a list of strings'
    elif command[:2] != ["docker", "run"]:
        problem = '"command" does not begin with docker run'
    elif not isinstance(image, str) or image not in command[2:]:
        problem = '"command" does not name the image of "container"'
    if problem is not None:
        raise PlatformError(
            "malformed-job-spec",
            "the recorded job cannot be run again",
            cause=f"in the recorded job spec, {problem}",
            hint="submit the experiment anew with caliban run",
        )
    assert isinstance(command, list)
    assert isinstance(image, str)
    cut = command.index(image, 2)
    return command[2:cut], image, command[cut + 1 :]


def _details(submission: Submission, **more: object) -> dict[str, object]:
    return {"name": submission.name, "host": socket.gethostname(), **more}


def _ended(details: JsonObject, state: Mapping[str, Any]) -> JobUpdate:
    """What Docker says of a container that runs no more: https://docs.docker.com/engine/api/v1.41/#tag/Container."""
    code = int(state["ExitCode"])
    more: dict[str, object] = {"ret_code": code}
    if state.get("OOMKilled"):
        more["reason"] = "out of memory"
    elif state.get("Error"):
        more["reason"] = str(state["Error"])
    succeeded = code == 0 and state["Status"] == "exited"
    return JobUpdate(JobStatus.SUCCEEDED if succeeded else JobStatus.FAILED, {**details, **more})


def _removed(details: JsonObject) -> JobUpdate:
    reason = "its container was removed before its end was recorded"
    return JobUpdate(JobStatus.UNKNOWN, {**details, "reason": reason})


def _hint(cause: str) -> str | None:
    """What to do about a container that did not start, by the engine's own words."""
    for words, hint in (
        ("could not select device driver", "no GPU is to be had from Docker: install the NVIDIA Container Toolkit, "
         "or run with --nogpu"),
        ("Unable to find image", "the image is not on this machine: build it anew, or docker pull it"),
        ("executable file not found", "the image lacks the program; see base_image in .calibanconfig.json"),
        ("unknown flag", "see the recorded --docker_run_args, and docker run --help"),
    ):  # fmt: skip
        if words in cause:
            return hint
    return None
