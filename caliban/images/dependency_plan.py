"""How the dependencies of a project are installed: before the code, in a layer that is cached, where that is enough.

What ``pip install`` in the project's directory would install counts. Files of dependencies that name only packages and
files are installed before the code is copied, and again only when they change. Where pip has to build a project
(``-e .``, ``./libs/common``, a setup.py that reads any file), it is installed after the code is copied, with every
change of the code; what comes from package indexes is still installed before, where the files name it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path

from caliban.errors import ImageError
from caliban.images import dependencies, parts
from caliban.images.conda_file import read_conda_file
from caliban.images.pyproject import ProjectFiles
from caliban.images.requirements import LocalName, Requirements, read_requirements
from caliban.images.spec import BuildSpec
from caliban.images.toml import table, texts
from caliban.images.uv_sources import redirected
from caliban.input_files import InputFileError, is_dir, is_file, is_inside

_LATE = "installed after the code is copied, in a layer that is not cached when the code changes"


class Project(Enum):
    """What of a project itself is installed before the code."""

    NOTHING = "nothing"
    SKELETON = "the project with the files that describe it, and its dependencies"
    LIST = "the list of its dependencies"
    POETRY = "the dependencies that Poetry finds in pyproject.toml"


@dataclass(frozen=True)
class PlannedFile:
    """A file that the steps before the code need.

    Attributes:
        part: the part of the build context.
        name: its path there.
        content: what it has, if that is not the project's file of this name.
    """

    part: str
    name: str
    content: bytes | None = None

    def has_login(self, root: Path) -> bool:
        """Return whether it is a list of packages with a URL that has a password or token."""
        is_list = self.part != parts.PACKAGING and self.name.endswith((".txt", ".in", ".yml", ".yaml"))
        return is_list and is_file(root / self.name) and dependencies.has_login(root / self.name)


@dataclass(frozen=True)
class DependencyPlan:
    """What is installed when.

    Attributes:
        files: what the steps before the code need, in order.
        project: what of the project is installed before the code.
        late_conda, late_requirements, late_list, late_project: what is installed after the code is copied.
        editable: whether ``late_project`` is an editable installation, which compiles extensions beside their sources.
        needed_in_code: files that have to be beside the code, whatever ``.dockerignore`` says.
        notes: lines for the user.
        warnings: likewise.
        outside: paths that lead out of the project.
        variables, urls, indexes: see :func:`caliban.images.build_secrets.collect_secrets`.
    """

    files: tuple[PlannedFile, ...] = ()
    project: Project = Project.NOTHING
    late_conda: bool = False
    late_requirements: bool = False
    late_list: bool = False
    late_project: bool = False
    editable: bool = False
    needed_in_code: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    variables: frozenset[str] = frozenset()
    urls: tuple[str, ...] = ()
    indexes: tuple[tuple[str, str], ...] = ()
    outside: tuple[LocalName, ...] = ()

    def check(self) -> None:
        """Check that everything that is installed can be in the image.

        Raises:
            ImageError: ``dependency-outside-project``.
        """
        for name in self.outside:
            raise ImageError(
                "dependency-outside-project",
                f"cannot build the image: {name.where} is outside the project directory",
                cause="images contain files of the project's directory only",
                hint="copy it into the project, or run the command in the directory that has both",
            )

    @property
    def is_late(self) -> bool:
        """Whether something is installed after the code is copied, which then is the whole project."""
        return self.late_conda or self.late_requirements or self.late_list or self.late_project

    def without_skeleton(self, spec: BuildSpec) -> DependencyPlan:
        """Return the plan for a project whose skeleton pip could not build."""
        return plan_dependencies(spec, may_use_skeleton=False)


def default_plan(spec: BuildSpec) -> DependencyPlan:
    """Return the plan of a spec without looking at its files."""
    return DependencyPlan(project=Project.NOTHING if spec.setup_extras is None else Project.SKELETON)


def plan_dependencies(spec: BuildSpec, *, may_use_skeleton: bool = True) -> DependencyPlan:
    """Read the files of dependencies, and decide what is installed when.

    Args:
        spec: what is built.
        may_use_skeleton: whether the project may be installed from the files that describe it alone.

    Raises:
        ImageError: ``dependency-not-supported``.
        UsageError: ``project-unreadable``.
        InputFileError: a file cannot be read.
    """
    planner = _Planner(spec)
    if spec.conda_env_path is not None:
        planner.conda(spec.conda_env_path)
    if spec.requirements_path is not None:
        planner.requirements(spec.requirements_path)
    if spec.setup_extras is not None:
        planner.project(spec.setup_extras, may_use_skeleton=may_use_skeleton)
    return planner.plan()


@dataclass
class _Planner:
    spec: BuildSpec
    result: DependencyPlan = field(default_factory=DependencyPlan)

    @property
    def _root(self) -> Path:
        return self.spec.build_path

    def plan(self) -> DependencyPlan:
        plan = self.result
        if plan.is_late and self.spec.package.package_path != ".":
            plan = replace(plan, notes=(*plan.notes, "the image has the whole directory, which pip needs"))
        return plan if plan.is_late else replace(plan, needed_in_code=())

    def conda(self, name: str) -> None:
        found, filtered = read_conda_file(self._root, name)
        self._add(found, parts.CONDA, {} if filtered is None else {name: filtered})
        if found.projects:
            self.result = replace(self.result, late_conda=True)
            self._note_late(name, found.projects)

    def requirements(self, name: str) -> None:
        found = read_requirements(self._root, name)
        self._add(found, parts.REQUIREMENTS)
        if found.projects:
            self.result = replace(self.result, late_requirements=True)
            self._note_late(name, found.projects)

    def project(self, extras: Sequence[str], *, may_use_skeleton: bool) -> None:
        project = ProjectFiles(self._root)
        self._check_local_dependencies(project)
        self._note_project(project)
        self.result = replace(self.result, indexes=(*self.result.indexes, *project.indexes))
        static = project.static_requirements(extras)
        if project.is_application:
            self._application(project, static, may_use_skeleton=may_use_skeleton)
            return
        local = [] if static is None else redirected(static, project.toml, self._root)
        reason = project.needs_code(self._copied) if may_use_skeleton else "pip cannot build it without its code"
        if static is not None and local != static:
            reason = reason or "[tool.uv.sources] redirects its dependencies"
        reason = reason or self._local_dependency(project)
        if reason is None:
            self._skeleton(project)
            return
        if local:
            self._list(local)
        cached = "; its dependencies are cached" if local and not self.result.late_list else ""
        editable = project.backend is not None and project.backend.startswith("setuptools.") and "build" in reason
        self.result = replace(
            self.result,
            late_project=True,
            editable=editable or "compiles" in reason,
            needed_in_code=(*self.result.needed_in_code, *self._described_by(project)),
        )
        self._note(f"the project is {_LATE}{cached}: {reason}")

    @property
    def _copied(self) -> list[str]:
        return [self.spec.package.package_path, *self.spec.extra_dirs]

    def _application(self, project: ProjectFiles, static: list[str] | None, *, may_use_skeleton: bool) -> None:
        """Plan a project that is no package: its dependencies are installed, and its code is copied."""
        if static is not None:
            is_plain = "uv" not in table(project.toml, "tool") and "poetry" not in table(project.toml, "tool")
            local = redirected(static, project.toml, self._root)
            may_build = may_use_skeleton and is_plain and len(project.packages()) <= 1
            if may_build and project.needs_code(self._copied) is None:
                self._skeleton(project)
            else:
                self._list(local)
        elif table(project.toml, "tool", "poetry"):
            if not self.result.outside and (name := self._local_dependency(project)) is not None:
                raise ImageError(
                    "dependency-not-supported",
                    f"cannot build the image: {name}",
                    cause="the project is no package (package-mode = false), so that pip cannot install it",
                    hint="name the directory in requirements.txt too: -e ./DIRECTORY",
                )
            self._add_files([PlannedFile(parts.PACKAGING, "pyproject.toml")])
            self.result = replace(self.result, project=Project.POETRY)
        elif project.has_toml and project.setup_script is None:
            self._skeleton(project) if may_use_skeleton else self._late_only(project)

    def _late_only(self, project: ProjectFiles) -> None:
        needed = (*self.result.needed_in_code, *self._described_by(project))
        self.result = replace(self.result, late_project=True, needed_in_code=needed)
        self._note(f"the project is {_LATE}: pip needs its code")

    def _skeleton(self, project: ProjectFiles) -> None:
        self._add_files([PlannedFile(parts.PACKAGING, name) for name in self._described_by(project)])
        self.result = replace(self.result, project=Project.SKELETON)

    def _list(self, lines: Sequence[str]) -> None:
        text = "".join(f"{' '.join(line.split())}\n" for line in lines)
        found = read_requirements(self._root, parts.PROJECT_REQUIREMENTS, text)
        own = {parts.PROJECT_REQUIREMENTS: found.filtered.pop(parts.PROJECT_REQUIREMENTS, text.encode())}
        self._add(found, parts.PACKAGING, own)
        self.result = replace(self.result, project=Project.LIST)
        if found.projects:
            full = PlannedFile(parts.PACKAGING, parts.ALL_PROJECT_REQUIREMENTS, text.encode())
            self._add_files([full])
            self.result = replace(self.result, late_list=True)
            self._note_late("pyproject.toml", found.projects)

    def _described_by(self, project: ProjectFiles) -> list[str]:
        """Return the names of the files that describe the project."""
        top = [path.name for path in self._root.iterdir() if dependencies.PACKAGING_FILE.fullmatch(path.name)]
        own = [name for name in top if is_file(self._root / name)]
        return sorted({*own, *project.read_by_build()})

    def _local_dependency(self, project: ProjectFiles) -> str | None:
        """Return a reason if a dependency is a directory or file of the project."""
        for name, path in _paths_of_dependencies(project):
            return f'its dependency {name} is "{path}"'
        requirements = texts(table(project.toml, "project").get("dependencies"))
        local = next((each for each in requirements if "file:" in each or "{root" in each), None)
        return None if local is None else f'its dependency "{local}" is a file'

    def _check_local_dependencies(self, project: ProjectFiles) -> None:
        for name, path in _paths_of_dependencies(project):
            if not is_inside(self._root / path, self._root):
                named = LocalName("pyproject.toml", _line_of(self._root, path), f"{name} = {path}", path)
                self.result = replace(self.result, outside=(*self.result.outside, named))

    def _note_project(self, project: ProjectFiles) -> None:
        if (tool := project.uses_git) is not None:
            self._note(f"the project is installed as version 0: {tool} takes it from .git, which images do not have")

    def _note(self, line: str) -> None:
        self.result = replace(self.result, notes=(*self.result.notes, line))

    def _note_late(self, name: str, projects: Sequence[LocalName]) -> None:
        named = ", ".join(dict.fromkeys(each.text for each in projects))
        self._note(f"{named} in {name} is {_LATE}: pip builds it")

    def _add(self, found: Requirements, part: str, replaced: dict[str, bytes] | None = None) -> None:
        contents = {**found.filtered, **(replaced or {})}
        self._add_files(PlannedFile(part, name, contents.get(name)) for name in [*found.files, *found.archives])
        own = [name for name in [*found.files, *found.archives] if is_file(self._root / name)]
        lines = [f"{each.where} is an absolute path, which the base image must have" for each in found.elsewhere]
        self.result = replace(
            self.result,
            needed_in_code=(*self.result.needed_in_code, *own),
            warnings=(*self.result.warnings, *lines),
            variables=self.result.variables | found.variables,
            urls=(*self.result.urls, *found.urls),
            outside=(*self.result.outside, *found.outside),
        )

    def _add_files(self, files: Iterator[PlannedFile] | Sequence[PlannedFile]) -> None:
        self.result = replace(self.result, files=(*self.result.files, *files))


def _paths_of_dependencies(project: ProjectFiles) -> Iterator[tuple[str, str]]:
    """Yield the names and paths of dependencies that Poetry, PDM or uv take from directories and files."""
    for keys in (("tool", "poetry", "dependencies"), ("tool", "uv", "sources")):
        for name, value in table(project.toml, *keys).items():
            for entry in value if isinstance(value, list) else [value]:
                if isinstance(path := table(entry).get("path"), str) and not path.startswith("/"):
                    yield name, path


def _line_of(root: Path, text: str) -> int:
    try:
        lines = (root / "pyproject.toml").read_text("utf-8", "replace").splitlines()
    except OSError:
        return 1
    return next((number for number, line in enumerate(lines, 1) if text in line), 1)


def unused_files(root: Path) -> str | None:
    """Return a warning for a project whose dependencies are in files that are not read; None where there are none."""
    names = ("Pipfile", "requirements.in", "setup.cfg", "uv.lock", "poetry.lock", "pdm.lock", "pixi.toml", "conda.yml")
    found = [name for name in names if is_file(root / name)]
    try:
        entries = sorted(path.name for path in root.iterdir())
    except OSError:
        entries = []
    found += [each for each in entries if each.startswith("requirements") and each.endswith(".txt")]
    if is_dir(root / "requirements"):
        found += [f"requirements/{path.name}" for path in sorted((root / "requirements").glob("*.txt"))]
    try:
        has_groups = bool(table(ProjectFiles(root).toml, "dependency-groups"))
    except (InputFileError, ImageError):
        has_groups = False
    if has_groups:
        found.append("the dependency groups of pyproject.toml")
    if not found:
        return None
    return (
        f"no dependencies are installed: {', '.join(found[:3])} is not read; name it in requirements.txt (-r FILE), or "
        "describe the project in pyproject.toml"
    )
