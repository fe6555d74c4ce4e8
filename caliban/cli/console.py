"""The only module that uses standard input, output and error, terminals and progress bars."""

from __future__ import annotations

import contextlib
import io
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, TextIO

from caliban.cli import render
from caliban.clock import Clock, SystemClock
from caliban.errors import CalibanError
from caliban.reporter import Progress

if TYPE_CHECKING:
    from tqdm import tqdm

_LINE_INTERVAL = 2.0
"""Seconds between two progress lines where no bar can be drawn."""


class Console:
    """The standard streams. Listings go to standard output, everything else to standard error.

    It implements :class:`caliban.reporter.Reporter`, and may be used by several threads at once.
    """

    def __init__(
        self,
        stdin: TextIO | None = None,
        stdout: TextIO | None = None,
        stderr: TextIO | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._stdin = stdin or sys.stdin
        self._stdout = stdout or sys.stdout
        self._stderr = stderr or sys.stderr
        self._clock = clock or SystemClock()
        self._lock = threading.RLock()
        self._bars: list[tqdm] = []  # type: ignore[type-arg]  # tqdm is generic only in its stubs
        for stream in (self._stdout, self._stderr):
            if isinstance(stream, io.TextIOWrapper):  # a listing must not fail at a name in another script
                stream.reconfigure(errors="backslashreplace")

    def print(self, text: str) -> None:
        """Write a listing to standard output."""
        self._write(self._stdout, text + "\n")

    def info(self, line: str) -> None:
        """Write a line to standard error."""
        self._write(self._stderr, line + "\n")

    def warn(self, line: str) -> None:
        """Write a warning to standard error."""
        self.info(f"warning: {line}")

    def error(self, error: CalibanError) -> None:
        """Write an error to standard error: what failed, why, and what to do."""
        self.info("\n".join(render.error_lines(error)))

    def job_output(self, data: bytes, *, is_stderr: bool) -> None:
        """Pass on a job's output, byte for byte."""
        stream = self._stderr if is_stderr else self._stdout
        binary = getattr(stream, "buffer", None)
        with self._lock, self._bars_hidden():
            if binary is None:
                stream.write(data.decode("utf-8", "backslashreplace"))
            else:
                stream.flush()
                binary.write(data)
            stream.flush()

    def read_input(self) -> str:
        """Return all of standard input, read as UTF-8.

        Raises:
            UnicodeDecodeError: it is not UTF-8.
        """
        binary = getattr(self._stdin, "buffer", None)
        return self._stdin.read() if binary is None else str(binary.read(), "utf-8")

    def confirm(self, question: str) -> bool | None:
        """Ask a question and return whether the answer is y or yes; None at the end of input."""
        self._write(self._stderr, f"\n {question} [yN]: ")
        try:
            answer = self._stdin.readline()
        except KeyboardInterrupt:
            self.info("")  # what follows starts on a line of its own
            raise
        if not answer.endswith("\n") or not self._stdin.isatty():
            self.info(answer.strip())  # nobody typed it here, or not its line break
        return answer.strip().lower() in ("y", "yes") if answer else None

    def agreed(self, question: str, what: str) -> bool:
        """Ask for confirmation, and report if there is none.

        Args:
            question: ``stop 1 job?``.
            what: what is done after a yes, as a participle: ``stopped``.
        """
        answer = self.confirm(question)
        if answer is None:
            self.info(f"no answer, nothing was {what}; in scripts, add --yes")
        elif not answer:
            self.info(f"nothing was {what}")
        return bool(answer)

    @contextlib.contextmanager
    def progress(self, title: str, *, total: int | None, unit: str) -> Iterator[Progress]:
        """Show the progress of something: a bar on a terminal, a line every two seconds elsewhere."""
        if not self._stderr.isatty():
            yield _Lines(self, title, total, unit, self._clock)
            return
        from tqdm import tqdm

        with self._lock:
            bar = tqdm(
                total=total,
                desc=title,
                unit=unit if unit == "B" else f" {unit}",
                unit_scale=unit == "B",
                file=self._stderr,
                leave=False,
                dynamic_ncols=True,
            )
            self._bars.append(bar)
        try:
            yield _Bar(bar, self._lock)
        finally:
            with self._lock:
                self._bars.remove(bar)
                bar.close()

    def _write(self, stream: TextIO, text: str) -> None:
        with self._lock, self._bars_hidden():
            stream.write(text)
            stream.flush()

    @contextlib.contextmanager
    def _bars_hidden(self) -> Iterator[None]:
        for bar in self._bars:
            bar.clear(nolock=True)
        try:
            yield
        finally:
            for bar in self._bars:
                bar.refresh(nolock=True)


class _Bar:
    """Progress on a terminal."""

    def __init__(self, bar: tqdm, lock: AbstractContextManager[object]) -> None:  # type: ignore[type-arg]  # as above
        self._bar = bar
        self._lock = lock

    def advance(self, amount: int = 1) -> None:
        with self._lock:
            self._bar.update(amount)

    def note(self, text: str) -> None:
        with self._lock:
            self._bar.set_postfix_str(text)


class _Lines:
    """Progress where no bar can be drawn."""

    def __init__(self, console: Console, title: str, total: int | None, unit: str, clock: Clock) -> None:
        self._console, self._title, self._total, self._unit, self._clock = console, title, total, unit, clock
        self._lock = threading.Lock()
        self._done = 0
        self._note = ""
        self._next = clock.monotonic() + _LINE_INTERVAL

    def advance(self, amount: int = 1) -> None:
        with self._lock:
            self._done += amount
            self._show_when_due()

    def note(self, text: str) -> None:
        with self._lock:
            self._note = text
            self._show_when_due()

    def _show_when_due(self) -> None:
        now = self._clock.monotonic()
        if now < self._next:
            return
        self._next = now + _LINE_INTERVAL
        note = f" ({self._note})" if self._note else ""
        self._console.info(f"{self._title}: {_amount(self._done, self._total, self._unit)}{note}")


def _amount(done: int, total: int | None, unit: str) -> str:
    """Return ``3.2 of 15.0 MB``, ``1 of 3 jobs`` or ``7 steps``."""
    if unit == "B":
        return f"{done / 1e6:.1f}{'' if total is None else f' of {total / 1e6:.1f}'} MB"
    return f"{done} {unit}s" if total is None else f"{done} of {total} {unit}s"
