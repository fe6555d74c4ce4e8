"""A job's state, and why it is in it, from what a cluster says of the job and its pods."""

from __future__ import annotations

from typing import Any

import pytest

from caliban.platforms.kubernetes.job_status import needs_pods, reason_of, status_of
from caliban.records import JobStatus
from tests.platforms.kubernetes.helpers import condition, ended, failed, job, pod, waiting

UNSCHEDULABLE = condition("PodScheduled", "False", reason="Unschedulable", message="0/3 nodes are available")


@pytest.mark.parametrize(
    ("given", "status"),
    [
        (job(), JobStatus.SUBMITTED),
        ({"metadata": {}, "spec": {}}, JobStatus.SUBMITTED),
        ({"status": {"conditions": None, "active": None}}, JobStatus.SUBMITTED),
        (job(active=1), JobStatus.RUNNING),
        (job(active=1, ready=1), JobStatus.RUNNING),
        (job(condition("Complete")), JobStatus.SUCCEEDED),
        (job(condition("SuccessCriteriaMet"), condition("Complete")), JobStatus.SUCCEEDED),
        (job(condition("Failed")), JobStatus.FAILED),
        (job(condition("FailureTarget"), condition("Failed")), JobStatus.FAILED),
        (job(condition("SuccessCriteriaMet")), JobStatus.RUNNING),
        (job(condition("FailureTarget")), JobStatus.RUNNING),
        (job(condition("Complete", "False")), JobStatus.SUBMITTED),
        (job(condition("Failed", "Unknown"), active=1), JobStatus.RUNNING),
        (job(condition("Failed", "False"), condition("Complete")), JobStatus.SUCCEEDED),
        (job(suspend=True), JobStatus.SUBMITTED),
        (job(condition("Suspended"), suspend=True, active=1), JobStatus.RUNNING),
        (job(failed=3), JobStatus.SUBMITTED),
        (job(succeeded=1, active=1), JobStatus.RUNNING),
    ],
)
def test_the_state_is_that_of_the_conditions_that_hold(given: dict[str, Any], status: JobStatus) -> None:
    assert status_of(given) is status


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (job(), False),
        (job(suspend=True), False),
        (job(condition("Complete")), False),
        (job(active=1, ready=1), False),
        (job(active=1), True),
        (failed(), True),
        (failed("DeadlineExceeded"), True),
    ],
)
def test_pods_are_of_interest_where_a_job_failed_or_its_pods_do_not_run(given: dict[str, Any], wanted: bool) -> None:
    assert needs_pods(given) is wanted


@pytest.mark.parametrize(
    ("given", "pods"),
    [
        (job(), []),
        (job(active=1, ready=1), [pod({"running": {}})]),
        (job(active=1), [pod(waiting("ContainerCreating"))]),
        (job(active=1), [pod(waiting("PodInitializing"))]),
        (job(active=1), [{"metadata": {}}]),
        (job(condition("Complete")), [pod(ended(3))]),
    ],
)
def test_what_is_not_odd_needs_no_reason(given: dict[str, Any], pods: list[Any]) -> None:
    assert reason_of(given, pods) is None


@pytest.mark.parametrize("given", [job(suspend=True), job(condition("Suspended")), job(suspend=True, active=1)])
def test_a_suspended_job_says_so(given: dict[str, Any]) -> None:
    assert reason_of(given, []) == "suspended"


@pytest.mark.parametrize(
    ("of_pod", "reason"),
    [
        (pod(ended(3)), "exit code 3"),
        (pod(ended(1, message="a coding\nerror\n")), "exit code 1: a coding error"),
        (pod(ended(137, "OOMKilled")), "OOMKilled, exit code 137"),
        (pod(ended(128, "StartError", message="no such file")), "StartError, exit code 128: no such file"),
        (
            pod(ended(137), reason="Evicted", message="The node was low on resource: memory."),
            "Evicted: The node was low on resource: memory.",
        ),
        (
            pod(
                ended(143),
                conditions=[condition("DisruptionTarget", reason="PreemptionByScheduler", message="preempting to x")],
            ),
            "PreemptionByScheduler: preempting to x",
        ),
        (
            pod(waiting("ImagePullBackOff", 'Back-off pulling image "x"')),
            'ImagePullBackOff: Back-off pulling image "x"',
        ),
        (pod(conditions=[UNSCHEDULABLE]), "unschedulable: 0/3 nodes are available"),
        (
            {"metadata": {}, "status": {"containerStatuses": [{"state": waiting("X"), "lastState": ended(2)}]}},
            "exit code 2",
        ),
    ],
)
def test_why_a_job_failed_is_told_by_its_pod(of_pod: dict[str, Any], reason: str) -> None:
    assert reason_of(failed(), [of_pod]) == reason


def test_the_container_that_failed_is_told_of_not_the_one_beside_it() -> None:
    assert reason_of(failed(), [pod(ended(0, "Completed"), ended(4))]) == "exit code 4"


def test_a_container_that_prepares_the_pod_and_fails_is_told_of() -> None:
    of_pod = {"metadata": {}, "status": {"initContainerStatuses": [{"state": ended(5)}], "containerStatuses": []}}
    assert reason_of(failed(), [of_pod]) == "exit code 5"


def test_the_last_pod_comes_first() -> None:
    earlier, later = pod(ended(1), created="2026-11-25T13:00:00Z"), pod(ended(2), created="2026-11-25T13:05:00Z")
    assert reason_of(failed(), [earlier, later]) == "exit code 2"


def test_a_pod_that_says_nothing_leaves_the_word_to_the_one_before() -> None:
    silent = pod({"running": {}}, created="2026-11-25T13:05:00Z")
    assert reason_of(failed(), [pod(ended(1)), silent]) == "exit code 1"


def test_without_pods_the_job_s_own_words_tell_why_it_failed() -> None:
    assert reason_of(failed(), []) == "BackoffLimitExceeded: Job has reached the specified backoff limit"


def test_a_failure_that_names_only_its_type_is_told_by_it() -> None:
    assert reason_of(job(condition("Failed")), []) == "Failed"


def test_a_deadline_is_told_by_the_job_whatever_its_pods_say() -> None:
    given = failed("DeadlineExceeded", "Job was active longer than specified deadline")
    assert reason_of(given, [pod(ended(143))]) == "DeadlineExceeded: Job was active longer than specified deadline"


def test_a_pod_failure_policy_leaves_the_word_to_the_pod() -> None:
    assert (
        reason_of(failed("PodFailurePolicy", "Container x failed with exit code 3"), [pod(ended(3))]) == "exit code 3"
    )


@pytest.mark.parametrize(
    ("of_pod", "reason"),
    [
        (pod(conditions=[UNSCHEDULABLE]), "unschedulable: 0/3 nodes are available"),
        (pod(waiting("ErrImagePull", "not found")), "ErrImagePull: not found"),
        (pod(waiting("CreateContainerConfigError")), "CreateContainerConfigError"),
        (
            {"metadata": {}, "status": {"initContainerStatuses": [{"state": waiting("ImagePullBackOff")}]}},
            "ImagePullBackOff",
        ),
    ],
)
def test_why_a_job_waits_is_told_by_its_pod(of_pod: dict[str, Any], reason: str) -> None:
    assert reason_of(job(active=1), [of_pod]) == reason


def test_a_pod_that_ended_does_not_explain_a_job_that_goes_on() -> None:
    assert reason_of(job(active=1), [pod(ended(1))]) is None


def test_a_long_story_is_cut_to_a_line() -> None:
    reason = reason_of(failed(), [pod(ended(1, message="word \n" * 200))])
    assert reason is not None
    assert (len(reason), "\n" in reason) == (300, False)
