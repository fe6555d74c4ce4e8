"""Why jobs failed or wait: containers beside their own, disruptions, Spot nodes, deleted pods, events, late lists."""

from __future__ import annotations

from typing import Any

import pytest

from caliban.platforms.kubernetes.job_status import needs_events, needs_pods, state_of, status_of
from caliban.platforms.kubernetes.kubeconfig_platform import KubeconfigPlatform
from caliban.records import FailureCause, JobStatus, JobUpdate
from tests.fakes import RecordingReporter
from tests.platforms.kubernetes.helpers import DESTINATION, condition, ended, failed, job, pod, waiting
from tests.platforms.kubernetes.test_statuses import EVENTS, LIST, PODS, fail, jobs_at, queried
from tests.standins.faults import Fault
from tests.standins.kubernetes import KubeApi
from tests.standins.kubernetes.controller import finished
from tests.standins.kubernetes.status import JOBS
from tests.standins.kubernetes.status import PODS as POD_RESOURCE
from tests.standins.serving import Answer, Call

EARLIER, LATER = "2026-11-25T13:00:00Z", "2026-11-25T14:00:00Z"
RUNNING = {"running": {"startedAt": EARLIER}}
QUOTA = 'pods "x" is forbidden: exceeded quota: lab, requested: pods=1, used: pods=0, limited: pods=0'


def of(name: str, state: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "state": state}


def own(given: dict[str, Any], name: str = "trainer") -> dict[str, Any]:
    """Return a job whose own container has a name."""
    return {**given, "spec": {"template": {"spec": {"containers": [{"name": name}]}}}}


def pod_of(*statuses: dict[str, Any], spec: dict[str, Any] | None = None, **status: Any) -> dict[str, Any]:
    return {**pod(containerStatuses=list(statuses), **status), "spec": spec or {}}


def why(of_pod: dict[str, Any]) -> tuple[str | None, int | None, FailureCause | None]:
    state = state_of(own(failed()), [of_pod])
    return state.reason, state.exit_code, state.cause


@pytest.mark.parametrize(
    "reason",
    [
        *("ErrImagePull", "ErrImageNeverPull", "ImagePullBackOff", "InvalidImageName", "ImageInspectError"),
        *("CreateContainerError", "CreateContainerConfigError", "RunContainerError", "PostStartHookError"),
        *("RegistryUnavailable", "SignatureValidationFailed"),
    ],
)
def test_a_container_that_cannot_be_created_is_a_matter_of_its_image(reason: str) -> None:
    assert why(pod_of(of("trainer", waiting(reason, "why")))) == (f"{reason}: why", None, FailureCause.IMAGE)


@pytest.mark.parametrize("reason", ["OutOfmemory", "OutOfcpu", "UnexpectedAdmissionError", "TopologyAffinityError"])
def test_a_pod_that_its_node_does_not_admit_is_a_matter_of_the_cluster(reason: str) -> None:
    assert why(pod_of(reason=reason, message="full")) == (f"{reason}: full", None, FailureCause.INFRASTRUCTURE)


def test_an_exit_code_that_the_kubelet_made_up_is_not_the_job_s() -> None:
    lost = of("trainer", ended(137, "ContainerStatusUnknown", message="could not be located"))
    assert why(pod_of(lost)) == ("ContainerStatusUnknown: could not be located", None, FailureCause.INFRASTRUCTURE)


def test_a_kill_beside_a_container_that_was_out_of_memory_is_one_too() -> None:
    statuses = of("trainer", ended(137)), of("loader", ended(137, "OOMKilled"))
    assert why(pod_of(*statuses)) == ("exit code 137", 137, FailureCause.OUT_OF_MEMORY)


def test_a_kill_in_a_pod_with_a_memory_limit_of_its_own_is_out_of_memory() -> None:
    limited = {"resources": {"limits": {"memory": "1Gi"}}}
    assert why(pod_of(of("trainer", ended(137)), spec=limited)) == ("exit code 137", 137, FailureCause.OUT_OF_MEMORY)


def test_a_kill_without_a_known_reason_is_no_lack_of_memory() -> None:
    assert why(pod_of(of("trainer", ended(137)))) == ("exit code 137", 137, FailureCause.CODE_ERROR)


def test_the_end_of_a_native_sidecar_explains_nothing() -> None:
    spec = {"initContainers": [{"name": "proxy", "restartPolicy": "Always"}, {"name": "setup"}]}
    sidecars = [of("proxy", ended(143)), of("setup", ended(4))]
    reason, code, cause = why(pod_of(of("trainer", ended(0)), spec=spec, initContainerStatuses=sidecars))
    assert (reason, code, cause) == ("in the container setup: exit code 4", None, FailureCause.INFRASTRUCTURE)


def disruption(reason: str, message: str = "") -> dict[str, str]:
    return condition("DisruptionTarget", reason=reason, message=message, lastTransitionTime=LATER)


def test_a_job_that_failed_before_its_pod_was_evicted_failed_by_itself() -> None:
    statuses = of("trainer", ended(3, finishedAt=EARLIER)), of("proxy", ended(137, finishedAt=LATER))
    evicted = pod_of(*statuses, conditions=[disruption("EvictionByEvictionAPI")])
    assert why(evicted) == ("exit code 3", 3, FailureCause.CODE_ERROR)


@pytest.mark.parametrize(("code", "finished"), [(1, LATER), (143, LATER), (137, EARLIER)])
def test_a_job_that_an_eviction_ended_did_not_fail_by_itself(code: int, finished: str) -> None:
    evicted = pod_of(of("trainer", ended(code, finishedAt=finished)), conditions=[disruption("EvictionByEvictionAPI")])
    assert why(evicted) == ("EvictionByEvictionAPI", None, FailureCause.INFRASTRUCTURE)


SPOT = [
    {"cloud.google.com/gke-spot": "true"},
    {"cloud.google.com/gke-preemptible": "true"},
    {"eks.amazonaws.com/capacityType": "SPOT"},
    {"karpenter.sh/capacity-type": "spot"},
    {"kubernetes.azure.com/scalesetpriority": "spot"},
]


@pytest.mark.parametrize("selector", SPOT)
@pytest.mark.parametrize("reason", ["DeletionByPodGC", "DeletionByTaintManager"])
def test_a_spot_node_that_is_gone_was_taken_back(selector: dict[str, str], reason: str) -> None:
    lost = pod_of(of("trainer", ended(143)), spec={"nodeSelector": selector}, conditions=[disruption(reason)])
    assert why(lost) == (reason, None, FailureCause.PREEMPTED)


def test_an_eviction_from_a_spot_node_is_not_its_end() -> None:
    full = pod_of(spec={"nodeSelector": SPOT[0]}, reason="Evicted", message="The node was low on resource: memory.")
    assert why(full)[2] is FailureCause.INFRASTRUCTURE


@pytest.mark.parametrize("reason", ["FailedIndexes", "MaxFailedIndexesExceeded", ""])
def test_the_pods_explain_every_limit_of_failures(reason: str) -> None:
    assert state_of(own(failed(reason)), [pod_of(of("trainer", ended(3)))]).exit_code == 3


def test_the_exit_code_in_the_message_of_a_policy_outlives_the_pods() -> None:
    message = "Container trainer for pod default/x-abcde failed with exit code 42 matching FailJob rule at index 0"
    state = state_of(own(failed("PodFailurePolicy", message)), [])
    assert (state.reason, state.exit_code, state.cause) == ("exit code 42", 42, FailureCause.CODE_ERROR)


def test_the_exit_code_of_another_container_in_such_a_message_is_not_the_job_s() -> None:
    message = "Container proxy for pod default/x-abcde failed with exit code 42 matching FailJob rule at index 0"
    state = state_of(own(failed("PodFailurePolicy", message)), [])
    assert (state.exit_code, state.cause) == (None, FailureCause.INFRASTRUCTURE)


def test_a_secret_at_the_end_of_the_output_is_not_recorded() -> None:
    secret = "ghp_" + "a1B2" * 9
    reason = why(pod_of(of("trainer", ended(1, message=f"login with {secret} failed"))))[0]
    assert reason == "exit code 1: login with *** failed"


def pending(*statuses: dict[str, Any], **status: Any) -> dict[str, Any]:
    return pod_of(*statuses, phase="Pending", **status)


UNSCHEDULABLE = condition("PodScheduled", "False", reason="Unschedulable", message="0/3 nodes")
GATED = condition("PodScheduled", "False", reason="SchedulingGated", message="gates")


@pytest.mark.parametrize(
    ("of_pod", "reason"),
    [
        (pending(conditions=[UNSCHEDULABLE]), "unschedulable: 0/3 nodes"),
        (pending(conditions=[GATED]), "SchedulingGated: gates"),
        (pending(of("trainer", waiting("ImagePullBackOff", "x"))), "ImagePullBackOff: x"),
        (pending(of("trainer", waiting("ContainerCreating"))), None),
        (
            pending(of("trainer", RUNNING), of("proxy", waiting("ErrImagePull", "x"))),
            "in the container proxy: ErrImagePull: x",
        ),
    ],
)
def test_a_job_whose_pod_is_pending_does_not_run_yet(of_pod: dict[str, Any], reason: str | None) -> None:
    state = state_of(own(job(active=1)), [of_pod])
    assert (state.status, state.reason) == (JobStatus.SUBMITTED, reason)


def test_a_sidecar_that_keeps_an_ended_job_open_is_named() -> None:
    of_pod = pod_of(of("trainer", ended(3)), of("istio-proxy", RUNNING), phase="Running")
    state = state_of(own(job(active=1)), [of_pod])
    expected = "the program has ended with exit code 3, but the container istio-proxy still runs"
    assert (state.status, state.reason) == (JobStatus.RUNNING, expected)


def test_a_native_sidecar_does_not_keep_a_job_open() -> None:
    spec = {"initContainers": [{"name": "proxy", "restartPolicy": "Always"}]}
    sidecar = [of("proxy", RUNNING)]
    of_pod = pod_of(of("trainer", ended(0)), spec=spec, phase="Running", initContainerStatuses=sidecar)
    assert state_of(own(job(active=1)), [of_pod]).reason is None


def test_a_pod_on_a_lost_node_is_why_its_job_does_not_end() -> None:
    lost = pod_of(of("trainer", RUNNING), phase="Running", conditions=[disruption("DeletionByTaintManager", "taint")])
    lost["metadata"]["deletionTimestamp"] = LATER
    given = own(job(terminating=1))
    state = state_of(given, [lost])
    assert (needs_pods(given), state.status) == (True, JobStatus.RUNNING)
    assert state.reason == "DeletionByTaintManager: taint"


def test_between_attempts_the_reason_is_the_end_of_the_last_one() -> None:
    given = own(job(failed=2))
    pods = [pod_of(of("trainer", ended(1)), phase="Failed"), pod_of(of("trainer", ended(2)), phase="Failed")]
    pods[1]["metadata"]["creationTimestamp"] = LATER
    state = state_of(given, pods)
    assert (needs_pods(given), status_of(given)) == (True, JobStatus.SUBMITTED)
    assert state.reason == "waiting for the next attempt after: exit code 2"


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (job(), True),
        (job(suspend=True), False),
        (job(active=1), False),
        (job(failed=1), False),
        (job(condition("Complete"), succeeded=1), False),
        (failed("DeadlineExceeded"), True),
    ],
)
def test_events_are_needed_where_no_pod_was_created(given: dict[str, Any], wanted: bool) -> None:
    assert needs_events(given) is wanted


def test_a_job_whose_pods_are_refused_shows_why(cluster: KubeApi, platform: KubeconfigPlatform) -> None:
    jobs = jobs_at(platform, 2)
    cluster.jobs.cannot_create_pods("job-1", QUOTA)
    found = {number: job.updated(platform.statuses(jobs)[number]) for number, job in enumerate(jobs, 1)}
    assert {number: each.status for number, each in found.items()} == dict.fromkeys((1, 2), JobStatus.SUBMITTED)
    assert found[1].details.pending_reason == f"FailedCreate: Error creating: {QUOTA}"
    assert found[2].details.pending_reason is None
    assert queried(cluster) == {LIST: 2, EVENTS: 2}


def test_events_of_an_earlier_job_of_the_same_name_do_not_count(cluster: KubeApi, platform: KubeconfigPlatform) -> None:
    jobs_at(platform, 1)
    cluster.jobs.cannot_create_pods("job-1", QUOTA)
    cluster.jobs.remove("job-1")
    assert platform.statuses(jobs_at(platform, 1)) == {1: JobUpdate(JobStatus.SUBMITTED)}


def test_if_events_may_not_be_listed_that_is_reported_once(
    cluster: KubeApi, platform: KubeconfigPlatform, reporter: RecordingReporter
) -> None:
    jobs = jobs_at(platform, 2)
    cluster.forbidden.add(EVENTS)
    for _ in range(2):
        assert platform.statuses(jobs) == {job.id: JobUpdate(JobStatus.SUBMITTED) for job in jobs}
    (line,) = reporter.lines
    assert line.startswith("cannot determine in full why jobs wait or failed: cannot list the events of the cluster of")


def test_an_event_explains_why_a_job_failed_whose_pods_are_deleted(
    cluster: KubeApi, platform: KubeconfigPlatform
) -> None:
    (job,) = jobs_at(platform, 1)
    fail(cluster, "job-1")
    cluster.jobs.pod_event("job-1", "Preempted", "Preempted by pod y on node n")
    cluster.jobs.remove_pods("job-1")
    how = job.updated(platform.statuses([job])[1]).details.exit
    assert how is not None
    assert (how.code, how.cause) == (None, FailureCause.PREEMPTED)
    assert "Preempted: Preempted by pod y on node n; exit code unknown" in str(how.message)


@pytest.mark.parametrize(("container", "cause"), [("job-stop-test", "infrastructure"), ("istio-proxy", "unknown")])
def test_a_pod_that_was_deleted_while_the_program_ran_did_not_fail_by_itself(
    cluster: KubeApi, platform: KubeconfigPlatform, container: str, cause: str
) -> None:
    (job,) = jobs_at(platform, 1)
    fail(cluster, "job-1")
    cluster.jobs.pod_event("job-1", "Killing", f"Stopping container {container}")
    cluster.jobs.remove_pods("job-1")
    how = job.updated(platform.statuses([job])[1]).details.exit
    assert how is not None
    assert str(how.cause) == cause


def test_an_event_that_says_more_comes_first(cluster: KubeApi, platform: KubeconfigPlatform) -> None:
    (job,) = jobs_at(platform, 1)
    fail(cluster, "job-1")
    cluster.jobs.pod_event("job-1", "Preempted", "Preempted by pod y")
    cluster.jobs.pod_event("job-1", "Killing", "Stopping container job-stop-test")
    cluster.jobs.remove_pods("job-1")
    how = job.updated(platform.statuses([job])[1]).details.exit
    assert how is not None
    assert how.cause is FailureCause.PREEMPTED


def test_an_event_of_a_pod_of_another_job_explains_nothing(cluster: KubeApi, platform: KubeconfigPlatform) -> None:
    (job, _) = jobs_at(platform, 2)
    cluster.state.add(JOBS, {**cluster.jobs.get("job-2"), "metadata": {"name": "job-1-2", "namespace": "default"}})
    fail(cluster, "job-1")
    cluster.jobs.create_pod("job-1-2")
    cluster.jobs.pod_event("job-1-2", "Preempted", "not ours")
    cluster.jobs.remove_pods("job-1")
    how = job.updated(platform.statuses([job])[1]).details.exit
    assert how is not None
    assert (how.cause, "not ours" in str(how.message)) == (FailureCause.UNKNOWN, False)


def test_a_job_that_is_listed_as_failed_before_its_pods_gets_their_exit_code(
    cluster: KubeApi, platform: KubeconfigPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    (job,) = jobs_at(platform, 1)
    fail(cluster, "job-1", 3)
    real, lists = cluster.answer, []

    def answer(call: Call, fault: Fault | None) -> Answer:
        found = real(call, fault)
        if call.path.endswith("/pods"):
            lists.append(call)
            if len(lists) < 3:
                found.body["items"] = []
        return found

    monkeypatch.setattr(cluster, "answer", answer)
    how = job.updated(platform.statuses([job])[1]).details.exit
    assert how is not None
    assert (how.code, queried(cluster)) == (3, {LIST: 1, PODS: 3})


def test_a_pod_that_is_listed_as_running_does_not_hide_the_exit_code_of_its_failed_job(
    cluster: KubeApi, platform: KubeconfigPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    (job,) = jobs_at(platform, 1)
    cluster.jobs.start("job-1")
    earlier = cluster.state.items(POD_RESOURCE)
    fail(cluster, "job-1", 3)
    real, lists = cluster.answer, []

    def answer(call: Call, fault: Fault | None) -> Answer:
        found = real(call, fault)
        if call.path.endswith("/pods"):
            lists.append(call)
            if len(lists) == 1:
                found.body["items"] = earlier
        return found

    monkeypatch.setattr(cluster, "answer", answer)
    how = job.updated(platform.statuses([job])[1]).details.exit
    assert how is not None
    assert (how.code, len(lists)) == (3, 2)


def test_a_listing_does_not_wait_for_pods_that_are_deleted(cluster: KubeApi, platform: KubeconfigPlatform) -> None:
    jobs_at(platform, 1)
    fail(cluster, "job-1")
    cluster.jobs.remove_pods("job-1")
    (listed,) = platform.listing(DESTINATION)
    assert listed.state.status is JobStatus.FAILED
    assert queried(cluster) == {LIST: 1, PODS: 1, EVENTS: 1}


def test_a_listing_gives_reasons_in_the_words_of_status(cluster: KubeApi, platform: KubeconfigPlatform) -> None:
    jobs_at(platform, 2)
    while not finished(cluster.jobs.get("job-1")):
        cluster.jobs.fail("job-1", 137, "OOMKilled")
    cluster.jobs.unschedulable("job-2", "0/3 nodes are available")
    reasons = {listed.name: listed.state.reason for listed in platform.listing(DESTINATION)}
    expected = "out of memory, exit code 137 (SIGKILL)"
    assert reasons == {"job-1": expected, "job-2": "unschedulable: 0/3 nodes are available"}
