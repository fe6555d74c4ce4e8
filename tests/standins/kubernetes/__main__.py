"""A cluster as a process of its own, for a person who tries the real command in a terminal.

``python -m tests.standins.kubernetes --kubeconfig FILE [--docker "docker"] [--version 1.33]`` serves until SIGTERM or
SIGINT, and is steered by the paths below ``/_standin/`` (see :meth:`KubeApi.control`).
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from tests.standins.kubernetes.runners import add_arguments, chosen
from tests.standins.kubernetes.schema import known_versions
from tests.standins.kubernetes.server import KubeApi
from tests.standins.serving import stop_event


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m tests.standins.kubernetes", description=__doc__)
    parser.add_argument("--kubeconfig", type=Path, required=True, help="a context is added here, last of all")
    parser.add_argument("--context", default="lab", help="the context's name")
    parser.add_argument("--namespace", action="append", default=[], help="a namespace that there is; may be repeated")
    parser.add_argument("--version", default="1.33", choices=known_versions(), help="the version of Kubernetes")
    add_arguments(parser)
    given = parser.parse_args()
    over = stop_event()
    namespaces = given.namespace or ["default"]
    with KubeApi(given.version, namespaces, runner=chosen(given, os.environ)) as cluster:
        cluster.write_kubeconfig(given.kubeconfig, given.context, namespaces[0])
        over.wait()


if __name__ == "__main__":
    main()
