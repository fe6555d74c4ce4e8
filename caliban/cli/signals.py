"""The signals that this process has received, and the exit codes that they end it with."""

from __future__ import annotations

import os
import select
import signal
from types import FrameType
from typing import TextIO

from caliban.errors import ExitCode

_CODES = {
    signal.SIGINT: ExitCode.INTERRUPTED,
    signal.SIGTERM: ExitCode.TERMINATED,
    signal.SIGHUP: ExitCode.HUNG_UP,
}
"""Each lets a command finish what it is recording: Ctrl-C, ``kill``, a terminal that was closed."""


class ReceivedSignals:
    """Makes every signal of the table raise KeyboardInterrupt, unless this process ignores it, as under ``nohup``.

    Handlers of other code may hold signals back for a while (``caliban.submission.signals``). What came first is read
    from the pipe to which Python writes the number of each signal, whoever handles it.
    """

    def __init__(self) -> None:
        self._pipe, write = os.pipe()
        for descriptor in (self._pipe, write):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        self._first: int | None = None
        for number in _CODES:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, signal.default_int_handler)

    @property
    def first(self) -> int | None:
        """The number of the first signal; None while none has come."""
        if self._first is None:
            self._empty_pipe()
        return self._first

    def wait_for_input(self, stream: TextIO) -> None:
        """Wait until there is something to read, if it is a terminal; a signal is handled at once.

        A read alone would not end: Python handles a signal between two instructions, so one that comes after the last
        instruction, and before the system call waits, is left for when that has returned. Of a pipe, the next line may
        have been read already.
        """
        if not stream.isatty():
            return
        descriptor = stream.fileno()
        while descriptor not in select.select([descriptor, self._pipe], [], [])[0]:
            self._empty_pipe()

    def _empty_pipe(self) -> None:
        try:
            received = os.read(self._pipe, 4096)
        except BlockingIOError:
            return
        if self._first is None:
            self._first = next((number for number in received if number in _CODES), None)

    @property
    def exit_code(self) -> ExitCode:
        """The exit code of a command that was interrupted."""
        return _CODES.get(self.first, ExitCode.INTERRUPTED)  # type: ignore[call-overload,no-any-return]

    def end_process_at_the_next(self) -> None:
        """End the process at once when the next signal comes, without a word: its work is done."""
        for number in _CODES:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, _end_process)


def _end_process(number: int, frame: FrameType | None) -> None:
    os._exit(_CODES[signal.Signals(number)])
