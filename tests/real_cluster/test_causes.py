"""Why jobs of a real cluster failed or wait."""

from __future__ import annotations

import pytest

from caliban.records import FailureCause, JobExit, JobStatus
from tests.real_cluster.conftest import IMAGE, RealCluster
from tests.real_cluster.jobs import Jobs, kubectl, namespace_with, new_platform

LIMIT = {"resources": {"limits": {"memory": "24Mi"}}}


@pytest.fixture
def jobs(real: RealCluster) -> Jobs:
    return Jobs(real, new_platform())


def test_a_job_that_is_out_of_memory_is_one(jobs: Jobs) -> None:
    job = jobs.ended(jobs.create("exec tail /dev/zero", container=LIMIT))
    assert job.details.exit == JobExit(137, FailureCause.OUT_OF_MEMORY, "OOMKilled, exit code 137")


def test_an_init_container_that_is_out_of_memory_is_named(jobs: Jobs) -> None:
    setup = {"name": "setup", "image": IMAGE, "args": ["-c", "exec tail /dev/zero"], **LIMIT}
    how = jobs.ended(jobs.create("true", pod={"initContainers": [setup]})).details.exit
    assert how is not None
    assert (how.code, how.cause) == (None, FailureCause.OUT_OF_MEMORY)
    assert str(how.message).startswith("in the container setup: OOMKilled, exit code 137")


def test_a_job_over_its_deadline_timed_out(jobs: Jobs) -> None:
    how = jobs.ended(jobs.create("sleep 600", spec={"activeDeadlineSeconds": 4})).details.exit
    assert how is not None
    assert how.cause is FailureCause.TIMEOUT
    assert "Job was active longer than specified deadline" in str(how.message)


def test_a_pod_over_its_deadline_timed_out(jobs: Jobs) -> None:
    how = jobs.ended(jobs.create("exec sleep 600", pod={"activeDeadlineSeconds": 4})).details.exit
    assert how is not None
    assert how.cause is FailureCause.TIMEOUT


def test_a_program_that_does_not_exist_is_a_matter_of_the_image(jobs: Jobs) -> None:
    how = jobs.ended(jobs.create("", container={"command": ["/no/such/program"]})).details.exit
    assert how is not None
    assert how.cause is FailureCause.IMAGE
    assert "/no/such/program" in str(how.message)


@pytest.mark.parametrize(
    ("container", "reason"),
    [
        ({"image": "localhost:1/no/such:image"}, "ImagePull"),
        ({"image": "Not An Image"}, "InvalidImageName"),
        ({"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "no", "key": "no"}}}]}, "CreateContainerConfig"),
    ],
)
def test_a_container_that_cannot_be_created_waits_with_a_reason(
    jobs: Jobs, container: dict[str, object], reason: str
) -> None:
    job = jobs.wait_for(jobs.create("true", container=container), reason)
    assert job.status is JobStatus.SUBMITTED


def test_a_job_that_fits_no_node_is_submitted_and_unschedulable(jobs: Jobs) -> None:
    job = jobs.wait_for(jobs.create("true", pod={"nodeSelector": {"no": "such-node"}}), "unschedulable: 0/1 nodes")
    assert job.status is JobStatus.SUBMITTED


def test_a_job_whose_pods_a_quota_refuses_is_submitted_with_the_reason(jobs: Jobs) -> None:
    with namespace_with(jobs.real, "--hard=pods=0"):
        job = jobs.wait_for(jobs.create("true"), "FailedCreate: Error creating: pods ")
        assert "exceeded quota: lab" in str(job.reason)
        assert job.status is JobStatus.SUBMITTED


def test_a_job_whose_pods_a_security_standard_refuses_is_submitted_with_the_reason(jobs: Jobs) -> None:
    with namespace_with(jobs.real):
        kubectl("label", "namespace", jobs.namespace, "pod-security.kubernetes.io/enforce=restricted")
        job = jobs.wait_for(jobs.create("true"), "violates PodSecurity")
        assert job.status is JobStatus.SUBMITTED


def test_a_job_whose_pod_was_evicted_did_not_fail_by_itself(jobs: Jobs) -> None:
    job = jobs.create("sleep 600")
    jobs.wait_until_running(job)
    (pod,) = jobs.pods(job)
    path = f"/api/v1/namespaces/{jobs.namespace}/pods/{pod['metadata']['name']}/eviction"
    body = f'{{"apiVersion":"policy/v1","kind":"Eviction","metadata":{{"name":"{pod["metadata"]["name"]}"}}}}'
    kubectl("create", "--raw", path, "-f", "-", stdin=body)
    how = jobs.ended(job).details.exit  # the eviction has deleted the pod
    assert how is not None
    assert how.cause is FailureCause.INFRASTRUCTURE
    assert "Killing: Stopping container main; exit code unknown" in str(how.message)


def test_too_much_ephemeral_storage_is_an_eviction(jobs: Jobs) -> None:
    limit = {"resources": {"limits": {"ephemeral-storage": "4Mi"}}}
    script = "dd if=/dev/zero of=/tmp/big bs=1M count=32; sleep 600"
    how = jobs.ended(jobs.create(script, container=limit)).details.exit
    assert how is not None
    assert (how.cause, str(how.message).partition(":")[0]) == (FailureCause.INFRASTRUCTURE, "Evicted")


def test_a_failed_job_whose_pods_are_deleted_says_that_the_exit_code_is_unknown(jobs: Jobs) -> None:
    job = jobs.create("exit 3")
    jobs.ended(job)
    kubectl("delete", "pods", "-n", jobs.namespace, "-l", f"job-name={job.details.display_name}")
    how = jobs.now(job).details.exit
    assert how is not None
    assert (how.code, "exit code unknown" in str(how.message)) == (None, True)


def test_a_sidecar_that_keeps_an_ended_job_open_is_named(jobs: Jobs) -> None:
    proxy = {"name": "proxy", "image": IMAGE, "args": ["-c", "exec sleep 600"]}
    job = jobs.wait_for(jobs.create("exit 3", pod={"also": [proxy]}), "the program has ended with exit code 3")
    assert job.status is JobStatus.RUNNING
    assert "the container proxy still runs" in str(job.reason)


def test_a_native_sidecar_does_not_change_how_a_job_ended(jobs: Jobs) -> None:
    proxy = {"name": "proxy", "image": IMAGE, "args": ["-c", "exec sleep 600"], "restartPolicy": "Always"}
    job = jobs.ended(jobs.create("exit 3", pod={"initContainers": [proxy]}))
    assert job.details.exit == JobExit(3, FailureCause.CODE_ERROR, "exit code 3")


def test_between_attempts_the_last_exit_code_is_the_reason(jobs: Jobs) -> None:
    job = jobs.create("exit 3", spec={"backoffLimit": 1})
    jobs.wait_for(job, "exit code 3")
    assert jobs.ended(job).details.exit == JobExit(3, FailureCause.CODE_ERROR, "exit code 3")
