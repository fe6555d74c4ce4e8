"""The output of local jobs: from the container's log, live and afterwards, else from the log file of this machine."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import datetime, timezone

import pytest

from caliban.errors import PlatformError
from caliban.outputs.paths import log_path
from caliban.platforms.base import LogRequest, LogSource
from caliban.platforms.context import PlatformContext
from caliban.platforms.docker.platform import DockerPlatform
from caliban.platforms.registry import Platforms, has_capability
from caliban.records import JobRecord, OutputLine
from caliban.submission.output import Source
from tests.reading import read_output

from .fake_engine import Container, FakeDocker


@pytest.fixture
def container(docker: FakeDocker, running: JobRecord) -> Container:
    found = docker.find(str(running.details.id))
    assert found is not None
    return found


def read(
    platform: DockerPlatform, job: JobRecord, tail: int | None = None, *, follow: bool = False
) -> list[OutputLine]:
    return list(platform.logs(job, LogRequest(tail, follow)))


def data(lines: list[OutputLine]) -> list[bytes]:
    return [line.data for line in lines]


def test_the_platform_says_that_it_has_output() -> None:
    assert has_capability("LOCAL", LogSource)


@pytest.mark.parametrize("has_ended", [False, True])
def test_lines_have_their_stream_and_time(
    platform: DockerPlatform, running: JobRecord, container: Container, has_ended: bool
) -> None:
    container.out, container.err = b"one\ntwo", b"oh\n"
    if has_ended:
        container.end(1)
    lines = read(platform, running)
    assert {(line.data, line.is_stderr) for line in lines} == {(b"one\n", False), (b"two", False), (b"oh\n", True)}
    assert lines[0].time == datetime(2020, 5, 29, 10, 53, 40, 0, timezone.utc)


def test_a_line_that_the_log_driver_broke_is_whole(
    platform: DockerPlatform, running: JobRecord, container: Container
) -> None:
    container.out = b"x" * 50_000 + b"\nend\n"
    assert data(read(platform, running)) == [b"x" * 50_000 + b"\n", b"end\n"]


def test_a_line_without_an_end_takes_bounded_memory(
    platform: DockerPlatform, running: JobRecord, container: Container
) -> None:
    container.err = b"\r50%" * 1_000_000
    lines = data(read(platform, running))
    assert (b"".join(lines) == container.err, max(map(len, lines)) < 1_100_000) == (True, True)


@pytest.mark.parametrize(("tail", "expected"), [(0, []), (1, [b"3"]), (2, [b"2\n", b"3"]), (9, [b"1\n", b"2\n", b"3"])])
def test_only_the_last_lines_are_read(
    platform: DockerPlatform, running: JobRecord, container: Container, tail: int, expected: list[bytes]
) -> None:
    container.out = b"1\n2\n3"
    container.end(0)
    assert data(read(platform, running, tail)) == expected


@pytest.mark.parametrize("lost", [0, 4])
def test_a_job_is_followed_to_its_last_byte(
    platform: DockerPlatform, docker: FakeDocker, running: JobRecord, container: Container, lost: int
) -> None:
    """Docker 20.10 may end a log that is followed before its last line."""
    docker.lost_output = lost

    def end() -> None:
        container.out = b"first\nsecond\nlast"
        container.end(0)

    timer = threading.Timer(0.05, end)
    timer.start()
    assert b"".join(data(read(platform, running, follow=True))) == b"first\nsecond\nlast"


def test_an_iterator_that_follows_can_be_closed(
    platform: DockerPlatform, docker: FakeDocker, running: JobRecord
) -> None:
    lines = platform.logs(running, LogRequest(follow=True))
    done = threading.Event()

    def consume() -> None:
        for _ in lines:
            pass
        done.set()

    threading.Thread(target=consume, daemon=True).start()
    platform.context.stopping.set()
    assert done.wait(10), "a user who wants to stop waits"


def test_several_jobs_are_read_at_a_time(platform: DockerPlatform, running: JobRecord, container: Container) -> None:
    container.out = b"x\n" * 100
    container.end(0)
    results: list[int] = []
    threads = [threading.Thread(target=lambda: results.append(len(read(platform, running)))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [100] * 8


def write_log(context: PlatformContext, job: JobRecord, content: bytes) -> None:
    path = log_path(context.home, job)
    assert path is not None
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@pytest.mark.parametrize("failure", ["removed", "unreachable", "other engine", "unreadable driver"])
def test_without_the_container_the_log_file_is_read(
    platform: DockerPlatform, docker: FakeDocker, running: JobRecord, failure: str
) -> None:
    write_log(platform.context, running, b"1\n2\n3")
    job = running
    if failure == "removed":
        docker.containers.clear()
    elif failure == "unreachable":
        docker.failure = "the engine is ill"
    elif failure == "other engine":
        docker.containers.clear()
        job = replace(running, details=platform.parse_details(running.status, {**running.details.raw, "engine": "x"}))
    else:
        docker.logs_error = "configured logging driver does not support reading"
    lines, source = read_output(Platforms(platform.context), job, LogRequest(2))
    assert (data(lines), source) == ([b"2\n", b"3"], Source.FILE)


def error(platform: DockerPlatform, job: JobRecord) -> PlatformError:
    path = log_path(platform.context.home, job)
    if path is not None:
        path.unlink(missing_ok=True)
    with pytest.raises(PlatformError) as caught:
        read(platform, job)
    return caught.value


def test_output_of_a_removed_container_without_a_file_is_gone(
    platform: DockerPlatform, docker: FakeDocker, running: JobRecord
) -> None:
    docker.containers.clear()
    found = error(platform, running)
    assert (found.id, found.cause) == ("output-gone", "its container was removed")
    assert "~/.caliban/logs" in str(found.hint)


def test_output_of_caliban_0_4_2_is_gone(platform: DockerPlatform, running: JobRecord) -> None:
    found = error(platform, replace(running, details=platform.parse_details(running.status, {"ret_code": 1})))
    assert (found.id, found.cause) == ("output-gone", "no container name recorded; caliban 0.4.2 records none")


def test_output_on_another_engine_is_out_of_reach(
    platform: DockerPlatform, docker: FakeDocker, running: JobRecord
) -> None:
    docker.containers.clear()
    details = platform.parse_details(running.status, {**running.details.raw, "engine": "x", "engine_name": "kiki"})
    found = error(platform, replace(running, details=details))
    assert (found.id, found.cause) == ("job-out-of-reach", "the job is on another Docker Engine (kiki)")


def test_a_log_driver_that_cannot_be_read_is_named(
    platform: DockerPlatform, docker: FakeDocker, running: JobRecord
) -> None:
    docker.logs_error = "configured logging driver does not support reading"
    found = error(platform, running)
    assert (found.id, "does not support reading" in str(found.cause)) == ("output-refused", True)


def test_a_planted_link_is_not_read(platform: DockerPlatform, docker: FakeDocker, running: JobRecord) -> None:
    docker.containers.clear()
    path = log_path(platform.context.home, running)
    assert path is not None
    path.unlink()
    path.symlink_to("/etc/passwd")
    with pytest.raises(PlatformError, match="not available any more"):
        read(platform, running)
