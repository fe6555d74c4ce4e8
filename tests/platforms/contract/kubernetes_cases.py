"""KUBERNETES and GKE, with a stand-in cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar

from caliban.platforms.base import Platform
from caliban.platforms.kubernetes.gke_platform import GkePlatform
from caliban.platforms.kubernetes.kubeconfig_platform import KubeconfigPlatform
from caliban.platforms.kubernetes.launch import LAUNCHER
from caliban.records import JobRecord
from tests.platforms.contract.case import ContractCase
from tests.standins.container_v1 import ContainerV1, GkeCluster
from tests.standins.faults import Fault
from tests.standins.kubernetes import KubeApi
from tests.standins.kubernetes.status import JOBS

PROJECT, CLUSTER, ZONE = "totoro-project", "blueshift", "us-central1-a"
FOREVER = 1_000_000


class KubeconfigCase(ContractCase):
    """A cluster of a kubeconfig."""

    platform_class: ClassVar[type[Platform]] = KubeconfigPlatform
    launcher = LAUNCHER
    flags: Sequence[str] = ("--nogpu",)
    images = (f"gcr.io/{PROJECT}/cffd1475aaca:latest", f"gcr.io/{PROJECT}/81b2087b5026:latest")

    @contextmanager
    def service(self) -> Iterator[None]:
        with KubeApi("1.33") as self.cluster:
            self.environ = {"KUBECONFIG": str(self.cluster.write_kubeconfig(self.directory / "kubeconfig"))}
            yield

    def started(self) -> int:
        return len(self.cluster.state.items(JOBS))

    def requests(self) -> int:
        return self.cluster.counts.total()

    def lose_answer(self) -> None:
        self.cluster.faults.add(Fault("jobs.create", "drop"))

    def refuse(self) -> None:
        self.cluster.forbidden.add("jobs.create")

    def disconnect(self) -> None:
        self.cluster.faults.add(Fault("*", "refuse", FOREVER))

    def throttle(self) -> None:
        self.cluster.faults.add(Fault("jobs.create", "status", FOREVER, status=429, retry_after="1"))

    def end(self, job: JobRecord, *, succeeded: bool) -> None:
        name = str(job.details.display_name)
        if not self.cluster.jobs.pods(name):
            self.cluster.jobs.start(name)
        if succeeded:
            self.cluster.jobs.succeed(name)
        else:
            self.cluster.jobs.fail(name)

    def remove(self, job: JobRecord) -> None:
        self.cluster.jobs.remove(str(job.details.display_name))

    def write(self, job: JobRecord, data: bytes) -> None:
        name = str(job.details.display_name)
        if not self.cluster.jobs.pods(name):
            self.cluster.jobs.start(name)
        self.cluster.logs.write(self.cluster.jobs.pods(name)[-1], data)

    def forget_output(self, job: JobRecord) -> None:
        self.cluster.jobs.remove_pods(str(job.details.display_name))


class GkeCase(KubeconfigCase):
    """A cluster of GKE."""

    platform_class = GkePlatform

    @contextmanager
    def service(self) -> Iterator[None]:
        with ContainerV1({PROJECT}) as gke, KubeApi("1.33", accepts=gke.account.accepts) as self.cluster:
            self.cluster.access.tokens.clear()
            gke.add(PROJECT, GkeCluster(CLUSTER, ZONE, self.cluster))
            key = gke.write_key_file(self.directory / "key.json")
            self.environ = {"CLOUDSDK_API_ENDPOINT_OVERRIDES_CONTAINER": gke.url}
            self.flags = ("--nogpu", "--cluster_name", CLUSTER, "--project_id", PROJECT, "--cloud_key", str(key))
            yield
