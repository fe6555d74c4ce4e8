"""Jobs on a real cluster whose policies change or refuse them; where it refuses, the stand-in says the same."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from caliban.platforms.kubernetes.client import Cluster
from caliban.platforms.kubernetes.errors import KubernetesRefusedError
from caliban.platforms.kubernetes.kubeconfig import Kubeconfig
from tests.e2e.conftest import wait_until
from tests.platforms.kubernetes.helpers import QUICK, platform_context
from tests.real_cluster.conftest import CONTEXT, IMAGE, RealCluster
from tests.real_cluster.jobs import kubectl, namespace_with
from tests.standins.kubernetes import KubeApi, Webhook
from tests.standins.kubernetes.admission import MutatingPolicy, ValidatingPolicy

KINDS = ("sidecar", "failing-sidecar", "labels", "broken", "denying", "webhook", "advising", "pods")
WARNING = "Validation failed for ValidatingAdmissionPolicy 'caliban-denying' with binding 'caliban-advising': no team"
FILE = Path(__file__).with_name("policies.yaml")


def namespace_of(kind: str) -> str:
    return f"caliban-policies-{kind}"


def job_body(name: str = "probe") -> dict[str, Any]:
    container = {"name": "main", "image": IMAGE, "args": ["-c", "true"]}
    pod = {"containers": [container], "restartPolicy": "Never"}
    template = {"metadata": {"labels": {"a": "b"}}, "spec": pod}
    metadata = {"name": name, "labels": {"a": "b"}}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": {"template": template}}


@pytest.fixture(scope="module", autouse=True)
def policies() -> Iterator[None]:
    """The policies, in force in a namespace each."""
    manifests = FILE.read_text().replace("IMAGE", IMAGE)
    for kind in KINDS:
        metadata = {"name": namespace_of(kind), "labels": {"policies": kind}}
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}
        manifests += f"\n---\n{json.dumps(namespace)}"
    kubectl("apply", "-f", "-", stdin=manifests)
    for kind in KINDS:
        wait_until(lambda kind=kind: is_in_force(kind))  # type: ignore[misc]
    yield
    kubectl("delete", "--wait=false", "-f", "-", stdin=manifests)


def is_in_force(kind: str) -> bool:
    """Return whether the cluster applies the policy of a namespace yet: they take some seconds."""
    job = job_body()
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": job["metadata"], "spec": job["spec"]["template"]["spec"]}
    options = ("create", "--namespace", namespace_of(kind), "--dry-run=server", "-o", "json", "-f", "-")
    command = ["kubectl", "--context", CONTEXT, *options]
    body = json.dumps(pod if kind == "pods" else job)
    done = subprocess.run(command, input=body, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return "serviceaccount" not in done.stderr  # the namespace is new
    made = json.loads(done.stdout)
    has_changed = made["metadata"].get("labels") != {"a": "b"}
    return (
        has_changed or "Warning: " in done.stderr or len(made["spec"].get("template", made)["spec"]["containers"]) > 1
    )


@pytest.fixture
def at(real: RealCluster) -> Callable[[str], RealCluster]:
    """Return the cluster for jobs in the namespace of a policy."""

    def choose(kind: str) -> RealCluster:
        real.namespace = namespace_of(kind)
        return real

    return choose


def test_a_job_with_added_containers_succeeds(at: Callable[[str], RealCluster]) -> None:
    cluster = at("sidecar")
    submitted = cluster.submit("echo from the job")
    assert submitted.code == 0, submitted.err
    cluster.wait_for(" SUCCEEDED ")
    (job,) = cluster.jobs()
    names = [each["name"] for each in job["spec"]["template"]["spec"]["containers"]]
    assert names == ["aa-proxy", cluster.user.details(1)["container"]]


def test_the_exit_code_is_that_of_the_own_container_and_the_job_is_rerun(at: Callable[[str], RealCluster]) -> None:
    cluster = at("sidecar")
    cluster.submit("exit 3")
    assert "exit code 3" in cluster.wait_for(" FAILED ")
    details: Any = cluster.user.details(1)
    assert (details["ret_code"], details["cause"]) == (3, "code_error")

    again = cluster.user.caliban("resubmit", "--xgroup", cluster.group, "--yes")

    assert again.code == 0, again.err
    assert re.search(r"job 2 .*exit code 3", cluster.wait_for("job 2        FAILED"))
    assert len(cluster.jobs()) == 2


def test_the_exit_code_of_an_added_container_is_not_that_of_the_job(at: Callable[[str], RealCluster]) -> None:
    cluster = at("failing-sidecar")
    cluster.submit("exit 0")
    assert "in the container aa-proxy: exit code 9" in cluster.wait_for(" FAILED ")
    details: Any = cluster.user.details(1)
    assert ("ret_code" in details, details["cause"]) == (False, "infrastructure")


def test_a_job_with_added_containers_is_stopped(at: Callable[[str], RealCluster]) -> None:
    cluster = at("sidecar")
    cluster.submit("sleep 600")
    cluster.wait_for(" RUNNING ")
    stopped = cluster.user.caliban("stop", "--xgroup", cluster.group, "--yes")
    assert stopped.code == 0, stopped.err
    assert " STOPPED " in cluster.status()
    wait_until(lambda: not cluster.jobs())


def test_a_job_whose_labels_a_policy_removes_is_followed_and_stopped(at: Callable[[str], RealCluster]) -> None:
    cluster = at("labels")
    submitted = cluster.submit("sleep 600")
    assert submitted.code == 0, submitted.err
    cluster.wait_for(" RUNNING ")
    job: Any = next(iter(cluster.cluster.jobs(cluster.namespace, None)))
    assert "caliban.token" not in job["metadata"].get("labels", {})
    stopped = cluster.user.caliban("stop", "--xgroup", cluster.group, "--yes")
    assert stopped.code == 0, stopped.err
    wait_until(lambda: not list(cluster.cluster.jobs(cluster.namespace, None)))


@pytest.mark.parametrize(
    ("kind", "id"), [("broken", "kubernetes-admission-failed"), ("denying", "kubernetes-admission-denied")]
)
def test_a_policy_that_fails_or_denies_is_reported_as_such(
    at: Callable[[str], RealCluster], kind: str, id: str
) -> None:
    cluster = at(kind)
    refused = cluster.submit("true")
    assert (refused.code, f"[{id}]" in refused.err) == (1, True), refused.err
    assert "role" not in refused.err
    assert " FAILED " in cluster.status()
    assert cluster.jobs() == []


def test_what_a_policy_warns_of_is_shown_when_a_job_is_submitted(at: Callable[[str], RealCluster]) -> None:
    cluster = at("advising")
    submitted = cluster.submit("true")
    assert (submitted.code, submitted.err.count(f"warning: the cluster of the context {CONTEXT} warns: ")) == (0, 1)
    assert WARNING in submitted.err
    assert "warning of the cluster" not in cluster.wait_for(" SUCCEEDED ")


def test_what_a_security_standard_warns_of_is_shown_and_kept(real: RealCluster) -> None:
    with namespace_with(real, "--hard=pods=0"):
        kubectl("label", "namespace", real.namespace, "pod-security.kubernetes.io/warn=restricted")
        submitted = real.submit("true")
        assert submitted.code == 0
        assert 'warns: would violate PodSecurity "restricted:latest": allowPrivilegeEscalation' in submitted.err
        assert 'would violate PodSecurity "restricted:latest"' in str(real.user.details(1)["warning"])
        assert "exceeded quota: lab" in real.wait_for("FailedCreate: ")


def test_a_webhook_that_refuses_the_pods_of_a_job_is_its_reason(at: Callable[[str], RealCluster]) -> None:
    cluster = at("pods")
    assert cluster.submit("true").code == 0
    listed = cluster.wait_for("FailedCreate: ")
    assert (" SUBMITTED " in listed, 'failed calling webhook "pods.example.com"' in listed) == (True, True)


def test_the_stand_in_warns_in_the_words_of_the_cluster(real: RealCluster, tmp_path: Path) -> None:
    said: list[list[str]] = []
    with KubeApi("1.36") as stand_in:
        path = stand_in.write_kubeconfig(tmp_path / "config", "lab")
        connection = Kubeconfig({"KUBECONFIG": str(path)}, tmp_path).connection("lab")
        stand_in.validating.append(
            ValidatingPolicy("caliban-denying", lambda job: "no team", warns=True, binding="caliban-advising")
        )
        namespace = namespace_of("advising")
        stand_in.state.add_namespace(namespace)
        for cluster in (Cluster(connection, "x", platform_context(), QUICK), real.cluster):
            heard: list[str] = []
            made = cluster.create_job(namespace, job_body(), heard.append)
            said.append(heard)
            assert cluster.delete_job(namespace, {"metadata": {"name": made["metadata"]["name"]}})  # type: ignore[index]
    assert said == [[WARNING], [WARNING]]


def test_the_stand_in_refuses_in_the_words_of_the_cluster(real: RealCluster, tmp_path: Path) -> None:
    with KubeApi("1.36") as stand_in:
        path = stand_in.write_kubeconfig(tmp_path / "config", "lab")
        connection = Kubeconfig({"KUBECONFIG": str(path)}, tmp_path).connection("lab")
        other = Cluster(connection, "x", platform_context(), QUICK)
        for kind, prepare in STAND_IN.items():
            namespace = namespace_of(kind)
            stand_in.state.add_namespace(namespace)
            prepare(stand_in)
            assert refusal(other, namespace) == refusal(real.cluster, namespace)
            stand_in.mutating.clear()
            stand_in.validating.clear()
            stand_in.webhooks.clear()


def _break(cluster: KubeApi) -> None:
    why = "Unable to remove nonexistent key: nothing: missing value"
    error = f"JSON Patch: error in remove for path: '/spec/nothing': {why}"
    cluster.mutating.append(MutatingPolicy("caliban-broken", lambda job: None, error))


def _deny(cluster: KubeApi) -> None:
    cluster.validating.append(ValidatingPolicy("caliban-denying", lambda job: "no team"))


def _be_away(cluster: KubeApi) -> None:
    error = 'Post "https://127.0.0.1:1/x?timeout=2s": dial tcp 127.0.0.1:1: connect: connection refused'
    cluster.webhooks.append(Webhook("away.example.com", lambda job: None, error=error))


STAND_IN: dict[str, Callable[[KubeApi], None]] = {"broken": _break, "denying": _deny, "webhook": _be_away}


def refusal(cluster: Cluster, namespace: str) -> tuple[int, str, str, str | None, bool]:
    """Return what a cluster says of a job that it refuses."""
    with pytest.raises(KubernetesRefusedError) as caught:
        cluster.create_job(namespace, job_body())
    error = caught.value
    return error.code, error.reason, error.id, error.cause, error.outcome_unknown
