"""Jobs that Kueue keeps suspended, on a real cluster.

Kueue itself does not run here, but the definition of its workloads, with conditions that Kueue 0.17 has set on such a
cluster. Only the fields that are read are defined.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from caliban.records import JobRecord, JobStatus
from tests.e2e.conftest import wait_until
from tests.real_cluster.conftest import TIMEOUT, RealCluster
from tests.real_cluster.jobs import Jobs, kubectl, namespace_with, new_platform

FULL = (
    "couldn't assign flavors to pod set main: insufficient unused quota for cpu in flavor default-flavor, 50m more "
    "needed"
)
QUEUE = {"kueue.x-k8s.io/queue-name": "team"}
_OPEN = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
_SCHEMA = {"openAPIV3Schema": {"type": "object", "properties": {"spec": _OPEN, "status": _OPEN}}}
DEFINITION = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "workloads.kueue.x-k8s.io"},
    "spec": {
        "group": "kueue.x-k8s.io",
        "scope": "Namespaced",
        "names": {"kind": "Workload", "listKind": "WorkloadList", "plural": "workloads", "singular": "workload"},
        "versions": [
            {"name": "v1beta1", "served": True, "storage": False, "schema": _SCHEMA},
            {"name": "v1beta2", "served": True, "storage": True, "schema": _SCHEMA},
        ],
    },
}


@pytest.fixture
def jobs(real: RealCluster) -> Iterator[Jobs]:
    with namespace_with(real):
        yield Jobs(real, new_platform())


@pytest.fixture
def kueue() -> Iterator[None]:
    kubectl("apply", "-f", "-", stdin=json.dumps(DEFINITION))
    name = DEFINITION["metadata"]["name"]  # type: ignore[index]
    kubectl("wait", "--for=condition=Established", f"crd/{name}", "--timeout=60s")
    yield
    kubectl("delete", "crd", name)


def held_job(jobs: Jobs) -> JobRecord:
    return jobs.create("true", spec={"suspend": True}, labels=QUEUE)


def add_workload(jobs: Jobs, job: JobRecord, *conditions: dict[str, str], **spec: Any) -> None:
    metadata = {
        "name": f"job-{job.details.display_name}",
        "namespace": jobs.namespace,
        "labels": {"kueue.x-k8s.io/job-uid": job.details.id},
    }
    body = {
        "apiVersion": "kueue.x-k8s.io/v1beta2",
        "kind": "Workload",
        "metadata": metadata,
        "spec": {"active": True, "queueName": "team", **spec},
        "status": {"conditions": list(conditions)},
    }
    kubectl("apply", "-f", "-", stdin=json.dumps(body))


def test_without_kueue_a_job_with_its_label_names_its_queue(jobs: Jobs) -> None:
    job = jobs.wait_for(held_job(jobs), "suspended")
    assert (job.status, job.reason) == (JobStatus.SUBMITTED, "suspended: waiting in the Kueue queue team")


def test_what_kueue_waits_for_is_the_reason_until_the_job_runs(jobs: Jobs, kueue: None) -> None:
    job, stopped = held_job(jobs), held_job(jobs)
    pending = {"type": "QuotaReserved", "status": "False", "reason": "Pending", "message": FULL}
    evicted = {"type": "Evicted", "status": "True", "reason": "Deactivated", "message": "The workload is deactivated"}
    add_workload(jobs, job, pending)
    add_workload(jobs, stopped, pending, evicted, active=False)
    assert jobs.now(job).reason == f"suspended: waiting in the Kueue queue team: {FULL}"
    assert jobs.now(stopped).reason == "suspended: stopped by Kueue: The workload is deactivated"
    name = str(job.details.display_name)
    kubectl("patch", "job", name, "-n", jobs.namespace, "-p", '{"spec": {"suspend": false}}')
    wait_until(lambda: jobs.now(job).status is JobStatus.SUCCEEDED, TIMEOUT)
