"""A cluster as a process of its own, for a person who tries the real command in a terminal.

``python -m tests.standins.kubernetes --kubeconfig FILE [--docker "docker"] [--version 1.33]`` serves until SIGTERM or
SIGINT, and is steered by the paths below ``/_standin/`` (see :meth:`KubeApi.control`).
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import threading
from pathlib import Path

from tests.standins.kubernetes.runners import Docker, Scripted
from tests.standins.kubernetes.schema import known_versions
from tests.standins.kubernetes.server import KubeApi, Runner


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m tests.standins.kubernetes", description=__doc__)
    parser.add_argument("--kubeconfig", type=Path, required=True, help="a context is added here, last of all")
    parser.add_argument("--context", default="lab", help="the context's name")
    parser.add_argument("--namespace", action="append", default=[], help="a namespace that there is; may be repeated")
    parser.add_argument("--version", default="1.33", choices=known_versions(), help="the version of Kubernetes")
    parser.add_argument("--docker", help="run accepted Jobs with this Docker client: docker, docker -H unix://...")
    parser.add_argument("--exit-code", type=int, help="let each Job's container end like this")
    parser.add_argument("--step", type=float, default=0.0, help="seconds that a container runs, with --exit-code")
    given = parser.parse_args()
    runner: Runner | None = None
    if given.docker:
        runner = Docker(shlex.split(given.docker), os.environ)
    elif given.exit_code is not None:
        runner = Scripted(lambda job: int(given.exit_code), given.step)
    over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: over.set())
    namespaces = given.namespace or ["default"]
    with KubeApi(given.version, namespaces, runner=runner) as cluster:
        cluster.write_kubeconfig(given.kubeconfig, given.context, namespaces[0])
        over.wait()


if __name__ == "__main__":
    main()
