from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caliban.job_filter import JobFilter
from caliban.parameters import Match
from caliban.records import (
    ContainerRecord,
    ExperimentRecord,
    FailureCause,
    JobDetails,
    JobExit,
    JobRecord,
    JobStatus,
)
from caliban.resubmit.selection import Choice, Selection, select
from tests.builders import a_group, a_job, an_experiment

STATES = [*JobStatus]
RERUNNABLE = (JobStatus.FAILED, JobStatus.STOPPED)


def one(
    experiment: ExperimentRecord, *, all_jobs: bool = False, in_progress: dict[int, str] | None = None
) -> Selection:
    return select(a_group(experiment), Choice(all_jobs=all_jobs), in_progress or {})


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
    templates = {each.experiment.id: each.template.id for each in select(group, Choice(all_jobs=all_jobs), {}).selected}
    assert templates[2] == 9


def test_a_sibling_has_the_same_container_spec() -> None:
    other = ContainerRecord(2, {"image_id": "lab:1"})
    group = a_group(an_experiment(1, a_job(9), container=other), an_experiment(2))
    [skipped] = select(group, Choice(all_jobs=False), {}).skipped
    assert (skipped.experiment.id, skipped.reason) == (
        2,
        "never submitted, and no other experiment has its container spec: run the submitting command again",
    )


def test_an_empty_group_is_an_empty_selection() -> None:
    assert select(a_group(), Choice(all_jobs=True), {}) == Selection((), ())


@given(st.lists(st.one_of(st.none(), st.sampled_from(STATES)), max_size=8), st.booleans(), st.sets(st.integers(0, 7)))
def test_every_experiment_is_either_selected_or_skipped(
    states: list[JobStatus | None], all_jobs: bool, in_progress: set[int]
) -> None:
    group = a_group(
        *(an_experiment(n, *([] if status is None else [a_job(n, status)])) for n, status in enumerate(states))
    )
    found = select(group, Choice(all_jobs=all_jobs), dict.fromkeys(in_progress, "busy"))
    selected = [each.experiment.id for each in found.selected]
    skipped = [each.experiment.id for each in found.skipped]
    assert sorted(selected + skipped) == list(range(len(states)))
    assert (selected, skipped) == (sorted(selected), sorted(skipped))
    assert all(each.reason for each in found.skipped)


FAILED, SUCCEEDED, RUNNING = JobStatus.FAILED, JobStatus.SUCCEEDED, JobStatus.RUNNING
MEMORY = JobDetails(exit=JobExit(137, FailureCause.OUT_OF_MEMORY))
CODE = JobDetails(exit=JobExit(1, FailureCause.CODE_ERROR))


def with_lr(id: int, lr: float, *jobs: JobRecord) -> ExperimentRecord:
    return replace(an_experiment(id, *jobs), kwargs={"lr": lr})


GROUP = a_group(
    with_lr(1, 0.1, replace(a_job(1, FAILED), details=MEMORY)),
    with_lr(2, 0.2, replace(a_job(2, FAILED), details=CODE)),
    with_lr(3, 0.1, a_job(3, FAILED), replace(a_job(4, FAILED), details=CODE)),
    with_lr(4, 0.1, a_job(5, SUCCEEDED)),
    with_lr(5, 0.1, a_job(6, RUNNING)),
    with_lr(6, 0.1),
)
LEFT_OUT = {4: "succeeded", 5: "not finished (running)"}


@pytest.mark.parametrize(
    ("choice", "selected", "skipped"),
    [
        (Choice(), [1, 2, 3, 6], LEFT_OUT),
        (
            Choice(JobFilter(causes=frozenset({FailureCause.OUT_OF_MEMORY}))),
            [1],
            {2: "cause code_error", 3: "cause code_error", 4: "succeeded", 5: "running", 6: "never run"},
        ),
        (
            Choice(JobFilter(matches=(Match("lr", "0.2"),))),
            [2],
            dict.fromkeys([1, 3, 4, 5, 6], "does not match lr=0.2"),
        ),
        (Choice(JobFilter(job_ids=frozenset({3}))), [3], dict.fromkeys([1, 2, 4, 5, 6], "not named with --job")),
        (Choice(JobFilter(states=frozenset({FAILED}))), [1, 2, 3], {**LEFT_OUT, 6: "never run"}),
        (
            Choice(JobFilter(states=frozenset({SUCCEEDED}))),
            [4],
            {1: "failed", 2: "failed", 3: "failed", 5: "not finished (running)", 6: "never run"},
        ),
        (Choice(JobFilter(never_run=True)), [6], {1: "failed", 2: "failed", 3: "failed", **LEFT_OUT}),
        (Choice(max_attempts=2), [1, 2, 6], {3: "already had 2 attempts", **LEFT_OUT}),
        (Choice(max_attempts=1), [6], {**dict.fromkeys([1, 2], "already had 1 attempt"),
                                       3: "already had 2 attempts", **LEFT_OUT}),
        (Choice(limit=2), [1, 2], {3: "beyond --limit 2", **LEFT_OUT, 6: "beyond --limit 2"}),
        (
            Choice(JobFilter(matches=(Match("lr", "0.1"),)), all_jobs=True, limit=3),
            [1, 3, 4],
            {2: "does not match lr=0.1", 5: "beyond --limit 3", 6: "beyond --limit 3"},
        ),
    ],
    ids=["usual", "cause", "match", "job", "state", "other state", "never run", "attempts", "first", "limit", "all"],
)  # fmt: skip
def test_flags_choose_and_the_others_have_a_reason(
    choice: Choice, selected: list[int], skipped: dict[int, str]
) -> None:
    found = select(GROUP, choice, {})
    assert [each.experiment.id for each in found.selected] == selected
    assert {each.experiment.id: each.reason for each in found.skipped} == skipped


def test_an_experiment_that_is_never_chosen_is_not_refreshed() -> None:
    choice = Choice(JobFilter(matches=(Match("lr", "0.2"),), states=frozenset({FAILED})))
    assert [each.id for each in choice.possible(GROUP).experiments] == [2]
