"""The flags of ``caliban run``, and the jobs that they describe."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

from caliban.platforms.docker.job_spec import new_job_spec
from caliban.platforms.docker.typed_arguments import check_timeout, typed_arguments
from caliban.platforms.flags import add_cloud_key
from caliban.platforms.launch import Launch, LaunchContext, Launcher
from caliban.platforms.resource_flags import DOCKER_RUN_ARGS, TIMEOUT
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
        DOCKER_RUN_ARGS.add(parser, 'arguments for docker run in one string: "-v /data:/data"', default="")
        parser.add_argument("--image_id", help="run this image of this machine instead of building one")
        TIMEOUT.add(
            parser,
            "the longest time that a job may run while this command waits for it: 24h, 90m, 1h30m, or a number of "
            "seconds (default: as long as it takes)",
        )
        add_cloud_key(parser)

    def prepare(self, args: argparse.Namespace, context: LaunchContext) -> DockerLaunch:
        """See :meth:`caliban.platforms.launch.Launcher.prepare`."""
        typed = typed_arguments(args.docker_run_args, context.cwd, context.home, context.environ)
        if args.timeout is not None:
            check_timeout(typed.parsed)
        return DockerLaunch(typed.words, context.wants_gpu, args.timeout, typed.warnings)


LAUNCHER = DockerLauncher()
