"""Jobs that caliban's own flags do not make, on a real cluster, and what the platform says of them."""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from caliban.clock import SystemClock
from caliban.platforms.kubernetes.details import KubeconfigDestination, job_details
from caliban.platforms.kubernetes.kubeconfig_platform import KubeconfigPlatform
from caliban.records import JobRecord, JobStatus, JobUpdate
from tests.e2e.conftest import wait_until
from tests.platforms.kubernetes.helpers import job_record, platform_context
from tests.real_cluster.conftest import CONTEXT, IMAGE, TIMEOUT, RealCluster

CONTAINER = "main"


def kubectl(*arguments: str, stdin: str = "") -> str:
    command = ["kubectl", "--context", CONTEXT, *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=True).stdout


def new_platform() -> KubeconfigPlatform:
    location = os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
    context = platform_context(kubeconfig=Path(location))
    return KubeconfigPlatform(replace(context, clock=SystemClock()))


@dataclass(frozen=True)
class Jobs:
    """Makes jobs, which the fixture ``real`` deletes.

    Attributes:
        real: the cluster.
        platform: of another process than the one that submits.
    """

    real: RealCluster
    platform: KubeconfigPlatform

    @property
    def namespace(self) -> str:
        return self.real.namespace

    @property
    def image(self) -> str:
        """An image whose entrypoint is sh."""
        return IMAGE

    def create(
        self,
        script: str,
        *,
        spec: Mapping[str, Any] | None = None,
        pod: Mapping[str, Any] | None = None,
        container: Mapping[str, Any] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> JobRecord:
        """Create a job that runs ``sh -c SCRIPT``; return it as caliban records it."""
        labels = {"caliban.token": uuid.uuid4().hex[:16], "caliban.group": self.real.group, **(labels or {})}
        own = {"name": CONTAINER, "image": IMAGE, "args": ["-c", script], **(container or {})}
        containers = [own, *(pod or {}).get("also", [])]
        pod_spec = {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            **{key: value for key, value in (pod or {}).items() if key != "also"},
            "containers": containers,
        }
        template = {"metadata": {"labels": labels}, "spec": pod_spec}
        body = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": f"{CONTAINER}-{uuid.uuid4().hex[:10]}", "labels": labels},
            "spec": {"backoffLimit": 0, **(spec or {}), "template": template},
        }
        created = self.real.cluster.create_job(self.namespace, body)
        destination = KubeconfigDestination(CONTEXT, namespace=self.namespace)
        return job_record(job_details(destination, created, CONTAINER))

    def now(self, job: JobRecord) -> JobRecord:
        """Return the job as its platform reports it now."""
        update = self.platform.statuses([job])[job.id]
        assert isinstance(update, JobUpdate), update
        return job.updated(update)

    def ended(self, job: JobRecord) -> JobRecord:
        """Wait for the end of a job."""
        return self.wait_for(job, is_final=True)

    def wait_for(self, job: JobRecord, text: str = "", *, is_final: bool = False) -> JobRecord:
        """Wait until a job has a reason with this text, or has ended."""
        found: list[JobRecord] = []

        def is_there() -> bool:
            found.append(self.now(job))
            return found[-1].status.is_final if is_final else text in str(found[-1].reason)

        wait_until(is_there, TIMEOUT)
        return found[-1]

    def wait_until_running(self, job: JobRecord) -> None:
        wait_until(lambda: self.now(job).status is JobStatus.RUNNING and len(self.pods(job)) > 0, TIMEOUT)

    def pods(self, job: JobRecord) -> list[Any]:
        found = kubectl("get", "pods", "-n", self.namespace, "-l", f"job-name={job.details.display_name}", "-o", "json")
        return list(json.loads(found)["items"])


@contextmanager
def namespace_with(real: RealCluster, *quota: str) -> Iterator[None]:
    """A namespace of the test, with a quota."""
    name, before = f"caliban-{uuid.uuid4().hex[:10]}", real.namespace
    kubectl("create", "namespace", name)
    real.namespace = name
    try:
        if quota:
            kubectl("create", "quota", "lab", "-n", name, *quota)
        yield
    finally:
        real.namespace = before
        kubectl("delete", "namespace", name, "--wait=false")
