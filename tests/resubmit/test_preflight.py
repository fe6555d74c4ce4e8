"""The checks of planned jobs: a problem belongs to its job, or to the jobs that need what it is about."""

from __future__ import annotations

from pathlib import Path

import pytest

from caliban.errors import CalibanError, ImageError, PlatformError
from caliban.images.spec import BuildSpec, ImageSpec
from caliban.platforms.base import ServiceRetiredError
from caliban.platforms.docker.job_spec import new_job_spec
from caliban.platforms.registry import Platforms
from caliban.records import ContainerRecord, ExperimentRecord, JobRecord, JsonObject, PlatformId
from caliban.resubmit.plan import PlannedJob
from caliban.resubmit.preflight import check_jobs, plan_jobs, with_migration_hint
from caliban.resubmit.selection import Choice, select
from caliban.submission.setup import make_platforms
from tests.builders import BUILD, CPU_SPEC, IMAGE, a_group, a_job, an_experiment, build_for
from tests.fake_service import FakeDestination, FakeService
from tests.fakes import FakeEngine, RecordingReporter

UNREACHABLE = PlatformError("fake-unreachable", "cannot reach the fake platform")


@pytest.fixture
def platforms(reporter: RecordingReporter, tmp_path: Path) -> Platforms:
    """The platforms of a machine where no Docker Engine runs."""
    return make_platforms({"DOCKER_HOST": "unix:///nonexistent/sock"}, Path("/nowhere"), reporter)


def planned(*experiments: ExperimentRecord) -> list[PlannedJob]:
    return plan_jobs(select(a_group(*experiments), Choice(all_jobs=True), {}).selected)


def in_container(id: int, number: int, spec: JsonObject) -> ExperimentRecord:
    return an_experiment(number, a_job(number), container=ContainerRecord(id, spec))


def a_planned_job(job: JobRecord, source: BuildSpec | ImageSpec = BUILD) -> PlannedJob:
    return PlannedJob(an_experiment(job.id, job), job, source)


def local_job(id: int) -> JobRecord:
    return a_job(id, platform="LOCAL", spec=new_job_spec(IMAGE, [], docker_run_args=(), gpu=False))


def problems(jobs: list[PlannedJob], platforms: Platforms, *, connect: bool = True) -> list[str | None]:
    return [job.problem.id if job.problem else None for job in check_jobs(jobs, platforms, connect=connect)]


def test_an_image_is_built_from_the_directory_as_it_is_now(tmp_path: Path) -> None:
    (tmp_path / "cpu.py").write_text("")
    (tmp_path / ".calibanconfig.json").write_text('{"registry": "lab.example.com/totoro"}')
    [job] = planned(in_container(1, 1, {**CPU_SPEC, "build_path": str(tmp_path)}))
    assert isinstance(job.source, BuildSpec)
    assert job.source.config.registry == "lab.example.com/totoro"


def test_an_existing_image_is_used_as_it_is() -> None:
    [job] = planned(in_container(1, 1, {"image_id": "lab:1"}))
    assert (job.source, job.problem) == (ImageSpec("lab:1"), None)


def test_jobs_of_one_container_spec_have_the_same_source() -> None:
    experiments = [in_container(container, 10 + container, {"image_id": f"lab:{container}"}) for container in (1, 2)]
    jobs = planned(*experiments, in_container(1, 20, {"image_id": "lab:1"}))
    assert [job.source for job in jobs] == [ImageSpec("lab:1"), ImageSpec("lab:2"), ImageSpec("lab:1")]


def test_a_container_spec_that_cannot_be_built_is_the_problem_of_its_jobs() -> None:
    missing = in_container(1, 1, {**CPU_SPEC, "build_path": "/nowhere"})
    malformed = in_container(2, 2, {"surprise": 1})
    jobs = planned(missing, malformed, in_container(3, 3, {"image_id": "lab:1"}))
    assert [job.problem and job.problem.id for job in jobs] == ["build-folder-gone", "malformed-container-spec", None]
    assert isinstance(jobs[0].problem, ImageError)


@pytest.mark.parametrize("connect", [False, True])
def test_a_job_with_a_problem_is_not_checked_further(connect: bool, platforms: Platforms, service: FakeService) -> None:
    jobs = planned(in_container(1, 1, {"surprise": 1}))
    assert check_jobs(jobs, platforms, connect=connect) == jobs
    assert service.connections == []


@pytest.mark.parametrize("connect", [False, True])
def test_jobs_that_can_be_submitted_have_no_problem(connect: bool, platforms: Platforms, service: FakeService) -> None:
    assert problems([a_planned_job(a_job(1))], platforms, connect=connect) == [None]


@pytest.mark.parametrize("connect", [False, True])
def test_a_malformed_job_spec_is_the_problem_of_its_job(
    connect: bool, platforms: Platforms, service: FakeService
) -> None:
    jobs = [a_planned_job(a_job(1, spec={"surprise": 1})), a_planned_job(a_job(2))]
    assert problems(jobs, platforms, connect=connect) == ["malformed-job-spec", None]


@pytest.mark.parametrize("connect", [False, True])
def test_an_unknown_platform_is_the_problem_of_its_jobs(
    connect: bool, platforms: Platforms, service: FakeService, unknown_platform: PlatformId
) -> None:
    jobs = [a_planned_job(a_job(1, platform=unknown_platform)), a_planned_job(a_job(2))]
    assert problems(jobs, platforms, connect=connect) == ["platform-not-supported", None]


def test_checked_jobs_have_a_route(platforms: Platforms, service: FakeService) -> None:
    [job] = check_jobs([a_planned_job(a_job(1, details={"zone": "zone-b"}))], platforms, connect=True)
    assert job.route is not None
    assert job.route.destination == FakeDestination("zone-b")


def test_without_a_connection_jobs_have_no_route(platforms: Platforms, service: FakeService) -> None:
    [job] = check_jobs([a_planned_job(a_job(1))], platforms, connect=False)
    assert job.route is None


def test_a_destination_is_connected_to_once_for_all_of_its_jobs(platforms: Platforms, service: FakeService) -> None:
    problems([a_planned_job(a_job(number)) for number in range(3)], platforms)
    assert service.connections == [FakeDestination()]


def test_an_unreachable_destination_is_connected_to_once(platforms: Platforms, service: FakeService) -> None:
    service.connection_error = UNREACHABLE
    problems([a_planned_job(a_job(number)) for number in range(3)], platforms)
    assert service.connections == [FakeDestination()]


def test_a_dry_run_connects_to_nothing(platforms: Platforms, remote: FakeService) -> None:
    remote.connection_error = UNREACHABLE
    jobs = [a_planned_job(a_job(1)), a_planned_job(local_job(2))]
    assert problems(jobs, platforms, connect=False) == [None, None]
    assert (remote.connections, remote.registry_checks) == ([], [])


def test_a_dry_run_checks_the_name_of_the_registry(platforms: Platforms, remote: FakeService) -> None:
    jobs = [a_planned_job(a_job(1), build_for("lab"))]
    assert problems(jobs, platforms, connect=False) == ["fake-registry-malformed"]


def test_a_platform_without_selected_jobs_is_not_connected_to(
    platforms: Platforms, service: FakeService, fake_engine: FakeEngine
) -> None:
    service.connection_error = UNREACHABLE
    assert problems([a_planned_job(local_job(1))], platforms) == [None]
    assert service.connections == []


def test_an_unreachable_platform_is_the_problem_of_its_jobs_only(
    platforms: Platforms, service: FakeService, fake_engine: FakeEngine
) -> None:
    service.connection_error = UNREACHABLE
    jobs = [a_planned_job(job) for job in (a_job(1), local_job(2), a_job(3))]
    assert problems(jobs, platforms) == ["fake-unreachable", None, "fake-unreachable"]


def test_an_unreachable_engine_is_the_problem_of_local_jobs_only(platforms: Platforms, service: FakeService) -> None:
    jobs = [a_planned_job(a_job(1)), a_planned_job(local_job(2))]
    assert problems(jobs, platforms) == [None, "docker-unreachable"]


def test_a_registry_is_checked_once_for_all_jobs_of_a_destination(platforms: Platforms, remote: FakeService) -> None:
    problems(
        [a_planned_job(a_job(1)), a_planned_job(a_job(2)), a_planned_job(a_job(3, details={"zone": "zone-b"}))],
        platforms,
    )
    assert remote.registry_checks == [(None, "zone-a"), (None, "zone-b")]


def test_a_registry_that_accepts_no_images_is_the_problem_of_jobs_whose_image_is_built(
    platforms: Platforms, remote: FakeService
) -> None:
    remote.registry_error = ImageError("repository-missing", "the repository does not exist")
    jobs = [a_planned_job(a_job(1)), a_planned_job(a_job(2), ImageSpec("lab:1"))]
    assert problems(jobs, platforms) == ["repository-missing", None]


def retired(service: str, message: str) -> ServiceRetiredError:
    return ServiceRetiredError(service, message, cause="HTTP 410", successor="vertex", is_certain=True)


def test_one_problem_stands_for_all_retired_services_and_names_the_command_that_migrates() -> None:
    found: list[CalibanError | None] = [retired("service-gone", "A"), None, UNREACHABLE, retired("service-gone", "B")]
    jobs = [PlannedJob(an_experiment(n), a_job(n), BUILD, problem) for n, problem in enumerate(found)]
    first, second, third, fourth = (job.problem for job in with_migration_hint(jobs, "a group"))
    assert (second, third) == (None, UNREACHABLE)
    assert first is fourth
    assert first is not None
    assert (first.message, first.cause) == ("A", "HTTP 410")
    assert first.hint is not None
    assert first.hint.endswith("caliban resubmit --xgroup 'a group' --platform vertex")
