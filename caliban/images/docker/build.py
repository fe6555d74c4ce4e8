"""Build an image from a project: collect and send its files, and follow the steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import PurePosixPath
from typing import IO, TYPE_CHECKING, cast

from caliban.images.base_image import APP, LABELS
from caliban.images.context import BuildContext, collect
from caliban.images.context_stream import ContextFile
from caliban.images.docker.base_image import inspect_base_image
from caliban.images.docker.build_log import BuildLog
from caliban.images.docker.engine import Engine, unreachable
from caliban.images.docker.events import Request, streamed_events
from caliban.images.docker.logins import check_logins
from caliban.images.docker.silence import STEP_SECONDS, TRANSFER_SECONDS, DaemonWatch
from caliban.images.dockerfile import DOCKERFILE, SKELETON, BuildUser, dockerfile, instructions
from caliban.images.slow_progress import slow_progress
from caliban.images.spec import BuildSpec
from caliban.records import ImageRef
from caliban.reporter import Progress, Reporter

if TYPE_CHECKING:
    import docker


def build_image(engine: Engine, spec: BuildSpec, user: BuildUser, reporter: Reporter, *, no_cache: bool) -> ImageRef:
    """Build an image; see :meth:`caliban.images.docker.engine.Engine.build`."""
    with slow_progress(reporter, "project files", "file", engine.clock) as on_file:
        context = collect(spec, "", engine.environ, engine.secret_files, on_file)
    for warning in context.warnings():
        reporter.warn(warning)
    with engine.translate_errors():
        check_logins(engine.client.api, engine.clock, reporter)
    first = instructions(spec, user)[0]
    base = inspect_base_image(engine, first, reporter, spec.image_platform)
    for warning in base.warnings(first.text.removeprefix("FROM ")):
        reporter.warn(warning)
    steps = instructions(spec, user, base)
    context = replace(context, dockerfile=dockerfile(spec, user, base))
    if base.has_volume(APP):
        context = replace(
            context, files=(*context.files, ContextFile(f"{SKELETON}/{PurePosixPath(APP).name}", None, 0, "."))
        )
    log: BuildLog | None = None

    def doing() -> tuple[str, float]:
        if log is None:
            return "receiving the build context", TRANSFER_SECONDS
        number, purpose = log.step
        # the first step downloads the base image
        return f"building the image (step {number}: {purpose})", STEP_SECONDS if number > 1 else TRANSFER_SECONDS

    with engine.translate_errors(), ExitStack() as connection:
        with reporter.progress("build context", total=context.size, unit="B") as sent:
            request = _request(context, sent, no_cache=no_cache, platform=spec.image_platform)
            events = connection.enter_context(streamed_events(engine, request, DaemonWatch(engine, doing)))
            next(events, None)
        # The last step is the engine's own: it adds the labels.
        with reporter.progress("build", total=len(steps) + 1, unit="step") as progress:
            log = BuildLog(steps, reporter, progress)
            for event in events:
                log.feed(event)
            log.finish()
        if log.image is None:
            raise unreachable(ConnectionError("the response ended before the build did"), engine.host)
        return engine.image_id(log.image)


def _request(context: BuildContext, sent: Progress, *, no_cache: bool, platform: str | None) -> Request:
    def request(api: docker.APIClient, go_on: Callable[[], None]) -> object:
        def chunks() -> Iterator[bytes]:
            for chunk in context.stream(sent.advance):
                yield chunk
                go_on()

        return api.build(
            # docker-py passes this on to requests, which sends an iterator in chunks.
            fileobj=cast("IO[bytes]", chunks()),
            custom_context=True,
            dockerfile=DOCKERFILE,
            rm=True,
            forcerm=True,
            nocache=no_cache,
            labels=LABELS,
            platform=platform,
        )

    return request
