"""A search of a project's files shows its progress once it has taken two seconds."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from caliban.config import CONFIG_FILE
from caliban.errors import ImageError
from caliban.images.context import collect
from caliban.images.docker.engine import Engine
from caliban.images.dockerfile import BuildUser
from caliban.images.slow_progress import QUICK, slow_progress
from tests.fakes import FakeClock

from .helpers import Project, RecordingReporter
from .silent_engine import silent_engine


class TickingClock(FakeClock):
    """Each look at the clock takes a second."""

    def monotonic(self) -> float:
        self.seconds += 1
        return self.seconds


def test_nothing_is_shown_of_what_takes_a_moment() -> None:
    reporter, clock = RecordingReporter(), FakeClock()
    with slow_progress(reporter, "project files", "file", clock) as advance:
        clock.seconds = QUICK - 0.1
        for _ in range(1000):
            advance()
    assert reporter.titles == []


def test_after_two_seconds_everything_is_counted() -> None:
    reporter, clock = RecordingReporter(), FakeClock()
    with slow_progress(reporter, "project files", "file", clock) as advance:
        for _ in range(10):
            clock.seconds += QUICK / 5
            advance()
        assert reporter.done == [10]
    assert reporter.titles == [("project files", None, "file")]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path / "project", "x")
    made.write("cpu.py", "print()\n")
    made.write(CONFIG_FILE, '{"base_image": "x"}')
    made.write(".dockerignore", "ignored\n")
    made.write("ignored", "x")
    for number in range(20):
        made.write(f"data/{number}.txt", "x")
    return made


def test_each_file_and_directory_is_counted_once(project: Project) -> None:
    seen: list[None] = []
    collect(project.spec(), "FROM x\n", {}, on_file=lambda: seen.append(None))
    assert len(seen) == len(list(project.directory.rglob("*")))


def test_a_long_search_of_a_project_shows_its_progress(project: Project) -> None:
    reporter = RecordingReporter()
    with silent_engine() as silent, closing(Engine.connect({"DOCKER_HOST": silent.host})) as connected:
        silent.starts = False
        engine = Engine(connected.client, connected.host, {}, clock=TickingClock())
        with pytest.raises(ImageError):  # it answers nothing: TickingClock does not wait for it
            engine.build(project.spec(), BuildUser(1, 1, "mei"), reporter)
    assert reporter.titles[0] == ("project files", None, "file")
    assert reporter.done[0] > 10
