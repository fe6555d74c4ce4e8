"""The flags that choose a cluster and a namespace. Imports nothing heavy: ``--help`` pays for it."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass

from caliban.errors import UsageError
from caliban.platforms.flags import add_account_flags
from caliban.records import PlatformId

GKE = "GKE"
KUBERNETES = "KUBERNETES"


def add_cluster_flags(parser: argparse.ArgumentParser) -> None:
    """Add ``--cluster_name``, ``--zone``, ``--context``, ``--namespace``, ``--project_id`` and ``--cloud_key``."""
    parser.add_argument("--cluster_name", help="a GKE cluster of the project")
    parser.add_argument("--zone", help="the zone or region of the GKE cluster, if several clusters have its name")
    parser.add_argument(
        "--context",
        help="a context of your kubeconfig: any cluster, without Google credentials (default: the current context, "
        "unless --cluster_name is given)",
    )
    parser.add_argument("--namespace", help="the namespace of the jobs (default: that of the context, else default)")
    add_account_flags(parser)


@dataclass(frozen=True)
class ClusterChoice:
    """The cluster and namespace that the user chose; None for what was not given.

    Attributes:
        cluster_name: a GKE cluster.
        zone: its location.
        context: a context of the kubeconfig.
        namespace: of the jobs.
    """

    cluster_name: str | None
    zone: str | None
    context: str | None
    namespace: str | None

    @classmethod
    def from_options(cls, options: Mapping[str, object]) -> ClusterChoice:
        """Read the values of the flags by name.

        Raises:
            UsageError: ``cluster-or-context``, ``zone-without-cluster``.
        """
        names = ("cluster_name", "zone", "context", "namespace")
        choice = cls(*(str(options[name]) if options.get(name) else None for name in names))
        if choice.cluster_name and choice.context:
            raise UsageError(
                "cluster-or-context",
                "--cluster_name and --context cannot be used together",
                hint="choose a GKE cluster with --cluster_name, or any cluster of your kubeconfig with --context",
            )
        if choice.zone and not choice.cluster_name:
            raise UsageError("zone-without-cluster", "--zone requires --cluster_name")
        return choice

    @property
    def platform(self) -> PlatformId:
        """The platform that has the cluster."""
        return GKE if self.cluster_name else KUBERNETES

    def __str__(self) -> str:
        if self.cluster_name:
            return f"{self.cluster_name} on GKE"
        return f"context {self.context}" if self.context else "current context of the kubeconfig"
