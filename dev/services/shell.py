"""Progress lines, failures with advice, and child processes that end when we do."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

Command = Sequence[str | Path]

TAIL_LINES = 25
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def say(line: str) -> None:
    """Tell a line of progress on standard error."""
    sys.stderr.write(f"dev: {line}\n")
    sys.stderr.flush()


class Failure(Exception):
    """Something that was asked for cannot be brought up.

    Attributes:
        message: what is not there, with the failing part's own words below it.
        hint: what to do about it; empty where the cause says it.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Interrupted(BaseException):
    """A signal asks us to end. Not an Exception, so that nothing on the way mistakes it for a failure."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def unwind_on_signals() -> None:
    """Let the first signal that ends us raise :class:`Interrupted`, so that what was started is taken down."""
    for number in ENDING_SIGNALS:
        # A signal that our parent had ignored (nohup) stays ignored.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, raise_interrupted)


def ignore_signals() -> None:
    """Let nothing but SIGKILL cut short what follows."""
    for number in ENDING_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def raise_interrupted(number: int, _frame: object) -> None:
    """Handle a signal by unwinding the stack; those that follow are ignored."""
    ignore_signals()
    raise Interrupted(number)


def tail(path: Path, lines: int = TAIL_LINES) -> str:
    """Give the last lines of a log, indented; what it says where there is none."""
    if not path.exists():
        return "    (it wrote no log)"
    text = path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]
    return "\n".join(f"    {line}" for line in text)


def dies_with_parent(number: signal.Signals) -> Callable[[], None] | None:
    """Make a ``preexec_fn`` with which the kernel sends a signal to the child when our main thread ends.

    A parent that is killed with SIGKILL takes nothing down itself. See prctl(2), PR_SET_PDEATHSIG; None where the
    system is not Linux.
    """
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def ask_kernel() -> None:
        prctl(_PR_SET_PDEATHSIG, int(number))
        if os.getppid() != parent:
            os.kill(os.getpid(), number)

    return ask_kernel


def stop(process: subprocess.Popen[bytes], number: signal.Signals, seconds: float) -> None:
    """Send a signal and wait; kill what has not ended after ``seconds``."""
    if process.poll() is None:
        process.send_signal(number)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def run(
    command: Command,
    what: str,
    *,
    hint: str = "",
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
    ends_with_us: bool = False,
) -> None:
    """Run a command to its end without showing what it writes.

    Args:
        command: program and arguments.
        what: what it does, for the message: ``installing docker.io``.
        hint: advice that goes with its failure.
        environment: instead of ours.
        directory: the working directory, instead of ours.
        ends_with_us: whether it is terminated when this process is killed. A package manager must not be.

    Raises:
        Failure: it is not there, or its exit code is not 0; with the last lines that it wrote.
    """
    with tempfile.TemporaryDirectory(prefix="caliban-dev-log-") as log_directory:
        log = Path(log_directory) / "log"
        with log.open("wb") as output:
            try:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=environment,
                    cwd=directory,
                    preexec_fn=dies_with_parent(signal.SIGTERM) if ends_with_us else None,
                )
            except OSError as error:
                raise Failure(f"{what} failed: {error}", hint) from error
            try:
                code = process.wait()
            except BaseException:
                stop(process, signal.SIGTERM, 10)
                raise
        if code != 0:
            raise Failure(f"{what} failed with exit code {code}; its last lines:\n{tail(log)}", hint)
