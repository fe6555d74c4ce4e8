"""Find the tracebacks of Python programs in lines of output, in linear time.

Formats: that of Python (https://docs.python.org/3/library/traceback.html), also with the same text or a time before
each line, exception groups, syntax errors, whose file has no function, and those of rich, loguru, IPython and JSON
logs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

PROJECT = "/usr/app/"
"""Where images have the project's files; see :mod:`caliban.images.dockerfile`."""

_HEADER = "Traceback (most recent call last)"
_GROUP_HEADER = "+ Exception Group " + _HEADER
_FRAME = re.compile(r'(?:^|[\s>])File "(?P<path>[^"]{1,1000})", line (?P<line>\d{1,9})(?:,? in (?P<name>.*))?$')
_RICH_FRAME = re.compile(r"[│|]\s*(?P<path>[^\s:│][^:│]{0,1000}):(?P<line>\d{1,9})(?: in \S+)?")
_EXCEPTION = re.compile(
    r"(?P<type>[^\W\d][\w.]{0,200}(?:<locals>\.[\w.]{1,200})?(?:\([\w.]{1,100}\))?)(?::(?:\s(?P<message>.*))?)?$"
)
_LEVELS = frozenset({"DEBUG", "INFO", "NOTICE", "WARNING", "WARN", "ERROR", "CRITICAL", "FATAL", "TRACE"})
_USUAL = re.compile(r"(?:Error|Exception|Exit|Interrupt|Warning|Iteration|Group|Timeout|Empty|Full)(?:\(.*\))?$")
_IGNORED = ("Exception ignored in", "--- Logging error ---", "Error in atexit._run_exitfuncs", "Exception ignored on")
_LIBRARY = re.compile(
    r"(?:^|/)(?:site-packages|dist-packages)/|^<|(?:^|/)lib(?:64)?/(?:python|pypy)\d|^/opt/conda/|^/usr/(?:local/)?bin/"
)
_TIME = re.compile(r"\d\d:\d\d")
_DIGITS = re.compile(r"\d+")
_GROUP_LINE = re.compile(r"\s*[|+]")
_PART = re.compile(r"\s*\+[-+]+ (?:\d+|\.\.\.) -+$")
_ESCAPED_BREAK = re.compile(r"\\r?\\n|\\n")
_STRING_END = re.compile(r'(?<!\\)"')
_MAX_PREFIX = 200
_MAX_NOISE = 30
"""Lines of other output within a traceback."""
_MAX_INTERLEAVED = 200
"""Lines in which the rest of a traceback of one of several processes is looked for."""
_LOOK_AHEAD = 10
_MAX_LENGTH = 300


@dataclass(frozen=True)
class Traceback:
    """A traceback.

    Attributes:
        start, end: the lines that it begins and ends with.
        type: of the exception.
        message: the first line of what it says.
        frame: the innermost frame inside the project (``train.py:41``), or None.
    """

    start: int
    end: int
    type: str
    message: str
    frame: str | None = None


def find_tracebacks(lines: Sequence[str]) -> Iterator[Traceback]:
    """Yield the tracebacks, in order; not those of errors that Python ignores, and of logging itself."""
    number = 0
    while number < len(lines):
        found, following = _at(lines, number)
        if found is not None and not _is_ignored(lines, number):
            yield found
        number = max(following, number + 1)


def shown_frame(frames: Sequence[tuple[str, str]]) -> str | None:
    """Return the last of some frames (path, line) that is inside the project, from the project's directory on."""
    for is_inside in (_is_in_image, lambda path: True):
        for path, line in reversed(frames):
            if is_inside(path) and not _LIBRARY.search(path):
                return f"{_relative(path)[-_MAX_LENGTH:]}:{line}"
    return None


def frame_in(line: str) -> tuple[str, str] | None:
    """Return path and line of the frame that a line names."""
    found = _FRAME.search(line) if 'File "' in line else None
    return (found["path"], found["line"]) if found else None


def _is_in_image(path: str) -> bool:
    return path.startswith(PROJECT)


def _relative(path: str) -> str:
    return path.removeprefix(PROJECT).removeprefix("./")


_Remover: TypeAlias = Callable[[str], "str | None"]
_OTHER_PROCESS = "\0"
"""A line that no prefix begins."""

_Found: TypeAlias = "tuple[Traceback | None, int]"
"""A traceback or None, and the line at which the search goes on, so that no line is read often."""


def _at(lines: Sequence[str], number: int) -> _Found:
    """Return the traceback that begins in a line, or continues there because its beginning was cut off."""
    line = lines[number]
    column = line.rfind(_HEADER)
    if column < 0:
        # without a header: a syntax error, or the rest of a long traceback
        is_frame = line.lstrip(" >").startswith("File ") and frame_in(line)
        return _plain(lines, number, lambda each: each, number) if is_frame else (None, number + 1)
    rest = line[column + len(_HEADER) :]
    if rest.startswith((":\\n", ":\\r\\n")):
        return _escaped(rest, number), number + 1
    if line.rfind(_GROUP_HEADER) >= 0:
        return _group(lines, number)
    if not rest.startswith(":"):
        return _rich(lines, number)
    without = _prefix_remover(lines, number, line[:column])
    found, following = _plain(lines, number, without, number + 1, is_prefixed=bool(line[:column].strip()))
    return found, number + 1 if without(_OTHER_PROCESS) is None else following


def _is_ignored(lines: Sequence[str], number: int) -> bool:
    before = [line for line in lines[max(0, number - 2) : number + 1] if line.strip()]
    return any(words in line for line in before for words in _IGNORED)


def _prefix_remover(lines: Sequence[str], number: int, prefix: str) -> _Remover:
    """Return a function that removes what is before each line of a traceback; None for a line of another process.

    The same text (``[rank0]: ``), or one that differs in digits (a time); nothing where the other lines have none.
    """
    if not prefix.strip() or len(prefix) > _MAX_PREFIX:
        return (lambda line: line.removeprefix(prefix)) if len(prefix) <= _MAX_PREFIX else (lambda line: line)
    follows = number + 1 < len(lines) and lines[number + 1].startswith(prefix)
    if not _TIME.search(prefix) and (follows or _has_literal(lines, number, prefix)):
        return lambda line: line[len(prefix) :] if line.startswith(prefix) else None
    shape = re.compile(r"\d+".join(map(re.escape, _DIGITS.split(prefix))))

    def without(line: str) -> str:
        found = shape.match(line)
        return line[found.end() :] if found else line

    return without


def _has_literal(lines: Sequence[str], number: int, prefix: str) -> bool:
    return any(each.startswith(f"{prefix}  File ") for each in lines[number + 1 : number + _LOOK_AHEAD])


def _plain(lines: Sequence[str], start: int, without: _Remover, first: int, *, is_prefixed: bool = False) -> _Found:
    """Return the traceback whose frames begin in the line ``first``; None where its exception is missing."""
    frames: list[tuple[str, str]] = []
    noise = 0
    for number in range(first, len(lines)):
        line = without(lines[number])
        if line is None:
            if number - first > _MAX_INTERLEAVED:
                return None, number
            continue
        if _HEADER in line or (not is_prefixed and _HEADER in lines[number]):
            return None, number  # of another traceback, which counts more
        frame = frame_in(line)
        if frame:
            frames.append(frame)
        elif line.strip() and not line[0].isspace() and line[0] not in "│└├|":
            found = _exception(line)
            if found and not _is_noise(found[0], [without(each) for each in lines[number + 1 : number + _LOOK_AHEAD]]):
                return Traceback(start, number, *found, shown_frame(frames)), number + 1
            noise += 1
            if noise > _MAX_NOISE:
                return None, number
    return None, len(lines)


def _exception(line: str) -> tuple[str, str] | None:
    """Return type and message of the line at the end of a traceback."""
    found = _EXCEPTION.match(line.rstrip())
    return (found["type"], (found["message"] or "").strip()) if found else None


def _is_noise(name: str, following: Sequence[str | None]) -> bool:
    """Return whether a line that reads like an exception is another line, which was written at the same time."""
    if _USUAL.search(name) or "." in name:
        return False
    if name in _LEVELS or name[0].islower():
        return True
    for line in following:
        if line and _HEADER in line:
            return False
        if line and frame_in(line):
            return True
    return False


def _group(lines: Sequence[str], number: int) -> _Found:
    """Return an exception group, with the first of its exceptions in its message and its frame."""
    prefix = lines[number][: lines[number].rfind(_GROUP_HEADER)]
    without = _prefix_remover(lines, number, prefix.rstrip(" "))
    end = number
    parts: list[list[str]] = [[]]
    for end in range(number + 1, len(lines)):
        line = without(lines[end]) or ""
        is_other = _GROUP_HEADER in line and len(parts) == 1
        if is_other or not _GROUP_LINE.match(line):
            end -= 1
            break
        if _PART.match(line):
            parts.append([])
        else:
            text = line.lstrip(" +-").removeprefix("|")
            parts[-1].append(text.removeprefix(" "))
    own, _ = _plain([*parts[0], ""], 0, lambda line: line, 0)
    if own is None:
        return None, end + 1
    leaf = next((each for each in map(_leaf, parts[1:]) if each), None)
    if leaf is None:
        return replace(own, start=number, end=end), end + 1
    text = f"{leaf.type}: {leaf.message}" if leaf.message else leaf.type
    message = f"{own.message}: {text}" if own.message else text
    return Traceback(number, end, own.type, message, leaf.frame or own.frame), end + 1


def _leaf(part: Sequence[str]) -> Traceback | None:
    """Return an exception of a group; None for another group."""
    if any("Exception Group " + _HEADER in line for line in part):
        return None
    headers = [number for number, line in enumerate(part) if _HEADER in line]
    return _plain(part, 0, lambda line: line, headers[-1] + 1 if headers else 0)[0]


def _rich(lines: Sequence[str], number: int) -> _Found:
    """Return a traceback in a box (rich), or of IPython: any lines, then the exception."""
    frames: list[tuple[str, str]] = []
    is_box = any(char in lines[number] for char in "╭┌─") or lines[number].lstrip().startswith("+-")
    for current in range(number + 1, min(len(lines), number + 1 + 2 * _MAX_INTERLEAVED)):
        line = lines[current]
        if _HEADER in line:
            return None, current
        if is_box and line.lstrip()[:1] in ("│", "|"):
            found = _RICH_FRAME.match(line.lstrip())
            frames += [(found["path"].strip(), found["line"])] if found else []
        elif line.strip() and not line[0].isspace() and line[0] not in "╰└+-":
            exception = _exception(line)
            if exception and (is_box or _USUAL.search(exception[0])):
                return Traceback(number, current, *exception, shown_frame(frames)), current + 1
    return None, number + 1


def _escaped(rest: str, number: int) -> Traceback | None:
    """Return a traceback that is a string of a JSON log: its lines are one, and its quotes are escaped."""
    text = rest[: found.start()] if (found := _STRING_END.search(rest)) else rest
    lines = [part.replace('\\"', '"') for part in _ESCAPED_BREAK.split(text)]
    inner = list(find_tracebacks(["Traceback (most recent call last):", *lines[1:]]))
    return replace(inner[-1], start=number, end=number) if inner else None
