from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from caliban.records import (
    ContainerRecord,
    ExperimentRecord,
    FailureCause,
    JobDetails,
    JobExit,
    JobRecord,
    JobStatus,
    Outcome,
    OutputError,
)
from caliban.summary import common_text, outcomes_summary, summary_of
from tests.builders import CPU_SPEC, a_job, an_experiment

FAILED, SUCCEEDED = JobStatus.FAILED, JobStatus.SUCCEEDED


def failed(
    id: int, exit: JobExit | None = None, error: OutputError | None = None, status: JobStatus = FAILED
) -> ExperimentRecord:
    details = JobDetails(exit=exit or JobExit(1, FailureCause.CODE_ERROR))
    return an_experiment(id, replace(a_job(id, status), details=details, output_error=error))


def nan(id: int, step: int, frame: str | None = "train.py:41") -> ExperimentRecord:
    return failed(id, error=OutputError("ValueError", f"loss is nan at step {step}", frame))


def texts(experiments: Sequence[ExperimentRecord]) -> list[tuple[int, str, str]]:
    return [(len(each.job_ids), each.cause.value, each.text) for each in summary_of(experiments).causes]


def test_experiments_are_counted_by_their_latest_job_in_the_order_of_states() -> None:
    states = [JobStatus.UNKNOWN, JobStatus.SUBMITTED, JobStatus.RUNNING, JobStatus.STOPPED, FAILED, SUCCEEDED]
    experiments = [an_experiment(number, a_job(number, state)) for number, state in enumerate(states, 1)]
    rerun = an_experiment(8, a_job(8, FAILED), a_job(9, SUCCEEDED))
    summary = summary_of([an_experiment(7), *experiments, rerun])
    assert list(summary.counts.items()) == [
        ("succeeded", 2),
        ("failed", 1),
        ("stopped", 1),
        ("running", 1),
        ("submitted", 1),
        ("unknown", 1),
        ("never run", 1),
    ]
    assert summary.experiments == 8


def test_failures_are_counted_by_exception_and_frame_whatever_the_message() -> None:
    experiments = [nan(1, 17), nan(2, 3), nan(3, 5, "train.py:99"), failed(4, error=OutputError("KeyError", "'lr'"))]
    assert texts(experiments) == [
        (2, "code_error", "ValueError: loss is nan at step ... (train.py:41)"),
        (1, "code_error", "KeyError: 'lr'"),
        (1, "code_error", "ValueError: loss is nan at step 5 (train.py:99)"),
    ]


def test_an_attempt_that_a_later_one_replaced_is_not_counted() -> None:
    [job] = nan(1, 17).jobs
    assert texts([an_experiment(1, job, a_job(2, SUCCEEDED))]) == []


def test_without_an_exception_jobs_are_counted_by_exit_code() -> None:
    killed = JobExit(137, FailureCause.OUT_OF_MEMORY, "OOMKilled")
    experiments = [failed(1, killed), failed(2, JobExit(2, FailureCause.CODE_ERROR)), failed(3, killed), failed(4)]
    assert texts(experiments) == [
        (2, "out_of_memory", "exit code 137 (SIGKILL)"),
        (1, "code_error", "exit code 1"),
        (1, "code_error", "exit code 2"),
    ]


def test_the_words_of_a_platform_are_shown_where_there_is_no_exit_code() -> None:
    refused = [failed(n, JobExit(None, FailureCause.REFUSED, f"quota of zone-{n} is used up")) for n in (1, 2)]
    assert texts(refused) == [(2, "refused", "quota of ... is used up")]


def test_different_messages_without_an_exception_are_counted_apart() -> None:
    words = ["the following arguments are required: --lr", "argument --lr: invalid float value: 'high'"]
    words += ["argument --lr: invalid float value: 'low'"]
    wrong = [failed(n, JobExit(2), error=OutputError(None, f"t.py: error: {each}")) for n, each in enumerate(words)]
    assert texts(wrong) == [
        (2, "code_error", "exit code 2: t.py: error: argument --lr: invalid float value: ..."),
        (1, "code_error", "exit code 2: t.py: error: the following arguments are required: --lr"),
    ]


def test_a_message_that_is_different_for_each_job_is_counted_together() -> None:
    errors = [OutputError(None, f"t.py: error: {chr(97 + n)}") for n in range(6)]
    assert texts([failed(n, JobExit(2), error=error) for n, error in enumerate(errors)]) == [
        (6, "code_error", "exit code 2: t.py: error: ...")
    ]


def test_an_exception_about_memory_is_counted_as_out_of_memory() -> None:
    error = OutputError("torch.OutOfMemoryError", "CUDA out of memory.", "train.py:30")
    assert texts([failed(1, error=error)]) == [
        (1, "out_of_memory", "torch.OutOfMemoryError: CUDA out of memory. (train.py:30)")
    ]


def test_a_failure_of_which_nothing_is_recorded_has_no_text() -> None:
    assert texts([an_experiment(1, replace(a_job(1), details=JobDetails()))]) == [(1, "unknown", "")]


def test_the_ids_of_the_jobs_of_a_cause_are_kept() -> None:
    assert summary_of([nan(3, 1), nan(5, 2)]).causes[0].job_ids == (3, 5)


@pytest.mark.parametrize("status", [JobStatus.STOPPED, JobStatus.UNKNOWN, JobStatus.RUNNING, SUCCEEDED])
def test_only_failed_jobs_have_a_cause(status: JobStatus) -> None:
    assert texts([failed(1, status=status)]) == []


@pytest.mark.parametrize(
    ("found", "common"),
    [
        (["a b c"], "a b c"),
        (["a b c", "a b c"], "a b c"),
        (["a 1 c", "a 2 c", "a 3 c"], "a ... c"),
        (["a b", "a b c d"], "a b ..."),
        (["a b", "c d"], ""),
        (["a b c d", "a x y d"], "a ... d"),
        (["", "a"], ""),
        (["", ""], ""),
        (["loss is nan at 1", "loss is nan"], "loss is nan ..."),
    ],
)
def test_what_texts_have_in_common_is_shown(found: list[str], common: str) -> None:
    assert common_text(found) == common


REFUSED = failed(1, JobExit(None, FailureCause.REFUSED, "no quota"))
OTHER = ContainerRecord(2, CPU_SPEC)


@pytest.mark.parametrize(
    ("experiments", "has_output", "can_rerun"),
    [
        ([an_experiment(1, a_job(1, SUCCEEDED))], False, False),
        ([an_experiment(1, a_job(1, JobStatus.RUNNING))], False, False),
        ([an_experiment(1, a_job(1, JobStatus.UNKNOWN))], False, False),
        ([nan(1, 1)], True, True),
        ([REFUSED], False, True),
        ([REFUSED, nan(2, 1)], True, True),
        ([an_experiment(1, a_job(1, JobStatus.STOPPED))], False, True),
        ([an_experiment(1)], False, False),
        ([an_experiment(1), an_experiment(2, a_job(1, SUCCEEDED))], False, True),
        ([an_experiment(1, container=OTHER), an_experiment(2, a_job(1, SUCCEEDED))], False, False),
        ([], False, False),
    ],
)
def test_what_can_be_done_next_depends_on_the_states(
    experiments: list[ExperimentRecord], has_output: bool, can_rerun: bool
) -> None:
    summary = summary_of(experiments)
    assert (summary.has_output, summary.can_rerun) == (has_output, can_rerun)


def test_outcomes_are_summarized_as_experiments_are() -> None:
    def outcome(job: JobRecord | None) -> Outcome:
        return Outcome(an_experiment(), job)

    states = [FAILED, SUCCEEDED, SUCCEEDED]
    summary = outcomes_summary([*(outcome(a_job(status=state)) for state in states), outcome(None)], not_started=3)
    assert list(summary.counts.items()) == [("succeeded", 2), ("failed", 1), ("not submitted", 1), ("not started", 3)]


@pytest.mark.parametrize(("jobs", "can_rerun"), [([a_job(status=SUCCEEDED)], True), ([], False)])
def test_what_was_not_started_can_be_run_as_the_others_were(jobs: list[JobRecord], can_rerun: bool) -> None:
    outcomes = [Outcome(an_experiment(), job) for job in jobs]
    assert outcomes_summary(outcomes, not_started=1).can_rerun == can_rerun
