"""Pass on the output of a container while it runs.

Whoever reads the output decides nothing: when a pipe is closed or a disk is full, the rest is read and dropped, and the
job goes on.

``docker logs --follow`` ends with the container, also when Docker restarts that. It is then read again from its first
byte, and what was passed on already is left out. Before Docker 23 it may also end before it has delivered the last line
of an ended container, if that has no line break; so the end of the output is always read a second time.
"""

from __future__ import annotations

import atexit
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO

from caliban.bounded import DeadlineExceededError
from caliban.clock import Clock
from caliban.platforms.context import PlatformContext
from caliban.reporter import Reporter
from caliban.threads import within

_LAST_OUTPUT_SECONDS = 30.0
"""How long an engine that is silent has to deliver the last output of a container that has ended."""
_AFTER_STOP_SECONDS = 5.0
"""How long a user who stopped a job waits for its last output; a reader may have gone, or be far behind."""

_READ_AGAIN = 8 << 20
"""Bytes of output that are read again as a whole when a container has ended; of more, only the end is."""

_TAIL_MESSAGES = 100
_TAIL_BYTES = 4096
_INCOMPLETE = "the Docker Engine does not deliver the last output of the job; see: docker logs"


class _Pump:
    """Copies one stream of the client to the reporter, on a thread of its own.

    Attributes:
        done: set at the end of the stream.
        copied: how many bytes were passed on, those left out included.
        last: the last of them.
        is_writing: whether a reader is being waited for.
    """

    def __init__(self, stream: IO[bytes], reporter: Reporter, *, is_stderr: bool, leave_out: int) -> None:
        self.done = threading.Event()
        self.copied = 0
        self.last = b""
        self.is_writing = False
        self._stream = stream
        self._reporter: Reporter | None = reporter
        self._is_stderr = is_stderr
        self._leave_out = leave_out

    def start(self) -> None:
        threading.Thread(target=self._run, name="output", daemon=True).start()

    def _run(self) -> None:
        try:
            while data := self._stream.read1(65536):  # type: ignore[attr-defined]  # a BufferedReader, as of all Popens
                self.write(data[max(0, self._leave_out - self.copied) :])
                self.copied += len(data)
                self.last = (self.last + data)[-_TAIL_BYTES:]
        except (OSError, ValueError):  # the client was killed, or the stream closed: this is the end
            pass
        finally:
            self.done.set()

    def write(self, data: bytes) -> None:
        """Report output."""
        if self._reporter is None or not data:
            return
        self.is_writing = True
        try:
            self._reporter.job_output(data, is_stderr=self._is_stderr)
        except (OSError, ValueError):  # nobody reads it any more; ValueError: the stream was closed
            self._reporter = None
        self.is_writing = False


class JobOutput:
    """The output of one container, reported from its first byte on.

    Args:
        container: its id or name.
        context: the process.
        clock: to wait for an engine that does not deliver the last output.
    """

    def __init__(self, container: str, context: PlatformContext, clock: Clock) -> None:
        self._container = container
        self._context = context
        self._clock = clock
        self._was_restarted = False
        self._client: subprocess.Popen[bytes] | None = None
        self._pumps: list[_Pump] = []

    def start(self) -> None:
        """Read from the first byte; leave out what was passed on before.

        Raises:
            OSError: the docker command cannot be run.
        """
        passed_on = [pump.copied for pump in self._pumps] or [0, 0]
        self._client = client = subprocess.Popen(
            ["docker", "logs", "--follow", self._container],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(self._context.environ),
            start_new_session=True,  # Ctrl-C is for this process only
        )
        assert client.stdout is not None
        assert client.stderr is not None
        streams = ((client.stdout, False), (client.stderr, True))
        self._pumps = [
            _Pump(stream, self._context.reporter, is_stderr=is_stderr, leave_out=leave_out)
            for (stream, is_stderr), leave_out in zip(streams, passed_on, strict=True)
        ]
        for pump in self._pumps:
            pump.start()
        atexit.register(self.close)  # if the user does not wait until the job has stopped

    def restarted(self) -> None:
        """Read on after the container was restarted."""
        self._was_restarted = True
        if all(pump.done.is_set() for pump in self._pumps):
            self.close()
            self.start()

    def finish(self) -> None:
        """Wait until everything is passed on, after the container has ended."""
        is_complete = self._wait()
        if self._was_restarted:
            self.close()
            self.start()
            self._wait()
        elif is_complete:
            self._pass_on_the_rest()

    def finish_soon(self) -> None:
        """Do the same after the user stopped the job, as far as it takes a few seconds only."""
        end = self._clock.monotonic() + _AFTER_STOP_SECONDS
        if all(self._clock.wait(pump.done, max(0.0, end - self._clock.monotonic())) for pump in self._pumps):
            self._pass_on_the_rest()

    def _pass_on_the_rest(self) -> None:
        """Read the end of the output again, and pass on what is new."""
        if sum(pump.copied for pump in self._pumps) <= _READ_AGAIN:
            again = self._read(["--follow"])  # nothing follows: it has ended
            rest = [data[pump.copied :] for pump, data in zip(self._pumps, again, strict=False)]
        else:
            again = self._read([f"--tail={_TAIL_MESSAGES}"])
            rest = [after(pump.last, data) for pump, data in zip(self._pumps, again, strict=False)]
        for pump, data in zip(self._pumps, rest, strict=False):
            pump.write(data)

    def _read(self, flags: Sequence[str]) -> tuple[bytes, ...]:
        """Return both streams of ``docker logs``; nothing if it fails, as for a container that was just removed."""
        client = subprocess.Popen(
            ["docker", "logs", *flags, self._container],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(self._context.environ),
            start_new_session=True,
        )
        try:
            slow = f"reading the last output of the job again (for up to {_LAST_OUTPUT_SECONDS:.0f} s) ..."
            streams = within(
                _LAST_OUTPUT_SECONDS, client.communicate, self._clock, lambda: self._context.reporter.info(slow)
            )
        except DeadlineExceededError:
            self._context.reporter.warn(_INCOMPLETE)
            return ()
        finally:
            if client.poll() is None:
                client.kill()
        return streams if client.returncode == 0 else ()

    def close(self) -> None:
        """End the client."""
        atexit.unregister(self.close)
        if self._client is not None:
            self._client.kill()
            self._client.wait()

    def _wait(self) -> bool:
        """Wait for the end of the streams; give up when the engine delivers nothing, not when the reader is slow.

        Returns:
            Whether they have ended.
        """
        for pump in self._pumps:
            before = -1
            while not self._clock.wait(pump.done, _LAST_OUTPUT_SECONDS):
                if pump.copied == before and not pump.is_writing:
                    self._context.reporter.warn(_INCOMPLETE)
                    return False
                before = pump.copied
        return True


def after(passed_on: bytes, tail: bytes) -> bytes:
    """Return what of the end of a stream follows what was passed on: as little as possible, where it repeats itself.

    Args:
        passed_on: the last bytes that were passed on.
        tail: the end of the stream, from the beginning of a line.
    """
    found = tail.rfind(passed_on) if passed_on else -1
    if found >= 0:
        return tail[found + len(passed_on) :]
    longest = min(len(passed_on), len(tail))
    return next((tail[size:] for size in range(longest, 0, -1) if passed_on.endswith(tail[:size])), tail)


@contextmanager
def streamed_output(output: JobOutput) -> Iterator[None]:
    """Report output until it ends or the block fails; wait for the last byte.

    After Ctrl-C it goes on: what a job writes while it stops is reported too. Whoever stops the job closes it.

    Raises:
        OSError: the docker command cannot be run.
    """
    try:
        output.start()
        yield
        output.finish()
    except KeyboardInterrupt:
        raise
    except BaseException:  # as after a lost connection
        output.close()
        raise
    output.close()
