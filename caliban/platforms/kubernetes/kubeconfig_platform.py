"""Jobs on any cluster of the user's kubeconfig."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from caliban.config import CONFIG_FILE, ProjectConfig
from caliban.errors import CalibanError, UsageError
from caliban.platforms.context import PlatformContext
from caliban.platforms.kubernetes.choice import KUBERNETES, ClusterChoice
from caliban.platforms.kubernetes.client import Cluster
from caliban.platforms.kubernetes.clusters import another_cluster
from caliban.platforms.kubernetes.connection import Connection
from caliban.platforms.kubernetes.details import KubeconfigDestination
from caliban.platforms.kubernetes.exec_plugin import PluginLogins
from caliban.platforms.kubernetes.kubeconfig import Kubeconfig
from caliban.platforms.kubernetes.platform import ClusterPlatform
from caliban.platforms.kubernetes.resource_changes import ClusterResources
from caliban.platforms.retry import RetryPolicy
from caliban.records import Destination, JobRecord
from caliban.threads import side_by_side

if TYPE_CHECKING:
    from caliban.images.registry.push import Registry

_SEARCH = RetryPolicy(connect_timeout=5, read_timeout=5, deadline=0)
"""For contexts that are asked whether they have a certain cluster."""

_MAX_SEARCHED = 100


class KubeconfigPlatform(ClusterResources, ClusterPlatform[KubeconfigDestination]):
    """Clusters by the contexts of a kubeconfig: kind, k3s, EKS and any other."""

    id = KUBERNETES
    destination_type = KubeconfigDestination

    def __init__(self, context: PlatformContext, retry_policy: RetryPolicy | None = None) -> None:
        super().__init__(context, retry_policy)
        self._found: dict[KubeconfigDestination, str] = {}
        self._logins = PluginLogins(context.environ, context.clock, context.announce)

    def choose(self, choice: ClusterChoice) -> KubeconfigDestination:
        """Return the chosen or current context."""
        context = self._kubeconfig().context(choice.context)
        return self._identified(KubeconfigDestination(context.name, namespace=choice.namespace or context.namespace))

    def image_registry(self, config: ProjectConfig, destination: Destination | None) -> Registry | None:
        """Return the configured registry: a cluster cannot use the images of this machine.

        Raises:
            UsageError: ``no-registry``.
        """
        if config.registry is None and config.repository is None:
            raise UsageError(
                "no-registry",
                "no container registry configured",
                cause="a cluster pulls images from a registry, and cannot use those of this machine",
                hint=f'set "registry" in {CONFIG_FILE}, for example "registry.example.com/lab"; or run an existing '
                "image with --image_tag",
            )
        return super().image_registry(config, destination)

    def destination(self, latest: JobRecord | None) -> KubeconfigDestination:
        """Return the recorded cluster, under the name that its context has now."""
        found = super().destination(latest)
        self.cluster(found)
        with self._lock:
            return replace(found, context=self._found.get(replace(found, namespace="default"), found.context))

    def _connection(self, destination: KubeconfigDestination) -> tuple[Connection, str]:
        connection = self._kubeconfig().connection(destination.context)
        return connection, f"cluster of the context {destination.context}"

    def _open(self, destination: KubeconfigDestination) -> Cluster:
        """Connect to the recorded cluster, whatever its context is called now."""
        try:
            return super()._open(destination)
        except CalibanError as error:
            if not destination.is_identified or error.id not in ("unknown-context", "another-cluster"):
                raise
            found = self._search(destination)
            if found is None:
                raise
        name, cluster = found
        self.context.announce(f"the cluster of the context {destination.context} is found in the context {name}")
        key = replace(destination, namespace="default")
        with self._lock:
            self._found[key] = name
            self._clusters[replace(key, context=name)] = cluster
        return cluster

    def _search(self, destination: KubeconfigDestination) -> tuple[str, Cluster] | None:
        """Return another context of the recorded cluster, and its client: first by the server, then by asking each."""
        kubeconfig = self._kubeconfig()
        names = [each.name for each in kubeconfig.contexts() if each.name != destination.context][:_MAX_SEARCHED]
        likely = [name for name in names if kubeconfig.server_identity(name) == destination.cluster_server]
        others = [name for name in names if name not in likely] if destination.cluster_uid else []
        for candidates in (likely, others):
            calls = {name: partial(self._try, replace(destination, context=name)) for name in candidates}
            for name, cluster in side_by_side(calls).items():
                if isinstance(cluster, Cluster):
                    return name, cluster
        return None

    def _try(self, destination: KubeconfigDestination) -> Cluster:
        """Return the client of a context, if that has the recorded cluster. The user is not asked for logins."""
        found = self._kubeconfig(may_ask=False).connection(destination.context)
        cluster = Cluster(found, f"cluster of the context {destination.context}", self.context, _SEARCH)
        uid = cluster.system_uid() or ""
        if not destination.is_same_cluster(uid, cluster.server):
            raise another_cluster(destination, cluster, uid)
        connection, name = self._connection(destination)
        return Cluster(connection, name, self.context, self._retry_policy)

    def _kubeconfig(self, *, may_ask: bool = True) -> Kubeconfig:
        context = self.context
        return Kubeconfig(context.environ, context.home, context.clock, context.announce, self._logins, may_ask=may_ask)
