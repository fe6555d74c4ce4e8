"""The output of jobs: attempts, restarts, streams that break, what is deleted or not permitted, and no line twice."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from caliban.errors import CalibanError
from caliban.platforms.base import LogRequest
from caliban.platforms.kubernetes.kubeconfig_platform import KubeconfigPlatform
from caliban.platforms.kubernetes.log_lines import OutputDeletedError, Position, split
from caliban.records import JobRecord, OutputLine
from tests.platforms.kubernetes.helpers import QUICK, platform_context
from tests.platforms.kubernetes.test_statuses import fail, jobs_at, queries
from tests.standins.faults import Fault
from tests.standins.kubernetes import KubeApi
from tests.standins.kubernetes.state import Object
from tests.standins.kubernetes.status import PODS
from tests.standins.serving import Answer, Call

LOG = "pods/log.get"
ALL, FOLLOW = LogRequest(), LogRequest(follow=True)
SIDECAR = {"name": "istio-proxy", "image": "proxy"}


@pytest.fixture
def job(platform: KubeconfigPlatform) -> JobRecord:
    (submitted,) = jobs_at(platform, 1)
    return submitted


def read(platform: KubeconfigPlatform, job: JobRecord, request: LogRequest = ALL) -> list[tuple[str | None, bytes]]:
    return [(line.source, line.data) for line in platform.logs(job, request)]


def data(platform: KubeconfigPlatform, job: JobRecord, request: LogRequest = ALL) -> list[bytes]:
    return [line.data for line in platform.logs(job, request)]


def write(cluster: KubeApi, text: bytes, **more: Any) -> Object:
    """Let the running or waiting pod of the job write; return it."""
    if not cluster.jobs.pods("job-1") or cluster.jobs.pods("job-1")[-1]["status"]["phase"] != "Running":
        cluster.jobs.start("job-1")
    pod = cluster.jobs.pods("job-1")[-1]
    cluster.logs.write(pod, text, **more)
    return pod


def attempts(cluster: KubeApi, *outputs: bytes) -> list[str]:
    """Let an attempt write each output, and all but the last one fail; return the names of the pods."""
    names = []
    for number, output in enumerate(outputs):
        pod = write(cluster, output)
        names.append(pod["metadata"]["name"])
        with cluster.state.change(PODS, "default", names[-1]) as kept:
            kept["metadata"]["creationTimestamp"] = f"2026-11-25T13:00:{number:02}Z"
        if number + 1 < len(outputs):
            cluster.jobs.fail("job-1")
    return names


def error_of(platform: KubeconfigPlatform, job: JobRecord, request: LogRequest = ALL) -> CalibanError:
    with pytest.raises(CalibanError) as caught:
        read(platform, job, request)
    return caught.value


def test_a_line_has_the_time_at_which_it_was_written_and_no_source(
    cluster: KubeApi, platform: KubeconfigPlatform, job: JobRecord
) -> None:
    time = datetime(2026, 11, 25, 13, 0, 1, 250000, timezone.utc)
    write(cluster, b"hello\n", at=time)
    assert list(platform.logs(job, ALL)) == [OutputLine(b"hello\n", time=time)]


@pytest.mark.parametrize("text", [b"10%\r20%\r30%\n", b"\xff\xfe\x00\n", b"\n\n", b"a\x0bb\x0cc\n", b"no line break"])
def test_bytes_are_those_that_the_job_wrote(
    cluster: KubeApi, platform: KubeconfigPlatform, job: JobRecord, text: bytes
) -> None:
    write(cluster, text)
    assert b"".join(data(platform, job)) == text


def test_the_output_of_a_job_with_sidecars_is_that_of_its_own_container(
    cluster: KubeApi, platform: KubeconfigPlatform, job: JobRecord
) -> None:
    pod = write(cluster, b"mine\n")
    with cluster.state.change(PODS, "default", pod["metadata"]["name"]) as kept:
        kept["spec"]["containers"].insert(0, SIDECAR)
    assert data(platform, job) == [b"mine\n"]
    (query,) = queries(cluster, LOG)
    assert query == {"container": "job-stop-test", "timestamps": "true"}


def test_the_pods_of_all_attempts_are_read_oldest_first(
    cluster: KubeApi, platform: KubeconfigPlatform, job: JobRecord
) -> None:
    first, second = attempts(cluster, b"one\n", b"two\n")
    assert read(platform, job) == [(first, b"one\n"), (second, b"two\n")]


@pytest.mark.parametrize(
    ("tail", "expected", "requests"),
    [(0, [], 1), (1, [b"d\n"], 1), (2, [b"c\n", b"d\n"], 1), (3, [b"b\n", b"c\n", b"d\n"], 2)],
)
def test_a_tail_counts_for_all_attempts_together(
    cluster: KubeApi,
    platform: KubeconfigPlatform,
    job: JobRecord,
    tail: int,
    expected: list[bytes],
    requests: int,
) -> None:
    attempts(cluster, b"a\nb\n", b"c\nd\n")
    assert data(platform, job, LogRequest(tail=tail)) == expected
    assert len(queries(cluster, LOG)) == requests


def test_the_output_before_a_restart_of_the_container_is_read_too(
    cluster: KubeApi, platform: KubeconfigPlatform, job: JobRecord
) -> None:
    pod = write(cluster, b"one\n")
    name = pod["metadata"]["name"]
    with cluster.state.change(PODS, "default", name) as kept:
        (status,) = kept["status"]["containerStatuses"]
        ended = {"terminated": {"exitCode": 1, "reason": "Error"}}
        status.update(restartCount=1, lastState=ended)
        pod = kept
    cluster.logs.write(pod, b"two\n")
    assert data(platform, job) == [b"one\n", b"two\n"]
    assert [query.get("previous") for query in queries(cluster, LOG)] == ["true", None]


@pytest.mark.parametrize("step", ["create_pod", "image_pull_fails"])
def test_a_job_that_has_not_started_has_no_output_yet(
    cluster: KubeApi, platform: KubeconfigPlatform, job: JobRecord, step: str
) -> None:
    assert data(platform, job) == []
    cluster.jobs.step(step, "job-1")
    assert data(platform, job) == []
    assert data(platform, job, LogRequest(tail=3)) == []


def test_a_container_that_is_listed_as_running_too_early_has_no_output_yet(
    cluster: KubeApi, platform: KubeconfigPlatform, job: JobRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(cluster, b"")
    running = cluster.state.items(PODS)
    cluster.jobs.image_pull_fails("job-1")
    real = cluster.answer

    def answer(call: Call, fault: Fault | None) -> Answer:
        found = real(call, fault)
        if call.path.endswith("/pods"):
            found.body["items"] = running
        return found

    monkeypatch.setattr(cluster, "answer", answer)
    assert data(platform, job) == []


def test_the_pods_of_an_earlier_job_of_the_same_name_are_not_read(
    cluster: KubeApi, platform: KubeconfigPlatform, job: JobRecord
) -> None:
    write(cluster, b"of the earlier one\n")
    cluster.jobs.remove("job-1")
    (later,) = jobs_at(platform, 1)
    write(cluster, b"of the later one\n")
    assert data(platform, later) == [b"of the later one\n"]
    assert error_of(platform, job).id == "output-gone"


@pytest.mark.parametrize("request_", [ALL, FOLLOW, LogRequest(tail=3)])
def test_the_output_of_a_job_whose_pods_are_deleted_is_gone(
    cluster: KubeApi, platform: KubeconfigPlatform, job: JobRecord, request_: LogRequest
) -> None:
    fail(cluster, "job-1")
    cluster.jobs.remove_pods("job-1")
    error = error_of(platform, job, request_)
    assert (error.id, error.cause) == ("output-gone", "the pods of the job are deleted")
    cluster.jobs.remove("job-1")
    assert error_of(platform, job, request_).id == "output-gone"


@pytest.mark.parametrize("request_", [ALL, LogRequest(tail=3)])
def test_output_that_its_node_has_deleted_is_gone(
    cluster: KubeApi, platform: KubeconfigPlatform, job: JobRecord, request_: LogRequest
) -> None:
    pod = write(cluster, b"one\n")
    cluster.logs.deleted.add(pod["metadata"]["uid"])
    assert error_of(platform, job, request_).id == "output-gone"


def test_what_other_attempts_have_left_is_read_if_one_has_lost_its_output(
    cluster: KubeApi, platform: KubeconfigPlatform, job: JobRecord
) -> None:
    attempts(cluster, b"one\n", b"two\n")
    cluster.logs.deleted.add(cluster.jobs.pods("job-1")[0]["metadata"]["uid"])
    assert data(platform, job) == [b"two\n"]


def test_a_pod_that_is_listed_after_the_end_of_its_job_is_read(
    cluster: KubeApi, platform: KubeconfigPlatform, job: JobRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(cluster, b"one\n")
    fail(cluster, "job-1")
    real, lists = cluster.answer, []

    def answer(call: Call, fault: Fault | None) -> Answer:
        found = real(call, fault)
        if call.path.endswith("/pods"):
            lists.append(call)
            if len(lists) < 3:
                found.body["items"] = []
        return found

    monkeypatch.setattr(cluster, "answer", answer)
    assert b"one\n" in data(platform, job)


@pytest.mark.parametrize(("method", "permission"), [(LOG, "get pods/log"), ("pods.list", "list pods")])
def test_a_missing_permission_is_named_with_what_to_do(
    cluster: KubeApi, platform: KubeconfigPlatform, job: JobRecord, method: str, permission: str
) -> None:
    write(cluster, b"one\n")
    cluster.forbidden.add(method)
    for request in (ALL, FOLLOW, LogRequest(tail=1)):
        error = error_of(platform, job, request)
        assert error.id == "output-refused"
        assert f'"{permission}" in the namespace default: kubectl create role ' in str(error.hint)
        assert "is forbidden: User " in str(error.cause)


@pytest.mark.parametrize("status", [500, 504])
def test_a_node_that_does_not_answer_is_reported_with_its_words(
    cluster: KubeApi, platform: KubeconfigPlatform, job: JobRecord, status: int
) -> None:
    write(cluster, b"one\n")
    words = 'Get "https://10.0.0.1:10250/containerLogs/default/x": dial tcp 10.0.0.1:10250: i/o timeout'
    cluster.faults.add(Fault(LOG, "status", 1000, status=status, message=words))
    assert words in str(error_of(platform, job).cause)


def test_an_answer_that_fails_once_is_requested_again(
    cluster: KubeApi, platform: KubeconfigPlatform, job: JobRecord
) -> None:
    write(cluster, b"one\n")
    cluster.faults.add(Fault(LOG, "status", status=503))
    assert data(platform, job) == [b"one\n"]


@pytest.mark.parametrize("request_", [ALL, LogRequest(tail=3), FOLLOW])
def test_the_page_of_a_gateway_is_not_output(
    cluster: KubeApi, platform: KubeconfigPlatform, job: JobRecord, request_: LogRequest
) -> None:
    write(cluster, b"one\n")
    cluster.jobs.succeed("job-1")
    cluster.faults.add(Fault(LOG, "garbage", 1))
    assert data(platform, job, request_) == [b"one\n"]
    cluster.faults.add(Fault(LOG, "garbage", 1000))
    assert "is not one of a Kubernetes API server" in error_of(platform, job, request_).message


class Follower:
    """Follows a job on a thread."""

    def __init__(self, output: Iterator[OutputLine]) -> None:
        self.lines: list[bytes] = []
        self.arrived = threading.Semaphore(0)
        self.error: BaseException | None = None
        self._output = output
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            for line in self._output:
                self.lines.append(line.data)
                self.arrived.release()
        except BaseException as error:  # noqa: BLE001 - looked at by the test
            self.error = error

    def wait_for(self, count: int) -> None:
        for _ in range(count):
            assert self.arrived.acquire(timeout=60), self.error

    def wait(self) -> list[bytes]:
        self._thread.join(60)
        assert not self._thread.is_alive()
        assert self.error is None
        return self.lines


@pytest.fixture
def follow(platform: KubeconfigPlatform, job: JobRecord) -> Callable[..., Follower]:
    return lambda **more: Follower(platform.logs(job, LogRequest(follow=True, **more)))


@pytest.mark.parametrize("tail", [None, 1, 2])
def test_a_stream_that_ends_early_is_continued_without_a_line_twice(
    cluster: KubeApi, follow: Callable[..., Follower], tail: int | None
) -> None:
    write(cluster, b"a\nb\n")
    follower = follow(tail=tail)
    follower.wait_for(tail or 2)
    for number in range(6):
        cluster.logs.break_after = number % 2
        write(cluster, b"same\nsame\n%d\n" % number)
        follower.wait_for(3)
    cluster.jobs.succeed("job-1")
    expected = [line for number in range(6) for line in (b"same\n", b"same\n", b"%d\n" % number)]
    assert follower.wait() == [b"a\n", b"b\n"][2 - (tail or 2) :] + expected


def test_a_line_that_is_not_complete_when_a_stream_ends_comes_once(
    cluster: KubeApi, follow: Callable[..., Follower]
) -> None:
    write(cluster, b"a\nhalf")
    follower = follow()
    follower.wait_for(1)
    write(cluster, b" whole\nrest")
    cluster.jobs.succeed("job-1")
    assert follower.wait() == [b"a\n", b"half whole\n", b"rest"]


def test_following_waits_for_the_pod_and_goes_on_with_the_next_attempt(
    cluster: KubeApi, follow: Callable[..., Follower]
) -> None:
    follower = follow()
    cluster.jobs.unschedulable("job-1", "0/3 nodes are available")
    write(cluster, b"one\n")
    follower.wait_for(1)
    cluster.jobs.fail("job-1")
    write(cluster, b"two\n")
    follower.wait_for(1)
    cluster.jobs.succeed("job-1")
    assert follower.wait() == [b"one\n", b"two\n"]


def test_following_ends_when_the_job_is_deleted(cluster: KubeApi, follow: Callable[..., Follower]) -> None:
    write(cluster, b"one\n")
    follower = follow()
    follower.wait_for(1)
    cluster.jobs.remove("job-1")
    assert follower.wait() == [b"one\n"]


def test_following_ends_with_the_program_even_if_a_sidecar_runs_on(
    cluster: KubeApi, follow: Callable[..., Follower]
) -> None:
    pod = write(cluster, b"one\n")
    follower = follow()
    follower.wait_for(1)
    with cluster.state.change(PODS, "default", pod["metadata"]["name"]) as kept:
        (status,) = kept["status"]["containerStatuses"]
        status["state"] = {"terminated": {"exitCode": 0, "reason": "Completed"}}
    assert follower.wait() == [b"one\n"]


def test_a_job_that_waits_is_looked_at_less_and_less_often(cluster: KubeApi, kubeconfig: Path, job: JobRecord) -> None:
    context = platform_context(kubeconfig=kubeconfig)
    waits: list[float] = []

    class Clock(type(context.clock)):  # type: ignore[misc]
        def wait(self, event: threading.Event, seconds: float) -> bool:
            waits.append(seconds)
            if len(waits) == 20:
                event.set()
            return bool(super().wait(event, seconds))

    platform = KubeconfigPlatform(replace(context, clock=Clock()), QUICK)
    assert data(platform, job, FOLLOW) == []
    assert (waits[0], waits[-1], sorted(waits) == waits) == (1.0, 10.0, True)


def stamped(second: int, text: str, fraction: str = "") -> bytes:
    return f"2026-11-25T13:00:{second:02}{fraction}Z {text}\n".encode()


def new(position: Position, *lines: bytes) -> list[bytes]:
    return [line.data for line in position.new_lines(lines)]


def test_lines_of_one_second_that_are_out_of_order_come_once() -> None:
    position = Position()
    lines = [stamped(1, "a", ".9"), stamped(1, "b", ".1"), stamped(1, "a", ".9")]
    assert new(position, *lines) == [b"a\n", b"b\n", b"a\n"]
    assert position.options() == {"sinceTime": "2026-11-25T13:00:01Z"}
    assert new(position, *lines, stamped(2, "c")) == [b"c\n"]


def test_lines_before_the_tail_are_not_read_when_it_is_continued() -> None:
    position = Position()
    assert new(position, stamped(1, "b", ".5")) == [b"b\n"]
    assert new(position, stamped(1, "a", ".45"), stamped(1, "b", ".5"), stamped(1, "c", ".55")) == [b"c\n"]


def test_only_lines_of_the_last_second_are_remembered() -> None:
    position = Position()
    new(position, *(stamped(second, "x") for second in range(60)))
    assert len(position._seen) == 1


def test_a_line_without_a_time_is_passed_on() -> None:
    assert new(Position(), b"x\n", b"") == [b"x\n", b""]


def test_a_very_long_line_comes_in_parts() -> None:
    whole = b"x" * (3 << 20) + b"\n"
    parts = list(split([whole[:-1], b"\n"], keeps_rest=True))
    assert b"".join(parts) == whole
    assert max(map(len, parts)) <= (1 << 20) + 1


def test_output_that_looks_like_the_words_of_a_kubelet_is_output() -> None:
    line = b"2026-11-25T13:00:00Z unable to retrieve container logs for containerd://x"
    assert list(split([line], keeps_rest=True)) == [line]
    with pytest.raises(OutputDeletedError):
        list(split([line[21:]], keeps_rest=True))


def test_a_time_before_the_newest_line_does_not_go_back() -> None:
    position, start = Position(), datetime(2026, 11, 25, 13, tzinfo=timezone.utc)
    new(position, stamped(5, "late"), stamped(4, "early"))
    assert position.second == f"{start + timedelta(seconds=5):%Y-%m-%dT%H:%M:%S}Z"
