"""The state of a job, and the reason and cause of a failure, from what a cluster reports of the job and its pods."""

from __future__ import annotations

from typing import Any

import pytest

from caliban.platforms.kubernetes.details import JobState
from caliban.platforms.kubernetes.job_status import needs_pods, state_of, status_of
from caliban.records import FailureCause, JobStatus
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
def test_the_status_follows_from_the_conditions_that_hold(given: dict[str, Any], status: JobStatus) -> None:
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
def test_pods_are_needed_if_the_job_failed_or_no_pod_is_ready(given: dict[str, Any], wanted: bool) -> None:
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
def test_a_normal_state_has_no_reason(given: dict[str, Any], pods: list[Any]) -> None:
    state = state_of(given, pods)
    assert (state.reason, state.cause, state.exit_code) == (None, None, None)


@pytest.mark.parametrize("given", [job(suspend=True), job(condition("Suspended")), job(suspend=True, active=1)])
def test_a_suspended_job_has_a_reason(given: dict[str, Any]) -> None:
    assert state_of(given).reason == "suspended"


def disrupted(reason: str, message: str = "") -> dict[str, Any]:
    """Return a pod with a disruption condition."""
    return pod(ended(143), conditions=[condition("DisruptionTarget", reason=reason, message=message)])


@pytest.mark.parametrize(
    ("of_pod", "reason", "exit_code", "cause"),
    [
        (pod(ended(3)), "exit code 3", 3, FailureCause.CODE_ERROR),
        (pod(ended(1, message="a coding\nerror\n")), "exit code 1: a coding error", 1, FailureCause.CODE_ERROR),
        (pod(ended(137, "OOMKilled")), "OOMKilled, exit code 137", 137, FailureCause.OUT_OF_MEMORY),
        (
            pod(ended(128, "StartError", message="no such file")),
            "StartError, exit code 128: no such file",
            128,
            FailureCause.IMAGE,
        ),
        (
            pod(ended(137), reason="Evicted", message="The node was low on resource: memory."),
            "Evicted: The node was low on resource: memory.",
            None,
            FailureCause.INFRASTRUCTURE,
        ),
        (
            pod(ended(143), reason="Terminated", message="Pod was terminated in response to imminent node shutdown."),
            "Terminated: Pod was terminated in response to imminent node shutdown.",
            None,
            FailureCause.PREEMPTED,
        ),
        (pod(ended(143), reason="DeadlineExceeded"), "DeadlineExceeded", None, FailureCause.TIMEOUT),
        (
            disrupted("PreemptionByScheduler", "preempting to x"),
            "PreemptionByScheduler: preempting to x",
            None,
            FailureCause.PREEMPTED,
        ),
        (disrupted("DeletionByTaintManager"), "DeletionByTaintManager", None, FailureCause.INFRASTRUCTURE),
        (disrupted("DeletionByPodGC"), "DeletionByPodGC", None, FailureCause.INFRASTRUCTURE),
        (
            pod(waiting("ImagePullBackOff", 'Back-off pulling image "x"')),
            'ImagePullBackOff: Back-off pulling image "x"',
            None,
            FailureCause.IMAGE,
        ),
        (
            pod(conditions=[UNSCHEDULABLE]),
            "unschedulable: 0/3 nodes are available",
            None,
            FailureCause.UNKNOWN,
        ),
        (
            {"metadata": {}, "status": {"containerStatuses": [{"state": waiting("X"), "lastState": ended(2)}]}},
            "exit code 2",
            2,
            FailureCause.CODE_ERROR,
        ),
    ],
)
def test_the_pod_explains_why_a_job_failed(
    of_pod: dict[str, Any], reason: str, exit_code: int | None, cause: FailureCause
) -> None:
    assert state_of(failed(), [of_pod]) == JobState(JobStatus.FAILED, reason, exit_code, cause)


def test_the_container_that_failed_is_reported_not_the_one_beside_it() -> None:
    assert state_of(failed(), [pod(ended(0, "Completed"), ended(4))]).exit_code == 4


def with_container(name: str) -> dict[str, Any]:
    """Return a failed job whose own container has a name."""
    return {**failed(), "spec": {"template": {"spec": {"containers": [{"name": name}]}}}}


def test_the_exit_code_is_that_of_the_job_s_own_container() -> None:
    statuses = [{"name": "proxy", "state": ended(137, "OOMKilled")}, {"name": "trainer", "state": ended(3)}]
    state = state_of(with_container("trainer"), [pod(containerStatuses=statuses)])
    assert (state.reason, state.exit_code, state.cause) == ("exit code 3", 3, FailureCause.CODE_ERROR)


@pytest.mark.parametrize(
    ("of_pod", "cause"),
    [
        (pod(containerStatuses=[{"name": "proxy", "state": ended(5)}]), FailureCause.INFRASTRUCTURE),
        (pod(initContainerStatuses=[{"name": "proxy", "state": ended(5)}]), FailureCause.INFRASTRUCTURE),
        (pod(initContainerStatuses=[{"name": "proxy", "state": ended(5, "OOMKilled")}]), FailureCause.OUT_OF_MEMORY),
    ],
)
def test_a_failed_container_that_the_cluster_added_is_a_reason_but_no_exit_code(
    of_pod: dict[str, Any], cause: FailureCause
) -> None:
    state = state_of(with_container("trainer"), [of_pod])
    assert str(state.reason).endswith("exit code 5")
    assert (state.exit_code, state.cause) == (None, cause)


def test_the_newest_pod_comes_first() -> None:
    earlier, later = pod(ended(1), created="2026-11-25T13:00:00Z"), pod(ended(2), created="2026-11-25T13:05:00Z")
    assert state_of(failed(), [earlier, later]).exit_code == 2


def test_a_pod_without_a_reason_is_skipped() -> None:
    silent = pod({"running": {}}, created="2026-11-25T13:05:00Z")
    assert state_of(failed(), [pod(ended(1)), silent]).exit_code == 1


def test_without_pods_the_reason_is_that_of_the_job() -> None:
    reason = "BackoffLimitExceeded: Job has reached the specified backoff limit"
    unknown = "exit code unknown, the pods of the job are deleted"
    assert state_of(failed(), []).reason == f"{reason}; {unknown}"
    assert state_of(failed(), None) == JobState(JobStatus.FAILED, reason, cause=FailureCause.UNKNOWN)


def test_a_failure_without_a_reason_has_its_type_as_reason() -> None:
    assert state_of(job(condition("Failed")), None).reason == "Failed"


def test_a_deadline_is_reported_by_the_job_whatever_its_pods_report() -> None:
    message = "Job was active longer than specified deadline"
    state = state_of(failed("DeadlineExceeded", message), [pod(ended(143))])
    assert (state.reason, state.cause) == (f"DeadlineExceeded, exit code 143: {message}", FailureCause.TIMEOUT)
    assert state.exit_code == 143


def test_after_a_pod_failure_policy_the_pod_has_the_reason() -> None:
    given = failed("PodFailurePolicy", "Container x failed with exit code 3")
    assert state_of(given, [pod(ended(3))]).reason == "exit code 3"


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
def test_the_pod_explains_why_a_job_waits(of_pod: dict[str, Any], reason: str) -> None:
    assert state_of(job(active=1), [of_pod]) == JobState(JobStatus.RUNNING, reason)


def test_a_pod_that_ended_is_no_reason_for_a_job_that_continues() -> None:
    assert state_of(job(active=1), [pod(ended(1))]).reason is None


def test_a_long_message_is_cut_to_one_line() -> None:
    reason = state_of(failed(), [pod(ended(1, message="word \n" * 200))]).reason
    assert reason is not None
    assert (len(reason), "\n" in reason) == (300, False)


START, END, LATER = "2026-11-25T13:00:00Z", "2026-11-25T13:05:00Z", "2026-11-25T13:05:01Z"


def with_times(given: dict[str, Any], **times: str) -> dict[str, Any]:
    return {**given, "status": {**given["status"], "startTime": START, **times}}


@pytest.mark.parametrize(
    ("given", "times"),
    [
        (with_times(job(active=1)), (START, None)),
        (with_times(job(condition("Complete", lastTransitionTime=LATER)), completionTime=END), (START, END)),
        (with_times(job(condition("Failed", lastTransitionTime=LATER))), (START, LATER)),
        (with_times(job(condition("FailureTarget", lastTransitionTime=LATER))), (START, None)),
        (job(), (None, None)),
    ],
)
def test_start_and_end_are_those_of_the_job(given: dict[str, Any], times: tuple[str | None, str | None]) -> None:
    state = state_of(given)
    assert (state.started, state.ended) == tuple(time and time.replace("Z", "+00:00") for time in times)
