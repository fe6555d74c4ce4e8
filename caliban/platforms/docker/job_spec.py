"""Local job specs, in the shape that caliban 0.4.2 records, so that either version can re-run the other's jobs.

``{"command": ["docker", "run", <docker arguments>, <image>, <arguments>], "container": <image>}``, and ``timeout``, the
seconds that the job may run, where the user limits them; caliban 0.4.2 ignores that.
"""

from __future__ import annotations

import csv
import io
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from caliban.clock import SystemClock
from caliban.errors import PlatformError
from caliban.helper_process import run_helper
from caliban.input_files import is_file
from caliban.platforms import flags
from caliban.platforms.context import PlatformContext
from caliban.platforms.docker import host_paths, run_arguments
from caliban.platforms.docker.mounts import other_machine
from caliban.platforms.docker.run_arguments import ClientFlags, RunArguments, RunArgumentsError
from caliban.platforms.stored_json import integer
from caliban.records import ImageRef, JsonObject

CREDENTIALS_PATH = "/.caliban/credentials.json"
"""Where containers have the credentials file of the user."""

_COMMAND = ("docker", "run")
_USUAL = (("--gpus", "all"), ("--ipc", "host"), ("-e", "PYTHONUNBUFFERED=1"), ("--rm",), ("--rm=true",))
_HELP_SECONDS = 10
_TIMEOUT_KEY = "timeout"
_LONGEST_TIMEOUT = 10**10
_CREDENTIALS_VARIABLE = "GOOGLE_APPLICATION_CREDENTIALS"
_DEFAULT_CREDENTIALS = Path(".config/gcloud/application_default_credentials.json")
# https://cloud.google.com/docs/authentication/application-default-credentials


@dataclass(frozen=True)
class DockerCommand:
    """The parts of a recorded ``docker run`` command.

    Attributes:
        docker_arguments: the arguments of ``docker run`` itself.
        image: the image.
        arguments: the arguments of the image's entrypoint.
    """

    docker_arguments: tuple[str, ...]
    image: ImageRef
    arguments: tuple[str, ...]

    def to_json(self, spec: JsonObject) -> JsonObject:
        """Return ``spec`` with this command."""
        command = [*_COMMAND, *self.docker_arguments, self.image, *self.arguments]
        return {**spec, "command": command, "container": self.image}


def new_job_spec(
    image: ImageRef,
    arguments: Sequence[str],
    *,
    docker_run_args: Sequence[str],
    gpu: bool,
    timeout: int | None = None,
) -> JsonObject:
    """Return the spec of a job that runs ``image`` with ``arguments`` of its entrypoint.

    Args:
        image: the image.
        arguments: of its entrypoint.
        docker_run_args: the user's own arguments of ``docker run``.
        gpu: whether the container gets all GPUs.
        timeout: how many seconds it may run; None for as long as it takes.
    """
    docker_arguments = (*(("--gpus", "all") if gpu else ()), "--ipc", "host", "-e", "PYTHONUNBUFFERED=1")
    limit = {} if timeout is None else {_TIMEOUT_KEY: timeout}
    return DockerCommand((*docker_arguments, *docker_run_args), image, tuple(arguments)).to_json(limit)


def time_limit(spec: JsonObject) -> int | None:
    """Return how many seconds a job may run; None for as long as it takes."""
    seconds = integer(spec, _TIMEOUT_KEY)
    return seconds if seconds is not None and 0 < seconds <= _LONGEST_TIMEOUT else None


def with_image(spec: JsonObject, image: ImageRef) -> JsonObject:
    """Return ``spec`` with another image.

    Raises:
        PlatformError: ``malformed-job-spec``.
    """
    return replace(parse_command(spec), image=image).to_json(spec)


def with_arguments(spec: JsonObject, image: ImageRef, arguments: Sequence[str]) -> JsonObject:
    """Return ``spec`` with another image and other arguments.

    Raises:
        PlatformError: ``malformed-job-spec``.
    """
    return replace(parse_command(spec), image=image, arguments=tuple(arguments)).to_json(spec)


def parse_command(spec: JsonObject) -> DockerCommand:
    """Split a recorded command.

    Raises:
        PlatformError: ``malformed-job-spec``.
    """
    command, image = spec.get("command"), spec.get("container")
    if not isinstance(command, list) or not all(isinstance(word, str) for word in command):
        raise _malformed('"command" is not a list of strings')
    if tuple(command[:2]) != _COMMAND:
        raise _malformed('"command" does not start with docker run')
    if not isinstance(image, str) or image not in command[2:]:
        raise _malformed('"command" does not contain the image of "container"')
    position = _image_position(command, image)
    if command[position] != image:
        raise _malformed(f'"command" runs the image "{command[position]}", "container" is "{image}"')
    return DockerCommand(tuple(command[2:position]), image, tuple(command[position + 1 :]))


def effects(spec: JsonObject) -> tuple[str, ...]:
    """Return the recorded arguments of ``docker run`` that are not those of every job, in one line.

    Raises:
        PlatformError: ``malformed-job-spec``.
    """
    arguments = list(parse_command(spec).docker_arguments)
    unusual: list[str] = []
    while arguments:
        length = next((len(known) for known in _USUAL if arguments[: len(known)] == list(known)), 0)
        if not length:
            unusual.append(arguments[0])
        del arguments[: length or 1]
    return (f"docker run {shlex.join(unusual)}",) if unusual else ()


def checked_arguments(command: DockerCommand, environ: Mapping[str, str]) -> RunArguments:
    """Return the recorded ``docker run`` arguments, parsed.

    Raises:
        RunArgumentsError: caliban cannot honour one of them.
    """
    return run_arguments.parse_given(command.docker_arguments, lambda: client_flags(environ))


def with_absolute_paths(
    spec: JsonObject, directory: Path | None, context: PlatformContext
) -> tuple[JsonObject, Sequence[str]]:
    """Return a recorded spec with absolute paths, and warnings about what the job would not find.

    Args:
        spec: as recorded: by caliban 0.4.2 and early builds, with paths relative to the project's directory.
        directory: that directory; None if it is unknown.
        context: the process.

    Raises:
        PlatformError: ``malformed-job-spec``.
        RunArgumentsError: caliban cannot honour an argument, or a path means nothing here.
    """
    command = parse_command(spec)
    given = checked_arguments(command, context.environ)
    arguments, warnings = located_arguments(given, directory, context.home, context.environ)
    if arguments.words == given.words:
        return spec, warnings
    return replace(command, docker_arguments=arguments.words).to_json(spec), warnings


def located_arguments(
    given: RunArguments, directory: Path | None, home: Path, environ: Mapping[str, str]
) -> tuple[RunArguments, Sequence[str]]:
    """Return checked arguments with absolute paths, and warnings; see :func:`with_absolute_paths`."""
    from caliban.images.docker.endpoint import is_engine_here  # not for --help

    arguments = host_paths.resolved(given, directory, home)
    warnings = host_paths.check_paths(arguments, directory, is_engine_here=is_engine_here(environ))
    return arguments, warnings + host_paths.unset_variables(arguments, environ)


def client_flags(environ: Mapping[str, str]) -> ClientFlags:
    """Return the flags of the docker client that is installed; none where there is none."""
    try:
        client = run_helper(("docker", "create", "--help"), SystemClock(), environ=environ, seconds=_HELP_SECONDS)
    except (OSError, ValueError):  # not installed, or it hangs
        return {}
    return run_arguments.parse_help(client.stdout.decode("utf-8", "replace"))


def _image_position(command: Sequence[str], image: ImageRef) -> int:
    """Return where docker finds the image: the first word that is neither a flag nor the value of one."""
    try:
        arguments = run_arguments.parse(command[2:])
    except RunArgumentsError:  # a flag of another version of docker
        return command.index(image, 2)
    return len(command) - len(arguments.rest) if arguments.rest else command.index(image, 2)


def credential_arguments(docker_arguments: Sequence[str], context: PlatformContext) -> list[str]:
    """Return arguments that mount the user's Google credentials, read-only.

    They are ``--cloud_key``, else ``$GOOGLE_APPLICATION_CREDENTIALS``, else gcloud's default credentials; nothing where
    ``docker_arguments`` set that variable already.
    """
    if any(_CREDENTIALS_VARIABLE in word for word in docker_arguments):
        return []
    named = flags.cloud_key(context.options) or context.environ.get(_CREDENTIALS_VARIABLE)
    path = Path(named) if named else context.home / _DEFAULT_CREDENTIALS
    if not named and other_machine(context.environ) is not None:
        return []
    if not is_file(path):
        if named:
            context.reporter.warn(f"credentials file not found: {path}; the job runs without credentials")
        return []
    mount = io.StringIO()
    fields = ["type=bind", f"src={path.absolute()}", f"dst={CREDENTIALS_PATH}", "readonly"]
    csv.writer(mount, lineterminator="").writerow(fields)
    return ["--mount", mount.getvalue(), "-e", f"{_CREDENTIALS_VARIABLE}={CREDENTIALS_PATH}"]


def credential_warnings(context: PlatformContext) -> list[str]:
    """Return a warning if the user's Google credentials are on this machine, and the Docker Engine is on another."""
    named = flags.cloud_key(context.options) or context.environ.get(_CREDENTIALS_VARIABLE)
    path = Path(named) if named else context.home / _DEFAULT_CREDENTIALS
    machine = other_machine(context.environ) if named or is_file(path) else None
    if machine is None:
        return []
    what = f"it must have the credentials file {path.absolute()}" if named else f"jobs do not get {path}"
    return [f"the Docker Engine at {machine} is on another machine: {what}"]


def _malformed(problem: str) -> PlatformError:
    return PlatformError(
        "malformed-job-spec",
        "cannot run the recorded job again",
        cause=f"in the recorded job spec, {problem}",
        hint="submit the experiment again",
    )
