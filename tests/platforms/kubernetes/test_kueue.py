"""What Kueue says of jobs that it keeps suspended; the conditions are those of Kueue 0.17 on a real cluster."""

from __future__ import annotations

from typing import Any

import pytest

from caliban.platforms.kubernetes.kubeconfig_platform import KubeconfigPlatform
from caliban.records import JobStatus
from tests.fakes import RecordingReporter
from tests.platforms.kubernetes.helpers import DESTINATION
from tests.platforms.kubernetes.test_statuses import LIST, jobs_at, outcomes, queried
from tests.standins.kubernetes import KubeApi
from tests.standins.kubernetes.status import JOBS, WORKLOADS

FULL = (
    "couldn't assign flavors to pod set main: insufficient unused quota for cpu in flavor default-flavor, 50m more "
    "needed"
)
WORKLOADS_LIST = "workloads.list"


def condition(kind: str, status: str, reason: str, message: str) -> dict[str, str]:
    return {"type": kind, "status": status, "reason": reason, "message": message}


PENDING = condition("QuotaReserved", "False", "Pending", FULL)
RESERVED = condition("QuotaReserved", "True", "QuotaReserved", "Quota reserved in ClusterQueue team-cq")
UNCHECKED = condition("Admitted", "False", "UnsatisfiedChecks", "The workload has not all checks ready")
ADMITTED = condition("Admitted", "True", "Admitted", "The workload is admitted")
PREEMPTED = condition("Evicted", "True", "Preempted", "Preempted to accommodate a workload (UID: 1, JobUID: 2)")
DEACTIVATED = condition("Evicted", "True", "Deactivated", "The workload is deactivated")
AFTER_PREEMPTION = condition("QuotaReserved", "False", "Pending", PREEMPTED["message"])


def hold(
    cluster: KubeApi,
    name: str,
    *conditions: dict[str, str],
    queue: str | None = "team",
    created: str = "2026-11-27T21:23:49Z",
    **more: Any,
) -> None:
    """Let Kueue have a workload for a job, which it keeps suspended."""
    cluster.jobs.suspend(name)
    job = cluster.jobs.get(name)
    if queue:
        with cluster.state.change(JOBS, "default", name) as changed:
            changed["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] = queue
    uid = job["metadata"]["uid"]
    metadata = {"name": f"job-{name}-{created[-3:-1]}", "namespace": "default", "creationTimestamp": created}
    labels = {"kueue.x-k8s.io/job-uid": uid}
    spec = {"active": more.pop("active", True), "queueName": queue or more.pop("queue_name", "")}
    status = {"conditions": list(conditions), **more}
    cluster.state.add(WORKLOADS, {"metadata": {**metadata, "labels": labels}, "spec": spec, "status": status})


@pytest.fixture
def kueue(cluster: KubeApi) -> KubeApi:
    """The cluster, with Kueue."""
    cluster.kueue = ("v1beta2", "v1beta1")
    return cluster


@pytest.mark.parametrize(
    ("conditions", "more", "reason"),
    [
        ([PENDING], {}, f"waiting in the Kueue queue team: {FULL}"),
        ([], {}, "waiting in the Kueue queue team"),
        (
            [condition("QuotaReserved", "False", "Inadmissible", "LocalQueue team doesn't exist")],
            {},
            "waiting in the Kueue queue team: LocalQueue team doesn't exist",
        ),
        ([AFTER_PREEMPTION, PREEMPTED], {}, f"waiting in the Kueue queue team: {PREEMPTED['message']}"),
        ([PENDING, DEACTIVATED], {"active": False}, "stopped by Kueue: The workload is deactivated"),
        ([RESERVED, ADMITTED], {}, "admitted by Kueue, starts soon"),
        (
            [RESERVED, UNCHECKED],
            {"admissionChecks": [{"name": "nodes", "state": "Pending", "message": "Waiting for capacity"}]},
            "waiting in the Kueue queue team: the admission check nodes is pending: Waiting for capacity",
        ),
        (
            [RESERVED, UNCHECKED],
            {"admissionChecks": [{"name": "nodes", "state": "Ready", "message": ""}]},
            "waiting in the Kueue queue team: The workload has not all checks ready",
        ),
        ([PENDING], {"queue": None}, f"waiting for Kueue: {FULL}"),
        ([PENDING], {"queue": None, "queue_name": "all"}, f"waiting in the Kueue queue all: {FULL}"),
    ],
)
def test_a_job_in_a_queue_says_what_it_waits_for(
    kueue: KubeApi, platform: KubeconfigPlatform, conditions: list[dict[str, str]], more: dict[str, Any], reason: str
) -> None:
    jobs = jobs_at(platform, 1)
    hold(kueue, "job-1", *conditions, **more)
    expected = (JobStatus.SUBMITTED, f"suspended: {reason}")
    assert outcomes(platform, jobs) == {1: expected}
    (listed,) = platform.listing(DESTINATION)
    assert (listed.state.status, listed.state.reason) == expected


def test_the_newest_workload_of_a_job_counts(kueue: KubeApi, platform: KubeconfigPlatform) -> None:
    jobs = jobs_at(platform, 1)
    hold(kueue, "job-1", PENDING)
    hold(kueue, "job-1", DEACTIVATED, created="2026-11-27T21:20:00Z", active=False)
    assert outcomes(platform, jobs) == {1: (JobStatus.SUBMITTED, f"suspended: waiting in the Kueue queue team: {FULL}")}


@pytest.mark.parametrize("versions", [(), ("v1beta1",)])
def test_a_cluster_with_an_older_kueue_or_none_is_asked_likewise(
    cluster: KubeApi, platform: KubeconfigPlatform, reporter: RecordingReporter, versions: tuple[str, ...]
) -> None:
    cluster.kueue = versions
    jobs = jobs_at(platform, 1)
    hold(cluster, "job-1", PENDING)
    why = f": {FULL}" if versions else ""
    assert outcomes(platform, jobs) == {1: (JobStatus.SUBMITTED, f"suspended: waiting in the Kueue queue team{why}")}
    assert (queried(cluster), reporter.lines) == ({LIST: 1, WORKLOADS_LIST: 2}, [])


def test_without_the_permission_for_workloads_the_queue_is_named(
    kueue: KubeApi, platform: KubeconfigPlatform, reporter: RecordingReporter
) -> None:
    jobs = jobs_at(platform, 2)
    hold(kueue, "job-1", PENDING)
    kueue.jobs.suspend("job-2")
    kueue.forbidden.add(WORKLOADS_LIST)
    assert outcomes(platform, jobs) == {
        1: (JobStatus.SUBMITTED, "suspended: waiting in the Kueue queue team"),
        2: (JobStatus.SUBMITTED, "suspended"),
    }
    assert reporter.lines == []


def test_workloads_are_asked_for_only_where_a_job_is_suspended(kueue: KubeApi, platform: KubeconfigPlatform) -> None:
    jobs = jobs_at(platform, 2)
    kueue.jobs.start("job-1")
    outcomes(platform, jobs)
    assert WORKLOADS_LIST not in queried(kueue)
