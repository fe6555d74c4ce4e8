"""``--flagfile FILE``: flags from a file, one in a line, as absl reads them, but bounded.

absl itself reads any file to its end, a device too, and files that name each other as often as they do.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from caliban.errors import UsageError
from caliban.input_files import InputFileError, read_text, shortened

_FLAGS = ("--flagfile", "-flagfile")
_MAX_FILES = 100


def expand(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with those of each ``--flagfile`` in its place.

    Blank lines and lines that start with ``#`` or ``//`` are ignored; a line may name another file.

    Raises:
        UsageError: ``invalid-value``: a file cannot be read, or there are too many.
    """
    return list(_Expansion().expand(iter(arguments), within=()))


class _Expansion:
    def __init__(self) -> None:
        self._files = 0

    def expand(self, arguments: Iterator[str], within: tuple[str, ...]) -> Iterator[str]:
        for argument in arguments:
            flag, equals, name = argument.partition("=")
            if flag not in _FLAGS:
                yield argument
                continue
            file = name if equals else next(arguments, None)
            if file is None:
                raise _unusable("", "a file is expected", "write --flagfile=FILE")
            # pathlib's own fails for the home of an unknown user.
            yield from self._flags_of(os.path.expanduser(file.strip()), within)  # noqa: PTH111 - as the line above says

    def _flags_of(self, file: str, within: tuple[str, ...]) -> Iterator[str]:
        if not file:
            return
        self._files += 1
        if file in within or self._files > _MAX_FILES:
            reason = "it names itself" if file in within else f"more than {_MAX_FILES} files are named"
            raise _unusable(file, reason, "write the flags into one file")
        try:
            text = read_text(file)
        except InputFileError as error:
            raise _unusable(file, error.cause, error.hint) from error
        lines = (line.strip() for line in text.split("\n") if not line.startswith(("#", "//")))
        yield from self.expand(filter(None, lines), (*within, file))


def _unusable(file: str, reason: str | None, hint: str | None) -> UsageError:
    cause = f"--flagfile={shortened(file)}: {reason}"
    return UsageError("invalid-value", "invalid value of an absl flag", cause=cause, hint=hint)
