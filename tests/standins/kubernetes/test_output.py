"""Reading what containers wrote, and what is said of Jobs and pods in events."""

from __future__ import annotations

from typing import Any

import pytest
from kubernetes import client  # type: ignore[import-untyped, unused-ignore]

from tests.standins.kubernetes import KubeApi
from tests.standins.kubernetes.callers import Official, Raw, job_body, refusal, told

LINES = b"zero\none\ntwo\n"


@pytest.fixture
def pod(cluster: KubeApi, official: Official) -> str:
    """The name of a pod that runs and has written three lines."""
    official.batch.create_namespaced_job("default", job_body())
    cluster.jobs.start("a-job")
    (made,) = cluster.jobs.pods("a-job")
    cluster.logs.write(made, LINES)
    return str(made["metadata"]["name"])


def log(official: Official, pod: str, **options: Any) -> str:
    return str(official.core.read_namespaced_pod_log(pod, "default", **options))


@pytest.mark.parametrize(
    ("options", "text"),
    [({}, "zero\none\ntwo\n"), ({"tail_lines": 1}, "two\n"), ({"tail_lines": 0}, ""), ({"since_seconds": 1000}, None)],
)
def test_output_is_read_by_the_official_client(
    official: Official, pod: str, options: dict[str, Any], text: str | None
) -> None:
    assert log(official, pod, **options) == (LINES.decode() if text is None else text)


def test_lines_have_their_times_where_that_is_asked_for(official: Official, pod: str) -> None:
    times = [line.partition(" ")[0] for line in log(official, pod, timestamps=True).splitlines()]
    assert times == sorted(times)
    assert all(len(time) == len("2026-11-25T13:00:00.000000000Z") for time in times)


def test_who_follows_gets_what_comes_until_the_container_ends(cluster: KubeApi, official: Official, pod: str) -> None:
    answer = official.core.read_namespaced_pod_log(pod, "default", follow=True, _preload_content=False)
    got = b""
    while got != LINES:
        got += answer.read1()
    cluster.logs.write(cluster.jobs.pods("a-job")[0], b"three\n")
    cluster.jobs.succeed("a-job")
    assert answer.read() == b"three\n"


@pytest.mark.parametrize(
    ("query", "code", "message"),
    [
        ("container=x", 400, "container x is not valid for pod POD"),
        ("previous=true", 400, 'previous terminated container "main" in pod "POD" not found'),
        (
            "tailLines=-1",
            422,
            'PodLogOptions "POD" is invalid: tailLines: Invalid value: -1: must be greater than or equal to 0',
        ),
    ],
)
def test_what_means_nothing_is_refused(raw: Raw, pod: str, query: str, code: int, message: str) -> None:
    answer = raw.send("GET", f"/api/v1/namespaces/default/pods/{pod}/log?{query}")
    assert answer.status_code == code
    assert refusal(answer)["message"].replace(pod, "POD") == message


def test_a_container_that_waits_has_no_output(cluster: KubeApi, official: Official) -> None:
    official.batch.create_namespaced_job("default", job_body())
    cluster.jobs.create_pod("a-job")
    pod = cluster.jobs.pods("a-job")[0]["metadata"]["name"]
    assert log(official, pod) == ""
    cluster.jobs.image_pull_fails("a-job")
    with pytest.raises(client.ApiException) as error:
        log(official, pod)
    words = f'container "main" in pod "{pod}" is waiting to start: trying and failing to pull image'
    assert (told(error.value)["reason"], told(error.value)["message"]) == ("BadRequest", words)


def test_output_of_no_pod_and_without_permission_is_refused(cluster: KubeApi, official: Official, pod: str) -> None:
    with pytest.raises(client.ApiException) as error:
        log(official, "gone")
    assert told(error.value)["message"] == 'pods "gone" not found'
    cluster.forbidden.add("pods/log.get")
    with pytest.raises(client.ApiException) as error:
        log(official, pod)
    words = f'pods "{pod}" is forbidden: User "standin" cannot get resource "pods/log" in API group "" in the namespace'
    assert told(error.value)["message"] == f'{words} "default"'


def test_events_are_selected_by_what_they_are_about(cluster: KubeApi, official: Official, pod: str) -> None:
    cluster.jobs.cannot_create_pods("a-job", "a quota")
    cluster.jobs.pod_event("a-job", "Preempted", "by another one")
    for selector, reasons in (
        ("involvedObject.kind=Job,type=Warning", ["FailedCreate"]),
        (f"involvedObject.name={pod}", ["Preempted"]),
        ("reason=Preempted", ["Preempted"]),
        ("type=Warning,reason=Preempted", []),
    ):
        found = official.core.list_namespaced_event("default", field_selector=selector)
        assert [event.reason for event in found.items] == reasons
    with pytest.raises(client.ApiException) as error:
        official.core.list_namespaced_event("default", field_selector="message=x")
    assert told(error.value)["reason"] == "BadRequest"
