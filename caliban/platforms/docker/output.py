"""Pass on the output of a container while it runs."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from caliban.platforms.context import PlatformContext
from caliban.reporter import Reporter


@contextmanager
def streamed_output(container: str, context: PlatformContext) -> Iterator[None]:
    """Report a container's output, from its first byte, until it ends or the block fails; wait for the last byte.

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
    started = []
    is_complete = False
    try:
        for stream, is_stderr in ((logs.stdout, False), (logs.stderr, True)):
            thread = threading.Thread(target=_copy, args=(stream, context.reporter, is_stderr), daemon=True)
            thread.start()
            started.append(thread)  # only now: a thread whose start Ctrl-C interrupted cannot be joined
        yield
        is_complete = True
    finally:
        if not is_complete:  # after Ctrl-C, or a lost connection: nobody reads the output any more
            logs.terminate()
        for thread in started:
            thread.join()
        logs.wait()


def _copy(stream: IO[bytes], reporter: Reporter, is_stderr: bool) -> None:
    while data := stream.read1(65536):  # type: ignore[attr-defined]  # the pipes of Popen are BufferedReaders
        reporter.job_output(data, is_stderr=is_stderr)
    stream.close()
