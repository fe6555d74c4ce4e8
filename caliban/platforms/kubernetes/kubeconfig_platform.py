"""Jobs on any cluster that a kubeconfig names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caliban.errors import UsageError
from caliban.images.registry.names import repository
from caliban.platforms.google.image_registry import Registry
from caliban.platforms.kubernetes.kubeconfig import Kubeconfig
from caliban.platforms.kubernetes.platform import ClusterPlatform, logs_command, text_at
from caliban.records import ImageRef, JobRecord, JsonObject, PlatformName

if TYPE_CHECKING:
    from kubernetes.client import Configuration


class KubernetesPlatform(ClusterPlatform):
    """Clusters by the names of a kubeconfig's contexts: kind, k3s, EKS, anything."""

    name = PlatformName.KUBERNETES

    def check_registry(self, registry: str | None) -> None:
        """There has to be one: a cluster does not see the images of this machine."""
        if registry is None:
            raise UsageError(
                "no-registry",
                "there is no registry to push images to, from which the cluster can get them",
                hint='name one in .calibanconfig.json: {"registry": "registry.example.com/lab"}; '
                "or run an image that is there already with --image_tag",
            )
        repository(registry, "")

    def reach_registry(self, registry: str | None, target: JsonObject) -> None:
        """Ask a registry of Google's for leave to push."""
        self._registry(registry, target).check()

    def publish(self, image: ImageRef, registry: str | None, target: JsonObject) -> ImageRef:
        """Push to ``registry``, where the image is not there already."""
        return self._registry(registry, target).push(image)

    def _registry(self, registry: str | None, target: JsonObject) -> Registry:
        self.check_registry(registry)
        return Registry(repository(registry, ""), self.context, self.google)

    def links(self, job: JobRecord) -> Sequence[str]:
        """The command that streams its log."""
        return (logs_command(str(job.details.get("context")), job.details),)

    def _reach(self, target: JsonObject) -> tuple[Configuration, str]:
        context = str(target["context"])
        configuration = Kubeconfig(self.context.environ, self.context.home).configuration(context)
        return configuration, f"cluster of the context {context}"

    def _place(self, details: JsonObject) -> dict[str, str] | None:
        context = text_at(details, "context")
        return None if context is None else {"context": context}

    def _place_details(self, target: JsonObject) -> dict[str, object]:
        return {"context": target["context"]}
