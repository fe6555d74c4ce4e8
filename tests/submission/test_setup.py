from __future__ import annotations

import os
from pathlib import Path

import pytest

from caliban.errors import ImageError, PlatformError
from caliban.platforms.flags import cloud_key, project_id
from caliban.platforms.registry import Platforms
from caliban.records import PlatformId
from caliban.submission.setup import build_user, make_platforms
from tests.fake_service import FakeService
from tests.fakes import FakeEngine, RecordingReporter


def test_a_platform_is_created_once(service: FakeService, platforms: Platforms) -> None:
    assert platforms.get("TEST") is platforms.get("TEST")


def test_the_engine_is_connected_to_once(fake_engine: FakeEngine, platforms: Platforms) -> None:
    assert platforms.context.engine() is platforms.context.engine()


def test_an_unreachable_engine_is_reported(reporter: RecordingReporter, tmp_path: Path) -> None:
    platforms = make_platforms({"DOCKER_HOST": "unix:///nonexistent/sock"}, tmp_path, reporter)
    with pytest.raises(ImageError) as caught:
        platforms.context.engine()
    assert caught.value.id == "docker-unreachable"


def test_an_unknown_platform_is_reported_with_what_still_works(
    platforms: Platforms, unknown_platform: PlatformId
) -> None:
    with pytest.raises(PlatformError, match="cannot use the platform MAINFRAME") as caught:
        platforms.get(unknown_platform)
    assert (caught.value.id, caught.value.hint is None) == ("platform-not-supported", False)


def test_platforms_get_the_environment_and_the_flags_of_the_command(reporter: RecordingReporter) -> None:
    options = {"project_id": "lab", "cloud_key": Path("/key.json")}
    context = make_platforms({"A": "1"}, Path("/h"), reporter, options).context
    assert (context.environ, context.home, context.reporter) == ({"A": "1"}, Path("/h"), reporter)
    assert (project_id(context.options), cloud_key(context.options)) == ("lab", Path("/key.json"))


def test_code_in_an_image_runs_as_the_calling_user() -> None:
    user = build_user("totoro")
    assert (user.uid, user.gid, user.name) == (os.getuid(), os.getgid(), "totoro")
