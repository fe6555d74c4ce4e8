"""Jobs on any cluster of the user's kubeconfig."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caliban.config import CONFIG_FILE, ProjectConfig
from caliban.errors import UsageError
from caliban.platforms.kubernetes.choice import KUBERNETES, ClusterChoice
from caliban.platforms.kubernetes.details import KubeconfigDestination
from caliban.platforms.kubernetes.kubeconfig import Kubeconfig
from caliban.platforms.kubernetes.platform import ClusterPlatform
from caliban.records import Destination

if TYPE_CHECKING:
    from kubernetes.client import Configuration

    from caliban.images.registry.push import Registry


class KubeconfigPlatform(ClusterPlatform[KubeconfigDestination]):
    """Clusters by the contexts of a kubeconfig: kind, k3s, EKS and any other."""

    id = KUBERNETES
    destination_type = KubeconfigDestination

    def choose(self, choice: ClusterChoice) -> KubeconfigDestination:
        """Return the chosen or current context."""
        context = Kubeconfig(self.context.environ, self.context.home).context(choice.context)
        return KubeconfigDestination(context.name, namespace=choice.namespace or context.namespace)

    def image_registry(self, config: ProjectConfig, destination: Destination | None) -> Registry | None:
        """Return the configured registry: a cluster cannot use the images of this machine.

        Raises:
            UsageError: ``no-registry``.
        """
        if config.registry is None:
            raise UsageError(
                "no-registry",
                "no registry is configured, from which the cluster could pull images",
                hint=f'set "registry" in {CONFIG_FILE}, for example "registry.example.com/lab"; or run an existing '
                "image with --image_tag",
            )
        return super().image_registry(config, destination)

    def _configuration(self, destination: KubeconfigDestination) -> tuple[Configuration, str]:
        configuration = Kubeconfig(self.context.environ, self.context.home).configuration(destination.context)
        return configuration, f"cluster of the context {destination.context}"
