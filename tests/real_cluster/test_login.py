"""As whom a real API server sees us, by each kind of login of a kubeconfig; kubectl is asked the same."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from caliban.platforms.kubernetes import in_cluster
from caliban.platforms.kubernetes.client import Cluster
from caliban.platforms.kubernetes.kubeconfig import Kubeconfig
from tests.platforms.kubernetes.helpers import QUICK, platform_context
from tests.proxies import ProxyServer
from tests.real_cluster.conftest import CONTEXT, RealCluster
from tests.real_cluster.jobs import kubectl

REVIEW = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
V1 = "client.authentication.k8s.io/v1"


@pytest.fixture(scope="module")
def namespace() -> Iterator[str]:
    """A namespace in which the service account ``default`` and the group ``researchers`` may use jobs."""
    name = f"caliban-login-{uuid.uuid4().hex[:8]}"
    kubectl("create", "namespace", name)
    verbs = ("--verb=create,get,list,delete", "--resource=jobs.batch,pods")
    kubectl("create", "role", "jobs", "-n", name, *verbs)
    kubectl("create", "rolebinding", "jobs", "-n", name, "--role=jobs", "--group=researchers")
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="module")
def token(namespace: str) -> str:
    return kubectl("create", "token", "default", "-n", namespace).strip()


def current() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(kubectl("config", "view", "--raw", "--minify", "--flatten"))
    return found


def kubeconfig(
    tmp_path: Path, user: Mapping[str, Any], cluster: Mapping[str, Any] | None = None, *, is_added: bool = False
) -> Path:
    """Write the kubeconfig of the cluster for another user, or for the same one with more values."""
    given = current()
    given["clusters"][0]["cluster"] |= cluster or {}
    given["users"][0]["user"] = {**(given["users"][0]["user"] if is_added else {}), **user}
    path = tmp_path / "login.yaml"
    path.write_text(yaml.safe_dump(given))
    return path


def client(environ: Mapping[str, str], context: str = CONTEXT) -> Cluster:
    return Cluster(Kubeconfig(environ, Path.home()).connection(context), context, platform_context(), QUICK)


def who(cluster: Cluster) -> dict[str, Any]:
    path = "apis/authentication.k8s.io/v1/selfsubjectreviews"
    answer: Any = cluster._send("POST", path, "ask who we are", ("SelfSubjectReview",), REVIEW)
    found: dict[str, Any] = answer["status"]["userInfo"]
    return found


def who_by_kubectl(path: Path) -> dict[str, Any]:
    command = ["kubectl", "--kubeconfig", str(path), "auth", "whoami", "-o", "json"]
    out = subprocess.run(command, capture_output=True, check=True).stdout
    found: dict[str, Any] = json.loads(out)["status"]["userInfo"]
    return found


def same_user(path: Path) -> dict[str, Any]:
    found = who(client({**os.environ, "KUBECONFIG": str(path)}))
    assert found == who_by_kubectl(path)
    return found


@pytest.mark.parametrize(
    "other",
    [
        {"as": "jané"},
        {"as": "jane", "as-groups": ["researchers", "with space"]},
        {"as": "jane", "as-uid": "42", "as-user-extra": {"example.com/a%b é": ["1", "2"], "scopes": ["x"]}},
    ],
)
def test_requests_act_as_the_user_that_the_kubeconfig_names(tmp_path: Path, other: dict[str, Any]) -> None:
    assert same_user(kubeconfig(tmp_path, other, is_added=True))["username"] == other["as"]


def test_jobs_are_submitted_as_the_impersonated_user_with_the_groups_that_it_has(
    real: RealCluster, namespace: str, tmp_path: Path
) -> None:
    real.namespace = namespace
    real.user.environ["KUBECONFIG"] = str(kubeconfig(tmp_path, {"as": "jane"}, is_added=True))
    refused = real.submit("exit 0")
    assert refused.code != 0
    assert 'User "jane" cannot create resource "jobs"' in refused.err
    assert real.jobs() == []
    groups = {"as": "jane", "as-groups": ["researchers"]}
    real.user.environ["KUBECONFIG"] = str(kubeconfig(tmp_path, groups, is_added=True))
    assert real.submit("exit 0").code == 0
    assert len(real.jobs()) == 1


def test_a_token_file_with_white_space_counts_before_a_token(tmp_path: Path, token: str, namespace: str) -> None:
    (tmp_path / "token").write_text(f"\n{token}\n")
    found = same_user(kubeconfig(tmp_path, {"tokenFile": "token", "token": "wrong"}))
    assert found["username"] == f"system:serviceaccount:{namespace}:default"


def plugin(program: str) -> dict[str, Any]:
    config = {"apiVersion": V1, "interactiveMode": "Never", "command": sys.executable, "args": ["-c", program]}
    return {"exec": config}


def printing(status: Mapping[str, Any]) -> str:
    return f"print({json.dumps({'apiVersion': V1, 'kind': 'ExecCredential', 'status': status})!r})"


def test_the_client_certificate_of_a_plugin_is_shown(tmp_path: Path) -> None:
    pem = {key: base64.b64decode(value).decode() for key, value in current()["users"][0]["user"].items()}
    status = {
        "clientCertificateData": pem["client-certificate-data"],
        "clientKeyData": pem["client-key-data"],
        "expirationTimestamp": None,
    }
    assert same_user(kubeconfig(tmp_path, plugin(printing(status))))["username"] == who(client(os.environ))["username"]


def test_a_token_of_a_plugin_that_the_api_server_rejects_is_renewed(tmp_path: Path, token: str, namespace: str) -> None:
    mark = tmp_path / "mark"
    first, second = printing({"token": "expired"}), printing({"token": token})
    program = (
        f"import os\nif os.path.exists({str(mark)!r}):\n    {second}\nelse:\n    open({str(mark)!r}, 'w')\n    {first}"
    )
    path = kubeconfig(tmp_path, plugin(program))
    found = who(client({**os.environ, "KUBECONFIG": str(path)}))
    assert found["username"] == f"system:serviceaccount:{namespace}:default"


def test_a_pod_logs_in_with_its_service_account(
    tmp_path: Path, token: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = current()["clusters"][0]["cluster"]
    host, _, port = cluster["server"].removeprefix("https://").rpartition(":")
    monkeypatch.setattr(in_cluster, "SERVICE_ACCOUNT", tmp_path)
    (tmp_path / "ca.crt").write_bytes(base64.b64decode(cluster["certificate-authority-data"]))
    (tmp_path / "token").write_text(token)
    (tmp_path / "namespace").write_text(namespace)
    environ = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}
    assert Kubeconfig(environ, tmp_path).context(None).namespace == namespace
    made = Cluster(Kubeconfig(environ, tmp_path).connection("in-cluster"), "x", platform_context(), QUICK)
    assert who(made)["username"] == f"system:serviceaccount:{namespace}:default"


@pytest.mark.parametrize("kind", ["http", "socks5"])
def test_a_server_is_reached_by_a_proxy_and_verified_by_its_tls_server_name(tmp_path: Path, kind: str) -> None:
    port = current()["clusters"][0]["cluster"]["server"].rpartition(":")[2]
    with ProxyServer(kind) as proxy:
        cluster = {
            "server": f"https://api.lab.invalid:{port}",
            "proxy-url": f"{kind}://127.0.0.1:{proxy.port}",
            "tls-server-name": "kubernetes.default.svc",
        }
        same_user(kubeconfig(tmp_path, {}, cluster, is_added=True))
        assert set(proxy.asked) == {f"api.lab.invalid:{port}"}
