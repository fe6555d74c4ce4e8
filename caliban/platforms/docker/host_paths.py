"""Files and directories of the user's machine in the arguments of ``docker run``.

A recorded job is run again from any directory, so relative paths are those of the project's directory, not of the one
where a command is typed. The client resolves some of them by itself, against its own directory: files that it reads,
and since Docker 23 ``-v ./data:/data``. Others reach the engine, which rejects them.

Sources: https://docs.docker.com/reference/cli/docker/container/run/ for the flags,
https://docs.docker.com/reference/cli/docker/volume/create/ for the names of volumes, and
https://github.com/docker/cli/blob/master/cli/command/container/opts.go for what the client reads.
"""

from __future__ import annotations

import csv
import io
import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum, unique
from pathlib import Path

from caliban.input_files import is_file
from caliban.platforms.docker.run_arguments import Flag, RunArguments, RunArgumentsError, is_known

_READ_BY_CLIENT = frozenset(("env-file", "label-file"))
_PATH_STARTS = ("./", "../", "~/")
_WHOLE_PATHS = (".", "..", "~")
_VOLUME_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_SECCOMP = re.compile(r"(seccomp[=:])(.*)", re.DOTALL)
_SECCOMP_NAMES = frozenset(("", "unconfined", "builtin"))
_SOURCE_KEYS = frozenset(("source", "src"))


@unique
class Kind(Enum):
    """What docker does with a path."""

    READ = "read"
    """The client reads the file."""

    MOUNTED = "mounted"
    """The engine mounts it, and rejects one that does not exist."""

    CREATED = "created"
    """The engine mounts it, and creates a directory, owned by root, where there is none."""

    PASSED = "passed"
    """Anything else."""


@dataclass(frozen=True)
class HostPath:
    """A path in the value of a flag.

    Attributes:
        flag: the flag.
        path: as it is written.
        kind: what docker does with it.
        value_with: returns the value of the flag with another path.
    """

    flag: Flag
    path: str
    kind: Kind
    value_with: Callable[[str], str]


def resolved(arguments: RunArguments, directory: Path | None, home: Path) -> RunArguments:
    """Return the arguments with absolute paths.

    Args:
        arguments: the arguments.
        directory: the project's directory, absolute; None if it is unknown.
        home: what ``~`` means.

    Raises:
        RunArgumentsError: a path is relative and the directory unknown, or a path cannot be written in this flag.
    """
    return replace(arguments, flags=tuple(_resolved_flag(flag, directory, home) for flag in arguments.flags))


def check_paths(arguments: RunArguments, directory: Path | None, *, is_engine_here: bool) -> list[str]:
    """Check the paths, which are absolute, before anything is built.

    Args:
        arguments: the arguments.
        directory: the project's directory; None if it is unknown.
        is_engine_here: whether the engine's files are those of this machine, as far as that is known.

    Returns:
        Warnings: directories outside of the project that do not exist. They may exist where the engine runs.

    Raises:
        RunArgumentsError: a file that the client reads does not exist; nor does a directory of the project.
    """
    warnings = []
    for each in host_paths(arguments):
        problem = f'file or directory not found: {each.path}, of "{each.flag.text}"'
        if each.kind is Kind.READ and not is_file(each.path):
            raise RunArgumentsError(problem, "create the file, or fix its path")
        if each.kind not in (Kind.CREATED, Kind.MOUNTED) or not is_engine_here or not _is_missing(each.path):
            continue
        if each.kind is Kind.CREATED:
            problem += "; Docker would create a directory, empty and owned by root"
        if directory is not None and _is_inside(each.path, directory):
            raise RunArgumentsError(problem, f"fix its path, or create a directory: mkdir -p {shlex.quote(each.path)}")
        warnings.append(problem)
    return warnings


def unset_variables(arguments: RunArguments, environ: Mapping[str, str]) -> list[str]:
    """Return a warning for each variable that is to be passed on (``--env NAME``) and is not set.

    Its value is never recorded: it may be a password, and whoever runs the job again passes on their own.
    """
    names = [flag.value for flag in arguments.flags if flag.name == "env" and flag.value and "=" not in flag.value]
    return [f"--env {name}: {name} is not set; the job runs without it" for name in names if name not in environ]


def host_paths(arguments: RunArguments) -> Iterator[HostPath]:
    """Yield the paths in the values of the flags.

    Raises:
        RunArgumentsError: a value is neither a path nor the name of a volume.
    """
    for flag in arguments.flags:
        if (found := _host_path(flag)) is not None:
            yield found


def _host_path(flag: Flag) -> HostPath | None:
    if flag.name in _READ_BY_CLIENT:
        return HostPath(flag, flag.value, Kind.READ, lambda path: path) if flag.value else None
    if flag.name == "volume":
        return _of_volume(flag)
    if flag.name == "mount":
        return _of_mount(flag)
    if flag.name == "device":
        source, separator, rest = flag.value.partition(":")
        return HostPath(flag, source, Kind.PASSED, lambda path: path + separator + rest) if _is_path(source) else None
    if flag.name == "security-opt":
        profile = _SECCOMP.fullmatch(flag.value)
        if profile is None or profile[2] in _SECCOMP_NAMES:
            return None
        return HostPath(flag, profile[2], Kind.READ, lambda path: profile[1] + path)
    if not is_known(flag.name) and _is_path(flag.value):  # of another client, as Podman's
        return HostPath(flag, flag.value, Kind.PASSED, lambda path: path)
    return None


def _of_volume(flag: Flag) -> HostPath | None:
    source, separator, rest = flag.value.partition(":")
    if not separator:
        if _is_path(source):
            raise RunArgumentsError(
                f'"{flag.text}" has no path in the container', f"write, for example: -v {source}:/data"
            )
        return None
    if source.startswith((".", "/", "~")):
        return HostPath(flag, source, Kind.CREATED, lambda path: f"{_without_colon(path, flag)}:{rest}")
    if not _VOLUME_NAME.fullmatch(source):
        raise _neither(flag, source, f"-v ./{source}:{rest}")
    return None


def _without_colon(path: str, flag: Flag) -> str:
    if ":" in path:
        raise RunArgumentsError(
            f'"{flag.text}" cannot be used: the path has a colon: {path}',
            "use --mount type=bind,source=DIRECTORY,target=DIRECTORY",
        )
    return path


def _of_mount(flag: Flag) -> HostPath | None:
    try:
        rows = list(csv.reader([flag.value], strict=True))
    except csv.Error:  # reported by docker
        return None
    fields = [field.partition("=") for field in (rows[0] if len(rows) == 1 else [])]
    values = {key.lower(): value for key, _, value in fields}
    source = next((value for key, _, value in reversed(fields) if key.lower() in _SOURCE_KEYS), "")
    if not source:
        return None
    if values.get("type", "volume").lower() != "bind":
        if values.get("type", "volume").lower() == "volume" and _is_path(source):
            raise RunArgumentsError(f'"{flag.text}" names a directory as if it were a volume', "add type=bind")
        return None

    def value_with(path: str) -> str:
        changed = [(key, sep, path if key.lower() in _SOURCE_KEYS else value) for key, sep, value in fields]
        text = io.StringIO()
        csv.writer(text, lineterminator="").writerow("".join(each) for each in changed)
        return text.getvalue()

    _check_expanded(flag, source)
    creates = any(key.startswith("bind-create") for key in values)  # of newer clients
    return HostPath(flag, source, Kind.PASSED if creates else Kind.MOUNTED, value_with)


def _resolved_flag(flag: Flag, directory: Path | None, home: Path) -> Flag:
    found = _host_path(flag)
    if found is None or Path(found.path).is_absolute():
        return flag
    value = found.value_with(_absolute(found, directory, home))
    last = flag.words[-1]
    return replace(flag, value=value, words=(*flag.words[:-1], last[: len(last) - len(flag.value)] + value))


def _absolute(found: HostPath, directory: Path | None, home: Path) -> str:
    path = found.path
    _check_expanded(found.flag, path)
    if path == "~" or path.startswith("~/"):
        return os.path.normpath(home / path[2:])
    if directory is None:
        raise RunArgumentsError(
            f'"{found.flag.text}" is relative to a directory that was not recorded',
            "submit the experiment again from the project's directory",
        )
    return os.path.normpath(directory / path)


def _check_expanded(flag: Flag, path: str) -> None:
    """Raise an error for a path that a shell was meant to expand."""
    if path.startswith("$"):
        raise _unexpanded(flag, "$")
    if path.startswith("~") and path != "~" and not path.startswith("~/"):
        raise _unexpanded(flag, "~")


def _neither(flag: Flag, source: str, example: str) -> RunArgumentsError:
    if source.startswith("$"):
        return _unexpanded(flag, "$")
    return RunArgumentsError(
        f'"{flag.text}" cannot be used: "{source}" is neither the name of a volume nor a path',
        f"for a directory of the project, write: {example}",
    )


def _unexpanded(flag: Flag, what: str) -> RunArgumentsError:
    meaning = "a variable" if what == "$" else "the home directory of another user"
    hint = "put --docker_run_args in double quotes, so that the shell replaces the variable"
    return RunArgumentsError(
        f'"{flag.text}" cannot be used: docker does not expand {meaning}',
        hint if what == "$" else "write the absolute path",
    )


def _is_path(text: str) -> bool:
    return text in _WHOLE_PATHS or text.startswith(_PATH_STARTS)


def _is_inside(path: str, project: Path) -> bool:
    """Return whether a path is in a project; nothing is in the root directory, which has everything."""
    return project.parent != project and Path(path).is_relative_to(project)


def _is_missing(path: str) -> bool:
    """Return whether there is certainly nothing of that name."""
    try:
        Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):  # cannot be determined by this user
        return False
    return False
