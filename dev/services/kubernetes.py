"""A one-node Kubernetes of our own: real components, compiled from Go modules, listening on the loopback."""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from services.cache import cache_directory
from services.cluster_guard import MACHINE_LOCK, STATE
from services.cluster_host import foreign_kubelet
from services.cluster_images import TEST_IMAGE
from services.cluster_layout import FIRST_SERVICE_IP, NODE, NODE_IP, Layout
from services.cluster_node import LAYOUT, READY, STOPPED
from services.cluster_users import CONTEXT, Users
from services.debian import find_program, install
from services.kubernetes_programs import Programs, programs
from services.sharing import is_guarded, shared_use, spawn_guard, with_path
from services.shell import Failure, say, tail
from services.versions import KUBERNETES

_LOG = "cluster.log"
_OWN_CLUSTER = "set CALIBAN_TEST_CONTEXT and CALIBAN_TEST_CLUSTER_IMAGE to use a cluster of yours"
_LONGEST_SOCKET = 100  # sun_path has 108 bytes, and containerd appends to the name


@contextmanager
def kubernetes() -> Iterator[dict[str, str]]:
    """Use a cluster; yields the environment variables that say how to reach it.

    The cluster that CALIBAN_TEST_CONTEXT names, where it is set, is left as it is. Otherwise one is started, which
    ends with its last user and leaves nothing behind but the programs and the logs in the cache directory.

    Raises:
        Failure: a program is missing or cannot be built, or the cluster does not start.
    """
    given = os.environ.get("CALIBAN_TEST_CONTEXT")
    if given:
        say(f"Kubernetes: using the context {given}")
        yield {}
        return
    if os.geteuid() != 0:
        raise Failure("only root may start a cluster", f"run this as root, or {_OWN_CLUSTER}")
    directory = cache_directory() / "kubernetes"
    directory.mkdir(exist_ok=True)
    found = programs()
    with shared_use(directory, lambda: _bring_up(directory, found), "cluster"):
        state = directory / STATE
        yield {
            "CALIBAN_TEST_CONTEXT": CONTEXT,
            "CALIBAN_TEST_CLUSTER_IMAGE": TEST_IMAGE,
            "CALIBAN_TEST_CLUSTER_STATE": str(state),
            "KUBECACHEDIR": str(state / "kubectl-cache"),
            "KUBECONFIG": Layout.load(state / LAYOUT).kubeconfig("admin"),
            "PATH": with_path(found.path)["PATH"],
        }


def _bring_up(directory: Path, found: Programs) -> None:
    started = time.monotonic()
    is_new = not is_guarded(directory)
    if is_new:
        if foreign_kubelet(directory):
            raise Failure("a kubelet runs on this machine already, and two disturb each other", _OWN_CLUSTER)
        if find_program("ip") is None:
            install(["iproute2"], why="a cluster needs a bridge")
        layout = _make_state(directory, found)
        arguments = ["--directory", str(directory), "--busybox", str(found.busybox)]
        spawn_guard(
            "services.cluster_guard",
            arguments,
            directory,
            directory / _LOG,
            machine_lock=MACHINE_LOCK,
            environment=with_path(found.path),
        )
        say(f"Kubernetes: starting {KUBERNETES}; logs: {layout.logs}")
    while not (directory / STATE / READY).exists():
        if not is_guarded(directory):
            raise Failure(f"the cluster does not start; the end of {directory / _LOG}:\n{tail(directory / _LOG)}")
        time.sleep(0.05)
    what = (
        f"started {KUBERNETES} in {time.monotonic() - started:.0f} s" if is_new else "using the cluster of another run"
    )
    say(f"Kubernetes: {what}")


def _make_state(directory: Path, found: Programs) -> Layout:
    """Make certificates and configuration files for a new cluster; what a killed run left is removed."""
    state, logs = directory / STATE, directory / "logs"
    for path in (state, logs):
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(mode=0o700)
    layout = Layout(str(state), str(logs), str(found.cni), *_free_ports(6))
    if len(layout.containerd_socket) > _LONGEST_SOCKET:
        raise Failure(f"the path {layout.containerd_socket} is too long", "set CALIBAN_DEV_DIR to a shorter path")
    (state / STOPPED).mkdir()
    users = Users(Path(layout.users), layout.server)
    users.make_authority()
    users.make_user(
        "kube-apiserver",
        names=["DNS:localhost", "DNS:kubernetes.default.svc", "IP:127.0.0.1", f"IP:{FIRST_SERVICE_IP}"],
    )
    users.make_user("admin", "system:masters")
    users.make_user("system:kube-controller-manager")
    users.make_user("system:kube-scheduler")
    users.make_user(f"system:node:{NODE}", "system:nodes", [f"IP:{NODE_IP}", "IP:127.0.0.1"])
    layout.write_configuration()
    layout.save(state / LAYOUT)
    return layout


def _free_ports(count: int) -> list[int]:
    """Return ports of the loopback that are free now, all different."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
