"""Clusters that answer oddly, or not at all: every answer is read or reported, and places are asked side by side."""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from caliban.errors import CalibanError
from caliban.platforms.kubernetes import client, events, kueue
from caliban.platforms.kubernetes.details import KubeconfigDestination, job_details, objects_in, parse_details
from caliban.platforms.kubernetes.job_status import needs_pods, state_of
from caliban.platforms.kubernetes.kubeconfig_platform import KubeconfigPlatform
from caliban.platforms.kubernetes.namespace_rules import NamespaceRules, Resources, counting
from caliban.platforms.kubernetes.transport import Request, Response
from caliban.platforms.retry import RetryPolicy
from caliban.records import JobStatus, JobUpdate, StatusUnavailable
from caliban.threads import side_by_side
from tests.fake_service import may_send
from tests.platforms.kubernetes.helpers import (
    DESTINATION,
    NAME,
    OUR_LABELS,
    PEER_SPEC,
    QUICK,
    job_record,
    platform_context,
    submission,
)
from tests.platforms.kubernetes.raw_server import RawServer
from tests.sampling import examples

ODD = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(max_size=5),
        st.sampled_from(["True", "Failed", "Complete", "BackoffLimitExceeded", "\x1b[2J", "9999-99-99T99:99:99Z"]),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)

JOB: dict[str, Any] = {
    "apiVersion": "batch/v1",
    "kind": "Job",
    "metadata": {
        "name": NAME,
        "namespace": "default",
        "uid": "u-1",
        "resourceVersion": "5",
        "creationTimestamp": "2026-11-25T13:00:00Z",
        "labels": OUR_LABELS,
    },
    "spec": {"suspend": False, **PEER_SPEC},
    "status": {
        "active": 1,
        "ready": 0,
        "startTime": "2026-11-25T13:00:00Z",
        "conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "x"}],
    },
}
POD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "p", "uid": "u-2", "labels": {"job-name": NAME}, "creationTimestamp": "2026-11-25T13:00:00Z"},
    "status": {
        "phase": "Failed",
        "conditions": [{"type": "PodScheduled", "status": "False", "message": "x"}],
        "containerStatuses": [{"name": "job-stop-test", "state": {"terminated": {"exitCode": 3, "reason": "Error"}}}],
        "initContainerStatuses": [{"name": "x", "state": {"waiting": {"reason": "ErrImagePull"}}}],
    },
}


EVENT: dict[str, Any] = {
    "metadata": {"name": "e", "creationTimestamp": "2026-11-25T13:00:00Z"},
    "involvedObject": {"kind": "Pod", "name": f"{NAME}-x", "uid": "u-2"},
    "reason": "FailedMount",
    "message": "x",
    "lastTimestamp": "2026-11-25T13:00:00Z",
}
WORKLOAD: dict[str, Any] = {
    "metadata": {"labels": {"kueue.x-k8s.io/job-uid": "u-1"}, "creationTimestamp": "2026-11-25T13:00:00Z"},
    "spec": {"queueName": "team", "active": True},
    "status": {
        "conditions": [{"type": "QuotaReserved", "status": "True", "message": "x"}],
        "admissionChecks": [{"name": "nodes", "state": "Pending", "message": "x"}],
    },
}
RULES: dict[str, Any] = {
    "quotas": [
        {
            "metadata": {"name": "q"},
            "spec": {
                "hard": {"limits.cpu": "2", "requests.memory": "2Gi", "requests.nvidia.com/gpu": "1"},
                "scopes": ["NotTerminating"],
                "scopeSelector": {
                    "matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}]
                },
            },
        }
    ],
    "ranges": [
        {
            "metadata": {"name": "r"},
            "spec": {
                "limits": [
                    {"type": "Container", "default": {"cpu": "1"}, "max": {"cpu": "2"}, "min": {"memory": "1Gi"}},
                    {"type": "Pod", "maxLimitRequestRatio": {"cpu": "2"}},
                ]
            },
        }
    ],
    "pod": {
        "priorityClassName": "high",
        "containers": [{"name": "x", "resources": {"requests": {"cpu": "1"}, "limits": {"nvidia.com/gpu": "1"}}}],
    },
}


def places(value: object, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of each value in a JSON object, but for the object itself."""
    items: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


@st.composite
def changed(draw: st.DrawFn, original: dict[str, Any]) -> dict[str, Any]:
    """Return an object with odd values in a few places."""
    made = copy.deepcopy(original)
    for _ in range(draw(st.integers(1, 3))):
        *path, last = draw(st.sampled_from(list(places(made)) or [("kind",)]))
        parent: Any = made
        for key in path:
            parent = parent[key]
        if draw(st.booleans()) and isinstance(parent, dict):
            del parent[last]
        else:
            parent[last] = draw(ODD)
        if not made:
            break
    return made


def outcome(call: Callable[[], object]) -> object:
    """Return what a call returns, or the error that it raises; another exception fails the test."""
    try:
        return call()
    except CalibanError as error:
        return error


@settings(max_examples=examples(150), deadline=None, suppress_health_check=list(HealthCheck))
@given(job=changed(JOB), pod=changed(POD))
def test_any_job_and_pod_has_a_state(job: dict[str, Any], pod: dict[str, Any]) -> None:
    assert isinstance(needs_pods(job), bool)
    state = state_of(job, [pod], "job-stop-test")
    raw = json.loads(json.dumps(job_details(DESTINATION, job)))
    assert parse_details(KubeconfigDestination, state.status, raw).raw == raw


@settings(max_examples=examples(150), deadline=None, suppress_health_check=list(HealthCheck))
@given(job=changed(JOB), pod=changed(POD), event=changed(EVENT), workload=changed(WORKLOAD))
def test_any_event_and_workload_is_read(
    job: dict[str, Any], pod: dict[str, Any], event: dict[str, Any], workload: dict[str, Any]
) -> None:
    for said in (
        *events.explanations([event], [job]).values(),
        *([each] for each in events.of_waiting_pods([event], {NAME: [pod]}).values()),
        *kueue.explanations([job], [workload]).values(),
    ):
        assert state_of(job, [pod], "job-stop-test", said)


@settings(max_examples=examples(150), deadline=None, suppress_health_check=list(HealthCheck))
@given(rules=changed(RULES))
def test_any_rules_of_a_namespace_are_kept_or_reported(rules: dict[str, Any]) -> None:
    quotas, ranges, pod = (rules.get(name) for name in ("quotas", "ranges", "pod"))
    kept = NamespaceRules(
        counting(objects_in({"items": quotas}, "items"), pod if isinstance(pod, dict) else {}),
        objects_in({"items": ranges}, "items"),
    )
    for container in objects_in(pod if isinstance(pod, dict) else {}, "containers"):
        found = outcome(lambda container=container: kept.fitted(Resources.of(container)))  # type: ignore[misc]
        assert isinstance(found, Resources | CalibanError)


@settings(max_examples=examples(60), deadline=None, suppress_health_check=list(HealthCheck))
@given(job=changed(JOB), pod=changed(POD), namespace=changed({"kind": "Namespace", "metadata": {"uid": "u-3"}}))
def test_any_answer_is_read_or_reported(
    tmp_path_factory: pytest.TempPathFactory, job: dict[str, Any], pod: dict[str, Any], namespace: dict[str, Any]
) -> None:
    def answer(pool: object, request: Request, *more: object) -> Response:
        if "/pods" in request.url:
            found: dict[str, Any] = {"kind": "PodList", "apiVersion": "v1", "items": [pod]}
        elif request.url.endswith("/namespaces/kube-system"):
            found = namespace
        elif request.method == "GET" and "/jobs?" in request.url:
            found = {"kind": "JobList", "apiVersion": "batch/v1", "metadata": {}, "items": [job]}
        else:
            found = job if request.method != "DELETE" else {"kind": "Status", "apiVersion": "v1"}
        return Response(200, "OK", {}, json.dumps(found).encode())

    directory = tmp_path_factory.mktemp("fuzz")
    platform = KubeconfigPlatform(platform_context(kubeconfig=kubeconfig_of(directory, {"lab": 1})), QUICK)
    record = job_record({"context": "lab", "job": JOB})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client, "exchange", answer)
        assert isinstance(platform.statuses([record])[7], JobUpdate | StatusUnavailable)
        for call in (
            lambda: platform.connect(DESTINATION),
            lambda: platform._identified(DESTINATION),
            lambda: platform.submit(PEER_SPEC, submission(), may_send),
            lambda: platform.find(submission()),
            lambda: platform.stop(record),
            lambda: platform.listing(DESTINATION),
        ):
            outcome(call)


def kubeconfig_of(directory: Path, ports: dict[str, int]) -> Path:
    """Write a kubeconfig with a context for each port of this machine, without TLS."""
    content = {
        "contexts": [{"name": name, "context": {"cluster": name, "user": "u"}} for name in ports],
        "clusters": [{"name": name, "cluster": {"server": f"http://127.0.0.1:{port}"}} for name, port in ports.items()],
        "users": [{"name": "u", "user": {"token": "x"}}],
    }
    path = directory / "config"
    path.write_text(yaml.safe_dump(content))
    return path


def recorded_at(context: str, id: int) -> Any:
    return job_record({"context": context, "job": {"metadata": {"name": "x", "namespace": "default"}}}, id=id)


def test_silent_clusters_are_asked_side_by_side(tmp_path: Path) -> None:
    """All of them are connected to before the first is given up."""
    all_asked = threading.Barrier(3)

    def wait_for_the_others(server: RawServer, connection: Any) -> None:
        server.read(connection)
        all_asked.wait(60)

    with ExitStack() as stack:
        servers = {name: stack.enter_context(RawServer(wait_for_the_others)) for name in "abc"}
        path = kubeconfig_of(tmp_path, {name: server.port for name, server in servers.items()})
        policy = RetryPolicy(connect_timeout=30, read_timeout=60, deadline=0)
        platform = KubeconfigPlatform(platform_context(kubeconfig=path), policy)
        answers = platform.statuses([recorded_at(name, number) for number, name in enumerate("abc")])
    assert [type(answers[number]) for number in range(3)] == [StatusUnavailable] * 3
    assert not all_asked.broken


def test_a_cluster_that_never_finishes_is_left_at_the_deadline(tmp_path: Path) -> None:
    def drip(server: RawServer, connection: Any) -> None:
        server.read(connection)
        server.drip(connection, b"HTTP/1.1 100 Continue\r\n\r\n")

    with RawServer(drip) as server:
        policy = RetryPolicy(connect_timeout=0.1, read_timeout=0.2, deadline=0)
        context = platform_context(kubeconfig=kubeconfig_of(tmp_path, {"lab": server.port}))
        answer = KubeconfigPlatform(context, policy).statuses([recorded_at("lab", 1)])[1]
    assert isinstance(answer, StatusUnavailable)
    assert "no response from the cluster" in answer.reason


def test_results_and_errors_of_calls_are_returned_by_their_keys() -> None:
    error = CalibanError("x", "y")

    def fail() -> str:
        raise error

    assert side_by_side({1: lambda: "a", 2: fail}) == {1: "a", 2: error}
    assert side_by_side({}) == {}


def test_an_unforeseen_exception_of_a_call_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        side_by_side({1: lambda: 1 // 0})


def test_many_calls_run_on_a_few_threads() -> None:
    threads: set[int] = set()
    side_by_side({number: lambda: threads.add(threading.get_ident()) for number in range(200)})
    assert len(threads) <= 16


def test_a_job_that_is_gone_while_its_list_was_read_is_unknown(tmp_path: Path, platform: KubeconfigPlatform) -> None:
    (answer,) = platform.statuses([recorded_at("lab", 1)]).values()
    assert isinstance(answer, JobUpdate)
    assert answer.status is JobStatus.UNKNOWN
