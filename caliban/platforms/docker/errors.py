"""Turn what the Docker Engine and its client report into errors with a hint."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from caliban.errors import PlatformError
from caliban.platforms.base import RefusedError
from caliban.platforms.docker.details import refused_details
from caliban.records import Submission

_NO_GPU = "Docker cannot access a GPU"
_NO_GPU_HINT = "install the NVIDIA Container Toolkit, or add --nogpu"
# Text in the output of `docker run` -> the message, or None for the general one; the hint.
_KNOWN_FAILURES = (
    ("could not select device driver", _NO_GPU, _NO_GPU_HINT),
    ("failed to discover GPU vendor from CDI", _NO_GPU, _NO_GPU_HINT),  # Docker 29
    ("Unable to find image", "image not found on this machine", "build the image again, or get it with: docker pull"),
    (
        "executable file not found",
        None,
        'check that the image contains the program; see "base_image" in .calibanconfig.json',
    ),
    ("unknown flag", None, "check the recorded --docker_run_args; for the flags of docker run: docker run --help"),
)
_HELP_LINE = "Run 'docker run --help' for more information"


@contextmanager
def translate_errors(message: str) -> Iterator[None]:
    """Translate the errors of docker-py and of the connection.

    Raises:
        PlatformError: ``docker-engine-failed``, with ``message``.
    """
    import docker.errors
    import requests

    try:
        yield
    except (docker.errors.DockerException, requests.RequestException, OSError) as error:
        raise PlatformError(
            "docker-engine-failed", message, cause=str(error), hint="check that Docker runs: docker info"
        ) from error


def client_missing(submission: Submission, error: OSError) -> RefusedError:
    """Return the error for a ``docker`` command that cannot be run."""
    return RefusedError(
        "docker-client-missing",
        "cannot run the docker command",
        cause=str(error),
        hint="install the Docker client: https://docs.docker.com/engine/install/",
        details=refused_details(submission, str(error)),
    )


def not_started(submission: Submission, stderr: str, exit_code: int) -> RefusedError:
    """Return the error for a container that ``docker run`` did not start."""
    cause = "\n".join(line for line in stderr.splitlines() if line.strip() and line.strip() != _HELP_LINE)
    known = next(((meaning, hint) for text, meaning, hint in _KNOWN_FAILURES if text in cause), (None, None))
    return RefusedError(
        "container-not-started",
        known[0] or f"cannot start the container {submission.name}",
        cause=cause,
        hint=known[1],
        details=refused_details(submission, cause, exit_code),
    )
