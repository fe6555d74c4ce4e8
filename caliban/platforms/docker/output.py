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
    threads = [
        threading.Thread(target=_copy, args=(stream, context.reporter, is_stderr), daemon=True)
        for stream, is_stderr in ((logs.stdout, False), (logs.stderr, True))
    ]
    is_complete = False
    try:
        for thread in threads:
            thread.start()
        yield
        is_complete = True
    finally:
        if not is_complete:  # after Ctrl-C, or a lost connection: nobody reads the output any more
            logs.terminate()
        for thread in threads:
            if thread.is_alive():  # Ctrl-C may have come before it was started
                thread.join()
        logs.wait()


def _copy(stream: IO[bytes], reporter: Reporter, is_stderr: bool) -> None:
    while data := stream.read1(65536):  # type: ignore[attr-defined]  # the pipes of Popen are BufferedReaders
        reporter.job_output(data, is_stderr=is_stderr)
    stream.close()
