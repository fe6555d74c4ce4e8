"""Run a program of others that returns credentials: a deadline, a limit of what it writes, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO

from caliban.bounded import MEBIBYTE, DeadlineExceededError, TooLargeError
from caliban.clock import Clock
from caliban.threads import SLOW

HELPER_SECONDS = 60.0
"""How long a credential helper may take. One that asks a person has this long, too."""
OUTPUT_LIMIT = MEBIBYTE

_PIECE = 1 << 14
_LEFT_BEHIND = 1.0
"""Seconds after the end of a helper on the terminal for which its output is read: another process may keep it open."""


@dataclass(frozen=True)
class HelperResult:
    """How a helper ended.

    Attributes:
        code: its exit status; negative for a signal.
        stdout: what it wrote, which contains credentials.
        stderr: what it wrote there, which may.
    """

    code: int
    stdout: bytes = field(repr=False)
    stderr: bytes = field(repr=False)


def run_helper(
    command: Sequence[str],
    clock: Clock,
    *,
    stdin: bytes = b"",
    environ: Mapping[str, str] | None = None,
    cwd: str | None = None,
    seconds: float = HELPER_SECONDS,
    on_slow: Callable[[], None] | None = None,
    on_stderr: Callable[[bytes], None] | None = None,
) -> HelperResult:
    """Run a credential helper to its end. It and what it started are killed at the deadline, or after Ctrl-C.

    It has a session of its own, so that a Ctrl-C for caliban does not reach it as well.

    Args:
        command: the program, looked up on ``PATH``, and its arguments.
        clock: counts the seconds.
        stdin: what it is given; at most a few KiB.
        environ: its environment; None for that of this process.
        cwd: its working directory; None for that of this process.
        seconds: how long it may take.
        on_slow: called once when it takes longer than :data:`~caliban.threads.SLOW`.
        on_stderr: called on a thread with each piece that it writes to standard error.

    Raises:
        OSError: it cannot be started.
        DeadlineExceededError: it takes longer.
        TooLargeError: it writes more than a mebibyte.
    """
    process = subprocess.Popen(
        list(command),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=None if environ is None else dict(environ),
        cwd=cwd,
        start_new_session=True,
    )
    ended = threading.Event()
    outputs = _Outputs(process, stdin, ended, on_stderr)
    try:
        return _result(command[0], outputs, _wait(ended, clock, seconds, on_slow), seconds)
    finally:
        if process.returncode is None:  # once it has been waited for, its id may be that of another process
            _kill(process)


def run_on_terminal(
    command: Sequence[str], clock: Clock, *, environ: Mapping[str, str] | None = None, seconds: float = HELPER_SECONDS
) -> HelperResult:
    """Run a credential helper that talks with the user to its end. It is killed at the deadline.

    It has the standard input and standard error of this process, and is in its session: else it could not read from the
    terminal. So a Ctrl-C reaches it, too.

    Args:
        command: the program and its arguments.
        clock: counts the seconds.
        environ: its environment; None for that of this process.
        seconds: how long it may take.

    Raises:
        OSError: it cannot be started.
        DeadlineExceededError: it takes longer.
        TooLargeError: it writes more than a mebibyte.
    """
    process = subprocess.Popen(list(command), stdout=subprocess.PIPE, env=None if environ is None else dict(environ))
    ended = threading.Event()
    outputs = _Outputs(process, b"", ended, None)
    try:
        return _result(command[0], outputs, clock.wait(ended, seconds), seconds)
    finally:
        if process.returncode is None:
            process.kill()


def _result(name: str, outputs: _Outputs, has_ended: bool, seconds: float) -> HelperResult:
    if not has_ended:
        raise DeadlineExceededError(f"{name} did not end within {seconds:.0f} s")
    if outputs.is_too_large:
        raise TooLargeError(f"{name} wrote more than {OUTPUT_LIMIT // MEBIBYTE} MiB")
    return HelperResult(outputs.returncode, outputs.stdout, outputs.stderr)


def _wait(ended: threading.Event, clock: Clock, seconds: float, on_slow: Callable[[], None] | None) -> bool:
    if on_slow is None or seconds <= SLOW:
        return clock.wait(ended, seconds)
    if clock.wait(ended, SLOW):
        return True
    on_slow()
    return clock.wait(ended, seconds - SLOW)


class _Outputs:
    """Writes to and reads from a process on threads, which end when it has closed its streams, or has been killed."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        stdin: bytes,
        ended: threading.Event,
        on_stderr: Callable[[bytes], None] | None,
    ) -> None:
        self.stdout = self.stderr = b""
        self.is_too_large = False
        self._process = process
        self._ended = ended
        self._on_stderr = on_stderr
        names = [name for name in ("stdout", "stderr") if getattr(process, name) is not None]
        self._readers = [self._start(self._read, name) for name in names]
        if process.stdin is not None:
            self._start(self._write, stdin)
        self._start(self._wait)

    @property
    def returncode(self) -> int:
        """The exit status, once it has ended."""
        return self._process.returncode

    def _start(self, target: object, *args: object) -> threading.Thread:
        thread = threading.Thread(target=target, args=args, daemon=True)  # type: ignore[arg-type]
        thread.start()
        return thread

    def _read(self, name: str) -> None:
        stream: IO[bytes] = getattr(self._process, name)
        parts, size = [], 0
        with suppress(OSError, ValueError), stream:  # the stream may be closed under us
            while piece := os.read(stream.fileno(), _PIECE):
                size += len(piece)
                if size > OUTPUT_LIMIT:
                    self.is_too_large = True
                    self._ended.set()
                    return
                parts.append(piece)
                setattr(self, name, b"".join(parts))
                if name == "stderr" and self._on_stderr is not None:
                    self._on_stderr(piece)

    def _write(self, content: bytes) -> None:
        assert self._process.stdin is not None
        with suppress(OSError), self._process.stdin as stream:  # it need not read what it is given
            stream.write(content)

    def _wait(self) -> None:
        self._process.wait()
        if self._process.stdin is not None:
            _kill(self._process)  # what it started and left behind keeps the streams open
        for reader in self._readers:
            # on the terminal, what it has left behind, such as a browser, is the user's
            reader.join(None if self._process.stdin is not None else _LEFT_BEHIND)
        self._ended.set()


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill the process group, whose id is that of the process."""
    with suppress(ProcessLookupError, PermissionError):  # it has ended; on macOS, it is ending
        os.killpg(process.pid, signal.SIGKILL)
