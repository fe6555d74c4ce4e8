from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caliban.config import ProjectConfig, config_from_record
from caliban.images.dependency_plan import DependencyPlan
from caliban.images.dockerfile import BuildUser, dockerfile, instructions
from caliban.images.install_steps import late_steps
from caliban.images.package import Package
from caliban.images.spec import BuildSpec
from caliban.records import JobMode

USER = BuildUser(1234, 2345, "mei")
SPEC = BuildSpec(
    build_path=Path("/home/u/proj"),
    package=Package(("python",), ".", "cpu.py"),
    job_mode=JobMode.CPU,
    config=ProjectConfig(),
)
# Valid file names on Linux that Docker accepts: UTF-8 without the zero byte.
FILE_NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=40)


def keywords(spec: BuildSpec, user: BuildUser = USER) -> list[str]:
    return [line.split(" ", 1)[0] for line in dockerfile(spec, user).splitlines()]


def json_form(spec: BuildSpec, keyword: str, user: BuildUser = USER) -> list[list[str]]:
    """Return the arguments of every instruction of a kind, as Docker parses them."""
    found = []
    for line in dockerfile(spec, user).splitlines():
        name, _, rest = line.partition(" ")
        if name == keyword:
            found.append(json.loads(rest[rest.index("[") :]))
    return found


@given(name=FILE_NAMES, module=st.none() | FILE_NAMES)
def test_the_entrypoint_has_any_name_byte_for_byte(name: str, module: str | None) -> None:
    package = Package(("python",), ".", name, module)
    assert json_form(replace(SPEC, package=package), "ENTRYPOINT") == [list(package.command)]


@given(name=FILE_NAMES)
def test_dependency_files_may_have_any_name(name: str) -> None:
    spec = replace(SPEC, requirements_path=name, conda_env_path=name)
    arguments = [run[-1] for run in json_form(spec, "RUN")]
    assert f"/opt/caliban/requirements/{name}" in arguments
    assert f"/opt/caliban/conda/{name}" in arguments


@given(
    script=FILE_NAMES,
    part=FILE_NAMES,
    extras=st.lists(FILE_NAMES, max_size=3),
    requirements=st.none() | FILE_NAMES,
    conda=st.none() | FILE_NAMES,
    user=FILE_NAMES,
)
def test_no_name_adds_an_instruction(
    script: str, part: str, extras: list[str], requirements: str | None, conda: str | None, user: str
) -> None:
    spec = replace(
        SPEC,
        package=Package(("python",), part, script),
        extra_dirs=tuple(extras),
        requirements_path=requirements,
        conda_env_path=conda,
    )
    plain = replace(
        spec,
        package=SPEC.package,
        extra_dirs=("x",) * len(extras),
        requirements_path=None if requirements is None else "x",
        conda_env_path=None if conda is None else "x",
    )
    assert keywords(spec, BuildUser(1, 1, user)) == keywords(plain)
    assert len(dockerfile(spec, BuildUser(1, 1, user)).split("\n")) == len(dockerfile(plain, USER).split("\n"))


@given(name=st.text())
def test_a_user_name_with_special_characters_is_not_used(name: str) -> None:
    script = json_form(SPEC, "RUN", BuildUser(1234, 2345, name))[-1][2]
    assert script.startswith((f"name={name}\n", "name=caliban\n"))
    assert set(script.splitlines()[0]) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-=")


def test_what_changes_least_comes_first() -> None:
    spec = replace(
        SPEC,
        config=config_from_record({"apt_packages": ["git"]}),
        extra_dirs=("data",),
        conda_env_path="environment.yml",
        requirements_path="requirements.txt",
        setup_extras=("cpu",),
    )
    assert [each.purpose for each in instructions(spec, USER)] == [
        "pull the base image python:3.12-slim",
        "switch to root",
        "set environment variables",
        "install apt packages",
        "find Python",
        "add the user",
        "copy environment.yml",
        "install environment.yml",
        "copy requirements.txt",
        "install requirements.txt",
        "copy the packaging files",
        "install the project's dependencies",
        "set the module path",
        "set the working directory",
        "switch to the user",
        "copy an extra directory",
        "set the entrypoint",
        "copy the code",
    ]


def test_a_module_is_started_as_one() -> None:
    spec = replace(SPEC, package=Package(("python", "-m"), "trainer", "trainer/train.py", "trainer.train"))
    assert 'ENTRYPOINT ["python", "-m", "trainer.train"]\n' in dockerfile(spec, USER)


def test_the_base_image_is_that_of_the_mode() -> None:
    config = config_from_record({"base_image": "team/base-{}:1"})
    assert dockerfile(replace(SPEC, config=config, job_mode=JobMode.GPU), USER).startswith("FROM team/base-gpu:1\n")


def test_no_user_is_added_for_root() -> None:
    assert "add the user" not in [each.purpose for each in instructions(SPEC, BuildUser(0, 0, "root"))]


@pytest.mark.parametrize(("extras", "expected"), [((), ""), (("cpu", "dev"), "[cpu,dev]")])
def test_pip_installs_the_extras(extras: tuple[str, ...], expected: str) -> None:
    arguments = [run[-1] for run in json_form(replace(SPEC, setup_extras=extras), "RUN")]
    assert f"/opt/caliban/packaging{expected}" in arguments


def test_what_a_late_step_writes_as_root_gets_the_owner_of_the_code(tmp_path: Path) -> None:
    owner = (1234, 2345) if os.geteuid() == 0 else (os.getuid(), os.getgid())
    spec, plan = replace(SPEC, requirements_path="requirements.txt"), DependencyPlan(late_requirements=True)
    step = late_steps(spec, plan, f"{owner[0]}:{owner[1]}")[0]
    words = json.loads(step.text.removeprefix("RUN "))
    start = words[words.index("/bin/sh") : words.index("env")]
    writes = ["/bin/sh", "-c", "mkdir -p build/lib; touch build/lib/x; ln -s build link"]
    subprocess.run([*start, *writes], cwd=tmp_path, check=True)
    owners = {path.name: (path.lstat().st_uid, path.lstat().st_gid) for path in tmp_path.rglob("*")}
    assert owners == dict.fromkeys(("build", "lib", "x", "link"), owner)


def test_a_step_is_shown_without_its_launcher() -> None:
    plan = DependencyPlan(late_project=True)
    step = late_steps(replace(SPEC, setup_extras=("cpu",)), plan, "1234:2345")[0]
    assert step.shown == "RUN python -m pip install --no-cache-dir '.[cpu]'"
