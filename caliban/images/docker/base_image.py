"""Look at a base image before the build: what it sets up, and what of its entrypoint runs other programs."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from caliban.config import CONFIG_FILE
from caliban.errors import ImageError
from caliban.images.base_image import BaseImage
from caliban.images.docker.base_image_errors import is_about_registry
from caliban.images.docker.build_log import BuildLog
from caliban.images.docker.emulation import native_platform
from caliban.images.docker.engine import Engine
from caliban.images.docker.events import streamed_events
from caliban.images.docker.silence import TRANSFER_SECONDS, DaemonWatch
from caliban.images.entrypoint import READ, Entrypoint, Program, split
from caliban.images.image_platform import other_architecture
from caliban.images.instruction import Instruction
from caliban.records import ImageRef
from caliban.reporter import Reporter

if TYPE_CHECKING:
    import docker

_LABELS = {"caliban": "base-image"}
_MAX_LINKS = 8
_USUAL_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def inspect_base_image(engine: Engine, first: Instruction, reporter: Reporter, platform: str | None) -> BaseImage:
    """Return what a base image sets up; it is pulled if the engine does not have it, or has it for another platform.

    Engines that do not store images in containerd have one image of each name, and build on it whatever it is for.

    Args:
        engine: where it is used.
        first: ``FROM`` and its name.
        reporter: for the progress of a pull.
        platform: for which operating system and processor the image is built; None for those of the engine.

    Raises:
        ImageError: ``base-image-unavailable``, ``docker-unreachable``, ``docker-stalled``, ``docker-answer-malformed``.
    """
    import docker.errors

    name = first.text.removeprefix("FROM ")
    image = _Image(engine, name, platform)
    with engine.translate_errors():
        found = _available(image, first, reporter)
        config = found.get("Config") if isinstance(found, Mapping) else None
        base = BaseImage.parse(config if isinstance(config, Mapping) else {})
        try:
            return base.with_entrypoint(_entrypoint(image, base))
        except docker.errors.ImageNotFound:  # it is there for another platform
            _pull(image, first, reporter)
            return base.with_entrypoint(_entrypoint(image, base))


@dataclass(frozen=True)
class _Image:
    engine: Engine
    name: ImageRef
    platform: str | None


def _available(image: _Image, first: Instruction, reporter: Reporter) -> object:
    """Return an image as it is inspected, after a pull where the engine does not have it for the platform."""
    import docker.errors

    engine, name, platform = image.engine, image.name, image.platform

    def inspected() -> object:
        return engine.ask(lambda _: engine.client.images.get(name)).attrs

    try:
        found = inspected()
    except docker.errors.APIError as error:
        if not error.is_client_error():
            raise
        # missing, or its name is invalid, which the pull reports
        _pull(image, first, reporter)
        return inspected()
    wanted = platform or native_platform(engine)
    other = other_architecture(found, wanted) if wanted else None
    if wanted is None or other is None or _has_images_by_platform(engine):
        return found
    try:
        _pull_for(replace(image, platform=wanted), first, reporter, other)
    except ImageError as error:
        if platform is not None or error.id != "base-image-unavailable":
            raise
        reason = f" (cannot pull it again: {error.cause})" if is_about_registry(error.cause or "") else ""
        reporter.warn(f"the base image {name} is for {other}, and the Docker Engine for {wanted}{reason}")
    return inspected()


def _has_images_by_platform(engine: Engine) -> bool:
    """Return whether the engine stores images in containerd: it has those of all platforms under one name, then."""
    info: object = engine.ask(lambda api: api.info())
    status = info.get("DriverStatus") if isinstance(info, Mapping) else None
    return isinstance(status, list) and ["driver-type", "io.containerd.snapshotter.v1"] in status


def _pull_for(image: _Image, first: Instruction, reporter: Reporter, other: str) -> None:
    """Pull an image for a platform that the engine has for another processor.

    Raises:
        ImageError: ``base-image-unavailable``, ``docker-unreachable``, ``docker-stalled``.
    """
    try:
        _pull(image, first, reporter)
    except ImageError as error:
        is_other = error.id in ("docker-unreachable", "docker-stalled", "disk-full")
        if is_other or is_about_registry(error.cause or ""):
            raise
        raise ImageError(
            "base-image-unavailable",
            f"cannot build the image for {image.platform}: the base image {image.name} of this engine is for {other}",
            cause=error.cause or error.message,
            hint=f'set another "base_image" in {CONFIG_FILE}, or another platform in DOCKER_DEFAULT_PLATFORM; '
            f'for clusters and clouds "platform" in {CONFIG_FILE}',
        ) from error


def _pull(image: _Image, first: Instruction, reporter: Reporter) -> None:
    import docker.errors

    def request(api: docker.APIClient, go_on: Callable[[], None]) -> object:
        return api.pull(image.name, stream=True, platform=image.platform)

    watch = DaemonWatch(image.engine, lambda: (f"pulling the base image {image.name}", TRANSFER_SECONDS))
    with reporter.progress("base image", total=None, unit="layer") as progress:
        log = BuildLog((first,), reporter, progress)
        log.feed({"stream": f"Step 1/1 : {first.text}\n"})
        try:
            with streamed_events(image.engine, request, watch) as events:
                for event in events:
                    log.feed(event)
        except docker.errors.APIError as error:
            raise log.failure(str(error.explanation or error)) from error


def _entrypoint(image: _Image, base: BaseImage) -> Entrypoint:
    words = base.entrypoint.dropped
    if not words:
        return base.entrypoint
    path = base.environ.get("PATH") or _USUAL_PATH
    with _container(image) as container:
        return split(words, lambda word: _program(image.engine, container, word, path))


@contextmanager
def _container(image: _Image) -> Iterator[str]:
    """Give the id of a container whose files can be read. It is never started."""
    engine = image.engine
    created = engine.ask(
        lambda api: api.create_container(image.name, command=["caliban"], labels=_LABELS, platform=image.platform)
    )
    identifier = str(created["Id"])
    try:
        yield identifier
    finally:
        engine.ask(lambda api: api.remove_container(identifier, force=True, v=True))


def _program(engine: Engine, container: str, word: str, path: str) -> Program | None:
    places = [word] if "/" in word else [f"{directory}/{word}" for directory in path.split(":") if directory]
    for place in places:
        found = _read(engine, container, place)
        if found is not None:
            return found
    return None


def _read(engine: Engine, container: str, path: str) -> Program | None:
    """Return the beginning of a file of a container; links are followed."""
    import docker.errors

    for _ in range(_MAX_LINKS):
        current = path
        try:
            member, start = engine.ask(lambda api: _first_member(api.get_archive(container, current)[0]))  # noqa: B023
        except docker.errors.NotFound:
            return None
        if member is None or not member.issym():
            return Program(start) if member is not None and member.isfile() else None
        path = str(PurePosixPath(path).parent / member.linkname)
    return None


def _first_member(chunks: Iterable[bytes]) -> tuple[tarfile.TarInfo | None, bytes]:
    """Return the first member of an archive, and the beginning of its content; the rest is not received."""
    received = bytearray()
    for chunk in chunks:
        received += chunk
        if len(received) > 2 * READ:
            break
    close = getattr(chunks, "close", None)
    if close is not None:
        close()
    with tarfile.open(fileobj=io.BytesIO(bytes(received) + bytes(READ)), mode="r:") as archive:
        member = archive.next()
        if member is None:
            return None, b""
        return member, bytes(received[member.offset_data : member.offset_data + min(member.size, READ)])
