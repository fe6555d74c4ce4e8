"""A node that is lost, and an API server that is away or restarts: only in a cluster of our own.

A component is stopped with a file of its name (see dev/services/cluster_node.py), and starts again when that is gone.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from caliban.records import FailureCause, JobStatus
from tests.e2e.conftest import wait_until
from tests.real_cluster.conftest import TIMEOUT, RealCluster
from tests.real_cluster.jobs import Jobs, kubectl, namespace_with, new_platform
from tests.real_cluster.test_many import command, complete, per_experiment

NODE = "node-1"
RUNS = (JobStatus.RUNNING, None)
IGNORES_DISRUPTIONS = {"rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}]}


@contextmanager
def stopped(component: str) -> Iterator[None]:
    """Let a component of the cluster be away."""
    mark = Path(os.environ["CALIBAN_TEST_CLUSTER_STATE"]) / "stopped" / component
    mark.touch()
    try:
        yield
    finally:
        mark.unlink()
        wait_until(_is_ready, TIMEOUT)
        _wait_for_controllers()


def _is_ready() -> bool:
    try:
        ready = kubectl("get", "node", NODE, "-o", 'jsonpath={.status.conditions[?(@.type=="Ready")].status}')
        return ready == "True" and "ok" in kubectl("get", "--raw", "/readyz")
    except subprocess.CalledProcessError:
        return False


def _wait_for_controllers() -> None:
    """Wait until the controllers see what is new: they come back to a restarted API server after some delay."""
    name = f"caliban-{uuid.uuid4().hex[:10]}"
    kubectl("create", "namespace", name)
    try:
        find = ("get", "serviceaccount", "-n", name, "-o", "name")
        wait_until(lambda: "serviceaccount/default" in kubectl(*find), TIMEOUT)
    finally:
        kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def jobs(real: RealCluster) -> Iterator[Jobs]:
    with namespace_with(real):
        yield Jobs(real, new_platform())


def test_a_job_on_a_lost_node_says_so_until_the_node_is_back(jobs: Jobs) -> None:
    """The node is lost; then its pods are evicted, as in a cluster of several nodes; then it comes back."""
    taint = "node.kubernetes.io/unreachable=:NoExecute"
    evicted = jobs.create("exec sleep 600", spec={"podFailurePolicy": IGNORES_DISRUPTIONS})
    tolerant = {"tolerations": [{"operator": "Exists"}]}
    kept = jobs.create("exec sleep 600", pod=tolerant)
    for job in (evicted, kept):
        jobs.wait_until_running(job)
    with stopped("kubelet"):
        for job in (evicted, kept):
            lost = jobs.wait_for(job, f"NodeNotReady: the node {NODE} does not respond")
            assert lost.status is JobStatus.RUNNING
        kubectl("taint", "node", NODE, taint, "--overwrite")
        try:
            gone = jobs.wait_for(evicted, "DeletionByTaintManager")
            assert gone.status is JobStatus.RUNNING
            assert str(gone.reason).endswith(f"; the node {NODE} does not respond")
        finally:
            kubectl("taint", "node", NODE, f"{taint}-")
    # the pod that was evicted is replaced, which is no attempt
    for job in (kept, evicted):
        wait_until(lambda job=job: (jobs.now(job).status, jobs.now(job).reason) == RUNS, TIMEOUT)  # type: ignore[misc]


def test_a_job_whose_attempts_are_counted_failed_with_its_node(jobs: Jobs) -> None:
    job = jobs.create("exec sleep 600")
    jobs.wait_until_running(job)
    kubectl("taint", "node", NODE, "caliban.test/gone=:NoExecute")
    try:
        how = jobs.ended(job).details.exit
    finally:
        kubectl("taint", "node", NODE, "caliban.test/gone=:NoExecute-")
    assert how is not None
    assert how.cause is FailureCause.INFRASTRUCTURE
    assert re.search("DeletionByTaintManager|TaintManagerEviction", str(how.message))


@pytest.fixture
def priorities() -> Iterator[tuple[str, str]]:
    """A low and a higher priority, both below that of the pods of anybody else."""
    names = ("caliban-low", "caliban-high")
    for name, value in zip(names, (-20, -10), strict=True):
        kubectl("create", "priorityclass", name, f"--value={value}")
    yield names
    kubectl("delete", "priorityclass", *names)


def test_a_job_that_gives_way_to_one_of_higher_priority_was_preempted(jobs: Jobs, priorities: tuple[str, str]) -> None:
    cpus = int(kubectl("get", "node", NODE, "-o", "jsonpath={.status.allocatable.cpu}"))
    most = {"resources": {"requests": {"cpu": f"{600 * cpus}m"}}}
    low, high = priorities
    first = jobs.create("exec sleep 600", pod={"priorityClassName": low}, container=most)
    jobs.wait_until_running(first)
    second = jobs.create("exec sleep 600", pod={"priorityClassName": high}, container=most)
    how = jobs.ended(first).details.exit
    assert (how is not None, how and how.cause) == (True, FailureCause.PREEMPTED)
    jobs.wait_until_running(second)


def test_a_submission_goes_on_while_the_api_server_restarts(jobs: Jobs) -> None:
    real = jobs.real
    kubectl("create", "quota", "lab", "-n", real.namespace, "--hard=pods=0")
    submit = command(real, 40)
    process = real.user.start(*submit)
    wait_until(lambda: len(real.jobs()) > 2)
    with stopped("kube-apiserver"):
        time.sleep(2)
    _, err = process.communicate(TIMEOUT)
    assert process.wait(TIMEOUT) in (0, 1), err
    complete(real, submit)
    assert sorted(per_experiment(real).values()) == [1] * 40


def test_jobs_run_on_and_are_found_again_while_the_api_server_is_away(jobs: Jobs) -> None:
    real = jobs.real
    real.submit("for i in 1 2 3 4 5 6 7 8; do echo $i; sleep 1; done; exit 3")
    real.wait_for(" RUNNING ")
    with stopped("kube-apiserver"):
        time.sleep(0.5)
        away = real.user.start("status", "--xgroup", real.group)
        time.sleep(1)
    out, err = away.communicate(TIMEOUT)
    assert re.search(r" (RUNNING|FAILED) ", out), err
    assert "exit code 3" in real.wait_for(" FAILED ")


def test_the_output_is_followed_across_a_restart_of_the_api_server(jobs: Jobs) -> None:
    real = jobs.real
    real.submit("for i in 1 2 3 4 5 6 7 8; do echo line $i; sleep 1; done")
    real.wait_for(" RUNNING ")
    following = real.user.start("logs", "--follow", "--xgroup", real.group)
    assert following.stdout.readline().startswith("== job 1 ")
    assert following.stdout.readline() == "line 1\n"
    with stopped("kube-apiserver"):
        time.sleep(1)
    out, err = following.communicate(TIMEOUT)
    assert [line.split()[-1] for line in out.splitlines()] == [str(number) for number in range(2, 9)], err
