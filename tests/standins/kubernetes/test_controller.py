"""Jobs go through the conditions that the real controller sets, and their pods show why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.standins.kubernetes import KubeApi
from tests.standins.kubernetes.callers import JOBS, Official, Raw, job_body

DISRUPTIONS = {"rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]}
BAD_ARGUMENTS = {"rules": [{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}}]}


@pytest.fixture
def run(official: Official) -> Any:
    """Sends a Job with the spec that it is given."""
    return lambda **spec: official.batch.create_namespaced_job("default", job_body(**spec))


def status_of(official: Official) -> Any:
    return official.batch.read_namespaced_job("a-job", "default").status


def conditions(official: Official) -> list[tuple[str, str, str | None]]:
    return [(known.type, known.status, known.reason) for known in status_of(official).conditions or []]


def pods(official: Official) -> list[Any]:
    found: list[Any] = official.core.list_namespaced_pod("default", label_selector="job-name=a-job").items
    return found


def test_a_job_that_runs_has_an_active_pod_that_is_ready(run: Any, official: Official, cluster: KubeApi) -> None:
    run()
    cluster.jobs.create_pod("a-job")
    waiting = status_of(official)
    cluster.jobs.start("a-job")
    running = status_of(official)
    assert [(seen.active, seen.ready) for seen in (waiting, running)] == [(1, 0), (1, 1)]
    assert running.start_time is not None
    (pod,) = pods(official)
    assert (pod.status.phase, pod.status.container_statuses[0].state.running is not None) == ("Running", True)
    assert pod.metadata.owner_references[0].name == "a-job"


def test_a_job_that_succeeds_is_complete_with_the_time_of_its_end(
    run: Any, official: Official, cluster: KubeApi
) -> None:
    run()
    cluster.jobs.succeed("a-job")
    status = status_of(official)
    reason = "CompletionsReached"
    assert conditions(official) == [("SuccessCriteriaMet", "True", reason), ("Complete", "True", reason)]
    assert (status.succeeded, status.active, status.ready, status.failed) == (1, None, 0, None)
    assert status.completion_time is not None
    assert pods(official)[0].status.container_statuses[0].state.terminated.reason == "Completed"


def test_an_interim_condition_comes_before_the_final_one(run: Any, official: Official, cluster: KubeApi) -> None:
    run(backoffLimit=0)
    cluster.jobs.fail("a-job", is_final=False)
    assert conditions(official) == [("FailureTarget", "True", "BackoffLimitExceeded")]
    cluster.jobs.conclude("a-job")
    assert conditions(official)[-1] == ("Failed", "True", "BackoffLimitExceeded")
    assert status_of(official).completion_time is None


def test_versions_before_1_31_set_the_final_condition_only(tmp_path: Path) -> None:
    with KubeApi("1.30") as cluster:
        Raw.of(cluster, tmp_path).send("POST", JOBS, job_body(backoffLimit=0))
        with pytest.raises(ValueError, match="sets no interim condition"):
            cluster.jobs.succeed("a-job", is_final=False)
        cluster.jobs.fail("a-job")
        kinds = [known["type"] for known in cluster.jobs.get("a-job")["status"]["conditions"]]
    assert kinds == ["Failed"]


def test_each_failure_gets_another_pod_until_the_limit_is_passed(
    run: Any, official: Official, cluster: KubeApi
) -> None:
    run(backoffLimit=2)
    seen = []
    for _ in range(3):
        cluster.jobs.fail("a-job", 3)
        seen.append((status_of(official).failed, len(pods(official)), len(conditions(official))))
    assert seen == [(1, 1, 0), (2, 2, 0), (3, 3, 2)]
    ended = pods(official)[0].status.container_statuses[0].state.terminated
    assert (ended.exit_code, ended.reason) == (3, "Error")
    assert status_of(official).conditions[-1].message == "Job has reached the specified backoff limit"


def test_between_two_pods_nothing_is_active_and_nothing_has_ended(
    run: Any, official: Official, cluster: KubeApi
) -> None:
    run(backoffLimit=1)
    cluster.jobs.fail("a-job")
    status = status_of(official)
    assert (status.active, status.failed, status.conditions, status.start_time is None) == (None, 1, None, False)


def test_a_container_that_is_out_of_memory_says_so(run: Any, official: Official, cluster: KubeApi) -> None:
    run(backoffLimit=0)
    cluster.jobs.fail("a-job", 137, "OOMKilled")
    ended = pods(official)[0].status.container_statuses[0].state.terminated
    assert (ended.exit_code, ended.reason) == (137, "OOMKilled")


def test_a_container_that_may_be_restarted_is_so_in_its_own_pod(run: Any, official: Official, cluster: KubeApi) -> None:
    body = job_body(backoffLimit=2)
    body["spec"]["template"]["spec"]["restartPolicy"] = "OnFailure"
    official.batch.create_namespaced_job("default", body)
    cluster.jobs.fail("a-job", 3)
    (pod,) = pods(official)
    container = pod.status.container_statuses[0]
    assert (container.restart_count, container.state.waiting.reason) == (1, "CrashLoopBackOff")
    assert container.last_state.terminated.exit_code == 3
    cluster.jobs.fail("a-job", 3)
    assert conditions(official)[-1] == ("Failed", "True", "BackoffLimitExceeded")
    assert pods(official) == []


def test_a_disruption_that_the_policy_ignores_is_not_counted(run: Any, official: Official, cluster: KubeApi) -> None:
    run(backoffLimit=0, podFailurePolicy=DISRUPTIONS)
    cluster.jobs.start("a-job")
    for step in (cluster.jobs.preempt, cluster.jobs.evict, cluster.jobs.shut_node_down):
        step("a-job")
    assert (status_of(official).failed, conditions(official)) == (None, [])
    known = [pod.status.conditions[0] for pod in pods(official)]
    assert {condition.type for condition in known} == {"DisruptionTarget"}
    assert sorted(condition.reason for condition in known) == [
        "PreemptionByScheduler",
        "TerminationByKubelet",
        "TerminationByKubelet",
    ]


def test_an_eviction_is_a_failure_like_any_other_without_a_policy(
    run: Any, official: Official, cluster: KubeApi
) -> None:
    run(backoffLimit=0)
    cluster.jobs.start("a-job")
    cluster.jobs.evict("a-job")
    (pod,) = pods(official)
    assert (pod.status.phase, pod.status.reason) == ("Failed", "Evicted")
    assert pod.status.message.startswith("The node was low on resource: memory.")
    assert conditions(official)[-1] == ("Failed", "True", "BackoffLimitExceeded")


def test_an_exit_code_that_the_policy_knows_ends_the_job_at_once(
    run: Any, official: Official, cluster: KubeApi
) -> None:
    run(podFailurePolicy=BAD_ARGUMENTS)
    cluster.jobs.fail("a-job", 42)
    name = pods(official)[0].metadata.name
    last = status_of(official).conditions[-1]
    words = f"Container main for pod default/{name} failed with exit code 42 matching FailJob rule at index 0"
    assert (last.type, last.reason, last.message) == ("Failed", "PodFailurePolicy", words)


def test_an_image_that_cannot_be_had_keeps_the_job_active(run: Any, official: Official, cluster: KubeApi) -> None:
    run()
    cluster.jobs.image_pull_fails("a-job", "ErrImagePull: not found")
    (pod,) = pods(official)
    waiting = pod.status.container_statuses[0].state.waiting
    words = 'Back-off pulling image "registry.example.com/x:1": ErrImagePull: not found'
    assert (pod.status.phase, waiting.reason, waiting.message) == ("Pending", "ImagePullBackOff", words)
    assert (status_of(official).active, status_of(official).ready) == (1, 0)


def test_a_pod_that_no_node_takes_says_why(run: Any, official: Official, cluster: KubeApi) -> None:
    run()
    cluster.jobs.unschedulable("a-job", "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.")
    (known,) = pods(official)[0].status.conditions
    assert (known.type, known.status, known.reason) == ("PodScheduled", "False", "Unschedulable")
    assert status_of(official).active == 1


def test_a_deadline_ends_the_job_and_takes_its_pod(run: Any, official: Official, cluster: KubeApi) -> None:
    run(activeDeadlineSeconds=60)
    cluster.jobs.start("a-job")
    cluster.jobs.finish_by_deadline("a-job")
    assert conditions(official)[-1] == ("Failed", "True", "DeadlineExceeded")
    assert (pods(official), status_of(official).failed) == ([], 1)


def test_a_suspended_job_has_no_pod_and_no_start(run: Any, official: Official, cluster: KubeApi) -> None:
    run()
    cluster.jobs.start("a-job")
    cluster.jobs.suspend("a-job")
    assert conditions(official) == [("Suspended", "True", "JobSuspended")]
    assert (pods(official), status_of(official).start_time, status_of(official).active) == ([], None, None)
    assert official.batch.read_namespaced_job("a-job", "default").metadata.generation == 2
    with pytest.raises(ValueError, match="is suspended"):
        cluster.jobs.start("a-job")
    cluster.jobs.resume("a-job")
    assert conditions(official) == [("Suspended", "False", "JobResumed")]


def test_a_job_can_be_sent_suspended(run: Any, official: Official) -> None:
    run(suspend=True)
    assert conditions(official) == [("Suspended", "True", "JobSuspended")]
    assert status_of(official).start_time is None


def test_a_job_is_removed_after_its_time(run: Any, official: Official, cluster: KubeApi) -> None:
    run(ttlSecondsAfterFinished=60)
    with pytest.raises(ValueError, match="has not ended"):
        cluster.jobs.remove_by_ttl("a-job")
    cluster.jobs.succeed("a-job")
    cluster.jobs.remove_by_ttl("a-job")
    assert (official.batch.list_namespaced_job("default").items, pods(official)) == ([], [])


def test_a_job_outlives_its_pods(run: Any, official: Official, cluster: KubeApi) -> None:
    run(backoffLimit=0)
    cluster.jobs.fail("a-job")
    cluster.jobs.remove_pods("a-job")
    assert (pods(official), conditions(official)[-1][0]) == ([], "Failed")


def test_a_job_of_several_completions_is_complete_with_the_last(run: Any, official: Official, cluster: KubeApi) -> None:
    run(completions=2)
    cluster.jobs.succeed("a-job")
    assert (conditions(official), status_of(official).succeeded) == ([], 1)
    cluster.jobs.succeed("a-job")
    assert conditions(official)[-1][0] == "Complete"


def test_a_job_that_is_indexed_is_kept_but_not_run(run: Any, official: Official, cluster: KubeApi) -> None:
    run(completionMode="Indexed", completions=2)
    with pytest.raises(ValueError, match="is indexed"):
        cluster.jobs.start("a-job")
    assert official.batch.read_namespaced_job("a-job", "default").spec.completions == 2


def test_a_job_that_has_ended_does_not_go_on(run: Any, cluster: KubeApi) -> None:
    run()
    cluster.jobs.succeed("a-job")
    with pytest.raises(ValueError, match="has ended"):
        cluster.jobs.fail("a-job")


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ("finish_by_deadline", "has no activeDeadlineSeconds"),
        ("conclude", "no interim"),
        ("fly", "There is no step fly"),
    ],
)
def test_a_step_that_cannot_be_taken_is_a_mistake_of_the_test_s(
    run: Any, cluster: KubeApi, step: str, words: str
) -> None:
    run()
    with pytest.raises(ValueError, match=words):
        cluster.jobs.step(step, "a-job")
