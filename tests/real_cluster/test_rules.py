"""Jobs in namespaces with quotas, limit ranges and PodSecurity, and with all flags for pods, on a real cluster."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.conftest import wait_until
from tests.real_cluster.conftest import CONTEXT, RealCluster
from tests.real_cluster.jobs import kubectl, namespace_with

PATCH = """
metadata: {annotations: {lab.example.com/cost: x}}
spec:
  ttlSecondsAfterFinished: 3600
  template:
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: "*"
        env:
        - {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
      initContainers:
      - {name: mesh, image: IMAGE, args: [-c, sleep 600], restartPolicy: Always}
"""
COMPUTE = "limits.cpu=200m,limits.memory=512Mi,requests.cpu=1,requests.memory=256Mi,requests.nvidia.com/gpu=1"


def limit_range(namespace: str, **rules: dict[str, str]) -> None:
    item = {"type": "Container", **rules}
    metadata = {"name": "lab", "namespace": namespace}
    body = {"apiVersion": "v1", "kind": "LimitRange", "metadata": metadata, "spec": {"limits": [item]}}
    command = ["kubectl", "--context", CONTEXT, "create", "-f", "-"]
    subprocess.run(command, input=json.dumps(body), text=True, check=True, capture_output=True)


@pytest.fixture
def namespace(real: RealCluster) -> Iterator[RealCluster]:
    """The cluster, for jobs in a namespace of the test."""
    with namespace_with(real):
        yield real


def succeeds(cluster: RealCluster, *flags: str) -> Any:
    """Submit a job, wait for its success, and return it."""
    submitted = cluster.submit("true", *flags)
    assert submitted.code == 0, submitted.err
    cluster.wait_for(" SUCCEEDED ")
    (job,) = cluster.jobs()
    return job


def test_a_job_without_flags_runs_in_a_namespace_with_a_quota(real: RealCluster) -> None:
    with namespace_with(real, f"--hard={COMPUTE}"):
        job = succeeds(real)
        resources = job["spec"]["template"]["spec"]["containers"][0]["resources"]
        assert resources["limits"] == {"cpu": "200m", "memory": "256Mi"}
        refused = real.submit("true", "--min_mem", "5000")
        assert (refused.code, "[above-quota]" in refused.err) == (2, True), refused.err


@pytest.mark.parametrize(
    ("rules", "flags"),
    [
        ({"default": {"cpu": "100m"}, "max": {"cpu": "500m"}}, ("--min_cpu", "400")),
        ({"maxLimitRequestRatio": {"cpu": "2", "memory": "1"}}, ("--min_cpu", "100")),
        ({"maxLimitRequestRatio": {"cpu": "2"}, "default": {"cpu": "200m"}, "defaultRequest": {"cpu": "50m"}}, ()),
    ],
)
def test_a_job_runs_in_a_namespace_with_a_limit_range(
    namespace: RealCluster, rules: dict[str, dict[str, str]], flags: tuple[str, ...]
) -> None:
    limit_range(namespace.namespace, **rules)
    succeeds(namespace, *flags)


def test_a_job_runs_in_a_restricted_namespace(namespace: RealCluster) -> None:
    kubectl("label", "namespace", namespace.namespace, "pod-security.kubernetes.io/enforce=restricted")
    job = succeeds(namespace, "--run_as_user", "1000")
    assert job["spec"]["template"]["spec"]["securityContext"]["runAsUser"] == 1000


def test_a_job_with_a_patch_and_variables_runs_and_is_rerun_with_them(namespace: RealCluster) -> None:
    image = namespace.user.environ["CALIBAN_TEST_CLUSTER_IMAGE"]
    namespace.user.write("patch.yaml", PATCH.replace("IMAGE", image))
    script = 'test -n "$NODE" && test "$WORD" = "a\\$\\$b\\$(HOME)" && exit 3; exit 4'
    submitted = namespace.submit(script, "--job_patch", "patch.yaml", "--env", "WORD=a$$b$(HOME)")
    assert submitted.code == 0, submitted.err
    assert "exit code 3" in namespace.wait_for(" FAILED ")

    again = namespace.user.caliban("resubmit", "--xgroup", namespace.group, "--yes")

    assert again.code == 0, again.err
    assert "exit code 3" in namespace.wait_for("job 2        FAILED")
    for job in namespace.jobs():
        assert job["metadata"]["annotations"]["lab.example.com/cost"] == "x"
        assert job["spec"]["ttlSecondsAfterFinished"] == 3600
        assert [each["name"] for each in job["spec"]["template"]["spec"]["initContainers"]] == ["mesh"]


def test_a_job_of_a_queue_waits_until_it_is_admitted(namespace: RealCluster) -> None:
    submitted = namespace.submit("true", "--queue", "lab", "--queue_priority", "low")
    assert submitted.code == 0, submitted.err
    assert "suspended" in namespace.status()
    (job,) = namespace.jobs()
    labels = job["metadata"]["labels"]
    assert (labels["kueue.x-k8s.io/queue-name"], labels["kueue.x-k8s.io/priority-class"]) == ("lab", "low")
    resume = ("-p", '{"spec": {"suspend": false}}', "-n", namespace.namespace)
    kubectl("patch", "job", job["metadata"]["name"], *resume)  # as Kueue does
    namespace.wait_for(" SUCCEEDED ")


def test_a_wrong_patch_is_reported_before_anything_is_recorded(namespace: RealCluster) -> None:
    namespace.user.write("patch.yaml", "spec: {template: {spec: {containers: [{name: '*', imagePullPolicy: Never1}]}}}")
    refused = namespace.submit("true", "--job_patch", "patch.yaml")
    assert refused.code == 1
    assert "imagePullPolicy" in refused.err
    assert namespace.jobs() == []
    assert "unknown-xgroup" in namespace.user.caliban("status", "--xgroup", namespace.group).err


def test_the_cluster_accepts_an_export_with_all_flags(namespace: RealCluster) -> None:
    flags = (
        *("--queue", "lab", "--service_account", "default", "--image_pull_secret", "login", "--env", "A=1"),
        *("--toleration", "dedicated=ml:NoSchedule", "--toleration", "gpu", "--node_selector", "zone=a"),
        *("--volume", "data/runs:/data:ro", "--limit_cpu", "500", "--limit_mem", "300", "--run_as_user", "1000"),
    )
    assert namespace.submit("true", *flags, "--export", "job.yaml").code == 0
    file = namespace.user.project / "job.yaml"
    command = ["kubectl", "--context", CONTEXT, "apply", "--dry-run=server", "--validate=strict", "-f", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_volume_claim_and_a_pull_secret_of_the_namespace_are_used(namespace: RealCluster) -> None:
    submitted = namespace.submit("true", "--volume", "datasets:/data", "--service_account", "default")
    assert submitted.code == 0, submitted.err
    wait_until(lambda: 'persistentvolumeclaim "datasets" not found' in namespace.status())
