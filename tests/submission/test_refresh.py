from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

import pytest

from caliban.platforms.registry import Platforms
from caliban.records import GroupRecord, JobDetails, JobRecord, JobStatus, JobUpdate, PlatformId, StatusUnavailable
from caliban.submission.refresh import Refreshed, refresh
from tests.builders import a_group, a_job, an_experiment
from tests.fake_platform import polls
from tests.fake_service import FakeService

FINAL = [status for status in JobStatus if status.is_final]
UNFINISHED = [status for status in JobStatus if not status.is_final]


def states(refreshed: Refreshed) -> list[str]:
    return [
        str(job.status) for group in refreshed.groups for experiment in group.experiments for job in experiment.jobs
    ]


def queried_jobs(service: FakeService) -> list[list[int]]:
    return [[job.id for job in call] for call in service.arguments_of("statuses")]  # type: ignore[attr-defined]


@pytest.mark.parametrize("status", FINAL)
def test_a_job_in_a_final_state_is_not_queried(status: JobStatus, service: FakeService, platforms: Platforms) -> None:
    group = a_group(an_experiment(1, a_job(1, status)))
    assert refresh([group], platforms) == Refreshed((group,), {})


@pytest.mark.parametrize("status", UNFINISHED)
def test_a_job_in_any_other_state_is_queried(status: JobStatus, service: FakeService, platforms: Platforms) -> None:
    service.expect("statuses", polls(SUCCEEDED=[1]))
    refreshed = refresh([a_group(an_experiment(1, a_job(1, status)))], platforms)
    assert (states(refreshed), refreshed.changes) == (["SUCCEEDED"], {1: JobUpdate(JobStatus.SUCCEEDED)})


@pytest.fixture
def three() -> list[GroupRecord]:
    """Two groups with three unfinished jobs and a final one."""
    return [
        a_group(an_experiment(1, a_job(1, JobStatus.RUNNING)), an_experiment(2, a_job(2, JobStatus.FAILED))),
        a_group(an_experiment(3, a_job(3, JobStatus.UNKNOWN), a_job(4, JobStatus.SUBMITTED)), name="other"),
    ]


def test_a_platform_is_queried_once_for_all_of_its_jobs(
    three: list[GroupRecord], service: FakeService, platforms: Platforms
) -> None:
    service.expect("statuses", polls(RUNNING=[1], SUCCEEDED=[3], FAILED=[4]))
    refreshed = refresh(three, platforms)
    assert queried_jobs(service) == [[1, 3, 4]]
    assert states(refreshed) == ["RUNNING", "FAILED", "SUCCEEDED", "FAILED"]


def test_only_changes_are_to_be_recorded(three: list[GroupRecord], service: FakeService, platforms: Platforms) -> None:
    service.expect("statuses", polls(RUNNING=[1], SUCCEEDED=[3], SUBMITTED=[4]))
    assert refresh(three, platforms).changes == {3: JobUpdate(JobStatus.SUCCEEDED)}


def test_new_details_are_shown_and_recorded_without_a_new_state(service: FakeService, platforms: Platforms) -> None:
    update = JobUpdate(JobStatus.RUNNING, JobDetails({"node": "b"}))
    service.expect("statuses", lambda jobs: {1: update})
    job = a_job(1, JobStatus.RUNNING, details={"node": "a"})
    refreshed = refresh([a_group(an_experiment(1, job))], platforms)
    [shown] = refreshed.groups[0].experiments[0].jobs
    assert (shown.details.raw, refreshed.changes) == ({"node": "b"}, {1: update})


def test_recorded_details_are_kept_when_there_are_no_new_ones(service: FakeService, platforms: Platforms) -> None:
    service.expect("statuses", polls(FAILED=[1]))
    job = a_job(1, JobStatus.RUNNING, details={"node": "a"})
    [shown] = refresh([a_group(an_experiment(1, job))], platforms).groups[0].experiments[0].jobs
    assert shown.details.raw == {"node": "a"}


def test_a_job_that_cannot_be_queried_keeps_its_state_and_is_marked(service: FakeService, platforms: Platforms) -> None:
    service.expect("statuses", polls(unavailable=[1], SUCCEEDED=[2]))
    group = a_group(an_experiment(1, a_job(1, JobStatus.RUNNING)), an_experiment(2, a_job(2, JobStatus.RUNNING)))
    refreshed = refresh([group], platforms)
    assert [experiment.jobs[0].refresh_error for experiment in refreshed.groups[0].experiments] == ["no route", None]
    assert (states(refreshed), list(refreshed.changes)) == (["RUNNING", "SUCCEEDED"], [2])


def test_jobs_of_an_unknown_platform_are_marked(platforms: Platforms, unknown_platform: PlatformId) -> None:
    group = a_group(an_experiment(1, a_job(1, JobStatus.RUNNING, platform=unknown_platform)))
    [shown] = refresh([group], platforms).groups[0].experiments[0].jobs
    assert shown.refresh_error == "this installation of caliban cannot use the platform MAINFRAME"


def test_an_unreachable_platform_does_not_prevent_queries_of_another(
    service: FakeService, platforms: Platforms, unknown_platform: PlatformId
) -> None:
    service.expect("statuses", polls(SUCCEEDED=[2]))
    unknown = a_job(1, JobStatus.RUNNING, platform=unknown_platform)
    group = a_group(an_experiment(1, unknown), an_experiment(2, a_job(2, JobStatus.RUNNING)))
    assert states(refresh([group], platforms)) == ["RUNNING", "SUCCEEDED"]


def test_a_job_that_a_platform_does_not_report_is_unchanged(service: FakeService, platforms: Platforms) -> None:
    def report_first(jobs: Sequence[JobRecord]) -> Mapping[int, JobUpdate | StatusUnavailable]:
        return {jobs[0].id: JobUpdate(JobStatus.SUCCEEDED)}

    service.expect("statuses", report_first)
    group = a_group(an_experiment(1, a_job(1, JobStatus.RUNNING)), an_experiment(2, a_job(2, JobStatus.RUNNING)))
    assert states(refresh([group], platforms)) == ["SUCCEEDED", "RUNNING"]


def test_without_groups_nothing_is_queried(platforms: Platforms) -> None:
    assert refresh([], platforms) == Refreshed((), {})


def test_a_platform_that_fails_does_not_hide_the_jobs_of_others(
    three: list[GroupRecord], service: FakeService, platforms: Platforms
) -> None:
    def fail(jobs: Sequence[JobRecord]) -> Mapping[int, JobUpdate | StatusUnavailable]:
        raise KeyError("state")

    service.expect("statuses", fail)
    refreshed = refresh(three, platforms)
    jobs = [job for group in refreshed.groups for experiment in group.experiments for job in experiment.jobs]
    [reason] = {job.refresh_error for job in jobs if job.id != 2}
    assert str(reason).startswith(
        "the platform TEST failed to report the states of its jobs: KeyError: 'state' (test_refresh.py, line "
    )
    assert refreshed.changes == {}


@pytest.mark.parametrize("answer", [None, [], {1: None}, {1: "RUNNING"}, {"1": JobUpdate(JobStatus.FAILED)}])
def test_an_answer_of_another_type_changes_nothing(
    answer: object, platforms: Platforms, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.fake_platform.FakePlatform.statuses", lambda self, jobs: answer)
    refreshed = refresh([a_group(an_experiment(1, a_job(1, JobStatus.RUNNING)))], platforms)
    [shown] = refreshed.groups[0].experiments[0].jobs
    assert (shown.status, bool(shown.refresh_error), refreshed.changes) == (JobStatus.RUNNING, True, {})


def test_a_platform_that_cannot_be_created_does_not_hide_the_jobs_of_others(
    service: FakeService, platforms: Platforms, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: object, context: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("tests.fake_platform.FakePlatform.__init__", fail)
    [shown] = refresh([a_group(an_experiment(1, a_job(1, JobStatus.RUNNING)))], platforms).groups[0].experiments[0].jobs
    assert "ZeroDivisionError" in str(shown.refresh_error)


def test_a_platform_that_does_not_answer_delays_no_other(
    service: FakeService, platforms: Platforms, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of the two platforms answers only once the other one has been asked."""
    asked = threading.Barrier(2, timeout=10)

    def answer(jobs: Sequence[JobRecord]) -> Mapping[int, JobUpdate | StatusUnavailable]:
        asked.wait()
        return {job.id: JobUpdate(JobStatus.SUCCEEDED) for job in jobs}

    class Slow:
        def statuses(self, jobs: Sequence[JobRecord]) -> Mapping[int, JobUpdate | StatusUnavailable]:
            return answer(jobs)

    service.expect("statuses", answer)
    platforms._created["SLOW"] = Slow()  # type: ignore[assignment]
    group = a_group(
        an_experiment(1, a_job(1, JobStatus.RUNNING)), an_experiment(2, a_job(2, JobStatus.RUNNING, platform="SLOW"))
    )
    assert states(refresh([group], platforms)) == ["SUCCEEDED", "SUCCEEDED"]
