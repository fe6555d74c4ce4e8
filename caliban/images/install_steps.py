"""The instructions that install dependencies, before and after the code is copied."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import replace

from caliban.config import CONFIG_FILE
from caliban.images.base_image import APP, SUPPORT
from caliban.images.build_secrets import LAUNCHER
from caliban.images.dependency_plan import DependencyPlan, Project
from caliban.images.instruction import Instruction
from caliban.images.parts import ALL_PROJECT_REQUIREMENTS, CONDA, PACKAGING, PROJECT_REQUIREMENTS, REQUIREMENTS
from caliban.images.spec import BuildSpec
from caliban.input_files import shortened

_DEPENDENCIES = "install the project's dependencies"
_CHECK = "check that this works in the project's directory: {}"

_PIP = ("python", "-m", "pip", "install", "--no-cache-dir")

# There is no Git history in an image; any version is good enough. Each tool has a variable of its own.
_VERSION = (
    "SETUPTOOLS_SCM_PRETEND_VERSION=0",
    "PBR_VERSION=0.0.0",
    "PDM_BUILD_SCM_VERSION=0",
    "POETRY_DYNAMIC_VERSIONING_BYPASS=0",
    "UV_DYNAMIC_VERSIONING_BYPASS=0",
)

# One line each: the entrypoints of some base images (conda run) accept no other arguments.
_CONDA = (
    "if command -v mamba >/dev/null; then conda=mamba; elif command -v conda >/dev/null; then conda=conda; "
    'else echo "$1 needs a base image with conda or mamba" >&2; exit 1; fi; '
    '"$conda" env update --name base --file "$2"; "$conda" clean --all --yes'
)

# Poetry's own library finds the dependencies: its version ranges are not those of pip.
_POETRY_DEPENDENCIES = """\
import sys
from pathlib import Path
from poetry.core.factory import Factory
wanted = set(sys.argv[1:])
for dependency in Factory().create_poetry(Path.cwd()).package.requires:
    extras = {str(extra) for extra in dependency.in_extras}
    if not dependency.is_optional() or extras & wanted:
        print(dependency.to_pep_508(with_extras=False))
"""
_POETRY = (
    'script="$1"; shift; work="$(mktemp -d)"; '
    'python -m pip install --no-cache-dir --quiet --target "$work/poetry" poetry-core; '
    'PYTHONPATH="$work/poetry" python -c "$script" "$@" > "$work/requirements.txt"; '
    'python -m pip install --no-cache-dir --requirement "$work/requirements.txt"; rm -rf "$work"'
)

# What pip writes beside the code belongs to the user of the container, like the code. Not every image has find.
_GIVE_TO_USER = """\
import os, sys
user, group = map(int, sys.argv[1].split(":"))
for directory, directories, files in os.walk("."):
    for name in [*directories, *files]:
        path = os.path.join(directory, name)
        if os.lstat(path).st_uid == 0:
            os.lchown(path, user, group)
"""
_IN_THE_CODE = 'owner="$1"; script="$2"; shift 2; "$@"; python -c "$script" "$owner"'
_NOT_SHOWN = re.compile(r"env|[0-9]+:[0-9]+|[A-Z_]+=\S*|exec\(.*", re.DOTALL)


def early_steps(spec: BuildSpec, plan: DependencyPlan) -> list[Instruction]:
    """Return the steps before the code is copied: they are cached."""
    result: list[Instruction] = []
    if spec.conda_env_path is not None:
        result += [_copy(CONDA, shortened(spec.conda_env_path)), _conda(spec.conda_env_path)]
    if spec.requirements_path is not None:
        result += [_copy(REQUIREMENTS, shortened(spec.requirements_path)), _requirements(spec.requirements_path)]
    if plan.project is Project.SKELETON:
        result += [_copy(PACKAGING, "the packaging files"), _skeleton(spec)]
    elif plan.project is Project.LIST:
        result += [_copy(PACKAGING, "the list of the project's dependencies"), _list()]
    elif plan.project is Project.POETRY:
        result += [_copy(PACKAGING, "pyproject.toml"), _poetry(spec)]
    if spec.setup_extras is not None and not plan.late_project:
        # The code precedes the empty packages that the skeleton has.
        result.append(
            Instruction(f"ENV PYTHONPATH={APP}:{APP}/src${{PYTHONPATH:+:$PYTHONPATH}}", "set the module path")
        )
    return result


def late_steps(spec: BuildSpec, plan: DependencyPlan, owner: str) -> list[Instruction]:
    """Return the steps after the code is copied, which run again whenever it changes.

    Args:
        spec: what is built.
        plan: what is installed when.
        owner: of the files, ``UID:GID``.
    """
    result: list[Instruction] = []
    if plan.late_conda:
        name = spec.conda_env_path or ""
        result.append(
            _late(_conda_command(name, name), owner, f"install {shortened(name)}", f"check {shortened(name)}")
        )
    if plan.late_list:
        command = [*_PIP, "--requirement", f"{SUPPORT}/{PACKAGING}/{ALL_PROJECT_REQUIREMENTS}"]
        result.append(_late(command, owner, "install the project's dependencies", _CHECK.format("pip install .")))
    if plan.late_project:
        project = f".[{','.join(spec.setup_extras)}]" if spec.setup_extras else "."
        command = ["env", *_VERSION, *_PIP, *(["--editable"] if plan.editable else []), project]
        result.append(_late(command, owner, "install the project", _CHECK.format("pip install .")))
    if plan.late_requirements:
        name = spec.requirements_path or ""
        command = ["env", *_VERSION, *_PIP, "--requirement", name]
        hint = _CHECK.format(f"pip install -r {shortened(name)}")
        result.append(_late(command, owner, f"install the projects of {shortened(name)}", hint))
    return result


def _conda_command(name: str, file: str) -> list[str]:
    return ["/bin/sh", "-ec", _CONDA, "sh", name, file]


def _conda(name: str) -> Instruction:
    command = _conda_command(name, f"{SUPPORT}/{CONDA}/{name}")
    hint = f'check {shortened(name)}, and that "base_image" in {CONFIG_FILE} has conda'
    return _run(CONDA, command, f"install {shortened(name)}", hint)


def _requirements(name: str) -> Instruction:
    command = [*_PIP, "--requirement", f"{SUPPORT}/{REQUIREMENTS}/{name}"]
    hint = f"check {shortened(name)}, and that the base image has pip"
    return _run(REQUIREMENTS, command, f"install {shortened(name)}", hint)


def _skeleton(spec: BuildSpec) -> Instruction:
    project = f"{SUPPORT}/{PACKAGING}" + (f"[{','.join(spec.setup_extras)}]" if spec.setup_extras else "")
    step = _run(PACKAGING, ["env", *_VERSION, *_PIP, project], _DEPENDENCIES, _CHECK.format("pip install ."))
    return replace(step, has_alternative=True)


def _list() -> Instruction:
    command = [*_PIP, "--requirement", f"{SUPPORT}/{PACKAGING}/{PROJECT_REQUIREMENTS}"]
    return _run(PACKAGING, command, _DEPENDENCIES, "check the dependencies in pyproject.toml")


def _poetry(spec: BuildSpec) -> Instruction:
    command = ["/bin/sh", "-ec", _POETRY, "sh", f"exec({_POETRY_DEPENDENCIES!r})", *(spec.setup_extras or ())]
    return _run(PACKAGING, command, _DEPENDENCIES, "check the dependencies in pyproject.toml: poetry check")


def _copy(part: str, what: str) -> Instruction:
    return Instruction(f'COPY ["{part}/", "{SUPPORT}/{part}/"]', f"copy {what}")


def _run(part: str, command: Sequence[str], purpose: str, hint: str) -> Instruction:
    return _launched(f"{SUPPORT}/{part}", command, purpose, hint)


def _late(command: Sequence[str], owner: str, purpose: str, hint: str) -> Instruction:
    return _launched(
        APP, ["/bin/sh", "-ec", _IN_THE_CODE, "sh", owner, f"exec({_GIVE_TO_USER!r})", *command], purpose, hint
    )


def _launched(directory: str, command: Sequence[str], purpose: str, hint: str) -> Instruction:
    """Return an instruction that runs a command in a directory with the settings of package indexes."""
    text = "RUN " + json.dumps(["python", "-c", LAUNCHER, directory, *command])
    words = command[command.index("sh", 2) + 1 :] if command[0] == "/bin/sh" else command
    shown = shlex.join(word for word in words if word.isprintable() and not _NOT_SHOWN.fullmatch(word))
    return Instruction(text, purpose, hint, shown=f"RUN {shown}")
