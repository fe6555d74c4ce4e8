"""Clusters whose policies and service meshes change jobs: once a job is accepted, nothing of it is required."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from caliban.platforms.base import RefusedError
from caliban.platforms.kubernetes.kubeconfig_platform import KubeconfigPlatform
from caliban.records import FailureCause, JobExit, JobStatus, JobUpdate, NewJob
from tests.fake_service import may_send
from tests.platforms.kubernetes.helpers import (
    IMAGE,
    NAME,
    PEER_SPEC,
    QUICK,
    TOKEN,
    platform_context,
    record_of,
    submission,
)
from tests.standins.faults import Fault
from tests.standins.kubernetes import KubeApi, Webhook
from tests.standins.kubernetes.admission import MutatingPolicy, ValidatingPolicy
from tests.standins.kubernetes.status import JOBS

OWN = "job-stop-test"
PROXY = {"name": "aa-proxy", "image": "docker.io/mesh/proxy:1", "args": ["-c", "sleep 5"]}
Mutate = Callable[[dict[str, Any]], None]


def pod_of(job: dict[str, Any]) -> dict[str, Any]:
    pod: dict[str, Any] = job["spec"]["template"]["spec"]
    return pod


def add_container_before(job: dict[str, Any]) -> None:
    pod_of(job)["containers"].insert(0, dict(PROXY))


def add_container_after(job: dict[str, Any]) -> None:
    pod_of(job)["containers"].append({**PROXY, "name": "zz-proxy"})


def add_init_containers(job: dict[str, Any]) -> None:
    sidecar = {**PROXY, "name": "sidecar", "restartPolicy": "Always"}
    pod_of(job)["initContainers"] = [sidecar, {**PROXY, "name": "setup"}]


def change_image_and_arguments(job: dict[str, Any]) -> None:
    own = pod_of(job)["containers"][0]
    own.update(image=f"mirror.example.com/{own['image']}", args=["wrapped", *own["args"]])
    own["env"] = [*own.get("env", []), {"name": "ADDED", "value": "x"}]


def remove_labels(job: dict[str, Any]) -> None:
    job["metadata"]["labels"] = {"team": "vision"}
    job["spec"]["template"]["metadata"]["labels"] = {}


def rename_labels(job: dict[str, Any]) -> None:
    for metadata in (job["metadata"], job["spec"]["template"]["metadata"]):
        metadata["labels"] = {f"example.com/{key}": value for key, value in metadata["labels"].items()}
        metadata["annotations"] = {"policies.example.com/applied": "labels"}


def suspend(job: dict[str, Any]) -> None:
    job["spec"]["suspend"] = True


POLICIES = [
    add_container_before,
    add_container_after,
    add_init_containers,
    change_image_and_arguments,
    remove_labels,
    rename_labels,
    suspend,
]


def put(cluster: KubeApi, *policies: Mutate) -> None:
    cluster.mutating.extend(MutatingPolicy(policy.__name__, policy) for policy in policies)


def submit(platform: KubeconfigPlatform) -> NewJob:
    return platform.submit(PEER_SPEC, submission(), may_send)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_changed_job_is_accepted_found_queried_and_stopped(
    cluster: KubeApi, platform: KubeconfigPlatform, kubeconfig: Path, policy: Mutate
) -> None:
    put(cluster, policy)
    new = submit(platform)
    assert (new.status, new.details.display_name) == (JobStatus.SUBMITTED, NAME)
    found = platform.find(submission())
    assert found is not None
    assert (found.details.id, found.container) == (new.details.id, new.container)
    job = record_of(new)
    other_command = KubeconfigPlatform(platform_context(kubeconfig=kubeconfig), QUICK)
    assert other_command.statuses([job]) == {job.id: JobUpdate(JobStatus.SUBMITTED)}
    assert other_command.stop(job).status is JobStatus.STOPPED
    assert cluster.state.items(JOBS) == []


@pytest.mark.parametrize("policy", POLICIES)
def test_a_changed_job_is_submitted_once(cluster: KubeApi, platform: KubeconfigPlatform, policy: Mutate) -> None:
    put(cluster, policy)
    assert submit(platform) == submit(platform)
    assert len(cluster.state.items(JOBS)) == 1


@pytest.mark.parametrize("policy", POLICIES)
def test_a_changed_job_is_adopted_after_a_lost_response(
    cluster: KubeApi, platform: KubeconfigPlatform, policy: Mutate
) -> None:
    put(cluster, policy)
    cluster.faults.add(Fault("jobs.create", "drop"))
    submit(platform)
    assert len(cluster.state.items(JOBS)) == 1


@pytest.mark.parametrize("policy", [add_container_before, add_container_after, add_init_containers])
def test_the_image_and_the_container_of_a_changed_job_are_its_own(
    cluster: KubeApi, platform: KubeconfigPlatform, policy: Mutate
) -> None:
    put(cluster, policy)
    new = submit(platform)
    assert (new.container, new.details.raw["container"]) == (IMAGE, OWN)


def hide_everything(job: dict[str, Any]) -> None:
    job["metadata"]["labels"] = {}
    job["spec"]["template"]["metadata"]["labels"] = {}
    pod_of(job)["containers"] = [{**PROXY, "name": "x"}, {**PROXY, "name": "y"}]


def test_a_job_in_which_nothing_is_as_it_was_sent_is_followed_all_the_same(
    cluster: KubeApi, platform: KubeconfigPlatform
) -> None:
    put(cluster, hide_everything)
    job = record_of(submit(platform))
    cluster.jobs.start(NAME)
    fail(cluster, 5, "y")
    update = platform.statuses([job])[job.id]
    assert isinstance(update, JobUpdate)
    assert update.status is JobStatus.FAILED
    assert update.details is not None
    assert update.details.exit is not None
    assert update.details.exit.code is None


def test_the_exit_code_is_that_of_the_own_container(cluster: KubeApi, platform: KubeconfigPlatform) -> None:
    put(cluster, add_container_before, add_container_after)
    job = record_of(submit(platform))
    cluster.jobs.start(NAME)
    fail(cluster, 3, OWN)
    update = platform.statuses([job])[job.id]
    assert isinstance(update, JobUpdate)
    assert update.details is not None
    assert update.details.exit == JobExit(3, FailureCause.CODE_ERROR, "exit code 3")


@pytest.mark.parametrize("name", ["aa-proxy", "zz-proxy"])
def test_the_exit_code_of_a_sidecar_is_not_that_of_the_job(
    cluster: KubeApi, platform: KubeconfigPlatform, name: str
) -> None:
    put(cluster, add_container_before, add_container_after)
    job = record_of(submit(platform))
    cluster.jobs.start(NAME)
    fail(cluster, 137, name)
    update = platform.statuses([job])[job.id]
    assert isinstance(update, JobUpdate)
    assert update.details is not None
    reason = f"in the container {name}: exit code 137"
    assert update.details.exit == JobExit(None, FailureCause.INFRASTRUCTURE, reason)


def fail(cluster: KubeApi, exit_code: int, container: str) -> None:
    """Let one container end badly, as often as the job's limit allows."""
    while not any(each["type"] == "Failed" for each in cluster.jobs.get(NAME)["status"].get("conditions", [])):
        cluster.jobs.start(NAME)
        cluster.jobs.fail(NAME, exit_code, container=container)


def test_a_job_whose_labels_were_removed_later_is_still_found(cluster: KubeApi, platform: KubeconfigPlatform) -> None:
    job = record_of(submit(platform))
    with cluster.state.change(JOBS, "default", NAME) as there:
        there["metadata"]["labels"] = {}
    assert platform.statuses([job]) == {job.id: JobUpdate(JobStatus.SUBMITTED)}


def test_a_foreign_job_of_the_name_is_not_adopted_under_a_policy_that_renames_labels(
    cluster: KubeApi, platform: KubeconfigPlatform
) -> None:
    platform.submit(PEER_SPEC, submission(NAME, "f" * 16), may_send)
    put(cluster, rename_labels)
    assert submit(platform).details.display_name == f"{NAME}-{TOKEN[10:]}"


def test_a_policy_that_fails_is_reported_as_such(cluster: KubeApi, platform: KubeconfigPlatform) -> None:
    cluster.mutating.append(MutatingPolicy("sidecar", add_container_before, error="JSON Patch: missing value"))
    with pytest.raises(RefusedError) as caught:
        submit(platform)
    assert (caught.value.id, caught.value.cause) == (
        "kubernetes-admission-failed",
        "policy 'sidecar' with binding 'sidecar' denied request: JSON Patch: missing value",
    )
    assert "role" not in str(caught.value.hint)


def test_a_policy_that_denies_is_reported_with_its_message(cluster: KubeApi, platform: KubeconfigPlatform) -> None:
    cluster.validating.append(ValidatingPolicy("team", lambda job: "every job needs the label team"))
    with pytest.raises(RefusedError) as caught:
        submit(platform)
    assert caught.value.id == "kubernetes-admission-denied"
    assert str(caught.value.cause).endswith("denied request: every job needs the label team")


def test_a_webhook_that_cannot_be_called_is_retried_and_reported_as_such(
    cluster: KubeApi, platform: KubeconfigPlatform
) -> None:
    cluster.webhooks.append(Webhook("x.example.com", lambda job: None, error="connection refused"))
    with pytest.raises(Exception, match="an admission rule of the cluster failed") as caught:
        submit(platform)
    assert not isinstance(caught.value, RefusedError)
    assert cluster.counts["jobs.create"] > 1
    cluster.webhooks.clear()
    submit(platform)
    assert len(cluster.state.items(JOBS)) == 1
