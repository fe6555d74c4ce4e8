"""An engine that falls silent while it builds or pushes is asked whether it still runs, and given up in the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from caliban.config import CONFIG_FILE
from caliban.errors import ImageError
from caliban.images.docker import events
from caliban.images.docker.engine import Engine
from caliban.images.docker.events import read_events
from caliban.images.docker.silence import INTERVAL, STEP_SECONDS, TRANSFER_SECONDS, UNANSWERED_SECONDS
from caliban.images.dockerfile import BuildUser
from caliban.images.registry.upload import upload

from .helpers import Project, RecordingReporter
from .silent_engine import SilenceClock, SilentEngine, silent_engine

STEP_1 = {"stream": "Step 1/3 : FROM x\n"}
STEP_2 = {"stream": "Step 2/3 : USER root\n"}
LAST = {"status": "Step 2/3", "id": "x"}
USER = BuildUser(1, 1, "mei")
IMAGE = "sha256:" + "1" * 64
REFERENCE = "localhost:1/lab/x:latest"


@pytest.fixture
def silent() -> Iterator[SilentEngine]:
    with silent_engine() as engine:
        yield engine


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path / "project", "x")
    made.write("cpu.py", "print()\n")
    made.write(CONFIG_FILE, '{"base_image": "x"}')
    return made


class Listener(RecordingReporter):
    """Notices the last event before the silence."""

    def __init__(self, clock: SilenceClock, last: str | None) -> None:
        super().__init__()
        self._clock, self._last = clock, last
        if last is None:
            clock.has_begun.set()

    def info(self, *lines: str) -> None:
        super().info(*lines)
        self._notice(*lines)

    def note(self, text: str) -> None:
        super().note(text)
        self._notice(text)

    def _notice(self, *texts: str) -> None:
        if any(self._last is not None and self._last in text for text in texts):
            self._clock.has_begun.set()


Call = Callable[[Engine, RecordingReporter], object]


def ask(silent: SilentEngine, call: Call, last: str | None) -> tuple[ImageError, list[str], float]:
    """Return the error that a call ends with, what was said meanwhile, and how long the silence was."""
    said: list[str] = []
    clock = SilenceClock(silent)
    with (
        closing(Engine.connect({"DOCKER_HOST": silent.host}, clock=clock, on_slow=said.append)) as engine,
        pytest.raises(ImageError) as caught,
    ):
        call(engine, Listener(clock, last))
    return caught.value, said, clock.seconds


def pushing(engine: Engine, reporter: RecordingReporter) -> object:
    return upload(engine, IMAGE, REFERENCE, None, reporter, lambda words: ImageError("push-failed", words))


@pytest.fixture
def building(project: Project) -> Call:
    return lambda engine, reporter: engine.build(project.spec(), USER, reporter)


@pytest.mark.parametrize(
    ("sent", "what", "limit"),
    [
        ([STEP_1, STEP_2], "building the image (step 2: ", STEP_SECONDS),
        ([STEP_1], "building the image (step 1: ", TRANSFER_SECONDS),
    ],
    ids=["a step", "the base image"],
)
def test_a_build_that_says_nothing_is_waited_for_with_words_and_given_up(
    silent: SilentEngine, building: Call, sent: list[object], what: str, limit: float
) -> None:
    silent.events = sent
    error, said, seconds = ask(silent, building, f"Step {len(sent)}/3")
    assert (error.id, seconds) == ("docker-stalled", limit)
    start = f"the Docker daemon at {silent.host} has reported nothing for "
    assert said[0].startswith(f"{start}60 s while {what}")
    assert "it answers other requests; waiting for up to" in said[0]
    assert said[0].endswith("(Ctrl-C stops) ...")
    assert [line.removeprefix(start).split(" while")[0] for line in said] == ["60 s", "4 min", "16 min", "64 min"][
        : len(said)
    ]
    assert len(said) == (4 if limit > 64 * 60 else 3)


def test_a_push_that_says_nothing_is_given_up(silent: SilentEngine) -> None:
    silent.events = [{"status": "Preparing", "id": "abc"}]
    error, said, seconds = ask(silent, pushing, "Preparing")
    assert (error.id, seconds) == ("docker-stalled", TRANSFER_SECONDS)
    assert f"while pushing {REFERENCE}; it answers other requests" in said[0]
    assert silent.gone.wait(20)


@pytest.mark.parametrize("call", ["build", "push"])
def test_an_engine_that_answers_no_ping_either_is_unreachable(silent: SilentEngine, building: Call, call: str) -> None:
    silent.events, silent.pings = [STEP_1, STEP_2, LAST], False
    error, said, seconds = ask(silent, building if call == "build" else pushing, "Step 2/3")
    assert error.id == "docker-unreachable"
    assert "no ping either" in (error.cause or "")
    assert INTERVAL + UNANSWERED_SECONDS <= seconds < 2 * (INTERVAL + UNANSWERED_SECONDS)
    assert "it answers no other request either; waiting for up to 5 min (Ctrl-C stops) ..." in said[0]


def test_an_engine_that_does_not_read_the_context_is_given_up(
    silent: SilentEngine, project: Project, building: Call
) -> None:
    project.write("data.bin", "x" * 5_000_000)
    silent.reads = False
    error, said, _ = ask(silent, building, None)
    assert error.id == "docker-stalled"
    assert "while receiving the build context" in said[-1]


def test_an_engine_that_does_not_begin_an_answer_is_given_up(silent: SilentEngine, building: Call) -> None:
    silent.starts = False
    assert ask(silent, building, None)[0].id == "docker-stalled"


@pytest.mark.parametrize("sent", [b"x", b"{}\r\n", b"\r\n", b'{"stream": ""}\n', b'{"id": "1"}\n'], ids=repr)
def test_what_is_no_event_that_reports_something_is_no_progress(
    silent: SilentEngine, building: Call, sent: bytes
) -> None:
    """As of a server that sends a byte now and then."""
    silent.events = [STEP_1, STEP_2]
    silent.on_ping = lambda number: sent
    error, _, seconds = ask(silent, building, "Step 2/3")
    assert (error.id, seconds) == ("docker-stalled", STEP_SECONDS)


def test_after_an_event_the_silence_is_counted_anew(silent: SilentEngine, building: Call) -> None:
    silent.events = [STEP_1, STEP_2]
    half = int(STEP_SECONDS / INTERVAL / 2)
    silent.on_ping = lambda number: b'{"stream": "still compiling\\n"}\r\n' if number == half else b""
    error, said, seconds = ask(silent, building, "Step 2/3")
    assert error.id == "docker-stalled"
    assert seconds >= STEP_SECONDS + half * INTERVAL
    assert sum("nothing for 60 s" in line for line in said) == 2


def test_an_engine_that_answers_again_is_waited_for_again(silent: SilentEngine, building: Call) -> None:
    silent.events = [STEP_1, STEP_2]
    clock = SilenceClock(silent)
    said: list[str] = []

    def recover(line: str) -> None:
        said.append(line)
        silent.pings = True

    silent.pings = False
    with (
        closing(Engine.connect({"DOCKER_HOST": silent.host}, clock=clock, on_slow=recover)) as engine,
        pytest.raises(ImageError) as caught,
    ):
        building(engine, Listener(clock, "Step 2/3"))
    assert caught.value.id == "docker-stalled"
    assert ["answers no other" in line for line in said[:2]] == [True, False]


@pytest.mark.parametrize("call", ["build", "push"])
def test_ctrl_c_during_a_silence_closes_the_connection(silent: SilentEngine, building: Call, call: str) -> None:
    silent.events = [STEP_1, STEP_2, LAST]
    clock = SilenceClock(silent)

    def interrupt(line: str) -> None:
        raise KeyboardInterrupt

    with closing(Engine.connect({"DOCKER_HOST": silent.host}, clock=clock, on_slow=interrupt)) as engine:
        with pytest.raises(KeyboardInterrupt):
            (building if call == "build" else pushing)(engine, Listener(clock, "Step 2/3"))
        assert silent.gone.wait(20)


@pytest.mark.parametrize("call", ["build", "push"])
def test_an_event_without_an_end_is_given_up(
    silent: SilentEngine, building: Call, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "EVENT_LIMIT", 10_000)
    silent.events = [{"stream": "x" * 10_001}]
    error, _, _ = ask(silent, building if call == "build" else pushing, "Step 2/3")
    assert error.id == "docker-answer-malformed"


@pytest.mark.parametrize("cut", range(1, 9))
def test_events_are_the_same_however_they_are_cut(cut: int) -> None:
    text = b'{"stream":"a"}\r\n\r\n{"status":"b"}\n{"aux":{"ID":"c"}}'
    pieces = [text[start : start + cut] for start in range(0, len(text), cut)]
    assert list(read_events(iter(pieces))) == [{"stream": "a"}, {"status": "b"}, {"aux": {"ID": "c"}}]


@pytest.mark.parametrize("line", [b"<html>\n", b"[1]\n", b"5\n", b'{"a":\n', b"[" * 200 + b"\n", b"\xff\n"])
def test_a_line_that_is_no_json_object_is_an_error(line: bytes) -> None:
    with pytest.raises(ValueError, match=r"Expecting|no JSON object|inside each other|can't decode"):
        list(read_events(iter([line])))
