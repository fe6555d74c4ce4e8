from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from caliban.errors import CalibanError, ImageError, PlatformError
from caliban.images.dockerfile import BuildUser
from caliban.images.spec import BuildSpec, ImageSpec, parse_container_spec
from caliban.platforms.registry import Platforms
from caliban.records import ContainerRecord, ExperimentRecord, ImageRef, JobStatus
from caliban.resubmit.execution import rebuild, resubmit
from caliban.resubmit.plan import ImageSource, Plan, PlannedImage, PlannedJob
from caliban.store.database import Store
from caliban.submission.setup import make_platforms
from caliban.submission.submit import Submitter
from tests.builders import CONTAINER, CPU_SPEC, IMAGE, OTHER_IMAGE, a_job, add_group, an_experiment, submissions
from tests.fakes import FakeEngine, FakeService, HeardReporter

USER = BuildUser(1000, 1000, "totoro")
FAILED = ImageError("build-step-failed", "step 3 failed")
MALFORMED = PlatformError("malformed-job-spec", "malformed")
SIBLING = a_job(99, details={"place": "there"})


@pytest.fixture
def platforms(heard: HeardReporter) -> Platforms:
    return make_platforms({}, Path("/nowhere"), heard)


@pytest.fixture
def build_spec() -> BuildSpec:
    spec = parse_container_spec(CPU_SPEC)
    assert isinstance(spec, BuildSpec)
    return spec


def a_plan(
    sources: Mapping[int, ImageSource],
    experiments: list[ExperimentRecord],
    problems: dict[int, CalibanError] | None = None,
) -> Plan:
    jobs = tuple(
        PlannedJob(experiment, experiment.latest or SIBLING, (problems or {}).get(experiment.id))
        for experiment in experiments
    )
    images = tuple(PlannedImage(ContainerRecord(number, {}), source, 1) for number, source in sources.items())
    return Plan("g", jobs, images, ())


def in_container(id: int, number: int) -> ExperimentRecord:
    return an_experiment(number, a_job(number), container=ContainerRecord(id, CPU_SPEC))


def test_one_image_is_built_for_each_container_spec(
    build_spec: BuildSpec, fake_engine: FakeEngine, platforms: Platforms, heard: HeardReporter
) -> None:
    other = replace(build_spec, build_path=Path("/srv/gpu"))
    plan = a_plan({1: build_spec, 2: other}, [in_container(1, 1), in_container(1, 2), in_container(2, 3)])
    fake_engine.expect(IMAGE, OTHER_IMAGE)
    assert rebuild(plan, platforms, heard, USER) == {1: IMAGE, 2: OTHER_IMAGE}
    assert (fake_engine.built, heard.said) == ([build_spec, other], ["rebuilding containers..."])


def test_an_image_that_was_given_by_name_is_not_rebuilt(platforms: Platforms, heard: HeardReporter) -> None:
    plan = a_plan({1: ImageSpec("lab:1")}, [in_container(1, 1)])
    assert (rebuild(plan, platforms, heard, USER), heard.said) == ({1: "lab:1"}, [])


def test_an_image_that_no_ready_job_needs_is_not_built(
    build_spec: BuildSpec, platforms: Platforms, heard: HeardReporter
) -> None:
    plan = a_plan({1: build_spec}, [in_container(1, 1)], {1: MALFORMED})
    assert rebuild(plan, platforms, heard, USER) == {}


def test_a_build_that_fails_does_not_keep_the_next_from_being_made(
    build_spec: BuildSpec, fake_engine: FakeEngine, platforms: Platforms, heard: HeardReporter
) -> None:
    plan = a_plan({1: build_spec, 2: build_spec}, [in_container(1, 1), in_container(2, 2)])
    fake_engine.expect(FAILED, IMAGE)
    assert rebuild(plan, platforms, heard, USER) == {1: FAILED, 2: IMAGE}


@pytest.fixture
def submitter(store: Store, platforms: Platforms, heard: HeardReporter) -> Submitter:
    return Submitter(store, platforms, heard, "totoro")


def run(
    experiments: list[ExperimentRecord],
    images: dict[int, ImageRef | CalibanError],
    platforms: Platforms,
    submitter: Submitter,
    problems: dict[int, CalibanError] | None = None,
) -> list[tuple[int, str | None]]:
    sources: dict[int, ImageSource] = {number: ImageSpec("lab:1") for number in images}
    outcomes = resubmit(a_plan(sources, experiments, problems), images, platforms, submitter)
    return [(outcome.experiment.id, outcome.error.id if outcome.error else None) for outcome in outcomes]


def test_a_job_runs_again_with_its_words_and_the_new_image(
    store: Store, service: FakeService, platforms: Platforms, submitter: Submitter
) -> None:
    [experiment] = add_group(store, JobStatus.FAILED).experiments
    service.expect("submit", service.accept)
    assert run([experiment], {1: OTHER_IMAGE}, platforms, submitter) == [(1, None)]
    assert service.asked("submit") == [{"image": OTHER_IMAGE, "words": list(experiment.arguments)}]


def test_an_experiment_without_a_job_runs_as_its_sibling_with_its_own_words(
    store: Store, service: FakeService, platforms: Platforms, submitter: Submitter
) -> None:
    [experiment] = add_group(store, None).experiments
    service.expect("submit", service.accept)
    run([experiment], {1: OTHER_IMAGE}, platforms, submitter)
    assert service.asked("submit") == [{"image": OTHER_IMAGE, "words": ["--foo", "3", "--sleep", "0"]}]
    assert submissions(store)[0].resubmits is None


def test_an_experiment_without_a_job_goes_where_its_sibling_went(
    store: Store, service: FakeService, platforms: Platforms, submitter: Submitter
) -> None:
    service.expect("submit", service.accept)
    run(list(add_group(store, None).experiments), {1: OTHER_IMAGE}, platforms, submitter)
    assert [row.target for row in submissions(store)] == [SIBLING.details]


def test_a_job_goes_where_it_went_before(
    store: Store, service: FakeService, platforms: Platforms, submitter: Submitter
) -> None:
    [experiment] = add_group(store, JobStatus.FAILED).experiments
    assert experiment.latest is not None
    moved = replace(experiment, jobs=(replace(experiment.latest, details={"place": "far away"}),))
    service.expect("submit", service.accept)
    run([moved], {1: OTHER_IMAGE}, platforms, submitter)
    assert [row.target for row in submissions(store)] == [{"place": "far away"}]


def test_jobs_whose_image_failed_are_told_and_the_others_are_submitted(
    store: Store, service: FakeService, platforms: Platforms, submitter: Submitter
) -> None:
    good, bad = add_group(store, JobStatus.FAILED, JobStatus.FAILED).experiments
    bad = replace(bad, container=replace(CONTAINER, id=2))
    service.expect("submit", service.accept)
    outcomes = run([bad, good], {1: IMAGE, 2: FAILED}, platforms, submitter)
    assert outcomes == [(2, "build-step-failed"), (1, None)]


def test_jobs_with_a_problem_are_told_and_the_others_are_submitted(
    store: Store, service: FakeService, platforms: Platforms, submitter: Submitter
) -> None:
    good, bad = add_group(store, JobStatus.FAILED, JobStatus.FAILED).experiments
    service.expect("submit", service.accept)
    assert run([good, bad], {1: IMAGE}, platforms, submitter, {2: MALFORMED}) == [
        (2, "malformed-job-spec"),
        (1, None),
    ]
