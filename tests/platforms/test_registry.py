"""Finding platforms: the built-in ones, and those of installed packages."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from caliban.errors import ImageError, PlatformError
from caliban.platforms import registry
from caliban.platforms.base import ForegroundPlatform, Platform, RemotePlatform
from caliban.platforms.context import PlatformContext
from caliban.platforms.launch import Launcher
from caliban.platforms.migration import MigrationTarget
from caliban.platforms.registry import Platforms
from caliban.records import JobDetails, JobStatus
from tests.cli.plugins import add_package
from tests.fakes import RecordingReporter

BUILT_IN = ("LOCAL", "CAIP", "VERTEX", "KUBERNETES", "GKE")
MOON = """
from tests.fake_platform import FakeRemotePlatform
from tests.fake_service import FakeService

class Moon(FakeRemotePlatform):
    id = "MOON"
    service = FakeService()
    needs_image = False
"""


def no_engine() -> NoReturn:
    raise ImageError("docker-unreachable", "there is no engine")


@pytest.fixture
def platforms(tmp_path: Path) -> Platforms:
    return Platforms(PlatformContext({}, tmp_path, RecordingReporter(), no_engine))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory for packages that are installed for one test."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(site)
    _forget()
    yield site
    sys.modules.pop("moon", None)
    _forget()


def _forget() -> None:
    registry._plugins.cache_clear()
    registry._parser.cache_clear()


def install(site: Path, source: str = MOON, *, id: str = "MOON", package: str = "caliban-moon") -> None:
    add_package(site, package, {id: "moon:Moon"}, {"moon": source}, "caliban.platforms")


def problem(platforms: Platforms, id: str = "MOON") -> PlatformError:
    with pytest.raises(PlatformError) as caught:
        platforms.get(id)
    return caught.value


@pytest.mark.parametrize("id", BUILT_IN)
def test_a_built_in_platform_has_its_id_and_implements_everything(id: str) -> None:
    found = registry.platform_class(id)
    assert issubclass(found, Platform)
    assert (found.id, found.__abstractmethods__) == (id, frozenset())


@pytest.mark.parametrize("id", BUILT_IN)
def test_details_are_read_as_the_platform_reads_them(id: str) -> None:
    raw = {"name": "a", "jobId": "b", "error": "c", "cluster_name": "d"}
    parsed = registry.parse_details(id, JobStatus.FAILED, raw)
    assert parsed == registry.platform_class(id).parse_details(JobStatus.FAILED, raw)


def test_capabilities_are_known_without_an_instance() -> None:
    assert registry.has_capability("LOCAL", ForegroundPlatform)
    assert not registry.has_capability("LOCAL", RemotePlatform)
    assert registry.has_capability("GKE", RemotePlatform)
    assert all(registry.has_capability(each, MigrationTarget) for each in registry.MIGRATION_TARGETS.values())


@pytest.mark.parametrize("command", ["run", "cloud", "cluster job submit"])
def test_every_submitting_command_has_launchers(command: str) -> None:
    launchers = registry.launchers(command)
    assert launchers
    assert all(isinstance(launcher, Launcher) for launcher in launchers.values())


def test_a_platform_is_created_once(platforms: Platforms) -> None:
    assert platforms.get("LOCAL") is platforms.get("LOCAL")


def test_an_unknown_platform_is_not_supported(platforms: Platforms, unknown_platform: str) -> None:
    error = problem(platforms, unknown_platform)
    assert error.id == "platform-not-supported"
    assert error.message == f"this installation of caliban cannot use the platform {unknown_platform}"
    assert "install the package that provides it" in str(error.hint)


def test_an_unknown_platform_has_no_capability_and_raw_details(unknown_platform: str) -> None:
    assert not registry.has_capability(unknown_platform, RemotePlatform)
    assert registry.needs_image(unknown_platform)
    assert registry.parse_details(unknown_platform, JobStatus.FAILED, {"a": 1}) == JobDetails({"a": 1})


def test_an_installed_package_provides_a_platform(site: Path, platforms: Platforms) -> None:
    install(site)
    assert (platforms.get("MOON").id, registry.needs_image("MOON")) == ("MOON", False)
    assert registry.has_capability("MOON", RemotePlatform)
    assert registry.parse_details("MOON", JobStatus.FAILED, {"name": "sea"}).display_name == "sea"


def test_a_package_is_imported_when_its_platform_is_used(site: Path, platforms: Platforms) -> None:
    install(site)
    platforms.get("LOCAL")
    assert registry.find("MOON") is not None
    assert "moon" not in sys.modules
    platforms.get("MOON")
    assert "moon" in sys.modules


@pytest.mark.parametrize("id", BUILT_IN)
def test_a_package_cannot_replace_a_built_in_platform(site: Path, platforms: Platforms, id: str) -> None:
    install(site, MOON.replace("MOON", id), id=id)
    assert platforms.get(id).__module__.startswith("caliban.platforms.")


def test_two_packages_with_one_id_are_an_error_that_names_both(site: Path, platforms: Platforms) -> None:
    install(site)
    install(site, package="caliban-other-moon")
    error = problem(platforms)
    assert error.id == "broken-plugin"
    assert sorted(str(error.cause).removeprefix("ImportError: ").split(" provide ")[0].split(" and ")) == [
        "caliban-moon",
        "caliban-other-moon",
    ]


@pytest.mark.parametrize(
    ("source", "cause"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("import there_is_no_such_module", "ModuleNotFoundError: No module named 'there_is_no_such_module'"),
        ("Sun = 1", "AttributeError: module 'moon' has no attribute 'Moon'"),
        ("Moon = 1", "TypeError: moon:Moon is not a subclass of caliban.platforms.base.Platform"),
        ("class Moon: ...", "TypeError: moon:Moon is not a subclass of caliban.platforms.base.Platform"),
        (MOON.replace('"MOON"', '"SUN"'), "ValueError: moon:Moon has the id SUN"),
        (
            "from caliban.platforms.base import Platform\nclass Moon(Platform):\n    def find(self, submission): ...",
            "TypeError: moon:Moon does not implement destination, image_registry, job_name, parse_details, statuses, "
            "stop, submit, with_arguments, with_image",
        ),
        (MOON + "    def __init__(self, context): self.context.engine()", "AttributeError: "),
    ],
)
def test_a_broken_package_is_an_error_that_names_it(site: Path, platforms: Platforms, source: str, cause: str) -> None:
    install(site, source)
    error = problem(platforms)
    assert (error.id, error.message) == (
        "broken-plugin",
        "cannot use the platform MOON of the package caliban-moon",
    )
    assert str(error.cause).startswith(cause)
    assert error.hint == "update or remove the package caliban-moon; all other platforms work"
    assert platforms.get("LOCAL").id == "LOCAL"


def test_jobs_of_a_broken_package_are_listed_with_raw_details(site: Path) -> None:
    install(site, "1 / 0")
    assert registry.parse_details("MOON", JobStatus.FAILED, {"name": "sea"}) == JobDetails({"name": "sea"})
    assert not registry.has_capability("MOON", RemotePlatform)


def test_details_that_a_package_cannot_read_are_listed_raw(site: Path) -> None:
    install(site, MOON + "    @classmethod\n    def parse_details(cls, status, raw): return raw['x']\n")
    assert registry.parse_details("MOON", JobStatus.FAILED, {"name": "sea"}) == JobDetails({"name": "sea"})


def test_an_error_of_caliban_in_a_package_stays_what_it_is(site: Path, platforms: Platforms) -> None:
    install(site, MOON + "    def __init__(self, context): context.engine()\n")
    with pytest.raises(ImageError):
        platforms.get("MOON")
