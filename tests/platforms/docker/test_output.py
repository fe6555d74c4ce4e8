"""The output of a job: who reads it decides nothing, and nothing of it is lost."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

import pytest

from caliban.attempts import Submission
from caliban.outputs.paths import log_path, logs_dir
from caliban.platforms.context import PlatformContext
from caliban.platforms.docker import output
from caliban.platforms.docker.client import Containers
from caliban.platforms.docker.output import JobOutput, streamed_output
from caliban.platforms.docker.platform import DockerPlatform
from caliban.records import JobRecord, JobStatus, JsonObject, NewJob
from tests.fake_service import may_send
from tests.fakes import FakeClock

from .fake_engine import Container, FakeDocker
from .helpers import OutputReporter

LOTS = b"a line of output\n" * 20_000


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
    context = replace(platform.context, reporter=pager)
    passed_on = JobOutput(container.id, Containers(context.engine()), context, Clock())
    passed_on.start_reading()
    with streamed_output(passed_on):
        passed_on.finish()
    assert pager.out == b"x" * 10


def test_an_engine_that_does_not_deliver_the_last_output_is_given_up_with_a_warning(
    context: PlatformContext, docker: FakeDocker, running: JobRecord, reporter: OutputReporter
) -> None:
    clock = FakeClock()  # the container runs on, so that the stream of its output never ends
    passed_on = JobOutput(str(running.details.id), Containers(context.engine()), context, clock)
    passed_on.start_reading()
    with streamed_output(passed_on):
        passed_on.finish()
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


def test_output_is_read_from_before_the_start_on(docker: FakeDocker, running: JobRecord) -> None:
    container = f"/containers/{running.details.id}"
    start = docker.requests.index(f"POST /containers/{running.details.display_name}/start")
    assert docker.requests.index(f"POST {container}/attach") < start


def test_a_bar_is_reported_while_it_moves(
    platform: DockerPlatform, docker: FakeDocker, running: JobRecord, reporter: OutputReporter
) -> None:
    """Docker's logs have whole lines only."""
    seen = threading.Event()

    class Watching(OutputReporter):
        def job_output(self, data: bytes, *, is_stderr: bool) -> None:
            super().job_output(data, is_stderr=is_stderr)
            if b"50%" in self.err:
                seen.set()

    def draw(container: Container) -> None:
        container.err += b"\r50%"
        assert seen.wait(10)
        container.end(0)

    object.__setattr__(platform.context, "reporter", Watching())
    docker.on_wait = draw
    assert platform.follow(running).status is JobStatus.SUCCEEDED


@pytest.mark.slow
@pytest.mark.parametrize("error", ["no attaching here"])
def test_where_nobody_can_be_attached_the_log_is_read(
    platform: DockerPlatform,
    docker: FakeDocker,
    spec: JsonObject,
    submission: Submission,
    record: Callable[[NewJob], JobRecord],
    reporter: OutputReporter,
    error: str,
) -> None:
    docker.attach_error, docker.on_wait = error, end_with_output
    platform.follow(record(platform.submit(spec, submission, may_send)))
    assert (reporter.out, reporter.err, reporter.warnings) == (LOTS, LOTS, [])


def test_after_a_connection_that_ends_early_the_rest_is_read_from_the_log(
    platform: DockerPlatform, docker: FakeDocker, running: JobRecord, reporter: OutputReporter
) -> None:
    """A proxy cuts a connection that says nothing."""
    parts = iter((b"first\nsec", b"ond\nthird", b""))

    def write(container: Container) -> None:
        part = next(parts)
        container.out += part
        while part.startswith(b"first") and b"sec" not in reporter.out:
            threading.Event().wait(0.005)
        docker.cut_attached.set()
        if not part:
            container.restarts = 1  # so that the end does not count as that of the connection
            container.end(0)

    docker.on_wait = write
    platform.follow(running)
    assert reporter.out == b"first\nsecond\nthird"


def test_a_reader_that_is_too_far_behind_gets_everything_and_the_job_is_not_held_up(
    platform: DockerPlatform, docker: FakeDocker, running: JobRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "MAX_UNREAD", 1000)
    may_go_on = threading.Event()

    class Pager(OutputReporter):
        def job_output(self, data: bytes, *, is_stderr: bool) -> None:
            may_go_on.wait(60)
            super().job_output(data, is_stderr=is_stderr)

    log = logs_dir(platform.context.home) / f"{running.details.display_name}.log"

    def write(container: Container) -> None:
        for _ in range(30):
            container.out += b"0123456789" * 20 + b"\n"
            threading.Event().wait(0.01)
        container.out += b"the last line\n"
        while b"the last line" not in log.read_bytes():  # before the reader has read anything
            threading.Event().wait(0.005)
        container.end(0)
        may_go_on.set()

    pager = Pager()
    object.__setattr__(platform.context, "reporter", pager)
    docker.on_wait = write
    platform.follow(running)
    assert pager.out == docker.containers[str(running.details.display_name)].out


def test_the_log_file_has_what_the_job_wrote(platform: DockerPlatform, docker: FakeDocker, running: JobRecord) -> None:
    def end(container: Container) -> None:
        container.out, container.err = b"a result\nlast", b"\r10%\r100%\n"
        container.end(0)

    docker.on_wait = end
    platform.follow(running)
    path = log_path(platform.context.home, running)
    assert path is not None
    assert sorted(path.read_bytes().splitlines()) == [b"100%", b"a result", b"last"]


@pytest.mark.parametrize("how", ["statuses", "find", "stop"])
def test_the_log_of_a_job_whose_command_was_killed_is_made_whole_when_its_end_is_seen(
    context: PlatformContext, docker: FakeDocker, running: JobRecord, submission: Submission, how: str
) -> None:
    path = log_path(context.home, running)
    assert path is not None
    container = docker.containers[str(running.details.display_name)]
    container.out = b"first\n"
    while not path.exists() or path.read_bytes() != b"first\n":
        threading.Event().wait(0.005)
    docker.cut_attached.set()  # as if its process were killed
    container.out += b"second\n"
    container.end(0)
    other = DockerPlatform(context)
    path.unlink()  # and with it the lock of the process
    for _ in range(2):
        if how == "statuses":
            other.statuses([running])
        elif how == "find":
            other.find(submission)
        else:
            other.stop(running)
        assert path.read_bytes() == b"first\nsecond\n"


def test_a_home_that_cannot_be_written_is_one_warning(
    platform: DockerPlatform,
    docker: FakeDocker,
    spec: JsonObject,
    submission: Submission,
    record: Callable[[NewJob], JobRecord],
    reporter: OutputReporter,
) -> None:
    (platform.context.home / ".caliban").write_text("")
    for number in range(2):
        each = replace(submission, name=f"{submission.name}-{number}", token=f"{number}" * 32)
        docker.on_wait = end_with_output
        assert (
            platform.follow(replace(record(platform.submit(spec, each, may_send)), id=number)).status
            is JobStatus.SUCCEEDED
        )
    [warning] = reporter.warnings
    assert warning.startswith(f"cannot write log files in {logs_dir(platform.context.home)}: ")
