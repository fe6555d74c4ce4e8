"""``caliban cluster ls``: the clusters that jobs can be submitted to."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

from caliban.cli import flags
from caliban.cli.context import Context
from caliban.errors import ExitCode

if TYPE_CHECKING:
    from caliban.platforms.kubernetes.kubeconfig import Kubeconfig

DESCRIPTION = (
    "List the clusters that jobs can be submitted to: the contexts of your kubeconfig, and the GKE clusters of a "
    "project, where one is named or there is no kubeconfig."
)

_CREDENTIALS = ("PROJECT_ID", "GOOGLE_APPLICATION_CREDENTIALS")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What Google wants."""
    flags.add_project_id(parser)
    flags.add_cloud_key(parser)


def run(args: argparse.Namespace, context: Context) -> int:
    """Read the kubeconfig, ask GKE, print."""
    from caliban.platforms.kubernetes.kubeconfig import Kubeconfig

    kubeconfig = Kubeconfig(context.environ, context.home)
    for line in _context_lines(kubeconfig):
        context.console.print(line)
    wants_google = args.project_id or args.cloud_key or any(context.environ.get(name) for name in _CREDENTIALS)
    if wants_google or not kubeconfig.exists:
        for line in _gke_lines(args, context):
            context.console.print(line)
    else:
        context.console.print("\nfor the GKE clusters of a project, name it with --project_id")
    return ExitCode.DONE


def _context_lines(kubeconfig: Kubeconfig) -> Iterator[str]:
    contexts = kubeconfig.contexts()
    if not contexts:
        what = "has no contexts" if kubeconfig.exists else "is not there"
        yield f"the kubeconfig {kubeconfig.location} {what}"
        return
    yield f"contexts of the kubeconfig {kubeconfig.location}:"
    width = max(len(each.name) for each in contexts)
    for each in contexts:
        mark = "*" if each.is_current else " "
        yield f"{mark} {each.name:{width}}  {each.server or '(no server)'}  namespace: {each.namespace}"


def _gke_lines(args: argparse.Namespace, context: Context) -> Iterator[str]:
    from caliban.commands.cluster.destination import cluster_platform
    from caliban.platforms.kubernetes.gke_client import GkeService
    from caliban.records import PlatformName
    from caliban.submission.setup import make_platforms

    platforms = make_platforms(
        context.environ, context.home, context.console, project_id=args.project_id, cloud_key=args.cloud_key
    )
    google = cluster_platform(platforms, PlatformName.GKE).google
    project = google.project()
    listing = GkeService(google).clusters(project)
    clusters = sorted(listing.clusters, key=lambda cluster: (cluster.name, cluster.location))
    yield f"\nGKE clusters of project {project}:" if clusters else f"\nproject {project} has no GKE clusters"
    names = max((len(cluster.name) for cluster in clusters), default=0)
    places = max((len(cluster.location) for cluster in clusters), default=0)
    for each in clusters:
        nodes = f"{each.nodes} node{'' if each.nodes == 1 else 's'}"
        yield f"  {each.name:{names}}  {each.location:{places}}  {each.status:12}  {each.version}  {nodes}"
    if listing.silent_zones:
        context.console.warn(f"these zones do not answer GKE, and may have more: {', '.join(listing.silent_zones)}")
