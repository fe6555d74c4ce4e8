"""Clusters: credentials are neither shown nor stored, and never sent to a server with an untrusted certificate."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from caliban.errors import CalibanError
from caliban.platforms.kubernetes.client import Cluster
from caliban.platforms.kubernetes.details import ClusterDestination
from caliban.platforms.kubernetes.gke_platform import GkePlatform
from caliban.platforms.kubernetes.kubeconfig import Kubeconfig
from caliban.platforms.kubernetes.kubeconfig_platform import KubeconfigPlatform
from caliban.platforms.kubernetes.platform import ClusterPlatform
from caliban.records import JobRecord
from tests.e2e.conftest import Researcher
from tests.fake_service import may_send
from tests.platforms.kubernetes.helpers import (
    DESTINATION,
    GKE_DESTINATION,
    PEER_DETAILS,
    PEER_SPEC,
    QUICK,
    job_record,
    platform_context,
    submission,
)
from tests.standins.container_v1 import ContainerV1, GkeCluster
from tests.standins.faults import Fault
from tests.standins.kubernetes import KubeApi, Webhook

from .servers import Certificate, Request, Response, Server, make_certificate, repeating, serving
from .test_error_messages import all_text

TOKEN = "planted-secret-token"
PASSWORD = "planted-password"
VERIFY_FAILED = "certificate verify failed"
OURS = job_record({"context": "lab", "job": {"metadata": {"name": "x", "namespace": "default"}}})
PEERS = job_record(PEER_DETAILS, platform="GKE")


def write_kubeconfig(path: Path, server: str, user: dict[str, Any] | None = None, **cluster: object) -> Path:
    """Write a kubeconfig with the context ``lab``."""
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "lab",
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "lab"}}],
        "clusters": [{"name": "lab", "cluster": {"server": server, **cluster}}],
        "users": [{"name": "lab", "user": user or {"token": TOKEN}}],
    }
    path.write_text(yaml.safe_dump(content))
    return path


def all_output(platform: ClusterPlatform[Any], job: JobRecord, destination: ClusterDestination) -> str:
    """Return everything that the methods of a platform return or raise."""
    output = [repr(platform.statuses([job]))]
    submitted = submission(destination=destination)
    for call in (
        lambda: platform.connect(destination),
        lambda: platform.submit(PEER_SPEC, submitted, may_send),
        lambda: platform.find(submitted),
        lambda: platform.stop(job),
        lambda: platform.listing(destination),
    ):
        try:
            output.append(repr(call()))
        except CalibanError as error:
            output.append(all_text(error))
    return "\n".join(output)


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    return make_certificate(tmp_path)


def forbidden(request: Request) -> Response:
    """Return an error that repeats the whole request."""
    status = {"kind": "Status", "apiVersion": "v1", "message": request.text, "reason": "Forbidden", "code": 403}
    return 403, {"Content-Type": "application/json", "X-Repeated": "x"}, json.dumps(status).encode()


@pytest.mark.parametrize(
    "reply",
    [forbidden, *(repeating(status, as_json=kind) for status in (200, 401, 502) for kind in (True, False))],
)
@pytest.mark.parametrize("user", [{"token": TOKEN}, {"username": "totoro", "password": PASSWORD}])
def test_credentials_that_a_response_repeats_are_redacted(
    tmp_path: Path, certificate: Certificate, reply: Callable[[Request], Response], user: dict[str, str]
) -> None:
    with serving(reply, certificate) as server:
        authority: dict[str, Any] = {"certificate-authority": str(certificate.path)}
        path = write_kubeconfig(tmp_path / "config", f"https://127.0.0.1:{server.port}", user, **authority)
        output = all_output(KubeconfigPlatform(platform_context(kubeconfig=path), QUICK), OURS, DESTINATION)
        sent = {re.search(r"Authorization: \w+ (\S+)", request.text, re.IGNORECASE) for request in server.requests}
    logins = {match[1] for match in sent if match}
    assert len(logins) == 1
    assert not [login for login in (*logins, TOKEN, PASSWORD) if login in output]


def test_a_google_token_that_a_cluster_repeats_is_redacted(tmp_path: Path, no_google_login: None) -> None:
    with ContainerV1() as gke, KubeApi(accepts=gke.account.accepts) as cluster:
        gke.add("totoro-project", GkeCluster("blueshift", "us-central1-a", cluster))
        platform = GkePlatform(platform_context(gke=gke, cloud_key=gke.write_key_file(tmp_path / "key.json")), QUICK)
        token = platform.google.access_token()
        cluster.faults.add(Fault("*", "status", times=1000, status=403, message=f"no entry with Bearer {token}"))
        output = all_output(platform, PEERS, GKE_DESTINATION)
    assert "no entry with Bearer ***" in output
    assert token not in output


@pytest.fixture
def impostor(certificate: Certificate) -> Iterator[Server]:
    """A server that answers like an empty cluster."""

    def reply(request: Request) -> Response:
        content = {"kind": "JobList", "apiVersion": "batch/v1", "metadata": {}, "items": []}
        return 200, {"Content-Type": "application/json"}, json.dumps(content).encode()

    with serving(reply, certificate) as server:
        yield server


@pytest.mark.parametrize("cluster", [{}, {"insecure-skip-tls-verify": True}, {"insecure-skip-tls-verify": False}])
@pytest.mark.parametrize("user", [{"token": TOKEN}, {"username": "totoro", "password": PASSWORD}])
def test_a_cluster_with_an_untrusted_certificate_gets_no_request_whatever_the_kubeconfig_says(
    impostor: Server, tmp_path: Path, cluster: dict[str, bool], user: dict[str, str]
) -> None:
    path = write_kubeconfig(tmp_path / "config", f"https://127.0.0.1:{impostor.port}", user, **cluster)
    output = all_output(KubeconfigPlatform(platform_context(kubeconfig=path), QUICK), OURS, DESTINATION)
    assert (VERIFY_FAILED in output, impostor.requests) == (True, [])


def test_a_cluster_with_a_trusted_certificate_gets_requests(
    impostor: Server, certificate: Certificate, tmp_path: Path
) -> None:
    authority: dict[str, Any] = {"certificate-authority": str(certificate.path)}
    path = write_kubeconfig(tmp_path / "config", f"https://127.0.0.1:{impostor.port}", **authority)
    KubeconfigPlatform(platform_context(kubeconfig=path), QUICK).statuses([OURS])
    assert len(impostor.requests) == 1


def test_a_token_is_not_sent_to_the_target_of_a_redirect(
    impostor: Server, certificate: Certificate, tmp_path: Path
) -> None:
    def reply(request: Request) -> Response:
        return 307, {"Location": f"https://127.0.0.1:{impostor.port}/"}, b""

    with serving(reply, certificate) as server:
        authority: dict[str, Any] = {"certificate-authority": str(certificate.path)}
        path = write_kubeconfig(tmp_path / "config", f"https://127.0.0.1:{server.port}", **authority)
        all_output(KubeconfigPlatform(platform_context(kubeconfig=path), QUICK), OURS, DESTINATION)
        assert server.requests
    assert impostor.requests == []


def test_an_oidc_issuer_with_an_untrusted_certificate_gets_no_request(impostor: Server, tmp_path: Path) -> None:
    expired = "eyJhbGciOiJub25lIn0.eyJleHAiOjF9.x"
    config = {
        "idp-issuer-url": f"https://127.0.0.1:{impostor.port}",
        "id-token": expired,
        "refresh-token": TOKEN,
        "client-id": "caliban",
        "client-secret": PASSWORD,
    }
    user = {"auth-provider": {"name": "oidc", "config": config}}
    path = write_kubeconfig(tmp_path / "config", "https://192.0.2.1", user)
    with pytest.raises(CalibanError) as caught:
        Kubeconfig({"KUBECONFIG": str(path)}, tmp_path).connection("lab")
    assert (VERIFY_FAILED in str(caught.value.cause), impostor.requests) == (True, [])
    output = all_text(caught.value)
    assert not [secret for secret in (TOKEN, PASSWORD, expired) if secret in output]


def test_the_repr_of_clients_has_no_token(tmp_path: Path) -> None:
    path = write_kubeconfig(tmp_path / "config", "https://192.0.2.1")
    connection = Kubeconfig({"KUBECONFIG": str(path)}, tmp_path).connection("lab")
    cluster = Cluster(connection, "lab", platform_context(), QUICK)
    assert TOKEN not in f"{connection!r} {cluster!r} {Kubeconfig({'KUBECONFIG': str(path)}, tmp_path)!r}"


def test_the_store_and_the_output_of_commands_have_no_token(user: Researcher) -> None:
    with KubeApi() as cluster:
        cluster.access.tokens[TOKEN] = "totoro"
        path = cluster.write_kubeconfig(user.home / "config", "lab", user={"token": TOKEN})
        user.environ["KUBECONFIG"] = str(path)
        group = ("--xgroup", "g", "--nogpu", "--image_tag", "localhost:1/a:1", "cpu.py")
        results = [user.caliban("cluster", "job", "submit", *group)]
        cluster.webhooks.append(Webhook("echo.example.com", lambda job: f"you sent Bearer {TOKEN}"))
        results += [user.caliban("cluster", "job", "submit", *group)]
        cluster.faults.add(Fault("*", "status", times=1000, status=403, message=f"you sent {TOKEN}"))
        results += [
            user.caliban("status", "--xgroup", "g"),
            user.caliban("stop", "--xgroup", "g", "--yes"),
            user.caliban("cluster", "ls"),
            user.caliban("cluster", "job", "ls"),
        ]
        sent = json.dumps([received.body for received in cluster.requests])
    assert [answer.code for answer in results[:3]] == [0, 1, 0]
    assert "you sent Bearer ***" in results[1].err
    output = "".join(answer.out + answer.err for answer in results)
    store = b"".join(file.read_bytes() for file in user.store.parent.iterdir())
    assert [TOKEN in output, TOKEN.encode() in store, TOKEN in sent] == [False, False, False]
