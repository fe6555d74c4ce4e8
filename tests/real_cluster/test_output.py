"""The output of jobs of a real cluster, and what its API server says where the stand-in has to say the same."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from caliban.clock import SystemClock
from caliban.errors import CalibanError
from caliban.platforms.base import LogRequest
from caliban.platforms.kubernetes.client import Cluster
from caliban.platforms.kubernetes.connection import Credential, Credentials
from caliban.platforms.kubernetes.errors import KubernetesRefusedError
from caliban.platforms.kubernetes.job_output import JobOutput
from caliban.platforms.kubernetes.kubeconfig import Kubeconfig
from caliban.platforms.retry import DEFAULT
from caliban.records import JobRecord
from tests.e2e.conftest import wait_until
from tests.platforms.kubernetes.helpers import QUICK, platform_context
from tests.real_cluster.conftest import IMAGE, TIMEOUT, RealCluster
from tests.real_cluster.jobs import CONTAINER, Jobs, kubectl, new_platform
from tests.standins.kubernetes import KubeApi

ALL, FOLLOW = LogRequest(), LogRequest(follow=True)


@pytest.fixture
def jobs(real: RealCluster) -> Jobs:
    return Jobs(real, new_platform())


def read(jobs: Jobs, job: JobRecord, request: LogRequest = ALL) -> list[bytes]:
    return [line.data for line in jobs.platform.logs(job, request)]


def test_the_output_of_an_ended_job_is_read_with_its_times(jobs: Jobs) -> None:
    job = jobs.create("echo one; echo two >&2; sleep 0.5; printf three; exit 3")
    jobs.ended(job)
    lines = list(jobs.platform.logs(job, ALL))
    assert sorted(line.data for line in lines) == sorted([b"one\n", b"two\n", b"three"])
    assert all(line.time is not None and line.source is None for line in lines)
    assert len(read(jobs, job, LogRequest(tail=1))) == 1
    assert read(jobs, job, LogRequest(tail=0)) == []


def test_a_job_is_followed_from_before_its_start_to_its_end(jobs: Jobs) -> None:
    job = jobs.create("for i in 1 2 3 4 5; do echo $i; sleep 0.5; done; printf end")
    assert read(jobs, job, FOLLOW) == [b"1\n", b"2\n", b"3\n", b"4\n", b"5\n", b"end"]


def test_following_with_a_tail_repeats_no_line(jobs: Jobs) -> None:
    job = jobs.create("for i in 1 2 3 4 5 6 7 8; do echo $i; sleep 0.3; done")
    wait_until(lambda: len(read(jobs, job)) >= 3, TIMEOUT)
    lines = read(jobs, job, LogRequest(tail=2, follow=True))
    assert lines[-1] == b"8\n"
    assert [int(line) for line in lines] == list(range(int(lines[0]), 9))


def test_progress_bars_come_as_they_were_written(jobs: Jobs) -> None:
    job = jobs.create(r"printf '10%%\r20%%\r30%%\n'")
    jobs.ended(job)
    assert read(jobs, job) == [b"10%\r20%\r30%\n"]


def test_a_long_line_comes_whole(jobs: Jobs) -> None:
    job = jobs.create("head -c 100000 /dev/zero | tr '\\0' x; echo; echo after")
    jobs.ended(job)
    assert read(jobs, job) == [b"x" * 100_000 + b"\n", b"after\n"]
    assert read(jobs, job, FOLLOW) == [b"x" * 100_000 + b"\n", b"after\n"]


def test_the_output_of_earlier_attempts_comes_first(jobs: Jobs) -> None:
    job = jobs.create("echo $HOSTNAME; hostname; exit 1", spec={"backoffLimit": 1})
    jobs.ended(job)
    lines = list(jobs.platform.logs(job, ALL))
    sources = [line.source for line in lines]
    assert len(set(sources)) == 2
    assert [line.data.decode().strip() for line in lines if line.data.strip()][-1] == sources[-1]
    tail = list(jobs.platform.logs(job, LogRequest(tail=1)))
    assert [line.source for line in tail] == [sources[-1]]


def test_the_output_before_a_restart_of_the_container_comes_first(jobs: Jobs) -> None:
    script = "if [ -e /data/x ]; then echo second; sleep 6; else touch /data/x; echo first; exit 1; fi"
    volume = {"volumes": [{"name": "data", "emptyDir": {}}], "restartPolicy": "OnFailure"}
    mount = {"volumeMounts": [{"name": "data", "mountPath": "/data"}]}
    job = jobs.create(script, spec={"backoffLimit": 3}, pod=volume, container=mount)
    assert read(jobs, job, FOLLOW) == [b"first\n", b"second\n"]


def test_the_output_before_a_restart_is_read_as_long_as_the_node_keeps_it(jobs: Jobs) -> None:
    script = "if [ -e /data/x ]; then echo second; sleep 600; else touch /data/x; echo first; exit 1; fi"
    volume = {"volumes": [{"name": "data", "emptyDir": {}}], "restartPolicy": "OnFailure"}
    mount = {"volumeMounts": [{"name": "data", "mountPath": "/data"}]}
    job = jobs.create(script, spec={"backoffLimit": 3}, pod=volume, container=mount)
    wait_until(lambda: read(jobs, job) == [b"first\n", b"second\n"], TIMEOUT)


def test_output_is_that_of_the_own_container(jobs: Jobs) -> None:
    proxy = {"name": "aa-proxy", "image": IMAGE, "args": ["-c", "echo of the proxy"]}
    job = jobs.create("echo mine", pod={"also": [proxy]})
    jobs.ended(job)
    assert read(jobs, job) == [b"mine\n"]


def test_a_job_that_cannot_start_has_no_output_yet(jobs: Jobs) -> None:
    waiting = jobs.create("true", container={"image": "localhost:1/no/such:image"})
    jobs.wait_for(waiting, "ImagePull")
    unschedulable = jobs.create("true", pod={"nodeSelector": {"no": "such-node"}})
    jobs.wait_for(unschedulable, "unschedulable")
    assert [read(jobs, job) for job in (waiting, unschedulable)] == [[], []]


def test_output_of_deleted_pods_is_gone(jobs: Jobs) -> None:
    job = jobs.create("echo one")
    jobs.ended(job)
    kubectl("delete", "pods", "-n", jobs.namespace, "-l", f"job-name={job.details.display_name}")
    for request in (ALL, FOLLOW):
        with pytest.raises(CalibanError) as caught:
            read(jobs, job, request)
        assert caught.value.id == "output-gone"


def test_following_ends_when_the_job_is_deleted(jobs: Jobs) -> None:
    job = jobs.create("echo one; sleep 600")
    output = jobs.platform.logs(job, FOLLOW)
    assert next(output).data == b"one\n"
    kubectl("delete", "job", "-n", jobs.namespace, str(job.details.display_name), "--wait=false")
    assert list(output) == []


def test_a_missing_permission_is_named(jobs: Jobs) -> None:
    job = jobs.create("echo one")
    jobs.ended(job)
    name = jobs.real.group
    where = ("-n", jobs.namespace)
    kubectl("create", "serviceaccount", name, *where)
    kubectl("create", "role", name, "--verb=get,list", "--resource=pods,jobs.batch", *where)
    kubectl("create", "rolebinding", name, f"--role={name}", f"--serviceaccount={jobs.namespace}:{name}", *where)
    try:
        token = kubectl("create", "token", name, *where).strip()
        credentials = Credentials(lambda: Credential(f"Bearer {token}"), SystemClock())
        connection = replace(jobs.real.cluster._connection, credentials=credentials)
        context = jobs.platform.context
        output = JobOutput(Cluster(connection, "lab", context, DEFAULT), jobs.namespace, job, CONTAINER, context)
        with pytest.raises(CalibanError) as caught:
            list(output.lines(ALL))
        assert caught.value.id == "output-refused"
        assert '"get pods/log"' in str(caught.value.hint)
    finally:
        for kind in ("rolebinding", "role", "serviceaccount"):
            kubectl("delete", kind, name, *where)


REQUESTS = (
    {"container": "nothing"},
    {"container": CONTAINER, "previous": "true"},
    {"container": CONTAINER, "tailLines": "-1"},
    {"container": CONTAINER, "tailLines": "x"},
    {"container": CONTAINER, "limitBytes": "0"},
    {"container": CONTAINER, "sinceSeconds": "0"},
    {"container": CONTAINER, "sinceSeconds": "1", "sinceTime": "2026-11-25T13:00:00Z"},
    {"container": CONTAINER, "sinceTime": "yesterday"},
)


def refusal(cluster: Cluster, namespace: str, pod: str, options: dict[str, str]) -> tuple[int, str, str]:
    """Return what a cluster says of a request for output, without what differs between clusters."""
    with pytest.raises(KubernetesRefusedError) as caught:
        list(cluster.pod_log(namespace, pod, options))
    error = caught.value
    return error.code, error.reason, re.sub(re.escape(pod), "POD", str(error.cause))


def test_the_stand_in_refuses_requests_for_output_in_the_words_of_the_cluster(jobs: Jobs, tmp_path: Path) -> None:
    ended = jobs.create("true")
    jobs.ended(ended)
    waiting = jobs.create("true", container={"image": "localhost:1/no/such:image"})
    jobs.wait_for(waiting, "ImagePullBackOff")
    names = [jobs.pods(job)[0]["metadata"]["name"] for job in (ended, waiting)]
    with KubeApi("1.36") as stand_in:
        path = stand_in.write_kubeconfig(tmp_path / "config", "lab")
        connection = Kubeconfig({"KUBECONFIG": str(path)}, tmp_path).connection("lab")
        other = Cluster(connection, "x", platform_context(), QUICK)
        get = ("get", "job", "-o", "json", "-n", jobs.namespace)
        made = [_copy(other, kubectl(*get, str(job.details.display_name))) for job in (ended, waiting)]
        stand_in.jobs.succeed(made[0])
        stand_in.jobs.image_pull_fails(made[1])
        own = [stand_in.jobs.pods(name)[0]["metadata"]["name"] for name in made]
        plain = {"container": CONTAINER}
        asked = [(own[0], names[0], options) for options in REQUESTS]
        asked += [(own[1], names[1], plain), (own[1], names[1], {**plain, "follow": "true"}), ("no", "no", plain)]
        real, namespace = jobs.real.cluster, jobs.namespace
        said = [refusal(real, namespace, there, options) for _, there, options in asked]
        assert [refusal(other, "default", here, options) for here, _, options in asked] == said


def _copy(cluster: Cluster, body: str) -> str:
    """Create the job of another cluster in the stand-in; return its name."""
    job = json.loads(body)
    name = str(job["metadata"]["name"])
    template = job["spec"]["template"]["spec"]
    pod = {"containers": template["containers"], "restartPolicy": "Never"}
    spec = {"backoffLimit": 0, "template": {"spec": pod}}
    cluster.create_job("default", {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec})
    return name
