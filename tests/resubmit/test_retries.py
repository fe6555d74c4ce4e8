"""``caliban resubmit --wait --retries`` on a fake platform."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from caliban.attempts import Submission
from caliban.errors import UsageError
from caliban.records import JobRecord, JobStatus, JobUpdate, JsonObject, NewJob, StatusUnavailable
from caliban.store.database import Store
from tests.builders import OTHER_IMAGE, add_group, latest_states, read_group, submissions
from tests.calls import call, result_of
from tests.conftest import MakeContext, ScreenContext
from tests.fake_platform import end, polls
from tests.fake_service import FakeService, fake_details
from tests.fakes import FakeEngine

RESUBMIT = ("resubmit", "--xgroup", "resubmit_test", "--yes", "--wait")
FAILED, SUCCEEDED, RUNNING = JobStatus.FAILED, JobStatus.SUCCEEDED, JobStatus.RUNNING
Answers = Mapping[int, JobUpdate | StatusUnavailable]
Answer = Callable[[Sequence[JobRecord]], Answers]


@pytest.fixture
def project(cwd: Path) -> JsonObject:
    """The recorded container spec of an existing project."""
    (cwd / "cpu.py").write_text("")
    return {"build_path": str(cwd), "job_mode": "CPU", "package": [["python"], ".", "cpu.py", None]}


@pytest.fixture
def group(store: Store, project: JsonObject, fake_engine: FakeEngine) -> Callable[[], None]:
    """Records a group with a failed job, 1, whose image is built once."""
    add_group(store, FAILED, container_spec=project)
    fake_engine.expect(OTHER_IMAGE)
    return lambda: None


def ends(job: int, cause: str, status: JobStatus = FAILED) -> Answer:
    """The job has ended for a cause."""

    def answer(jobs: Sequence[JobRecord]) -> Answers:
        [found] = jobs
        assert found.id == job
        return {job: JobUpdate(status, fake_details(status, {**found.details.raw, "cause": cause}))}

    return answer


def jobs_of(store: Store) -> list[int]:
    [experiment] = read_group(store, all_jobs=True).experiments
    return [job.id for job in experiment.jobs]


def test_a_preempted_job_is_submitted_again_with_the_same_image(
    group: object, store: Store, service: FakeService, fake_engine: FakeEngine, context: ScreenContext
) -> None:
    service.expect("submit", service.accept, service.accept, service.accept)
    service.expect(
        "statuses", ends(2, "preempted"), polls(RUNNING=[3]), ends(3, "infrastructure"), polls(SUCCEEDED=[4])
    )
    assert call(context, *RESUBMIT, "--retries", "2") == 0
    assert jobs_of(store) == [1, 2, 3, 4]
    assert len(fake_engine.built) == 1
    assert [submission.resubmits for submission in submissions(store)] == [1, 2, 3]
    assert {str(spec["image"]) for spec in service.arguments_of("submit")} == {OTHER_IMAGE}  # type: ignore[index]
    assert "job 2: preempted; submitting it again (retry 1 of 2)\n" in context.err
    assert "job 3: infrastructure; submitting it again (retry 2 of 2)\n" in context.err


def test_a_changed_experiment_is_retried_like_any_other(
    group: object, store: Store, service: FakeService, context: ScreenContext
) -> None:
    service.expect("submit", service.accept, service.accept)
    service.expect("statuses", ends(2, "preempted"), polls(SUCCEEDED=[3]))
    assert call(context, *RESUBMIT, "--retries", "1", "--", "--sleep", "7") == 0
    first, changed = read_group(store, all_jobs=True).experiments
    assert [[job.id for job in each.jobs] for each in (first, changed)] == [[1], [2, 3]]
    assert [spec["arguments"] for spec in service.arguments_of("submit")] == [  # type: ignore[index]
        ["--foo", "3", "--sleep", "7"]
    ] * 2


def test_after_so_many_retries_it_ends_with_1(
    group: object, store: Store, service: FakeService, context: ScreenContext
) -> None:
    service.expect("submit", *[service.accept] * 3)
    service.expect("statuses", ends(2, "preempted"), ends(3, "preempted"), ends(4, "preempted"))
    document = result_of(context, *RESUBMIT, "--retries", "2", "--json")
    assert document["exit_code"] == 1
    assert [(each["job"]["id"], each["job"]["cause"]) for each in document["jobs"]] == [(4, "preempted")]


@pytest.mark.parametrize("cause", ["code_error", "out_of_memory", "timeout", "refused", "stopped", "unknown"])
def test_a_cause_that_is_not_named_is_not_retried(
    cause: str, group: object, store: Store, service: FakeService, context: ScreenContext
) -> None:
    status = JobStatus.STOPPED if cause == "stopped" else FAILED
    service.expect("submit", service.accept)
    service.expect("statuses", ends(2, cause, status))
    assert call(context, *RESUBMIT, "--retries", "3") == 1
    assert jobs_of(store) == [1, 2]


@pytest.mark.parametrize("typed", ["code_error", "oom,code", "CODE-ERROR"])
def test_a_cause_that_is_named_is_retried(
    typed: str, group: object, store: Store, service: FakeService, context: ScreenContext
) -> None:
    service.expect("submit", service.accept, service.accept)
    service.expect("statuses", ends(2, "code_error"), polls(SUCCEEDED=[3]))
    assert call(context, *RESUBMIT, "--retries", "1", "--retry_on", typed) == 0


def test_a_job_that_vanished_may_be_running_and_is_not_retried(
    group: object, store: Store, service: FakeService, context: ScreenContext
) -> None:
    service.expect("submit", service.accept)
    service.expect("statuses", ends(2, "preempted", JobStatus.UNKNOWN))
    assert call(context, *RESUBMIT, "--retries", "1") == 1
    assert jobs_of(store) == [1, 2]


def test_a_retry_of_another_terminal_is_waited_for_and_counts(
    group: object, store: Store, project: JsonObject, service: FakeService, context: ScreenContext
) -> None:
    """It was submitted after this command saw the end, and before it submits itself."""

    def other_is_first(jobs: Sequence[JobRecord]) -> Answers:
        add_group(store, RUNNING, container_spec=project)
        return ends(2, "preempted")(jobs)

    service.expect("submit", service.accept)
    service.expect("statuses", other_is_first, polls(RUNNING=[3]), ends(3, "preempted"))
    assert call(context, *RESUBMIT, "--retries", "1") == 1
    assert jobs_of(store) == [1, 2, 3]
    assert "already" not in context.err


def test_a_retry_of_another_terminal_that_has_ended_before_the_next_look_counts(
    group: object, store: Store, project: JsonObject, service: FakeService, context: ScreenContext
) -> None:
    def two_at_once(spec: JsonObject, submission: Submission) -> NewJob:
        accepted = service.accept(spec, submission)
        add_group(store, FAILED, container_spec=project, details={"name": "other", "cause": "preempted"})
        return accepted

    service.expect("submit", two_at_once)
    service.expect("statuses", ends(3, "preempted"))
    assert call(context, *RESUBMIT, "--retries", "1") == 1
    assert len(jobs_of(store)) == 3


def test_a_group_that_is_stopped_meanwhile_is_not_retried(
    group: object,
    store: Store,
    service: FakeService,
    context: ScreenContext,
    make_context: MakeContext,
) -> None:
    def stopped(jobs: Sequence[JobRecord]) -> Answers:
        service.expect("statuses", polls(RUNNING=[2]))
        service.expect("stop", end(FAILED, cause="preempted"))
        call(make_context(), "stop", "--xgroup", "resubmit_test", "--yes")
        return ends(2, "preempted")(jobs)

    service.expect("submit", service.accept)
    service.expect("statuses", stopped)
    assert call(context, *RESUBMIT, "--retries", "3") == 1
    assert jobs_of(store) == [1, 2]


def test_a_retry_whose_answer_is_lost_is_looked_up_and_not_repeated(
    group: object, store: Store, service: FakeService, context: ScreenContext
) -> None:
    service.expect("submit", service.accept, service.lose_answer)
    service.expect("find", service.look_up)
    service.expect("statuses", ends(2, "preempted"), polls(SUCCEEDED=[3]))
    assert call(context, *RESUBMIT, "--retries", "1") == 0
    assert jobs_of(store) == [1, 2, 3]


def test_a_retry_that_did_not_arrive_is_made_again(
    group: object, store: Store, service: FakeService, context: ScreenContext
) -> None:
    service.expect("submit", service.accept, service.fail_to_connect, service.accept)
    service.expect("find", service.look_up)
    service.expect("statuses", ends(2, "preempted"), polls(SUCCEEDED=[3]))
    assert call(context, *RESUBMIT, "--retries", "1") == 0
    assert jobs_of(store) == [1, 2, 3]


def test_a_job_that_runs_here_is_followed_again(
    store: Store, project: JsonObject, foreground: FakeService, fake_engine: FakeEngine, context: ScreenContext
) -> None:
    add_group(store, FAILED, container_spec=project)
    fake_engine.expect(OTHER_IMAGE)
    foreground.expect("submit", foreground.accept, foreground.accept)
    foreground.expect("follow", end(FAILED, cause="out_of_memory"), end(SUCCEEDED))
    assert call(context, *RESUBMIT, "--retries", "1", "--retry_on", "oom") == 0
    assert latest_states(store) == ["SUCCEEDED"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--retries", "1"), "--retries needs --wait"),
        (("--wait", "--retry_on", "oom"), "--retry_on needs --retries"),
        (("--wait", "--retries", "1", "--retry_on", "luck"), '--retry_on: unknown cause "luck"'),
    ],
)
def test_flags_that_do_not_fit_are_wrong_usage(flags: Sequence[str], message: str, context: ScreenContext) -> None:
    with pytest.raises(UsageError, match=message):
        call(context, *RESUBMIT[:-1], *flags)
