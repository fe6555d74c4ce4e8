"""List the clusters that jobs can be submitted to, and the jobs there. ``--help`` imports nothing heavy."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from caliban.platforms.context import PlatformContext
from caliban.platforms.flags import add_account_flags, cloud_key, project_id
from caliban.platforms.kubernetes.choice import GKE, KUBERNETES, ClusterChoice, add_cluster_flags
from caliban.records import PlatformId

if TYPE_CHECKING:
    from caliban.platforms.kubernetes.listings import ClusterListing, JobListing, ProjectClusters
    from caliban.platforms.kubernetes.platform import ClusterPlatform

_ACCOUNT_VARIABLES = ("PROJECT_ID", "GOOGLE_APPLICATION_CREDENTIALS")


class ClusterDirectory:
    """The clusters of a user's kubeconfig and Google Cloud project.

    Attributes:
        CLUSTERS_DESCRIPTION, JOBS_DESCRIPTION: what ``--help`` says of :meth:`contexts` and :meth:`jobs`.
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
        """Add the flags of :meth:`with_project`."""
        add_account_flags(parser)

    @staticmethod
    def add_jobs_arguments(parser: argparse.ArgumentParser) -> None:
        """Add the flags of :meth:`jobs`."""
        add_cluster_flags(parser)

    def contexts(self) -> ClusterListing:
        """Return the clusters of the kubeconfig; nothing is connected to.

        Raises:
            CalibanError: the kubeconfig is malformed.
        """
        from caliban.platforms.kubernetes.kubeconfig import Kubeconfig
        from caliban.platforms.kubernetes.listings import ClusterListing

        kubeconfig = Kubeconfig(self._context.environ, self._context.home)
        return ClusterListing(kubeconfig.location, kubeconfig.exists, tuple(kubeconfig.contexts()))

    def with_project(self, listing: ClusterListing) -> ClusterListing:
        """Return the listing with the clusters of the project, if one is given or there is no kubeconfig.

        Raises:
            CalibanError: GKE cannot be queried.
        """
        options = self._context.options
        has_account = (
            project_id(options) or cloud_key(options) or any(map(self._context.environ.get, _ACCOUNT_VARIABLES))
        )
        has_cluster = listing.exists or bool(listing.contexts)
        return replace(listing, project=self._project_clusters()) if has_account or not has_cluster else listing

    def jobs(self) -> JobListing:
        """Return the jobs in the namespace that the flags choose.

        Raises:
            CalibanError: the flags are wrong, or the cluster cannot be queried.
        """
        from caliban.platforms.kubernetes.listings import JobListing

        choice = ClusterChoice.from_options(self._context.options)
        platform = self._platform(choice.platform)
        destination = platform.choose(choice)
        platform.connect(destination)
        jobs = tuple(platform.listing(destination))
        return JobListing(str(platform.cluster(destination).name), destination.namespace, jobs)

    def _project_clusters(self) -> ProjectClusters:
        from caliban.platforms.kubernetes.gke_client import GkeService
        from caliban.platforms.kubernetes.listings import ProjectClusters

        google = self._platform(GKE).google
        project = google.project()
        listing = GkeService(google).clusters(project)
        if listing.missing_zones:
            zones = ", ".join(listing.missing_zones)
            self._context.reporter.warn(f"these zones did not respond to GKE and may have more clusters: {zones}")
        clusters = tuple(sorted(listing.clusters, key=lambda cluster: (cluster.name, cluster.location)))
        return ProjectClusters(project, clusters, listing.missing_zones)

    def _platform(self, id: PlatformId) -> ClusterPlatform[Any]:
        from caliban.platforms.kubernetes.gke_platform import GkePlatform
        from caliban.platforms.kubernetes.kubeconfig_platform import KubeconfigPlatform

        classes: Mapping[PlatformId, type[ClusterPlatform[Any]]] = {GKE: GkePlatform, KUBERNETES: KubeconfigPlatform}
        return classes[id](self._context)
