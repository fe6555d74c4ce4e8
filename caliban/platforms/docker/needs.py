"""What jobs need beside their image: a docker client, and GPUs where they request them. Each is looked for once."""

from __future__ import annotations

import shutil

from caliban.platforms.context import PlatformContext
from caliban.platforms.docker import gpu
from caliban.platforms.docker.errors import no_client, no_gpu
from caliban.platforms.docker.job_spec import parse_command
from caliban.records import JsonObject


class Needs:
    """Checks what jobs need.

    Args:
        context: the process.
    """

    def __init__(self, context: PlatformContext) -> None:
        self._context = context
        self._gpu_problem: tuple[str | None] | None = None

    def check(self, spec: JsonObject) -> None:
        """Check what a job needs.

        Raises:
            PlatformError: ``docker-client-missing``, ``gpu-unavailable``, ``malformed-job-spec``.
        """
        if shutil.which("docker", path=self._context.environ.get("PATH")) is None:
            raise no_client()
        if not gpu.wants_gpu(parse_command(spec).docker_arguments):
            return
        if self._gpu_problem is None:
            self._gpu_problem = (gpu.missing_gpu(self._context.engine()),)
        if (reason := self._gpu_problem[0]) is not None:
            raise no_gpu(reason)
