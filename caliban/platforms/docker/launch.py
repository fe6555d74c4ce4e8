"""The flags of ``caliban run``, and the jobs that they describe."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from caliban.errors import UsageError
from caliban.platforms.docker.job_spec import client_flags, located_arguments, new_job_spec
from caliban.platforms.docker.run_arguments import RunArgumentsError, parse_typed
from caliban.platforms.flags import add_cloud_key, duration
from caliban.platforms.launch import Launch, LaunchContext, Launcher
from caliban.records import ImageRef, JsonObject


@dataclass(frozen=True)
class DockerLaunch(Launch):
    """Jobs in containers of this machine.

    Attributes:
        docker_run_args: the user's own arguments of ``docker run``.
        gpu: whether containers get all GPUs.
        timeout: how many seconds a job may run; None for as long as it takes.
        missing: warnings about what the jobs would not find.
    """

    docker_run_args: tuple[str, ...]
    gpu: bool
    timeout: int | None = None
    missing: tuple[str, ...] = ()
    platform = "LOCAL"

    def job_spec(self, number: int, arguments: Sequence[str], image: ImageRef) -> JsonObject:
        """See :meth:`caliban.platforms.launch.Launch.job_spec`."""
        return new_job_spec(image, arguments, docker_run_args=self.docker_run_args, gpu=self.gpu, timeout=self.timeout)

    def warnings(self) -> Sequence[str]:
        """See :meth:`caliban.platforms.launch.Launch.warnings`."""
        return self.missing


class DockerLauncher(Launcher):
    """Runs jobs one after the other, in the foreground."""

    image_flag = "image_id"
    verb = "run"
    command_verb = "run"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add ``--docker_run_args``, ``--image_id``, ``--timeout`` and ``--cloud_key``."""
        parser.add_argument(
            "--docker_run_args",
            metavar="ARGS",
            default="",
            help='arguments for docker run in one string: "-v /data:/data"',
        )
        parser.add_argument("--image_id", help="run this image of this machine instead of building one")
        parser.add_argument(
            "--timeout",
            type=duration,
            help="the longest time that a job may run while this command waits for it: 24h, 90m, 1h30m, or a number of "
            "seconds (default: as long as it takes)",
        )
        add_cloud_key(parser)

    def prepare(self, args: argparse.Namespace, context: LaunchContext) -> DockerLaunch:
        """See :meth:`caliban.platforms.launch.Launcher.prepare`."""
        try:
            words = tuple(shlex.split(args.docker_run_args))
        except ValueError as error:
            raise UsageError(
                "malformed-docker-run-args",
                f'cannot split --docker_run_args "{args.docker_run_args}"',
                cause=str(error),
                hint="check the quotes",
            ) from error
        try:
            given = parse_typed(words, lambda: client_flags(context.environ))
            located, warnings = located_arguments(given, context.cwd, context.home, context.environ)
        except RunArgumentsError as error:
            raise UsageError(
                "docker-run-args-rejected",
                f"--docker_run_args: {error.problem}",
                hint=error.hint,
            ) from error
        if args.timeout is not None and located.detaches:
            raise UsageError(
                "timeout-without-waiting",
                "--timeout cannot be used with --detach",
                cause="a job is stopped at its timeout by the command that waits for it",
                hint="remove --detach from --docker_run_args",
            )
        # whatever means the same is recorded as it was typed
        recorded = words if located.words == given.words else located.words
        return DockerLaunch(recorded, context.wants_gpu, args.timeout, tuple(warnings))


LAUNCHER = DockerLauncher()
