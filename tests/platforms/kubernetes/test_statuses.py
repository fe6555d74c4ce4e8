"""The states of many jobs in few requests, which are counted; jobs and clusters that no longer exist."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from caliban.platforms.kubernetes import client as kubernetes_client
from caliban.platforms.kubernetes.details import JobState, KubeconfigDestination
from caliban.platforms.kubernetes.kubeconfig_platform import KubeconfigPlatform
from caliban.records import FailureCause, JobExit, JobRecord, JobStatus, JobUpdate, StatusUnavailable
from tests.fake_service import may_send
from tests.fakes import RecordingReporter
from tests.platforms.kubernetes.helpers import (
    DESTINATION,
    PEER_SPEC,
    QUICK,
    job_record,
    platform_context,
    record_of,
    submission,
)
from tests.standins.faults import Fault
from tests.standins.kubernetes import KubeApi
from tests.standins.kubernetes.controller import finished
from tests.standins.kubernetes.status import JOBS
from tests.standins.serving import Answer, Call

LIST, PODS, EVENTS = "jobs.list", "pods.list", "events.list"
LIMIT_EXCEEDED = "BackoffLimitExceeded: Job has reached the specified backoff limit"
UNKNOWN_CODE = "exit code unknown, the pods of the job are deleted"
NOT_FOUND = "the job no longer exists on the cluster"


def jobs_at(platform: KubeconfigPlatform, count: int, *, first: int = 1, **destination: str) -> list[JobRecord]:
    """Return the records of jobs that the cluster has: ``job-1`` has id 1."""
    where = replace(DESTINATION, **destination)
    return [
        record_of(platform.submit(PEER_SPEC, submission(f"job-{number}", f"{number:016x}", where), may_send), id=number)
        for number in range(first, first + count)
    ]


def many_jobs_at(cluster: KubeApi, platform: KubeconfigPlatform, count: int) -> list[JobRecord]:
    """Return the same faster: the cluster gets copies of the first job."""
    (first,) = jobs_at(platform, 1)
    recorded: Any = first.details.raw["job"]
    records = [first]
    for number in range(2, count + 1):
        copy = cluster.jobs.get("job-1")
        copy["metadata"].update(name=f"job-{number}", uid=f"uid-{number}")
        copy["spec"]["template"]["metadata"]["labels"]["job-name"] = f"job-{number}"
        cluster.state.add(JOBS, copy)
        metadata = {**recorded["metadata"], "name": f"job-{number}", "uid": f"uid-{number}"}
        records.append(job_record({**first.details.raw, "job": {**recorded, "metadata": metadata}}, id=number))
    return records


def queried(cluster: KubeApi) -> dict[str, int]:
    """Return the number of requests by method, without those that submitted jobs."""
    return {method: count for method, count in cluster.counts.items() if method != "jobs.create"}


def queries(cluster: KubeApi, method: str) -> list[Mapping[str, str]]:
    return [received.query for received in cluster.requests if received.method == method]


def outcome(update: JobUpdate | StatusUnavailable) -> tuple[JobStatus, str | None]:
    """Return the status, and the reason that is recorded with it."""
    assert isinstance(update, JobUpdate)
    return update.status, update.details.reason if update.details else None


def outcomes(platform: KubeconfigPlatform, jobs: Sequence[JobRecord]) -> dict[int, tuple[JobStatus, str | None]]:
    return {job_id: outcome(update) for job_id, update in platform.statuses(jobs).items()}


def fail(cluster: KubeApi, name: str, exit_code: int = 1) -> None:
    """Let a job fail as often as its spec allows."""
    while not finished(cluster.jobs.get(name)):
        cluster.jobs.fail(name, exit_code)


def test_two_hundred_jobs_are_one_request_and_one_for_events_of_those_without_pods(
    cluster: KubeApi, platform: KubeconfigPlatform
) -> None:
    jobs = many_jobs_at(cluster, platform, 200)
    assert platform.statuses(jobs) == {job.id: JobUpdate(JobStatus.SUBMITTED) for job in jobs}
    assert queried(cluster) == {LIST: 1, EVENTS: 1}
    assert queries(cluster, EVENTS) == [{"fieldSelector": "involvedObject.kind=Job,type=Warning", "limit": "500"}]
    assert queries(cluster, LIST) == [{"labelSelector": "caliban.token,caliban.group in (mixed)", "limit": "500"}]


def test_each_namespace_and_cluster_is_one_request(
    cluster: KubeApi, platform: KubeconfigPlatform, kubeconfig: Path
) -> None:
    with KubeApi() as other:
        other.write_kubeconfig(kubeconfig, "other")
        jobs = [
            *jobs_at(platform, 2),
            *jobs_at(platform, 2, first=3, namespace="lab"),
            *jobs_at(platform, 2, first=5, context="other"),
        ]
        for number in range(1, 7):
            where = other if number > 4 else cluster
            where.jobs.start(f"job-{number}", "lab" if number in (3, 4) else "default")
        found = platform.statuses(jobs)
        assert (queried(cluster), queried(other)) == ({LIST: 2}, {LIST: 1})
    running = {number for number, update in found.items() if outcome(update)[0] is JobStatus.RUNNING}
    assert running == {1, 2, 3, 4, 5, 6}


def test_jobs_of_caliban_0_4_2_are_found_without_labels(cluster: KubeApi, platform: KubeconfigPlatform) -> None:
    (job,) = jobs_at(platform, 1)
    recorded: Any = job.details.raw["job"]
    metadata = {key: value for key, value in recorded["metadata"].items() if key != "labels"}
    platform.statuses([job_record({**job.details.raw, "job": {**recorded, "metadata": metadata}})])
    assert queries(cluster, LIST) == [{"limit": "500"}]


def test_pages_are_followed_to_the_last(
    cluster: KubeApi, platform: KubeconfigPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubernetes_client, "PAGE_SIZE", 2)
    jobs = jobs_at(platform, 5)
    assert platform.statuses(jobs) == {job.id: JobUpdate(JobStatus.SUBMITTED) for job in jobs}
    assert ["continue" in query for query in queries(cluster, LIST)] == [False, True, True]
    assert {query["limit"] for query in queries(cluster, LIST)} == {"2"}


def test_a_list_that_became_too_old_starts_again(
    cluster: KubeApi, platform: KubeconfigPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubernetes_client, "PAGE_SIZE", 2)
    jobs = jobs_at(platform, 5)
    real, tokens = cluster.answer, []

    def forget_the_first_list(call: Call, fault: Fault | None) -> Answer:
        if "continue" in call.last:
            tokens.append(call.last["continue"])
            if len(tokens) == 1:
                cluster.state.compact()
        return real(call, fault)

    monkeypatch.setattr(cluster, "answer", forget_the_first_list)
    assert set(platform.statuses(jobs)) == {1, 2, 3, 4, 5}
    assert ["continue" in query for query in queries(cluster, LIST)] == [False, True, False, True, True]


def test_pods_are_listed_at_once_and_only_where_they_may_have_a_reason(
    cluster: KubeApi, platform: KubeconfigPlatform
) -> None:
    jobs = jobs_at(platform, 6)
    cluster.jobs.start("job-1")
    cluster.jobs.succeed("job-2")
    cluster.jobs.unschedulable("job-3", "0/3 nodes are available: 3 Insufficient cpu.")
    cluster.jobs.image_pull_fails("job-4")
    fail(cluster, "job-5", 3)

    found = outcomes(platform, jobs)

    assert queried(cluster) == {LIST: 1, PODS: 1, EVENTS: 1}
    assert queries(cluster, PODS) == [{"labelSelector": "job-name in (job-3,job-4,job-5)", "limit": "500"}]
    assert found == {
        1: (JobStatus.RUNNING, None),
        2: (JobStatus.SUCCEEDED, None),
        3: (JobStatus.SUBMITTED, "unschedulable: 0/3 nodes are available: 3 Insufficient cpu."),
        4: (
            JobStatus.SUBMITTED,
            'ImagePullBackOff: Back-off pulling image "gcr.io/totoro-project/cffd1475aaca:latest"',
        ),
        5: (JobStatus.FAILED, "exit code 3"),
        6: (JobStatus.SUBMITTED, None),
    }


def test_the_pods_of_many_jobs_are_listed_in_portions_that_fit_a_url(
    cluster: KubeApi, platform: KubeconfigPlatform
) -> None:
    jobs = many_jobs_at(cluster, platform, 60)
    for job in jobs:
        cluster.jobs.unschedulable(f"job-{job.id}", "full")
    found = outcomes(platform, jobs)
    assert queried(cluster) == {LIST: 1, PODS: 2}
    assert found[60] == (JobStatus.SUBMITTED, "unschedulable: full")


@pytest.mark.parametrize(
    ("step", "arguments", "expected"),
    [
        (
            "fail",
            {"exit_code": 137, "reason": "OOMKilled"},
            JobExit(137, FailureCause.OUT_OF_MEMORY, "OOMKilled, exit code 137"),
        ),
        (
            "evict",
            {"message": "The node was low on memory."},
            JobExit(None, FailureCause.INFRASTRUCTURE, "Evicted: The node was low on memory."),
        ),
        (
            "preempt",
            {"message": "preempting"},
            JobExit(None, FailureCause.PREEMPTED, "PreemptionByScheduler: preempting"),
        ),
        (
            "shut_node_down",
            {},
            JobExit(
                None,
                FailureCause.PREEMPTED,
                "Terminated: Pod was terminated in response to imminent node shutdown.",
            ),
        ),
    ],
)
def test_the_last_pod_explains_why_a_job_failed(
    cluster: KubeApi, platform: KubeconfigPlatform, step: str, arguments: dict[str, Any], expected: JobExit
) -> None:
    (job,) = jobs_at(platform, 1)
    while not finished(cluster.jobs.get("job-1")):
        cluster.jobs.step(step, "job-1", **arguments)
    update = platform.statuses([job])[1]
    assert isinstance(update, JobUpdate)
    assert update.details is not None
    assert (update.status, update.details.exit) == (JobStatus.FAILED, expected)
    assert None not in (update.details.started, update.details.ended)


def test_a_job_with_an_interim_condition_runs(cluster: KubeApi, platform: KubeconfigPlatform) -> None:
    (job,) = jobs_at(platform, 1)
    cluster.jobs.succeed("job-1", is_final=False)
    assert outcomes(platform, [job]) == {1: (JobStatus.RUNNING, None)}
    cluster.jobs.conclude("job-1")
    assert outcomes(platform, [job]) == {1: (JobStatus.SUCCEEDED, None)}


def test_the_reason_of_a_suspended_job_is_removed_when_it_is_resumed(
    cluster: KubeApi, platform: KubeconfigPlatform
) -> None:
    (job,) = jobs_at(platform, 1)
    cluster.jobs.suspend("job-1")
    update = platform.statuses([job])[1]
    assert outcome(update) == (JobStatus.SUBMITTED, "suspended")
    cluster.jobs.resume("job-1")
    resumed = platform.statuses([job.updated(update)])[1]
    assert isinstance(resumed, JobUpdate)
    assert resumed.details is not None
    assert "reason" not in resumed.details.raw


def test_what_is_recorded_already_is_not_recorded_again(cluster: KubeApi, platform: KubeconfigPlatform) -> None:
    (job,) = jobs_at(platform, 1)
    cluster.jobs.suspend("job-1")
    known = job.updated(platform.statuses([job])[1])
    assert known.reason == "suspended"
    assert platform.statuses([known]) == {1: JobUpdate(JobStatus.SUBMITTED)}


def test_if_pods_may_not_be_listed_the_reason_is_that_of_the_job(
    cluster: KubeApi, platform: KubeconfigPlatform, reporter: RecordingReporter
) -> None:
    (job,) = jobs_at(platform, 1)
    cluster.forbidden.add(PODS)
    fail(cluster, "job-1")
    for _ in range(2):
        assert outcomes(platform, [job]) == {1: (JobStatus.FAILED, LIMIT_EXCEEDED)}
    (line,) = reporter.lines
    assert line.startswith("cannot determine in full why jobs wait or failed: cannot list the pods of the cluster of")


def test_if_the_pods_were_removed_the_reason_is_that_of_the_job(cluster: KubeApi, platform: KubeconfigPlatform) -> None:
    (job,) = jobs_at(platform, 1)
    fail(cluster, "job-1")
    cluster.jobs.remove_pods("job-1")
    assert outcomes(platform, [job]) == {1: (JobStatus.FAILED, f"{LIMIT_EXCEEDED}; {UNKNOWN_CODE}")}


def test_a_job_that_was_removed_is_unknown_with_a_reason(cluster: KubeApi, platform: KubeconfigPlatform) -> None:
    (job,) = jobs_at(platform, 1)
    cluster.jobs.remove("job-1")
    assert outcomes(platform, [job]) == {1: (JobStatus.UNKNOWN, NOT_FOUND)}


def test_a_later_job_of_the_same_name_is_not_mistaken_for_ours(cluster: KubeApi, platform: KubeconfigPlatform) -> None:
    (job,) = jobs_at(platform, 1)
    cluster.jobs.remove("job-1")
    jobs_at(platform, 1)
    cluster.jobs.succeed("job-1")
    assert outcomes(platform, [job]) == {1: (JobStatus.UNKNOWN, NOT_FOUND)}


def test_jobs_in_a_removed_namespace_are_unknown(cluster: KubeApi, platform: KubeconfigPlatform) -> None:
    (job,) = jobs_at(platform, 1, namespace="lab")
    cluster.state.remove_namespace("lab")
    assert outcomes(platform, [job]) == {1: (JobStatus.UNKNOWN, NOT_FOUND)}


def test_an_unreachable_cluster_changes_no_state_while_others_are_refreshed(
    platform: KubeconfigPlatform, cluster: KubeApi, kubeconfig: Path
) -> None:
    with KubeApi() as other:
        other.write_kubeconfig(kubeconfig, "other")
        jobs = [*jobs_at(platform, 1), *jobs_at(platform, 1, first=2, context="other")]
    found = KubeconfigPlatform(platform_context(kubeconfig=kubeconfig), QUICK).statuses(jobs)
    assert found[1] == JobUpdate(JobStatus.SUBMITTED)
    assert isinstance(found[2], StatusUnavailable)
    assert found[2].reason.startswith(
        "cannot list the jobs of the cluster of the context other in the namespace default: no response from the "
    )


def test_a_removed_context_changes_no_state_while_others_are_refreshed(
    platform: KubeconfigPlatform, kubeconfig: Path
) -> None:
    jobs = jobs_at(platform, 1)
    lost = job_record({**jobs[0].details.raw, "context": "gone"}, id=2)
    found = platform.statuses([lost, *jobs])
    assert found == {
        1: JobUpdate(JobStatus.SUBMITTED),
        2: StatusUnavailable(f'{kubeconfig} has no context "gone"'),
    }


def test_the_state_of_a_job_without_a_recorded_destination_is_unavailable(
    cluster: KubeApi, platform: KubeconfigPlatform
) -> None:
    for details in ({}, {"context": "lab"}, {"job": {"metadata": {"namespace": "default"}}}):
        assert platform.statuses([job_record(details)]) == {
            7: StatusUnavailable("cannot determine where job 7 ran: its cluster or namespace is not recorded")
        }
    assert cluster.requests == []


def test_a_denied_list_changes_no_state_and_has_a_reason(cluster: KubeApi, platform: KubeconfigPlatform) -> None:
    jobs = jobs_at(platform, 2)
    cluster.forbidden.add(LIST)
    found = platform.statuses(jobs)
    assert {type(update) for update in found.values()} == {StatusUnavailable}
    assert 'cannot list resource "jobs"' in str(found[1])
    assert queried(cluster) == {LIST: 1}


@pytest.mark.parametrize("kind", ["refuse", "drop", "garbage"])
def test_a_transient_failure_is_retried(cluster: KubeApi, platform: KubeconfigPlatform, kind: Any) -> None:
    jobs = jobs_at(platform, 1)
    cluster.faults.add(Fault(LIST, kind, times=2))
    assert platform.statuses(jobs) == {1: JobUpdate(JobStatus.SUBMITTED)}
    assert queried(cluster)[LIST] == 3


def test_the_client_of_a_cluster_is_created_once(
    platform: KubeconfigPlatform, monkeypatch: pytest.MonkeyPatch, cluster: KubeApi
) -> None:
    created: list[KubeconfigDestination] = []
    real = KubeconfigPlatform._connection

    def connection(self: KubeconfigPlatform, destination: KubeconfigDestination) -> Any:
        created.append(destination)
        return real(self, destination)

    monkeypatch.setattr(KubeconfigPlatform, "_connection", connection)
    platform.statuses([*jobs_at(platform, 1), *jobs_at(platform, 1, first=2, namespace="lab")])
    assert created == [DESTINATION]


def test_a_listing_has_the_jobs_of_all_users_newest_first(cluster: KubeApi, platform: KubeconfigPlatform) -> None:
    jobs_at(platform, 2)
    with cluster.state.change(JOBS, "default", "job-1") as job:
        job["metadata"]["creationTimestamp"] = "2020-05-29T10:53:40Z"
        job["metadata"]["labels"] = {}
    fail(cluster, "job-1", 2)
    (newer, older) = platform.listing(DESTINATION)
    assert (newer.name, newer.group, newer.state) == ("job-2", "mixed", JobState(JobStatus.SUBMITTED))
    assert (older.name, older.group, older.created) == ("job-1", None, "2020-05-29T10:53:40Z")
    assert (older.state.status, older.state.reason) == (JobStatus.FAILED, "exit code 2")
    assert queried(cluster) == {LIST: 1, PODS: 1, EVENTS: 1}
    assert queries(cluster, LIST) == [{"limit": "500"}]


def test_the_link_of_a_job_is_a_command(platform: KubeconfigPlatform) -> None:
    (job,) = jobs_at(platform, 1)
    assert platform.links(job) == ("kubectl --context lab --namespace default logs --follow job/job-1",)
