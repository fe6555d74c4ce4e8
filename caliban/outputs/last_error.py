"""Find the last error in the output of a job: the last traceback, or the last line that reports an error.

Pure, never raises, and takes time in proportion to the output, whatever that is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from caliban.escapes import escaped
from caliban.outputs.lines import lines_of
from caliban.outputs.tracebacks import Traceback, find_tracebacks, frame_in, shown_frame
from caliban.records import OutputError
from caliban.redaction import hide_secrets

_MAX_MESSAGE = 300
_MAX_TYPE = 120
_MAX_SEARCHED = 1000
"""Characters of a line, at its beginning, in which patterns are looked for."""
_GAP = 5
"""Lines after a traceback in which a program that ends may crash; a crash after more is an error of its own."""

_WRAPPERS = frozenset({"ChildFailedError"})
"""Exceptions that only say that another process failed, whose traceback comes before."""

_Make = Callable[[re.Match[str], Sequence[str]], OutputError]


@dataclass(frozen=True)
class _Pattern:
    """A line that reports an error.

    Attributes:
        pattern: matched at the beginning of a line.
        make: makes the error of the match and the lines that follow.
        is_last_word: whether it counts even right after a traceback.
    """

    pattern: re.Pattern[str]
    make: _Make
    is_last_word: bool = False


def _whole_line(found: re.Match[str], following: Sequence[str]) -> OutputError:
    return OutputError(None, found.string.strip())


def _typed(found: re.Match[str], following: Sequence[str]) -> OutputError:
    return OutputError(found["type"], (found["message"] or "").strip())


def _with_next(found: re.Match[str], following: Sequence[str]) -> OutputError:
    rest = next((line.strip() for line in following if line.strip()), "")
    return OutputError(None, f"{found.string.strip()} {rest}".strip())


def _terminated(found: re.Match[str], following: Sequence[str]) -> OutputError:
    what = next((line.partition("what():")[2].strip() for line in following if "what():" in line), "")
    return OutputError(found["type"], what) if found["type"] else _whole_line(found, following)


def _panicked(found: re.Match[str], following: Sequence[str]) -> OutputError:
    rest = next((line.strip() for line in following if line.strip()), "")
    return OutputError("panic", found["message"] or rest, found["frame"])


def _fatal(found: re.Match[str], following: Sequence[str]) -> OutputError:
    frames = [frame for frame in map(frame_in, following) if frame]
    return OutputError(None, found.string.strip(), shown_frame(frames[::-1]))  # the most recent call is first


_PATTERNS = (
    _Pattern(re.compile(r"Fatal Python error: "), _fatal, is_last_word=True),
    _Pattern(re.compile(r"terminate called(?: after throwing an instance of '(?P<type>[^']*)')?"), _terminated),
    _Pattern(
        re.compile(r"thread '[^']*'(?: \(\d+\))? panicked at (?:'(?P<message>[^']*)', )?(?P<frame>[^\s,]*?):?$"),
        _panicked,
    ),
    _Pattern(re.compile(r"panic: (?P<message>.*)(?P<frame>(?!))?"), _panicked),
    _Pattern(re.compile(r'Exception in thread "[^"]*" (?P<type>[\w.$]+)(?:: (?P<message>.*))?'), _typed),
    _Pattern(re.compile(r"FATAL Flags parsing error:"), _with_next, is_last_word=True),
    _Pattern(re.compile(r"[^\s:][^:]{0,200}: error: \S"), _whole_line, is_last_word=True),  # argparse
    _Pattern(
        re.compile(
            r"(?:[^:]{1,300}: )?(?:line )?\d{1,9}: .{1,400}: "
            r"(?:command not found|not found|No such file or directory|Permission denied|unbound variable|cannot .*)$"
        ),
        _whole_line,
        is_last_word=True,
    ),
    _Pattern(
        re.compile(
            r"[^\s:]{1,300}: .{1,400}: (?:command not found|not found|Exec format error)$|"
            r"\S{1,300}: line \d+: syntax error"
        ),
        _whole_line,
        is_last_word=True,
    ),
    _Pattern(
        re.compile(r"\S*python[\d.]*: (?:can't open file |No module named |Error while finding module )"),
        _whole_line,
        is_last_word=True,
    ),
    _Pattern(re.compile(r"exec \S+: |exec format error"), _whole_line, is_last_word=True),
    _Pattern(re.compile(r"Error in (?:.{1,200} : |.{1,200} :$)(?!\s*$)"), _whole_line, is_last_word=True),  # R
    _Pattern(re.compile(r"Error in .{1,200} :\s*$"), _with_next, is_last_word=True),
    _Pattern(
        re.compile(r"(?:.{0,200}\s)?(?:Segmentation fault|Bus error|Illegal instruction|Aborted|Killed)\b(?:\s|$)"),
        _whole_line,
    ),
    _Pattern(re.compile(r"(?:Error|ERROR): \S"), _whole_line),
)

_TYPED_LINE = re.compile(
    r"(?:.{0,200}[\s\]|:])?(?P<type>[^\W\d][\w.]{0,100}(?:Error|Exception))(?:: (?P<message>.*))?$"
)
_ERROR_LINE = re.compile(
    r"(?:.{0,200}?[\s\[(|:<-])?(?:ERROR|FATAL|CRITICAL|(?:^|(?<=[\]:|] ))(?:[Ee]rror|[Ff]atal(?: error)?))\b"
    r"(?!\s*[:=]?\s*-?[\d.])"
)
_BAR = re.compile(r"\d{1,3}%\|")


def last_error(data: bytes, *, ends_with_stderr: bool = False) -> OutputError | None:
    """Return the last error in the end of an output; None where no line reports one.

    Args:
        data: the output.
        ends_with_stderr: whether its last line is known to be one of standard error: it is the error then where no
            line looks like one, such as the text of ``sys.exit``.
    """
    lines = lines_of(data)
    found = _last_traceback(lines)
    after = found.end + 1 if found else 0
    line = _last_pattern(lines, after, only_last_words_until=after + _GAP if found else 0)
    if line is not None:
        return _cleaned(line)
    if found is not None:
        return _cleaned(OutputError(found.type, found.message, found.frame))
    return _cleaned(_weak(lines, ends_with_stderr))


def _last_traceback(lines: Sequence[str]) -> Traceback | None:
    last: Traceback | None = None
    for found in find_tracebacks(lines):
        if last is None or found.type.rpartition(".")[2] not in _WRAPPERS:
            last = found
    return last


def _last_pattern(lines: Sequence[str], first: int, only_last_words_until: int) -> OutputError | None:
    """Return the last line from ``first`` on that says in a known form why a program ended."""
    last: OutputError | None = None
    for number in range(first, len(lines)):
        line = lines[number].strip()[:_MAX_SEARCHED]
        for each in _PATTERNS:
            found = each.pattern.match(line)
            if found is None or not (each.is_last_word or number >= only_last_words_until):
                continue
            last = each.make(found, lines[number + 1 : number + 12])
            break
    return last


def _weak(lines: Sequence[str], ends_with_stderr: bool) -> OutputError | None:
    """Return an exception without a traceback, or the last line that says that it is an error."""
    for line in reversed(lines):
        found = _TYPED_LINE.match(line.strip()[:_MAX_SEARCHED])
        if found:
            return OutputError(found["type"], (found["message"] or "").strip())
    for line in reversed(lines):
        if _ERROR_LINE.match(line.strip()[:_MAX_SEARCHED]):
            return OutputError(None, line.strip())
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return OutputError(None, last) if ends_with_stderr and last and not _BAR.search(last) else None


def _cleaned(error: OutputError | None) -> OutputError | None:
    """Return an error as it may be stored and shown: lines of bounded length, without secrets and controls."""
    if error is None:
        return None
    message = _shortened(escaped(" ".join(hide_secrets(error.message[:_MAX_SEARCHED]).split())), _MAX_MESSAGE)
    kind = _shortened(escaped(error.type), _MAX_TYPE) if error.type else None
    frame = escaped(hide_secrets(error.frame)) if error.frame else None
    return OutputError(kind, message, frame) if kind or message else None


def _shortened(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 3]}..."
