"""Errors of requests to a cluster: ids, messages, hints, and whether a retry makes sense."""

from __future__ import annotations

import json
import ssl
from typing import Any

import pytest
import urllib3
import urllib3.exceptions

from caliban.platforms.kubernetes.errors import (
    KubernetesRefusedError,
    Status,
    failure,
    unreachable,
)

DENIED = 'admission webhook "policy.example.com" denied the request: no cost centre'
POLICY = "ValidatingAdmissionPolicy 'costs' with binding 'all' denied request: no cost centre"
FAILED_WEBHOOK = 'Internal error occurred: failed calling webhook "x.example.com": failed to call webhook: refused'
FAILED_MUTATION = "policy 'sidecar' with binding 'all' denied request: JSON Patch: error in remove for path: '/spec/x'"
FAILED_VALIDATION = (
    "jobs.batch \"x\" is forbidden: ValidatingAdmissionPolicy 'costs' with binding 'all' denied request: expression "
    "'object.x == 1' resulted in error: no such key: x"
)
NO_ROLE = (
    'jobs.batch is forbidden: User "totoro" cannot create resource "jobs" in API group "batch" in the namespace "x"'
)
ANOTHER_RULE = 'jobs.batch "x" is forbidden: suspended jobs only'
OVER_QUOTA = 'jobs.batch "x" is forbidden: exceeded quota: compute, requested: count/jobs.batch=1'
TERMINATING = (
    'jobs.batch "x" is forbidden: unable to create new content in namespace lab because it is being terminated'
)


def response(code: int, message: str = "no", reason: str = "", kind: str = "jobs", **headers: str) -> Any:
    details = {"kind": kind, "name": "x"}
    status = {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "message": message,
        "reason": reason,
        "details": details,
        "code": code,
    }
    return failure(code, status, json.dumps(status), "Reason", headers, "submit the job x")


@pytest.mark.parametrize(
    ("error", "id", "message"),
    [
        (response(400), "kubernetes-bad-request", "the cluster rejected the request as malformed"),
        (response(401, reason="Unauthorized"), "kubernetes-not-authenticated", "the cluster rejected the credentials"),
        (response(403, reason="Forbidden"), "kubernetes-permission-denied", "permission denied"),
        (response(403, OVER_QUOTA), "kubernetes-quota-exhausted", "a resource quota of the namespace is exhausted"),
        (response(403, TERMINATING), "namespace-terminating", "the namespace is being deleted"),
        (response(404), "kubernetes-not-found", "not found"),
        (response(404, kind="namespaces"), "namespace-not-found", "the namespace does not exist"),
        (response(409, reason="AlreadyExists"), "kubernetes-conflict", "it already exists"),
        (response(413), "kubernetes-too-large", "the request is too large"),
        (response(418), "kubernetes-refused", "the cluster rejected the request"),
        (response(422, reason="Invalid"), "kubernetes-invalid", "the cluster rejected the job as invalid"),
        (response(429), "kubernetes-busy", "the cluster is busy"),
        (response(500), "kubernetes-unavailable", "the cluster is unavailable"),
        (response(501), "kubernetes-unavailable", "the cluster is unavailable"),
        (response(504, reason="Timeout"), "kubernetes-unavailable", "the cluster is unavailable"),
        (response(400, DENIED), "kubernetes-admission-denied", "denied by an admission rule of the cluster"),
        (response(403, DENIED), "kubernetes-admission-denied", "denied by an admission rule of the cluster"),
        (response(403, ANOTHER_RULE), "kubernetes-admission-denied", "denied by an admission rule of the cluster"),
        (response(403, NO_ROLE, "Forbidden"), "kubernetes-permission-denied", "permission denied"),
        (response(500, FAILED_WEBHOOK), "kubernetes-admission-failed", "an admission rule of the cluster failed"),
        (response(403, FAILED_MUTATION), "kubernetes-admission-failed", "an admission rule of the cluster failed"),
        (response(422, FAILED_VALIDATION), "kubernetes-admission-failed", "an admission rule of the cluster failed"),
        (response(422, POLICY), "kubernetes-admission-denied", "denied by an admission rule of the cluster"),
    ],
)
def test_each_error_has_its_id_and_message(error: KubernetesRefusedError, id: str, message: str) -> None:
    assert error.id == id
    assert error.message.startswith(f"cannot submit the job x: {message}")


@pytest.mark.parametrize("message", ["no", DENIED, OVER_QUOTA, TERMINATING])
def test_the_cluster_s_message_is_the_cause(message: str) -> None:
    assert response(403, message).cause == message


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (response(401), "log in to the cluster again, and check with: kubectl get jobs"),
        (
            response(403),
            "ask the cluster's administrator for a role that may create, get, list and delete jobs, and list pods, in "
            "this namespace",
        ),
        (response(403, OVER_QUOTA), "wait for other jobs to end, or request more quota"),
        (
            response(404, kind="namespaces"),
            "create it with kubectl create namespace, or choose another one with --namespace",
        ),
    ],
)
def test_the_hint_is_what_to_do(error: KubernetesRefusedError, hint: str) -> None:
    assert error.hint == hint


@pytest.mark.parametrize(
    ("error", "is_transient", "outcome_unknown"),
    [
        (response(400), False, False),
        (response(401), False, False),
        (response(403), False, False),
        (response(403, OVER_QUOTA), False, False),
        (response(404), False, False),
        (response(409, reason="AlreadyExists"), False, True),
        (response(409, reason="Conflict"), True, False),
        (response(422), False, False),
        (response(429), True, False),
        (response(500), True, True),
        (response(408), True, True),
        (response(425), True, True),
        (response(499), True, True),
        (response(501), False, True),
        (response(520), True, True),
        (response(599), True, True),
        (response(503), True, True),
        (response(504, reason="Timeout"), True, True),
    ],
)
def test_transient_errors_and_unknown_outcomes_are_marked(
    error: KubernetesRefusedError, is_transient: bool, outcome_unknown: bool
) -> None:
    assert (error.is_transient, error.outcome_unknown) == (is_transient, outcome_unknown)


def test_the_retry_after_header_is_read_in_any_case() -> None:
    assert response(429, **{"retry-after": "3"}).retry_after == 3
    assert response(429).retry_after is None


STATUS = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "x", "code": 403}


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        "forbidden",
        {},
        {"message": "forbidden", "code": 403},
        {**STATUS, "kind": "Job"},
        {**STATUS, "apiVersion": "v2"},
        {**STATUS, "code": 404},
        {**STATUS, "code": "403"},
        {**STATUS, "status": "Success"},
        {key: value for key, value in STATUS.items() if key != "code"},
    ],
)
def test_only_a_status_object_with_the_code_of_the_response_is_a_refusal(body: object) -> None:
    assert Status.of(STATUS, 403) == Status("x")
    assert Status.of(body, 403) is None


@pytest.mark.parametrize("code", [400, 401, 403, 404, 408, 413, 422, 425, 429, 451, 499, 500, 502, 503, 520, 530, 599])
def test_the_page_of_a_gateway_leaves_the_outcome_unknown(code: int) -> None:
    error = failure(code, None, "<html>No entry</html>", "Forbidden", {}, "submit the job x")
    assert (error.id, error.message, error.cause) == (
        "kubernetes-unreachable",
        "cannot submit the job x: the response is not one of a Kubernetes API server",
        f"HTTP {code}: <html>No entry</html>",
    )
    assert error.outcome_unknown
    assert not isinstance(error, KubernetesRefusedError)


@pytest.mark.parametrize(
    ("code", "is_transient"), [(403, False), (404, False), (408, True), (425, True), (429, True), (499, True)]
)
def test_the_page_of_a_gateway_is_transient_where_its_status_says_so(code: int, is_transient: bool) -> None:
    error = failure(code, None, "", "Reason", {"Retry-After": "3"}, "do it")
    assert (error.is_transient, error.is_over_quota, error.retry_after) == (is_transient, code == 429, 3)


@pytest.mark.parametrize("values", [{"message": 5}, {"message": None}, {"details": []}, {"details": {"kind": [1]}}])
def test_a_status_object_of_odd_types_is_read(values: dict[str, object]) -> None:
    assert isinstance(Status.of({**STATUS, **values}, 403), Status)


def test_a_long_message_is_cut() -> None:
    status = Status.of({**STATUS, "message": "x" * 10_000}, 403)
    assert status is not None
    assert len(status.message) == 2000


def test_an_error_without_a_message_has_its_code_as_cause() -> None:
    assert failure(502, {**STATUS, "code": 502, "message": ""}, "", "", {}, "do it").cause == "HTTP 502"
    assert failure(502, None, "", "", {}, "do it").cause == "HTTP 502"


POOL: Any = None
VERIFY = "certificate verify failed"


@pytest.mark.parametrize(
    ("error", "outcome_unknown"),
    [
        (urllib3.exceptions.NewConnectionError(POOL, "refused"), False),
        (urllib3.exceptions.ConnectTimeoutError(POOL, "slow"), False),
        (urllib3.exceptions.ProxyError("no proxy", OSError()), False),
        (urllib3.exceptions.ReadTimeoutError(POOL, "/", "slow"), True),
        (urllib3.exceptions.ProtocolError("reset"), True),
    ],
)
def test_without_a_response_the_outcome_is_unknown_if_the_request_was_sent(
    error: Exception, outcome_unknown: bool
) -> None:
    made = unreachable("submit the job x", error)
    assert (made.id, made.message) == (
        "kubernetes-unreachable",
        "cannot submit the job x: no response from the cluster",
    )
    assert (made.is_transient, made.outcome_unknown) == (True, outcome_unknown)


@pytest.mark.parametrize("inner", [ssl.SSLCertVerificationError(1, VERIFY), ssl.CertificateError(VERIFY)])
def test_an_untrusted_certificate_is_not_transient_and_nothing_was_sent(inner: Exception) -> None:
    made = unreachable("submit the job x", urllib3.exceptions.SSLError(inner))
    assert made.message == "cannot submit the job x: the cluster's certificate cannot be verified"
    assert (VERIFY in str(made.cause), made.is_transient, made.outcome_unknown) == (True, False, False)


@pytest.mark.parametrize("was_sent", [True, False])
@pytest.mark.parametrize(
    "inner",
    [
        ssl.SSLError(1, "[SSL: DECRYPTION_FAILED_OR_BAD_RECORD_MAC] decryption failed or bad record mac"),
        ssl.SSLError(1, "[SSL: SSLV3_ALERT_HANDSHAKE_FAILURE] ssl/tls alert handshake failure"),
        ssl.SSLEOFError(8, "EOF occurred in violation of protocol"),
    ],
)
def test_any_other_failure_of_tls_is_transient_and_leaves_the_outcome_unknown(inner: Exception, was_sent: bool) -> None:
    made = unreachable("submit the job x", urllib3.exceptions.SSLError(inner), was_sent=was_sent)
    assert made.message == "cannot submit the job x: no response from the cluster"
    assert (made.is_transient, made.outcome_unknown) == (True, True)


def test_a_deadline_before_the_request_was_written_leaves_no_doubt() -> None:
    assert not unreachable("do it", TimeoutError("late"), was_sent=False).outcome_unknown
    assert unreachable("do it", TimeoutError("late"), was_sent=True).outcome_unknown


def test_the_login_in_a_proxy_url_is_not_shown() -> None:
    made = unreachable("do it", urllib3.exceptions.ProtocolError("via http://totoro:planted@proxy:1"))
    assert made.cause == "via http://proxy:1"


def test_the_cause_has_the_address_and_no_class_of_the_library() -> None:
    pool: Any = urllib3.HTTPSConnectionPool("192.0.2.1", 6443)
    made = unreachable("do it", urllib3.exceptions.ReadTimeoutError(pool, "/", "Read timed out."))
    assert made.cause == "192.0.2.1:6443: Read timed out."


def test_the_cause_of_a_broken_connection_is_in_plain_words() -> None:
    inner: Any = urllib3.exceptions.NewConnectionError(urllib3.HTTPSConnectionPool("192.0.2.1", 1), "refused")  # type: ignore[arg-type]
    assert unreachable("do it", urllib3.exceptions.ProxyError("Unable to connect to proxy", inner)).cause == (
        "Unable to connect to proxy: 192.0.2.1:1: refused"
    )
    reset = urllib3.exceptions.ProtocolError("Connection aborted.", ConnectionResetError(104, "Connection reset"))
    assert unreachable("do it", reset).cause == "Connection aborted: [Errno 104] Connection reset"


def test_an_exception_without_a_message_has_its_type_as_cause() -> None:
    assert unreachable("do it", urllib3.exceptions.ProtocolError()).cause == "ProtocolError"
