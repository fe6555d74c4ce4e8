"""An engine that accepts connections and answers nothing, or a byte now and then, is given up with a word."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from functools import cache

import pytest

from caliban.attempts import Submission
from caliban.errors import CalibanError, ImageError
from caliban.images.docker.engine import ANSWER_SECONDS, CONNECT_SECONDS, Engine
from caliban.platforms.base import RefusedError
from caliban.platforms.context import PlatformContext
from caliban.platforms.docker import client
from caliban.platforms.docker.client import IMPATIENT_SECONDS
from caliban.platforms.docker.platform import DockerPlatform
from caliban.records import JobRecord, JobStatus, JsonObject, StatusUnavailable
from tests.fake_service import may_send
from tests.fakes import FakeClock
from tests.sockets import listening_socket

from .fake_engine import Container, FakeDocker

SILENT = ("says nothing", b"")
TRICKLING = ("sends a header for ever", b"HTTP/1.1 200 OK\r\nX-Slow: ")
UNFINISHED = ("sends a part of a body", b'HTTP/1.1 200 OK\r\nContent-Length: 5000000\r\n\r\n{"ApiVersion": "1.41"')


@pytest.fixture(params=[SILENT, TRICKLING, UNFINISHED], ids=lambda param: param[0])
def stalled(request: pytest.FixtureRequest) -> Iterator[str]:
    """Return the address of an engine that never finishes an answer."""
    over = threading.Event()
    with listening_socket() as (listening, path):

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    connection.sendall(request.param[1])
                    threading.Thread(target=lambda held=connection: (over.wait(), held.close()), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        yield f"unix://{path}"
        over.set()
        listening.shutdown(socket.SHUT_RDWR)


def test_a_connection_is_given_up_with_a_word(stalled: str) -> None:
    clock = FakeClock()
    said: list[str] = []
    with pytest.raises(ImageError) as caught:
        Engine.connect({"DOCKER_HOST": stalled}, clock=clock, on_slow=said.append)
    assert (caught.value.id, caught.value.cause) == ("docker-unreachable", f"no answer within {CONNECT_SECONDS:.0f} s")
    assert clock.seconds == CONNECT_SECONDS
    assert said == [f"waiting for an answer of the Docker daemon at {stalled} (for up to 20 s) ..."]


@pytest.fixture
def stalling(docker: FakeDocker, context: PlatformContext, environ: dict[str, str]) -> Iterator[DockerPlatform]:
    """The platform in a process that has connected, and whose engine stalls from the next request on."""
    clock = FakeClock()
    with closing(Engine.connect(environ)) as connected:
        platform = DockerPlatform(replace(context, engine=cache(lambda: replace(connected, clock=clock))))
        assert connected.identity().id == "a1b2-engine"
        platform._identity = connected.identity()
        docker.stall.set()
        yield platform
        docker.stall.clear()


@pytest.mark.parametrize(
    "call",
    [
        lambda platform, job, spec, submission: platform.stop(job),
        lambda platform, job, spec, submission: platform.find(submission),
        lambda platform, job, spec, submission: platform.submit(spec, submission, may_send),
    ],
    ids=["stop", "find", "submit"],
)
def test_a_request_is_given_up_at_its_deadline(
    running: JobRecord,
    stalling: DockerPlatform,
    spec: JsonObject,
    submission: Submission,
    call: Callable[[DockerPlatform, JobRecord, JsonObject, Submission], object],
) -> None:
    with pytest.raises(CalibanError) as caught:
        call(stalling, running, spec, submission)
    assert not isinstance(caught.value, RefusedError)
    assert f"no answer within {ANSWER_SECONDS:.0f} s" in (caught.value.cause or "")


def test_a_kill_is_given_up_soon(running: JobRecord, stalling: DockerPlatform) -> None:
    """Who presses Ctrl-C for the second time does not want to wait."""
    with pytest.raises(CalibanError, match="cannot kill job 68"):
        stalling.kill(running)
    assert stalling.context.engine().clock.monotonic() == IMPATIENT_SECONDS


def test_states_are_unavailable_after_one_deadline(running: JobRecord, stalling: DockerPlatform) -> None:
    jobs = [replace(running, id=number) for number in range(100)]
    answers = stalling.statuses(jobs)
    assert all(isinstance(answer, StatusUnavailable) for answer in answers.values())
    clock = stalling.context.engine().clock
    assert clock.monotonic() == ANSWER_SECONDS


def test_an_end_is_noticed_although_the_wait_for_it_is_never_answered(
    docker: FakeDocker, platform: DockerPlatform, running: JobRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a firewall forgets an idle connection."""
    monkeypatch.setattr(client, "WAIT_SECONDS", 0.05)

    def end_in_silence(container: Container) -> None:
        container.end(3)
        docker.closing.wait(60)

    docker.on_wait = end_in_silence
    assert platform.follow(running).status is JobStatus.FAILED


class _OneStall(FakeClock):
    """Lets deadlines pass at once, until the engine has recovered."""

    def wait(self, event: threading.Event, seconds: float) -> bool:
        return super().wait(event, seconds) if self.seconds < ANSWER_SECONDS else event.wait(60)


def test_an_engine_that_is_silent_for_a_while_is_waited_for_while_a_job_runs(
    docker: FakeDocker, running: JobRecord, stalling: DockerPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "WAIT_SECONDS", 0.05)
    said: list[str] = []

    def recover(line: str) -> None:
        said.append(line)
        docker.stall.clear()

    recovering = replace(stalling.context.engine(), clock=_OneStall(), on_slow=recover)
    platform = DockerPlatform(replace(stalling.context, engine=lambda: recovering))
    docker.on_wait = lambda container: container.end(0)
    assert platform.follow(running).status is JobStatus.SUCCEEDED
    assert said[0].startswith("waiting for an answer of the Docker daemon at ")
