"""What of a base image's ENTRYPOINT runs the program that it is given: it precedes ours, since it may activate an
environment.

An entrypoint is one of

- programs that run another one: ``tini --``, ``conda run -n train``, ``gosu lab``; several may follow each other,
- a shell with ``-c`` or ``--login``, which runs a program in the environment of its startup files,
- a script that ends with ``exec "$@"`` or the like: ``/opt/nvidia/nvidia_entrypoint.sh``, ``start.sh`` of Jupyter,
- any other program, such as ``python`` or ``jupyter``, which takes its arguments for itself, and is replaced.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

READ = 64 * 1024
"""Bytes that are read of a script, at most."""

_RUNNERS: dict[str, str] = {
    "catatonit": "",
    "docker-init": "",
    "dumb-init": "r",
    "env": "uSC",
    "gosu": "",
    "nice": "n",
    "nohup": "",
    "numactl": "NCmpil",
    "setpriv": "",
    "stdbuf": "ioe",
    "su-exec": "",
    "tini": "pe",
    "tini-static": "pe",
    "xvfb-run": "efnpsw",
}
"""Programs that run the one that they are given -> their short options with a value."""

_LONG_WITH_VALUE = re.compile(
    r"--(?:rewrite|reuid|regid|groups|cpunodebind|membind|interleave|adjustment|unset|chdir|input|output|error)"
)
_WITH_USER = frozenset(("gosu", "su-exec"))
_ENVIRONMENTS = frozenset(("conda", "mamba", "micromamba", "uv", "poetry", "pipenv", "pixi", "pdm", "hatch"))
"""Programs whose ``run`` runs a program in an environment."""
_VALUE_OPTIONS = re.compile(
    r"-n|--name|-p|--prefix|--cwd|--project|--directory|--env-file|--python|-e|--environment|-a"
)
_SHELL = re.compile(r"(?:ba|da|a|k|z)?sh")
_INTERPRETER = re.compile(r"python[0-9.]*|(?:ba|da|a|k|z)?sh|env")
_GIVEN = r"""["']?(?:\$@|\$\*|\$\{@\}|\$\{@:1\}|"\$@")["']?"""
_HANDS_ON = re.compile(
    rf"(?:^|[;&|({{]|\b(?:then|else|do)\b)\s*(?:exec\s+)?(?:(?:gosu|su-exec|setpriv|sudo|tini|dumb-init|nice|env)\b.*\s)?{_GIVEN}",
    re.MULTILINE,
)
_ARRAY = re.compile(r"""^\s*(?:declare -a\s+|local -a\s+)?(\w+)=\(\s*"\$@"\s*\)""", re.MULTILINE)
_ACTIVATES = re.compile(rb"\bsource\b|^\s*\.\s|activate|conda|mamba|PATH=", re.MULTILINE)
_RUNS_GIVEN = 'exec "$@"'


@dataclass(frozen=True)
class Program:
    """A file of the base image.

    Attributes:
        start: its first bytes.
    """

    start: bytes


Look = Callable[[str], "Program | None"]
"""Returns the program of a name as in a command; None where the image has none."""


@dataclass(frozen=True)
class Entrypoint:
    """An ENTRYPOINT.

    Attributes:
        kept: what precedes our program.
        dropped: what ours replaces.
        activates: whether what is kept may set environment variables, which the installation of dependencies needs.
    """

    kept: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    activates: bool = False

    @property
    def is_missed(self) -> bool:
        """Whether what is dropped is more than an interpreter without a program."""
        return bool(self.dropped) and (
            _INTERPRETER.fullmatch(_name(self.dropped[0])) is None
            or any(not word.startswith("-") for word in self.dropped[1:])
        )


def split(entrypoint: Sequence[str], look: Look) -> Entrypoint:
    """Return which words of an ENTRYPOINT run the program that they are given.

    Args:
        entrypoint: its words.
        look: how to look at programs.
    """
    kept: tuple[str, ...] = ()
    rest = tuple(entrypoint)
    activates = False
    while rest:
        program = look(rest[0])
        if program is None:
            break
        name = _name(rest[0])
        words, length = rest, _runner_length(name, rest)
        if length:
            activates = activates or name in _ENVIRONMENTS or name == "env"
        elif _SHELL.fullmatch(name):
            words, length = _shell(rest, look)
            activates = activates or bool(length)
        elif _hands_on(program.start):
            length = 1
            activates = activates or bool(_ACTIVATES.search(program.start))
        if not length:
            break
        kept, rest = kept + words[:length], words[length:]
    return Entrypoint(kept, rest, activates)


def _runner_length(name: str, words: Sequence[str]) -> int:
    """Return how many words a program that runs another one takes for itself; 0 where it is none."""
    if name in _ENVIRONMENTS:
        if "run" not in words[1:4]:
            return 0
        position = words.index("run") + 1
        while position < len(words) and words[position].startswith("-"):
            position += 2 if _VALUE_OPTIONS.fullmatch(words[position]) else 1
        return min(position, len(words))
    if name not in _RUNNERS:
        return 0
    position = 1
    while position < len(words) and words[position].startswith("-") and words[position] != "--":
        has_value = len(words[position]) == 2 and words[position][1] in _RUNNERS[name]
        position += 2 if has_value or _LONG_WITH_VALUE.fullmatch(words[position]) else 1
    position += words[position : position + 1] == ("--",)
    while name == "env" and position < len(words) and "=" in words[position]:
        position += 1
    return min(position + (name in _WITH_USER), len(words))


def _shell(words: tuple[str, ...], look: Look) -> tuple[tuple[str, ...], int]:
    """Return the words, completed where a program is missing, and how many run the program that the shell is given."""
    position = 1
    while position < len(words) and words[position].startswith(("-", "+")):
        position += 2 if re.fullmatch(r"[-+]\w*[oO]|--rcfile|--init-file", words[position]) else 1
    options, rest = words[1:position], words[position:]
    is_command = any(re.fullmatch(r"-\w*c\w*", option) for option in options)
    if not rest:
        if not any(option == "--login" or re.fullmatch(r"-\w*[li]\w*", option) for option in options):
            return words, 0  # it adds nothing
        completed = (*words, *(() if is_command else ("-c",)), _RUNS_GIVEN, _name(words[0]))
        return completed, len(completed)
    if not is_command:
        script = look(rest[0])
        return words, position + 1 if script is not None and _hands_on(script.start) else 0
    if re.search(r"""["']?\$0["']?\s+["']?\$[@*]""", rest[0]):  # bash -c 'exec "$0" "$@"'
        return words, position + 1
    if not _hands_on(rest[0].encode()):
        return words, 0
    completed = words if len(rest) > 1 else (*words, _name(words[0]))
    return completed, position + 2


def _hands_on(script: bytes) -> bool:
    """Return whether a script runs its arguments as a command."""
    text = "\n".join(
        line for line in script.decode("utf-8", "replace").splitlines() if not line.lstrip().startswith("#")
    )
    if "\0" in text:
        return False
    arrays = "|".join(_ARRAY.findall(text))
    runs_array = arrays and re.search(rf"""\bexec\s[^|;&]*"\$\{{(?:{arrays})\[@\]\}}\"""", text)
    return bool(_HANDS_ON.search(text) or runs_array)


def _name(word: str) -> str:
    return PurePosixPath(word).name
