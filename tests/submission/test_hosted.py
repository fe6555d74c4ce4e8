"""What is told of jobs that run elsewhere while they are submitted."""

from __future__ import annotations

import pytest

from caliban.platforms.registry import Platforms
from caliban.records import JobStatus, JsonObject, NewJob, PlatformId, Submission
from caliban.store.database import Store
from caliban.submission.submit import Attempt, InterruptedSubmissionError, Submitter
from tests.builders import IMAGE, add_group
from tests.fakes import FakeService, HeardReporter

REQUEST = "Submitting request!"


@pytest.fixture
def submitter(store: Store, platforms: Platforms, heard: HeardReporter) -> Submitter:
    return Submitter(store, platforms, heard, "totoro", at_once=1)


def attempts(store: Store, number: int, platform: PlatformId = "TEST") -> list[Attempt]:
    return [
        Attempt(experiment, platform, {"image": IMAGE, "words": []}, IMAGE, {"place": "here"})
        for experiment in add_group(store, *[None] * number).experiments
    ]


def links(*jobs: int) -> list[str]:
    return [f"job {job} was accepted\nhttps://jobs.example.com/{job}\nfake logs {job}" for job in jobs]


def test_that_jobs_are_submitted_is_told_once_and_where_to_look_at_each(
    store: Store, submitter: Submitter, remote: FakeService, heard: HeardReporter
) -> None:
    remote.expect("submit", remote.accept, remote.accept)
    submitter.submit_all(attempts(store, 2))
    assert heard.said == [REQUEST, *links(1, 2)]


def test_it_is_told_before_the_platform_is_asked(
    store: Store, submitter: Submitter, remote: FakeService, heard: HeardReporter
) -> None:
    told: list[list[str]] = []
    remote.watch = lambda submission: told.append(list(heard.said))
    remote.expect("submit", remote.accept)
    submitter.submit_all(attempts(store, 1))
    assert told == [[REQUEST]]


def test_each_job_is_told_before_the_next_is_submitted(
    store: Store, submitter: Submitter, remote: FakeService, heard: HeardReporter
) -> None:
    told: list[list[str]] = []
    remote.watch = lambda submission: told.append(list(heard.said))
    remote.expect("submit", remote.accept, remote.accept)
    submitter.submit_all(attempts(store, 2))
    assert told[1] == [REQUEST, *links(1)]


@pytest.mark.parametrize("way", ["refuse", "lose_answer", "be_unreachable"])
def test_a_job_that_was_not_accepted_is_nowhere_to_be_looked_at(
    way: str, store: Store, submitter: Submitter, remote: FakeService, heard: HeardReporter
) -> None:
    remote.expect("submit", getattr(remote, way), remote.accept)
    outcomes = submitter.submit_all(attempts(store, 2))
    assert outcomes[1].job is not None
    assert heard.said == [REQUEST, *links(outcomes[1].job.id)]


def test_a_job_that_had_ended_when_it_was_found_is_not_told_as_accepted(
    store: Store, submitter: Submitter, remote: FakeService, heard: HeardReporter
) -> None:
    remote.expect("submit", lambda spec, submission: NewJob(IMAGE, JobStatus.SUCCEEDED))
    submitter.submit_all(attempts(store, 1))
    assert heard.said == [REQUEST]


def test_nothing_to_submit_is_no_request(submitter: Submitter, remote: FakeService, heard: HeardReporter) -> None:
    submitter.submit_all([])
    assert heard.said == []


def test_jobs_of_a_platform_that_is_no_host_are_submitted_without_a_word(
    store: Store, submitter: Submitter, service: FakeService, heard: HeardReporter
) -> None:
    service.expect("submit", service.accept)
    submitter.submit_all(attempts(store, 1))
    assert heard.said == []


def test_jobs_of_a_platform_of_a_later_version_are_no_request(
    store: Store, submitter: Submitter, heard: HeardReporter
) -> None:
    outcomes = submitter.submit_all(attempts(store, 2, "TEST"))
    assert [outcome.error and outcome.error.id for outcome in outcomes] == ["platform-not-supported"] * 2
    assert heard.said == []


def test_after_an_interrupt_an_accepted_job_runs_on_and_is_recorded(
    store: Store, submitter: Submitter, remote: FakeService
) -> None:
    def accept(spec: JsonObject, submission: Submission) -> NewJob:
        remote.press()
        return remote.accept(spec, submission)

    remote.expect("submit", accept)
    with pytest.raises(InterruptedSubmissionError) as caught:
        submitter.submit_all(attempts(store, 2))
    assert [outcome.job and outcome.job.status for outcome in caught.value.outcomes] == [JobStatus.SUBMITTED]
    assert (caught.value.not_started, remote.asked("stop")) == (1, [])
