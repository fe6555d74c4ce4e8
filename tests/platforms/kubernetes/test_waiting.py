"""Jobs that do not start, or do not end, say why, where neither the job nor the state of a container does."""

from __future__ import annotations

from typing import Any

import pytest

from caliban.platforms.kubernetes.job_status import state_of
from caliban.platforms.kubernetes.kubeconfig_platform import KubeconfigPlatform
from caliban.records import FailureCause, JobStatus
from tests.platforms.kubernetes.helpers import DESTINATION, condition, ended, failed, job, waiting
from tests.platforms.kubernetes.test_causes import EARLIER, LATER, RUNNING, of, own, pod_of
from tests.platforms.kubernetes.test_statuses import EVENTS, LIST, PODS, jobs_at, outcomes, queried
from tests.standins.kubernetes import KubeApi
from tests.standins.kubernetes.status import PODS as PODS_OF_CLUSTER

MOUNT = 'MountVolume.SetUp failed for volume "data" : secret "no" not found'
LOST = "NodeNotReady: the node node-1 does not respond"
PENDING: dict[str, Any] = {"phase": "Pending"}


def preparing(cluster: KubeApi, name: str, reason: str = "ContainerCreating") -> None:
    cluster.jobs.image_pull_fails(name, reason=reason)


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("FailedMount", MOUNT),
        ("FailedAttachVolume", 'Multi-Attach error for volume "pvc-1" Volume is already exclusively attached'),
        ("FailedMapVolume", "MapVolume.MapPodDevice failed"),
        ("FailedCreatePodSandBox", 'Failed to create pod sandbox: no runtime for "gvisor" is configured'),
        ("NetworkNotReady", "network is not ready: container runtime network not ready"),
        ("FailedPrepareDynamicResources", "Failed to prepare dynamic resources: claim is not allocated"),
        ("NodeNotReady", "Node is not ready"),
    ],
)
@pytest.mark.parametrize("waits", ["ContainerCreating", "PodInitializing"])
def test_a_pod_that_its_node_cannot_set_up_says_why(
    cluster: KubeApi, platform: KubeconfigPlatform, reason: str, message: str, waits: str
) -> None:
    jobs = jobs_at(platform, 1)
    preparing(cluster, "job-1", waits)
    cluster.jobs.pod_event("job-1", reason, message, type="Warning")
    expected = (JobStatus.SUBMITTED, f"{reason}: {message}")
    assert outcomes(platform, jobs) == {1: expected}
    (listed,) = platform.listing(DESTINATION)
    assert (listed.state.status, listed.state.reason) == expected


def test_an_image_that_is_being_pulled_is_why_a_job_does_not_run_yet(
    cluster: KubeApi, platform: KubeconfigPlatform
) -> None:
    jobs = jobs_at(platform, 1)
    preparing(cluster, "job-1")
    cluster.jobs.pod_event("job-1", "Pulling", 'Pulling image "x"')
    assert outcomes(platform, jobs) == {1: (JobStatus.SUBMITTED, 'Pulling image "x"')}


NO_SECRET = "Unable to retrieve some image pull secrets (lab); attempting to pull the image may not succeed."


def put_secret(cluster: KubeApi, name: str) -> None:
    """Let the pod of a job name a pull secret."""
    (pod,) = cluster.jobs.pods(name)
    with cluster.state.change(PODS_OF_CLUSTER, "default", pod["metadata"]["name"]) as changed:
        changed["spec"]["imagePullSecrets"] = [{"name": "lab"}]


@pytest.mark.parametrize("reason", ["ErrImagePull", "ImagePullBackOff"])
def test_a_pull_secret_that_does_not_exist_is_named_beside_the_failed_pull(
    cluster: KubeApi, platform: KubeconfigPlatform, reason: str
) -> None:
    jobs = jobs_at(platform, 1)
    cluster.jobs.image_pull_fails("job-1", "denied", reason=reason)
    put_secret(cluster, "job-1")
    cluster.jobs.pod_event("job-1", "FailedToRetrieveImagePullSecret", NO_SECRET, type="Warning")
    cluster.jobs.pod_event("job-1", "Pulling", 'Pulling image "x"')
    ((status, shown),) = outcomes(platform, jobs).values()
    assert status is JobStatus.SUBMITTED
    assert str(shown).startswith(f"FailedToRetrieveImagePullSecret: {NO_SECRET}; {reason}: ")


def test_without_pull_secrets_no_event_is_needed_for_a_failed_pull(
    cluster: KubeApi, platform: KubeconfigPlatform
) -> None:
    jobs = jobs_at(platform, 1)
    cluster.jobs.image_pull_fails("job-1", "denied")
    outcomes(platform, jobs)
    assert queried(cluster) == {LIST: 1, PODS: 1}


def test_what_was_overcome_is_no_reason(cluster: KubeApi, platform: KubeconfigPlatform) -> None:
    jobs = jobs_at(platform, 1)
    preparing(cluster, "job-1")
    cluster.jobs.pod_event("job-1", "FailedMount", MOUNT, type="Warning")
    cluster.jobs.pod_event("job-1", "Pulled", 'Successfully pulled image "x"')
    assert outcomes(platform, jobs) == {1: (JobStatus.SUBMITTED, None)}


def test_events_of_pods_are_listed_once_and_only_for_pods_that_say_nothing(
    cluster: KubeApi, platform: KubeconfigPlatform
) -> None:
    jobs = jobs_at(platform, 4)
    for name in ("job-1", "job-2"):
        preparing(cluster, name)
    cluster.jobs.start("job-3")
    cluster.jobs.unschedulable("job-4", "full")
    cluster.jobs.pod_event("job-2", "FailedMount", MOUNT, type="Warning")
    found = outcomes(platform, jobs)
    assert found[1] == (JobStatus.SUBMITTED, None)
    assert found[2] == (JobStatus.SUBMITTED, f"FailedMount: {MOUNT}")
    assert queried(cluster) == {LIST: 1, PODS: 1, EVENTS: 1}


def test_a_job_on_a_node_that_does_not_respond_says_so(cluster: KubeApi, platform: KubeconfigPlatform) -> None:
    jobs = jobs_at(platform, 1)
    cluster.jobs.start("job-1")
    cluster.jobs.lose_node("job-1")
    assert outcomes(platform, jobs) == {1: (JobStatus.RUNNING, LOST)}
    (listed,) = platform.listing(DESTINATION)
    assert (listed.state.status, listed.state.reason) == (JobStatus.RUNNING, LOST)


READY = condition("ContainersReady")


@pytest.mark.parametrize(
    ("conditions", "reason"),
    [
        ([condition("Ready", "False"), READY], LOST),
        ([condition("Ready", "Unknown"), READY], LOST),
        ([condition("Ready", "False", reason="ReadinessGatesNotReady"), READY], None),
        ([condition("Ready", "False", reason="ContainersNotReady"), condition("ContainersReady", "False")], None),
        ([condition("Ready", "False"), condition("ContainersReady", "False")], None),
        ([condition("Ready"), READY], None),
        ([], None),
    ],
)
def test_only_the_controller_of_nodes_takes_readiness_away_without_a_reason(
    conditions: list[dict[str, str]], reason: str | None
) -> None:
    given = pod_of(of("trainer", RUNNING), spec={"nodeName": "node-1"}, phase="Running", conditions=conditions)
    state = state_of(own(job(active=1)), [given])
    assert (state.status, state.reason) == (JobStatus.RUNNING, reason)


def test_a_pod_that_is_deleted_while_its_node_does_not_respond_says_so() -> None:
    lost = pod_of(
        of("trainer", RUNNING),
        spec={"nodeName": "node-1"},
        phase="Running",
        conditions=[condition("Ready", "False"), READY],
    )
    lost["metadata"]["deletionTimestamp"] = LATER
    assert state_of(own(job(terminating=1)), [lost]).reason == LOST
    lost["status"]["conditions"].append(condition("DisruptionTarget", reason="DeletionByTaintManager", message="taint"))
    expected = "DeletionByTaintManager: taint; the node node-1 does not respond"
    assert state_of(own(job(terminating=1)), [lost]).reason == expected


@pytest.mark.parametrize(
    ("spec", "status", "reason"),
    [
        ({"schedulerName": "volcano"}, PENDING, "not scheduled yet by the scheduler volcano"),
        ({"schedulerName": "default-scheduler"}, PENDING, None),
        ({}, PENDING, None),
        ({"schedulerName": "volcano", "nodeName": "node-1"}, PENDING, None),
        (
            {"schedulerName": "volcano"},
            {
                **PENDING,
                "conditions": [condition("PodScheduled", "False", reason="SchedulingGated", message="gates")],
            },
            "SchedulingGated: gates",
        ),
    ],
)
def test_a_scheduler_that_never_looked_at_a_pod_is_named(
    spec: dict[str, Any], status: dict[str, Any], reason: str | None
) -> None:
    state = state_of(own(job(active=1)), [pod_of(spec=spec, **status)])
    assert (state.status, state.reason) == (JobStatus.SUBMITTED, reason)


@pytest.mark.parametrize(
    ("manager", "reason"),
    [
        ("kueue.x-k8s.io/multikueue", "managed by kueue.x-k8s.io/multikueue"),
        ("kubernetes.io/job-controller", None),
        (None, None),
    ],
)
def test_a_job_of_another_controller_names_it(manager: str | None, reason: str | None) -> None:
    given = {**job(), "spec": {"managedBy": manager}}
    assert state_of(given).reason == reason


def test_a_quota_that_refuses_the_next_attempt_is_named_beside_the_last_one(
    cluster: KubeApi, platform: KubeconfigPlatform
) -> None:
    jobs = jobs_at(platform, 1)
    cluster.jobs.fail("job-1", 3)
    (pod,) = cluster.jobs.pods("job-1")
    with cluster.state.change(PODS_OF_CLUSTER, "default", pod["metadata"]["name"]) as changed:
        changed["metadata"]["creationTimestamp"] = EARLIER
    cluster.jobs.cannot_create_pods("job-1", "exceeded quota: lab")
    expected = "waiting for the next attempt after: exit code 3; FailedCreate: Error creating: exceeded quota: lab"
    assert outcomes(platform, jobs) == {1: (JobStatus.SUBMITTED, expected)}


def test_a_quota_that_refused_an_earlier_attempt_is_not(cluster: KubeApi, platform: KubeconfigPlatform) -> None:
    jobs = jobs_at(platform, 1)
    cluster.jobs.cannot_create_pods("job-1", "exceeded quota: lab")
    cluster.jobs.fail("job-1", 3)
    (pod,) = cluster.jobs.pods("job-1")
    with cluster.state.change(PODS_OF_CLUSTER, "default", pod["metadata"]["name"]) as changed:
        changed["metadata"]["creationTimestamp"] = "2999-01-01T00:00:00Z"
    assert outcomes(platform, jobs) == {1: (JobStatus.SUBMITTED, "waiting for the next attempt after: exit code 3")}


@pytest.mark.parametrize(
    ("finished", "expected"),
    [
        ("2026-11-25T13:00:30Z", ("exit code 3", 3, FailureCause.CODE_ERROR)),
        ("2026-11-25T13:01:30Z", ("DeadlineExceeded: too long", None, FailureCause.TIMEOUT)),
    ],
)
def test_a_sidecar_that_runs_into_the_deadline_of_its_pod_does_not_hide_how_the_program_ended(
    finished: str, expected: tuple[str, int | None, FailureCause]
) -> None:
    """Istio's proxy without native sidecars: the program has failed, and the pod goes on to its deadline."""
    late = pod_of(
        of("trainer", ended(3, finishedAt=finished)),
        of("istio-proxy", ended(143, finishedAt="2026-11-25T13:01:31Z")),
        spec={"activeDeadlineSeconds": 60},
        phase="Failed",
        startTime="2026-11-25T13:00:00Z",
        reason="DeadlineExceeded",
        message="too long",
    )
    state = state_of(own(failed()), [late])
    assert (state.reason, state.exit_code, state.cause) == expected


SIDECAR = {"initContainers": [{"name": "proxy", "restartPolicy": "Always"}]}


@pytest.mark.parametrize(
    "proxy",
    [
        {"state": ended(137, "OOMKilled")},
        {"state": ended(1)},
        {"state": ended(137), "lastState": ended(2)},
        {"state": waiting("CrashLoopBackOff", "back-off"), "lastState": ended(1)},
        {"state": RUNNING},
        {"state": RUNNING, "lastState": ended(137, "OOMKilled")},
    ],
)
@pytest.mark.parametrize("container", ["trainer", None])
def test_however_a_native_sidecar_ended_the_exit_code_is_the_program_s(
    proxy: dict[str, Any], container: str | None
) -> None:
    given = pod_of(
        of("trainer", ended(3)), spec=SIDECAR, phase="Failed", initContainerStatuses=[{"name": "proxy", **proxy}]
    )
    state = state_of(own(failed()), [given], container)
    assert (state.reason, state.exit_code, state.cause) == ("exit code 3", 3, FailureCause.CODE_ERROR)


@pytest.mark.parametrize(
    ("proxy", "reason"),
    [
        ({"state": waiting("CrashLoopBackOff"), "lastState": ended(2)}, "CrashLoopBackOff, exit code 2"),
        ({"state": ended(2), "lastState": {}, "restartCount": 1}, "exit code 2"),  # Kubernetes 1.34
    ],
)
def test_a_native_sidecar_that_never_gets_ready_is_why_the_program_does_not_start(
    proxy: dict[str, Any], reason: str
) -> None:
    given = pod_of(
        of("trainer", waiting("PodInitializing")),
        spec=SIDECAR,
        phase="Pending",
        initContainerStatuses=[{"name": "proxy", **proxy}],
    )
    state = state_of(own(job(active=1)), [given])
    assert (state.status, state.reason) == (JobStatus.SUBMITTED, f"in the container proxy: {reason}")
