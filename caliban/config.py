"""A project's ``.calibanconfig.json``, checked key by key."""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from caliban import input_files, jsonc
from caliban.errors import UsageError
from caliban.records import JobMode, JsonObject

CONFIG_FILE = ".calibanconfig.json"
"""The name of the file, in the project's directory."""

DEFAULT_BASE_IMAGE = "python:3.12-slim"
"""The base image of CPU and GPU images where no ``base_image`` is given: the official Python image.

The wheels of torch, jax and tensorflow contain the CUDA libraries, and ``docker run --gpus`` provides the driver of the
host, so only code that compiles CUDA needs an image of NVIDIA.
"""

_T = TypeVar("_T")

# Keys of caliban 0.4.2; those of the first set changed the contents of its images.
_OLD_KEYS_OF_IMAGES = frozenset({"julia_version", "build_time_credentials", "mlflow_config", "uv"})
_OLD_KEYS = _OLD_KEYS_OF_IMAGES | {"gcloud", "project_id", "cloud_key"}

KEYS_OF_PLACES = frozenset({"registry", "repository", "cloud_platform"})
"""Keys that say where jobs run and where their images are pushed. They do not change what enters an image."""

_MAX_NAME = 1000  # characters; the longest references of images have some hundreds
# These values become part of a Dockerfile: no whitespace, no quotes, no shell metacharacters.
_IMAGE_NAME = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9._-]*(:[0-9]+(?=/))?(/[A-Za-z0-9._-]+)*(:[A-Za-z0-9._-]+)?(@sha256:[0-9a-f]{64})?"
)
# The grammar of image names (distribution/reference: host, port and path components), with a first component that
# Docker treats as a host: it has a dot or a port, or is localhost.
_REGISTRY = re.compile(
    r"(?=[^/]*[.:]|localhost(?:/|$))"
    r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*(?::[0-9]{1,5})?"
    r"(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*"
)
_IMAGE_PLATFORM = re.compile(r"linux/[a-z0-9_-]{1,20}(/v?[a-z0-9.]{1,10})?")
_APT_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]*(:[a-z0-9-]+)?(=[A-Za-z0-9.+:~-]+|/[A-Za-z0-9.-]+)?")


@dataclass(frozen=True)
class PerMode(Generic[_T]):
    """A value for CPU images, and one for GPU images."""

    cpu: _T
    gpu: _T

    def __getitem__(self, mode: JobMode) -> _T:
        return self.gpu if mode is JobMode.GPU else self.cpu


class _InvalidValueError(ValueError):
    """A value that its key does not allow: the path below the key, what was expected, and the value."""

    def __init__(self, path: str, expected: str, found: object) -> None:
        super().__init__(path, expected, found)
        self.path = path
        self.expected = expected
        self.found = found


def _read_image(value: object, mode: JobMode, path: str) -> str:
    expected = "an image name such as python:3.12-slim"
    if not isinstance(value, str) or len(value) > _MAX_NAME:
        raise _InvalidValueError(path, expected, value)
    name = value.replace("{}", mode.value.lower())
    if not _IMAGE_NAME.fullmatch(name):
        raise _InvalidValueError(path, expected, value)
    return name


def _read_packages(value: object, _mode: JobMode, path: str) -> tuple[str, ...]:
    expected = "a list of Debian package names"
    if not isinstance(value, list):
        raise _InvalidValueError(path, expected, value)
    for name in value:
        if not isinstance(name, str) or len(name) > _MAX_NAME or not _APT_PACKAGE.fullmatch(name):
            raise _InvalidValueError(path, expected, name)
    return tuple(value)


def _per_mode(read: Callable[[object, JobMode, str], _T], default: _T) -> Callable[[object], PerMode[_T]]:
    """Read one value for both modes, or an object with the optional keys ``cpu`` and ``gpu``."""

    def both(value: object) -> PerMode[_T]:
        if not isinstance(value, Mapping):
            return PerMode(cpu=read(value, JobMode.CPU, ""), gpu=read(value, JobMode.GPU, ""))
        for key in value:
            if key not in ("cpu", "gpu"):
                raise _InvalidValueError("", "an object with the keys cpu and gpu", key)
        return PerMode(
            cpu=read(value["cpu"], JobMode.CPU, ".cpu") if "cpu" in value else default,
            gpu=read(value["gpu"], JobMode.GPU, ".gpu") if "gpu" in value else default,
        )

    return both


def _read_mode(value: object) -> JobMode:
    if not isinstance(value, str) or value.upper() not in JobMode.__members__:
        raise _InvalidValueError("", "CPU or GPU", value)
    return JobMode(value.upper())


def _read_registry(value: object) -> str:
    return _read_place(value, EXPECTED_REGISTRY, is_registry)


def _read_repository(value: object) -> str:
    return _read_place(value, EXPECTED_REPOSITORY, is_repository)


def _read_place(value: object, expected: str, is_valid: Callable[[str], bool]) -> str:
    if not isinstance(value, str):
        raise _InvalidValueError("", expected, value)
    if is_valid(value):
        return value
    if is_valid(lower := value.lower()):
        raise _InvalidValueError("", f"lower case, as in every name of an image: {lower}", value)
    raise _InvalidValueError("", expected, redact_user(value))


def _read_cloud_platform(value: object) -> str:
    if not isinstance(value, str) or len(value) > _MAX_NAME:
        raise _InvalidValueError("", "the name of a platform", value)
    return value


def _read_platform(value: object) -> str:
    if not isinstance(value, str) or not _IMAGE_PLATFORM.fullmatch(value):
        raise _InvalidValueError("", "an operating system and a processor, such as linux/arm64", value)
    return value


def _read_files(value: object) -> tuple[str, ...]:
    expected = "a list of paths in the project, such as tests/data/key.pem, without patterns"
    if not isinstance(value, list):
        raise _InvalidValueError("", expected, value)
    for name in value:
        if not isinstance(name, str) or os.path.normpath(name) != name or name.startswith(("/", "..")) or name == ".":
            raise _InvalidValueError("", expected, name)
    return tuple(value)


EXPECTED_REGISTRY = "a registry and a path in it, such as registry.example.com/team/images, without scheme and tag"
"""What :func:`is_registry` accepts, for messages."""


EXPECTED_REPOSITORY = (
    "a repository with its registry, such as ghcr.io/team/images (on Docker Hub docker.io/NAME/images), without scheme "
    "and tag"
)
"""What :func:`is_repository` accepts, for messages."""


def is_registry(name: str) -> bool:
    """Return whether ``name`` can be the first part of an image reference: ``HOST[:PORT][/PATH]``."""
    return len(name) <= _MAX_NAME and _REGISTRY.fullmatch(name) is not None


def is_repository(name: str) -> bool:
    """Return whether ``name`` is an image reference without tag and digest: ``HOST[:PORT]/PATH``."""
    return "/" in name and is_registry(name)


def redact_user(name: str) -> str:
    """Return ``name`` without the user and password that some write before a registry's host."""
    parts = (part.rpartition("@") for part in name.split("/"))
    return "/".join(f"***@{rest}" if at else rest for _, at, rest in parts)


_NO_PACKAGES: tuple[str, ...] = ()


@dataclass(frozen=True)
class ProjectConfig:
    """A project's configuration. Every field but ``raw`` is a key of the file; a new key is a new field.

    Attributes:
        base_image: the image to build from, with ``{}`` replaced by the mode.
        apt_packages: Debian packages to install.
        default_mode: the mode of commands without ``--nogpu``; GPU, as in caliban 0.4.2.
        registry: where images are pushed for jobs on other machines: ``registry.example.com/team/images``; None for the
            platform's default. Each platform checks the rules of its own registries. Each image has a repository of its
            own there.
        repository: one repository that all images are pushed to instead, each as a tag.
        cloud_platform: where ``caliban cloud`` submits without ``--platform``, by a name that the command checks; None
            for the command's default.
        platform: for which machines the images of clusters and clouds are built, such as ``linux/arm64``; None for the
            default.
        include_credentials: files and directories that are copied into images although they look like credentials,
            relative to the project; empty for a recorded configuration, which may be another user's.
        raw: the JSON object of the file, for the store.
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
    repository: str | None = field(default=None, metadata={"read": _read_repository})
    cloud_platform: str | None = field(default=None, metadata={"read": _read_cloud_platform})
    platform: str | None = field(default=None, metadata={"read": _read_platform})
    include_credentials: tuple[str, ...] = field(default=(), metadata={"read": _read_files})
    raw: JsonObject = field(default_factory=dict, hash=False, repr=False)

    def as_record(self) -> JsonObject:
        """Return the JSON object of the file, for ``container_specs.spec``; ``{}`` where there is no file."""
        return self.raw

    def base_image_for(self, mode: JobMode) -> str:
        """Return the base image of images for ``mode``."""
        return self.base_image[mode]

    def apt_packages_for(self, mode: JobMode) -> tuple[str, ...]:
        """Return the Debian packages of images for ``mode``, in the order given."""
        return self.apt_packages[mode]


_READERS: Mapping[str, Callable[[object], object]] = {
    each.name: each.metadata["read"] for each in fields(ProjectConfig) if "read" in each.metadata
}


def load_config(directory: Path) -> ProjectConfig:
    """Read a project's ``.calibanconfig.json``; without a file, return the defaults.

    Raises:
        UsageError: ``malformed-json``, ``config-unreadable``; ``malformed-config`` or ``unknown-config-key``, naming
            the key.
    """
    try:
        text = input_files.read_text(directory / CONFIG_FILE)
    except input_files.InputFileError as error:
        if error.is_missing:
            return ProjectConfig()
        raise error.translated(UsageError, "config-unreadable", f"cannot read {CONFIG_FILE}") from error
    raw = jsonc.loads(text, source=CONFIG_FILE)
    if not isinstance(raw, dict):
        raise UsageError(
            "malformed-config",
            f"invalid {CONFIG_FILE}",
            cause=f"expected an object, got {_quote(raw)}",
            hint='for example: {"default_mode": "CPU"}',
        )
    return _checked(raw, CONFIG_FILE, refused=_OLD_KEYS)


def config_from_record(raw: JsonObject) -> ProjectConfig:
    """Read the ``caliban_config`` that a container spec recorded, by caliban 0.4.2 or by us.

    caliban 0.4.2 records keys of its own too, mostly null or empty. Those that did not change the image are ignored.

    Raises:
        UsageError: as :func:`load_config`.
    """
    config = _checked(raw, "the recorded caliban_config", refused=_OLD_KEYS_OF_IMAGES)
    return replace(config, include_credentials=())


def _checked(raw: JsonObject, source: str, *, refused: frozenset[str]) -> ProjectConfig:
    values: dict[str, Any] = {}
    for key, value in raw.items():
        if key in _READERS:
            values[key] = _read(key, value, source)
        elif key not in _OLD_KEYS:
            raise _unknown(key, source)
        elif value and key in refused:
            raise UsageError(
                "unknown-config-key",
                f'invalid {source}: the key "{key}" of caliban 0.4.2 is no longer supported',
                hint=f'remove "{key}"; use base_image, apt_packages and requirements.txt to change the image',
            )
    if values.get("registry") is not None and values.get("repository") is not None:
        raise UsageError(
            "malformed-config",
            f'invalid {source}: both "registry" and "repository"',
            cause="images are pushed either to a repository each, below a registry, or all to one repository",
            hint='remove "registry" or "repository"',
        )
    return ProjectConfig(**values, raw=raw)


def _read(key: str, value: object, source: str) -> object:
    try:
        return _READERS[key](value)
    except _InvalidValueError as error:
        raise UsageError(
            "malformed-config",
            f"invalid {source}: {key}{error.path}",
            cause=f"expected {error.expected}, got {_quote(error.found)}",
            hint=f'correct or remove "{key}"',
        ) from error


def _unknown(key: str, source: str) -> UsageError:
    near = difflib.get_close_matches(key, _READERS, n=1)
    known = ", ".join(sorted(_READERS))
    return UsageError(
        "unknown-config-key",
        f"invalid {source}: unknown key {_quote(key)}",
        hint=f"did you mean {near[0]}?" if near else f"known keys: {known}",
    )


def _quote(value: object) -> str:
    """Return a value as JSON writes it, cut to 80 characters."""
    text = json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= 80 else text[:77] + "..."
