"""The first process of a cluster's process namespace: starts the components and keeps them running.

``python -m services.cluster_node --state DIRECTORY --busybox FILE``, under ``unshare``. When it ends, the kernel ends
every process of the namespace, containers included, and removes their mounts. The file ``ready`` in the state
directory says that the cluster can be used.

A test stops a component with a file of its name in the directory ``stopped`` of the state directory, and starts it
again by removing that file: process ids in here are not those outside.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from services.cluster_host import PRIVATE_DIRECTORIES
from services.cluster_images import write_images
from services.cluster_layout import COMPONENTS, NODE, Layout
from services.shell import Failure, run, say, tail

LAYOUT = "layout.json"
READY = "ready"
STOPPED = "stopped"
_START_SECONDS = 120
_POLL_SECONDS = 0.1


class Node:
    """The components of one cluster.

    Attributes:
        running: component -> process id.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self.running: dict[str, int] = {}

    def start(self, name: str) -> None:
        """Start a component; its log goes on where it ended."""
        with (Path(self._layout.logs) / name).open("ab") as log:
            process = subprocess.Popen(self._layout.command(name), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.running[name] = process.pid
        # Children are reaped in one place: those that are not ours come here when their parents end.
        process.returncode = 0

    def reap(self) -> None:
        """Collect the processes that have ended."""
        while True:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                pid = 0
            if pid == 0:
                return
            self.running = {name: other for name, other in self.running.items() if other != pid}

    def wait_for(self, what: str, condition: Callable[[], bool], *components: str) -> None:
        """Wait until a condition holds.

        Raises:
            Failure: one of the components has ended, or it takes too long; with the end of the first one's log.
        """
        deadline = time.monotonic() + _START_SECONDS
        while not condition():
            self.reap()
            ended = [name for name in components if name not in self.running]
            if ended or time.monotonic() > deadline:
                name = (ended or list(components))[0]
                trouble = f"{name} ended" if ended else f"no {what} after {_START_SECONDS} s"
                raise Failure(
                    f"{trouble}; the end of {self._layout.logs}/{name}:\n{tail(Path(self._layout.logs) / name)}"
                )
            time.sleep(_POLL_SECONDS)

    def bring_up(self, busybox: Path) -> None:
        """Start everything, and wait until the node can run pods."""
        for name in ("etcd", "kube-apiserver", "containerd"):
            self.start(name)
        self.wait_for("API server", lambda: self._kubectl("get", "--raw", "/readyz"), "kube-apiserver", "etcd")
        self.wait_for("containerd", lambda: _succeeds(*self._ctr("version")), "containerd")
        self._import_images(busybox)
        for name in ("kube-controller-manager", "kube-scheduler", "kubelet"):
            self.start(name)
        ready = ("wait", "--for", "condition=Ready", f"node/{NODE}", "--timeout", "1s")
        self.wait_for("ready node", lambda: self._kubectl(*ready), "kubelet", *COMPONENTS)
        self.wait_for(
            "service account",
            lambda: self._kubectl("get", "serviceaccount", "default"),
            "kube-controller-manager",
        )

    def keep_up(self) -> None:
        """Start the components that have ended; end those that a test has stopped."""
        self.reap()
        for name in COMPONENTS:
            is_stopped = (Path(self._layout.state) / STOPPED / name).exists()
            if is_stopped and name in self.running:
                os.kill(self.running[name], signal.SIGKILL)
            elif not is_stopped and name not in self.running:
                self.start(name)

    def _import_images(self, busybox: Path) -> None:
        archive = Path(self._layout.state) / "images.tar"
        with archive.open("wb") as file:
            write_images(busybox, file)
        run(self._ctr("--namespace", "k8s.io", "images", "import", str(archive)), "importing the images")
        archive.unlink()

    def _ctr(self, *arguments: str) -> list[str]:
        return ["ctr", "--address", self._layout.containerd_socket, *arguments]

    def _kubectl(self, *arguments: str) -> bool:
        # The cache is in HOME by default.
        cache = f"--cache-dir={self._layout.state}/kubectl-cache"
        return _succeeds("kubectl", "--kubeconfig", self._layout.kubeconfig("admin"), cache, *arguments)


def _succeeds(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=5, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def main() -> int:
    """Start the components and keep them running."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--busybox", type=Path, required=True)
    arguments = parser.parse_args()
    try:
        for path in PRIVATE_DIRECTORIES:
            run(["mount", "-t", "tmpfs", "caliban-dev", path], f"mounting a file system on {path}")
        node = Node(Layout.load(arguments.state / LAYOUT))
        node.bring_up(arguments.busybox)
    except Failure as failure:
        say(failure.message)
        return 1
    (arguments.state / READY).touch()
    while True:
        node.keep_up()
        time.sleep(_POLL_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
