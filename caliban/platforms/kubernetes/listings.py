"""What ``cluster ls`` and ``cluster job ls`` list: as lines for people, as JSON for scripts. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from caliban.clock import rfc3339
from caliban.platforms.kubernetes.gke_client import GkeCluster
from caliban.platforms.kubernetes.job_states import ListedJob
from caliban.platforms.kubernetes.kubeconfig import KubeContext
from caliban.platforms.stored_json import parse_time
from caliban.records import JsonObject


@dataclass(frozen=True)
class ProjectClusters:
    """The clusters of a Google Cloud project.

    Attributes:
        project: its id.
        clusters: by name.
        missing_zones: zones that did not respond; they may have more clusters.
    """

    project: str
    clusters: tuple[GkeCluster, ...]
    missing_zones: tuple[str, ...] = ()

    def lines(self) -> Iterator[str]:
        """Yield a heading, and a line for each cluster."""
        yield (
            f"GKE clusters of project {self.project}:"
            if self.clusters
            else f"project {self.project} has no GKE clusters"
        )
        names = max((len(cluster.name) for cluster in self.clusters), default=0)
        locations = max((len(cluster.location) for cluster in self.clusters), default=0)
        for each in self.clusters:
            nodes = f"{each.nodes} node{'' if each.nodes == 1 else 's'}"
            yield f"  {each.name:{names}}  {each.location:{locations}}  {each.status:12}  {each.version}  {nodes}"

    def to_json(self) -> JsonObject:
        """Return the project and its clusters."""
        clusters = [
            {
                "name": each.name,
                "location": each.location,
                "status": each.status,
                "version": each.version,
                "nodes": each.nodes,
            }
            for each in self.clusters
        ]
        return {"project": self.project, "clusters": clusters, "missing_zones": list(self.missing_zones)}


@dataclass(frozen=True)
class ClusterListing:
    """The clusters that jobs can be submitted to.

    Attributes:
        kubeconfig: where the kubeconfig is, for people.
        exists: whether there is one.
        contexts: of the kubeconfig, and that of the pod that this process runs in.
        project: the clusters of a project; None where none was asked for.
    """

    kubeconfig: str
    exists: bool
    contexts: tuple[KubeContext, ...]
    project: ProjectClusters | None = None

    def context_lines(self) -> Iterator[str]:
        """Yield the contexts."""
        if self.contexts:
            kubeconfig = f"contexts of the kubeconfig {self.kubeconfig}:"
            yield kubeconfig if self.exists else f"no kubeconfig: {self.kubeconfig}; the cluster of this pod:"
            width = max(len(each.name) for each in self.contexts)
            for each in self.contexts:
                mark = "*" if each.is_current else " "
                yield f"{mark} {each.name:{width}}  {each.server or '(no server)'}  namespace: {each.namespace}"
        elif self.exists:
            yield f"no contexts in the kubeconfig {self.kubeconfig}"
        else:
            yield f"no kubeconfig: {self.kubeconfig}"

    def project_lines(self) -> Iterator[str]:
        """Yield the clusters of the project, or how to list them."""
        yield ""
        if self.project is not None:
            yield from self.project.lines()
        else:
            yield "for the GKE clusters of a project, add --project_id"

    def to_json(self) -> JsonObject:
        """Return the listing; ``project`` is null where none was asked for."""
        contexts = [
            {
                "name": each.name,
                "cluster": each.cluster,
                "server": each.server or None,
                "namespace": each.namespace,
                "is_current": each.is_current,
            }
            for each in self.contexts
        ]
        return {
            "kubeconfig": self.kubeconfig if self.exists else None,
            "contexts": contexts,
            "project": self.project.to_json() if self.project else None,
        }


@dataclass(frozen=True)
class JobListing:
    """The jobs in a namespace.

    Attributes:
        cluster: its name, for people.
        namespace: which.
        jobs: newest first.
    """

    cluster: str
    namespace: str
    jobs: tuple[ListedJob, ...]

    def lines(self) -> Iterator[str]:
        """Yield a heading, and a line for each job."""
        where = f"{self.cluster}, namespace {self.namespace}"
        yield f"jobs of the {where}:" if self.jobs else f"no jobs in the {where}"
        width = max((len(job.name) for job in self.jobs), default=0)
        for job in self.jobs:
            group = f"  group: {job.group}" if job.group else ""
            reason = f"  ({job.state.reason})" if job.state.reason else ""
            yield f"  {job.name:{width}}  {job.state.status:9}  {job.created}{group}{reason}"

    def to_json(self) -> JsonObject:
        """Return the listing."""
        jobs = [
            {
                "name": job.name,
                "state": job.state.status.value,
                "created": rfc3339(created) if (created := parse_time(job.created)) else None,
                "group": job.group,
                "reason": job.state.reason or None,
            }
            for job in self.jobs
        ]
        return {"cluster": self.cluster, "namespace": self.namespace, "jobs": jobs}
