"""What ``cloud`` and ``cluster job submit`` do before they build an image."""

from __future__ import annotations

from pathlib import Path

import pytest
from caliban.commands.launch import Launch, bring_image

from caliban.config import ProjectConfig
from caliban.errors import ImageError
from caliban.images.package import Package
from caliban.images.spec import BuildSpec, ImageSpec
from caliban.platforms.base import Platform
from caliban.records import JobMode
from caliban.submission.setup import make_platforms
from tests.builders import IMAGE
from tests.conftest import ScreenContext
from tests.fakes import FakeEngine, FakeService, HeardReporter, Pushed

HERE = {"place": "here"}
TO_BUILD = BuildSpec(
    Path("/srv/cpu"),
    Package(("python",), ".", "cpu.py"),
    job_mode=JobMode.CPU,
    config=ProjectConfig(registry="lab.example.com/totoro"),
)


@pytest.fixture
def platform(remote: FakeService, heard: HeardReporter, fake_engine: FakeEngine) -> Platform:
    return make_platforms({}, Path("/nowhere"), heard).get("TEST")


def launch(spec: BuildSpec | ImageSpec) -> Launch:
    return Launch("g", spec, [], "TEST", lambda *_: {}, no_cache=False)


def test_the_registry_is_asked_before_the_image_is_built(
    platform: Platform, remote: FakeService, fake_engine: FakeEngine, context: ScreenContext
) -> None:
    remote.closed_registry = ImageError("repository-missing", "there is no such repository")
    with pytest.raises(ImageError, match="no such repository"):
        bring_image(launch(TO_BUILD), context, platform, HERE)
    assert (remote.registries, fake_engine.built) == ([("lab.example.com/totoro", "here")], [])


def test_an_image_that_the_registry_will_take_is_built_and_brought_there(
    platform: Platform, remote: FakeService, fake_engine: FakeEngine, context: ScreenContext
) -> None:
    fake_engine.expect(IMAGE)
    remote.expect("push", Pushed.take)
    bring_image(launch(TO_BUILD), context, platform, HERE)
    assert remote.asked("push") == [Pushed(IMAGE, "lab.example.com/totoro", HERE)]


def test_an_image_that_was_given_by_name_is_run_as_it_was_written_and_no_registry_asked(
    platform: Platform, remote: FakeService, context: ScreenContext
) -> None:
    assert bring_image(launch(ImageSpec("lab:1")), context, platform, HERE) == "lab:1"
    assert remote.registries == []
