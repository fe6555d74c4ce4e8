"""Typed ``container_specs.spec``: how to build an image, or the name of an existing one."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from caliban.config import CONFIG_FILE, DEFAULT_BASE_IMAGE, ProjectConfig, config_from_record, load_config
from caliban.errors import ImageError, UsageError
from caliban.images import dependencies
from caliban.images.interpreter import is_general, not_runnable
from caliban.images.package import Package
from caliban.input_files import is_dir, is_file, is_inside, shortened
from caliban.records import ImageRef, JobMode, JsonObject

REQUIREMENTS_FILE = "requirements.txt"
CONDA_FILES = ("environment.yml", "environment.yaml")
"""conda's file; the first that a project has."""


@dataclass(frozen=True)
class BuildSpec:
    """An image that is built from a project directory.

    Attributes:
        build_path: the project directory, absolute.
        package: what the image runs.
        job_mode: for CPU or GPU machines.
        config: the project's configuration.
        extra_dirs: directories to copy besides the package, relative to ``build_path``, in the order given.
        setup_extras: extras of the project's setup.py or pyproject.toml, whose dependencies are installed; None
            where the project has neither. The first is ``cpu`` or ``gpu``, as in caliban 0.4.2.
        requirements_path: pip's file, relative to ``build_path``, or None.
        conda_env_path: conda's file, relative to ``build_path``, or None.
        no_cache: build every layer again.
        image_platform: for which operating system and processor, such as ``linux/amd64``; None for those of the engine
            that builds it. Not recorded: it belongs to the job that runs the image
            (:meth:`caliban.platforms.base.Platform.image_platform`).
    """

    build_path: Path
    package: Package
    job_mode: JobMode
    config: ProjectConfig
    extra_dirs: tuple[str, ...] = ()
    setup_extras: tuple[str, ...] | None = None
    requirements_path: str | None = None
    conda_env_path: str | None = None
    no_cache: bool = False
    image_platform: str | None = None

    @classmethod
    def detect(
        cls,
        directory: Path,
        package: Package,
        *,
        job_mode: JobMode,
        config: ProjectConfig,
        extra_dirs: Iterable[str] = (),
        setup_extras: Iterable[str] = (),
        no_cache: bool = False,
    ) -> BuildSpec:
        """Make a spec from the files of a directory: requirements.txt, environment.yml, setup.py, pyproject.toml.

        Raises:
            UsageError: ``extra-dir-outside-folder``, ``extra-dir-not-found``; ``malformed-extra`` for an extra
                that is not a valid name; ``extras-without-setup`` for extras of a project that cannot be installed;
                ``project-unreadable`` for a file of dependencies that is not a file; ``script-not-runnable`` for a
                script whose program the base image does not have.
        """
        root = directory.absolute()
        _check_interpreter(package, config, job_mode)
        extras = tuple(setup_extras)
        for extra in extras:
            if not is_extra_name(extra):
                raise UsageError(
                    "malformed-extra", f'invalid extra "{shortened(extra)}"', hint="use a name such as dev or gpu"
                )
        spec = cls(
            build_path=root,
            package=package,
            job_mode=job_mode,
            config=config,
            extra_dirs=tuple(_checked_extra_dir(root, each) for each in extra_dirs),
            no_cache=no_cache,
        )._with_dependency_files(extras)
        if extras and spec.setup_extras is None:
            raise UsageError(
                "extras-without-setup",
                f"cannot install --extras {extras[0]}: {root} has neither setup.py nor pyproject.toml",
                hint="remove --extras, or list the dependencies in requirements.txt",
            )
        return spec

    def refreshed(self) -> BuildSpec:
        """Return the spec for a re-run: the present files replace what was recorded.

        The recorded configuration is used where the directory has no ``.calibanconfig.json``.

        Raises:
            ImageError: ``build-folder-gone``, ``script-gone``, ``extra-dir-gone``.
            UsageError: what :func:`caliban.config.load_config` raises.
        """
        if not is_dir(self.build_path):
            raise ImageError(
                "build-folder-gone",
                f"cannot rebuild the image: directory not found: {self.build_path}",
                hint="restore the directory, or name the one that it has moved to: caliban resubmit --build_path DIR",
            )
        if not is_file(self.build_path / self.package.script_path):
            raise ImageError(
                "script-gone",
                f"cannot rebuild the image: {self.package.script_path} not found in {self.build_path}",
                hint="restore the script, or create a new experiment for another one",
            )
        for each in self.extra_dirs:
            if not is_dir(self.build_path / each):
                raise ImageError(
                    "extra-dir-gone",
                    f"cannot rebuild the image: directory {each} not found in {self.build_path}",
                    hint=f"restore the directory: the experiments were created with -d {each}",
                )
        config = load_config(self.build_path) if os.path.lexists(self.build_path / CONFIG_FILE) else self.config
        return replace(self, config=config)._with_dependency_files(self.setup_extras or ())

    def as_record(self) -> JsonObject:
        """Return the spec as caliban 0.4.2 records it. Images never contain credentials."""
        package = self.package
        return {
            "adc_path": None,
            "build_path": str(self.build_path),
            "caliban_config": self.config.as_record(),
            "conda_env_path": self.conda_env_path,
            "credentials_path": None,
            "extra_dirs": list(self.extra_dirs) or None,
            "job_mode": self.job_mode.value,
            "no_cache": self.no_cache,
            "package": _package_record(package),
            "requirements_path": self.requirements_path,
            "setup_extras": None if self.setup_extras is None else list(self.setup_extras),
        }

    def _with_dependency_files(self, extras: tuple[str, ...]) -> BuildSpec:
        mode = self.job_mode.value.lower()
        with_mode = extras if mode in extras else (mode, *extras)
        return replace(
            self,
            requirements_path=dependencies.find(self.build_path, REQUIREMENTS_FILE),
            conda_env_path=next(filter(None, (dependencies.find(self.build_path, name) for name in CONDA_FILES)), None),
            setup_extras=with_mode if dependencies.is_installable(self.build_path) else None,
        )


@dataclass(frozen=True)
class ImageSpec:
    """An existing image, which is never rebuilt.

    Attributes:
        image: its reference.
        package: what it runs; None in records of caliban 0.4.2, which drops it.
    """

    image: ImageRef
    package: Package | None = None

    def as_record(self) -> JsonObject:
        """Return the spec: ``image_id`` as caliban 0.4.2 records it, and ``package``."""
        record: dict[str, object] = {"image_id": self.image}
        if self.package is not None:
            record["package"] = _package_record(self.package)
        return record


def parse_container_spec(raw: JsonObject) -> BuildSpec | ImageSpec:
    """Read a container spec that this version or caliban 0.4.2 recorded.

    Recorded credentials (``credentials_path``, ``adc_path``) are ignored: images never contain credentials.

    Raises:
        ImageError: ``malformed-container-spec``, naming the key.
    """
    if "image_id" in raw:
        image = _text(raw, "image_id")
        # Nothing is built from this package: it is shown only, and may name files that exist only in the image.
        return ImageSpec(image, None if raw.get("package") is None else _package(raw))
    build_path = Path(_text(raw, "build_path"))
    if not build_path.is_absolute():
        raise _malformed("build_path", "an absolute path", raw["build_path"])
    mode = _text(raw, "job_mode")
    if mode not in JobMode.__members__:
        raise _malformed("job_mode", "CPU or GPU", mode)
    extras = _texts(raw, "setup_extras")
    if extras is not None and not all(map(is_extra_name, extras)):
        raise _malformed("setup_extras", "names of extras", raw["setup_extras"])
    return BuildSpec(
        build_path=build_path,
        package=_package_in_project(raw),
        job_mode=JobMode(mode),
        config=_config(raw),
        extra_dirs=tuple(_recorded_path("extra_dirs", each) for each in _texts(raw, "extra_dirs") or ()),
        setup_extras=extras,
        requirements_path=_optional_path(raw, "requirements_path"),
        conda_env_path=_optional_path(raw, "conda_env_path"),
        no_cache=raw.get("no_cache") is True,
    )


def is_extra_name(name: str) -> bool:
    """Return whether this is a valid name of an extra (PEP 508). It becomes part of a Dockerfile."""
    return name.isascii() and name.replace("-", "").replace("_", "").replace(".", "").isalnum()


def _package_record(package: Package) -> list[object]:
    return [list(package.executable), package.package_path, package.script_path, package.main_module]


def _package(raw: JsonObject) -> Package:
    value = raw.get("package")
    expected = "[[executable ...], package path, script path, module or null]"
    if not isinstance(value, list) or len(value) != 4:
        raise _malformed("package", expected, value)
    executable, package_path, script_path, module = value
    if not isinstance(executable, list) or not executable or not all(isinstance(each, str) for each in executable):
        raise _malformed("package", expected, value)
    if not isinstance(package_path, str) or not isinstance(script_path, str) or not isinstance(module, str | None):
        raise _malformed("package", expected, value)
    return Package(tuple(executable), package_path, script_path, module)


def _package_in_project(raw: JsonObject) -> Package:
    package = _package(raw)
    return replace(
        package,
        package_path=_recorded_path("package", package.package_path),
        script_path=_recorded_path("package", package.script_path),
    )


def _config(raw: JsonObject) -> ProjectConfig:
    value = raw.get("caliban_config")
    if not isinstance(value, dict | None):
        raise _malformed("caliban_config", "an object", value)
    try:
        return config_from_record(value or {})
    except UsageError as error:
        cause = error.message if error.cause is None else f"{error.message}\n{error.cause}"
        raise ImageError(
            "malformed-container-spec",
            "invalid caliban_config in the recorded container spec",
            cause=cause,
            hint=_HINT,
        ) from error


def _text(raw: JsonObject, key: str) -> str:
    value = raw.get(key)
    if not isinstance(value, str) or not value:
        raise _malformed(key, "a string", value)
    return value


def _texts(raw: JsonObject, key: str) -> tuple[str, ...] | None:
    value = raw.get(key)
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise _malformed(key, "a list of strings, or null", value)
    return tuple(value)


def _optional_path(raw: JsonObject, key: str) -> str | None:
    return None if raw.get(key) is None else _recorded_path(key, _text(raw, key))


def _recorded_path(key: str, value: str) -> str:
    if not _stays_inside(value):
        raise _malformed(key, "a path inside the build directory", value)
    return str(PurePosixPath(value))


def _stays_inside(path: str) -> bool:
    pure = PurePosixPath(path)
    return bool(path) and "\0" not in path and not pure.is_absolute() and ".." not in pure.parts


def _check_interpreter(package: Package, config: ProjectConfig, mode: JobMode) -> None:
    """Check that the default base image, whose contents are known, has what runs the script."""
    program = package.executable[0]
    is_default = config.base_image_for(mode) == DEFAULT_BASE_IMAGE and not config.apt_packages_for(mode)
    if is_default and not is_general(package.executable):
        raise not_runnable(
            PurePosixPath(package.script_path),
            f"{program} runs it, which the base image {DEFAULT_BASE_IMAGE} does not have",
            f'set a "base_image" that has {program}, or "apt_packages", in {CONFIG_FILE}',
        )


def _checked_extra_dir(root: Path, extra: str) -> str:
    if not _stays_inside(extra) or not is_inside(root / extra, root):
        raise UsageError(
            "extra-dir-outside-folder",
            f'-d "{shortened(extra)}" is outside {root}',
            hint="give a directory of the project, relative to it; links to other places are not allowed",
        )
    if not is_dir(root / extra):
        raise UsageError(
            "extra-dir-not-found",
            f'directory not found: "{shortened(extra)}" in {root}',
            hint="create it, or remove -d",
        )
    return str(PurePosixPath(os.path.normpath(extra)))


_HINT = "the store contains a value that no version of caliban writes; submit the experiment again"


def _malformed(key: str, expected: str, found: object) -> ImageError:
    return ImageError(
        "malformed-container-spec",
        f"invalid {key} in the recorded container spec",
        cause=f"expected {expected}, got {'null' if found is None else repr(found)}",
        hint=_HINT,
    )
