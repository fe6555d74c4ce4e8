"""Images for another processor than the engine's: every step of their build runs under emulation, if there is one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from caliban.config import CONFIG_FILE
from caliban.errors import ImageError
from caliban.images.image_platform import architecture, other_architecture, runs_without_emulation
from caliban.images.spec import BuildSpec
from caliban.records import ImageRef
from caliban.reporter import Reporter

if TYPE_CHECKING:
    from caliban.images.docker.engine import Engine

HANDLERS = Path("/proc/sys/fs/binfmt_misc")
"""The programs that run those of other processors (https://docs.kernel.org/admin-guide/binfmt-misc.html)."""

_NOT_RUN = "exec format error"
_MACHINES = {
    "386": 0x03,
    "amd64": 0x3E,
    "arm": 0x28,
    "arm64": 0xB7,
    "ppc64le": 0x15,
    "riscv64": 0xF3,
    "s390x": 0x16,
}
"""``e_machine`` of ELF files."""


@contextmanager
def checked_emulation(engine: Engine, spec: BuildSpec, reporter: Reporter) -> Iterator[Callable[[ImageRef], None]]:
    """Check that an engine can build an image for its platform, before and after a build is tried.

    The block gets a function that checks the image that was built.

    Raises:
        ImageError: ``emulation-missing``, ``image-platform-wrong``.
    """
    wanted = spec.image_platform
    if wanted is not None and (native := native_platform(engine)) and not runs_without_emulation(wanted, native):
        if _is_certainly_missing(engine, wanted):
            raise _missing(wanted, native, f"{HANDLERS} has no program that runs those for {architecture(wanted)}")
        reporter.info(f"building for {wanted} on a Docker Engine for {native}: the steps run under emulation")
    try:
        yield lambda image: _check_built(engine, image, wanted)
    except ImageError as error:
        if _NOT_RUN not in (error.cause or "").lower():
            raise
        raise _missing(wanted, native_platform(engine), error.cause) from error


def _check_built(engine: Engine, image: ImageRef, wanted: str | None) -> None:
    """Check that the engine built what it was to build: it may have used layers of another platform."""
    if wanted is None:
        return
    with engine.translate_errors():
        inspected = engine.ask(lambda _: engine.client.images.get(image)).attrs
    if (other := other_architecture(inspected, wanted)) is not None:
        raise ImageError(
            "image-platform-wrong",
            f"the image was built for {other}, not for {wanted}",
            cause="the Docker Engine built it on a base image for another processor",
            hint=f"run: docker pull --platform {wanted} IMAGE, with the base image; then run the command again",
        )


def native_platform(engine: Engine) -> str | None:
    """Return the engine's platform; None where it does not say."""
    with engine.translate_errors():
        answer: object = engine.ask(lambda api: api.version())
    kernel, machine = (answer.get("Os"), answer.get("Arch")) if isinstance(answer, Mapping) else (None, None)
    return f"{kernel}/{machine}" if isinstance(kernel, str) and isinstance(machine, str) and machine else None


def _is_certainly_missing(engine: Engine, wanted: str) -> bool:
    """Return whether the engine has this machine's kernel, and that has no program for the processor."""
    registered = registered_machines(HANDLERS)
    machine = _MACHINES.get(architecture(wanted))
    if registered is None or machine is None or machine in registered:
        return False
    with engine.translate_errors():
        info: object = engine.ask(lambda api: api.info())
    return isinstance(info, Mapping) and info.get("KernelVersion") == os.uname().release


def registered_machines(directory: Path) -> set[int] | None:
    """Return the processors whose programs the kernel can run under emulation; None where that is unknown."""
    try:
        if (directory / "status").read_text().strip() != "enabled":
            return set()
        names = (path for path in directory.iterdir() if path.name not in ("status", "register"))
        machines = [_machine(path.read_text(errors="replace")) for path in names]
    except OSError:
        return None
    return {each for each in machines if each is not None}


def _machine(entry: str) -> int | None:
    """Read an entry: ``e_machine`` has two bytes at 18, in the order of bytes that the byte at 5 names."""
    lines = entry.splitlines()
    magic = next((line.removeprefix("magic ") for line in lines if line.startswith("magic ")), "")
    try:
        data = bytes.fromhex(magic)
    except ValueError:
        return None
    if lines[:1] != ["enabled"] or not data.startswith(b"\x7fELF") or len(data) < 20:
        return None
    return int.from_bytes(data[18:20], "big" if data[5] == 2 else "little")


def _missing(wanted: str | None, native: str | None, cause: str | None) -> ImageError:
    engine = f"the Docker Engine ({native})" if native else "the Docker Engine"
    if wanted is None or (native and runs_without_emulation(wanted, native)):
        return ImageError(
            "emulation-missing",
            f"cannot build the image: its base image is for another processor than {engine}",
            cause=cause,
            hint=f"pull the base image for this engine: docker pull --platform {native or 'linux/amd64'} IMAGE; "
            f'or set another "base_image" in {CONFIG_FILE}',
        )
    install = f"docker run --privileged --rm tonistiigi/binfmt --install {architecture(wanted)}"
    return ImageError(
        "emulation-missing",
        f"cannot build the image for {wanted}: {engine} cannot run its programs",
        cause=cause,
        hint=f"install emulation: {install}; build on a machine of that kind (DOCKER_HOST, docker context); or, if the "
        f'jobs run on other machines, set "platform" in {CONFIG_FILE}, such as "linux/arm64"',
    )
