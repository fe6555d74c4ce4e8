"""Turn what the Docker Engine and its client report into errors with a hint."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from caliban.attempts import Submission
from caliban.errors import CalibanError, PlatformError
from caliban.platforms.base import RefusedError
from caliban.platforms.docker.details import refused_details
from caliban.platforms.docker.mounts import PATHS_HINT
from caliban.platforms.docker.run_arguments import RunArgumentsError
from caliban.platforms.docker.state import OddStateError
from caliban.redaction import clean_text, exception_text

_NO_CLIENT = "cannot run the docker command"
_NO_CLIENT_HINT = "install the Docker client: https://docs.docker.com/engine/install/"
_NO_GPU = "Docker cannot access a GPU"
_NO_GPU_HINT = "install the NVIDIA Container Toolkit, or add --nogpu"
_NO_PATH = "the Docker Engine does not find a path to mount"
# Text in what the engine or the client reports -> the message, or None for the general one; the hint.
_KNOWN_FAILURES = (
    ("could not select device driver", _NO_GPU, _NO_GPU_HINT),
    ("failed to discover GPU vendor from CDI", _NO_GPU, _NO_GPU_HINT),  # Docker 29
    ("Unable to find image", "image not found on this machine", "build the image again, or get it with: docker pull"),
    (
        "executable file not found",
        None,
        'check that the image contains the program; see "base_image" in .calibanconfig.json',
    ),
    ("bind source path does not exist", _NO_PATH, PATHS_HINT),
    ("Mounts denied", _NO_PATH, PATHS_HINT),  # Docker Desktop
    ("is not shared from the host", _NO_PATH, PATHS_HINT),
    ("statfs /", _NO_PATH, PATHS_HINT),  # Podman
    ("unknown flag", None, "check the recorded --docker_run_args; for the flags of docker run: docker run --help"),
)
_HELP_LINES = ("Run 'docker create --help' for more information", "See 'docker create --help'.")
_RECORDED_ARGUMENTS = "cannot use the recorded --docker_run_args"
_DAEMON = "Error response from daemon: "
_LONGEST_CAUSE = 2000


@contextmanager
def translate_errors(message: str, *, passing: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Translate what docker-py, the connection and odd answers of the engine raise.

    Args:
        message: what failed.
        passing: errors of docker-py that the caller handles.

    Raises:
        PlatformError: ``docker-engine-failed``, with ``message``.
    """
    import docker.errors
    import requests

    unchanged: tuple[type[Exception], ...] = (*passing, CalibanError)
    try:
        yield
    except unchanged:
        raise
    except (docker.errors.DockerException, requests.RequestException, OSError, OddStateError) as error:
        raise engine_failed(message, error) from error
    except Exception as error:
        raise engine_failed(
            message, error, f"unexpected answer of the Docker Engine ({type(error).__name__})"
        ) from error


def engine_failed(message: str, error: Exception, cause: str | None = None) -> PlatformError:
    """Return the error for a request that failed."""
    return PlatformError(
        "docker-engine-failed",
        message,
        cause=cause or exception_text(error),
        hint="check that Docker runs: docker info",
    )


def no_client() -> PlatformError:
    """Return the error for a missing ``docker`` command, before anything is built."""
    return PlatformError("docker-client-missing", _NO_CLIENT, cause="docker is not in PATH", hint=_NO_CLIENT_HINT)


def no_gpu(reason: str) -> PlatformError:
    """Return the error for GPUs that containers cannot have, before anything is built.

    Args:
        reason: what the engine reports.
    """
    return PlatformError(
        "gpu-unavailable",
        _NO_GPU,
        cause=reason,
        hint='install the NVIDIA Container Toolkit, add --nogpu, or set "default_mode": "CPU" in .calibanconfig.json',
    )


def client_missing(submission: Submission, error: Exception) -> RefusedError:
    """Return the error for a ``docker`` command that cannot be run."""
    return RefusedError(
        "docker-client-missing",
        _NO_CLIENT,
        cause=exception_text(error),
        hint=_NO_CLIENT_HINT,
        details=refused_details(submission, exception_text(error)),
    )


def rejected_arguments(error: RunArgumentsError) -> PlatformError:
    """Return the error for recorded arguments that cannot be used, before anything is built."""
    return PlatformError("docker-run-args-rejected", _RECORDED_ARGUMENTS, cause=error.problem, hint=error.hint)


def refused_arguments(submission: Submission, error: RunArgumentsError) -> RefusedError:
    """Return the same for a submission."""
    return RefusedError(
        "docker-run-args-rejected",
        _RECORDED_ARGUMENTS,
        cause=error.problem,
        hint=error.hint,
        details=refused_details(submission, error.problem),
    )


def not_created(submission: Submission, stderr: str, exit_code: int | None) -> RefusedError:
    """Return the error for a container that ``docker create`` did not create."""
    lines = (line for line in stderr.splitlines() if line.strip() and line.strip() not in _HELP_LINES)
    return _refused(submission, clean_text("\n".join(lines)[-_LONGEST_CAUSE:]), exit_code)


def not_started(submission: Submission, reason: str) -> RefusedError:
    """Return the error for a container that the engine did not start."""
    return _refused(submission, clean_text(f"{_DAEMON}{reason.strip()}"), None)


def _refused(submission: Submission, cause: str, exit_code: int | None) -> RefusedError:
    known = next(((meaning, hint) for text, meaning, hint in _KNOWN_FAILURES if text in cause), (None, None))
    return RefusedError(
        "container-not-started",
        known[0] or f"cannot start the container {submission.name}",
        cause=cause,
        hint=known[1],
        details=refused_details(submission, cause, exit_code),
    )
