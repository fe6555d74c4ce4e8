"""The typed view of ``container_specs.spec``: what an image is made of, or which image it is."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from caliban.config import CONFIG_FILE, ProjectConfig, config_from_record, load_config
from caliban.errors import ImageError, UsageError
from caliban.images.package import Package
from caliban.records import ImageRef, JobMode, JsonObject

REQUIREMENTS_FILE = "requirements.txt"
CONDA_FILE = "environment.yml"

# A pyproject.toml with nothing but settings of linters in it describes no project that pip could install.
_DESCRIBES_A_PROJECT = re.compile(r"^\s*\[\s*(project|build-system)\s*\]", re.MULTILINE)


@dataclass(frozen=True)
class BuildSpec:
    """An image that is built from a folder.

    Attributes:
        build_path: the project's folder, absolute.
        package: what runs.
        job_mode: with or without GPU.
        config: the project's configuration.
        extra_dirs: folders that go in beside the package, relative to ``build_path``, in the order given.
        setup_extras: extras of the project's own setup.py or pyproject.toml, whose dependencies are installed; None
            where the project has neither. caliban 0.4.2 puts ``cpu`` or ``gpu`` first, and so do we.
        requirements_path: pip's file, relative to ``build_path``, or None.
        conda_env_path: conda's file, relative to ``build_path``, or None.
        no_cache: build every layer anew.
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

    @classmethod
    def detect(
        cls,
        folder: Path,
        package: Package,
        *,
        job_mode: JobMode,
        config: ProjectConfig,
        extra_dirs: Iterable[str] = (),
        setup_extras: Iterable[str] = (),
        no_cache: bool = False,
    ) -> BuildSpec:
        """Make a spec of what is in the folder: requirements.txt, environment.yml, setup.py or pyproject.toml.

        Raises:
            UsageError: ``extra-dir-outside-folder``, ``extra-dir-not-found``; ``malformed-extra`` for an extra whose
                name pip would not take; ``extras-without-setup`` for extras of a folder that cannot be installed.
        """
        root = folder.absolute()
        asked = tuple(setup_extras)
        for extra in asked:
            if not is_extra_name(extra):
                raise UsageError(
                    "malformed-extra",
                    f"{extra!r} is not the name of an extra",
                    hint="an extra is named like dev or gpu",
                )
        spec = cls(
            build_path=root,
            package=package,
            job_mode=job_mode,
            config=config,
            extra_dirs=tuple(_checked_extra_dir(root, each) for each in extra_dirs),
            no_cache=no_cache,
        )._with_dependencies_of_folder(asked)
        if asked and spec.setup_extras is None:
            raise UsageError(
                "extras-without-setup",
                f"--extras {asked[0]} cannot be installed: {root} has no setup.py and no pyproject.toml",
                hint="leave --extras out, or name the dependencies in requirements.txt",
            )
        return spec

    def refreshed(self) -> BuildSpec:
        """Look at the folder again for a re-run: what is in it now wins over what was recorded.

        The recorded configuration is used where the folder has no ``.calibanconfig.json``.

        Raises:
            ImageError: ``build-folder-gone``, ``script-gone``, ``extra-dir-gone``.
            UsageError: what :func:`caliban.config.load_config` finds wrong.
        """
        if not self.build_path.is_dir():
            raise ImageError(
                "build-folder-gone",
                f"the image cannot be rebuilt: its folder {self.build_path} is not there",
                hint="put the folder back where it was when the experiments were first run",
            )
        if not (self.build_path / self.package.script_path).is_file():
            raise ImageError(
                "script-gone",
                f"the image cannot be rebuilt: {self.package.script_path} is not in {self.build_path}",
                hint="put the script back, or run the new one as an experiment of its own",
            )
        for each in self.extra_dirs:
            if not (self.build_path / each).is_dir():
                raise ImageError(
                    "extra-dir-gone",
                    f"the image cannot be rebuilt: the folder {each} is not in {self.build_path}",
                    hint="put the folder back; the experiments were run with -d " + each,
                )
        config = load_config(self.build_path) if (self.build_path / CONFIG_FILE).exists() else self.config
        return replace(self, config=config)._with_dependencies_of_folder(self.setup_extras or ())

    def as_record(self) -> JsonObject:
        """Write the spec as caliban 0.4.2 does; credentials are never part of an image of ours."""
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

    def _with_dependencies_of_folder(self, extras: tuple[str, ...]) -> BuildSpec:
        def present(name: str) -> str | None:
            return name if (self.build_path / name).is_file() else None

        mode = self.job_mode.value.lower()
        with_mode = extras if mode in extras else (mode, *extras)
        return replace(
            self,
            requirements_path=present(REQUIREMENTS_FILE),
            conda_env_path=present(CONDA_FILE),
            setup_extras=with_mode if _is_installable(self.build_path) else None,
        )


@dataclass(frozen=True)
class ImageSpec:
    """An image that was there already: never rebuilt.

    Attributes:
        image: which one.
        package: what was asked to run in it; None in records of caliban 0.4.2, which drops it.
    """

    image: ImageRef
    package: Package | None = None

    def as_record(self) -> JsonObject:
        """Write the spec: the peer's ``image_id``, and our ``package`` beside it."""
        record: dict[str, object] = {"image_id": self.image}
        if self.package is not None:
            record["package"] = _package_record(self.package)
        return record


def parse_container_spec(raw: JsonObject) -> BuildSpec | ImageSpec:
    """Read a recorded container spec, of caliban 0.4.2 or our own.

    Credentials that the peer recorded (``credentials_path``, ``adc_path``) are passed over: they belong in no image.

    Raises:
        ImageError: ``malformed-container-spec``, naming the key that is wrong.
    """
    if "image_id" in raw:
        image = _text(raw, "image_id")
        # Nothing is built from this package: it is there to be shown, and may name what is in the image alone.
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
        package=_package_of_folder(raw),
        job_mode=JobMode(mode),
        config=_config(raw),
        extra_dirs=tuple(_recorded_path("extra_dirs", each) for each in _texts(raw, "extra_dirs") or ()),
        setup_extras=extras,
        requirements_path=_optional_path(raw, "requirements_path"),
        conda_env_path=_optional_path(raw, "conda_env_path"),
        no_cache=raw.get("no_cache") is True,
    )


def is_extra_name(name: str) -> bool:
    """Tell whether pip takes this for an extra's name (PEP 508); it becomes part of a Dockerfile."""
    return name.isascii() and name.replace("-", "").replace("_", "").replace(".", "").isalnum()


def _is_installable(folder: Path) -> bool:
    if (folder / "setup.py").is_file():
        return True
    try:
        text = (folder / "pyproject.toml").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return False
    except OSError as error:
        raise UsageError("project-unreadable", "pyproject.toml cannot be read", cause=str(error)) from error
    return _DESCRIBES_A_PROJECT.search(text) is not None


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


def _package_of_folder(raw: JsonObject) -> Package:
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
            "the recorded container spec has a wrong caliban_config",
            cause=cause,
            hint=_HINT,
        ) from error


def _text(raw: JsonObject, key: str) -> str:
    value = raw.get(key)
    if not isinstance(value, str) or not value:
        raise _malformed(key, "a text", value)
    return value


def _texts(raw: JsonObject, key: str) -> tuple[str, ...] | None:
    value = raw.get(key)
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise _malformed(key, "a list of texts, or null", value)
    return tuple(value)


def _optional_path(raw: JsonObject, key: str) -> str | None:
    return None if raw.get(key) is None else _recorded_path(key, _text(raw, key))


def _recorded_path(key: str, value: str) -> str:
    if not _stays_inside(value):
        raise _malformed(key, "a path inside the build folder", value)
    return str(PurePosixPath(value))


def _stays_inside(path: str) -> bool:
    pure = PurePosixPath(path)
    return bool(path) and "\0" not in path and not pure.is_absolute() and ".." not in pure.parts


def _checked_extra_dir(folder: Path, extra: str) -> str:
    if not _stays_inside(extra) or not (folder / extra).resolve().is_relative_to(folder.resolve()):
        raise UsageError(
            "extra-dir-outside-folder",
            f"the extra folder {extra!r} is not inside {folder}",
            hint="name folders of the project, relative to it; a link that leads out of it does not count",
        )
    if not (folder / extra).is_dir():
        raise UsageError(
            "extra-dir-not-found", f"there is no folder {extra!r} in {folder}", hint="make it, or leave -d out"
        )
    return str(PurePosixPath(os.path.normpath(extra)))


_HINT = "the store holds something that neither caliban 0.4.2 nor this one writes; run the experiment anew"


def _malformed(key: str, expected: str, found: object) -> ImageError:
    return ImageError(
        "malformed-container-spec",
        f"the recorded container spec has a wrong {key}",
        cause=f"expected {expected}; found {'null' if found is None else repr(found)}",
        hint=_HINT,
    )
