from __future__ import annotations

from dataclasses import replace

import pytest

from caliban.attempts import FirstAttempt, Rerun
from caliban.errors import CalibanError, ImageError, PlatformError
from caliban.images.spec import ImageSpec
from caliban.platforms.registry import Platforms
from caliban.records import ContainerRecord
from caliban.resubmit.plan import Plan, PlannedJob, ready_job
from caliban.submission.preflight import ImageSource, Route
from tests.builders import BUILD, OTHER_IMAGE, a_job, an_experiment
from tests.fake_service import FakeDestination, FakeService

LAB = ImageSpec("lab:1")
MISSING = ImageError("build-folder-gone", "directory not found")
MALFORMED = PlatformError("malformed-job-spec", "the job is malformed")


def a_plan(
    problems: dict[int, CalibanError] | None = None, *, first: ImageSource = BUILD, second: ImageSource = LAB
) -> Plan:
    """Return jobs 1, 2 and 4 of container spec 1, the last of an experiment without a job, and 3 of spec 2."""
    found = problems or {}
    containers = {number: ContainerRecord(number, {}) for number in (1, 2)}

    def job(number: int, container: int, source: ImageSource, *, has_job: bool = True) -> PlannedJob:
        jobs = (a_job(10 + number),) if has_job else ()
        experiment = an_experiment(number, *jobs, kwargs={"sleep": number}, container=containers[container])
        return PlannedJob(experiment, jobs[0] if jobs else a_job(15), source, found.get(number))

    return Plan(
        "resubmit_test",
        (job(1, 1, first), job(2, 1, first), job(3, 2, second), job(4, 1, first, has_job=False)),
        (),
    )


def test_each_container_spec_has_one_image_for_all_of_its_jobs(service: FakeService) -> None:
    assert [(image.container.id, image.jobs) for image in a_plan().images] == [(1, 3), (2, 1)]


def test_an_image_has_the_reason_why_it_cannot_be_built(service: FakeService) -> None:
    assert [image.source for image in a_plan(first=MISSING).images] == [MISSING, LAB]


def test_jobs_without_a_problem_are_ready(service: FakeService) -> None:
    assert [job.experiment.id for job in a_plan({2: MALFORMED}).ready] == [1, 3, 4]


@pytest.mark.parametrize(
    ("first", "problems", "builds"),
    [
        (BUILD, {}, True),
        (BUILD, {1: MALFORMED, 2: MALFORMED}, True),
        (BUILD, {1: MALFORMED, 2: MALFORMED, 4: MALFORMED}, False),
        (ImageSpec("lab:2"), {}, False),
        (MISSING, {1: MISSING, 2: MISSING, 4: MISSING}, False),
    ],
)
def test_a_plan_builds_images_when_a_ready_job_needs_one(
    first: ImageSource, problems: dict[int, CalibanError], builds: bool, service: FakeService
) -> None:
    assert a_plan(problems, first=first).builds_images is builds


def test_jobs_that_need_no_image_build_none(imageless: FakeService) -> None:
    assert not a_plan().builds_images


def test_a_job_on_another_platform_than_the_latest_attempt_is_migrated() -> None:
    one, *_, never_run = a_plan().jobs
    assert not one.is_migrated
    assert not never_run.is_migrated
    assert replace(one, template=replace(one.template, platform="VERTEX")).is_migrated


def routed(job: PlannedJob, platforms: Platforms) -> PlannedJob:
    return replace(job, route=Route(platforms.get("TEST"), FakeDestination("zone-b"), None))


def test_a_job_is_run_again_with_its_arguments_and_the_new_image(platforms: Platforms, service: FakeService) -> None:
    spec = {"image": "old", "arguments": ["--recorded"]}
    job = a_plan().jobs[0]
    ready = ready_job(routed(replace(job, template=replace(job.template, spec=spec)), platforms))
    assert (ready.kind, ready.make_spec(OTHER_IMAGE)) == (
        Rerun(11),
        {"image": OTHER_IMAGE, "arguments": ["--recorded"]},
    )


def test_an_experiment_without_a_job_is_run_like_its_template_with_its_own_arguments(
    platforms: Platforms, service: FakeService
) -> None:
    ready = ready_job(routed(a_plan().jobs[3], platforms))
    assert (ready.kind, ready.make_spec(OTHER_IMAGE)) == (
        FirstAttempt(),
        {"image": OTHER_IMAGE, "arguments": ["--foo", "3", "--sleep", "4"]},
    )


def test_a_job_has_the_source_and_the_route_of_its_plan(platforms: Platforms, service: FakeService) -> None:
    job = routed(a_plan().jobs[0], platforms)
    ready = ready_job(job)
    source = replace(BUILD, image_platform="linux/amd64")
    assert (ready.experiment, ready.source, ready.route) == (job.experiment, source, job.route)
