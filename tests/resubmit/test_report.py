from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from caliban.errors import ImageError
from caliban.images.spec import ImageSpec
from caliban.records import ContainerRecord, JobStatus
from caliban.resubmit import report
from caliban.resubmit.plan import Plan, PlannedJob
from caliban.resubmit.selection import Choice, select
from caliban.submission.preflight import ImageSource
from tests.builders import BUILD, SHORT_IMAGE, a_group, a_job, an_experiment
from tests.fake_service import FakeService

HOME = Path("/home/totoro")
SOURCES: dict[int, ImageSource] = {1: replace(BUILD, build_path=HOME / "cpu"), 2: ImageSpec("lab:1")}
MISSING = ImageError("build-folder-gone", "directory not found")


def a_plan(sources: dict[int, ImageSource] = SOURCES, *, in_progress: dict[int, str] | None = None) -> Plan:
    """Return two failed experiments to build, one of an existing image, one without a job, one that succeeded."""
    existing = ContainerRecord(2, {"image_id": "lab:1"})
    group = a_group(
        an_experiment(1, a_job(11), kwargs={"sleep": 1}),
        an_experiment(2, a_job(12), kwargs={"sleep": 2}),
        an_experiment(3, a_job(13), kwargs={"sleep": 3}, container=existing),
        an_experiment(4, kwargs={"sleep": 4}),
        an_experiment(5, a_job(15, JobStatus.SUCCEEDED), kwargs={"sleep": 5}),
    )
    selection = select(group, Choice(all_jobs=False), in_progress or {})
    jobs = [
        PlannedJob(each.experiment, each.template, sources[each.experiment.container.id]) for each in selection.selected
    ]
    return Plan("resubmit_test", tuple(jobs), selection.skipped)


def test_jobs_are_listed_as_in_the_document() -> None:
    assert list(report.job_lines(a_plan()))[:3] == [
        "the following jobs would be resubmitted:",
        "cpu.py --foo 3 --sleep 1",
        f"  job 11       FAILED        TEST 2020-05-29 10:53:40 container: {SHORT_IMAGE}",
    ]


def test_an_experiment_without_a_job_is_listed_with_the_job_whose_settings_it_takes() -> None:
    assert list(report.job_lines(a_plan()))[-2:] == [
        "cpu.py --foo 3 --sleep 4",
        "  never run; would run on TEST with the settings of job 15",
    ]


def test_images_are_listed_with_their_source(service: FakeService) -> None:
    assert list(report.image_lines(a_plan(), HOME)) == [
        "container images:",
        "  docker config 1, for 3 jobs: would be rebuilt from ~/cpu (job_mode: CPU)",
        "  docker config 2, for 1 job: lab:1, not rebuilt: the experiments name an existing image",
    ]


def test_an_image_that_cannot_be_built_is_listed_with_the_reason(service: FakeService) -> None:
    lines = list(report.image_lines(a_plan({**SOURCES, 1: MISSING}), HOME))
    assert lines[1] == "  docker config 1, for 3 jobs: directory not found"


def test_jobs_that_need_no_image_are_listed_with_their_directory(imageless: FakeService) -> None:
    lines = list(report.image_lines(a_plan(), HOME))
    assert lines[1] == "  docker config 1, for 3 jobs: no image, would run in ~/cpu"


def test_skipped_experiments_are_listed_with_the_reason() -> None:
    plan = a_plan(in_progress={4: "being submitted by mei"})
    assert list(report.skipped_lines(plan)) == [
        "left out:",
        "  cpu.py --foo 3 --sleep 4 (experiment 4): being submitted by mei",
        "  cpu.py --foo 3 --sleep 5 (experiment 5, job 15): succeeded",
    ]


def test_dropped_settings_are_listed_once_with_the_number_of_jobs() -> None:
    plan = a_plan()
    one, two, *_ = plan.jobs
    migrated = [replace(job, template=replace(job.template, platform="VERTEX")) for job in (one, two)]
    jobs = (
        replace(migrated[0], dropped_settings=("jobDir: not supported", "network: not supported")),
        replace(migrated[1], dropped_settings=("jobDir: not supported",)),
    )
    assert list(report.migration_lines(replace(plan, jobs=jobs))) == [
        "2 jobs would be moved to VERTEX",
        "some settings would change:",
        "  jobDir: not supported (2 jobs)",
        "  network: not supported (1 job)",
    ]


def test_without_a_migration_nothing_is_listed_about_one() -> None:
    assert list(report.migration_lines(a_plan())) == []


def nothing(*states: JobStatus, all_jobs: bool = False, in_progress: dict[int, str] | None = None) -> str:
    group = a_group(*(an_experiment(number, a_job(number, status)) for number, status in enumerate(states)))
    selection = select(group, Choice(all_jobs=all_jobs), in_progress or {})
    return report.nothing_line(Plan("g", (), selection.skipped), Choice(all_jobs=all_jobs))


def test_an_empty_group_is_reported() -> None:
    assert nothing() == "nothing to resubmit: the experiment group g has no experiments"


def test_the_reasons_why_nothing_is_resubmitted_are_counted() -> None:
    assert nothing(JobStatus.SUCCEEDED, JobStatus.RUNNING, JobStatus.SUCCEEDED) == (
        "nothing to resubmit in the experiment group g: 2 succeeded; 1 not finished (running) "
        "(--all_jobs resubmits jobs regardless of their state)"
    )


def test_all_jobs_is_suggested_where_it_would_choose_more() -> None:
    assert "--all_jobs" in nothing(JobStatus.SUCCEEDED)
    assert "--all_jobs" not in nothing(JobStatus.FAILED, in_progress={0: "being submitted by mei"})
    assert "--all_jobs" not in nothing(JobStatus.FAILED, all_jobs=True, in_progress={0: "being submitted by mei"})


def test_a_group_that_another_process_resubmits_is_reported() -> None:
    line = nothing(JobStatus.FAILED, all_jobs=True, in_progress={0: "being submitted by mei"})
    assert line == "nothing to resubmit in the experiment group g: 1 being submitted by mei"
