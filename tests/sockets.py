"""Unix sockets for tests, whose paths are short wherever pytest keeps its temporary directories.

The path of a Unix socket has at most 107 bytes. That of ``tmp_path`` is longer on some machines: it contains
``TMPDIR``, the user's name, the number of the session and the name of the test.
"""

from __future__ import annotations

import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def listening_socket() -> Iterator[tuple[socket.socket, Path]]:
    """Listen on a new socket; gives it and its path. Its directory is removed at the end of the block."""
    with tempfile.TemporaryDirectory(dir="/tmp") as directory, socket.socket(socket.AF_UNIX) as listening:
        path = Path(directory, "sock")
        listening.bind(str(path))
        listening.listen()
        yield listening, path


def make_socket(path: Path) -> None:
    """Create a socket file, on which nothing listens, at a path of any length."""
    os.mknod(path, stat.S_IFSOCK | 0o600)
