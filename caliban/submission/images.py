"""Build each image once, and push it once to each registry, however many jobs run it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace

from caliban.code_record import CodeRecord
from caliban.errors import CalibanError
from caliban.images.code import CodeRecorder
from caliban.images.dockerfile import BuildUser
from caliban.images.git_state import git_state
from caliban.images.registry.push import Registry
from caliban.images.spec import BuildSpec, ImageSpec
from caliban.platforms.base import Platform
from caliban.platforms.context import PlatformContext
from caliban.records import ImageRef, JsonObject
from caliban.reporter import Progress, Reporter
from caliban.submission.boundary import platform_errors


def image_source(source: BuildSpec | ImageSpec, platform: Platform, spec: JsonObject) -> BuildSpec | ImageSpec:
    """Return the source of a job's image, with what the platform requires of images that are built for it.

    Args:
        source: as the user or a record describes it.
        platform: where the job runs.
        spec: of the job, with any image.

    Raises:
        CalibanError: the spec is malformed.
    """
    if isinstance(source, ImageSpec) or not platform.needs_image:
        return source
    with platform_errors(platform.id, "choose for which machines its image is built"):
        return replace(source, image_platform=platform.image_platform(source.config, spec))


class Images:
    """The images of one command. A failure is raised again for each job that needs the same image."""

    def __init__(self, context: PlatformContext, user: BuildUser, *, no_cache: bool = False) -> None:
        self._context = context
        self._user = user
        self._no_cache = no_cache
        self._reporter = _WarnsOnce(context.reporter)
        self._built: dict[BuildSpec, ImageRef | CalibanError] = {}
        self._code: dict[BuildSpec, CodeRecord] = {}
        self._pushed: dict[tuple[BuildSpec, Registry], ImageRef | CalibanError] = {}

    def build(self, source: BuildSpec | ImageSpec) -> ImageRef:
        """Build an image; one that is used as it is is returned.

        Raises:
            CalibanError: it could not be built.
        """
        if isinstance(source, ImageSpec):
            return source.image
        if source not in self._built:
            recorder = CodeRecorder(source)
            try:
                engine = self._context.engine()
                built = engine.build(source, self._user, self._reporter, no_cache=self._no_cache, observer=recorder)
            except CalibanError as error:
                self._built[source] = error
            else:
                self._built[source] = built
                if recorder.record is not None:
                    git = git_state(source.build_path, self._context.environ, self._context.clock)
                    self._code[source] = replace(recorder.record, git=git).prepared()
        return _raised(self._built[source])

    def code(self, source: BuildSpec | ImageSpec) -> CodeRecord | None:
        """Return what entered an image that was built; None where that is not recorded."""
        return self._code.get(source) if isinstance(source, BuildSpec) else None

    def get(self, source: BuildSpec | ImageSpec, platform: Platform, registry: Registry | None) -> ImageRef:
        """Return what jobs on a platform call the image, built and pushed where that has not been done.

        Raises:
            CalibanError: it could not be built or pushed.
        """
        if not platform.needs_image:
            return str(source.build_path) if isinstance(source, BuildSpec) else source.image
        image = self.build(source)
        if isinstance(source, ImageSpec) or registry is None:
            return image
        key = (source, registry)
        if key not in self._pushed:
            try:
                self._pushed[key] = registry.push(self._context.engine(), image)
            except CalibanError as error:
                self._pushed[key] = error
        return _raised(self._pushed[key])


def _raised(image: ImageRef | CalibanError) -> ImageRef:
    if isinstance(image, CalibanError):
        raise image
    return image


class _WarnsOnce:
    """A reporter that says a warning once: images for different machines are built from the same files."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._warned: set[str] = set()

    def info(self, *lines: str) -> None:
        self._reporter.info(*lines)

    def warn(self, line: str) -> None:
        if line not in self._warned:
            self._warned.add(line)
            self._reporter.warn(line)

    def job_output(self, data: bytes, *, is_stderr: bool) -> None:
        self._reporter.job_output(data, is_stderr=is_stderr)

    def progress(self, title: str, *, total: int | None, unit: str) -> AbstractContextManager[Progress]:
        return self._reporter.progress(title, total=total, unit=unit)
