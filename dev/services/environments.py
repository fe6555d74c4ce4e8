"""Virtual environments that are made once, and again when what they are made from has changed."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import time
from pathlib import Path

from services.cache import cache_directory, locked
from services.shell import run, say

PEER = ("caliban==0.4.2", "psycopg2-binary", "setuptools<81")
"""The peer imports pkg_resources, which venv no longer brings from Python 3.12 on, and setuptools until 81."""


def make_environment(directory: Path, requirements: list[str], source: bytes, check: list[str]) -> None:
    """Make a virtual environment, unless it is there already.

    Args:
        directory: where it goes; replaced when it is out of date.
        requirements: pip's arguments.
        source: what it depends on besides: it is made again when these bytes, or this Python, change.
        check: a program of it and arguments that work in a whole one.

    Raises:
        Failure: venv or pip fails; with pip's last lines.
    """
    wish = repr((requirements, source, sys.version, sys.base_prefix, str(directory)))
    digest = hashlib.sha256(wish.encode()).hexdigest()
    stamp = directory / "caliban-dev-stamp"
    lock = cache_directory() / f"environment-{hashlib.sha256(str(directory).encode()).hexdigest()[:12]}.lock"
    with locked(lock, waiting=f"another run is making {directory}"):
        if stamp.exists() and stamp.read_text() == digest and _works(directory, check):
            return
        started = time.monotonic()
        say(f"making {directory}: pip install {' '.join(requirements)}")
        if directory.exists():
            shutil.rmtree(directory)
        run([sys.executable, "-m", "venv", directory], f"making the virtual environment {directory}")
        pip: list[str | Path] = [directory / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "--no-input"]
        run([*pip, "install", *requirements], f"pip install {' '.join(requirements)}")
        stamp.write_text(digest)
        say(f"made {directory} in {time.monotonic() - started:.0f} s")


def _works(directory: Path, check: list[str]) -> bool:
    command = [str(directory / "bin" / check[0]), *check[1:]]
    try:
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def peer() -> str:
    """Give the path of caliban 0.4.2's command, from PyPI, in an environment of its own in the cache directory.

    Raises:
        Failure: pip cannot install it.
    """
    directory = cache_directory() / f"peer-{sys.version_info.major}.{sys.version_info.minor}"
    make_environment(directory, list(PEER), b"", ["python", "-c", "import caliban.main"])
    return str(directory / "bin" / "caliban")
