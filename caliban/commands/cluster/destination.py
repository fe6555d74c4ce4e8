"""Which cluster and namespace a command means: flags, and what they come to."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import TYPE_CHECKING

from caliban.cli import flags
from caliban.cli.context import Context
from caliban.errors import UsageError
from caliban.records import JsonObject, PlatformName

if TYPE_CHECKING:
    from caliban.platforms.base import Platforms
    from caliban.platforms.kubernetes.platform import ClusterPlatform


def add_place_flags(parser: argparse.ArgumentParser) -> None:
    """``--cluster_name``, ``--zone``, ``--context``, ``--namespace``, ``--project_id`` and ``--cloud_key``."""
    parser.add_argument("--cluster_name", help="a GKE cluster of the project")
    parser.add_argument("--zone", help="the zone or region of the GKE cluster, where several have its name")
    parser.add_argument(
        "--context",
        help="a context of your kubeconfig: any cluster, and no Google credential is needed (default: the current "
        "context, where no --cluster_name is given)",
    )
    parser.add_argument("--namespace", help="the namespace of the jobs (default: that of the context, else default)")
    flags.add_project_id(parser)
    flags.add_cloud_key(parser)


@dataclass(frozen=True)
class Place:
    """Where jobs are.

    Attributes:
        platform: GKE, or KUBERNETES for a context of a kubeconfig.
        target: see :meth:`caliban.platforms.base.Platform.target`.
    """

    platform: PlatformName
    target: JsonObject


def platform_meant(args: argparse.Namespace) -> PlatformName:
    """Which of the two platforms the flags are about.

    Raises:
        UsageError: ``cluster-or-context``, ``zone-without-cluster``.
    """
    if args.cluster_name and args.context:
        raise UsageError(
            "cluster-or-context",
            "--cluster_name and --context name two clusters",
            hint="name a GKE cluster with --cluster_name, or any cluster of your kubeconfig with --context",
        )
    if args.zone and not args.cluster_name:
        raise UsageError(
            "zone-without-cluster", "--zone is of use with --cluster_name only", hint="name the GKE cluster too"
        )
    return PlatformName.GKE if args.cluster_name else PlatformName.KUBERNETES


def find_place(args: argparse.Namespace, context: Context, platforms: Platforms) -> Place:
    """Look up the cluster that is meant: in the kubeconfig, or where no zone is given, among the project's.

    Raises:
        CalibanError: there is none, or it cannot be looked up.
    """
    from caliban.platforms.kubernetes.kubeconfig import DEFAULT_NAMESPACE, Kubeconfig

    if not args.cluster_name:
        chosen = Kubeconfig(context.environ, context.home).context(args.context)
        return Place(PlatformName.KUBERNETES, {"context": chosen.name, "namespace": args.namespace or chosen.namespace})
    from caliban.platforms.kubernetes.gke_client import GkeService

    google = cluster_platform(platforms, PlatformName.GKE).google
    project = google.project()
    location = args.zone or GkeService(google).location_of(project, args.cluster_name)
    target = {"project": project, "location": location, "cluster": args.cluster_name}
    return Place(platform_meant(args), {**target, "namespace": args.namespace or DEFAULT_NAMESPACE})


def cluster_platform(platforms: Platforms, name: PlatformName) -> ClusterPlatform:
    """The platform of that name, which has clusters."""
    from caliban.platforms.kubernetes.platform import ClusterPlatform

    platform = platforms.get(name)
    assert isinstance(platform, ClusterPlatform)
    return platform
