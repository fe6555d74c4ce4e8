"""Write the Dockerfile of a spec, without any I/O.

It contains no path of the project except in the entrypoint: the build context (``caliban.images.context``) has the
project's files under the names below, so that no file name can be read as an instruction or a pattern. Every
instruction is one line. What changes least comes first, so that a change of code rebuilds the last layer only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from caliban.config import CONFIG_FILE
from caliban.images.base_image import APP, BaseImage
from caliban.images.dependency_plan import DependencyPlan, default_plan
from caliban.images.install_steps import early_steps, late_steps
from caliban.images.instruction import Instruction, shell
from caliban.images.parts import CODE, EXTRA, SKELETON
from caliban.images.spec import BuildSpec

_PLAIN_NAME = re.compile(r"[a-z_][a-z0-9_-]{0,31}")

_PROGRAM_NAME = re.compile(r"[A-Za-z0-9/][\w./+-]*")

_PROGRAM_NAME = re.compile(r"[A-Za-z0-9/][\w./+-]*")

_ENVIRONMENT = (
    "ENV PYTHONUNBUFFERED=1 PIP_BREAK_SYSTEM_PACKAGES=1 PIP_ROOT_USER_ACTION=ignore PIP_DISABLE_PIP_VERSION_CHECK=1"
)

_APT = """\
if ! command -v apt-get >/dev/null; then
  echo "apt_packages needs a base image with apt-get" >&2
  exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update
apt-get install -y --no-install-recommends {packages}
rm -rf /var/lib/apt/lists/*"""

# One line: conda run accepts no other arguments.
_PYTHON = (
    "if command -v python >/dev/null; then exit 0; fi; "
    'if ! command -v python3 >/dev/null; then echo "the base image has no Python" >&2; exit 1; fi; '
    'ln -s "$(command -v python3)" /usr/local/bin/python'
)

_PROGRAM = """\
if command -v {program} >/dev/null; then exit 0; fi
echo "the base image has no {program}, which runs the script" >&2
exit 1"""

_PROGRAM = (
    "if command -v {program} >/dev/null; then exit 0; fi; "
    'echo "the base image has no {program}, which runs the script" >&2; exit 1'
)

# A script, since useradd and adduser are not in every base image and reject a uid that exists. The first of two entries
# with the same uid is used, which gives that uid a home directory that it may write to.
_USER = """\
name={name}
if grep -q "^$name:" /etc/passwd /etc/group; then name=caliban; fi
home={home}
if ! grep -q "^[^:]*:[^:]*:{gid}:" /etc/group; then echo "$name:x:{gid}:" >> /etc/group; fi
base_home=$(sed -n "/^{base_entry}/{{s|^{base_entry}[^:]*:\\([^:]*\\):.*|\\1|p;q;}}" /etc/passwd || true)
{{ echo "$name:x:{uid}:{gid}::$home:/bin/sh"; cat /etc/passwd; }} > /etc/passwd.caliban
cat /etc/passwd.caliban > /etc/passwd
rm /etc/passwd.caliban
mkdir -p "$home" {app}
chown {uid}:{gid} "$home" {app}"""

# Programs and packages that the base image has in the home directory of another user, such as /root/miniconda3/bin in
# PATH, /root/.local/bin/python as a link, a script of its entrypoint, or what "pip install --user" installed.
_OTHER_HOMES = """\
open() {{
  place=$1
  while [ -n "$place" ] && [ "$place" != /home ]; do
    if [ -d "$place" ]; then chmod a+x "$place"; fi
    place=${{place%/*}}
  done
}}
for each in $(echo "$PATH:$PYTHONPATH" | tr : " ") "$(readlink -f "$(command -v python)")" "$@"; do
  place=$(command -v "$each" || true)
  if [ -f "$place" ]; then
    case "$(ls -ldL "$place")" in
      ???????r?x*) ;;
      *) chmod a+rx "$place" ;;
    esac
  fi
  case "$each" in
    /root/* | /home/* | "$HOME"/*) open "$each" ;;
  esac
done
for each in "$HOME" "$base_home"; do
  if [ -d "$each/.local/lib" ] && [ ! -e "$home/.local" ]; then
    open "$each/.local/lib"
    mkdir "$home/.local"
    ln -s "$each/.local/lib" "$home/.local/lib"
    chown {uid}:{gid} "$home/.local"
  fi
done"""


@dataclass(frozen=True)
class BuildUser:
    """The user of the container: the caller, who then owns the files that it writes to mounted directories.

    Attributes:
        uid, gid: numeric; 0 for root.
        name: the user name; replaced where the base image has such a user, or where it has special characters.
    """

    uid: int
    gid: int
    name: str


def dockerfile(
    spec: BuildSpec, user: BuildUser, base: BaseImage | None = None, plan: DependencyPlan | None = None
) -> str:
    """Return the Dockerfile for a spec, to be built from the context that ``caliban.images.context`` writes."""
    return "".join(each.text + "\n" for each in instructions(spec, user, base, plan))


def instructions(
    spec: BuildSpec, user: BuildUser, base: BaseImage | None = None, plan: DependencyPlan | None = None
) -> tuple[Instruction, ...]:
    """Return the instructions of the Dockerfile in order.

    Args:
        spec: what is built.
        user: of the container.
        base: what the base image sets up; None for one that sets up nothing.
        plan: which dependencies are installed when; None for all of them before the code.
    """
    plan, base = plan or default_plan(spec), base or BaseImage()
    return (
        *_base(spec, base),
        *_user(user, base),
        *_activated(early_steps(spec, plan), base),
        *_application(spec, user, plan, base),
    )


def _activated(steps: Iterable[Instruction], base: BaseImage) -> Iterator[Instruction]:
    """Yield steps, run in the environment that the base image's entrypoint activates."""
    words = base.entrypoint.kept if base.entrypoint.activates else ()
    for step in steps:
        command = step.text.removeprefix("RUN ")
        if words and command != step.text:
            yield replace(step, text="RUN " + json.dumps([*words, *json.loads(command)]), shown=step.shown or step.text)
        else:
            yield step


def _base(spec: BuildSpec, base: BaseImage) -> list[Instruction]:
    image = spec.config.base_image_for(spec.job_mode)
    result = [
        Instruction(f"FROM {image}", f"pull the base image {image}"),
        Instruction("USER root", "switch to root"),
        Instruction(_ENVIRONMENT, "set environment variables"),
    ]
    packages = spec.config.apt_packages_for(spec.job_mode)
    if packages:
        script = _APT.format(packages=" ".join(packages))
        result.append(Instruction(shell(script), "install apt packages", f'check "apt_packages" in {CONFIG_FILE}'))
    python = Instruction(shell(_PYTHON), "find Python", f'set a "base_image" with Python in {CONFIG_FILE}')
    return [*result, *_activated([python, *_interpreter(spec)], base)]


def _interpreter(spec: BuildSpec) -> list[Instruction]:
    """Return a check that ends the build before anything is installed that could not be run."""
    program = spec.package.executable[0]
    if program in ("python", "/bin/sh") or not _PROGRAM_NAME.fullmatch(program):
        return []
    hint = f'set a "base_image" that has {program}, or add its package to "apt_packages", in {CONFIG_FILE}'
    return [Instruction(shell(_PROGRAM.format(program=program)), f"find {program}", hint)]


def _user(user: BuildUser, base: BaseImage) -> list[Instruction]:
    if user.uid == 0:
        return []
    name = user.name if _PLAIN_NAME.fullmatch(user.name) else "caliban"
    script = "\n".join((_USER, _OTHER_HOMES)).format(
        name=name,
        uid=user.uid,
        gid=user.gid,
        app=APP,
        home=base.home or "/home/$name",
        base_entry=base.passwd_entry,
    )
    result = [Instruction(shell(script, *base.places), "add the user")]
    if base.environment:
        variables = " ".join(f"{name}={json.dumps(value)}" for name, value in base.environment.items())
        result.append(Instruction(f"ENV {variables}", "set the home directory"))
    if base.has_volume(APP):
        copy = f'COPY --chown={user.uid}:{user.gid} ["{SKELETON}/", "{PurePosixPath(APP).parent}/"]'
        result.append(Instruction(copy, "set the owner of the working directory"))
    return result


def _application(spec: BuildSpec, user: BuildUser, plan: DependencyPlan, base: BaseImage) -> list[Instruction]:
    owner = f"{user.uid}:{user.gid}"
    extras = [
        Instruction(f'COPY --chown={owner} ["{EXTRA}/{number}/", "{APP}/"]', "copy an extra directory")
        for number, _ in enumerate(spec.extra_dirs)
    ]
    has_tini = any(PurePosixPath(word).name.startswith("tini") for word in base.entrypoint.kept)
    return [
        # tini warns otherwise where it is not the first process, as with docker run --init
        *([Instruction("ENV TINI_SUBREAPER=1", "set environment variables of tini")] if has_tini else []),
        Instruction(f"WORKDIR {APP}", "set the working directory"),
        Instruction(f"USER {owner}", "switch to the user"),
        *extras,
        Instruction("ENTRYPOINT " + json.dumps([*base.entrypoint.kept, *spec.package.command]), "set the entrypoint"),
        Instruction(f'COPY --chown={owner} ["{CODE}/", "{APP}/"]', "copy the code"),
        *_as_root(owner, [*_activated(late_steps(spec, plan, owner), base)]),
    ]


def _as_root(owner: str, steps: list[Instruction]) -> list[Instruction]:
    if not steps:
        return []
    return [Instruction("USER root", "switch to root"), *steps, Instruction(f"USER {owner}", "switch to the user")]
