"""List the clusters that jobs can be submitted to, and the jobs there. ``--help`` imports nothing heavy."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from caliban.platforms.context import PlatformContext
from caliban.platforms.flags import add_account_flags, cloud_key, project_id
from caliban.platforms.kubernetes.choice import GKE, KUBERNETES, ClusterChoice, add_cluster_flags
from caliban.records import PlatformId

if TYPE_CHECKING:
    from caliban.platforms.kubernetes.platform import ClusterPlatform

_ACCOUNT_VARIABLES = ("PROJECT_ID", "GOOGLE_APPLICATION_CREDENTIALS")


class ClusterDirectory:
    """The clusters of a user's kubeconfig and Google Cloud project.

    Attributes:
        CLUSTERS_DESCRIPTION, JOBS_DESCRIPTION: what ``--help`` says of :meth:`cluster_lines` and :meth:`job_lines`.
    """

    CLUSTERS_DESCRIPTION = (
        "List the clusters that jobs can be submitted to: the contexts of your kubeconfig, and the GKE clusters of a "
        "project, if one is given or there is no kubeconfig."
    )
    JOBS_DESCRIPTION = (
        "List the jobs in a namespace of a cluster, whoever submitted them, newest first. The experiment store is not "
        "read; for experiments, run caliban status."
    )

    def __init__(self, context: PlatformContext) -> None:
        self._context = context

    @staticmethod
    def add_clusters_arguments(parser: argparse.ArgumentParser) -> None:
        """Add the flags of :meth:`cluster_lines`."""
        add_account_flags(parser)

    @staticmethod
    def add_jobs_arguments(parser: argparse.ArgumentParser) -> None:
        """Add the flags of :meth:`job_lines`."""
        add_cluster_flags(parser)

    def cluster_lines(self) -> Iterator[str]:
        """Yield the clusters, line by line.

        Raises:
            CalibanError: the kubeconfig is malformed, or GKE cannot be queried.
        """
        from caliban.platforms.kubernetes.kubeconfig import Kubeconfig

        kubeconfig = Kubeconfig(self._context.environ, self._context.home)
        if contexts := kubeconfig.contexts():
            yield f"contexts of the kubeconfig {kubeconfig.location}:"
            width = max(len(each.name) for each in contexts)
            for each in contexts:
                mark = "*" if each.is_current else " "
                yield f"{mark} {each.name:{width}}  {each.server or '(no server)'}  namespace: {each.namespace}"
        elif kubeconfig.exists:
            yield f"no contexts in the kubeconfig {kubeconfig.location}"
        else:
            yield f"no kubeconfig: {kubeconfig.location}"
        options = self._context.options
        has_account = (
            project_id(options) or cloud_key(options) or any(map(self._context.environ.get, _ACCOUNT_VARIABLES))
        )
        if has_account or not kubeconfig.exists:
            yield from self._gke_lines()
        else:
            yield from ("", "for the GKE clusters of a project, add --project_id")

    def job_lines(self) -> Iterator[str]:
        """Yield the jobs in the namespace that the flags choose, line by line.

        Raises:
            CalibanError: the flags are wrong, or the cluster cannot be queried.
        """
        choice = ClusterChoice.from_options(self._context.options)
        platform = self._platform(choice.platform)
        destination = platform.choose(choice)
        platform.connect(destination)
        jobs = platform.listing(destination)
        where = f"{platform.cluster(destination).name}, namespace {destination.namespace}"
        yield f"jobs of the {where}:" if jobs else f"no jobs in the {where}"
        width = max((len(job.name) for job in jobs), default=0)
        for job in jobs:
            group = f"  group: {job.group}" if job.group else ""
            reason = f"  ({job.state.reason})" if job.state.reason else ""
            yield f"  {job.name:{width}}  {job.state.status:9}  {job.created}{group}{reason}"

    def _gke_lines(self) -> Iterator[str]:
        from caliban.platforms.kubernetes.gke_client import GkeService

        google = self._platform(GKE).google
        project = google.project()
        listing = GkeService(google).clusters(project)
        clusters = sorted(listing.clusters, key=lambda cluster: (cluster.name, cluster.location))
        yield ""
        yield f"GKE clusters of project {project}:" if clusters else f"project {project} has no GKE clusters"
        names = max((len(cluster.name) for cluster in clusters), default=0)
        locations = max((len(cluster.location) for cluster in clusters), default=0)
        for each in clusters:
            nodes = f"{each.nodes} node{'' if each.nodes == 1 else 's'}"
            yield f"  {each.name:{names}}  {each.location:{locations}}  {each.status:12}  {each.version}  {nodes}"
        if listing.missing_zones:
            zones = ", ".join(listing.missing_zones)
            self._context.reporter.warn(f"these zones did not respond to GKE and may have more clusters: {zones}")

    def _platform(self, id: PlatformId) -> ClusterPlatform[Any]:
        from caliban.platforms.kubernetes.gke_platform import GkePlatform
        from caliban.platforms.kubernetes.kubeconfig_platform import KubeconfigPlatform

        classes: Mapping[PlatformId, type[ClusterPlatform[Any]]] = {GKE: GkePlatform, KUBERNETES: KubeconfigPlatform}
        return classes[id](self._context)
