"""Logging in to the cluster that caliban itself runs in, as a pod."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from caliban.platforms.kubernetes import in_cluster
from caliban.platforms.kubernetes.client import Cluster
from caliban.platforms.kubernetes.directory import ClusterDirectory
from caliban.platforms.kubernetes.kubeconfig import Kubeconfig
from tests.platforms.kubernetes.helpers import (
    DESTINATION,
    QUICK,
    platform_context,
)
from tests.platforms.kubernetes.test_kubeconfig import content, refusal, write
from tests.standins.kubernetes import KubeApi


@pytest.fixture
def pod(cluster: KubeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    directory = tmp_path / "serviceaccount"
    monkeypatch.setattr(in_cluster, "SERVICE_ACCOUNT", directory)
    write(directory / "token", f"{cluster.access.token}\n")
    write(directory / "ca.crt", cluster.authority.certificate.decode())
    write(directory / "namespace", "lab")
    return {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(cluster.port)}


@pytest.mark.parametrize("text", [None, "", "apiVersion: v1\nkind: Config\nclusters: []\n"])
def test_in_a_pod_its_service_account_is_used_where_there_is_no_kubeconfig(
    pod: dict[str, str], tmp_path: Path, text: str | None
) -> None:
    if text is not None:
        pod["KUBECONFIG"] = str(write(tmp_path / "config", text))
    found = Kubeconfig(pod, tmp_path)
    context = found.context(None)
    assert (context.name, context.namespace, context.is_current) == ("in-cluster", "lab", True)
    Cluster(found.connection("in-cluster"), "x", platform_context(), QUICK).check_namespace("default")


def test_a_pod_lists_its_cluster_and_asks_google_for_none(pod: dict[str, str], tmp_path: Path) -> None:
    directory = ClusterDirectory(platform_context({**pod, "KUBECONFIG": str(tmp_path / "none")}))
    listing = directory.with_project(directory.contexts())
    server = f"https://127.0.0.1:{pod['KUBERNETES_SERVICE_PORT']}"
    assert list(listing.context_lines()) == [
        f"no kubeconfig: {tmp_path}/none; the cluster of this pod:",
        f"* in-cluster  {server}  namespace: lab",
    ]
    assert listing.project is None


def test_the_commands_of_kubectl_that_are_shown_work_in_the_pod() -> None:
    (command,) = replace(DESTINATION, context="in-cluster").links("a-job")
    assert command == "kubectl --namespace default logs --follow job/a-job"


def test_in_a_pod_the_current_context_of_a_kubeconfig_counts(pod: dict[str, str], tmp_path: Path) -> None:
    file = write(tmp_path / "config", content("lab", current="lab"))
    found = Kubeconfig({**pod, "KUBECONFIG": str(file)}, tmp_path)
    assert [(each.name, each.is_current) for each in found.contexts()] == [("lab", True), ("in-cluster", False)]


def test_in_a_pod_a_context_without_a_namespace_has_that_of_the_pod_as_for_kubectl(
    pod: dict[str, str], tmp_path: Path
) -> None:
    given = content("lab", "other", current="lab")
    given["contexts"][1]["context"]["namespace"] = "default"
    found = Kubeconfig({**pod, "KUBECONFIG": str(write(tmp_path / "config", given))}, tmp_path)
    assert [found.context(name).namespace for name in ("lab", "other")] == ["lab", "default"]


def test_a_context_that_is_called_like_that_of_a_pod_counts_instead(pod: dict[str, str], tmp_path: Path) -> None:
    file = write(tmp_path / "config", content("in-cluster", current="in-cluster", server="https://192.0.2.9"))
    found = Kubeconfig({**pod, "KUBECONFIG": str(file)}, tmp_path)
    assert [each.server for each in found.contexts()] == ["https://192.0.2.9"]


def test_the_token_of_a_pod_is_read_again_for_each_request(pod: dict[str, str], tmp_path: Path) -> None:
    made = Kubeconfig(pod, tmp_path).connection("in-cluster")
    write(in_cluster.SERVICE_ACCOUNT / "token", "rotated")
    assert made.credentials.current().authorization == "Bearer rotated"


def test_a_pod_without_a_usable_token_is_reported_as_such(pod: dict[str, str], tmp_path: Path) -> None:
    write(in_cluster.SERVICE_ACCOUNT / "token", "\n")
    error = refusal(lambda: Kubeconfig(pod, tmp_path).connection("in-cluster"))
    assert error.message == "cannot log in with the service account of this pod"
    assert "the token is empty" in str(error.cause)


def test_a_pod_may_say_its_namespace_in_a_variable_and_have_an_address_of_ipv6(
    pod: dict[str, str], tmp_path: Path
) -> None:
    context = Kubeconfig({**pod, "KUBERNETES_SERVICE_HOST": "fd00::1", "POD_NAMESPACE": "other"}, tmp_path).context(
        None
    )
    assert context.server == f"https://[fd00::1]:{pod['KUBERNETES_SERVICE_PORT']}"
    assert context.namespace == "other"


@pytest.mark.parametrize("missing", ["KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT", "token"])
def test_outside_of_a_pod_there_is_no_such_context(pod: dict[str, str], tmp_path: Path, missing: str) -> None:
    if missing == "token":
        (in_cluster.SERVICE_ACCOUNT / "token").unlink()
    pod.pop(missing, None)
    assert Kubeconfig(pod, tmp_path).contexts() == []
