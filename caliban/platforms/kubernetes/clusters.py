"""The clusters that a command uses: each is connected to once, and is the one that was recorded."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Generic, TypeVar

from caliban.errors import CalibanError, PlatformError
from caliban.platforms.context import PlatformContext
from caliban.platforms.kubernetes.client import Cluster
from caliban.platforms.kubernetes.connection import Connection
from caliban.platforms.kubernetes.details import ClusterDestination
from caliban.platforms.kubernetes.errors import ClusterMissingError
from caliban.platforms.retry import RetryPolicy

_D = TypeVar("_D", bound=ClusterDestination)

_FAILURE_LIFETIME = 30
"""Seconds for which a cluster that could not be connected to is not connected to again."""


class RecognisedClusters(ABC, Generic[_D]):
    """Connects to clusters. May be shared by threads."""

    def __init__(self, context: PlatformContext, retry_policy: RetryPolicy) -> None:
        self.context = context
        self._retry_policy = retry_policy
        self._lock = threading.Lock()
        self._locks: dict[ClusterDestination, threading.Lock] = {}
        self._clusters: dict[ClusterDestination, Cluster] = {}
        self._failures: dict[ClusterDestination, tuple[CalibanError, float]] = {}

    @abstractmethod
    def _connection(self, destination: _D) -> tuple[Connection, str]:
        """Return how to connect to a cluster, and its name for messages.

        Raises:
            CalibanError: there is no such cluster, or no way to connect to it.
        """

    def cluster(self, destination: _D) -> Cluster:
        """Return the client of a cluster, created once; it is the cluster that was recorded.

        Raises:
            PlatformError: ``another-cluster``: another one has its name now.
            CalibanError: there is no such cluster, or no way to connect to it.
        """
        key = replace(destination, namespace="default")
        with self._lock:
            lock = self._locks.setdefault(key, threading.Lock())
        with lock:
            if key not in self._clusters:
                self._raise_recent(key)
                try:
                    opened = self._open(destination)
                except CalibanError as error:
                    self._failures[key] = (error, self.context.clock.monotonic())
                    raise
                with self._lock:
                    self._clusters[key] = opened
            return self._clusters[key]

    def _raise_recent(self, key: ClusterDestination) -> None:
        """Raise why a cluster could not be connected to just now: not each job waits for one that is silent."""
        error, since = self._failures.get(key, (None, 0.0))
        if error is not None and self.context.clock.monotonic() - since < _FAILURE_LIFETIME:
            raise error

    def _open(self, destination: _D) -> Cluster:
        """Connect to the cluster of a destination, and check that it is the recorded one.

        Raises:
            CalibanError: see :meth:`cluster`.
        """
        connection, name = self._connection(destination)
        cluster = Cluster(connection, name, self.context, self._retry_policy)
        if destination.is_identified:
            uid = (cluster.system_uid() or "") if destination.cluster_uid else ""
            if not destination.is_same_cluster(uid, cluster.server):
                raise another_cluster(destination, cluster, uid)
        return cluster

    def _identified(self, destination: _D) -> _D:
        """Return a destination with what its cluster is recognised by; the client is kept for it.

        Raises:
            UsageError: ``malformed-destination``.
            CalibanError: the cluster cannot be asked.
        """
        destination.check()
        cluster = self.cluster(destination)
        known = replace(destination, cluster_uid=cluster.system_uid() or "", cluster_server=cluster.server)
        with self._lock:
            self._clusters[replace(known, namespace="default")] = cluster
        return known


def another_cluster(destination: ClusterDestination, cluster: Cluster, uid: str) -> PlatformError:
    """Return the error for a cluster that is not the recorded one, although it has its name."""
    recorded, found = destination.cluster_uid or destination.cluster_server, uid or cluster.server
    return ClusterMissingError(
        "another-cluster",
        f"the {cluster.name} is not the one where the job was submitted",
        cause=f"recorded: {recorded}; found: {found}",
        hint="use the kubeconfig of that cluster (set $KUBECONFIG); a cluster that was created again is another one, "
        "and the jobs of the earlier one are gone",
    )
