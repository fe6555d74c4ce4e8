"""Who ends a job that is followed, and what becomes of one of which something unforeseen happens."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from dataclasses import replace

import pytest

from caliban.attempts import Submission
from caliban.platforms.registry import Platforms
from caliban.records import JobRecord, JobStatus, JobUpdate, JsonObject, NewJob
from caliban.store.states import STOP_KEY
from caliban.submission.stopping import Stopper
from caliban.submission.submit import InterruptedSubmissionError
from tests.builders import read_group
from tests.fake_platform import end
from tests.fake_service import FakeService
from tests.fakes import FakeClock, RecordingReporter

from .test_submit import SIGNALS, Bench, bench, errors, sigterm_handler_of_main

__all__ = ["bench", "sigterm_handler_of_main"]


def stop_elsewhere(bench: Bench, platforms: Platforms, *, exits_with: int) -> Callable[[JobRecord], JobUpdate]:
    """Return an answer for ``expect("follow", ...)``: the job is stopped in another terminal, and its program ends."""

    def follow(job: JobRecord) -> JobUpdate:
        stopped = Stopper(bench.store, platforms, "mei").stop(job)
        assert stopped.status is JobStatus.STOPPED
        status = JobStatus.FAILED if exits_with else JobStatus.SUCCEEDED
        return end(status, ret_code=exits_with)(job)

    return follow


@pytest.mark.parametrize("exits_with", [0, 143])
def test_a_job_that_is_stopped_in_another_terminal_stays_stopped(
    exits_with: int, bench: Bench, platforms: Platforms, foreground: FakeService, reporter: RecordingReporter
) -> None:
    foreground.expect("submit", foreground.accept)
    foreground.expect("follow", stop_elsewhere(bench, platforms, exits_with=exits_with))
    foreground.expect("stop", end(JobStatus.STOPPED))
    [outcome] = bench.submitter.submit_all(bench.attempts[:1])
    assert outcome.job is not None
    assert (outcome.job.status, bench.states()[0], outcome.is_good) == (JobStatus.STOPPED, "STOPPED", False)
    assert reporter.lines[-1].startswith("job 1: stopped by mei on ")


def test_a_job_that_ended_before_it_could_be_stopped_keeps_its_end(
    bench: Bench, platforms: Platforms, foreground: FakeService
) -> None:
    foreground.expect("submit", foreground.accept)
    foreground.expect("follow", end(JobStatus.SUCCEEDED, ret_code=0))
    [outcome] = bench.submitter.submit_all(bench.attempts[:1])
    running = replace(outcome.job, status=JobStatus.RUNNING) if outcome.job else None
    assert running is not None
    assert Stopper(bench.store, platforms, "mei").stop(running).status is JobStatus.SUCCEEDED
    assert foreground.arguments_of("stop") == []


def test_two_interrupts_at_the_same_moment_stop_the_job_that_is_followed(bench: Bench, foreground: FakeService) -> None:
    """The second one comes before anything can be done about the first."""

    def interrupt_twice(job: JobRecord) -> JobUpdate:
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        for number in SIGNALS:
            signal.pthread_kill(threading.get_ident(), number)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        raise AssertionError("the signals were not handled")

    foreground.expect("submit", foreground.accept)
    foreground.expect("follow", interrupt_twice)
    foreground.expect("stop", end(JobStatus.STOPPED))
    with pytest.raises(InterruptedSubmissionError):
        bench.submit()
    assert bench.states()[0] == "STOPPED"


def test_after_a_second_an_interrupt_ends_the_wait_for_a_stop(
    bench: Bench, platforms: Platforms, foreground: FakeService, reporter: RecordingReporter
) -> None:
    """The request to stop it is recorded, so that the next command records its end as that of a stopped job."""

    def hang(job: JobRecord) -> JobUpdate:
        clock.seconds += 1
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("the signal was held back")

    def interrupt(job: JobRecord) -> JobUpdate:
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("the signal was held back")

    clock = FakeClock()
    object.__setattr__(platforms.context, "clock", clock)
    foreground.expect("submit", foreground.accept)
    foreground.expect("follow", interrupt)
    foreground.expect("stop", hang)
    with pytest.raises(InterruptedSubmissionError):
        bench.submit()
    assert reporter.lines[-1] == "not waiting for job 1 to stop; to check its state, run: caliban status"
    latest = read_group(bench.store).experiments[0].latest
    assert latest is not None
    assert latest.details.raw[STOP_KEY]


def test_no_bar_is_drawn_while_jobs_run_here(
    bench: Bench, foreground: FakeService, reporter: RecordingReporter
) -> None:
    """Where their output goes to a pipe, what reads it may write it to the terminal with the bar."""
    foreground.expect("submit", *[foreground.accept] * 3)
    foreground.expect("follow", *[end(JobStatus.SUCCEEDED, ret_code=0)] * 3)
    bench.submit()
    assert (reporter.advanced, reporter.notes) == (0, [])


def interrupted(number: signal.Signals, clock: FakeClock) -> Callable[[JobRecord], JobUpdate]:
    """Return an answer that a signal interrupts, a second after the one before."""

    def interrupt(job: JobRecord) -> JobUpdate:
        clock.seconds += 1
        signal.raise_signal(number)
        raise AssertionError("the signal was held back")

    return interrupt


@pytest.mark.parametrize("number", SIGNALS)
def test_a_second_signal_kills_the_job_at_once(
    number: signal.Signals, killing: FakeService, bench: Bench, platforms: Platforms, reporter: RecordingReporter
) -> None:
    clock = FakeClock()
    object.__setattr__(platforms.context, "clock", clock)
    killing.expect("submit", killing.accept)
    killing.expect("follow", interrupted(number, clock))
    killing.expect("stop", interrupted(number, clock))
    killing.expect("kill", end(JobStatus.STOPPED))
    with pytest.raises(InterruptedSubmissionError) as caught:
        bench.submit()
    assert [outcome.job and outcome.job.status for outcome in caught.value.outcomes] == [JobStatus.STOPPED]
    assert bench.states()[0] == "STOPPED"
    hint = "to kill it at once, press Ctrl-C again"
    assert reporter.lines[-3:] == ["stopping job 1 ...", hint, "killing job 1 ..."]


def test_a_third_signal_ends_the_wait_for_a_kill(
    killing: FakeService, bench: Bench, platforms: Platforms, reporter: RecordingReporter
) -> None:
    clock = FakeClock()
    object.__setattr__(platforms.context, "clock", clock)
    killing.expect("submit", killing.accept)
    for method in ("follow", "stop", "kill"):
        killing.expect(method, interrupted(signal.SIGINT, clock))
    with pytest.raises(InterruptedSubmissionError):
        bench.submit()
    assert reporter.lines[-1] == "not waiting for job 1 to stop; to check its state, run: caliban status"


ODD_ERRORS = [ValueError("embedded null byte"), KeyError("name"), RecursionError(), SystemExit(3), AssertionError("x")]


@pytest.mark.parametrize("error", ODD_ERRORS, ids=lambda error: type(error).__name__)
def test_after_an_unforeseen_exception_it_is_unknown_whether_the_job_was_sent(
    error: BaseException, bench: Bench, service: FakeService
) -> None:
    def fail(spec: JsonObject, submission: Submission) -> NewJob:
        raise error

    service.expect("submit", service.accept, fail, service.accept)
    outcomes = bench.submit()
    assert (errors(outcomes), bench.journal()) == ([None, "internal-error", None], ["DONE", "OPEN", "DONE"])


@pytest.mark.parametrize("answer", [None, {"name": "fake"}, 7])
def test_an_answer_of_another_type_leaves_the_submission_open(
    answer: object, bench: Bench, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.fake_platform.FakePlatform.submit", lambda *arguments: answer)
    outcomes = bench.submitter.submit_all(bench.attempts[:1])
    assert (errors(outcomes), bench.journal()) == (["internal-error"], ["OPEN"])


def test_an_unforeseen_exception_does_not_repeat_credentials(bench: Bench, service: FakeService) -> None:
    def fail(spec: JsonObject, submission: Submission) -> NewJob:
        raise ValueError("Invalid header value b'Bearer ya29.secret-token\\n'")

    service.expect("submit", fail)
    [outcome] = bench.submitter.submit_all(bench.attempts[:1])
    assert outcome.error is not None
    assert "secret-token" not in str(outcome.error.cause)


@pytest.mark.parametrize("error", ODD_ERRORS, ids=lambda error: type(error).__name__)
def test_a_job_that_cannot_be_followed_does_not_prevent_others(
    error: BaseException, bench: Bench, foreground: FakeService
) -> None:
    def fail(job: JobRecord) -> JobUpdate:
        raise error

    foreground.expect("submit", foreground.accept, foreground.accept)
    foreground.expect("follow", fail, end(JobStatus.SUCCEEDED))
    outcomes = bench.submitter.submit_all(bench.attempts[:2])
    assert (errors(outcomes), bench.states()[:2]) == (["internal-error", None], ["SUBMITTED", "SUCCEEDED"])


def test_a_job_whose_links_cannot_be_determined_was_accepted(
    bench: Bench, remote: FakeService, reporter: RecordingReporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: object, job: JobRecord) -> list[str]:
        raise KeyError("region")

    monkeypatch.setattr("tests.fake_platform.FakeRemotePlatform.links", fail)
    remote.expect("submit", remote.accept)
    outcomes = bench.submitter.submit_all(bench.attempts[:1])
    assert (errors(outcomes), bench.states()[0], reporter.lines[-1]) == ([None], "SUBMITTED", "job 1 was accepted")


def test_after_a_second_an_interrupt_ends_the_wait_for_submissions(
    bench: Bench, platforms: Platforms, service: FakeService, reporter: RecordingReporter
) -> None:
    """What was sent stays open, and is looked up by the next command."""
    released = threading.Event()
    clock = FakeClock()
    object.__setattr__(platforms.context, "clock", clock)

    def hang(spec: JsonObject, submission: Submission) -> NewJob:
        service.interrupt()
        clock.seconds += 1
        os.kill(os.getpid(), signal.SIGINT)
        released.wait(10)
        raise AssertionError("nobody waits for this")

    service.expect("submit", service.accept, hang)
    with pytest.raises(InterruptedSubmissionError):
        bench.submit()
    assert reporter.lines[-1] == "not waiting for the submissions in progress; to look them up, run: caliban status"
    assert bench.journal() == ["DONE", "OPEN", "ABANDONED"]
    released.set()


def test_after_a_second_an_interrupt_ends_the_wait_for_the_start_of_a_local_job(
    bench: Bench, platforms: Platforms, foreground: FakeService, reporter: RecordingReporter
) -> None:
    clock = FakeClock()
    object.__setattr__(platforms.context, "clock", clock)

    def hang(spec: JsonObject, submission: Submission) -> NewJob:
        signal.raise_signal(signal.SIGINT)
        clock.seconds += 1
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("the signal was held back")

    foreground.expect("submit", hang)
    with pytest.raises(InterruptedSubmissionError):
        bench.submit()
    assert reporter.lines[-1] == "not waiting for the submissions in progress; to look them up, run: caliban status"
    assert bench.journal() == ["OPEN", "ABANDONED", "ABANDONED"]
