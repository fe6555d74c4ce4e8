from __future__ import annotations

import os
from pathlib import Path

import pytest

from caliban.errors import ImageError, PlatformError
from caliban.platforms.registry import Platforms
from caliban.records import PlatformId
from caliban.submission.setup import build_user, make_platforms
from tests.fakes import FakeEngine, FakeService, HeardReporter


def test_a_platform_is_made_once(service: FakeService, platforms: Platforms) -> None:
    assert platforms.get("TEST") is platforms.get("TEST")


def test_the_engine_is_connected_to_once(fake_engine: FakeEngine, platforms: Platforms) -> None:
    assert platforms.context.engine() is platforms.context.engine()


def test_an_engine_that_does_not_answer_is_told(heard: HeardReporter, tmp_path: Path) -> None:
    platforms = make_platforms({"DOCKER_HOST": f"unix://{tmp_path}/none.sock"}, tmp_path, heard)
    with pytest.raises(ImageError) as caught:
        platforms.context.engine()
    assert caught.value.id == "docker-unreachable"


def test_a_platform_of_a_later_version_is_told_with_what_still_works(platforms: Platforms) -> None:
    with pytest.raises(PlatformError, match="this version of caliban cannot reach jobs on TEST") as caught:
        platforms.get("TEST")
    assert (caught.value.id, caught.value.hint is None) == ("platform-not-supported", False)


def test_what_was_asked_for_reaches_the_platforms(heard: HeardReporter) -> None:
    made = make_platforms({"A": "1"}, Path("/h"), heard, project_id="lab", cloud_key=Path("/key.json"))
    known = made.context
    assert (known.environ, known.home, known.reporter, known.project_id, known.cloud_key) == (
        {"A": "1"},
        Path("/h"),
        heard,
        "lab",
        Path("/key.json"),
    )


def test_code_in_an_image_runs_as_the_person_who_calls() -> None:
    user = build_user("totoro")
    assert (user.uid, user.gid, user.name) == (os.getuid(), os.getgid(), "totoro")
