from __future__ import annotations

from pathlib import Path

import pytest

from caliban.config import ProjectConfig
from caliban.errors import CalibanError, ImageError, PlatformError
from caliban.images.package import Package
from caliban.images.spec import BuildSpec, ImageSpec
from caliban.platforms.registry import Platforms
from caliban.platforms.docker.job_spec import new_job_spec
from caliban.records import ContainerRecord, ExperimentRecord, JobMode, JobRecord, JsonObject, PlatformId
from caliban.resubmit.preflight import image_sources, job_problems
from caliban.resubmit.selection import Selection, select
from caliban.submission.setup import make_platforms
from tests.builders import CPU_SPEC, IMAGE, a_group, a_job, an_experiment
from tests.fakes import FakeEngine, FakeService, HeardReporter

UNREACHABLE = PlatformError("fake-unreachable", "the fake platform cannot be reached")


@pytest.fixture
def platforms(heard: HeardReporter, tmp_path: Path) -> Platforms:
    """Those of a machine where no Docker Engine runs."""
    return make_platforms({"DOCKER_HOST": f"unix://{tmp_path}/none.sock"}, Path("/nowhere"), heard)


def chosen(*experiments: ExperimentRecord) -> Selection:
    return select(a_group(*experiments), all_jobs=True, in_progress={})


def in_container(id: int, number: int, spec: JsonObject) -> ExperimentRecord:
    return an_experiment(number, a_job(number), container=ContainerRecord(id, spec))


def local_job(id: int) -> JobRecord:
    return a_job(id, platform="LOCAL", spec=new_job_spec(IMAGE, [], docker_run_args=(), gpu=False))


def ids(problems: dict[int, CalibanError]) -> dict[int, str]:
    return {experiment: error.id for experiment, error in problems.items()}


def test_an_image_comes_from_the_folder_as_it_is_now(tmp_path: Path) -> None:
    (tmp_path / "cpu.py").write_text("")
    (tmp_path / ".calibanconfig.json").write_text('{"registry": "lab.example.com/totoro"}')
    source = image_sources(chosen(in_container(1, 1, {**CPU_SPEC, "build_path": str(tmp_path)})))[1]
    assert isinstance(source, BuildSpec)
    assert source.config.registry == "lab.example.com/totoro"


def test_an_image_that_was_given_by_name_is_its_own_source() -> None:
    assert image_sources(chosen(in_container(1, 1, {"image_id": "lab:1"}))) == {1: ImageSpec("lab:1")}


def test_there_is_one_source_for_each_container_spec() -> None:
    experiments = [in_container(container, 10 + container, {"image_id": f"lab:{container}"}) for container in (1, 2)]
    again = in_container(1, 20, {"image_id": "lab:1"})
    assert image_sources(chosen(*experiments, again)) == {1: ImageSpec("lab:1"), 2: ImageSpec("lab:2")}


def test_what_is_wrong_with_one_image_is_its_source_and_the_others_are_looked_at() -> None:
    gone = in_container(1, 1, {**CPU_SPEC, "build_path": "/nowhere"})
    malformed = in_container(2, 2, {"surprise": 1})
    sources = image_sources(chosen(gone, malformed, in_container(3, 3, {"image_id": "lab:1"})))
    assert [isinstance(source, CalibanError) for source in sources.values()] == [True, True, False]
    assert isinstance(sources[1], ImageError)
    assert sources[1].id == "build-folder-gone"


@pytest.mark.parametrize("connect", [False, True])
def test_jobs_that_can_be_submitted_again_have_no_problem(
    connect: bool, platforms: Platforms, service: FakeService
) -> None:
    assert job_problems(chosen(an_experiment(1, a_job(1))), {}, platforms, connect=connect) == {}


@pytest.mark.parametrize("connect", [False, True])
def test_a_malformed_job_is_the_problem_of_its_experiment_alone(
    connect: bool, platforms: Platforms, service: FakeService
) -> None:
    selection = chosen(an_experiment(1, a_job(1, spec={"surprise": 1})), an_experiment(2, a_job(2)))
    assert ids(job_problems(selection, {}, platforms, connect=connect)) == {1: "malformed-job-spec"}


@pytest.mark.parametrize("connect", [False, True])
def test_a_platform_of_a_later_version_is_the_problem_of_its_jobs(connect: bool, platforms: Platforms) -> None:
    selection = chosen(an_experiment(1, a_job(1, platform="TEST")))
    assert ids(job_problems(selection, {}, platforms, connect=connect)) == {1: "platform-not-supported"}


def test_a_platform_is_connected_to_once_however_many_jobs_it_has(platforms: Platforms, service: FakeService) -> None:
    job_problems(chosen(*[an_experiment(number, a_job(number)) for number in range(3)]), {}, platforms, connect=True)
    assert service.connections == 1


def test_a_platform_that_cannot_be_reached_is_asked_once_too(platforms: Platforms, service: FakeService) -> None:
    service.out_of_reach = UNREACHABLE
    job_problems(chosen(*[an_experiment(number, a_job(number)) for number in range(3)]), {}, platforms, connect=True)
    assert service.connections == 1


def test_a_dry_run_connects_to_nothing(platforms: Platforms, service: FakeService) -> None:
    service.out_of_reach = UNREACHABLE
    selection = chosen(an_experiment(1, a_job(1)), an_experiment(2, local_job(2)))
    assert (job_problems(selection, {}, platforms, connect=False), service.connections) == ({}, 0)


def test_a_platform_of_which_no_job_is_chosen_is_not_connected_to(
    platforms: Platforms, service: FakeService, fake_engine: FakeEngine
) -> None:
    service.out_of_reach = UNREACHABLE
    assert job_problems(chosen(an_experiment(1, local_job(1))), {}, platforms, connect=True) == {}


def test_a_platform_that_cannot_be_reached_is_the_problem_of_its_jobs_only(
    platforms: Platforms, service: FakeService, fake_engine: FakeEngine
) -> None:
    service.out_of_reach = UNREACHABLE
    jobs = [a_job(1), local_job(2), a_job(3)]
    selection = chosen(*[an_experiment(job.id, job) for job in jobs])
    assert job_problems(selection, {}, platforms, connect=True) == {1: UNREACHABLE, 3: UNREACHABLE}


def test_an_engine_out_of_reach_is_the_problem_of_local_jobs_only(platforms: Platforms, service: FakeService) -> None:
    selection = chosen(an_experiment(1, a_job(1)), an_experiment(2, local_job(2)))
    assert ids(job_problems(selection, {}, platforms, connect=True)) == {2: "docker-unreachable"}


def built(registry: str | None) -> BuildSpec:
    config = ProjectConfig(registry=registry)
    return BuildSpec(Path("/srv/cpu"), Package(("python",), ".", "cpu.py"), job_mode=JobMode.CPU, config=config)


def test_a_registry_is_asked_once_for_each_place_however_many_jobs_go_there(
    platforms: Platforms, service: FakeService
) -> None:
    jobs = [a_job(1), a_job(2), a_job(3, details={"place": "there"})]
    selection = chosen(*[an_experiment(job.id, job, container=ContainerRecord(1, {})) for job in jobs])
    job_problems(selection, {1: built("lab.example.com/totoro")}, platforms, connect=True)
    assert service.registries == [("lab.example.com/totoro", "here"), ("lab.example.com/totoro", "there")]


def test_every_registry_is_asked(platforms: Platforms, service: FakeService) -> None:
    selection = chosen(in_container(1, 1, {}), in_container(2, 2, {}))
    job_problems(selection, {1: built(None), 2: built("lab.example.com/totoro")}, platforms, connect=True)
    assert service.registries == [(None, "here"), ("lab.example.com/totoro", "here")]


def test_a_registry_that_takes_no_images_is_the_problem_of_those_that_would_be_built(
    platforms: Platforms, service: FakeService
) -> None:
    service.closed_registry = ImageError("repository-missing", "there is no such repository")
    selection = chosen(in_container(1, 1, {}), in_container(2, 2, {}))
    problems = job_problems(selection, {1: built(None), 2: ImageSpec("lab:1")}, platforms, connect=True)
    assert problems == {1: service.closed_registry}


def test_a_dry_run_asks_no_registry(platforms: Platforms, service: FakeService) -> None:
    job_problems(chosen(in_container(1, 1, {})), {1: built(None)}, platforms, connect=False)
    assert service.registries == []
