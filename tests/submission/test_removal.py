"""Jobs of which nothing is to be left once they have ended, and jobs that the command does not wait for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from caliban.attempts import Submission
from caliban.errors import PlatformError
from caliban.platforms.registry import Platforms
from caliban.platforms.stored_json import REMOVE_KEY
from caliban.records import JobRecord, JobStatus, JobUpdate, JsonObject, NewJob
from caliban.store.states import record_states
from caliban.submission.refresh import refresh
from caliban.submission.stopping import Stopper
from caliban.submission.submit import InterruptedSubmissionError
from tests.builders import read_group
from tests.calls import call
from tests.conftest import ScreenContext
from tests.fake_platform import end, polls
from tests.fake_service import FakeService
from tests.fakes import RecordingReporter

from .test_submit import Bench, bench, sigterm_handler_of_main

__all__ = ["bench", "sigterm_handler_of_main"]

GROUP = ("--xgroup", "resubmit_test")


@pytest.fixture
def removing(foreground: FakeService) -> FakeService:
    """A platform whose jobs are to be removed once they have ended."""
    foreground.details = {REMOVE_KEY: True}
    return foreground


def latest(bench: Bench) -> JobRecord:
    job = read_group(bench.store).experiments[0].latest
    assert job is not None
    return job


def recorded_as(bench: Bench, status: JobStatus) -> Callable[[JobRecord], None]:
    """Return an answer for ``expect("remove", ...)`` that requires the end to be recorded before."""

    def remove(job: JobRecord) -> None:
        assert (latest(bench).status, job.status) == (status, status)
        assert job.details.remove_when_ended

    return remove


def fail_to_remove(job: JobRecord) -> None:
    raise PlatformError("fake-unreachable", "cannot reach the fake platform", cause="no route")


def run(bench: Bench) -> JobRecord:
    [outcome] = bench.submitter.submit_all(bench.attempts[:1])
    assert outcome.job is not None
    return outcome.job


@pytest.mark.parametrize("status", [JobStatus.SUCCEEDED, JobStatus.FAILED])
def test_a_job_is_removed_after_its_end_was_recorded(status: JobStatus, bench: Bench, removing: FakeService) -> None:
    removing.expect("submit", removing.accept)
    removing.expect("follow", end(status, ret_code=3))
    removing.expect("remove", recorded_as(bench, status))
    assert run(bench).status is status
    assert not latest(bench).details.remove_when_ended
    assert latest(bench).details.raw["ret_code"] == 3


def test_a_job_that_is_to_be_kept_is_not_removed(bench: Bench, foreground: FakeService) -> None:
    foreground.expect("submit", foreground.accept)
    foreground.expect("follow", end(JobStatus.SUCCEEDED))
    run(bench)
    assert foreground.arguments_of("remove") == []


def test_a_job_that_is_stopped_is_removed(bench: Bench, removing: FakeService) -> None:
    def interrupt(job: JobRecord) -> JobUpdate:
        raise KeyboardInterrupt

    removing.expect("submit", removing.accept)
    removing.expect("follow", interrupt)
    removing.expect("stop", end(JobStatus.STOPPED))
    removing.expect("remove", recorded_as(bench, JobStatus.STOPPED))
    with pytest.raises(InterruptedSubmissionError):
        run(bench)


def test_a_job_that_had_ended_when_it_was_found_is_removed(bench: Bench, removing: FakeService) -> None:
    def accept_ended(spec: JsonObject, submission: Submission) -> NewJob:
        return replace(removing.take(spec, submission), status=JobStatus.SUCCEEDED)

    removing.expect("submit", accept_ended)
    removing.expect("remove", recorded_as(bench, JobStatus.SUCCEEDED))
    run(bench)


@pytest.fixture
def left_behind(bench: Bench, removing: FakeService, reporter: RecordingReporter) -> Bench:
    """A job whose end was recorded, and that could not be removed."""
    removing.expect("submit", removing.accept)
    removing.expect("follow", end(JobStatus.FAILED, ret_code=1))
    removing.expect("remove", fail_to_remove)
    assert run(bench).status is JobStatus.FAILED
    line = "job 1 has ended, and was not removed: cannot reach the fake platform: no route"
    assert line in reporter.lines
    assert latest(bench).details.remove_when_ended
    return bench


def test_status_removes_what_an_interrupted_command_left(
    left_behind: Bench, removing: FakeService, context: ScreenContext
) -> None:
    removing.expect("remove", recorded_as(left_behind, JobStatus.FAILED))
    assert call(context, "status", *GROUP) == 0
    assert not latest(left_behind).details.remove_when_ended
    assert call(context, "status", *GROUP) == 0


def test_a_removal_that_fails_does_not_change_what_status_reports(
    left_behind: Bench, removing: FakeService, context: ScreenContext
) -> None:
    removing.expect("remove", fail_to_remove)
    assert call(context, "status", *GROUP) == 0
    assert "FAILED" in context.out
    assert "job 1 has ended, and was not removed" in context.err


def test_a_job_that_ended_unobserved_is_recorded_by_status_and_removed(
    bench: Bench, removing: FakeService, platforms: Platforms
) -> None:
    removing.is_detached = True
    removing.expect("submit", removing.accept)
    run(bench)
    removing.expect("statuses", polls(SUCCEEDED=[1]))
    removing.expect("remove", recorded_as(bench, JobStatus.SUCCEEDED))
    refresh([read_group(bench.store)], platforms).record(bench.store, platforms)


def test_nothing_is_removed_while_its_end_is_not_recorded(
    bench: Bench, removing: FakeService, platforms: Platforms
) -> None:
    removing.is_detached = True
    removing.expect("submit", removing.accept)
    run(bench)
    removing.expect("statuses", polls(SUCCEEDED=[1]))
    assert refresh([read_group(bench.store)], platforms).changes
    assert removing.arguments_of("remove") == []


def test_a_job_that_was_given_up_is_not_removed(bench: Bench, removing: FakeService, context: ScreenContext) -> None:
    removing.is_detached = True
    removing.expect("submit", removing.accept)
    run(bench)
    removing.expect("statuses", polls(unavailable=[1]))
    assert call(context, "abandon", *GROUP, "--yes") == 0
    assert (latest(bench).status, latest(bench).details.remove_when_ended) == (JobStatus.STOPPED, False)


def test_what_another_command_recorded_and_removed_is_not_replaced_by_unknown(
    bench: Bench, removing: FakeService, platforms: Platforms
) -> None:
    """It removes the job after the stop was requested, and before the platform is asked to stop it."""
    removing.is_detached = True
    removing.expect("submit", removing.accept)
    job = run(bench)

    def record_elsewhere(asked: JobRecord) -> JobUpdate:
        with bench.store.writing() as session:
            record_states(session, {job.id: JobUpdate(JobStatus.SUCCEEDED)})
        return JobUpdate(JobStatus.UNKNOWN)

    removing.expect("stop", record_elsewhere)
    removing.expect("remove", recorded_as(bench, JobStatus.STOPPED))
    assert Stopper(bench.store, platforms, "mei").stop(job).status is JobStatus.STOPPED


def test_the_command_does_not_wait_for_jobs_in_the_background(
    bench: Bench, foreground: FakeService, reporter: RecordingReporter
) -> None:
    foreground.is_detached = True
    foreground.expect("submit", *[foreground.accept] * 3)
    outcomes = bench.submit()
    assert [outcome.is_good for outcome in outcomes] == [True] * 3
    assert foreground.arguments_of("follow") == []
    [job, *_] = [outcome.job for outcome in outcomes]
    assert job is not None
    assert (
        f"job 1 ({job.details.display_name}) runs in the background; to see its state, run: "
        "caliban status --xgroup resubmit_test"
    ) in reporter.lines
