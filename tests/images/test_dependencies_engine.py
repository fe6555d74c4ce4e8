"""What pip would install in a project's directory is in its image, with the real engine and the real pip."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from caliban.errors import ImageError
from caliban.images.docker.engine import Engine
from caliban.images.dockerfile import BuildUser
from tests.images.helpers import Project, RecordingReporter

Build = Callable[..., str]
Run = Callable[..., str]

LIBRARY = "from setuptools import setup\nsetup(name='common', version='2', packages=['common'])\n"
POETRY = '[build-system]\nrequires = ["poetry-core"]\nbuild-backend = "poetry.core.masonry.api"\n'
HATCH = '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
SETUPTOOLS = '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'


@pytest.fixture
def build(engine: Engine, user: BuildUser, reporter: RecordingReporter) -> Build:
    def build(project: Project, module: str = "cpu.py") -> str:
        return engine.build(project.spec(module), user, reporter)

    return build


def with_library(project: Project, directory: str = "libs/common") -> None:
    project.write(f"{directory}/setup.py", LIBRARY)
    project.write(f"{directory}/common/__init__.py", "NAME = 'library'\n")
    project.write("cpu.py", "import common, six\nprint(common.NAME, six.__version__)\n")


LINES = ("-e ./libs/{}", "./libs/{}", "file:libs/{}", "-e file:libs/{}")


def test_libraries_of_the_project_are_installed_however_they_are_named(
    build: Build, project: Project, run: Run, reporter: RecordingReporter
) -> None:
    lines = {f"lib{number}": line.format(f"lib{number}") for number, line in enumerate(LINES)}
    for name in lines:
        project.write(f"libs/{name}/setup.py", LIBRARY.replace("common", name))
        project.write(f"libs/{name}/{name}/__init__.py", f"NAME = {name!r}\n")
    project.write("requirements.txt", "six==1.16.0\n" + "".join(f"{line}\n" for line in lines.values()))
    project.write(
        "cpu.py",
        f"import six, {', '.join(lines)}\nprint(six.__version__, {', '.join(f'{name}.NAME' for name in lines)})\n",
    )
    assert run(build(project)) == f"1.16.0 {' '.join(lines)}\n"
    (note,) = [each for each in reporter.lines if "not cached" in each]
    assert all(line in note for line in lines.values())


def test_the_packages_beside_a_library_of_the_project_stay_cached(
    build: Build, project: Project, reporter: RecordingReporter, run: Run
) -> None:
    with_library(project)
    project.write("requirements.txt", "six==1.16.0\n-e libs/common\n")
    build(project)
    project.write("libs/common/common/__init__.py", "NAME = 'changed'\n")
    reporter.lines.clear()
    assert run(build(project)) == "changed 1.16.0\n"
    step = next(n for n, line in enumerate(reporter.lines) if "pip install" in line)
    assert reporter.lines[step + 1] == " ---> Using cache"


def test_the_project_itself_is_installed_from_requirements_txt(build: Build, project: Project, run: Run) -> None:
    project.write("setup.py", "from setuptools import setup\nsetup(name='proj', version='3', packages=['lib'])\n")
    project.write("requirements.txt", "-e .\n")
    project.write("lib/__init__.py", "")
    project.write("lib/model.py", "NAME = 'model'\n")
    project.write(
        "trainer/train.py", "from importlib import metadata\nimport lib.model\nprint(metadata.version('proj'))\n"
    )
    assert run(build(project, "trainer/train.py")) == "3\n"


def test_what_pip_writes_beside_the_code_belongs_to_the_user(build: Build, project: Project, run: Run) -> None:
    with_library(project)
    project.write("requirements.txt", "six\n-e libs/common\n")
    assert run(build(project), "-c", "find /usr/app -not -user 1234", entrypoint=["sh"]) == ""


def test_wheels_of_the_project_are_found(
    build: Build, project: Project, run: Run, engine: Engine, reporter: RecordingReporter
) -> None:
    wheel = make_wheel("common", "1")
    (project.directory / "wheels").mkdir()
    (project.directory / "wheels/common-1-py3-none-any.whl").write_bytes(wheel)
    project.write("requirements.txt", "--no-index\n-f ./wheels\ncommon\n")
    project.write("cpu.py", "import common\nprint(common.NAME)\n")
    assert run(build(project)) == "wheel\n"
    project.write("requirements.txt", "./wheels/common-1-py3-none-any.whl\n")
    assert run(build(project)) == "wheel\n"


def make_wheel(name: str, version: str) -> bytes:
    import io
    import zipfile

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(f"{name}.py", "NAME = 'wheel'\n")
        info = f"{name}-{version}.dist-info"
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return buffer.getvalue()


def test_a_path_outside_the_project_is_an_error_before_the_build(
    build: Build, project: Project, reporter: RecordingReporter
) -> None:
    project.write("requirements.txt", "six\n-r ../x/base.txt\n")
    with pytest.raises(ImageError) as caught:
        build(project)
    assert caught.value.id == "dependency-outside-project"
    assert "requirements.txt, line 2: -r ../x/base.txt" in caught.value.message
    assert reporter.lines == []


SETUP_THAT_READS = [
    "import glob\nnames = [open(f).read() for f in glob.glob('requirements/*')]\n"
    "setup(name='proj', version=open('VERSION.txt').read(), install_requires=names)",
    "import trainer\n"
    "setup(name='proj', version=trainer.VERSION, install_requires=['six==1.16.0'], packages=['trainer'])",
]


@pytest.mark.parametrize("source", SETUP_THAT_READS)
def test_a_setup_script_may_read_files_of_the_project(build: Build, project: Project, run: Run, source: str) -> None:
    project.write("setup.py", f"import os, sys\nsys.path.insert(0, '.')\nfrom setuptools import setup\n{source}\n")
    project.write("VERSION.txt", "1")
    project.write("requirements/base.txt", "six==1.16.0")
    project.write("trainer/__init__.py", "from trainer.about import VERSION\n")
    project.write("trainer/about.py", "VERSION = '1'\n")
    project.write(
        "cpu.py", "import six\nfrom importlib import metadata\nprint(six.__version__, metadata.version('proj'))\n"
    )
    assert run(build(project)) == "1.16.0 1\n"


APPLICATIONS = {
    "uv": '[project]\nname = "app"\nversion = "1"\ndependencies = ["six==1.16.0"]\n[tool.uv]\n'
    '[dependency-groups]\ndev = ["no-such-package-here"]\n',
    "several top-level packages": '[project]\nname = "app"\nversion = "1"\ndependencies = ["six==1.16.0"]\n',
    "extras": '[project]\nname = "app"\nversion = "1"\ndependencies = []\n[project.optional-dependencies]\n'
    'CPU = ["app[all]"]\nall = ["six==1.16.0"]\n[tool.uv]\n',
    "poetry without a package": '[tool.poetry]\npackage-mode = false\n[tool.poetry.dependencies]\npython = "^3.8"\n'
    f'six = "~1.16"\n{POETRY}',
    "poetry without a build system": '[tool.poetry]\nname = "app"\nversion = "1"\ndescription = ""\nauthors = []\n'
    '[tool.poetry.dependencies]\npython = "^3.8"\nsix = {version = "^1.15,<1.17", extras = []}\n',
    "poetry 2 without a package": '[project]\nname = "app"\nversion = "1"\ndependencies = ["six==1.16.0"]\n'
    f"[tool.poetry]\npackage-mode = false\n{POETRY}",
}


@pytest.mark.parametrize("name", APPLICATIONS)
def test_the_dependencies_of_an_application_are_installed(build: Build, project: Project, run: Run, name: str) -> None:
    project.write("pyproject.toml", APPLICATIONS[name])
    project.write("models/__init__.py", "")
    project.write("training/__init__.py", "")
    project.write("cpu.py", "import six\nprint(six.__version__)\n")
    assert run(build(project)) == "1.16.0\n"


PACKAGES = {
    "setuptools": '[project]\nname = "proj"\nreadme = "docs/README.md"\nlicense = {file = "docs/LICENSE"}\n'
    f'dynamic = ["version", "dependencies"]\n[tool.setuptools]\npackages = ["proj"]\n[tool.setuptools.dynamic]\n'
    f'version = {{attr = "proj.about.__version__"}}\ndependencies = {{file = ["requirements.in"]}}\n{SETUPTOOLS}',
    "hatchling": '[project]\nname = "proj"\nreadme = "docs/README.md"\ndynamic = ["version"]\n'
    f'dependencies = ["six==1.16.0"]\n[tool.hatch.version]\npath = "proj/about.py"\n{HATCH}',
    "poetry": '[tool.poetry]\nname = "proj"\nversion = "1"\ndescription = ""\nauthors = []\nreadme = "docs/README.md"\n'
    f'[tool.poetry.dependencies]\npython = "^3.8"\nsix = "1.16.0"\n{POETRY}',
    "flit": '[project]\nname = "proj"\ndynamic = ["version", "description"]\ndependencies = ["six==1.16.0"]\n'
    '[build-system]\nrequires = ["flit_core >=3"]\nbuild-backend = "flit_core.buildapi"\n',
}


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_is_installed_with_its_dependencies(build: Build, project: Project, run: Run, name: str) -> None:
    project.write("pyproject.toml", PACKAGES[name])
    project.write("requirements.in", "six==1.16.0\n")
    project.write("docs/README.md", "# proj\n")
    project.write("docs/LICENSE", "MIT\n")
    project.write("proj/__init__.py", '"""A package."""\n__version__ = "1"\n')
    project.write("proj/about.py", "__version__ = '1'\n")
    project.write("proj/model.py", "NAME = 'model'\n")
    project.write(
        "cpu.py",
        "import six, proj.model\nfrom importlib import metadata\n"
        "print(six.__version__, proj.model.NAME, metadata.version('proj'))\n",
    )
    assert run(build(project)) == "1.16.0 model 1\n"


def test_settings_in_setup_cfg_may_name_files(build: Build, project: Project, run: Run) -> None:
    project.write("setup.py", "from setuptools import setup\nsetup()\n")
    project.write(
        "setup.cfg",
        "[metadata]\nname = proj\nversion = file: meta/VERSION\nlong_description = file: docs/README.md\n"
        "[options]\npackages = find:\ninstall_requires = file: requirements/base.txt\n",
    )
    project.write("meta/VERSION", "4\n")
    project.write("docs/README.md", "# proj\n")
    project.write("requirements/base.txt", "six==1.16.0\n")
    project.write(
        "cpu.py", "import six\nfrom importlib import metadata\nprint(six.__version__, metadata.version('proj'))\n"
    )
    assert run(build(project)) == "1.16.0 4\n"


def test_a_package_that_the_script_is_not_part_of_is_installed_whole(build: Build, project: Project, run: Run) -> None:
    project.write("pyproject.toml", f'[project]\nname = "proj"\nversion = "1"\ndependencies = []\n{SETUPTOOLS}')
    project.write("src/proj/__init__.py", "")
    project.write("src/proj/model.py", "NAME = 'model'\n")
    project.write("scripts/train.py", "from proj.model import NAME\nprint(NAME)\n")
    assert run(build(project, "scripts/train.py")) == "model\n"


def test_a_project_that_pip_cannot_build_without_its_code_is_installed_after_it(
    build: Build, project: Project, run: Run, reporter: RecordingReporter
) -> None:
    project.write(
        "pyproject.toml",
        '[project]\nname = "proj"\nversion = "1"\ndependencies = ["six==1.16.0"]\n'
        f'[tool.setuptools]\npackages = ["proj"]\n{SETUPTOOLS}',
    )
    project.write("proj/model.py", "NAME = 'model'\n")  # without an __init__.py, its directory is not sent early
    project.write("cpu.py", "import six, proj.model\nprint(six.__version__, proj.model.NAME)\n")
    assert run(build(project)) == "1.16.0 model\n"
    assert any("pip cannot install the project without its code" in line for line in reporter.lines)


def test_a_version_from_git_is_announced_as_0(
    build: Build, project: Project, run: Run, reporter: RecordingReporter
) -> None:
    project.write(
        "pyproject.toml",
        '[project]\nname = "proj"\ndynamic = ["version"]\ndependencies = []\n[tool.setuptools_scm]\n'
        '[build-system]\nrequires = ["setuptools", "setuptools-scm"]\nbuild-backend = "setuptools.build_meta"\n',
    )
    project.write("proj/__init__.py", "")
    project.write("cpu.py", "from importlib import metadata\nprint(metadata.version('proj'))\n")
    assert run(build(project)) == "0\n"
    assert any("setuptools-scm" in line and "version 0" in line for line in reporter.lines)


def test_dependencies_that_are_not_read_cause_a_warning(
    build: Build, project: Project, reporter: RecordingReporter
) -> None:
    project.write("Pipfile", "")
    build(project)
    (warning,) = reporter.warnings
    assert "Pipfile" in warning
