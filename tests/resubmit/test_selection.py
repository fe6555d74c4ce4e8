from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caliban.records import ContainerRecord, ExperimentRecord, JobStatus
from caliban.resubmit.selection import Selection, select
from tests.builders import a_group, a_job, an_experiment

STATES = [*JobStatus]
RERUNNABLE = (JobStatus.FAILED, JobStatus.STOPPED)


def one(
    experiment: ExperimentRecord, *, all_jobs: bool = False, in_progress: dict[int, str] | None = None
) -> Selection:
    return select(a_group(experiment), all_jobs=all_jobs, in_progress=in_progress or {})


@pytest.mark.parametrize("status", STATES)
def test_failed_and_stopped_jobs_are_selected_and_no_others(status: JobStatus) -> None:
    assert bool(one(an_experiment(1, a_job(1, status))).selected) is (status in RERUNNABLE)


@pytest.mark.parametrize("status", STATES)
def test_all_jobs_selects_every_state(status: JobStatus) -> None:
    assert one(an_experiment(1, a_job(1, status)), all_jobs=True).selected


@pytest.mark.parametrize("all_jobs", [False, True])
@pytest.mark.parametrize("status", STATES)
def test_an_experiment_in_progress_is_skipped_whatever_its_state(status: JobStatus, all_jobs: bool) -> None:
    selection = one(an_experiment(1, a_job(1, status)), all_jobs=all_jobs, in_progress={1: "being submitted by mei"})
    assert [skipped.reason for skipped in selection.skipped] == ["being submitted by mei"]


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (JobStatus.SUCCEEDED, "succeeded"),
        (JobStatus.RUNNING, "not finished (running)"),
        (JobStatus.SUBMITTED, "not finished (submitted)"),
        (JobStatus.UNKNOWN, "state unknown, may be running"),
    ],
)
def test_a_skipped_experiment_has_a_reason(status: JobStatus, reason: str) -> None:
    [skipped] = one(an_experiment(1, a_job(1, status))).skipped
    assert skipped.reason == reason


def test_the_latest_attempt_decides() -> None:
    again = an_experiment(1, a_job(1, JobStatus.FAILED), a_job(2, JobStatus.SUCCEEDED))
    assert not one(again).selected


def test_a_job_is_its_own_template() -> None:
    [selected] = one(an_experiment(1, a_job(7, JobStatus.FAILED))).selected
    assert selected.template.id == 7


@pytest.mark.parametrize("all_jobs", [False, True])
def test_an_experiment_without_a_job_takes_the_newest_job_of_a_sibling(all_jobs: bool) -> None:
    group = a_group(
        an_experiment(1, a_job(9, JobStatus.SUCCEEDED)), an_experiment(2), an_experiment(3, a_job(5, JobStatus.FAILED))
    )
    templates = {
        each.experiment.id: each.template.id for each in select(group, all_jobs=all_jobs, in_progress={}).selected
    }
    assert templates[2] == 9


def test_a_sibling_has_the_same_container_spec() -> None:
    other = ContainerRecord(2, {"image_id": "lab:1"})
    group = a_group(an_experiment(1, a_job(9), container=other), an_experiment(2))
    [skipped] = select(group, all_jobs=False, in_progress={}).skipped
    assert (skipped.experiment.id, skipped.reason) == (
        2,
        "never submitted, and no other experiment has its container spec: run the submitting command again",
    )


def test_an_empty_group_is_an_empty_selection() -> None:
    assert select(a_group(), all_jobs=True, in_progress={}) == Selection((), ())


@given(st.lists(st.one_of(st.none(), st.sampled_from(STATES)), max_size=8), st.booleans(), st.sets(st.integers(0, 7)))
def test_every_experiment_is_either_selected_or_skipped(
    states: list[JobStatus | None], all_jobs: bool, in_progress: set[int]
) -> None:
    group = a_group(
        *(an_experiment(n, *([] if status is None else [a_job(n, status)])) for n, status in enumerate(states))
    )
    found = select(group, all_jobs=all_jobs, in_progress=dict.fromkeys(in_progress, "busy"))
    selected = [each.experiment.id for each in found.selected]
    skipped = [each.experiment.id for each in found.skipped]
    assert sorted(selected + skipped) == list(range(len(states)))
    assert (selected, skipped) == (sorted(selected), sorted(skipped))
    assert all(each.reason for each in found.skipped)
