"""The submitting command, with a launcher for the fake platform: the order of checks, build, push and submission."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import pytest

from caliban.commands.submit import SubmitCommand
from caliban.errors import CalibanError, ImageError, PlatformError
from caliban.platforms.base import Platform
from caliban.platforms.launch import Launch, LaunchContext, Launcher
from caliban.records import Destination, ImageRef, JsonObject
from caliban.store.database import Store
from tests.builders import GROUP, IMAGE, latest_states, read_group, submissions
from tests.conftest import ScreenContext
from tests.fake_platform import Push
from tests.fake_service import FakeDestination, FakeService
from tests.fakes import FakeEngine

IN_ZONE_B = "registry.example.com/zone-b/abababababab:latest"


class FakeLaunch(Launch):
    platform = "TEST"

    def job_spec(self, number: int, arguments: Sequence[str], image: ImageRef) -> JsonObject:
        return {"image": image, "arguments": [str(number), *arguments]}

    def destination(self, platform: Platform) -> Destination:
        return FakeDestination("zone-b")


class FakeLauncher(Launcher):
    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--image_tag")

    def prepare(self, args: argparse.Namespace, context: LaunchContext) -> Launch:
        return FakeLaunch()


COMMAND = SubmitCommand("Submit to the fake platform.", lambda: {"fake": FakeLauncher()})


def submit(context: ScreenContext, *arguments: str) -> int:
    parser = argparse.ArgumentParser()
    COMMAND.add_arguments(parser)
    args = parser.parse_args(["--xgroup", GROUP, "--nogpu", *arguments, "cpu.py"])
    args.script_args = ("--foo", "3")
    return int(COMMAND.run(args, context))


@pytest.fixture(autouse=True)
def project(cwd: Path) -> Path:
    (cwd / "cpu.py").write_text("")
    (cwd / "experiment.json").write_text('{"sleep": [2, 1]}')
    return cwd


SWEEP = ("--experiment_config", "experiment.json")


def test_the_image_is_built_pushed_and_run_by_every_job(
    store: Store, remote: FakeService, fake_engine: FakeEngine, context: ScreenContext
) -> None:
    fake_engine.expect(IMAGE)
    remote.expect("push", Push.accept)
    remote.expect("submit", remote.accept, remote.accept)
    assert submit(context, *SWEEP) == 0
    specs = [
        {"image": IN_ZONE_B, "arguments": ["1", "--foo", "3", "--sleep", "2"]},
        {"image": IN_ZONE_B, "arguments": ["2", "--foo", "3", "--sleep", "1"]},
    ]
    assert sorted(remote.arguments_of("submit"), key=str) == specs
    assert [row.destination for row in submissions(store)] == [{"zone": "zone-b"}] * 2


def test_every_check_is_made_exactly_once(
    store: Store, remote: FakeService, fake_engine: FakeEngine, context: ScreenContext
) -> None:
    fake_engine.expect(IMAGE)
    remote.expect("push", Push.accept)
    remote.expect("submit", remote.accept, remote.accept)
    submit(context, *SWEEP)
    assert (remote.connections, remote.registry_checks) == ([FakeDestination("zone-b")], [(None, "zone-b")])


def assert_nothing_recorded(store: Store, remote: FakeService, fake_engine: FakeEngine) -> None:
    assert (fake_engine.built, remote.calls, submissions(store)) == ([], [], [])
    with pytest.raises(AssertionError):
        read_group(store)


def test_an_unreachable_platform_is_reported_before_the_image_is_built(
    store: Store, remote: FakeService, fake_engine: FakeEngine, context: ScreenContext
) -> None:
    remote.connection_error = PlatformError("fake-unreachable", "cannot reach the fake platform")
    with pytest.raises(CalibanError, match="cannot reach the fake platform"):
        submit(context)
    assert_nothing_recorded(store, remote, fake_engine)


def test_a_registry_that_accepts_no_images_is_reported_before_the_image_is_built(
    store: Store, remote: FakeService, fake_engine: FakeEngine, context: ScreenContext
) -> None:
    remote.registry_error = ImageError("repository-missing", "the repository does not exist")
    with pytest.raises(ImageError, match="the repository does not exist"):
        submit(context)
    assert_nothing_recorded(store, remote, fake_engine)


def test_the_image_is_pushed_to_the_registry_of_the_project(
    project: Path, store: Store, remote: FakeService, fake_engine: FakeEngine, context: ScreenContext
) -> None:
    (project / ".calibanconfig.json").write_text('{"registry": "lab.example.com/totoro"}')
    fake_engine.expect(IMAGE)
    remote.expect("push", Push.accept)
    remote.expect("submit", remote.accept)
    submit(context)
    assert remote.registry_checks == [("lab.example.com/totoro", "zone-b")]
    assert remote.arguments_of("push") == [Push(IMAGE, "lab.example.com/totoro", "zone-b")]


def test_a_failed_push_records_no_experiment(
    store: Store, remote: FakeService, fake_engine: FakeEngine, context: ScreenContext
) -> None:
    fake_engine.expect(IMAGE)
    remote.expect("push", Push.refuse)
    with pytest.raises(ImageError, match="the fake registry is full"):
        submit(context)
    with pytest.raises(AssertionError):
        read_group(store)


def test_an_existing_image_is_run_as_it_is_and_no_registry_is_checked(
    store: Store, remote: FakeService, context: ScreenContext
) -> None:
    remote.expect("submit", remote.accept)
    assert submit(context, "--image_tag", "lab:1") == 0
    assert remote.arguments_of("submit") == [{"image": "lab:1", "arguments": ["1", "--foo", "3"]}]
    assert (remote.connections, remote.registry_checks) == ([FakeDestination("zone-b")], [])


def test_a_refused_job_is_reported_and_the_others_are_submitted(
    store: Store, remote: FakeService, context: ScreenContext
) -> None:
    remote.expect("submit", remote.refuse, remote.accept)
    assert submit(context, "--image_tag", "lab:1", *SWEEP) == 1
    assert sorted(latest_states(store)) == ["FAILED", "SUBMITTED"]
    assert "error: the fake quota is exceeded [fake-quota]" in context.err


def test_a_dry_run_connects_to_nothing(remote: FakeService, context: ScreenContext, home: Path) -> None:
    assert submit(context, "--dry_run") == 0
    assert (remote.connections, remote.registry_checks, list(home.iterdir())) == ([], [], [])
