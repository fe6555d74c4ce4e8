"""Only the API server itself refuses a job. Whatever else answers, or breaks, leaves doubt: the job is looked up."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from caliban.errors import CalibanError
from caliban.platforms.base import RefusedError
from caliban.platforms.kubernetes import client
from caliban.platforms.kubernetes.kubeconfig_platform import KubeconfigPlatform
from caliban.platforms.kubernetes.transport import Request, Response, exchange
from caliban.records import JobUpdate, StatusUnavailable
from tests.fake_service import may_send
from tests.platforms.kubernetes.helpers import NAME, PEER_SPEC, QUICK, TOKEN, platform_context, record_of, submission
from tests.platforms.kubernetes.raw_server import RawServer
from tests.standins.kubernetes import KubeApi
from tests.standins.kubernetes.status import JOBS

CREATE, GET = "jobs.create", "jobs.get"
PAGE = b"<html><title>Access denied</title></html>"
Gateway = Callable[..., None]


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Gateway:
    """Put a gateway before the cluster that answers by itself."""
    real = exchange

    def put(
        status: int, body: bytes = PAGE, *, method: str = "POST", passes: bool = True, times: int = 1, **headers: str
    ) -> None:
        left = [times]

        def answer(pool: Any, request: Request, *more: Any) -> Response:
            if request.method != method or left[0] == 0:
                return real(pool, request, *more)
            left[0] -= 1
            if passes:
                real(pool, request, *more)
            return Response(status, "Reason", headers, body)

        monkeypatch.setattr(client, "exchange", answer)

    return put


def status_body(code: int, **more: object) -> bytes:
    status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "no", "code": code, **more}
    return json.dumps(status).encode()


def names(cluster: KubeApi) -> list[str]:
    return [job["metadata"]["name"] for job in cluster.state.items(JOBS)]


def failure(call: Callable[[], object]) -> CalibanError:
    with pytest.raises(CalibanError) as caught:
        call()
    return caught.value


@pytest.mark.parametrize("code", [201, 302, 400, 401, 403, 404, 408, 409, 413, 422, 425, 429, 451, 499, 500, 520, 599])
def test_a_job_that_was_accepted_behind_the_page_of_a_gateway_is_adopted(
    cluster: KubeApi, platform: KubeconfigPlatform, gateway: Gateway, code: int
) -> None:
    gateway(code)
    assert platform.submit(PEER_SPEC, submission(), may_send) == platform.find(submission())
    assert (names(cluster), cluster.counts[CREATE]) == ([NAME], 1)


@pytest.mark.parametrize("code", [408, 425, 429, 499, 500, 502, 503, 504, 520, 522, 530, 599])
def test_a_job_that_a_gateway_did_not_pass_on_is_sent_again_where_that_may_help(
    cluster: KubeApi, platform: KubeconfigPlatform, gateway: Gateway, code: int
) -> None:
    gateway(code, passes=False, times=2)
    platform.submit(PEER_SPEC, submission(), may_send)
    assert names(cluster) == [NAME]


@pytest.mark.parametrize("code", [400, 401, 403, 404, 409, 422, 451])
def test_the_page_of_a_gateway_is_no_refusal(
    cluster: KubeApi, platform: KubeconfigPlatform, gateway: Gateway, code: int
) -> None:
    gateway(code, passes=False)
    error = failure(lambda: platform.submit(PEER_SPEC, submission(), may_send))
    assert not isinstance(error, RefusedError)
    assert error.message.endswith("the response is not one of a Kubernetes API server")


@pytest.mark.parametrize(
    "body",
    [
        b'{"message": "Forbidden", "code": 403}',
        b'{"error": {"code": 403, "message": "no", "status": "PERMISSION_DENIED"}}',
        status_body(500),
        status_body(403, apiVersion="v2"),
        status_body(403, status="Success"),
        b"",
        b"[]",
        b'"no"',
        b"null",
        b"[" * 100_000,
        b'{"kind": "Status", "apiVersion": "v1", "code": 403, "message": "' + b"\xff",
    ],
)
def test_a_body_that_is_not_the_api_server_s_is_no_refusal(
    platform: KubeconfigPlatform, gateway: Gateway, body: bytes
) -> None:
    gateway(403, body)
    assert platform.submit(PEER_SPEC, submission(), may_send) == platform.find(submission())


@pytest.mark.parametrize("code", [400, 401, 403, 404, 405, 413, 415, 422])
def test_a_status_object_of_the_api_server_is_a_refusal(
    cluster: KubeApi, platform: KubeconfigPlatform, gateway: Gateway, code: int
) -> None:
    gateway(code, status_body(code), passes=False)
    assert isinstance(failure(lambda: platform.submit(PEER_SPEC, submission(), may_send)), RefusedError)
    assert cluster.counts[GET] == 0


@pytest.mark.parametrize("code", [408, 429, 499, 500, 501, 503, 504, 520])
def test_a_status_object_that_leaves_doubt_is_followed_by_a_look_up(
    cluster: KubeApi, platform: KubeconfigPlatform, gateway: Gateway, code: int
) -> None:
    gateway(code, status_body(code), times=1000, **{"Retry-After": "3600"})
    assert platform.submit(PEER_SPEC, submission(), may_send) == platform.find(submission())
    assert (names(cluster), cluster.counts[CREATE]) == ([NAME], 1)


@pytest.mark.parametrize("code", [404, 200])
def test_the_page_of_a_gateway_does_not_say_that_there_is_no_such_job(
    platform: KubeconfigPlatform, gateway: Gateway, code: int
) -> None:
    job = record_of(platform.submit(PEER_SPEC, submission(), may_send))
    gateway(code, method="GET", times=1000)
    assert failure(lambda: platform.find(submission())).id == "kubernetes-unreachable"
    assert failure(lambda: platform.stop(job)).id == "kubernetes-unreachable"
    assert isinstance(platform.statuses([job])[job.id], StatusUnavailable)


@pytest.mark.parametrize(
    "details",
    [{}, {"kind": "namespaces", "name": "default"}, {"kind": "jobs", "name": "other"}, {"kind": "pods", "name": NAME}],
)
def test_a_server_without_jobs_does_not_say_that_there_is_no_such_job(
    platform: KubeconfigPlatform, gateway: Gateway, details: dict[str, str]
) -> None:
    job = record_of(platform.submit(PEER_SPEC, submission(), may_send))
    gateway(404, status_body(404, details=details), method="GET", passes=False, times=1000)
    assert failure(lambda: platform.find(submission())).id in ("kubernetes-not-found", "namespace-not-found")
    assert failure(lambda: platform.stop(job)).id in ("kubernetes-not-found", "namespace-not-found")


@pytest.mark.parametrize("code", [404, 409, 200])
def test_the_page_of_a_gateway_does_not_say_that_a_job_was_deleted(
    cluster: KubeApi, platform: KubeconfigPlatform, gateway: Gateway, code: int
) -> None:
    job = record_of(platform.submit(PEER_SPEC, submission(), may_send))
    gateway(code, method="DELETE", passes=False, times=1000)
    failure(lambda: platform.stop(job))
    assert names(cluster) == [NAME]


@pytest.mark.parametrize(
    "answer",
    [
        {"kind": "JobList", "apiVersion": "batch/v1", "items": [5]},
        {"kind": "JobList", "apiVersion": "batch/v1", "items": "none"},
        {"kind": "PodList", "apiVersion": "v1", "items": []},
        {"kind": "Status", "apiVersion": "v1", "status": "Success"},
        {"items": []},
        [],
        5,
    ],
)
def test_an_odd_list_does_not_say_that_a_job_was_removed(
    platform: KubeconfigPlatform, gateway: Gateway, answer: object
) -> None:
    job = record_of(platform.submit(PEER_SPEC, submission(), may_send))
    gateway(200, json.dumps(answer).encode(), method="GET", times=1000)
    assert isinstance(platform.statuses([job])[job.id], StatusUnavailable)


@pytest.mark.parametrize("token", ["always the same", {"a": 1}, 5])
def test_a_list_without_end_is_left(
    cluster: KubeApi, platform: KubeconfigPlatform, gateway: Gateway, token: object
) -> None:
    job = record_of(platform.submit(PEER_SPEC, submission(), may_send))
    page = {"kind": "JobList", "apiVersion": "batch/v1", "metadata": {"continue": token}, "items": []}
    gateway(200, json.dumps(page).encode(), method="GET", times=1_000_000)
    answer = platform.statuses([job])[job.id]
    assert isinstance(answer, StatusUnavailable)
    assert "the list has no end" in answer.reason


def test_a_list_that_is_always_too_old_is_left(
    cluster: KubeApi, platform: KubeconfigPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = record_of(platform.submit(PEER_SPEC, submission(), may_send))
    asked: list[str] = []

    def answer(pool: object, request: Request, *more: object) -> Response:
        asked.append(request.url)
        if "continue=" in request.url:
            return Response(410, "Gone", {}, status_body(410, reason="Expired"))
        page = {"kind": "JobList", "apiVersion": "batch/v1", "metadata": {"continue": str(len(asked))}, "items": []}
        return Response(200, "OK", {}, json.dumps(page).encode())

    monkeypatch.setattr(client, "exchange", answer)
    assert isinstance(platform.statuses([job])[job.id], StatusUnavailable)
    assert len(asked) < 20


class BreakingProxy:
    """Relays connections to the cluster, and breaks some of them.

    Attributes:
        breaks: one for each connection to come: None to relay it.
    """

    def __init__(self, cluster: KubeApi) -> None:
        self._cluster = cluster
        self.breaks: list[str | None] = []
        self.server = RawServer(self._handle)

    def _handle(self, server: RawServer, connection: socket.socket) -> None:
        kind = self.breaks.pop(0) if self.breaks else None
        if kind == "close":
            return
        if kind == "alert":
            connection.recv(65536)
            connection.sendall(b"\x15\x03\x03\x00\x02\x02\x28")
            return
        if kind == "plain":
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
            return
        before = self._cluster.counts[CREATE]
        with socket.create_connection(("127.0.0.1", self._cluster.port)) as upstream:
            threading.Thread(target=self._relay, args=(connection, upstream), daemon=True).start()
            while data := upstream.recv(65536):
                if kind == "corrupt" and self._cluster.counts[CREATE] > before:
                    connection.sendall(b"\x17\x03\x03\x00\x30" + bytes(48))
                    return
                if kind == "cut" and self._cluster.counts[CREATE] > before:
                    connection.sendall(data[: len(data) // 2])
                    connection.shutdown(socket.SHUT_RDWR)
                    return
                connection.sendall(data)

    def _relay(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)


@pytest.fixture
def proxy(cluster: KubeApi, kubeconfig: Path) -> Iterator[BreakingProxy]:
    made = BreakingProxy(cluster)
    with made.server:
        kubeconfig.write_text(kubeconfig.read_text().replace(str(cluster.port), str(made.server.port)))
        yield made


@pytest.mark.parametrize("kind", ["corrupt", "cut"])
def test_after_a_broken_record_of_tls_the_job_is_looked_up(
    cluster: KubeApi, proxy: BreakingProxy, platform: KubeconfigPlatform, kind: str
) -> None:
    proxy.breaks = [kind]
    assert platform.submit(PEER_SPEC, submission(), may_send) == platform.find(submission())
    assert (names(cluster), cluster.counts[CREATE]) == ([NAME], 1)


def test_a_broken_record_of_tls_is_no_refusal(
    cluster: KubeApi, proxy: BreakingProxy, platform: KubeconfigPlatform
) -> None:
    proxy.breaks = ["corrupt", *["close"] * 1000]
    error = failure(lambda: platform.submit(PEER_SPEC, submission(), may_send))
    assert not isinstance(error, RefusedError)
    proxy.breaks.clear()
    assert platform.find(submission()) is not None
    assert names(cluster) == [NAME]


@pytest.mark.parametrize("kind", ["close", "alert", "plain"])
def test_a_failed_handshake_is_retried(
    cluster: KubeApi, proxy: BreakingProxy, platform: KubeconfigPlatform, kind: str
) -> None:
    proxy.breaks = [kind, kind]
    platform.submit(PEER_SPEC, submission(), may_send)
    assert names(cluster) == [NAME]
    proxy.breaks = [kind, kind]
    fresh = KubeconfigPlatform(platform.context, QUICK)
    job = record_of(platform.submit(PEER_SPEC, submission(), may_send))
    assert isinstance(fresh.statuses([job])[job.id], JobUpdate)


def test_the_token_is_in_the_labels_of_job_and_pods(cluster: KubeApi, platform: KubeconfigPlatform) -> None:
    platform.submit(PEER_SPEC, submission(), may_send)
    job = cluster.jobs.get(NAME)
    assert job["metadata"]["labels"]["caliban.token"] == TOKEN
    assert job["spec"]["template"]["metadata"]["labels"]["caliban.token"] == TOKEN


def test_a_context_without_a_user_is_anonymous(cluster: KubeApi, tmp_path: Path) -> None:
    path = cluster.write_kubeconfig(tmp_path / "k", "lab", user={})
    platform = KubeconfigPlatform(platform_context(kubeconfig=path), QUICK)
    assert isinstance(failure(lambda: platform.submit(PEER_SPEC, submission(), may_send)), RefusedError)
    assert "Authorization" not in cluster.requests[-1].headers
