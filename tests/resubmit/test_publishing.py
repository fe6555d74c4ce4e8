"""Bringing images to where jobs run: as often as needed, and no more."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from caliban.config import ProjectConfig
from caliban.errors import CalibanError, ImageError
from caliban.images.package import Package
from caliban.images.spec import BuildSpec, ImageSpec
from caliban.platforms.base import Platform, Platforms
from caliban.records import ContainerRecord, ImageRef, JobMode, JobStatus, PlatformId
from caliban.resubmit.execution import Publisher, resubmit
from caliban.resubmit.plan import ImageSource, Plan, PlannedImage, PlannedJob
from caliban.store.database import Store
from caliban.submission.setup import make_platforms
from caliban.submission.submit import Submitter
from tests.builders import IMAGE, OTHER_IMAGE, add_group, submissions
from tests.fakes import FakeService, HeardReporter, Pushed

BUILT = BuildSpec(Path("/srv/cpu"), Package(("python",), ".", "cpu.py"), job_mode=JobMode.CPU, config=ProjectConfig())
HERE, THERE = {"place": "here"}, {"place": "there"}
AT_HERE = "registry.example.com/here/abababababab:latest"


@pytest.fixture
def platforms(heard: HeardReporter) -> Platforms:
    return make_platforms({}, Path("/nowhere"), heard)


@pytest.fixture
def platform(platforms: Platforms, remote: FakeService) -> Platform:
    return platforms.get("TEST")


def a_publisher(
    sources: dict[int, ImageSource] | None = None, images: dict[int, ImageRef | CalibanError] | None = None
) -> Publisher:
    planned = [PlannedImage(ContainerRecord(n, {}), source, 1) for n, source in (sources or {1: BUILT}).items()]
    return Publisher(Plan("g", (), tuple(planned), ()), images or {1: IMAGE})


def test_a_job_runs_the_image_by_the_name_that_it_has_there(remote: FakeService, platform: Platform) -> None:
    remote.expect("push", Pushed.take)
    assert a_publisher().publish(1, platform, HERE) == AT_HERE


def test_an_image_is_brought_to_a_place_once(remote: FakeService, platform: Platform) -> None:
    publisher = a_publisher()
    remote.expect("push", Pushed.take)
    assert [publisher.publish(1, platform, dict(HERE)) for _ in range(3)] == [AT_HERE] * 3
    assert remote.asked("push") == [Pushed(IMAGE, None, HERE)]


def test_an_image_is_brought_to_every_place_where_it_runs(remote: FakeService, platform: Platform) -> None:
    publisher = a_publisher()
    remote.expect("push", Pushed.take, Pushed.take)
    names = [publisher.publish(1, platform, place) for place in (HERE, THERE, HERE)]
    assert names == [AT_HERE, "registry.example.com/there/abababababab:latest", AT_HERE]


def test_every_image_is_brought_to_a_place(remote: FakeService, platform: Platform) -> None:
    publisher = a_publisher({1: BUILT, 2: BUILT}, {1: IMAGE, 2: OTHER_IMAGE})
    remote.expect("push", Pushed.take, Pushed.take)
    names = [publisher.publish(container, platform, HERE) for container in (1, 2)]
    assert names == [AT_HERE, "registry.example.com/here/cdcdcdcdcdcd:latest"]


def test_an_image_goes_to_the_registry_of_its_project_s_configuration(remote: FakeService, platform: Platform) -> None:
    spec = replace(BUILT, config=replace(BUILT.config, registry="lab.example.com/totoro"))
    remote.expect("push", Pushed.take)
    a_publisher({1: spec}).publish(1, platform, HERE)
    assert remote.asked("push") == [Pushed(IMAGE, "lab.example.com/totoro", HERE)]


def test_an_image_that_was_given_by_name_stays_where_it_is(remote: FakeService, platform: Platform) -> None:
    publisher = a_publisher({1: ImageSpec("lab:1")}, {1: "lab:1"})
    assert publisher.publish(1, platform, HERE) == "lab:1"
    assert remote.asked("push") == []


def test_an_image_that_was_not_built_is_not_brought_anywhere(remote: FakeService, platform: Platform) -> None:
    failed = ImageError("build-step-failed", "step 3 failed")
    with pytest.raises(ImageError, match="step 3 failed"):
        a_publisher(images={1: failed}).publish(1, platform, HERE)
    assert remote.asked("push") == []


def test_an_image_for_this_machine_stays_on_it(platforms: Platforms) -> None:
    """No engine answers here: nothing is pushed, or even looked up."""
    spec = replace(BUILT, config=replace(BUILT.config, registry="lab.example.com/totoro"))
    assert a_publisher({1: spec}).publish(1, platforms.get("LOCAL"), {}) == IMAGE


def test_jobs_are_submitted_with_the_published_image(
    store: Store, remote: FakeService, platforms: Platforms, heard: HeardReporter
) -> None:
    jobs = the_jobs(store)
    remote.expect("push", Pushed.take)
    remote.expect("submit", remote.accept, remote.accept)
    assert outcomes(jobs, store, platforms, heard) == [None, None]
    submitted = remote.asked("submit")
    assert len(submitted) == 2
    for words in (["--foo", "3", "--sleep", "0"], ["--foo", "3", "--sleep", "1"]):
        assert {"image": AT_HERE, "words": words} in submitted


def test_images_are_published_before_the_first_job_is_submitted(
    store: Store, remote: FakeService, platforms: Platforms, heard: HeardReporter
) -> None:
    one, two = the_jobs(store)
    remote.expect("push", Pushed.take, Pushed.take)
    remote.expect("submit", remote.accept, remote.accept)
    outcomes((one, replace(two, pattern=replace(two.pattern, details=THERE))), store, platforms, heard)
    assert [method for method, _ in remote.calls] == ["push", "push", "submit", "submit"]


def test_an_image_that_cannot_be_brought_is_told_for_each_job_and_tried_once(
    store: Store, remote: FakeService, platforms: Platforms, heard: HeardReporter
) -> None:
    remote.expect("push", Pushed.refuse)
    assert outcomes(the_jobs(store), store, platforms, heard) == ["fake-registry-full"] * 2


def test_a_job_whose_image_could_not_be_brought_is_not_written_down(
    store: Store, remote: FakeService, platforms: Platforms, heard: HeardReporter
) -> None:
    remote.expect("push", Pushed.refuse)
    outcomes(the_jobs(store), store, platforms, heard)
    assert submissions(store) == []


def test_an_image_that_cannot_be_brought_to_one_place_runs_in_the_other(
    store: Store, remote: FakeService, platforms: Platforms, heard: HeardReporter
) -> None:
    one, two = the_jobs(store)
    remote.expect("push", Pushed.refuse, Pushed.take)
    remote.expect("submit", remote.accept)
    moved = replace(two, pattern=replace(two.pattern, details=THERE))
    assert outcomes((one, moved), store, platforms, heard) == ["fake-registry-full", None]


def the_jobs(store: Store) -> tuple[PlannedJob, ...]:
    """Two failed jobs of one container spec and one place."""
    group = add_group(store, JobStatus.FAILED, JobStatus.FAILED)
    return tuple(PlannedJob(each, each.latest, None) for each in group.experiments if each.latest)


def outcomes(
    jobs: tuple[PlannedJob, ...], store: Store, platforms: Platforms, heard: HeardReporter
) -> list[str | None]:
    """Re-run the jobs, and tell the id of each one's error."""
    plan = Plan("g", jobs, (PlannedImage(jobs[0].experiment.container, BUILT, len(jobs)),), ())
    ended = resubmit(plan, {1: IMAGE}, platforms, Submitter(store, platforms, heard, "totoro"))
    return [outcome.error.id if outcome.error else None for outcome in ended]
