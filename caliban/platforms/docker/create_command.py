"""The ``docker create`` command of a job."""

from __future__ import annotations

from collections.abc import Sequence

from caliban.attempts import Submission
from caliban.images.docker.identity import EngineIdentity
from caliban.platforms.base import EXPERIMENT_LABEL, TOKEN_LABEL
from caliban.platforms.context import PlatformContext
from caliban.platforms.docker import job_spec
from caliban.platforms.docker.client import REMOVE_LABEL
from caliban.platforms.docker.run_arguments import RunArguments, is_init


def create_command(
    recorded: job_spec.DockerCommand,
    arguments: RunArguments,
    submission: Submission,
    entrypoint: Sequence[str],
    here: EngineIdentity,
    context: PlatformContext,
) -> list[str]:
    """Return the command that creates the container of a job, with a name and the labels of its submission.

    Args:
        recorded: the command of the job.
        arguments: its ``docker run`` arguments, checked.
        submission: for which the container is.
        entrypoint: of the image; empty if it is not known yet.
        here: the engine.
        context: the process, for credentials and messages.
    """
    command = ["docker", "create", "--name", submission.name]
    command += job_spec.credential_arguments(recorded.docker_arguments, context)
    command += ["--user", "0:0"] if here.is_rootless and not arguments.chooses_user else []
    command += _init_arguments(arguments, entrypoint, here, context)
    command += arguments.for_create()
    command += ["--label", f"{TOKEN_LABEL}={submission.token}"]
    command += ["--label", f"{EXPERIMENT_LABEL}={submission.experiment_id}"]
    command += ["--label", REMOVE_LABEL] if arguments.removes else []
    return [*command, recorded.image, *recorded.arguments]


def _init_arguments(
    arguments: RunArguments, entrypoint: Sequence[str], here: EngineIdentity, context: PlatformContext
) -> list[str]:
    """Return ``--init``: the first process of a container ignores signals that it does not handle, as SIGTERM."""
    if arguments.chooses_init or is_init(arguments.entrypoint or next(iter(entrypoint), "")):
        return []
    if here.has_init is False:
        context.announce(
            "the engine has no init process for containers (docker-init): a job that does not handle SIGTERM "
            "is stopped by SIGKILL"
        )
    return ["--init"] if here.has_init else []
