"""The checks before anything is built: each destination and each registry once."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from caliban.errors import ImageError, PlatformError
from caliban.images.spec import ImageSpec
from caliban.platforms.base import Platform
from caliban.platforms.registry import Platforms
from caliban.submission.preflight import Preflight, check_registry_name
from tests.builders import BUILD, build_for
from tests.fake_service import FakeDestination, FakeService

UNREACHABLE = PlatformError("fake-unreachable", "cannot reach the fake platform")
NO_REPOSITORY = ImageError("repository-missing", "the repository does not exist")
ZONE_A, ZONE_B = FakeDestination("zone-a"), FakeDestination("zone-b")


def to(destination: FakeDestination) -> Callable[[], FakeDestination]:
    return lambda: destination


@pytest.fixture
def platform(platforms: Platforms, remote: FakeService) -> Platform:
    return platforms.get("TEST")


def test_a_route_has_the_destination_and_the_registry(platform: Platform) -> None:
    route = Preflight().route(platform, BUILD, to(ZONE_B))
    assert (route.platform, route.destination) == (platform, ZONE_B)
    assert route.registry == platform.image_registry(BUILD.config, ZONE_B)


def test_each_destination_is_connected_to_once(platform: Platform, remote: FakeService) -> None:
    preflight = Preflight()
    for destination in (ZONE_A, ZONE_B, ZONE_A, ZONE_A):
        preflight.route(platform, BUILD, to(destination))
    assert remote.connections == [ZONE_A, ZONE_B]


def test_a_destination_that_cannot_be_reached_is_an_error_of_each_job_and_checked_once(
    platform: Platform, remote: FakeService
) -> None:
    remote.connection_error = UNREACHABLE
    preflight = Preflight()
    for _ in range(3):
        with pytest.raises(PlatformError) as caught:
            preflight.route(platform, BUILD, to(ZONE_A))
        assert caught.value is UNREACHABLE
    assert (remote.connections, remote.registry_checks) == ([ZONE_A], [])


def test_a_registry_is_checked_once_per_destination(platform: Platform, remote: FakeService) -> None:
    preflight = Preflight()
    for destination in (ZONE_A, ZONE_A, ZONE_B, ZONE_B):
        preflight.route(platform, build_for("lab.example.com/totoro"), to(destination))
    assert remote.registry_checks == [("lab.example.com/totoro", "zone-a"), ("lab.example.com/totoro", "zone-b")]


def test_every_registry_is_checked(platform: Platform, remote: FakeService) -> None:
    preflight = Preflight()
    for source in (BUILD, build_for("lab.example.com/totoro")):
        preflight.route(platform, source, to(ZONE_A))
    assert remote.registry_checks == [(None, "zone-a"), ("lab.example.com/totoro", "zone-a")]


def test_a_registry_that_accepts_no_images_is_an_error_of_each_job_and_checked_once(
    platform: Platform, remote: FakeService
) -> None:
    remote.registry_error = NO_REPOSITORY
    preflight = Preflight()
    for _ in range(3):
        with pytest.raises(ImageError) as caught:
            preflight.route(platform, BUILD, to(ZONE_A))
        assert caught.value is NO_REPOSITORY
    assert remote.registry_checks == [(None, "zone-a")]


def test_for_an_existing_image_no_registry_is_checked(platform: Platform, remote: FakeService) -> None:
    assert Preflight().route(platform, ImageSpec("lab:1"), to(ZONE_A)).registry is None
    assert (remote.connections, remote.registry_checks) == ([ZONE_A], [])


def test_an_image_that_cannot_be_built_is_an_error_before_any_connection(
    platform: Platform, remote: FakeService
) -> None:
    missing = ImageError("build-folder-gone", "directory not found")
    with pytest.raises(ImageError) as caught:
        Preflight().route(platform, missing, to(ZONE_A))
    assert (caught.value, remote.connections) == (missing, [])


def test_a_malformed_registry_is_an_error_before_any_connection(platform: Platform, remote: FakeService) -> None:
    with pytest.raises(ImageError) as caught:
        Preflight().route(platform, build_for("lab"), to(ZONE_A))
    assert (caught.value.id, remote.connections) == ("fake-registry-malformed", [])


def test_the_name_of_a_registry_can_be_checked_alone(platform: Platform, remote: FakeService) -> None:
    check_registry_name(platform, BUILD)
    check_registry_name(platform, ImageSpec("lab:1"))
    with pytest.raises(ImageError, match="no registry lab"):
        check_registry_name(platform, build_for("lab"))
    assert (remote.connections, remote.registry_checks) == ([], [])


def test_jobs_that_need_no_image_have_no_registry(platforms: Platforms, imageless: FakeService) -> None:
    assert Preflight().route(platforms.get("TEST"), BUILD, to(ZONE_A)).registry is None
    assert imageless.connections == [ZONE_A]


def test_a_destination_that_cannot_exist_is_refused_before_it_is_connected_to(
    platform: Platform, remote: FakeService
) -> None:
    with pytest.raises(PlatformError) as caught:
        Preflight().route(platform, BUILD, to(FakeDestination("zone/a?")))
    assert (caught.value.id, remote.connections, remote.registry_checks) == ("fake-zone-malformed", [], [])


@pytest.mark.parametrize(
    "error", [KeyError("zone"), ValueError("x"), SystemExit(2)], ids=lambda each: type(each).__name__
)
def test_a_platform_that_fails_in_an_unforeseen_way_is_an_error_of_the_job(
    error: BaseException, platform: Platform, remote: FakeService
) -> None:
    def fail() -> FakeDestination:
        raise error

    with pytest.raises(PlatformError) as caught:
        Preflight().route(platform, BUILD, fail)
    assert (caught.value.id, caught.value.message) == (
        "internal-error",
        "the platform TEST failed to check where a job would run",
    )


def test_an_unforeseen_failure_to_connect_is_checked_once(
    platform: Platform, remote: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def fail(destination: object) -> None:
        calls.append(destination)
        raise ZeroDivisionError

    monkeypatch.setattr(platform, "connect", fail)
    preflight = Preflight()
    for _ in range(3):
        with pytest.raises(PlatformError, match="the platform TEST failed to connect"):
            preflight.route(platform, BUILD, to(ZONE_A))
    assert calls == [ZONE_A]
