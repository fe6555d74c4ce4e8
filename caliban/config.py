"""A project's ``.calibanconfig.json``, checked key by key."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Generic, TypeVar

from caliban import jsonc
from caliban.errors import UsageError
from caliban.records import JobMode, JsonObject, PlatformName

CONFIG_FILE = ".calibanconfig.json"
"""The file's name; it lies in the project's folder."""

DEFAULT_BASE_IMAGE = "python:3.12-slim"
"""What an image is built from where no ``base_image`` is given, with and without GPU.

The official Python image: the wheels of torch, jax and tensorflow bring the CUDA libraries with them, and the driver
comes from the host through ``docker run --gpus``, so that an image of NVIDIA's is needed only by code that compiles
CUDA itself.
"""

_T = TypeVar("_T")

# caliban 0.4.2 reads these; those of the first set changed what was inside its images.
_PEER_KEYS_OF_IMAGES = frozenset({"julia_version", "build_time_credentials", "mlflow_config", "uv"})
_PEER_KEYS = _PEER_KEYS_OF_IMAGES | {"gcloud", "project_id", "cloud_key"}

# These values become part of a Dockerfile, so that neither may hold a blank, a quote or anything that a shell reads.
_IMAGE_NAME = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9._-]*(:[0-9]+(?=/))?(/[A-Za-z0-9._-]+)*(:[A-Za-z0-9._-]+)?(@sha256:[0-9a-f]{64})?"
)
# The grammar of image names (distribution/reference: host, port and path components), with a host that Docker takes
# for one: it has a dot or a port, or is localhost.
_REGISTRY = re.compile(
    r"(?=[^/]*[.:]|localhost(?:/|$))"
    r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*(?::[0-9]{1,5})?"
    r"(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*"
)
# Google's registries hold images in projects, and Artifact Registry in repositories of projects.
_UNFINISHED_GOOGLE_REGISTRY = re.compile(r"(?:[a-z0-9-]+\.)*gcr\.io|[a-z0-9-]+-docker\.pkg\.dev(?:/[^/]+)?")
_APT_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]*(:[a-z0-9-]+)?(=[A-Za-z0-9.+:~-]+|/[A-Za-z0-9.-]+)?")


@dataclass(frozen=True)
class PerMode(Generic[_T]):
    """One value for images without GPU, one for those with."""

    cpu: _T
    gpu: _T

    def __getitem__(self, mode: JobMode) -> _T:
        return self.gpu if mode is JobMode.GPU else self.cpu


class _WrongValueError(ValueError):
    """A value that does not fit its key: where below the key it stands, what was expected, what is there."""

    def __init__(self, below: str, expected: str, found: object) -> None:
        super().__init__(below, expected, found)
        self.below = below
        self.expected = expected
        self.found = found


def _read_image(value: object, mode: JobMode, below: str) -> str:
    expected = "the name of an image, such as python:3.12-slim"
    if not isinstance(value, str):
        raise _WrongValueError(below, expected, value)
    name = value.replace("{}", mode.value.lower())
    if not _IMAGE_NAME.fullmatch(name):
        raise _WrongValueError(below, expected, value)
    return name


def _read_packages(value: object, _mode: JobMode, below: str) -> tuple[str, ...]:
    expected = "a list of names of Debian packages"
    if not isinstance(value, list):
        raise _WrongValueError(below, expected, value)
    for name in value:
        if not isinstance(name, str) or not _APT_PACKAGE.fullmatch(name):
            raise _WrongValueError(below, expected, name)
    return tuple(value)


def _per_mode(read: Callable[[object, JobMode, str], _T], default: _T) -> Callable[[object], PerMode[_T]]:
    """Read one value for both modes, or an object with ``cpu`` and ``gpu``, either of which may be left out."""

    def both(value: object) -> PerMode[_T]:
        if not isinstance(value, Mapping):
            return PerMode(cpu=read(value, JobMode.CPU, ""), gpu=read(value, JobMode.GPU, ""))
        for key in value:
            if key not in ("cpu", "gpu"):
                raise _WrongValueError("", "an object with the keys cpu and gpu", key)
        return PerMode(
            cpu=read(value["cpu"], JobMode.CPU, ".cpu") if "cpu" in value else default,
            gpu=read(value["gpu"], JobMode.GPU, ".gpu") if "gpu" in value else default,
        )

    return both


def _read_mode(value: object) -> JobMode:
    if not isinstance(value, str) or value.upper() not in JobMode.__members__:
        raise _WrongValueError("", "CPU or GPU", value)
    return JobMode(value.upper())


def _read_registry(value: object) -> str:
    if not isinstance(value, str):
        raise _WrongValueError("", EXPECTED_REGISTRY, value)
    if not is_registry(value):
        raise _WrongValueError("", EXPECTED_REGISTRY, without_user(value))
    return value


CLOUD_PLATFORMS: Mapping[str, PlatformName] = {"vertex": PlatformName.VERTEX, "caip": PlatformName.CAIP}
"""Where ``caliban cloud`` may submit, by the names that people use."""

SUCCESSORS: Mapping[str, PlatformName] = {"vertex": PlatformName.VERTEX}
"""The platforms that take over jobs of others, likewise: each a :class:`caliban.platforms.base.MigrationTarget`."""


def _read_cloud_platform(value: object) -> PlatformName:
    if not isinstance(value, str) or value not in CLOUD_PLATFORMS:
        raise _WrongValueError("", " or ".join(CLOUD_PLATFORMS), value)
    return CLOUD_PLATFORMS[value]


EXPECTED_REGISTRY = "a registry and a place in it, such as us-docker.pkg.dev/my-project/my-repo; no scheme, no tag"
"""What :func:`is_registry` takes, for messages."""


def is_registry(name: str) -> bool:
    """Tell whether ``name`` can stand before the name of a pushed image: ``HOST[:PORT][/PATH]``.

    A host of Google's has to be followed by what Google asks for: ``gcr.io/PROJECT``,
    ``LOCATION-docker.pkg.dev/PROJECT/REPOSITORY``.
    """
    return bool(_REGISTRY.fullmatch(name)) and not _UNFINISHED_GOOGLE_REGISTRY.fullmatch(name)


def without_user(name: str) -> str:
    """Hide user and password, which some write before a registry's host, so that the name can be shown."""
    return re.sub(r"[^/]*@", "***@", name)


_NO_PACKAGES: tuple[str, ...] = ()


@dataclass(frozen=True)
class ProjectConfig:
    """What a project says about its images; every field but ``raw`` is a key of the file.

    A new key is a new field: its name, its type, and how it is read.

    Attributes:
        base_image: the image to build from, ``{}`` already replaced by the mode.
        apt_packages: Debian packages to install into it.
        default_mode: the mode of commands that are not told ``--nogpu``; GPU, as in caliban 0.4.2.
        registry: where images are pushed for jobs that run elsewhere: ``us-docker.pkg.dev/my-project/my-repo``; None
            is for the platform's own choice, ``gcr.io/PROJECT`` on Google's.
        cloud_platform: where ``caliban cloud`` submits without ``--platform``.
        raw: the file's object as it was read, for the record.
    """

    base_image: PerMode[str] = field(
        default=PerMode(DEFAULT_BASE_IMAGE, DEFAULT_BASE_IMAGE),
        metadata={"read": _per_mode(_read_image, DEFAULT_BASE_IMAGE)},
    )
    apt_packages: PerMode[tuple[str, ...]] = field(
        default=PerMode(_NO_PACKAGES, _NO_PACKAGES), metadata={"read": _per_mode(_read_packages, _NO_PACKAGES)}
    )
    default_mode: JobMode = field(default=JobMode.GPU, metadata={"read": _read_mode})
    registry: str | None = field(default=None, metadata={"read": _read_registry})
    cloud_platform: PlatformName = field(default=PlatformName.VERTEX, metadata={"read": _read_cloud_platform})
    raw: JsonObject = field(default_factory=dict, hash=False, repr=False)

    def as_record(self) -> JsonObject:
        """Give back what stands in the file, for ``container_specs.spec``; ``{}`` where there is none."""
        return self.raw

    def base_image_for(self, mode: JobMode) -> str:
        """Name the image that one for ``mode`` is built from."""
        return self.base_image[mode]

    def apt_packages_for(self, mode: JobMode) -> tuple[str, ...]:
        """List the Debian packages of an image for ``mode``, in the order given."""
        return self.apt_packages[mode]


_READERS: Mapping[str, Callable[[object], object]] = {
    each.name: each.metadata["read"] for each in fields(ProjectConfig) if "read" in each.metadata
}


def load_config(folder: Path) -> ProjectConfig:
    """Read a project's ``.calibanconfig.json``; a project without one gets the defaults.

    Raises:
        UsageError: ``malformed-json``, ``config-unreadable``; ``malformed-config`` or ``unknown-config-key``, naming
            the key.
    """
    try:
        text = (folder / CONFIG_FILE).read_text(encoding="utf-8")
    except FileNotFoundError:
        return ProjectConfig()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError("config-unreadable", f"{CONFIG_FILE} cannot be read", cause=str(error)) from error
    raw = jsonc.loads(text, source=CONFIG_FILE)
    if not isinstance(raw, dict):
        raise UsageError(
            "malformed-config", f"{CONFIG_FILE} is not usable", cause=f"expected an object, found {_shown(raw)}"
        )
    return _checked(raw, CONFIG_FILE, refused=_PEER_KEYS)


def config_from_record(raw: JsonObject) -> ProjectConfig:
    """Read the ``caliban_config`` that a container spec recorded, by caliban 0.4.2 or by us.

    The peer records its own keys too, mostly null or empty. Those that had no part in the image are passed over.

    Raises:
        UsageError: as :func:`load_config`.
    """
    return _checked(raw, "the recorded caliban_config", refused=_PEER_KEYS_OF_IMAGES)


def _checked(raw: JsonObject, source: str, *, refused: frozenset[str]) -> ProjectConfig:
    values: dict[str, Any] = {}
    for key, value in raw.items():
        if key in _READERS:
            values[key] = _read(key, value, source)
        elif key not in _PEER_KEYS:
            raise _unknown(key, source)
        elif value and key in refused:
            raise UsageError(
                "unknown-config-key",
                f"{source} is not usable: caliban 0.4.2 read the key {key}, this caliban does not",
                hint=f"take {key} out; what an image needs can go into base_image, apt_packages and requirements.txt",
            )
    return ProjectConfig(**values, raw=raw)


def _read(key: str, value: object, source: str) -> object:
    try:
        return _READERS[key](value)
    except _WrongValueError as error:
        raise UsageError(
            "malformed-config",
            f"{source} is not usable: {key}{error.below}",
            cause=f"expected {error.expected}; found {_shown(error.found)}",
        ) from error


def _unknown(key: str, source: str) -> UsageError:
    near = difflib.get_close_matches(key, _READERS, n=1)
    known = ", ".join(sorted(_READERS))
    return UsageError(
        "unknown-config-key",
        f"{source} is not usable: there is no key {_shown(key)}",
        hint=f"did you mean {near[0]}?" if near else f"the keys are: {known}",
    )


def _shown(value: object) -> str:
    text = "null" if value is None else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
