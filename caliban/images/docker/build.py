"""Build an image from a project: collect and send its files, and follow the steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import IO, TYPE_CHECKING, cast

from caliban.images.base_image import APP, LABELS, BaseImage
from caliban.images.build_secrets import BuildSecrets
from caliban.images.context import BuildContext, collect
from caliban.images.context_stream import ContextFile, Observer
from caliban.images.dependency_plan import DependencyPlan
from caliban.images.docker.base_image import inspect_base_image
from caliban.images.docker.build_log import BuildLog, StepFailedError
from caliban.images.docker.build_plan import Notices, readable_plan, secrets_of
from caliban.images.docker.engine import Engine, unreachable
from caliban.images.docker.events import Request, streamed_events
from caliban.images.docker.logins import check_logins
from caliban.images.docker.silence import STEP_SECONDS, TRANSFER_SECONDS, DaemonWatch
from caliban.images.dockerfile import BuildUser, dockerfile, instructions
from caliban.images.parts import DOCKERFILE, SKELETON
from caliban.images.slow_progress import slow_progress
from caliban.images.spec import BuildSpec
from caliban.records import ImageRef
from caliban.reporter import Progress, Reporter

if TYPE_CHECKING:
    import docker


def build_image(
    engine: Engine,
    spec: BuildSpec,
    user: BuildUser,
    reporter: Reporter,
    *,
    no_cache: bool,
    observer: Observer | None = None,
) -> ImageRef:
    """Build an image; see :meth:`caliban.images.docker.engine.Engine.build`."""
    plan = readable_plan(spec)
    notices = Notices(reporter)
    try:
        return _build(engine, spec, user, reporter, _Attempt(plan, notices, no_cache, observer))
    except StepFailedError as error:
        if not error.step.has_alternative or not error.is_of_pip:
            raise
        notices.info("pip cannot install the project without its code, so it is installed after the code is copied")
        attempt = _Attempt(plan.without_skeleton(spec), notices, no_cache, observer)
        return _build(engine, spec, user, reporter, attempt)


@dataclass(frozen=True)
class _Attempt:
    """One of the ways in which an image can be built.

    Attributes:
        plan: which dependencies are installed when.
        notices: what is reported to the user, each once.
        no_cache: build every layer again.
        observer: sees what is sent.
    """

    plan: DependencyPlan
    notices: Notices
    no_cache: bool
    observer: Observer | None


def _build(engine: Engine, spec: BuildSpec, user: BuildUser, reporter: Reporter, attempt: _Attempt) -> ImageRef:
    plan = attempt.plan
    with slow_progress(reporter, "project files", "file", engine.clock) as on_file:
        context = collect(spec, "", engine.environ, engine.secret_files, on_file, plan)
    secrets = secrets_of(spec, plan, engine.environ, engine.host)
    attempt.notices.show([*plan.warnings, *secrets.warnings, *context.warnings()], plan.notes)
    base = _base_image(engine, spec, user, reporter, attempt.notices)
    steps = instructions(spec, user, base, plan)
    context = replace(context, dockerfile=dockerfile(spec, user, base, plan))
    if base.has_volume(APP):
        skeleton = ContextFile(f"{SKELETON}/{PurePosixPath(APP).name}", None, 0, ".")
        context = replace(context, files=(*context.files, skeleton))
    log: BuildLog | None = None

    def doing() -> tuple[str, float]:
        if log is None:
            return "receiving the build context", TRANSFER_SECONDS
        number, purpose = log.step
        # the first step downloads the base image
        return f"building the image (step {number}: {purpose})", STEP_SECONDS if number > 1 else TRANSFER_SECONDS

    with engine.translate_errors(), ExitStack() as connection:
        with reporter.progress("build context", total=context.size, unit="B") as sent:
            request = _request(context, sent, secrets, attempt, spec.image_platform)
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


def _base_image(engine: Engine, spec: BuildSpec, user: BuildUser, reporter: Reporter, notices: Notices) -> BaseImage:
    """Return what the base image sets up, and say what of it cannot be kept."""
    first = instructions(spec, user)[0]
    name = first.text.removeprefix("FROM ")
    with engine.translate_errors():
        check_logins(engine.client.api, engine.clock, reporter, name)
    base = inspect_base_image(engine, first, reporter, spec.image_platform)
    notices.show([*base.warnings(name)], ())
    return base


def _request(
    context: BuildContext, sent: Progress, secrets: BuildSecrets, attempt: _Attempt, platform: str | None
) -> Request:
    arguments = secrets.build_arguments()

    def request(api: docker.APIClient, go_on: Callable[[], None]) -> object:
        def chunks() -> Iterator[bytes]:
            for chunk in context.stream(sent.advance, attempt.observer):
                yield chunk
                go_on()

        return api.build(
            # docker-py passes this on to requests, which sends an iterator in chunks.
            fileobj=cast("IO[bytes]", chunks()),
            custom_context=True,
            dockerfile=DOCKERFILE,
            rm=True,
            forcerm=True,
            nocache=attempt.no_cache,
            labels=LABELS,
            platform=platform,
            buildargs=arguments or None,
            network_mode="host" if secrets.uses_this_machine else None,
        )

    return request
