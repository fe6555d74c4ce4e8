"""Stops a traced command at each of its points, with all of its threads, as SIGKILL would, and lets it go on."""

from __future__ import annotations

import json
import os
import selectors
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType

from tests.forkserver import ForkedProcess
from tests.safety.tracing import Point


class Pausing(AbstractContextManager["Pausing"]):
    """The test's side of :class:`tests.safety.tracing.Pauses`.

    Args:
        directory: gets two FIFOs.
    """

    def __init__(self, directory: Path) -> None:
        self._files = [directory / "announcements", directory / "answers"]

    @property
    def paths(self) -> list[str]:
        """The FIFOs, for the command."""
        return [str(file) for file in self._files]

    def __enter__(self) -> Pausing:
        for file in self._files:
            os.mkfifo(file)
        # neither waits for the command to open the other end
        self._announcements = os.open(self._files[0], os.O_RDONLY | os.O_NONBLOCK)
        self._answers = os.open(self._files[1], os.O_RDWR)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        os.close(self._announcements)
        os.close(self._answers)
        for file in self._files:
            file.unlink()

    def follow(self, process: ForkedProcess, look: Callable[[Point], None]) -> None:
        """Call ``look`` at each point until the process ends."""
        for point in self._points(process):
            os.kill(process.pid, signal.SIGSTOP)
            while not _is_stopped(process.pid):
                os.sched_yield()
            look(point)
            os.kill(process.pid, signal.SIGCONT)
            os.write(self._answers, b"\n")

    def _points(self, process: ForkedProcess) -> Iterator[Point]:
        received = b""
        with selectors.DefaultSelector() as selector:
            selector.register(self._announcements, selectors.EVENT_READ)
            while True:
                if not selector.select(1):
                    if process.has_ended:
                        return
                    continue
                data = os.read(self._announcements, 65536)
                if not data:
                    return
                *lines, received = (received + data).split(b"\n")
                for line in lines:
                    yield Point(*json.loads(line))


def _is_stopped(pid: int) -> bool:
    """Return whether every thread of a process is stopped.

    The third field of ``stat`` is the state; the second, in parentheses, is the program's name.
    Source: https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html
    """
    states = [file.read_text().rpartition(")")[2].split()[0] for file in Path(f"/proc/{pid}/task").glob("*/stat")]
    return set(states) == {"T"}
