"""A rerun that is killed before, during or after building or pushing its image has submitted nothing.

With a real Docker Engine and a real registry; only the service is a stand-in.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.e2e.clouds import EXPERIMENT
from tests.forkserver import ForkServer
from tests.safety.sandbox import RESUBMIT, STATUS, Sandbox
from tests.safety.services import PROJECT, Service
from tests.safety.tracing import Event, Point, read_recording

CLOUD = ("cloud", "--platform", "caip", *EXPERIMENT)


@pytest.fixture
def building(tmp_path: Path, job_service: Service, fork_server: ForkServer, base_image: str, registry: str) -> Sandbox:
    """A group of two failed experiments, whose image is built from the directory ``cpu``."""
    sandbox = Sandbox(tmp_path, job_service, fork_server, f"sqlite:///{tmp_path / 'caliban.db'}")
    if "DOCKER_HOST" in os.environ:
        sandbox.environ["DOCKER_HOST"] = os.environ["DOCKER_HOST"]
    config = {"base_image": base_image, "registry": f"{registry}/{PROJECT}"}
    (tmp_path / "cpu" / ".calibanconfig.json").write_text(json.dumps(config))
    result = sandbox.caliban(*CLOUD)
    assert result.code == 0, result
    sandbox.end_jobs("FAILED")
    sandbox.caliban(*STATUS)
    return sandbox


def change_code(sandbox: Sandbox, number: int) -> None:
    """Change the code, so that there is an image to build and push."""
    (sandbox.directory / "cpu" / "cpu.py").write_text(f"print('version {number}')\n")


def points(events: Sequence[Event]) -> dict[str, Point]:
    """Return points before, during and after build and push, from the recording of a complete rerun."""
    lines = [event for event in events if event.line]
    images = [event for event in lines if event.location.startswith("images/")]
    last = images[-1]

    def first(file: str, function: str) -> Event:
        return next(event for event in images if (event.location, event.function) == (file, function))

    def point(event: Event, nth: int) -> Point:
        return Point(event.location, event.line, event.function, nth)

    return {
        "before the build": point(first("images/docker/engine.py", "build"), 1),
        "during the build": point(first("images/docker/build_log.py", "feed"), 2),
        "before the push": point(first("images/registry/push.py", "push"), 1),
        "during the push": point(first("images/registry/push_log.py", "feed"), 2),
        "after the push": point(last, lines.count(last)),
    }


def test_a_rerun_killed_around_build_or_push_is_completed_by_the_next_one(building: Sandbox) -> None:
    recording = building.directory / "recording.json"
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
        assert building.inconsistencies() == [], name
        assert set(building.jobs_per_experiment().values()) == {jobs_each}, f"{name}: a job was submitted"

        again = building.caliban(*RESUBMIT)
        jobs_each += 1
        assert again.code == 0, f"{name}: {again}"
        assert building.inconsistencies() == [], name
        assert building.jobs_per_experiment() == {f"--foo 3 --sleep {sleep}": jobs_each for sleep in range(2)}, name
