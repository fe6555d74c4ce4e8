"""A command that runs while the test goes on, forked from a server that has imported everything."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from tests.forkserver import ForkServer, Invocation


class StartedCommand:
    """The process of a command, with the methods of :class:`subprocess.Popen` that tests use.

    Args:
        directory: gets a FIFO each for standard output and standard error; standard input is empty.
    """

    def __init__(
        self, server: ForkServer, arguments: Sequence[str], *, environ: Mapping[str, str], cwd: Path, directory: Path
    ) -> None:
        out, err = directory / "stdout", directory / "stderr"
        for path in (out, err):
            os.mkfifo(path)
        [self._process] = server.start(Invocation(arguments, environ, str(cwd), os.devnull, str(out), str(err)))
        # each waits until the command has opened the other end
        self.stdout = out.open(encoding="utf-8", errors="replace")
        self.stderr = err.open(encoding="utf-8", errors="replace")

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self.poll()

    def poll(self) -> int | None:
        return self._process.wait() if self._process.has_ended else None

    def wait(self, timeout: float | None = None) -> int:
        return self._process.wait(timeout)

    def send_signal(self, number: int) -> None:
        if not self._process.has_ended:
            with suppress(ProcessLookupError):  # it has ended, and the server has not reported that yet
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Return the rest of both outputs, once the command has ended."""
        if self.stdout.closed:
            return "", ""
        threads = ThreadPoolExecutor(2)
        try:
            out, err = (threads.submit(stream.read) for stream in (self.stdout, self.stderr))
            result = out.result(timeout), err.result(timeout)
        finally:
            threads.shutdown(wait=False)
        self.wait(timeout)
        self._close()
        return result

    def _close(self) -> None:
        self.stdout.close()
        self.stderr.close()

    def __enter__(self) -> StartedCommand:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._close()
        self.wait()
