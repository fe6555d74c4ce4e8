"""The flags for the pods of jobs, beside their resources. Imports nothing heavy: ``--help`` pays for it."""

from __future__ import annotations

import argparse

from caliban.platforms import resource_flags
from caliban.platforms.flags import integer_at_least


def add_limit_flags(parser: argparse.ArgumentParser) -> None:
    """Add ``--limit_cpu``, ``--limit_mem`` and ``--gpu_limit``."""
    resource_flags.LIMIT_CPU.add(
        parser,
        "CPU limit of each job, in thousandths of a CPU; the request is the same without --min_cpu (default: no limit, "
        "or the request, where a quota of the namespace requires one)",
    )
    resource_flags.LIMIT_MEM.add(
        parser,
        "memory limit of each job, in MB; the request is the same without --min_mem (default: as for --limit_cpu)",
    )
    parser.add_argument(
        "--gpu_limit",
        metavar="[RESOURCE=]COUNT",
        help="GPUs of each job by the name of their resource: amd.com/gpu=1, nvidia.com/mig-1g.5gb=2; 2 for "
        "nvidia.com/gpu=2",
    )


def add_pod_flags(parser: argparse.ArgumentParser) -> None:
    """Add ``--queue`` to ``--job_patch``."""
    add = parser.add_argument
    add("--queue", metavar="NAME", help="a LocalQueue of Kueue: jobs are created suspended, and wait there")
    add("--queue_priority", metavar="NAME", help="a WorkloadPriorityClass of Kueue, for the order in the queue")
    add("--priority_class", metavar="NAME", help="the PriorityClass of the pods")
    add("--service_account", metavar="NAME", help="the service account of the pods (default: default)")
    repeated = "; may be repeated"
    _add_list(
        parser, "image_pull_secret", "NAME", f"a secret with the login of the registry, for pulling the image{repeated}"
    )
    _add_list(
        parser,
        "env",
        "NAME[=VALUE]",
        f"an environment variable of the jobs; without a value, that of this command{repeated}",
    )
    _add_list(
        parser,
        "toleration",
        "KEY[=VALUE][:EFFECT]",
        f"a taint of nodes that the jobs tolerate: dedicated=ml:NoSchedule{repeated}",
    )
    _add_list(parser, "node_selector", "KEY=VALUE", f"a label of the nodes that the jobs need{repeated}")
    _add_list(
        parser,
        "volume",
        "CLAIM[/DIR]:PATH[:ro]",
        f"mount a persistent volume claim, or a directory of it, at PATH{repeated}",
    )
    add(
        "--run_as_user",
        type=integer_at_least(1),
        metavar="UID",
        help="the user id of the jobs, for images that run as root, in namespaces that forbid it",
    )
    _add_list(
        parser,
        "job_patch",
        "FILE",
        f"a strategic merge patch of the Job, YAML or JSON, for all other settings{repeated}",
    )


def _add_list(parser: argparse.ArgumentParser, name: str, metavar: str, help: str) -> None:
    parser.add_argument(f"--{name}", action="append", default=[], metavar=metavar, help=help)
