"""Jobs of a real cluster that cannot start, or do not end, and what `status` and `cluster job ls` say of them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from caliban.platforms.kubernetes.details import KubeconfigDestination
from caliban.records import JobStatus
from tests.e2e.conftest import wait_until
from tests.real_cluster.conftest import CONTEXT, TIMEOUT, RealCluster
from tests.real_cluster.jobs import Jobs, kubectl, namespace_with, new_platform

LIMITS = {
    "apiVersion": "v1",
    "kind": "LimitRange",
    "metadata": {"name": "lab"},
    "spec": {"limits": [{"type": "Container", "max": {"memory": "32Mi"}}]},
}


@pytest.fixture
def jobs(real: RealCluster) -> Jobs:
    return Jobs(real, new_platform())


@pytest.fixture
def with_rules(jobs: Jobs) -> Iterator[Jobs]:
    """A namespace where a container may have 32 MiB of memory at most, and has to say how many CPUs it may use."""
    with namespace_with(jobs.real, "--hard=limits.cpu=1"):
        kubectl("apply", "-n", jobs.namespace, "-f", "-", stdin=json.dumps(LIMITS))
        yield jobs


def limits(**resources: str) -> dict[str, Any]:
    return {"container": {"resources": {"limits": resources}}}


def without_pod(reason: str | None) -> str:
    """Return a reason without the name of the pod, which is another one at each attempt."""
    return re.sub(r"main-\w{10}-\w{5}", "POD", str(reason))


def test_a_job_whose_pods_the_rules_of_the_namespace_refuse_says_which(with_rules: Jobs) -> None:
    few = {"cpu": "10m", "memory": "16Mi"}
    refused = {
        "failed quota: lab: must specify limits.cpu for: main": with_rules.create("true", **limits(memory="16Mi")),
        "exceeded quota: lab, requested: limits.cpu=2": with_rules.create("true", **limits(cpu="2", memory="16Mi")),
        "maximum memory usage per Container is 32Mi, but limit is 64Mi": with_rules.create(
            "true", **limits(cpu="10m", memory="64Mi")
        ),
        'error looking up service account {}: serviceaccount "no" not found': with_rules.create(
            "true", **limits(**few), pod={"serviceAccountName": "no"}
        ),
        "no PriorityClass with name no was found": with_rules.create(
            "true", **limits(**few), pod={"priorityClassName": "no"}
        ),
        'RuntimeClass "no" not found': with_rules.create("true", **limits(**few), pod={"runtimeClassName": "no"}),
    }
    reasons = {}
    for text, job in refused.items():
        expected = text.format(f"{with_rules.namespace}/no")
        found = with_rules.wait_for(job, expected)
        assert found.status is JobStatus.SUBMITTED
        reasons[job.details.display_name] = without_pod(found.reason)
    listed = with_rules.platform.listing(KubeconfigDestination(CONTEXT, namespace=with_rules.namespace))
    assert {each.name: without_pod(each.state.reason) for each in listed} == reasons


def test_a_job_within_the_rules_of_the_namespace_succeeds(with_rules: Jobs) -> None:
    job = with_rules.ended(with_rules.create("true", **limits(cpu="10m", memory="16Mi")))
    assert job.status is JobStatus.SUCCEEDED


@pytest.mark.parametrize(
    ("volume", "reason"),
    [
        ({"secret": {"secretName": "no"}}, 'FailedMount: MountVolume.SetUp failed for volume "data" : secret "no"'),
        ({"persistentVolumeClaim": {"claimName": "no"}}, 'persistentvolumeclaim "no" not found'),
        ({"hostPath": {"path": "/no/such", "type": "Directory"}}, "FailedMount: MountVolume.SetUp failed for volume"),
    ],
)
def test_a_volume_that_cannot_be_mounted_is_why_a_job_does_not_start(
    jobs: Jobs, volume: dict[str, Any], reason: str
) -> None:
    mount = {"volumeMounts": [{"name": "data", "mountPath": "/data"}]}
    job = jobs.create("true", pod={"volumes": [{"name": "data", **volume}]}, container=mount)
    assert jobs.wait_for(job, reason).status is JobStatus.SUBMITTED


@pytest.mark.parametrize(
    ("pod", "reason"),
    [
        ({"schedulerName": "volcano"}, "not scheduled yet by the scheduler volcano"),
        ({"schedulingGates": [{"name": "example.com/gate"}]}, "SchedulingGated: "),
    ],
)
def test_a_job_whose_pod_gets_no_node_says_why(jobs: Jobs, pod: dict[str, Any], reason: str) -> None:
    assert jobs.wait_for(jobs.create("true", pod=pod), reason).status is JobStatus.SUBMITTED


def test_a_pull_secret_that_does_not_exist_is_named(jobs: Jobs) -> None:
    job = jobs.create("true", pod={"imagePullSecrets": [{"name": "no"}]}, container={"image": "localhost:1/no/such:x"})
    found = jobs.wait_for(job, "FailedToRetrieveImagePullSecret: Unable to retrieve some image pull secrets (no)")
    assert (found.status, bool(re.search("; (ErrImagePull|ImagePullBackOff): ", str(found.reason)))) == (
        JobStatus.SUBMITTED,
        True,
    )


@pytest.mark.parametrize(
    ("container", "reason"),
    [
        ({"image": "localhost:1/no/such:x", "imagePullPolicy": "Never"}, "ErrImageNeverPull: "),
        ({"securityContext": {"runAsNonRoot": True}}, "container has runAsNonRoot and image will run as root"),
        ({"resources": {"limits": {"nvidia.com/gpu": "1"}}}, "unschedulable: 0/1 nodes are available: 1 Insufficient"),
    ],
)
def test_a_container_that_the_node_does_not_start_says_why(jobs: Jobs, container: dict[str, Any], reason: str) -> None:
    assert jobs.wait_for(jobs.create("true", container=container), reason).status is JobStatus.SUBMITTED


def test_a_failing_init_container_is_why_a_job_does_not_start(jobs: Jobs) -> None:
    setup = {"name": "setup", "image": "localhost:1/no/such:image"}
    job = jobs.wait_for(jobs.create("true", pod={"initContainers": [setup]}), "in the container setup: ")
    assert job.status is JobStatus.SUBMITTED
    assert "ImagePull" in str(job.reason)


def test_a_native_sidecar_that_never_starts_is_why_a_job_does_not_start(jobs: Jobs) -> None:
    proxy = {"name": "proxy", "image": jobs.image, "args": ["-c", "exit 2"], "restartPolicy": "Always"}
    probe = {"startupProbe": {"exec": {"command": ["false"]}}}
    job = jobs.create("true", pod={"initContainers": [{**proxy, **probe}]})
    found = jobs.wait_for(job, "in the container proxy: ")
    assert found.status is JobStatus.SUBMITTED
    assert re.search("in the container proxy: (CrashLoopBackOff, )?exit code 2", str(found.reason))


def test_a_native_sidecar_that_fails_does_not_hide_how_the_program_ended(jobs: Jobs) -> None:
    proxy = {"name": "proxy", "image": jobs.image, "args": ["-c", "sleep 1; exit 9"], "restartPolicy": "Always"}
    job = jobs.ended(jobs.create("sleep 3; exit 3", pod={"initContainers": [proxy]}))
    assert job.details.exit is not None
    assert (job.details.exit.code, job.details.exit.message) == (3, "exit code 3")


def test_a_sidecar_that_runs_into_the_deadline_of_the_pod_does_not_hide_how_the_program_ended(jobs: Jobs) -> None:
    proxy = {"name": "proxy", "image": jobs.image, "args": ["-c", "exec sleep 600"]}
    job = jobs.ended(jobs.create("exit 3", pod={"also": [proxy], "activeDeadlineSeconds": 8}))
    assert job.details.exit is not None
    assert (job.details.exit.code, job.details.exit.message) == (3, "exit code 3")


def test_a_suspended_job_is_submitted_and_runs_once_it_is_resumed(jobs: Jobs) -> None:
    job = jobs.wait_for(jobs.create("true", spec={"suspend": True}), "suspended")
    assert (job.status, job.reason) == (JobStatus.SUBMITTED, "suspended")
    name = str(job.details.display_name)
    kubectl("patch", "job", name, "-n", jobs.namespace, "-p", '{"spec": {"suspend": false}}')
    assert jobs.ended(job).status is JobStatus.SUCCEEDED


def test_a_job_that_is_suspended_while_it_runs_says_so(jobs: Jobs) -> None:
    job = jobs.create("exec sleep 600")
    jobs.wait_until_running(job)
    name = str(job.details.display_name)
    kubectl("patch", "job", name, "-n", jobs.namespace, "-p", '{"spec": {"suspend": true}}')
    wait_until(lambda: jobs.now(job).status is JobStatus.SUBMITTED, TIMEOUT)
    assert jobs.now(job).reason == "suspended"


def test_a_quota_that_refuses_the_next_attempt_is_named(jobs: Jobs) -> None:
    with namespace_with(jobs.real):
        job = jobs.create("sleep 2; exit 3", spec={"backoffLimit": 1})
        jobs.wait_until_running(job)
        kubectl("create", "quota", "lab", "-n", jobs.namespace, "--hard=pods=0")
        found = jobs.wait_for(job, "waiting for the next attempt after: exit code 3; FailedCreate: Error creating: ")
        assert "exceeded quota: lab" in str(found.reason)


def test_a_job_that_its_ttl_removes_keeps_its_state(real: RealCluster) -> None:
    real.submit("true")
    real.wait_for(" SUCCEEDED ")
    (job,) = real.jobs()
    where = (job["metadata"]["name"], "-n", real.namespace)
    kubectl("patch", "job", *where, "-p", '{"spec": {"ttlSecondsAfterFinished": 0}}')
    kubectl("wait", "--for=delete", f"job/{where[0]}", *where[1:], "--timeout=60s")
    assert " SUCCEEDED " in real.status()
