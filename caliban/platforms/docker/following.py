"""Follow a job: pass on its output until its container ends for good."""

from __future__ import annotations

from threading import Event

from caliban.platforms.context import PlatformContext
from caliban.platforms.docker.client import Containers
from caliban.platforms.docker.details import container_update, removed_update
from caliban.platforms.docker.errors import translate_errors
from caliban.platforms.docker.job_outputs import JobOutputs
from caliban.platforms.docker.output import streamed_output
from caliban.platforms.docker.time_limit import TimeLimit
from caliban.records import JobRecord, JobUpdate

_RESTART_DELAYS = (0.1, 0.5, 2.0, 5.0)
"""Seconds before a container that was restarted is waited for again."""


def follow(
    job: JobRecord, reference: str, containers: Containers, outputs: JobOutputs, context: PlatformContext
) -> JobUpdate:
    """Return how a job ended; see :meth:`caliban.platforms.base.ForegroundPlatform.follow`.

    A container that Docker restarts (``--restart on-failure``) has not ended. One that does not exist any more was
    removed by the user, or by another command that recorded its end.
    """
    delays = iter(_RESTART_DELAYS)
    limit = TimeLimit.of(job, context.clock)
    output = outputs.follow(job.id, containers, reference, job.details.display_name)
    lost = f"lost the connection to the Docker Engine while job {job.id} ran"
    with translate_errors(lost), streamed_output(output):
        while True:
            was_answered = containers.wait(reference, limit.seconds_left)
            container = containers.inspect(reference) if was_answered else containers.peek(reference)
            if container is None and was_answered:
                output.finish()
                return removed_update(job.details.raw)
            if container is not None and not container.state.is_running:
                output.finish(was_restarted=container.restarts > 0)
                return container_update(job.details.raw, container.state, limit.seconds)
            if container is not None and limit.is_over:
                update = limit.stop(job, containers, container, context.reporter)
                output.finish()
                return update
            if was_answered:
                output.restarted()
                context.clock.wait(Event(), next(delays, _RESTART_DELAYS[-1]))
