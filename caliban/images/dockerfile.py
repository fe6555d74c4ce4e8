"""Write the Dockerfile of a spec, without any I/O.

It contains no path of the project except in the entrypoint: the build context (``caliban.images.context``) has the
project's files under the names below, so that no file name can be read as an instruction or a pattern. Every
instruction is one line. What changes least comes first, so that a change of code rebuilds the last layer only.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from caliban.config import CONFIG_FILE
from caliban.images.base_image import APP, SUPPORT, BaseImage
from caliban.images.spec import CONDA_FILE, REQUIREMENTS_FILE, BuildSpec

DOCKERFILE = "Dockerfile"
"""The names at the top of the build context, where no file of the project is."""
CODE = "code"
EXTRA = "extra"
REQUIREMENTS = "requirements"
CONDA = "conda"
PACKAGING = "packaging"
SKELETON = "skeleton"
"""Has an empty directory for the code, for base images that declare it as a volume: only COPY changes its owner."""

_PLAIN_NAME = re.compile(r"[a-z_][a-z0-9_-]{0,31}")

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

_CONDA = """\
if command -v mamba >/dev/null; then conda=mamba
elif command -v conda >/dev/null; then conda=conda
else
  echo "{file} needs a base image with conda or mamba" >&2
  exit 1
fi
"$conda" env update --name base --file "$1"
"$conda" clean --all --yes"""


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


@dataclass(frozen=True)
class Instruction:
    """One line of a Dockerfile.

    Attributes:
        text: the instruction.
        purpose: what it does, in a few words, for messages.
        hint: what to check when it fails.
    """

    text: str
    purpose: str
    hint: str = "fix the problem that the output shows, then run the command again"


def dockerfile(spec: BuildSpec, user: BuildUser, base: BaseImage | None = None) -> str:
    """Return the Dockerfile for a spec, to be built from the context that ``caliban.images.context`` writes."""
    return "".join(each.text + "\n" for each in instructions(spec, user, base))


def instructions(spec: BuildSpec, user: BuildUser, base: BaseImage | None = None) -> tuple[Instruction, ...]:
    """Return the instructions of the Dockerfile in order.

    Args:
        spec: what is built.
        user: who runs it.
        base: what the base image sets up; None for one that sets up nothing.
    """
    base = base or BaseImage()
    activated = base.entrypoint.kept if base.entrypoint.activates else ()
    return (
        *_base(spec, activated),
        *_user(user, base),
        *_dependencies(spec, activated),
        *_application(spec, user, base),
    )


def _base(spec: BuildSpec, activated: tuple[str, ...]) -> list[Instruction]:
    image = spec.config.base_image_for(spec.job_mode)
    result = [
        Instruction(f"FROM {image}", f"pull the base image {image}"),
        Instruction("USER root", "switch to root"),
        Instruction(_ENVIRONMENT, "set environment variables"),
    ]
    packages = spec.config.apt_packages_for(spec.job_mode)
    if packages:
        script = _APT.format(packages=" ".join(packages))
        result.append(Instruction(_shell(script), "install apt packages", f'check "apt_packages" in {CONFIG_FILE}'))
    result.append(
        Instruction(
            _shell(_PYTHON, activated=activated), "find Python", f'set a "base_image" with Python in {CONFIG_FILE}'
        )
    )
    return [*result, *_interpreter(spec)]


def _interpreter(spec: BuildSpec) -> list[Instruction]:
    """Return a check that ends the build before anything is installed that could not be run."""
    program = spec.package.executable[0]
    if program in ("python", "/bin/sh") or not _PROGRAM_NAME.fullmatch(program):
        return []
    hint = f'set a "base_image" that has {program}, or add its package to "apt_packages", in {CONFIG_FILE}'
    return [Instruction(_shell(_PROGRAM.format(program=program)), f"find {program}", hint)]


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
    result = [Instruction(_shell(script, *base.places), "add the user")]
    if base.environment:
        variables = " ".join(f"{name}={json.dumps(value)}" for name, value in base.environment.items())
        result.append(Instruction(f"ENV {variables}", "set the home directory"))
    if base.has_volume(APP):
        copy = f'COPY --chown={user.uid}:{user.gid} ["{SKELETON}/", "{PurePosixPath(APP).parent}/"]'
        result.append(Instruction(copy, "set the owner of the working directory"))
    return result


def _dependencies(spec: BuildSpec, activated: tuple[str, ...]) -> list[Instruction]:
    result: list[Instruction] = []
    if spec.conda_env_path is not None:
        script = _CONDA.format(file=CONDA_FILE)
        file = f"{SUPPORT}/{CONDA}/{spec.conda_env_path}"
        hint = f'check {CONDA_FILE}, and that "base_image" in {CONFIG_FILE} has conda'
        result += [_copy(CONDA, CONDA_FILE), Instruction(_shell(script, file), f"install {CONDA_FILE}", hint)]
    if spec.requirements_path is not None:
        file = f"{SUPPORT}/{REQUIREMENTS}/{spec.requirements_path}"
        hint = f"check {REQUIREMENTS_FILE}, and that the base image has pip"
        result += [
            _copy(REQUIREMENTS, REQUIREMENTS_FILE),
            Instruction(_pip("--requirement", file, activated=activated), f"install {REQUIREMENTS_FILE}", hint),
        ]
    if spec.setup_extras is not None:
        project = f"{SUPPORT}/{PACKAGING}" + (f"[{','.join(spec.setup_extras)}]" if spec.setup_extras else "")
        purpose = "install the project's dependencies"
        hint = (
            "this step has the packaging files and each package's __init__.py, not the rest of the code; "
            f"if setup.py needs more, list the dependencies in {REQUIREMENTS_FILE} instead"
        )
        result += [
            _copy(PACKAGING, "the packaging files"),
            # There is no Git history for setuptools-scm; any version is good enough to install dependencies.
            Instruction(
                _pip(project, environment="SETUPTOOLS_SCM_PRETEND_VERSION=0", activated=activated), purpose, hint
            ),
            # The code precedes the empty packages that the step above installed.
            Instruction(f"ENV PYTHONPATH={APP}:{APP}/src${{PYTHONPATH:+:$PYTHONPATH}}", "set the module path"),
        ]
    return result


def _application(spec: BuildSpec, user: BuildUser, base: BaseImage) -> list[Instruction]:
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
    ]


def _copy(part: str, what: str) -> Instruction:
    return Instruction(f'COPY ["{part}/", "{SUPPORT}/{part}/"]', f"copy {what}")


def _shell(script: str, *arguments: str, activated: tuple[str, ...] = ()) -> str:
    # The exec form ignores a base image's SHELL, and needs no shell quoting.
    return "RUN " + json.dumps([*activated, "/bin/sh", "-ec", script, "sh", *arguments])


def _pip(*arguments: str, environment: str | None = None, activated: tuple[str, ...] = ()) -> str:
    prefix = [*activated] if environment is None else [*activated, "env", environment]
    return "RUN " + json.dumps([*prefix, "python", "-m", "pip", "install", "--no-cache-dir", *arguments])
