"""Jobs on a real cluster: kind, k3s, GKE, or any other that ``$CALIBAN_TEST_CONTEXT`` names."""

from __future__ import annotations

import json
import re
import subprocess
from typing import Any

from tests.e2e.conftest import wait_until
from tests.real_cluster.conftest import CONTEXT, IMAGE, NAMESPACE, RealCluster
from tests.real_cluster.jobs import kubectl


def test_a_job_succeeds(real: RealCluster) -> None:
    submitted = real.submit("echo from the job")
    assert submitted.code == 0, submitted.err

    real.wait_for(" SUCCEEDED ")

    (job,) = real.jobs()
    assert job["metadata"]["namespace"] == NAMESPACE
    assert job["spec"]["template"]["spec"]["containers"][0]["args"] == ["-c", "echo from the job"]
    details: Any = real.user.details(1)
    assert (details["started"], details["ended"]) == (
        job["status"]["startTime"].replace("Z", "+00:00"),
        job["status"]["completionTime"].replace("Z", "+00:00"),
    )


def test_a_failed_job_is_shown_with_its_reason_and_rerun(real: RealCluster) -> None:
    real.submit("exit 3")
    listing = real.wait_for(" FAILED ")
    assert "exit code 3" in listing
    details: Any = real.user.details(1)
    assert (details["ret_code"], details["cause"]) == (3, "code_error")
    assert details["started"] <= details["ended"]

    again = real.user.caliban("resubmit", "--xgroup", real.group, "--yes")

    assert again.code == 0, again.err
    assert re.search(r"job 2 .*exit code 3", real.wait_for("job 2        FAILED"))
    images = {job["spec"]["template"]["spec"]["containers"][0]["image"] for job in real.jobs()}
    tokens = {job["metadata"]["labels"]["caliban.token"] for job in real.jobs()}
    assert (images, len(tokens)) == ({IMAGE}, 2)


def test_an_image_that_cannot_be_pulled_is_reported(real: RealCluster) -> None:
    destination = ("--context", CONTEXT, "--namespace", NAMESPACE, "--xgroup", real.group, "--nogpu")
    real.user.caliban("cluster", "job", "submit", *destination, "--image_tag", "localhost:1/no/such:image", "job.sh")

    listing = real.wait_for("ImagePull")

    assert re.search("ErrImagePull|ImagePullBackOff", listing)


def test_a_running_job_is_stopped_with_its_pods(real: RealCluster) -> None:
    real.submit("sleep 600")
    real.wait_for(" RUNNING ")

    stopped = real.user.caliban("stop", "--xgroup", real.group, "--yes")

    assert stopped.code == 0, stopped.err
    assert " STOPPED " in real.status()
    wait_until(lambda: not real.jobs())


def test_a_deleted_job_is_unknown(real: RealCluster) -> None:
    real.submit("sleep 600")
    (job,) = real.jobs()
    while not real.cluster.delete_job(NAMESPACE, job):
        (job,) = real.jobs()

    assert "the job no longer exists on the cluster" in real.wait_for(" UNKNOWN ")


def test_the_jobs_of_the_namespace_are_listed(real: RealCluster) -> None:
    real.submit("true")

    listed = real.user.caliban("cluster", "job", "ls", "--context", CONTEXT, "--namespace", NAMESPACE)

    assert f"group: {real.group}" in listed.out


def test_kubectl_accepts_exported_jobs(real: RealCluster) -> None:
    assert real.submit("true", "--export", "job.yaml").code == 0

    command = ["kubectl", "--context", CONTEXT, "--namespace", NAMESPACE, "apply", "--dry-run=server", "-f", "job.yaml"]
    done = subprocess.run(command, cwd=real.user.project, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


def test_a_missing_namespace_is_reported(real: RealCluster) -> None:
    destination = ("--context", CONTEXT, "--namespace", "caliban-has-no-such")
    result = real.user.caliban("cluster", "job", "submit", *destination, "--image_tag", IMAGE, "--nogpu", "job.sh")

    assert result.code == 1
    assert "[namespace-not-found]" in result.err


def test_a_job_that_fits_no_node_is_listed_with_the_reason(real: RealCluster) -> None:
    real.submit("true", "--min_cpu", "1000000")
    listing = real.wait_for("unschedulable: 0/")
    assert " SUBMITTED " in listing
    listed = real.user.caliban("cluster", "job", "ls", "--context", CONTEXT, "--namespace", NAMESPACE)
    (line,) = (line for line in listed.lines if real.group in line)
    assert re.search(r" SUBMITTED .*unschedulable: 0/.*Insufficient cpu", line)


def test_the_shared_memory_of_a_job_is_not_limited_to_64_megabytes(real: RealCluster) -> None:
    real.submit("df -m /dev/shm | tail -n 1")
    real.wait_for(" SUCCEEDED ")
    logs = real.user.caliban("logs", "--xgroup", real.group)
    (size,) = re.findall(r"^\S+ +(\d+) .*/dev/shm$", logs.out, re.MULTILINE)
    assert int(size) > 64


def test_a_job_is_found_and_rerun_under_another_name_of_its_context(real: RealCluster) -> None:
    real.submit("exit 3")
    path = real.user.home / "kubeconfig.json"
    config: Any = json.loads(kubectl("config", "view", "--raw", "--flatten", "-o", "json"))
    for context in config["contexts"]:
        context["name"] = f"renamed-{context['name']}"
    path.write_text(json.dumps({**config, "current-context": f"renamed-{config['current-context']}"}))
    real.user.environ["KUBECONFIG"] = str(path)
    assert "exit code 3" in real.wait_for(" FAILED ")
    uid = kubectl("get", "namespace", "kube-system", "-o", "jsonpath={.metadata.uid}")
    assert real.user.details(1)["cluster_uid"] == uid
    again = real.user.caliban("resubmit", "--xgroup", real.group, "--yes")
    assert again.code == 0, again.err
    assert len(real.jobs()) == 2


def test_the_context_of_the_cluster_is_listed(real: RealCluster) -> None:
    listed = real.user.caliban("cluster", "ls")
    assert re.search(rf"^[* ] {re.escape(CONTEXT)} +https://", listed.out, re.MULTILINE)
