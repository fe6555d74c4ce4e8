"""A re-run that is killed before, while and after its image is built and pushed has begun nothing, and can be repeated.

With a real Docker Engine and a real registry; the service alone is a stand-in.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.safety.crash import read_recording
from tests.safety.nursery import Nursery
from tests.safety.places import GROUP, PROJECT, Place
from tests.safety.traced import Event, Point
from tests.safety.worlds import RESUBMIT, STATUS, World

CLOUD = (
    "cloud",
    "--platform",
    "caip",
    *GROUP,
    "--nogpu",
    "--experiment_config",
    "experiment.json",
    "cpu.py",
    "--",
    "--foo",
    "3",
)


@pytest.fixture
def building(tmp_path: Path, place: Place, nursery: Nursery, base_image: str, registry: str) -> World:
    """A group of two, whose jobs failed, and whose image is built from the folder ``cpu``."""
    world = World(tmp_path, place, nursery, f"sqlite:///{tmp_path / 'caliban.db'}")
    if "DOCKER_HOST" in os.environ:
        world.environ["DOCKER_HOST"] = os.environ["DOCKER_HOST"]
    config = {"base_image": base_image, "registry": f"{registry}/{PROJECT}"}
    (tmp_path / "cpu" / ".calibanconfig.json").write_text(json.dumps(config))
    answer = world.caliban(*CLOUD)
    assert answer.code == 0, answer
    world.end_jobs("FAILED")
    world.caliban(*STATUS)
    return world


def change_code(world: World, number: int) -> None:
    """So that there is something to build, and to push."""
    (world.folder / "cpu" / "cpu.py").write_text(f"print('version {number}')\n")


def points(events: Sequence[Event]) -> dict[str, Point]:
    """Before, while and after, found in what a whole re-run passes."""
    lines = [event for event in events if event.line]
    images = [event for event in lines if event.place.startswith("images/")]
    last = images[-1]

    def first(place: str, function: str) -> Event:
        return next(event for event in images if (event.place, event.function) == (place, function))

    def point(event: Event, nth: int) -> Point:
        return Point(event.place, event.line, event.function, nth)

    return {
        "before the build": point(first("images/docker/engine.py", "build"), 1),
        "while it is built": point(first("images/docker/build_log.py", "feed"), 2),
        "before the push": point(first("images/registry/push.py", "push"), 1),
        "while it is pushed": point(first("images/registry/push_log.py", "feed"), 2),
        "after the push": point(last, lines.count(last)),
    }


def test_a_rerun_killed_around_build_or_push_is_completed_by_the_next_one(building: World) -> None:
    recording = building.folder / "recording.json"
    change_code(building, 0)
    whole = building.caliban(*RESUBMIT, recording=recording)
    assert whole.code == 0, whole
    jobs_each = 2

    for number, (name, point) in enumerate(points(read_recording(recording)).items(), 1):
        building.end_jobs("FAILED")
        building.caliban(*STATUS)
        change_code(building, number)
        killed = building.caliban(*RESUBMIT, point=point)
        assert killed.code == -signal.SIGKILL, f"{name}: {killed}"
        assert building.lost_or_twice() == [], name
        assert set(building.jobs_per_experiment().values()) == {jobs_each}, f"{name}: nothing was begun"

        again = building.caliban(*RESUBMIT)
        jobs_each += 1
        assert again.code == 0, f"{name}: {again}"
        assert building.lost_or_twice() == [], name
        assert building.jobs_per_experiment() == {f"--foo 3 --sleep {sleep}": jobs_each for sleep in range(2)}, name
