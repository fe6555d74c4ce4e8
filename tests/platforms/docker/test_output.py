"""The output of a job: who reads it decides nothing, and nothing of it is lost."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from caliban.platforms.context import PlatformContext
from caliban.platforms.docker.client import Containers
from caliban.platforms.docker.output import JobOutput, after, streamed_output
from caliban.platforms.docker.platform import DockerPlatform
from caliban.records import JobRecord, JobStatus
from tests.fakes import FakeClock

from .fake_docker import Container, FakeDocker
from .helpers import OutputReporter

LOTS = b"a line of output\n" * 100_000


class DeadStreams(OutputReporter):
    """A reporter whose streams are closed pipes, full disks or closed files."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error
        self.writes = 0

    def job_output(self, data: bytes, *, is_stderr: bool) -> None:
        self.writes += 1
        raise self.error


def end_with_output(container: Container) -> None:
    container.out, container.err = LOTS, LOTS
    container.end(0)


@pytest.mark.parametrize(
    "error",
    [BrokenPipeError(32, "Broken pipe"), OSError(28, "No space left on device"), ValueError("write to closed file")],
)
def test_a_job_whose_output_nobody_reads_ends_and_is_recorded(
    platform: DockerPlatform, docker: FakeDocker, running: JobRecord, error: Exception
) -> None:
    dead = DeadStreams(error)
    docker.on_wait = end_with_output
    update = DockerPlatform(replace(platform.context, reporter=dead)).follow(running)
    assert (update.status, dead.writes) == (JobStatus.SUCCEEDED, 2)


def test_one_dead_stream_leaves_the_other_alone(
    platform: DockerPlatform, docker: FakeDocker, running: JobRecord, reporter: OutputReporter
) -> None:
    class DeadStdout(OutputReporter):
        def job_output(self, data: bytes, *, is_stderr: bool) -> None:
            if not is_stderr:
                raise BrokenPipeError
            super().job_output(data, is_stderr=is_stderr)

    alive = DeadStdout()
    docker.on_wait = end_with_output
    DockerPlatform(replace(platform.context, reporter=alive)).follow(running)
    assert alive.err == LOTS


@pytest.mark.parametrize("last", [b"no newline", b"\x00", b"\xff\xfe", b"a\r", b""])
def test_the_last_bytes_are_passed_on_without_a_newline(
    platform: DockerPlatform, docker: FakeDocker, running: JobRecord, reporter: OutputReporter, last: bytes
) -> None:
    def end(container: Container) -> None:
        container.out = b"first line\n" + last
        container.end(0)

    docker.on_wait = end
    platform.follow(running)
    assert reporter.out == b"first line\n" + last


@pytest.mark.parametrize("before", [b"", b"a line\n", b"x" * 100 + b"\n" + LOTS * 3], ids=["nothing", "line", "much"])
@pytest.mark.parametrize("lost", [9, 14, 0])
def test_what_an_engine_does_not_deliver_to_those_who_follow_is_read_again(
    platform: DockerPlatform, docker: FakeDocker, running: JobRecord, reporter: OutputReporter, before: bytes, lost: int
) -> None:
    """Docker 20.10 ends ``docker logs --follow`` before a last line without a line break, more often than not."""

    def end(container: Container) -> None:
        container.out, container.err = before + b"more\nlast line", before + b"step\nerror end"
        container.end(0)

    docker.lost_output, docker.on_wait = lost, end
    assert platform.follow(running).status is JobStatus.SUCCEEDED
    assert (reporter.out == before + b"more\nlast line", reporter.err == before + b"step\nerror end") == (True, True)


def test_the_output_of_a_container_that_is_removed_meanwhile_is_not_what_docker_says_about_that(
    platform: DockerPlatform, docker: FakeDocker, running: JobRecord, reporter: OutputReporter
) -> None:
    """Another command that records the end of a job with ``--rm`` removes its container."""

    class Removing(OutputReporter):
        def job_output(self, data: bytes, *, is_stderr: bool) -> None:
            super().job_output(data, is_stderr=is_stderr)
            docker.containers.clear()

    def end(container: Container) -> None:
        container.out = b"x\n"
        container.end(0)

    docker.on_wait, removing = end, Removing()
    DockerPlatform(replace(platform.context, reporter=removing)).follow(running)
    assert (removing.out, removing.err) == (b"x\n", b"")


@pytest.mark.parametrize(
    ("passed_on", "tail", "rest"),
    [
        (b"", b"a\nb", b"a\nb"),
        (b"1\n2\n", b"2\n3", b"3"),
        (b"1\n2\n", b"0\n1\n2\n3", b"3"),
        (b"1\n2\n3", b"2\n3", b""),
        (b"1\n", b"8\n9", b"8\n9"),
        (b"a\na\n", b"a\na\na\n", b""),
        (b"1\n2\n", b"", b""),
    ],
)
def test_the_end_of_a_long_output_is_passed_on_once(passed_on: bytes, tail: bytes, rest: bytes) -> None:
    assert after(passed_on, tail) == rest


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_what_a_job_writes_while_it_stops_after_ctrl_c_is_passed_on(
    platform: DockerPlatform,
    docker: FakeDocker,
    running: JobRecord,
    reporter: OutputReporter,
    end: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupt(containers: Containers, id: str, seconds: int) -> bool:
        raise KeyboardInterrupt

    def write() -> None:
        docker.containers[str(running.details.display_name)].out = b"saved the checkpoint"

    docker.hooks[f"POST /containers/{running.details.id}/{end}"] = write
    monkeypatch.setattr(Containers, "wait", interrupt)
    with pytest.raises(KeyboardInterrupt):
        platform.follow(running)
    getattr(platform, end)(running)
    assert reporter.out == b"saved the checkpoint"


def test_a_slow_reader_is_waited_for(platform: DockerPlatform, docker: FakeDocker, running: JobRecord) -> None:
    """A pager may be read for hours after the job has ended."""
    is_writing, may_go_on = threading.Event(), threading.Event()

    class Pager(OutputReporter):
        def job_output(self, data: bytes, *, is_stderr: bool) -> None:
            is_writing.set()
            may_go_on.wait(60)
            super().job_output(data, is_stderr=is_stderr)

    class Clock(FakeClock):
        def wait(self, event: threading.Event, seconds: float) -> bool:
            is_writing.wait(60)
            if self.seconds > 86_400:
                may_go_on.set()
                return event.wait(60)
            return super().wait(event, seconds)

    pager = Pager()
    container = docker.containers[str(running.details.display_name)]
    container.out = b"x" * 10
    container.end(0)
    with streamed_output(JobOutput(container.id, replace(platform.context, reporter=pager), Clock())):
        pass
    assert pager.out == b"x" * 10


def test_an_engine_that_does_not_deliver_the_last_output_is_given_up_with_a_warning(
    context: PlatformContext, docker: FakeDocker, running: JobRecord, reporter: OutputReporter
) -> None:
    clock = FakeClock()  # the container runs on, so that the stream of its output never ends
    with streamed_output(JobOutput(str(running.details.id), context, clock)):
        pass
    assert reporter.warnings == ["the Docker Engine does not deliver the last output of the job; see: docker logs"]
    assert clock.seconds <= 120


def test_the_output_of_a_container_that_is_restarted_is_passed_on_once(
    platform: DockerPlatform, docker: FakeDocker, running: JobRecord, reporter: OutputReporter
) -> None:
    """``docker logs --follow`` ends with each run of the program, and begins with the first one again."""
    states = iter(("restarting", "running", "running", "restarting", "exited"))

    def end_or_restart(container: Container) -> None:
        container.out += b"attempt, no newline|" * 1000
        container.err += b"failed\n"
        container.end(1)
        container.state["Status"] = next(states)

    docker.on_wait = end_or_restart
    platform.follow(running)
    assert (reporter.out, reporter.err) == (b"attempt, no newline|" * 5000, b"failed\n" * 5)
