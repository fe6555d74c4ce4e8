from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from caliban.errors import ImageError
from caliban.images.conda_file import read_conda_file
from caliban.images.context import collect
from caliban.images.dependency_plan import DependencyPlan, Project, plan_dependencies, unused_files
from caliban.images.dockerfile import BuildUser, instructions
from caliban.images.parts import PACKAGING, PROJECT_REQUIREMENTS
from caliban.images.pyproject import ProjectFiles
from caliban.images.uv_sources import redirected
from tests.sampling import examples

from . import helpers

USER = BuildUser(1234, 2345, "mei")
SETUPTOOLS = '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
PROJECT = '[project]\nname = "proj"\nversion = "1"\ndependencies = ["six", "toml ; python_version < \'4\'"]\n'


@pytest.fixture
def project(tmp_path: Path) -> helpers.Project:
    made = helpers.Project(tmp_path / "project", "base:1")
    made.write("cpu.py", "print()\n")
    return made


def plan_of(project: helpers.Project, module: str = "cpu.py") -> DependencyPlan:
    return plan_dependencies(project.spec(module))


def listed(plan: DependencyPlan) -> list[str]:
    """Return the lines of the list of dependencies."""
    name = PROJECT_REQUIREMENTS
    return next(file.content or b"" for file in plan.files if file.name == name).decode().splitlines()


def packaging(plan: DependencyPlan) -> list[str]:
    return [file.name for file in plan.files if file.part == PACKAGING]


def test_plain_requirements_are_installed_before_the_code(project: helpers.Project) -> None:
    project.write("requirements.txt", "six\n-c limits.txt\n")
    project.write("limits.txt", "six<2\n")
    plan = plan_of(project)
    assert not plan.is_late
    assert (plan.notes, plan.warnings) == ((), ())
    assert [file.content for file in plan.files] == [None, None]


@pytest.mark.parametrize(
    ("toml", "expected"),
    [
        (PROJECT + SETUPTOOLS, Project.SKELETON),
        (PROJECT, Project.SKELETON),
        (PROJECT + "[tool.uv]\n", Project.LIST),
        (PROJECT + "[tool.poetry]\npackage-mode = false\n", Project.LIST),
        ("[tool.poetry]\npackage-mode = false\n[tool.poetry.dependencies]\nsix = '*'\n", Project.POETRY),
        ("[tool.black]\nline-length = 120\n", Project.NOTHING),
        ("[project]\n# [broken\n[[", Project.SKELETON),
    ],
)
def test_a_project_is_installed_as_what_it_is(project: helpers.Project, toml: str, expected: Project) -> None:
    project.write("pyproject.toml", toml)
    plan = plan_of(project)
    assert (plan.project, plan.is_late) == (expected, False)


REASONS = {
    "extension modules": (
        "setup.py",
        "from setuptools import setup, Extension\nsetup(ext_modules=[Extension('x', [])])",
    ),
    "another build backend": ("pyproject.toml", PROJECT + '[build-system]\nrequires = []\nbuild-backend = "maturin"\n'),
    "its own build backend": (
        "pyproject.toml",
        PROJECT + '[build-system]\nrequires = []\nbuild-backend = "build"\nbackend-path = ["."]\n',
    ),
    "something to compile with": (
        "pyproject.toml",
        PROJECT + '[build-system]\nrequires = ["setuptools", "Cython>=3"]\nbuild-backend = "setuptools.build_meta"\n',
    ),
    "packages elsewhere": ("pyproject.toml", PROJECT + '[tool.setuptools]\npackage-dir = {"" = "lib"}\n' + SETUPTOOLS),
    "single modules": ("pyproject.toml", PROJECT + '[tool.setuptools]\npy-modules = ["model"]\n' + SETUPTOOLS),
    "a plugin for dependencies": (
        "pyproject.toml",
        '[project]\nname = "proj"\ndynamic = ["dependencies"]\n'
        '[build-system]\nrequires = ["hatchling", "hatch-requirements-txt"]\nbuild-backend = "hatchling.build"\n',
    ),
    "a dependency of the project": (
        "pyproject.toml",
        '[tool.poetry]\nname = "proj"\n[tool.poetry.dependencies]\ncommon = {path = "libs/common"}\n'
        '[build-system]\nrequires = ["poetry-core"]\nbuild-backend = "poetry.core.masonry.api"\n',
    ),
}


@pytest.mark.parametrize("reason", REASONS)
def test_a_project_that_needs_its_code_is_installed_after_it_with_a_line(project: helpers.Project, reason: str) -> None:
    name, text = REASONS[reason]
    project.write(name, text)
    plan = plan_of(project)
    assert plan.late_project
    assert name in plan.needed_in_code
    (note,) = plan.notes
    assert "not cached" in note


def test_listed_dependencies_of_such_a_project_stay_cached(project: helpers.Project) -> None:
    project.write("pyproject.toml", REASONS["something to compile with"][1])
    plan = plan_of(project)
    assert (plan.project, plan.editable) == (Project.LIST, True)
    assert "its dependencies are cached" in plan.notes[0]


@pytest.mark.parametrize(("module", "late"), [("trainer.train", True), ("cpu.py", False), ("proj.train", False)])
def test_a_package_that_would_not_be_copied_is_installed_from_the_code(
    project: helpers.Project, module: str, late: bool
) -> None:
    project.write("pyproject.toml", PROJECT + SETUPTOOLS)
    for name in ("proj/__init__.py", "proj/train.py", "trainer/train.py", "tests/__init__.py"):
        project.write(name, "")
    assert plan_of(project, module).late_project is late


def test_what_is_installed_late_has_the_whole_directory_beside_it(project: helpers.Project) -> None:
    project.write("requirements.txt", "-e ./libs/common\n")
    project.write("libs/common/setup.py", "")
    project.write("trainer/train.py", "")
    project.write(".dockerignore", "*.txt\n")
    context = collect(project.spec("trainer.train"), "FROM x\n", {})
    names = {file.name for file in context.files}
    assert {"code/libs/common/setup.py", "code/requirements.txt", "code/cpu.py"} <= names


def test_late_steps_come_after_the_code_and_end_as_the_user(project: helpers.Project) -> None:
    project.write("requirements.txt", "six\n-e .\n")
    project.write("setup.py", "import local\n")
    spec = project.spec()
    purposes = [each.purpose for each in instructions(spec, USER, plan=plan_dependencies(spec))]
    assert purposes[purposes.index("copy the code") :] == [
        "copy the code",
        "switch to root",
        "install the project",
        "install the projects of requirements.txt",
        "switch to the user",
    ]


def test_files_that_the_settings_name_are_sent_before_the_code(project: helpers.Project) -> None:
    project.write(
        "pyproject.toml",
        '[project]\nname = "proj"\nreadme = {file = "docs/README.md", content-type = "text/markdown"}\n'
        'license-files = ["legal/*"]\ndynamic = ["version", "dependencies", "optional-dependencies"]\n'
        '[tool.setuptools.dynamic]\nversion = {attr = "proj.meta.about.VERSION"}\n'
        'dependencies = {file = ["requirements.in", "none.in"]}\n'
        'optional-dependencies.cpu = {file = "requirements/cpu.in"}\n' + SETUPTOOLS,
    )
    named = ["docs/README.md", "legal/LICENSE", "legal/NOTICE", "requirements.in", "requirements/cpu.in"]
    for name in (*named, "proj/__init__.py", "proj/meta/__init__.py", "proj/meta/about.py", "proj/model.py"):
        project.write(name, "")
    assert set(packaging(plan_of(project))) == {
        "pyproject.toml",
        "proj/__init__.py",
        "proj/meta/__init__.py",
        "proj/meta/about.py",
        *named,
    }


@pytest.mark.parametrize("name", ["../outside.md", "/etc/passwd", "docs", "link.md", "none.md"])
def test_only_files_of_the_project_are_sent(project: helpers.Project, name: str, tmp_path: Path) -> None:
    (tmp_path / "outside.md").write_text("not to be read")
    project.write("docs/x", "")
    (project.directory / "link.md").symlink_to(tmp_path / "outside.md")
    project.write("pyproject.toml", f'[project]\nname = "proj"\nversion = "1"\nreadme = "{name}"\n{SETUPTOOLS}')
    assert packaging(plan_of(project)) == ["pyproject.toml"]


def test_extras_are_listed_with_those_that_they_name(project: helpers.Project) -> None:
    project.write(
        "pyproject.toml",
        PROJECT
        + '[project.optional-dependencies]\nCpu = ["Proj[all]"]\nall = ["tqdm", "proj[cpu]"]\nx = ["no"]\n[tool.uv]\n',
    )
    assert listed(plan_of(project)) == ["six", "toml ; python_version < '4'", "tqdm"]


UV = {
    'path = "libs/common"': "./libs/common[x] ; python_version < '4'",
    "workspace = true": "./libs/common[x] ; python_version < '4'",
    'git = "https://host/x", tag = "v1"': "common[x] @ git+https://host/x@v1 ; python_version < '4'",
    'git = "https://host/x", rev = "1"': "common[x] @ git+https://host/x@1 ; python_version < '4'",
    'url = "https://h/x.zip", subdirectory = "s"': "common[x] @ https://h/x.zip#subdirectory=s ; python_version < '4'",
    'url = "https://host/x.whl"': "common[x] @ https://host/x.whl ; python_version < '4'",
    'index = "lab"': "Common[x]>1 ; python_version < '4'",
}


@pytest.mark.parametrize("source", UV)
def test_sources_of_uv_are_followed(project: helpers.Project, source: str) -> None:
    project.write("libs/common/pyproject.toml", '[project]\nname = "common"\n')
    project.write(
        "pyproject.toml", f'[tool.uv.workspace]\nmembers = ["libs/*"]\n[tool.uv.sources]\ncommon = {{{source}}}\n'
    )
    toml = ProjectFiles(project.directory).toml
    (line,) = redirected(["Common[x]>1 ; python_version < '4'"], toml, project.directory)
    assert line.lower() == UV[source].lower()


@pytest.mark.parametrize(
    "text",
    [
        '[project]\nname = "p"\ndependencies = ["common"]\n[tool.uv.sources]\ncommon = {path = "../common"}\n',
        '[tool.poetry]\npackage-mode = false\n[tool.poetry.dependencies]\ncommon = {path = "../common"}\n',
    ],
)
def test_a_dependency_outside_the_project_is_an_error_that_names_its_line(project: helpers.Project, text: str) -> None:
    project.write("pyproject.toml", text)
    with pytest.raises(ImageError) as caught:
        plan_of(project).check()
    assert caught.value.id == "dependency-outside-project"
    assert "../common" in caught.value.message
    assert "pyproject.toml, line" in caught.value.message


def test_the_pip_section_of_conda_is_read(project: helpers.Project) -> None:
    project.write(
        "environment.yaml",
        "name: x\ndependencies:\n  - python=3.12\n  - pip:\n    - -r requirements/base.txt\n    - -e .\n    - six\n",
    )
    project.write("requirements/base.txt", "toml\n")
    plan = plan_of(project)
    assert [file.name for file in plan.files] == ["environment.yaml", "requirements/base.txt"]
    assert plan.late_conda
    assert "-e ." in plan.notes[0]
    assert b"-e ." not in (plan.files[0].content or b"")
    assert b"six" in (plan.files[0].content or b"")


def test_a_path_of_conda_that_leads_out_of_the_project_is_an_error(project: helpers.Project) -> None:
    project.write("environment.yml", "dependencies:\n- pip:\n  - six\n  - -r ../base.txt\n")
    with pytest.raises(ImageError, match=r"environment\.yml, line 4: -r \.\./base\.txt"):
        plan_of(project).check()


@pytest.mark.parametrize(
    "text", ["", "[", "dependencies: 5", "dependencies: [{pip: x}, {pip: [1, null]}, 3]", "- a", "a: &a [*a]"]
)
def test_an_odd_file_of_conda_is_left_to_conda(project: helpers.Project, text: str) -> None:
    project.write("environment.yml", text)
    found, filtered = read_conda_file(project.directory, "environment.yml")
    assert (found.files, filtered) == (["environment.yml"], None)


@pytest.mark.parametrize("tool", ["setuptools-scm", "hatch-vcs", "pbr"])
def test_a_version_that_comes_from_git_is_announced(project: helpers.Project, tool: str) -> None:
    requires = f'[build-system]\nrequires = ["setuptools", "{tool}>=1"]\nbuild-backend = "setuptools.build_meta"\n'
    project.write("pyproject.toml", '[project]\nname = "proj"\ndynamic = ["version"]\n' + requires)
    assert any(tool in note and "version 0" in note for note in plan_of(project).notes)


@pytest.mark.parametrize(
    "name", ["Pipfile", "requirements.in", "requirements/base.txt", "setup.cfg", "requirements-gpu.txt"]
)
def test_files_that_are_not_read_cause_a_warning(project: helpers.Project, name: str) -> None:
    project.write(name, "")
    assert name in (unused_files(project.directory) or "")


def test_dependency_groups_alone_cause_a_warning(project: helpers.Project) -> None:
    project.write("pyproject.toml", '[dependency-groups]\ndev = ["six"]\n')
    assert "dependency groups" in (unused_files(project.directory) or "")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(
    [
        *("name", "dependencies", "dynamic", "optional-dependencies", "readme", "license", "license-files", "packages"),
        *(
            "setuptools",
            "find",
            "where",
            "package-dir",
            "poetry",
            "uv",
            "sources",
            "index",
            "source",
            "workspace",
            "members",
        ),
        *(
            "package-mode",
            "hatch",
            "version",
            "path",
            "build",
            "targets",
            "wheel",
            "requires",
            "build-backend",
            "file",
            "attr",
        ),
        *("project", "tool", "build-system", "dependency-groups", "pdm", "metadata", "url", "git", "backend-path"),
    ]
)
TABLES = st.recursive(VALUES, lambda inner: st.dictionaries(KEYS, inner, max_size=4), max_leaves=20)


@settings(max_examples=examples(200), suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(toml=st.dictionaries(st.sampled_from(["project", "tool", "build-system"]), TABLES))
def test_any_values_in_pyproject_are_read_without_an_exception(
    project: helpers.Project, toml: dict[str, object]
) -> None:
    files = ProjectFiles(project.directory)
    files.toml = toml
    static = files.static_requirements(["cpu"])
    assert isinstance(files.is_installable, bool)
    assert isinstance(files.is_application, bool)
    assert files.needs_code(["."]) is None or files.needs_code(["."])
    assert isinstance(files.read_by_build(), list)
    assert all(isinstance(name, str) for name, _ in files.indexes)
    assert files.uses_git is None or files.uses_git
    redirected(static or ["six"], toml, project.directory)


def test_a_spec_without_dependencies_has_an_empty_plan(project: helpers.Project) -> None:
    spec = replace(project.spec(), requirements_path=None)
    assert plan_dependencies(spec) == DependencyPlan()
