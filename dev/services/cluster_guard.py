"""The process that takes a cluster down when its last user is gone, killed ones included.

``python -m services.cluster_guard --directory DIRECTORY --busybox FILE`` runs the cluster in namespaces of its own,
waits
for the users' lock (see ``services.sharing``), ends the cluster, and undoes what it did to the host.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from services import cluster_host
from services.cache import locked
from services.shell import Failure, Interrupted, dies_with_parent, ignore_signals, raise_interrupted, say

MACHINE_LOCK = Path("/run/caliban-dev-kubernetes.lock")
"""Two clusters would share the name and the addresses of the bridge."""
STATE = "state"

_NAMESPACES = ("unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc")


def _start(directory: Path, busybox: str) -> subprocess.Popen[bytes]:
    arguments = ["--state", str(directory / STATE), "--busybox", busybox]
    return subprocess.Popen(
        [*_NAMESPACES, sys.executable, "-m", "services.cluster_node", *arguments],
        stdin=subprocess.DEVNULL,
        preexec_fn=dies_with_parent(signal.SIGKILL),
    )


def _take_down(node: subprocess.Popen[bytes] | None, directory: Path) -> None:
    # unshare takes the namespace's first process with it, and that one all others.
    if node is not None:
        node.kill()
        node.wait()
    cluster_host.undo(directory)
    shutil.rmtree(directory / STATE, ignore_errors=True)


def main() -> int:
    """Start, wait, take down."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--busybox", required=True)
    arguments = parser.parse_args()
    directory = arguments.directory
    signal.signal(signal.SIGTERM, raise_interrupted)
    node = None
    with locked(MACHINE_LOCK), ExitStack() as stack:
        stack.enter_context(locked(directory / "guard.lock"))
        try:
            cluster_host.prepare(directory)
            # A cluster that ends by itself ends the guard.
            signal.signal(signal.SIGCHLD, raise_interrupted)
            node = _start(directory, arguments.busybox)
            with locked(directory / "users.lock"):
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                ignore_signals()
                _take_down(node, directory)
                # New users wait for the users' lock; the guard's must be free before they look at it.
                stack.close()
        except Interrupted:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _take_down(node, directory)
            return 1
        except Failure as failure:
            say(failure.message)
            _take_down(node, directory)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
