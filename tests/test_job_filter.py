from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest

from caliban.errors import CalibanError
from caliban.job_filter import JobFilter, job_moment
from caliban.parameters import Match
from caliban.records import ExperimentRecord, FailureCause, GroupRecord, JobDetails, JobExit, JobRecord, JobStatus
from tests.builders import a_group, a_job, an_experiment

NOON = datetime(2026, 11, 25, 12, tzinfo=timezone.utc)
SUCCEEDED = an_experiment(1, a_job(1, JobStatus.SUCCEEDED), kwargs={"lr": 0.1})
RERUN = an_experiment(2, a_job(2, JobStatus.FAILED), a_job(5, JobStatus.SUCCEEDED), kwargs={"lr": 0.2})
FAILED = an_experiment(3, a_job(3, JobStatus.FAILED), kwargs={"lr": 0.1})
NEVER = an_experiment(4, kwargs={"lr": 0.1})
GROUP = a_group(SUCCEEDED, RERUN, FAILED, NEVER)


def chosen(job_filter: JobFilter, *groups: GroupRecord) -> list[tuple[int, list[int]]]:
    """The experiments that are left, each with its jobs."""
    found = job_filter.apply(groups or [GROUP])
    return [(each.id, [job.id for job in each.jobs]) for group in found for each in group.experiments]


def of_cause(id: int, cause: FailureCause) -> ExperimentRecord:
    return an_experiment(id, replace(a_job(id), details=JobDetails(exit=JobExit(1, cause))))


@pytest.mark.parametrize(
    ("job_filter", "left"),
    [
        (JobFilter(), [(1, [1]), (2, [2, 5]), (3, [3]), (4, [])]),
        (JobFilter(states=frozenset({JobStatus.FAILED})), [(2, [2]), (3, [3])]),
        (JobFilter(states=frozenset({JobStatus.FAILED}), never_run=True), [(2, [2]), (3, [3]), (4, [])]),
        (JobFilter(never_run=True), [(4, [])]),
        (JobFilter(job_ids=frozenset({1, 5})), [(1, [1]), (2, [5])]),
        (JobFilter(matches=(Match("lr", "0.1"),)), [(1, [1]), (3, [3]), (4, [])]),
        (JobFilter(matches=(Match("lr", "0.1"), Match("lr", "0.2"))), []),
        (JobFilter(matches=(Match("lr", "0.1"),), states=frozenset({JobStatus.FAILED})), [(3, [3])]),
        (JobFilter(job_ids=frozenset({1}), states=frozenset({JobStatus.FAILED})), []),
    ],
)
def test_conditions_are_combined_with_and(job_filter: JobFilter, left: list[tuple[int, list[int]]]) -> None:
    assert chosen(job_filter) == left


def test_jobs_are_chosen_by_the_cause_of_their_failure() -> None:
    group = a_group(of_cause(1, FailureCause.OUT_OF_MEMORY), of_cause(2, FailureCause.TIMEOUT), SUCCEEDED, NEVER)
    assert chosen(JobFilter(causes=frozenset({FailureCause.OUT_OF_MEMORY})), group) == [(1, [1])]


def test_a_group_of_which_nothing_is_left_is_left_out() -> None:
    other = replace(a_group(FAILED), name="other")
    assert [group.name for group in JobFilter(states=frozenset({JobStatus.SUCCEEDED})).apply([GROUP, other])] == [
        GROUP.name
    ]


def job_at(created: datetime, ended: datetime | None, status: JobStatus = JobStatus.FAILED) -> JobRecord:
    local = created.astimezone().replace(tzinfo=None)
    return replace(a_job(9, status), created=local, details=JobDetails(ended=ended))


@pytest.mark.parametrize(
    ("job", "is_taken"),
    [
        (job_at(NOON - timedelta(days=3), NOON), True),
        (job_at(NOON - timedelta(days=3), NOON - timedelta(seconds=1)), False),
        (job_at(NOON - timedelta(days=3), None), False),
        (job_at(NOON, None), True),
        (job_at(NOON - timedelta(days=3), None, JobStatus.RUNNING), False),
        (job_at(NOON, None, JobStatus.RUNNING), True),
    ],
)
def test_what_counts_is_the_end_of_a_job_else_its_submission(job: JobRecord, is_taken: bool) -> None:
    assert JobFilter(since=NOON).takes_job(job) == is_taken


def test_a_job_of_a_year_that_no_machine_has_seen_is_older_than_any_other() -> None:
    job = replace(a_job(), created=datetime.min)
    assert job_moment(job) < job_moment(a_job())


def test_a_job_that_does_not_exist_is_an_error_that_names_those_that_do() -> None:
    with pytest.raises(CalibanError) as error:
        JobFilter(job_ids=frozenset({3, 99})).apply([GROUP])
    assert (error.value.id, error.value.message, error.value.hint) == (
        "unknown-job",
        "the experiment group resubmit_test has no job 99",
        "its jobs: 1, 2, 3, 5",
    )


def test_several_jobs_that_do_not_exist_are_one_error() -> None:
    with pytest.raises(CalibanError, match=r"^you have no jobs 91, 92, 93, 94, 95, \.\.\.$"):
        JobFilter(job_ids=frozenset(range(91, 99))).apply([GROUP, replace(GROUP, name="other")])


def test_an_experiment_is_chosen_by_its_latest_job_with_all_of_its_jobs() -> None:
    succeeded = JobFilter(states=frozenset({JobStatus.SUCCEEDED}))
    [group] = succeeded.experiments([GROUP])
    assert [(each.id, len(each.jobs)) for each in group.experiments] == [(1, 1), (2, 2)]


def test_an_experiment_is_chosen_by_any_job_that_is_named() -> None:
    [group] = JobFilter(job_ids=frozenset({2})).experiments([GROUP])
    assert group.experiments == (RERUN,)


def test_what_the_unchanging_conditions_leave_out_is_left_out_anyway() -> None:
    full = JobFilter(
        states=frozenset({JobStatus.FAILED}), job_ids=frozenset({3}), matches=(Match("lr", "0.1"),), since=NOON
    )
    assert full.unchanging() == JobFilter(job_ids=frozenset({3}), matches=(Match("lr", "0.1"),))
