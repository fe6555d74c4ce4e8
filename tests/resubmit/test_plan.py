from __future__ import annotations

from pathlib import Path

import pytest

from caliban.config import ProjectConfig
from caliban.errors import ImageError, PlatformError
from caliban.images.package import Package
from caliban.images.spec import BuildSpec, ImageSpec
from caliban.records import ContainerRecord, JobMode, JobStatus
from caliban.resubmit import report
from caliban.resubmit.plan import ImageSource, Plan, make_plan
from caliban.resubmit.selection import select
from tests.builders import IMAGE, a_group, a_job, an_experiment

HOME = Path("/home/totoro")
BUILD = BuildSpec(HOME / "cpu", Package(("python",), ".", "cpu.py"), job_mode=JobMode.CPU, config=ProjectConfig())
BY_NAME = ContainerRecord(2, {"image_id": "lab:1"})
GONE = ImageError("build-folder-gone", "the folder is gone")
MALFORMED = PlatformError("malformed-job-spec", "the job is malformed")


def a_plan(
    sources: dict[int, ImageSource] | None = None,
    problems: dict[int, PlatformError] | None = None,
    *,
    all_jobs: bool = False,
    in_progress: dict[int, str] | None = None,
) -> Plan:
    """Two failed experiments of a folder, one of an image, one without a job, one that succeeded."""
    group = a_group(
        an_experiment(1, a_job(11), kwargs={"sleep": 1}),
        an_experiment(2, a_job(12), kwargs={"sleep": 2}),
        an_experiment(3, a_job(13), kwargs={"sleep": 3}, container=BY_NAME),
        an_experiment(4, kwargs={"sleep": 4}),
        an_experiment(5, a_job(15, JobStatus.SUCCEEDED), kwargs={"sleep": 5}),
    )
    selection = select(group, all_jobs=all_jobs, in_progress=in_progress or {})
    return make_plan("resubmit_test", selection, sources or {1: BUILD, 2: ImageSpec("lab:1")}, problems or {})


def test_every_chosen_experiment_is_a_planned_job() -> None:
    assert [job.experiment.id for job in a_plan().jobs] == [1, 2, 3, 4]


def test_each_container_spec_is_one_image_however_many_jobs_run_it() -> None:
    assert [(image.container.id, image.jobs) for image in a_plan().images] == [(1, 3), (2, 1)]


def test_a_bad_container_spec_is_the_problem_of_its_jobs_alone() -> None:
    plan = a_plan({1: GONE, 2: ImageSpec("lab:1")})
    assert [job.problem for job in plan.jobs] == [GONE, GONE, None, GONE]


def test_a_bad_job_is_the_problem_of_its_experiment_alone() -> None:
    plan = a_plan(problems={2: MALFORMED})
    assert [job.problem for job in plan.jobs] == [None, MALFORMED, None, None]


def test_a_job_of_a_bad_container_spec_is_told_of_that_first() -> None:
    plan = a_plan({1: GONE, 2: ImageSpec("lab:1")}, {2: MALFORMED})
    assert plan.jobs[1].problem is GONE


def test_jobs_that_nothing_is_in_the_way_of_are_ready() -> None:
    assert [job.experiment.id for job in a_plan(problems={2: MALFORMED}).ready] == [1, 3, 4]


def test_only_images_of_ready_jobs_are_needed() -> None:
    plan = a_plan(problems={3: MALFORMED})
    assert [image.container.id for image in plan.needed_images] == [1]


def test_an_image_is_needed_as_long_as_one_of_its_jobs_is_ready() -> None:
    plan = a_plan(problems={1: MALFORMED, 2: MALFORMED})
    assert [image.container.id for image in plan.needed_images] == [1, 2]


@pytest.mark.parametrize(
    ("sources", "builds"),
    [
        ({1: BUILD, 2: ImageSpec("lab:1")}, True),
        ({1: GONE, 2: ImageSpec("lab:1")}, False),
        ({1: ImageSpec("lab:2"), 2: ImageSpec("lab:1")}, False),
    ],
)
def test_a_plan_builds_when_a_ready_job_needs_it(sources: dict[int, ImageSource], builds: bool) -> None:
    assert a_plan(sources).builds is builds


def test_a_plan_without_a_ready_job_builds_nothing() -> None:
    assert not a_plan(problems={1: MALFORMED, 2: MALFORMED, 3: MALFORMED, 4: MALFORMED}).builds


def test_jobs_are_listed_in_the_words_of_the_document() -> None:
    assert list(report.job_lines(a_plan()))[:3] == [
        "the following jobs would be resubmitted:",
        "cpu.py --foo 3 --sleep 1",
        f"  job 11       FAILED        TEST 2020-05-29 10:53:40 container: {IMAGE}",
    ]


def test_a_job_that_never_was_is_listed_with_the_one_that_it_follows() -> None:
    assert list(report.job_lines(a_plan()))[-2:] == [
        "cpu.py --foo 3 --sleep 4",
        "  no job yet; it would run as job 15 did, on TEST",
    ]


def test_images_are_listed_with_where_they_come_from() -> None:
    assert list(report.image_lines(a_plan(), HOME)) == [
        "container images:",
        "  docker config 1, for 3 jobs: would be rebuilt from ~/cpu (job_mode: CPU)",
        "  docker config 2, for 1 job: lab:1 as it is: it was given by name, so there is nothing to rebuild",
    ]


def test_an_image_that_is_not_to_be_had_is_listed_with_the_reason() -> None:
    lines = list(report.image_lines(a_plan({1: GONE, 2: ImageSpec("lab:1")}), HOME))
    assert lines[1] == "  docker config 1, for 3 jobs: the folder is gone"


def test_what_is_left_out_is_listed_with_the_reason() -> None:
    plan = a_plan(in_progress={4: "being submitted by mei"})
    assert list(report.skipped_lines(plan)) == [
        "left out:",
        "  cpu.py --foo 3 --sleep 4 (experiment 4): being submitted by mei",
        "  cpu.py --foo 3 --sleep 5 (experiment 5, job 15): succeeded",
    ]


def nothing(*states: JobStatus, all_jobs: bool = False, in_progress: dict[int, str] | None = None) -> str:
    group = a_group(*(an_experiment(number, a_job(number, status)) for number, status in enumerate(states)))
    selection = select(group, all_jobs=all_jobs, in_progress=in_progress or {})
    return report.nothing_line(make_plan("g", selection, {}, {}), all_jobs=all_jobs)


def test_an_empty_group_is_told() -> None:
    assert nothing() == "nothing to resubmit: the experiment group g has no experiments"


def test_why_nothing_is_resubmitted_is_counted() -> None:
    assert nothing(JobStatus.SUCCEEDED, JobStatus.RUNNING, JobStatus.SUCCEEDED) == (
        "nothing to resubmit in the experiment group g: 2 succeeded; 1 not finished (running) "
        "(--all_jobs resubmits jobs whatever their state)"
    )


@pytest.mark.parametrize("all_jobs", [False, True])
def test_all_jobs_is_suggested_to_those_who_did_not_ask_for_it(all_jobs: bool) -> None:
    line = nothing(JobStatus.FAILED, all_jobs=all_jobs, in_progress={0: "being submitted by mei"})
    assert ("--all_jobs" in line) is not all_jobs


def test_a_group_that_somebody_else_resubmits_is_told_so() -> None:
    line = nothing(JobStatus.FAILED, all_jobs=True, in_progress={0: "being submitted by mei"})
    assert line == "nothing to resubmit in the experiment group g: 1 being submitted by mei"
