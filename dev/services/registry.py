"""A container registry of our own on the loopback: Debian's docker-registry."""

from __future__ import annotations

import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.debian import find_program, install
from services.postgresql import free_port
from services.shell import Failure, dies_with_parent, say, stop, tail

_START_SECONDS = 30
_CONFIGURATION = """\
version: 0.1
log: {{level: warn, accesslog: {{disabled: true}}}}
storage:
  filesystem: {{rootdirectory: "{directory}"}}
  delete: {{enabled: true}}
http: {{addr: "127.0.0.1:{port}"}}
"""


@contextmanager
def registry() -> Iterator[str]:
    """Run a registry that is empty and asks for no login; gives ``localhost:PORT``.

    Raises:
        Failure: it is not there and cannot be installed, or does not start.
    """
    if find_program("docker-registry") is None:
        install(["docker-registry"], why="there is no docker-registry")
    with tempfile.TemporaryDirectory(prefix="caliban-dev-registry-") as name:
        directory, port = Path(name), free_port()
        configuration = directory / "config.yml"
        configuration.write_text(_CONFIGURATION.format(directory=directory / "images", port=port))
        with (directory / "log").open("wb") as log:
            server = subprocess.Popen(
                [find_program("docker-registry") or "docker-registry", "serve", configuration],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=dies_with_parent(signal.SIGTERM),
            )
        try:
            _wait(server, port, directory / "log")
            say(f"registry: listening at localhost:{port}")
            yield f"localhost:{port}"
        finally:
            stop(server, signal.SIGTERM, 5)


def _wait(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    # No proxy of the environment between us and the loopback.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            opener.open(f"http://127.0.0.1:{port}/v2/", timeout=5).close()
        except (urllib.error.URLError, OSError):
            if server.poll() is not None or time.monotonic() > deadline:
                raise Failure(f"the registry does not start; its log ends:\n{tail(log)}") from None
            time.sleep(0.05)
        else:
            return
