"""Pass on the output of a container while it runs.

Whoever reads the output decides nothing: when a pipe is closed or a disk is full, the rest is read and dropped, and the
job goes on.
"""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from caliban.clock import Clock
from caliban.platforms.context import PlatformContext
from caliban.reporter import Reporter

_LAST_OUTPUT_SECONDS = 30.0
"""How long an engine that is silent has to deliver the last output of a container that has ended."""


class _Pump:
    """Copies one stream of the client to the reporter, on a thread of its own."""

    def __init__(self, stream: IO[bytes], reporter: Reporter, *, is_stderr: bool) -> None:
        self.done = threading.Event()
        self.copied = 0
        self.is_writing = False
        self._stream = stream
        self._reporter: Reporter | None = reporter
        self._is_stderr = is_stderr

    def start(self) -> None:
        threading.Thread(target=self._run, name="output", daemon=True).start()

    def _run(self) -> None:
        try:
            while data := self._stream.read1(65536):  # type: ignore[attr-defined]  # a BufferedReader, as of all Popens
                self._write(data)
        except (OSError, ValueError):  # the client is gone, or the stream closed: there is no more
            pass
        finally:
            self.done.set()

    def _write(self, data: bytes) -> None:
        if self._reporter is not None:
            self.is_writing = True
            try:
                self._reporter.job_output(data, is_stderr=self._is_stderr)
            except (OSError, ValueError):  # nobody reads it any more; ValueError: the stream was closed
                self._reporter = None
            self.is_writing = False
        self.copied += len(data)


@contextmanager
def streamed_output(container: str, context: PlatformContext, clock: Clock) -> Iterator[None]:
    """Report a container's output, from its first byte, until it ends or the block fails; wait for the last byte.

    Args:
        container: its id or name.
        context: the process.
        clock: to wait for an engine that does not deliver the last output.

    Raises:
        OSError: the docker command cannot be run.
    """
    logs = subprocess.Popen(
        ["docker", "logs", "--follow", container],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(context.environ),
        start_new_session=True,  # Ctrl-C is for this process only
    )
    assert logs.stdout is not None
    assert logs.stderr is not None
    pumps = [
        _Pump(logs.stdout, context.reporter, is_stderr=False),
        _Pump(logs.stderr, context.reporter, is_stderr=True),
    ]
    try:
        for pump in pumps:
            pump.start()
        yield
        _wait_for_last_output(pumps, context, clock)
    finally:  # after Ctrl-C, or a lost connection, nobody reads the output any more
        logs.kill()
        logs.wait()


def _wait_for_last_output(pumps: list[_Pump], context: PlatformContext, clock: Clock) -> None:
    """Wait until everything is copied; give up when the engine delivers nothing, not when the reader is slow."""
    for pump in pumps:
        before = -1
        while not clock.wait(pump.done, _LAST_OUTPUT_SECONDS):
            if pump.copied == before and not pump.is_writing:
                context.reporter.warn("the Docker Engine does not deliver the last output of the job; see: docker logs")
                return
            before = pump.copied
