"""States of many jobs in few requests, counted; and what becomes of jobs and clusters that are gone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from caliban.platforms.base import JobUpdate, StatusUnavailable
from caliban.platforms.kubernetes import client as kubernetes_client
from caliban.platforms.kubernetes.kubeconfig_platform import KubeconfigPlatform
from caliban.platforms.kubernetes.platform import ListedJob
from caliban.records import JobRecord, JobStatus, JsonObject
from tests.fakes import HeardReporter
from tests.platforms.kubernetes.helpers import (
    PEER_SPEC,
    SHORT,
    DESTINATION,
    job_record,
    platform_context,
    submission,
    record_of,
)
from tests.standins.faults import Fault
from tests.standins.kubernetes import KubeApi
from tests.standins.kubernetes.status import JOBS
from tests.standins.serving import Answer, Call

LIST, PODS = "jobs.list", "pods.list"
GONE = "the cluster has this job no longer"


def jobs_at(platform: KubeconfigPlatform, count: int, *, first: int = 1, **target: str) -> list[JobRecord]:
    """Jobs that the cluster has, as the store has them: ``job-1`` has id 1."""
    return [
        record_of(
            platform.submit(PEER_SPEC, submission(f"job-{number}", f"{number:016x}", {**DESTINATION, **target})), id=number
        )
        for number in range(first, first + count)
    ]


def many_jobs_at(cluster: KubeApi, platform: KubeconfigPlatform, count: int) -> list[JobRecord]:
    """The same, quicker: the cluster gets copies of the first."""
    (first,) = jobs_at(platform, 1)
    recorded: Any = first.details["job"]
    views = [first]
    for number in range(2, count + 1):
        copy = cluster.jobs.get("job-1")
        copy["metadata"].update(name=f"job-{number}", uid=f"uid-{number}")
        copy["spec"]["template"]["metadata"]["labels"]["job-name"] = f"job-{number}"
        cluster.state.add(JOBS, copy)
        metadata = {**recorded["metadata"], "name": f"job-{number}", "uid": f"uid-{number}"}
        views.append(job_record({**first.details, "job": {**recorded, "metadata": metadata}}, id=number))
    return views


def asked(cluster: KubeApi) -> dict[str, int]:
    """The questions by kind, but for those that submitted."""
    return {method: count for method, count in cluster.counts.items() if method != "jobs.create"}


def queries(cluster: KubeApi, method: str) -> list[Mapping[str, str]]:
    return [received.query for received in cluster.requests if received.method == method]


def seen(job: JobRecord, status: JobStatus, reason: str | None = None) -> JobUpdate:
    """What is seen of a job that had no reason before."""
    return JobUpdate(status, {**job.details, "reason": reason} if reason else None)


def test_two_hundred_jobs_are_one_request(cluster: KubeApi, platform: KubeconfigPlatform) -> None:
    jobs = many_jobs_at(cluster, platform, 200)
    assert platform.statuses(jobs) == {job.id: JobUpdate(JobStatus.SUBMITTED) for job in jobs}
    assert asked(cluster) == {LIST: 1}
    assert queries(cluster, LIST) == [{"labelSelector": "caliban.token,caliban.group in (mixed)", "limit": "500"}]


def test_nothing_is_asked_for_no_jobs(cluster: KubeApi, platform: KubeconfigPlatform) -> None:
    assert platform.statuses([]) == {}
    assert cluster.requests == []


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
        cluster.jobs.start("job-4", "lab")
        other.jobs.start("job-6")
        found = platform.statuses(jobs)
        assert (asked(cluster), asked(other)) == ({LIST: 2}, {LIST: 1})
    running = {number for number, observed in found.items() if observed == JobUpdate(JobStatus.RUNNING)}
    assert running == {4, 6}


def test_jobs_of_the_peer_have_no_labels_to_be_selected_by(cluster: KubeApi, platform: KubeconfigPlatform) -> None:
    (job,) = jobs_at(platform, 1)
    recorded: Any = job.details["job"]
    metadata = {key: value for key, value in recorded["metadata"].items() if key != "labels"}
    platform.statuses([replace(job, details={**job.details, "job": {**recorded, "metadata": metadata}})])
    assert queries(cluster, LIST) == [{"limit": "500"}]


def test_pages_are_followed_to_the_last(
    cluster: KubeApi, platform: KubeconfigPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubernetes_client, "PAGE_SIZE", 2)
    jobs = jobs_at(platform, 5)
    assert platform.statuses(jobs) == {job.id: JobUpdate(JobStatus.SUBMITTED) for job in jobs}
    assert ["continue" in query for query in queries(cluster, LIST)] == [False, True, True]
    assert {query["limit"] for query in queries(cluster, LIST)} == {"2"}


def test_a_list_that_became_too_old_is_begun_once_more(
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


def test_pods_are_asked_for_only_where_they_may_tell_more_and_all_at_once(
    cluster: KubeApi, platform: KubeconfigPlatform
) -> None:
    jobs = jobs_at(platform, 6)
    cluster.jobs.start("job-1")
    cluster.jobs.succeed("job-2")
    cluster.jobs.unschedulable("job-3", "0/3 nodes are available: 3 Insufficient cpu.")
    cluster.jobs.image_pull_fails("job-4")
    for _ in range(5):
        cluster.jobs.fail("job-5", 3)

    found = platform.statuses(jobs)

    assert asked(cluster) == {LIST: 1, PODS: 1}
    assert queries(cluster, PODS) == [{"labelSelector": "job-name in (job-3,job-4,job-5)", "limit": "500"}]
    assert found == {
        1: seen(jobs[0], JobStatus.RUNNING),
        2: seen(jobs[1], JobStatus.SUCCEEDED),
        3: seen(jobs[2], JobStatus.RUNNING, "unschedulable: 0/3 nodes are available: 3 Insufficient cpu."),
        4: seen(
            jobs[3],
            JobStatus.RUNNING,
            'ImagePullBackOff: Back-off pulling image "gcr.io/totoro-project/cffd1475aaca:latest"',
        ),
        5: seen(jobs[4], JobStatus.FAILED, "exit code 3"),
        6: seen(jobs[5], JobStatus.SUBMITTED),
    }


def test_the_pods_of_very_many_jobs_are_asked_for_in_portions_that_fit_a_url(
    cluster: KubeApi, platform: KubeconfigPlatform
) -> None:
    jobs = many_jobs_at(cluster, platform, 60)
    for job in jobs:
        cluster.jobs.unschedulable(f"job-{job.id}", "full")
    found = platform.statuses(jobs)
    assert asked(cluster) == {LIST: 1, PODS: 2}
    assert found[60] == seen(jobs[59], JobStatus.RUNNING, "unschedulable: full")


@pytest.mark.parametrize(
    ("step", "arguments", "reason"),
    [
        ("fail", {"exit_code": 137, "reason": "OOMKilled"}, "OOMKilled, exit code 137"),
        (
            "evict",
            {"message": "The node was low on memory."},
            "Evicted: The node was low on memory.",
        ),
        ("preempt", {"message": "preempting"}, "PreemptionByScheduler: preempting"),
    ],
)
def test_why_a_job_failed_is_learnt_from_its_last_pod(
    cluster: KubeApi, platform: KubeconfigPlatform, step: str, arguments: dict[str, Any], reason: str
) -> None:
    (job,) = jobs_at(platform, 1)
    for _ in range(5):
        cluster.jobs.step(step, "job-1", **arguments)
    assert platform.statuses([job]) == {1: seen(job, JobStatus.FAILED, reason)}


def test_a_job_that_has_not_come_to_its_end_runs(cluster: KubeApi, platform: KubeconfigPlatform) -> None:
    (job,) = jobs_at(platform, 1)
    cluster.jobs.succeed("job-1", is_final=False)
    assert platform.statuses([job]) == {1: JobUpdate(JobStatus.RUNNING)}
    cluster.jobs.conclude("job-1")
    assert platform.statuses([job]) == {1: JobUpdate(JobStatus.SUCCEEDED)}


def test_a_suspended_job_says_so_and_forgets_it_when_it_goes_on(cluster: KubeApi, platform: KubeconfigPlatform) -> None:
    (job,) = jobs_at(platform, 1)
    cluster.jobs.suspend("job-1")
    observed = platform.statuses([job])[1]
    assert observed == seen(job, JobStatus.SUBMITTED, "suspended")
    assert isinstance(observed, JobUpdate)
    assert observed.details is not None
    cluster.jobs.resume("job-1")
    known = replace(job, details=observed.details)
    assert platform.statuses([known]) == {1: JobUpdate(JobStatus.SUBMITTED, job.details)}


def test_a_reason_that_is_known_is_not_recorded_again(cluster: KubeApi, platform: KubeconfigPlatform) -> None:
    (job,) = jobs_at(platform, 1)
    cluster.jobs.suspend("job-1")
    known = replace(job, details={**job.details, "reason": "suspended"})
    assert platform.statuses([known]) == {1: JobUpdate(JobStatus.SUBMITTED)}


def test_where_pods_may_not_be_seen_the_job_s_own_words_have_to_do(
    cluster: KubeApi, platform: KubeconfigPlatform, reporter: HeardReporter
) -> None:
    (job,) = jobs_at(platform, 1)
    cluster.forbidden.add(PODS)
    for _ in range(5):
        cluster.jobs.fail("job-1")
    for _ in range(2):
        found = platform.statuses([job])
    words = "BackoffLimitExceeded: Job has reached the specified backoff limit"
    assert found == {1: seen(job, JobStatus.FAILED, words)}
    (told,) = reporter.said
    assert told.startswith("why jobs wait or failed is not known in full: cannot list the pods of the cluster of the")


def test_pods_that_were_collected_leave_the_word_to_the_job(cluster: KubeApi, platform: KubeconfigPlatform) -> None:
    (job,) = jobs_at(platform, 1)
    for _ in range(5):
        cluster.jobs.fail("job-1")
    cluster.jobs.remove_pods("job-1")
    words = "BackoffLimitExceeded: Job has reached the specified backoff limit"
    assert platform.statuses([job]) == {1: seen(job, JobStatus.FAILED, words)}


def test_a_job_that_was_removed_is_unknown_and_says_why(cluster: KubeApi, platform: KubeconfigPlatform) -> None:
    (job,) = jobs_at(platform, 1)
    cluster.jobs.remove("job-1")
    assert platform.statuses([job]) == {1: seen(job, JobStatus.UNKNOWN, GONE)}


def test_a_later_job_of_the_same_name_is_not_taken_for_ours(cluster: KubeApi, platform: KubeconfigPlatform) -> None:
    (job,) = jobs_at(platform, 1)
    cluster.jobs.remove("job-1")
    jobs_at(platform, 1)
    cluster.jobs.succeed("job-1")
    assert platform.statuses([job]) == {1: seen(job, JobStatus.UNKNOWN, GONE)}


def test_a_namespace_that_is_gone_has_the_jobs_no_longer(cluster: KubeApi, platform: KubeconfigPlatform) -> None:
    (job,) = jobs_at(platform, 1, namespace="lab")
    cluster.state.remove_namespace("lab")
    assert platform.statuses([job]) == {1: seen(job, JobStatus.UNKNOWN, GONE)}


def test_a_cluster_that_cannot_be_reached_decides_nothing_while_others_are_read(
    platform: KubeconfigPlatform, cluster: KubeApi, kubeconfig: Path
) -> None:
    with KubeApi() as other:
        other.write_kubeconfig(kubeconfig, "other")
        jobs = [*jobs_at(platform, 1), *jobs_at(platform, 1, first=2, context="other")]
    hurried = KubeconfigPlatform(platform_context(kubeconfig=kubeconfig), SHORT)
    found = hurried.statuses(jobs)
    assert found[1] == JobUpdate(JobStatus.SUBMITTED)
    assert isinstance(found[2], StatusUnavailable)
    assert found[2].reason.startswith(
        "cannot list the jobs of the cluster of the context other in the namespace default: the cluster does not answer"
    )


def test_a_context_that_is_gone_decides_nothing_while_others_are_read(
    platform: KubeconfigPlatform, kubeconfig: Path
) -> None:
    jobs = jobs_at(platform, 1)
    lost = job_record({**jobs[0].details, "context": "gone"}, id=2)
    found = platform.statuses([lost, *jobs])
    assert found == {
        1: JobUpdate(JobStatus.SUBMITTED),
        2: StatusUnavailable(f"{kubeconfig} has no context gone"),
    }


def test_a_job_whose_place_is_not_recorded_decides_nothing(cluster: KubeApi, platform: KubeconfigPlatform) -> None:
    for details in ({}, {"context": "lab"}, {"job": {"metadata": {"namespace": "default"}}}):
        assert platform.statuses([job_record(details)]) == {
            7: StatusUnavailable("where job 7 ran is not known: its cluster and its namespace are not both recorded")
        }
    assert cluster.requests == []


def test_a_list_that_is_denied_decides_nothing_and_says_why(cluster: KubeApi, platform: KubeconfigPlatform) -> None:
    jobs = jobs_at(platform, 2)
    cluster.forbidden.add(LIST)
    found = platform.statuses(jobs)
    assert {type(observed) for observed in found.values()} == {StatusUnavailable}
    assert 'cannot list resource "jobs"' in str(found[1])
    assert asked(cluster) == {LIST: 1}


@pytest.mark.parametrize("kind", ["refuse", "drop", "garbage"])
def test_a_passing_failure_is_not_seen_at_all(cluster: KubeApi, platform: KubeconfigPlatform, kind: Any) -> None:
    jobs = jobs_at(platform, 1)
    cluster.faults.add(Fault(LIST, kind, times=2))
    assert platform.statuses(jobs) == {1: JobUpdate(JobStatus.SUBMITTED)}
    assert asked(cluster) == {LIST: 3}


def test_the_client_of_a_cluster_is_made_once(
    platform: KubeconfigPlatform, monkeypatch: pytest.MonkeyPatch, cluster: KubeApi
) -> None:
    made: list[JsonObject] = []
    real = KubeconfigPlatform._reach

    def reach(self: KubeconfigPlatform, target: JsonObject) -> Any:
        made.append(target)
        return real(self, target)

    monkeypatch.setattr(KubeconfigPlatform, "_reach", reach)
    platform.statuses([*jobs_at(platform, 1), *jobs_at(platform, 1, first=2, namespace="lab")])
    assert made == [DESTINATION]


def test_a_listing_has_everybody_s_jobs_the_newest_first(cluster: KubeApi, platform: KubeconfigPlatform) -> None:
    jobs_at(platform, 2)
    with cluster.state.change(JOBS, "default", "job-1") as job:
        job["metadata"]["creationTimestamp"] = "2020-05-29T10:53:40Z"
        job["metadata"]["labels"] = {}
    for _ in range(5):
        cluster.jobs.fail("job-1", 2)
    (newer, older) = platform.listing(DESTINATION)
    assert (newer.name, newer.status, newer.group, newer.reason) == ("job-2", JobStatus.SUBMITTED, "mixed", None)
    assert older == ListedJob("job-1", JobStatus.FAILED, "2020-05-29T10:53:40Z", None, "exit code 2")
    assert asked(cluster) == {LIST: 1, PODS: 1}
    assert queries(cluster, LIST) == [{"limit": "500"}]


def test_where_a_job_is_to_be_looked_at_is_a_command(platform: KubeconfigPlatform) -> None:
    (job,) = jobs_at(platform, 1)
    assert platform.links(job) == ("kubectl --context lab --namespace default logs --follow job/job-1",)
