"""What pyproject.toml, setup.cfg and setup.py say about a project's dependencies and how it is built.

Sources: https://packaging.python.org/en/latest/specifications/pyproject-toml/,
https://setuptools.pypa.io/en/latest/userguide/, https://docs.astral.sh/uv/concepts/projects/dependencies/.
"""

from __future__ import annotations

import configparser
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from caliban import input_files
from caliban.errors import UsageError
from caliban.images.setup_script import SetupScript, read_setup_script
from caliban.images.toml import normalized, parse_toml, requirement_name, split_requirement, table, texts
from caliban.input_files import InputFileError, is_dir, is_file

MAX_BYTES = 4 * input_files.MIB

_DESCRIBES_A_PROJECT = re.compile(r"\[\s*(?:project|build-system|tool\.poetry)\s*\]")
_SETUPTOOLS = ("setuptools.build_meta", "setuptools.build_meta:__legacy__")
_POETRY = ("poetry.core.masonry.api", "poetry.masonry.api")
_BACKENDS = (
    *_SETUPTOOLS,
    *_POETRY,
    "hatchling.build",
    "flit_core.buildapi",
    "flit.buildapi",
    "pdm.backend",
    "uv_build",
)
_PLAIN_BUILD_REQUIREMENTS = frozenset(
    {
        "setuptools",
        "wheel",
        "setuptools-scm",
        "packaging",
        "tomli",
        "toml",
        "hatchling",
        "hatch-vcs",
        "flit-core",
        "flit",
        "poetry-core",
        "poetry",
        "pdm-backend",
        "uv-build",
        "versioneer",
        "poetry-dynamic-versioning",
        "uv-dynamic-versioning",
        "setuptools-git-versioning",
        "pbr",
        "dunamai",
        "versioningit",
    }
)
_FROM_GIT = (
    "setuptools-scm",
    "hatch-vcs",
    "pbr",
    "versioneer",
    "versioningit",
    "setuptools-git-versioning",
    "poetry-dynamic-versioning",
    "uv-dynamic-versioning",
    "dunamai",
)
_NOT_PACKAGES = re.compile(
    r"ci|bin|debian|docs?|documentation|manpages|news|newsfragments|changelog|tests?|unit_?tests?|examples?|scripts|tools"
    r"|utils?|python|build|benchmarks?|exercises?|htmlcov|tasks|dist|venv|env|node_modules"
)
"""Directories that setuptools' discovery leaves out; https://setuptools.pypa.io/en/latest/userguide/package_discovery.html."""


class ProjectFiles:
    """The files at the top of a project that describe it.

    Args:
        root: the project.

    Raises:
        UsageError: ``project-unreadable``.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.setup_script, self._script = _setup_script(root)
        self._toml = _content(root, "pyproject.toml")
        self.parse_error: str | None = None
        self.toml: Mapping[str, Any] = self._parsed()

    def _parsed(self) -> Mapping[str, Any]:
        if self._toml is None:
            return {}
        try:
            return parse_toml(self._toml)
        except ValueError as error:
            self.parse_error = str(error)
            return {}

    @property
    def has_toml(self) -> bool:
        """Whether there is a pyproject.toml."""
        return self._toml is not None

    @property
    def is_installable(self) -> bool:
        """Whether pip can install the project, or its dependencies are described."""
        if self.setup_script is not None:
            return True
        if self.parse_error is not None:  # pip reports it
            lines = (self._toml or b"").decode("utf-8", "replace").splitlines()
            return any(_DESCRIBES_A_PROJECT.match(line.lstrip()) for line in lines)
        return "project" in self.toml or "build-system" in self.toml or bool(table(self.toml, "tool", "poetry"))

    @property
    def backend(self) -> str | None:
        """The build backend; None without a build system."""
        if "build-system" not in self.toml:
            return None if self.setup_script is None else _SETUPTOOLS[1]
        value = table(self.toml, "build-system").get("build-backend")
        return value if isinstance(value, str) else _SETUPTOOLS[1]

    @property
    def build_requirements(self) -> list[str]:
        """The names of what is needed to build the project."""
        return [requirement_name(each) for each in texts(table(self.toml, "build-system").get("requires"))]

    @property
    def is_application(self) -> bool:
        """Whether the project is no package: it has no build system, or says so."""
        if table(self.toml, "tool", "poetry").get("package-mode") is False:
            return True
        return self.backend is None and table(self.toml, "tool", "uv").get("package") is not True

    @property
    def uses_git(self) -> str | None:
        """What takes the project's version from Git; None for nothing."""
        if b"use_scm_version" in (self.setup_script or b""):
            return "setuptools-scm"
        return next((name for name in _FROM_GIT if name in self.build_requirements), None)

    @property
    def indexes(self) -> list[tuple[str, str]]:
        """The names and URLs of the package indexes that uv, Poetry or PDM would use."""
        tool = table(self.toml, "tool")
        lists = (table(tool, "uv").get("index"), table(tool, "poetry").get("source"), table(tool, "pdm").get("source"))
        entries = (entry for each in lists if isinstance(each, list) for entry in each if isinstance(entry, Mapping))
        return [(str(entry.get("name", "")), entry["url"]) for entry in entries if isinstance(entry.get("url"), str)]

    def static_requirements(self, extras: Sequence[str]) -> list[str] | None:
        """Return the dependencies with those of extras; None where only the build backend knows them."""
        project = self.toml.get("project")
        if not isinstance(project, Mapping):
            return None
        dynamic = texts(project.get("dynamic"))
        if "dependencies" in dynamic or "optional-dependencies" in dynamic:
            return None
        if "dependencies" not in project and table(self.toml, "tool", "poetry", "dependencies"):
            return None  # Poetry reads those
        own = requirement_name(str(project.get("name", "")))
        optional = {normalized(name): texts(value) for name, value in table(project, "optional-dependencies").items()}
        found: list[str] = texts(project.get("dependencies"))
        pending, seen = [normalized(each) for each in extras], set[str]()
        while pending:
            extra = pending.pop(0)
            if extra in seen:
                continue
            seen.add(extra)
            for requirement in optional.get(extra, []):
                name, named, _ = split_requirement(requirement)
                if name and normalized(name) == own:  # "project[other]"
                    pending += [normalized(each) for each in named.strip("[]").split(",") if each.strip()]
                else:
                    found.append(requirement)
        return found

    def read_by_build(self) -> list[str]:
        """Return the files that a build reads as far as the settings name them, relative to the project."""
        project = table(self.toml, "project")
        poetry = table(self.toml, "tool", "poetry")
        named = [
            *_files_of(project.get("readme")),
            *_files_of(project.get("license")),
            *_files_of(poetry.get("readme")),
        ]
        for value in table(self.toml, "tool", "setuptools", "dynamic").values():
            named += _dynamic_files(value, self.root)
        named += texts([table(self.toml, "tool", "hatch", "version").get("path")])
        named += texts([table(self.toml, "tool", "pdm", "version").get("path")])
        named += self._of_setup_cfg()
        named += self._script.files
        for pattern in (*texts(project.get("license-files")), *texts(poetry.get("license-files"))):
            named += _matching(self.root, pattern)
        clean = (posixpath.normpath(name) for name in named)
        return list(dict.fromkeys(name for name in clean if _is_own_file(self.root, name)))

    def _of_setup_cfg(self) -> list[str]:
        named: list[str] = []
        for value in _setup_cfg(self.root).values():
            text = value.strip()
            if text.startswith("file:"):
                named += [each.strip() for each in re.split(r"[,\n]", text.removeprefix("file:")) if each.strip()]
            elif text.startswith("attr:"):
                named += _files_of_attribute(text.removeprefix("attr:").strip(), self.root)
        return named

    def needs_code(self, copied: Sequence[str]) -> str | None:
        """Return why the project is not installed from the files that describe it alone; None where that is enough.

        Args:
            copied: the directories that the image will have; "." for the whole project.
        """
        backend = self.backend or _SETUPTOOLS[1]
        if table(self.toml, "build-system").get("backend-path"):
            return "its build backend is part of it"
        if backend not in _BACKENDS:
            return f"{backend} builds it"
        other = next((name for name in self.build_requirements if name not in _PLAIN_BUILD_REQUIREMENTS), None)
        if other is not None:
            return f"{other} is needed to build it"
        if self._script.problem is not None:
            return f"setup.py: {self._script.problem}"
        return self._setting_with_code() or self._package_left_out(copied)

    def _setting_with_code(self) -> str | None:
        """Return a setting for which the code matters, or that puts packages elsewhere than at the top or in src."""
        tool = table(self.toml, "tool")
        if self._is_elsewhere(table(tool, "setuptools")):
            return "settings of setuptools in pyproject.toml"
        config = _setup_cfg(self.root)
        places = (config.get("options.package_dir", ""), config.get("options.packages.find.where", ""))
        code = (config.get(f"options.{key}", "") for key in ("py_modules", "scripts", "cmdclass"))
        if any(map(str.strip, code)) or any(re.sub(r"\s|=", "", each) not in ("", ".", "src") for each in places):
            return "settings in setup.cfg"
        hatch, poetry = table(tool, "hatch"), table(tool, "poetry")
        builds = {*table(hatch, "build"), *table(hatch, "build", "targets", "wheel")} - {
            "targets",
            "packages",
            "exclude",
        }
        if builds or "hooks" in table(hatch, "metadata"):
            return "settings of hatch in pyproject.toml"
        if (
            poetry.get("build")
            or poetry.get("packages")
            or table(tool, "pdm", "build")
            or table(tool, "uv", "build-backend")
        ):
            return "settings of its build backend in pyproject.toml"
        return None

    @staticmethod
    def _is_elsewhere(settings: Mapping[str, Any]) -> bool:
        if any(settings.get(key) for key in ("ext-modules", "cmdclass", "data-files", "script-files", "py-modules")):
            return True
        where = texts(table(settings, "packages", "find").get("where", []))
        directories = table(settings, "package-dir")
        places = [*where, *map(str, directories.values())]
        return not set(places) <= {".", "src", "./src"} or not set(directories) <= {""}

    def _package_left_out(self, copied: Sequence[str]) -> str | None:
        """Return a reason if a package of the project would be missing in the image."""
        if "." in copied:
            return None
        tops = {each.split("/", 1)[0] for each in copied if "/" not in each}
        for directory in self.packages():
            if directory.split("/", 1)[0] not in tops:
                return f"its package {directory} is not in {copied[0]}"
        return None

    def packages(self) -> list[str]:
        """Return the directories of the project's packages: at the top, or in src."""
        found = []
        for base in ("", "src/"):
            try:
                names = sorted(path.name for path in (self.root / base).iterdir())
            except OSError:
                continue
            for name in names:
                is_package = is_file(self.root / base / name / "__init__.py") and name.isidentifier()
                if is_package and (base or not _NOT_PACKAGES.fullmatch(name)):
                    found.append(f"{base}{name}")
        return found


def _content(root: Path, name: str) -> bytes | None:
    try:
        return input_files.read_bytes(root / name, limit=MAX_BYTES)
    except InputFileError as error:
        if error.is_missing:
            return None
        raise error.translated(UsageError, "project-unreadable", f"cannot read {name}") from error


def _setup_script(root: Path) -> tuple[bytes | None, SetupScript]:
    """Return the text of setup.py, and what it reads; None for the text where there is none."""
    try:
        source = input_files.read_bytes(root / "setup.py", limit=MAX_BYTES)
        return source, read_setup_script(source)
    except InputFileError as error:
        if error.id == "file-too-large":
            return b"", SetupScript(problem="it is too large to be searched for what it reads")
        if error.is_missing:
            return None, SetupScript()
        raise error.translated(UsageError, "project-unreadable", "cannot read setup.py") from error


def _setup_cfg(root: Path) -> dict[str, str]:
    """Return the settings of setup.cfg by ``section.option``; {} where there is none, or a malformed one."""
    parser = configparser.RawConfigParser()
    try:
        parser.read_string((_content(root, "setup.cfg") or b"").decode("utf-8-sig", "replace"))
    except configparser.Error:
        return {}  # setuptools reports it
    return {
        f"{section}.{option}": value or "" for section in parser.sections() for option, value in parser.items(section)
    }


def _files_of(value: object) -> list[str]:
    """Return the files of ``readme`` or ``license``: a name, a list of names, or a table with ``file``."""
    return texts(value.get("file")) if isinstance(value, Mapping) else texts(value)


def _dynamic_files(value: object, root: Path) -> list[str]:
    if not isinstance(value, Mapping):
        return []
    found = texts(value.get("file"))
    if isinstance(value.get("attr"), str):
        found += _files_of_attribute(value["attr"], root)
    for inner in value.values():  # optional-dependencies.test.file
        if isinstance(inner, Mapping):
            found += _dynamic_files(inner, root)
    return found


def _files_of_attribute(attribute: str, root: Path) -> list[str]:
    """Return the files that may define ``package.module.NAME``."""
    parts = attribute.split(".")[:-1]
    found = []
    for base in ("", "src"):
        for end in range(1, len(parts) + 1):
            path = posixpath.join(base, *parts[:end])
            found += [name for name in (f"{path}.py", f"{path}/__init__.py") if is_file(root / name)]
    return found


def _matching(root: Path, pattern: str) -> Iterator[str]:
    if pattern.startswith("/") or ".." in pattern.split("/"):
        return
    try:
        for path in sorted(root.glob(pattern)):
            yield path.relative_to(root).as_posix()
    except (ValueError, OSError, NotImplementedError):
        return  # the build backend reports it


def _is_own_file(root: Path, name: str) -> bool:
    path = root / name
    return not name.startswith(("/", "..")) and input_files.is_inside(path, root) and is_file(path) and not is_dir(path)
