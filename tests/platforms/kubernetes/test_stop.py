"""Stopping a job: it is deleted with its pods, if it is still the very one that was meant and has not ended."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from caliban.errors import PlatformError
from caliban.platforms.base import JobUpdate
from caliban.platforms.kubernetes.errors import KubernetesError
from caliban.platforms.kubernetes.kubeconfig_platform import KubeconfigPlatform
from caliban.records import JobRecord, JobStatus
from tests.platforms.kubernetes.helpers import NAME, PEER_SPEC, job_record, submission, record_of
from tests.standins.faults import Fault
from tests.standins.kubernetes import KubeApi
from tests.standins.kubernetes.controller import finished
from tests.standins.kubernetes.status import JOBS, PODS
from tests.standins.serving import Answer, Call

DELETE, GET = "jobs.delete", "jobs.get"
GONE = "the cluster has this job no longer"


@pytest.fixture
def job(platform: KubeconfigPlatform) -> JobRecord:
    return record_of(platform.submit(PEER_SPEC, submission()))


def test_a_running_job_is_deleted_with_its_pods(cluster: KubeApi, platform: KubeconfigPlatform, job: JobRecord) -> None:
    cluster.jobs.start(NAME)
    there = cluster.jobs.get(NAME)["metadata"]
    assert platform.stop(job) == JobUpdate(JobStatus.STOPPED)
    assert (cluster.state.items(JOBS), cluster.state.items(PODS)) == ([], [])
    assert cluster.bodies(DELETE) == [
        {
            "propagationPolicy": "Background",
            "preconditions": {"uid": there["uid"], "resourceVersion": there["resourceVersion"]},
        }
    ]
    assert (cluster.counts[GET], cluster.counts[DELETE]) == (1, 1)


def test_a_job_that_was_suspended_and_is_stopped_keeps_no_reason(
    cluster: KubeApi, platform: KubeconfigPlatform, job: JobRecord
) -> None:
    known = replace(job, details={**job.details, "reason": "suspended"})
    assert platform.stop(known) == JobUpdate(JobStatus.STOPPED, job.details)


@pytest.mark.parametrize(
    ("step", "expected", "reason"),
    [
        ("succeed", JobStatus.SUCCEEDED, None),
        ("fail", JobStatus.FAILED, "BackoffLimitExceeded: Job has reached the specified backoff limit"),
    ],
)
def test_a_job_that_has_ended_is_left_alone(
    cluster: KubeApi, platform: KubeconfigPlatform, job: JobRecord, step: str, expected: JobStatus, reason: str | None
) -> None:
    while not finished(cluster.jobs.get(NAME)):
        cluster.jobs.step(step, NAME)
    details = {**job.details, "reason": reason} if reason else None
    assert platform.stop(job) == JobUpdate(expected, details)
    assert cluster.counts[DELETE] == 0


def when_deleted(cluster: KubeApi, monkeypatch: pytest.MonkeyPatch, happens: Any, times: int = 1) -> None:
    """Let something happen between the look at a job and its deletion."""
    real, count = cluster.answer, 0

    def answer(call: Call, fault: Fault | None) -> Answer:
        nonlocal count
        if call.verb == "DELETE" and count < times:
            count += 1
            happens()
        return real(call, fault)

    monkeypatch.setattr(cluster, "answer", answer)


def test_a_job_that_ends_meanwhile_is_not_deleted(
    cluster: KubeApi, platform: KubeconfigPlatform, job: JobRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    when_deleted(cluster, monkeypatch, lambda: cluster.jobs.succeed(NAME))
    assert platform.stop(job) == JobUpdate(JobStatus.SUCCEEDED)
    assert finished(cluster.jobs.get(NAME))
    assert (cluster.counts[GET], cluster.counts[DELETE]) == (2, 1)


def test_a_job_that_changes_meanwhile_is_looked_at_again_and_deleted(
    cluster: KubeApi, platform: KubeconfigPlatform, job: JobRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    when_deleted(cluster, monkeypatch, lambda: cluster.jobs.start(NAME))
    assert platform.stop(job) == JobUpdate(JobStatus.STOPPED)
    assert (cluster.counts[GET], cluster.counts[DELETE]) == (2, 2)


def test_a_job_that_keeps_changing_is_told(
    cluster: KubeApi, platform: KubeconfigPlatform, job: JobRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = iter(["suspend", "resume"] * 5)
    when_deleted(cluster, monkeypatch, lambda: cluster.jobs.step(next(steps), NAME), times=10)
    with pytest.raises(PlatformError) as caught:
        platform.stop(job)
    assert (caught.value.id, cluster.counts[DELETE]) == ("job-keeps-changing", 5)


def test_a_job_that_is_gone_is_unknown(cluster: KubeApi, platform: KubeconfigPlatform, job: JobRecord) -> None:
    cluster.jobs.remove(NAME)
    assert platform.stop(job) == JobUpdate(JobStatus.UNKNOWN, {**job.details, "reason": GONE})


def test_a_job_that_somebody_else_deletes_meanwhile_is_unknown(
    cluster: KubeApi, platform: KubeconfigPlatform, job: JobRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    when_deleted(cluster, monkeypatch, lambda: cluster.jobs.remove(NAME))
    assert platform.stop(job) == JobUpdate(JobStatus.UNKNOWN, {**job.details, "reason": GONE})


def test_a_later_job_of_the_same_name_is_left_alone(
    cluster: KubeApi, platform: KubeconfigPlatform, job: JobRecord
) -> None:
    cluster.jobs.remove(NAME)
    platform.submit(PEER_SPEC, submission())
    assert platform.stop(job) == JobUpdate(JobStatus.UNKNOWN, {**job.details, "reason": GONE})
    assert cluster.counts[DELETE] == 0


@pytest.mark.parametrize("kind", ["refuse", "drop", "garbage"])
def test_a_job_whose_deletion_got_no_answer_is_stopped(
    cluster: KubeApi, platform: KubeconfigPlatform, job: JobRecord, kind: Any
) -> None:
    cluster.faults.add(Fault(DELETE, kind))
    assert platform.stop(job) == JobUpdate(JobStatus.STOPPED)
    assert cluster.state.items(JOBS) == []


def test_a_job_that_may_not_be_deleted_is_told(cluster: KubeApi, platform: KubeconfigPlatform, job: JobRecord) -> None:
    cluster.forbidden.add(DELETE)
    with pytest.raises(KubernetesError) as caught:
        platform.stop(job)
    assert caught.value.message == f"cannot stop the job {NAME} of the cluster of the context lab: permission denied"
    assert 'cannot delete resource "jobs"' in str(caught.value.cause)


def test_a_job_whose_place_is_not_recorded_cannot_be_stopped(cluster: KubeApi, platform: KubeconfigPlatform) -> None:
    with pytest.raises(PlatformError) as caught:
        platform.stop(job_record({"context": "lab"}))
    assert (caught.value.id, cluster.requests) == ("malformed-job-details", [])
