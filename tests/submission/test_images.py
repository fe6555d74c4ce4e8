"""Each image of a command is built once, and pushed once to each registry."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from caliban.errors import ImageError
from caliban.images.context_stream import Observer
from caliban.images.dockerfile import BuildUser
from caliban.images.spec import BuildSpec, ImageSpec
from caliban.platforms.base import Platform
from caliban.platforms.registry import Platforms
from caliban.records import ImageRef, JobMode
from caliban.reporter import Reporter
from caliban.submission.images import Images, image_source
from tests.builders import BUILD, IMAGE, OTHER_IMAGE, build_for
from tests.fake_platform import Push
from tests.fake_service import FakeDestination, FakeService
from tests.fakes import FakeEngine, RecordingReporter

USER = BuildUser(1000, 1000, "totoro")
OTHER_BUILD = replace(BUILD, build_path=Path("/srv/gpu"))
FAILED = ImageError("build-step-failed", "step 3 failed")
IN_ZONE_A = "registry.example.com/zone-a/abababababab:latest"


@pytest.fixture
def platform(platforms: Platforms, remote: FakeService) -> Platform:
    return platforms.get("TEST")


@pytest.fixture
def images(platforms: Platforms, fake_engine: FakeEngine) -> Images:
    return Images(platforms.context, USER)


def get(images: Images, platform: Platform, source: BuildSpec | ImageSpec, zone: str = "zone-a") -> ImageRef:
    registry = platform.image_registry(source.config, FakeDestination(zone)) if isinstance(source, BuildSpec) else None
    return images.get(source, platform, registry)


def test_images_of_remote_jobs_are_built_for_linux_amd64(platform: Platform) -> None:
    assert image_source(BUILD, platform, {}) == replace(BUILD, image_platform="linux/amd64")


def test_images_of_remote_jobs_are_built_for_the_platform_of_the_project(platform: Platform) -> None:
    arm = replace(BUILD, config=replace(BUILD.config, platform="linux/arm64"))
    assert image_source(arm, platform, {}) == replace(arm, image_platform="linux/arm64")


def test_an_existing_image_is_for_whatever_it_is(platform: Platform) -> None:
    assert image_source(ImageSpec("lab:1"), platform, {}) == ImageSpec("lab:1")


def test_images_for_two_platforms_are_two(images: Images, fake_engine: FakeEngine) -> None:
    fake_engine.expect(IMAGE, OTHER_IMAGE)
    arm = replace(BUILD, image_platform="linux/arm64")
    assert [images.build(source) for source in (BUILD, arm, BUILD)] == [IMAGE, OTHER_IMAGE, IMAGE]


def test_an_image_is_built_once(images: Images, fake_engine: FakeEngine) -> None:
    fake_engine.expect(IMAGE, OTHER_IMAGE)
    assert [images.build(source) for source in (BUILD, OTHER_BUILD, replace(BUILD))] == [IMAGE, OTHER_IMAGE, IMAGE]
    assert fake_engine.built == [BUILD, OTHER_BUILD]


def test_a_warning_about_the_same_files_is_said_once(
    images: Images, fake_engine: FakeEngine, platforms: Platforms, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = fake_engine.build

    def warn_and_build(
        spec: BuildSpec, user: BuildUser, reporter: Reporter, *, no_cache: bool, observer: Observer
    ) -> ImageRef:
        reporter.warn("the build context is 1.2 GB")
        return build(spec, user, reporter, no_cache=no_cache, observer=observer)

    monkeypatch.setattr(fake_engine, "build", warn_and_build)
    fake_engine.expect(IMAGE, OTHER_IMAGE)
    for source in (BUILD, replace(BUILD, job_mode=JobMode.GPU)):
        images.build(source)
    reporter = platforms.context.reporter
    assert isinstance(reporter, RecordingReporter)
    assert reporter.warnings == ["the build context is 1.2 GB"]


def test_a_failed_build_is_an_error_of_each_job_and_tried_once(images: Images, fake_engine: FakeEngine) -> None:
    fake_engine.expect(FAILED)
    for _ in range(3):
        with pytest.raises(ImageError) as caught:
            images.build(BUILD)
        assert caught.value is FAILED


def test_a_failed_build_does_not_prevent_another(images: Images, fake_engine: FakeEngine) -> None:
    fake_engine.expect(FAILED, IMAGE)
    with pytest.raises(ImageError):
        images.build(BUILD)
    assert images.build(OTHER_BUILD) == IMAGE


@pytest.mark.parametrize("no_cache", [False, True])
def test_an_image_can_be_built_without_the_cache(no_cache: bool, platforms: Platforms, fake_engine: FakeEngine) -> None:
    fake_engine.expect(IMAGE)
    Images(platforms.context, USER, no_cache=no_cache).build(BUILD)
    assert fake_engine.no_cache == [no_cache]


def test_an_existing_image_is_neither_built_nor_pushed(platforms: Platforms, remote: FakeService) -> None:
    images = Images(platforms.context, USER)
    assert images.build(ImageSpec("lab:1")) == "lab:1"
    assert get(images, platforms.get("TEST"), ImageSpec("lab:1")) == "lab:1"
    assert remote.calls == []


def test_a_pushed_image_has_the_name_that_it_has_in_the_registry(
    images: Images, platform: Platform, remote: FakeService, fake_engine: FakeEngine
) -> None:
    fake_engine.expect(IMAGE)
    remote.expect("push", Push.accept)
    assert get(images, platform, BUILD) == IN_ZONE_A


def test_an_image_is_pushed_to_a_registry_once(
    images: Images, platform: Platform, remote: FakeService, fake_engine: FakeEngine
) -> None:
    fake_engine.expect(IMAGE)
    remote.expect("push", Push.accept)
    assert [get(images, platform, BUILD) for _ in range(3)] == [IN_ZONE_A] * 3
    assert remote.arguments_of("push") == [Push(IMAGE, None, "zone-a")]


def test_an_image_is_pushed_to_the_registry_of_every_destination(
    images: Images, platform: Platform, remote: FakeService, fake_engine: FakeEngine
) -> None:
    fake_engine.expect(IMAGE)
    remote.expect("push", Push.accept, Push.accept)
    names = [get(images, platform, BUILD, zone) for zone in ("zone-a", "zone-b", "zone-a")]
    assert names == [IN_ZONE_A, "registry.example.com/zone-b/abababababab:latest", IN_ZONE_A]


def test_every_image_is_pushed(
    images: Images, platform: Platform, remote: FakeService, fake_engine: FakeEngine
) -> None:
    fake_engine.expect(IMAGE, OTHER_IMAGE)
    remote.expect("push", Push.accept, Push.accept)
    names = [get(images, platform, source) for source in (BUILD, OTHER_BUILD)]
    assert names == [IN_ZONE_A, "registry.example.com/zone-a/cdcdcdcdcdcd:latest"]


def test_an_image_is_pushed_to_the_registry_of_the_project_configuration(
    images: Images, platform: Platform, remote: FakeService, fake_engine: FakeEngine
) -> None:
    fake_engine.expect(IMAGE)
    remote.expect("push", Push.accept)
    get(images, platform, build_for("lab.example.com/totoro"))
    assert remote.arguments_of("push") == [Push(IMAGE, "lab.example.com/totoro", "zone-a")]


def test_a_failed_push_is_an_error_of_each_job_and_tried_once(
    images: Images, platform: Platform, remote: FakeService, fake_engine: FakeEngine
) -> None:
    fake_engine.expect(IMAGE)
    remote.expect("push", Push.refuse)
    for _ in range(2):
        with pytest.raises(ImageError, match="the fake registry is full"):
            get(images, platform, BUILD)


def test_an_image_that_was_not_built_is_not_pushed(
    images: Images, platform: Platform, remote: FakeService, fake_engine: FakeEngine
) -> None:
    fake_engine.expect(FAILED)
    with pytest.raises(ImageError, match="step 3 failed"):
        get(images, platform, BUILD)
    assert remote.arguments_of("push") == []


def test_an_image_for_this_machine_is_not_pushed(images: Images, platforms: Platforms, fake_engine: FakeEngine) -> None:
    fake_engine.expect(IMAGE)
    assert get(images, platforms.get("LOCAL"), build_for("lab.example.com/totoro")) == IMAGE


def test_jobs_that_need_no_image_run_in_their_directory(platforms: Platforms, imageless: FakeService) -> None:
    images = Images(platforms.context, USER)
    assert get(images, platforms.get("TEST"), BUILD) == "/srv/cpu"
