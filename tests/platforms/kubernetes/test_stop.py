"""Stop a job: it is deleted with its pods, unless it has ended or is another job by now."""

from __future__ import annotations

from datetime import timezone
from typing import Any

import pytest

from caliban.errors import PlatformError
from caliban.platforms.kubernetes.errors import KubernetesError
from caliban.platforms.kubernetes.kubeconfig_platform import KubeconfigPlatform
from caliban.records import FailureCause, JobExit, JobRecord, JobStatus, JobUpdate, JsonObject
from tests.fake_service import may_send
from tests.platforms.kubernetes.helpers import NAME, PEER_SPEC, job_record, record_of, submission
from tests.standins.faults import Fault
from tests.standins.kubernetes import KubeApi
from tests.standins.kubernetes.controller import finished
from tests.standins.kubernetes.status import JOBS, PODS
from tests.standins.serving import Answer, Call

DELETE, GET = "jobs.delete", "jobs.get"
NOT_FOUND = "the job no longer exists on the cluster"


@pytest.fixture
def job(platform: KubeconfigPlatform) -> JobRecord:
    return record_of(platform.submit(PEER_SPEC, submission(), may_send))


def stored(update: JobUpdate) -> JsonObject:
    """Return what an update records, beside what was recorded before."""
    keys = ("reason", "ret_code", "cause", "started", "ended")
    return {} if update.details is None else {key: update.details.raw[key] for key in keys if key in update.details.raw}


def test_a_running_job_is_deleted_with_its_pods(cluster: KubeApi, platform: KubeconfigPlatform, job: JobRecord) -> None:
    cluster.jobs.start(NAME)
    there = cluster.jobs.get(NAME)["metadata"]
    update = platform.stop(job)
    now = platform.context.clock.now().astimezone(timezone.utc)
    assert update.status is JobStatus.STOPPED
    assert update.details is not None
    assert (update.details.exit, update.details.ended) == (JobExit(cause=FailureCause.STOPPED), now)
    assert (cluster.state.items(JOBS), cluster.state.items(PODS)) == ([], [])
    assert cluster.bodies(DELETE) == [
        {
            "propagationPolicy": "Background",
            "preconditions": {"uid": there["uid"], "resourceVersion": there["resourceVersion"]},
        }
    ]
    assert (cluster.counts[GET], cluster.counts[DELETE]) == (1, 1)


def test_a_suspended_job_that_is_stopped_keeps_no_reason(
    cluster: KubeApi, platform: KubeconfigPlatform, job: JobRecord
) -> None:
    known = job_record({**job.details.raw, "reason": "suspended"})
    assert "reason" not in stored(platform.stop(known))


@pytest.mark.parametrize(
    ("step", "expected", "exit"),
    [
        ("succeed", JobStatus.SUCCEEDED, JobExit(0)),
        ("fail", JobStatus.FAILED, JobExit(1, FailureCause.CODE_ERROR, "exit code 1")),
    ],
)
def test_a_job_that_has_ended_is_not_deleted_and_its_end_recorded(
    cluster: KubeApi, platform: KubeconfigPlatform, job: JobRecord, step: str, expected: JobStatus, exit: JobExit
) -> None:
    while not finished(cluster.jobs.get(NAME)):
        cluster.jobs.step(step, NAME)
    update = platform.stop(job)
    assert update.details is not None
    assert (update.status, update.details.exit) == (expected, exit)
    assert None not in (update.details.started, update.details.ended)
    assert cluster.counts[DELETE] == 0


def when_deleted(cluster: KubeApi, monkeypatch: pytest.MonkeyPatch, happens: Any, times: int = 1) -> None:
    """Let something happen between the lookup of a job and its deletion."""
    real, count = cluster.answer, 0

    def answer(call: Call, fault: Fault | None) -> Answer:
        nonlocal count
        if call.verb == "DELETE" and count < times:
            count += 1
            happens()
        return real(call, fault)

    monkeypatch.setattr(cluster, "answer", answer)


def test_a_job_that_ends_before_its_deletion_is_not_deleted(
    cluster: KubeApi, platform: KubeconfigPlatform, job: JobRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    when_deleted(cluster, monkeypatch, lambda: cluster.jobs.succeed(NAME))
    assert platform.stop(job).status is JobStatus.SUCCEEDED
    assert finished(cluster.jobs.get(NAME))
    assert (cluster.counts[GET], cluster.counts[DELETE]) == (2, 1)


def test_a_job_that_changes_before_its_deletion_is_looked_up_again_and_deleted(
    cluster: KubeApi, platform: KubeconfigPlatform, job: JobRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    when_deleted(cluster, monkeypatch, lambda: cluster.jobs.start(NAME))
    assert platform.stop(job).status is JobStatus.STOPPED
    assert (cluster.counts[GET], cluster.counts[DELETE]) == (2, 2)


def test_a_job_that_keeps_changing_is_an_error(
    cluster: KubeApi, platform: KubeconfigPlatform, job: JobRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = iter(["suspend", "resume"] * 5)
    when_deleted(cluster, monkeypatch, lambda: cluster.jobs.step(next(steps), NAME), times=10)
    with pytest.raises(PlatformError) as caught:
        platform.stop(job)
    assert (caught.value.id, cluster.counts[DELETE]) == ("job-keeps-changing", 5)


def test_a_job_that_does_not_exist_is_unknown(cluster: KubeApi, platform: KubeconfigPlatform, job: JobRecord) -> None:
    cluster.jobs.remove(NAME)
    update = platform.stop(job)
    assert (update.status, stored(update)) == (JobStatus.UNKNOWN, {"reason": NOT_FOUND})


def test_a_job_that_another_user_deletes_first_is_unknown(
    cluster: KubeApi, platform: KubeconfigPlatform, job: JobRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    when_deleted(cluster, monkeypatch, lambda: cluster.jobs.remove(NAME))
    update = platform.stop(job)
    assert (update.status, stored(update)) == (JobStatus.UNKNOWN, {"reason": NOT_FOUND})


def test_a_later_job_of_the_same_name_is_not_deleted(
    cluster: KubeApi, platform: KubeconfigPlatform, job: JobRecord
) -> None:
    cluster.jobs.remove(NAME)
    platform.submit(PEER_SPEC, submission(), may_send)
    update = platform.stop(job)
    assert (update.status, stored(update)) == (JobStatus.UNKNOWN, {"reason": NOT_FOUND})
    assert cluster.counts[DELETE] == 0


@pytest.mark.parametrize("kind", ["refuse", "drop", "garbage"])
def test_a_job_whose_deletion_got_no_response_is_stopped(
    cluster: KubeApi, platform: KubeconfigPlatform, job: JobRecord, kind: Any
) -> None:
    cluster.faults.add(Fault(DELETE, kind))
    assert platform.stop(job).status is JobStatus.STOPPED
    assert cluster.state.items(JOBS) == []


def test_a_job_that_may_not_be_deleted_is_an_error(
    cluster: KubeApi, platform: KubeconfigPlatform, job: JobRecord
) -> None:
    cluster.forbidden.add(DELETE)
    with pytest.raises(KubernetesError) as caught:
        platform.stop(job)
    assert caught.value.message == f"cannot stop the job {NAME} of the cluster of the context lab: permission denied"
    assert 'cannot delete resource "jobs"' in str(caught.value.cause)


def test_a_job_without_a_recorded_destination_cannot_be_stopped(cluster: KubeApi, platform: KubeconfigPlatform) -> None:
    with pytest.raises(PlatformError) as caught:
        platform.stop(job_record({"context": "lab"}))
    assert (caught.value.id, cluster.requests) == ("malformed-job-details", [])
