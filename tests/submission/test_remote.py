"""What is reported while jobs are submitted that run elsewhere."""

from __future__ import annotations

import pytest

from caliban.attempts import FirstAttempt, Submission
from caliban.platforms.registry import Platforms
from caliban.records import JobStatus, JsonObject, NewJob, PlatformId
from caliban.store.database import Store
from caliban.submission.submit import Attempt, InterruptedSubmissionError, Submitter
from tests.builders import IMAGE, add_group
from tests.fake_service import FakeDestination, FakeService
from tests.fakes import RecordingReporter

REQUEST = "Submitting request!"


@pytest.fixture
def submitter(store: Store, platforms: Platforms, reporter: RecordingReporter) -> Submitter:
    return Submitter(store, platforms, reporter, "totoro", parallel=1)


def attempts(store: Store, number: int, platform: PlatformId = "TEST") -> list[Attempt]:
    return [
        Attempt(experiment, platform, {"image": IMAGE, "arguments": []}, IMAGE, FakeDestination(), FirstAttempt())
        for experiment in add_group(store, *[None] * number).experiments
    ]


def links(*jobs: int) -> list[str]:
    return [
        line
        for job in jobs
        for line in (f"job {job} was accepted", f"https://jobs.example.com/{job}", f"fake logs {job}")
    ]


def test_a_submission_is_reported_once_and_the_links_of_each_job(
    store: Store, submitter: Submitter, remote: FakeService, reporter: RecordingReporter
) -> None:
    remote.expect("submit", remote.accept, remote.accept)
    submitter.submit_all(attempts(store, 2))
    assert reporter.lines == [REQUEST, *links(1, 2)]


def test_a_submission_is_reported_before_it_is_sent(
    store: Store, submitter: Submitter, remote: FakeService, reporter: RecordingReporter
) -> None:
    reported: list[list[str]] = []
    remote.on_submit = lambda submission: reported.append(list(reporter.lines))
    remote.expect("submit", remote.accept)
    submitter.submit_all(attempts(store, 1))
    assert reported == [[REQUEST]]


def test_each_job_is_reported_before_the_next_is_submitted(
    store: Store, submitter: Submitter, remote: FakeService, reporter: RecordingReporter
) -> None:
    reported: list[list[str]] = []
    remote.on_submit = lambda submission: reported.append(list(reporter.lines))
    remote.expect("submit", remote.accept, remote.accept)
    submitter.submit_all(attempts(store, 2))
    assert reported[1] == [REQUEST, *links(1)]


@pytest.mark.parametrize("answer", ["refuse", "lose_answer", "fail_to_connect"])
def test_a_job_that_was_not_accepted_has_no_links(
    answer: str, store: Store, submitter: Submitter, remote: FakeService, reporter: RecordingReporter
) -> None:
    remote.expect("submit", getattr(remote, answer), remote.accept)
    outcomes = submitter.submit_all(attempts(store, 2))
    assert outcomes[1].job is not None
    assert reporter.lines == [REQUEST, *links(outcomes[1].job.id)]


def test_a_job_that_had_already_ended_is_not_reported_as_accepted(
    store: Store, submitter: Submitter, remote: FakeService, reporter: RecordingReporter
) -> None:
    remote.expect("submit", lambda spec, submission: NewJob(IMAGE, JobStatus.SUCCEEDED))
    submitter.submit_all(attempts(store, 1))
    assert reporter.lines == [REQUEST]


def test_without_jobs_no_submission_is_reported(
    submitter: Submitter, remote: FakeService, reporter: RecordingReporter
) -> None:
    submitter.submit_all([])
    assert reporter.lines == []


def test_jobs_of_a_platform_that_is_not_remote_are_submitted_silently(
    store: Store, submitter: Submitter, service: FakeService, reporter: RecordingReporter
) -> None:
    service.expect("submit", service.accept)
    submitter.submit_all(attempts(store, 1))
    assert reporter.lines == []


def test_for_jobs_of_an_unknown_platform_no_submission_is_reported(
    store: Store, submitter: Submitter, reporter: RecordingReporter, unknown_platform: PlatformId
) -> None:
    outcomes = submitter.submit_all(attempts(store, 2, unknown_platform))
    assert [outcome.error and outcome.error.id for outcome in outcomes] == ["platform-not-supported"] * 2
    assert reporter.lines == []


def test_after_an_interrupt_an_accepted_job_keeps_running_and_is_recorded(
    store: Store, submitter: Submitter, remote: FakeService
) -> None:
    def accept(spec: JsonObject, submission: Submission) -> NewJob:
        remote.interrupt()
        return remote.accept(spec, submission)

    remote.expect("submit", accept)
    with pytest.raises(InterruptedSubmissionError) as caught:
        submitter.submit_all(attempts(store, 2))
    assert [outcome.job and outcome.job.status for outcome in caught.value.outcomes] == [JobStatus.SUBMITTED]
    assert (caught.value.not_started, remote.arguments_of("stop")) == (1, [])
