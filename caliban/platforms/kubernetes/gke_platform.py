"""Jobs on GKE clusters."""

from __future__ import annotations

from caliban.platforms.flags import project_id
from caliban.platforms.kubernetes.choice import GKE, ClusterChoice
from caliban.platforms.kubernetes.connection import Connection
from caliban.platforms.kubernetes.details import GkeDestination
from caliban.platforms.kubernetes.gke_client import GkeService
from caliban.platforms.kubernetes.kubeconfig import DEFAULT_NAMESPACE
from caliban.platforms.kubernetes.platform import ClusterPlatform
from caliban.platforms.kubernetes.resource_changes import GkeResources
from caliban.records import JobRecord


class GkePlatform(GkeResources, ClusterPlatform[GkeDestination]):
    """GKE clusters by project, location and name, with Google credentials."""

    id = GKE
    destination_type = GkeDestination

    def choose(self, choice: ClusterChoice) -> GkeDestination:
        """Return the cluster of that name; without ``--zone`` it is looked up among the project's."""
        project, name = self.google.project(), str(choice.cluster_name)
        location = choice.zone or GkeService(self.google).location_of(project, name)
        return self._identified(
            GkeDestination(project, location, name, namespace=choice.namespace or DEFAULT_NAMESPACE)
        )

    def destination(self, latest: JobRecord | None) -> GkeDestination:
        """Return the recorded cluster, whatever ``--project_id`` says: it belongs to its project."""
        destination = super().destination(latest)
        requested = project_id(self.context.options)
        if requested and requested != destination.project:
            self.context.announce(
                f"jobs of the GKE cluster {destination.cluster} are re-run in its project {destination.project}, "
                f"not in {requested}"
            )
        return destination

    def _project(self, destination: GkeDestination) -> str:
        return destination.project

    def _connection(self, destination: GkeDestination) -> tuple[Connection, str]:
        service = GkeService(self.google)
        cluster = service.cluster(destination.project, destination.location, destination.cluster)
        return service.connection(cluster), f"GKE cluster {cluster.name}"
