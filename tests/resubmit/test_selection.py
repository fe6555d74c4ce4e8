from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caliban.records import ContainerRecord, ExperimentRecord, JobStatus
from caliban.resubmit.selection import Selection, select
from tests.builders import a_group, a_job, an_experiment

STATES = [*JobStatus]
WANTED = (JobStatus.FAILED, JobStatus.STOPPED)


def one(
    experiment: ExperimentRecord, *, all_jobs: bool = False, in_progress: dict[int, str] | None = None
) -> Selection:
    return select(a_group(experiment), all_jobs=all_jobs, in_progress=in_progress or {})


@pytest.mark.parametrize("status", STATES)
def test_failed_and_stopped_jobs_are_taken_and_no_others(status: JobStatus) -> None:
    assert bool(one(an_experiment(1, a_job(1, status))).selected) is (status in WANTED)


@pytest.mark.parametrize("status", STATES)
def test_all_jobs_takes_every_state(status: JobStatus) -> None:
    assert one(an_experiment(1, a_job(1, status)), all_jobs=True).selected


@pytest.mark.parametrize("all_jobs", [False, True])
@pytest.mark.parametrize("status", STATES)
def test_what_is_in_progress_is_left_out_whatever_its_state(status: JobStatus, all_jobs: bool) -> None:
    selection = one(an_experiment(1, a_job(1, status)), all_jobs=all_jobs, in_progress={1: "being submitted by mei"})
    assert [left.reason for left in selection.skipped] == ["being submitted by mei"]


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (JobStatus.SUCCEEDED, "succeeded"),
        (JobStatus.RUNNING, "not finished (running)"),
        (JobStatus.SUBMITTED, "not finished (submitted)"),
        (JobStatus.UNKNOWN, "in an unknown state, so perhaps running"),
    ],
)
def test_what_is_left_out_is_left_out_for_a_reason(status: JobStatus, reason: str) -> None:
    [left] = one(an_experiment(1, a_job(1, status))).skipped
    assert left.reason == reason


def test_the_latest_attempt_decides() -> None:
    again = an_experiment(1, a_job(1, JobStatus.FAILED), a_job(2, JobStatus.SUCCEEDED))
    assert not one(again).selected


def test_a_job_is_its_own_pattern() -> None:
    [chosen] = one(an_experiment(1, a_job(7, JobStatus.FAILED))).selected
    assert chosen.pattern.id == 7


@pytest.mark.parametrize("all_jobs", [False, True])
def test_an_experiment_without_a_job_follows_its_newest_sibling(all_jobs: bool) -> None:
    group = a_group(
        an_experiment(1, a_job(9, JobStatus.SUCCEEDED)), an_experiment(2), an_experiment(3, a_job(5, JobStatus.FAILED))
    )
    patterns = {c.experiment.id: c.pattern.id for c in select(group, all_jobs=all_jobs, in_progress={}).selected}
    assert patterns[2] == 9


def test_a_sibling_has_the_same_container_spec() -> None:
    other = ContainerRecord(2, {"image_id": "lab:1"})
    group = a_group(an_experiment(1, a_job(9), container=other), an_experiment(2))
    [left] = select(group, all_jobs=False, in_progress={}).skipped
    assert (left.experiment.id, left.reason) == (
        2,
        "never submitted, nor was a sibling that shows how: give the command that made it once more",
    )


def test_an_empty_group_is_an_empty_selection() -> None:
    assert select(a_group(), all_jobs=True, in_progress={}) == Selection((), ())


@given(st.lists(st.one_of(st.none(), st.sampled_from(STATES)), max_size=8), st.booleans(), st.sets(st.integers(0, 7)))
def test_every_experiment_is_either_chosen_or_left_out(
    states: list[JobStatus | None], all_jobs: bool, in_progress: set[int]
) -> None:
    group = a_group(
        *(an_experiment(n, *([] if status is None else [a_job(n, status)])) for n, status in enumerate(states))
    )
    found = select(group, all_jobs=all_jobs, in_progress=dict.fromkeys(in_progress, "busy"))
    chosen = [c.experiment.id for c in found.selected]
    skipped = [left.experiment.id for left in found.skipped]
    assert sorted(chosen + skipped) == list(range(len(states)))
    assert (chosen, skipped) == (sorted(chosen), sorted(skipped))
    assert all(left.reason for left in found.skipped)
