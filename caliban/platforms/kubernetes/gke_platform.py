"""Jobs on GKE's clusters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import quote

from caliban.images.registry.names import repository
from caliban.platforms.google.image_registry import Registry
from caliban.platforms.kubernetes.gke_client import GkeService
from caliban.platforms.kubernetes.platform import ClusterPlatform, logs_command, text_at
from caliban.records import ImageRef, JobRecord, JsonObject, PlatformName

if TYPE_CHECKING:
    from kubernetes.client import Configuration


class GkePlatform(ClusterPlatform):
    """GKE's clusters, by project, location and name; credentials are Google's."""

    name = PlatformName.GKE

    def check_registry(self, registry: str | None) -> None:
        """Without one, images go to that of the cluster's project."""
        if registry is not None:
            repository(registry, "")

    def reach_registry(self, registry: str | None, target: JsonObject) -> None:
        """Ask a registry of Google's for leave to push."""
        self._registry(registry, target).check()

    def publish(self, image: ImageRef, registry: str | None, target: JsonObject) -> ImageRef:
        """Push to ``registry``, else to that of the cluster's project, where the image is not there already."""
        return self._registry(registry, target).push(image)

    def _registry(self, registry: str | None, target: JsonObject) -> Registry:
        return Registry(repository(registry, str(target["project"])), self.context, self.google)

    def image_target(self) -> JsonObject:
        """The project of the person's choice."""
        return {"project": self.google.project()}

    def target(self, latest: JobRecord | None) -> JsonObject:
        """The recorded cluster, whatever ``--project_id`` says: it belongs to its project."""
        place = super().target(latest)
        asked = self.context.project_id
        if asked and asked != place["project"]:
            self.context.announce(
                f"jobs of the GKE cluster {place['cluster']} are re-run there, in project {place['project']}, "
                f"not in {asked}"
            )
        return place

    def links(self, job: JobRecord) -> Sequence[str]:
        """The job's page in the console, and the command that streams its log."""
        place = self._place(job.details)
        assert place is not None
        kept = [text_at(job.details, "job", "metadata", key) for key in ("namespace", "name")]
        path = "/".join(quote(str(part), safe="") for part in (place["location"], place["cluster"], *kept))
        page = (
            f"https://console.cloud.google.com/kubernetes/job/{path}/details?project={quote(place['project'], safe='')}"
        )
        context = f"gke_{place['project']}_{place['location']}_{place['cluster']}"
        return page, logs_command(context, job.details)

    def _reach(self, target: JsonObject) -> tuple[Configuration, str]:
        service = GkeService(self.google)
        cluster = service.cluster(str(target["project"]), str(target["location"]), str(target["cluster"]))
        return service.configuration(cluster), f"GKE cluster {cluster.name}"

    def _place(self, details: JsonObject) -> dict[str, str] | None:
        found = [text_at(details, key) for key in ("project_id", "cluster_zone", "cluster_name")]
        project, location, cluster = found
        if project is None or location is None or cluster is None:
            return None
        return {"project": project, "location": location, "cluster": cluster}

    def _place_details(self, target: JsonObject) -> dict[str, object]:
        """By the names that caliban 0.4.2 gives them."""
        return {
            "cluster_name": target["cluster"],
            "cluster_zone": target["location"],
            "project_id": target["project"],
        }
