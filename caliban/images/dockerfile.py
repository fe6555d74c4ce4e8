"""From a spec to the text of a Dockerfile; pure.

No path of the project stands in it, but for those in the entry point: the build context (``caliban.images.context``)
lays the project's files out under the names below, so that no file name can be taken for an instruction or a pattern.
Every instruction is one line. What changes seldom comes first, so that a change of code rebuilds the last layer alone.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from caliban.config import CONFIG_FILE
from caliban.images.spec import CONDA_FILE, REQUIREMENTS_FILE, BuildSpec

DOCKERFILE = "Dockerfile"
"""The names of things in the build context; nothing of the project lies at its top."""
CODE = "code"
EXTRA = "extra"
REQUIREMENTS = "requirements"
CONDA = "conda"
PACKAGING = "packaging"

APP = "/usr/app"
"""Where the code lies and runs in the container, as with caliban 0.4.2."""
_SUPPORT = "/opt/caliban"
_PLAIN_NAME = re.compile(r"[a-z_][a-z0-9_-]{0,31}")

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

_PYTHON = """\
if command -v python >/dev/null; then exit 0; fi
if ! command -v python3 >/dev/null; then
  echo "the base image has no Python" >&2
  exit 1
fi
ln -s "$(command -v python3)" /usr/local/bin/python"""

# Written by hand, since neither useradd nor adduser is everywhere and both refuse a uid that the base image has.
# Of two entries with one uid the first counts, which gives that uid a home that it may write to.
_USER = """\
name={name}
if grep -q "^$name:" /etc/passwd /etc/group; then name=caliban; fi
if ! grep -q "^[^:]*:[^:]*:{gid}:" /etc/group; then echo "$name:x:{gid}:" >> /etc/group; fi
{{ echo "$name:x:{uid}:{gid}::/home/$name:/bin/sh"; cat /etc/passwd; }} > /etc/passwd.caliban
cat /etc/passwd.caliban > /etc/passwd
rm /etc/passwd.caliban
mkdir -p "/home/$name" {app}
chown {uid}:{gid} "/home/$name" {app}"""

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
    """Who runs in the container: the caller, so that files in mounted folders are theirs.

    Attributes:
        uid, gid: numeric; 0 for root.
        name: what the user is called where the base image leaves the name free and it is a plain one.
    """

    uid: int
    gid: int
    name: str


@dataclass(frozen=True)
class Instruction:
    """One line of a Dockerfile.

    Attributes:
        text: the instruction.
        purpose: what it is for, in a few words, for people.
        remedy: what to look at when it fails.
    """

    text: str
    purpose: str
    remedy: str = "correct what the output shows, then run the command again"


def dockerfile(spec: BuildSpec, user: BuildUser) -> str:
    """Write the Dockerfile for a spec, to be built from a context that ``caliban.images.context`` lays out."""
    return "".join(each.text + "\n" for each in instructions(spec, user))


def instructions(spec: BuildSpec, user: BuildUser) -> tuple[Instruction, ...]:
    """List the instructions of the Dockerfile in order, each with its purpose."""
    return (*_base(spec), *_user(user), *_dependencies(spec), *_application(spec, user))


def _base(spec: BuildSpec) -> list[Instruction]:
    image = spec.config.base_image_for(spec.job_mode)
    result = [
        Instruction(f"FROM {image}", f"getting the base image {image}"),
        Instruction("USER root", "becoming root"),
        Instruction(_ENVIRONMENT, "setting the environment"),
    ]
    packages = spec.config.apt_packages_for(spec.job_mode)
    if packages:
        script = _APT.format(packages=" ".join(packages))
        result.append(Instruction(_shell(script), "installing apt packages", f"check apt_packages in {CONFIG_FILE}"))
    result.append(Instruction(_shell(_PYTHON), "looking for Python", f"name a base_image with Python in {CONFIG_FILE}"))
    return result


def _user(user: BuildUser) -> list[Instruction]:
    if user.uid == 0:
        return []
    name = user.name if _PLAIN_NAME.fullmatch(user.name) else "caliban"
    return [Instruction(_shell(_USER.format(name=name, uid=user.uid, gid=user.gid, app=APP)), "adding the user")]


def _dependencies(spec: BuildSpec) -> list[Instruction]:
    result: list[Instruction] = []
    if spec.conda_env_path is not None:
        script = _CONDA.format(file=CONDA_FILE)
        file = f"{_SUPPORT}/{CONDA}/{spec.conda_env_path}"
        remedy = f"check {CONDA_FILE}, and base_image in {CONFIG_FILE}, which has to bring conda"
        result += [_copy(CONDA, CONDA_FILE), Instruction(_shell(script, file), f"installing {CONDA_FILE}", remedy)]
    if spec.requirements_path is not None:
        file = f"{_SUPPORT}/{REQUIREMENTS}/{spec.requirements_path}"
        remedy = f"check {REQUIREMENTS_FILE}; the base image has to bring pip"
        result += [
            _copy(REQUIREMENTS, REQUIREMENTS_FILE),
            Instruction(_pip("--requirement", file), f"installing {REQUIREMENTS_FILE}", remedy),
        ]
    if spec.setup_extras is not None:
        project = f"{_SUPPORT}/{PACKAGING}" + (f"[{','.join(spec.setup_extras)}]" if spec.setup_extras else "")
        purpose = "installing the project's dependencies"
        remedy = (
            "this step sees the packaging files and each package's __init__.py, not the rest of the code; "
            f"a setup.py that needs more works with its dependencies named in {REQUIREMENTS_FILE} instead"
        )
        result += [
            _copy(PACKAGING, "the packaging files"),
            # setuptools-scm finds no history here; any version does for installing dependencies.
            Instruction(_pip(project, environment="SETUPTOOLS_SCM_PRETEND_VERSION=0"), purpose, remedy),
            # The code comes first, before the empty packages that the step above has installed.
            Instruction(f"ENV PYTHONPATH={APP}:{APP}/src", "setting the module path"),
        ]
    return result


def _application(spec: BuildSpec, user: BuildUser) -> list[Instruction]:
    owner = f"{user.uid}:{user.gid}"
    extras = [
        Instruction(f'COPY --chown={owner} ["{EXTRA}/{number}/", "{APP}/"]', "copying an extra folder")
        for number, _ in enumerate(spec.extra_dirs)
    ]
    return [
        Instruction(f"WORKDIR {APP}", "setting the working folder"),
        Instruction(f"USER {owner}", "becoming the user"),
        *extras,
        Instruction("ENTRYPOINT " + json.dumps(spec.package.command), "setting the entry point"),
        Instruction(f'COPY --chown={owner} ["{CODE}/", "{APP}/"]', "copying the code"),
    ]


def _copy(part: str, what: str) -> Instruction:
    return Instruction(f'COPY ["{part}/", "{_SUPPORT}/{part}/"]', f"copying {what}")


def _shell(script: str, *arguments: str) -> str:
    # The JSON form passes by a base image's own SHELL, and by every quoting but JSON's.
    return "RUN " + json.dumps(["/bin/sh", "-ec", script, "sh", *arguments])


def _pip(*arguments: str, environment: str | None = None) -> str:
    prefix = [] if environment is None else ["env", environment]
    return "RUN " + json.dumps([*prefix, "python", "-m", "pip", "install", "--no-cache-dir", *arguments])
