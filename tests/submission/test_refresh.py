from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from caliban.platforms.base import JobUpdate, Platforms, StatusUnavailable
from caliban.records import GroupRecord, JobRecord, JobStatus, PlatformId
from caliban.submission.refresh import Refreshed, refresh
from tests.builders import a_group, a_job, an_experiment
from tests.fakes import FakeService, polls

FINAL = [status for status in JobStatus if status.is_final]
UNFINISHED = [status for status in JobStatus if not status.is_final]


def states(refreshed: Refreshed) -> list[str]:
    return [
        str(job.status) for group in refreshed.groups for experiment in group.experiments for job in experiment.jobs
    ]


def asked_about(service: FakeService) -> list[list[int]]:
    return [[job.id for job in call] for call in service.asked("statuses")]  # type: ignore[attr-defined]


@pytest.mark.parametrize("status", FINAL)
def test_a_final_state_is_not_asked_about(status: JobStatus, service: FakeService, platforms: Platforms) -> None:
    group = a_group(an_experiment(1, a_job(1, status)))
    assert refresh([group], platforms) == Refreshed((group,), {})


@pytest.mark.parametrize("status", UNFINISHED)
def test_every_other_state_is_asked_about(status: JobStatus, service: FakeService, platforms: Platforms) -> None:
    service.expect("statuses", polls(SUCCEEDED=[1]))
    refreshed = refresh([a_group(an_experiment(1, a_job(1, status)))], platforms)
    assert (states(refreshed), refreshed.changes) == (["SUCCEEDED"], {1: (JobStatus.SUCCEEDED, None)})


@pytest.fixture
def three() -> list[GroupRecord]:
    """Two groups with three unfinished jobs and a final one."""
    return [
        a_group(an_experiment(1, a_job(1, JobStatus.RUNNING)), an_experiment(2, a_job(2, JobStatus.FAILED))),
        a_group(an_experiment(3, a_job(3, JobStatus.UNKNOWN), a_job(4, JobStatus.SUBMITTED)), name="other"),
    ]


def test_a_platform_is_asked_once_for_all_of_its_jobs(
    three: list[GroupRecord], service: FakeService, platforms: Platforms
) -> None:
    service.expect("statuses", polls(RUNNING=[1], SUCCEEDED=[3], FAILED=[4]))
    refreshed = refresh(three, platforms)
    assert asked_about(service) == [[1, 3, 4]]
    assert states(refreshed) == ["RUNNING", "FAILED", "SUCCEEDED", "FAILED"]


def test_only_what_changed_is_to_be_written_back(
    three: list[GroupRecord], service: FakeService, platforms: Platforms
) -> None:
    service.expect("statuses", polls(RUNNING=[1], SUCCEEDED=[3], SUBMITTED=[4]))
    assert refresh(three, platforms).changes == {3: (JobStatus.SUCCEEDED, None)}


def test_new_details_are_shown_and_written_back_even_when_the_state_is_the_same(
    service: FakeService, platforms: Platforms
) -> None:
    service.expect("statuses", lambda jobs: {1: JobUpdate(JobStatus.RUNNING, {"node": "b"})})
    job = a_job(1, JobStatus.RUNNING, details={"node": "a"})
    refreshed = refresh([a_group(an_experiment(1, job))], platforms)
    [shown] = refreshed.groups[0].experiments[0].jobs
    assert (shown.details, refreshed.changes) == ({"node": "b"}, {1: (JobStatus.RUNNING, {"node": "b"})})


def test_recorded_details_stay_where_nothing_new_was_learnt(service: FakeService, platforms: Platforms) -> None:
    service.expect("statuses", polls(FAILED=[1]))
    job = a_job(1, JobStatus.RUNNING, details={"node": "a"})
    [shown] = refresh([a_group(an_experiment(1, job))], platforms).groups[0].experiments[0].jobs
    assert shown.details == {"node": "a"}


def test_a_job_that_cannot_be_asked_about_keeps_its_state_and_is_marked(
    service: FakeService, platforms: Platforms
) -> None:
    service.expect("statuses", polls(unreachable=[1], SUCCEEDED=[2]))
    group = a_group(an_experiment(1, a_job(1, JobStatus.RUNNING)), an_experiment(2, a_job(2, JobStatus.RUNNING)))
    refreshed = refresh([group], platforms)
    assert [experiment.jobs[0].refresh_error for experiment in refreshed.groups[0].experiments] == ["no route", None]
    assert (states(refreshed), list(refreshed.changes)) == (["RUNNING", "SUCCEEDED"], [2])


def test_a_platform_of_a_later_version_marks_its_jobs(platforms: Platforms, unknown_platform: PlatformId) -> None:
    group = a_group(an_experiment(1, a_job(1, JobStatus.RUNNING, platform=unknown_platform)))
    [shown] = refresh([group], platforms).groups[0].experiments[0].jobs
    assert shown.refresh_error == "this version of caliban cannot reach jobs on VERTEX"


def test_one_platform_that_is_out_of_reach_does_not_keep_another_from_being_asked(
    service: FakeService, platforms: Platforms, unknown_platform: PlatformId
) -> None:
    service.expect("statuses", polls(SUCCEEDED=[2]))
    away = a_job(1, JobStatus.RUNNING, platform=unknown_platform)
    group = a_group(an_experiment(1, away), an_experiment(2, a_job(2, JobStatus.RUNNING)))
    assert states(refresh([group], platforms)) == ["RUNNING", "SUCCEEDED"]


def test_a_job_that_a_platform_says_nothing_of_stays_as_it_is(service: FakeService, platforms: Platforms) -> None:
    def forgetful(jobs: Sequence[JobRecord]) -> Mapping[int, JobUpdate | StatusUnavailable]:
        return {jobs[0].id: JobUpdate(JobStatus.SUCCEEDED)}

    service.expect("statuses", forgetful)
    group = a_group(an_experiment(1, a_job(1, JobStatus.RUNNING)), an_experiment(2, a_job(2, JobStatus.RUNNING)))
    assert states(refresh([group], platforms)) == ["SUCCEEDED", "RUNNING"]


def test_no_group_and_no_job_is_nothing_to_ask(platforms: Platforms) -> None:
    assert refresh([], platforms) == Refreshed((), {})
