"""What a cluster's refusals and silences become."""

from __future__ import annotations

import json
from typing import Any

import pytest
import urllib3.exceptions

from caliban.platforms.kubernetes.errors import KubernetesRefusedError, Status, refused, unreachable

DENIED = 'admission webhook "policy.example.com" denied the request: no cost centre'
POLICY = "ValidatingAdmissionPolicy 'costs' with binding 'all' denied request: no cost centre"
OVER_QUOTA = 'jobs.batch "x" is forbidden: exceeded quota: compute, requested: count/jobs.batch=1'
GOING = 'jobs.batch "x" is forbidden: unable to create new content in namespace lab because it is being terminated'


def answered(code: int, message: str = "no", reason: str = "", kind: str = "jobs", **headers: str) -> Any:
    details = {"kind": kind, "name": "x"}
    status = {"kind": "Status", "message": message, "reason": reason, "details": details, "code": code}
    return refused(code, json.dumps(status).encode(), "Reason", headers, "submit the job x")


@pytest.mark.parametrize(
    ("error", "id", "words"),
    [
        (answered(400), "kubernetes-bad-request", "the cluster does not accept the request"),
        (answered(401, reason="Unauthorized"), "kubernetes-not-authenticated", "the cluster does not accept the cred"),
        (answered(403, reason="Forbidden"), "kubernetes-permission-denied", "permission denied"),
        (answered(403, OVER_QUOTA), "kubernetes-quota-exhausted", "a quota of the namespace is used up"),
        (answered(403, GOING), "namespace-terminating", "the namespace is being deleted"),
        (answered(404), "kubernetes-not-found", "the cluster knows no such thing"),
        (answered(404, kind="namespaces"), "namespace-not-found", "there is no such namespace"),
        (answered(409, reason="AlreadyExists"), "kubernetes-conflict", "there is one already"),
        (answered(413), "kubernetes-too-large", "the cluster does not accept so large a request"),
        (answered(418), "kubernetes-refused", "the cluster refuses"),
        (answered(422, reason="Invalid"), "kubernetes-invalid", "the cluster does not accept the job"),
        (answered(429), "kubernetes-busy", "the cluster takes no more requests just now"),
        (answered(500), "kubernetes-unavailable", "the cluster fails just now"),
        (answered(501), "kubernetes-unavailable", "the cluster fails just now"),
        (answered(504, reason="Timeout"), "kubernetes-unavailable", "the cluster fails just now"),
        (answered(400, DENIED), "kubernetes-admission-denied", "an admission rule of the cluster refuses"),
        (answered(403, DENIED), "kubernetes-admission-denied", "an admission rule of the cluster refuses"),
        (answered(422, POLICY), "kubernetes-admission-denied", "an admission rule of the cluster refuses"),
    ],
)
def test_each_refusal_has_its_own_name_and_words(error: KubernetesRefusedError, id: str, words: str) -> None:
    assert error.id == id
    assert error.message.startswith(f"cannot submit the job x: {words}")


@pytest.mark.parametrize("message", ["no", DENIED, OVER_QUOTA, GOING])
def test_the_cluster_s_own_words_are_the_cause(message: str) -> None:
    assert answered(403, message).cause == message


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (answered(401), "log in anew as this cluster asks for it, until `kubectl get jobs` works"),
        (
            answered(403),
            "ask who runs the cluster for a role that may create, get, list and delete jobs, and list pods, there",
        ),
        (answered(403, OVER_QUOTA), "wait until other jobs have ended, or ask for more quota"),
        (
            answered(404, kind="namespaces"),
            "make it with `kubectl create namespace`, or name another with --namespace",
        ),
    ],
)
def test_what_can_be_done_is_the_hint(error: KubernetesRefusedError, hint: str) -> None:
    assert error.hint == hint


@pytest.mark.parametrize(
    ("error", "is_transient", "outcome_unknown"),
    [
        (answered(400), False, False),
        (answered(401), False, False),
        (answered(403), False, False),
        (answered(403, OVER_QUOTA), False, False),
        (answered(404), False, False),
        (answered(409, reason="AlreadyExists"), False, True),
        (answered(409, reason="Conflict"), True, False),
        (answered(422), False, False),
        (answered(429), True, False),
        (answered(500), True, True),
        (answered(501), False, False),
        (answered(503), True, True),
        (answered(504, reason="Timeout"), True, True),
    ],
)
def test_what_may_pass_is_tried_again_and_what_is_in_doubt_looked_up(
    error: KubernetesRefusedError, is_transient: bool, outcome_unknown: bool
) -> None:
    assert (error.is_transient, error.outcome_unknown) == (is_transient, outcome_unknown)


def test_how_long_to_wait_is_read_from_a_header_in_whatever_case() -> None:
    assert answered(429, **{"retry-after": "3"}).retry_after == 3
    assert answered(429).retry_after is None


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"<html>Bad gateway</html>", Status("<html>Bad gateway</html>")),
        (b"", Status("Bad Gateway")),
        (None, Status("Bad Gateway")),
        (b"[]", Status("[]")),
        (b'{"kind": "Job"}', Status('{"kind": "Job"}')),
        (b'{"kind": "Status"}', Status()),
        ('{"kind": "Status", "message": "x", "details": []}', Status("x")),
        (b"\xff", Status("\N{REPLACEMENT CHARACTER}")),
    ],
)
def test_what_is_no_status_is_told_as_it_is(body: object, status: Status) -> None:
    assert Status.of(body, "Bad Gateway") == status


def test_a_long_page_is_cut() -> None:
    assert len(Status.of("x" * 10_000, "").message) == 2000


def test_a_refusal_without_words_is_told_by_its_code() -> None:
    assert refused(502, b'{"kind": "Status"}', "", {}, "do it").cause == "HTTP 502"


POOL: Any = None


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
def test_no_answer_leaves_doubt_where_the_request_may_have_arrived(error: Exception, outcome_unknown: bool) -> None:
    made = unreachable("submit the job x", error)
    assert (made.id, made.message) == (
        "kubernetes-unreachable",
        "cannot submit the job x: the cluster does not answer",
    )
    assert (made.is_transient, made.outcome_unknown) == (True, outcome_unknown)


def test_a_certificate_that_is_not_accepted_will_not_pass_and_nothing_was_sent() -> None:
    made = unreachable("submit the job x", urllib3.exceptions.SSLError("certificate verify failed"))
    assert made.message == "cannot submit the job x: the cluster's certificate is not accepted"
    assert (made.cause, made.is_transient, made.outcome_unknown) == ("certificate verify failed", False, False)


def test_the_login_within_a_proxy_s_address_is_not_shown() -> None:
    made = unreachable("do it", urllib3.exceptions.ProtocolError("via http://totoro:planted@proxy:1"))
    assert made.cause == "via http://proxy:1"


def test_an_error_without_words_is_told_by_its_kind() -> None:
    assert unreachable("do it", urllib3.exceptions.ProtocolError()).cause == "ProtocolError"
