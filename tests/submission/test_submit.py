"""Every way in which the submission of a job can end: journal, platform, store."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest

from caliban.attempts import AdditionalAttempt, AttemptKind, Rerun, Submission, SubmissionState
from caliban.platforms.base import NotSentError
from caliban.platforms.registry import Platforms
from caliban.records import (
    ExperimentRecord,
    FailureCause,
    JobExit,
    JobRecord,
    JobStatus,
    JobUpdate,
    JsonObject,
    NewJob,
    Outcome,
    PlatformId,
)
from caliban.store.database import Store
from caliban.submission.submit import Attempt, InterruptedSubmissionError, Submitter
from tests.builders import IMAGE, add_group, latest_states, leave_open, read_group, submissions
from tests.fake_platform import end
from tests.fake_service import FakeDestination, FakeService
from tests.fakes import RecordingReporter

SIGNALS = [signal.SIGINT, signal.SIGTERM]


@dataclass
class Bench:
    """A group of three experiments without a job, and a submitter."""

    store: Store
    submitter: Submitter
    attempts: list[Attempt]

    def submit(self) -> list[Outcome]:
        return self.submitter.submit_all(self.attempts)

    def states(self) -> list[str]:
        return latest_states(self.store)

    def journal(self) -> list[str]:
        return [row.state.value for row in submissions(self.store)]


def an_attempt(experiment: ExperimentRecord, kind: AttemptKind = AdditionalAttempt()) -> Attempt:  # noqa: B008 - frozen
    spec = {"image": IMAGE, "arguments": list(experiment.arguments)}
    return Attempt(experiment, "TEST", spec, IMAGE, FakeDestination("zone-b"), kind)


@pytest.fixture(autouse=True)
def sigterm_handler_of_main() -> Iterator[None]:
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def bench(store: Store, platforms: Platforms, reporter: RecordingReporter) -> Bench:
    group = add_group(store, None, None, None)
    submitter = Submitter(store, platforms, reporter, "totoro", parallel=1)
    return Bench(store, submitter, [an_attempt(experiment) for experiment in group.experiments])


def latest_reason(store: Store) -> str | None:
    latest = read_group(store).experiments[0].latest
    return latest.reason if latest else None


def errors(outcomes: list[Outcome]) -> list[str | None]:
    return [outcome.error.id if outcome.error else None for outcome in outcomes]


def test_without_attempts_there_are_no_outcomes(bench: Bench, service: FakeService) -> None:
    assert bench.submitter.submit_all([]) == []


def test_every_attempt_has_one_outcome_in_order(bench: Bench, service: FakeService) -> None:
    service.expect("submit", service.accept, service.accept, service.accept)
    outcomes = bench.submit()
    assert [outcome.experiment.id for outcome in outcomes] == [1, 2, 3]
    assert [outcome.job and outcome.job.id for outcome in outcomes] == [1, 2, 3]


def test_accepted_jobs_are_recorded(bench: Bench, service: FakeService) -> None:
    service.expect("submit", service.accept, service.accept, service.accept)
    bench.submit()
    assert (bench.states(), bench.journal()) == (["SUBMITTED"] * 3, ["DONE"] * 3)


def test_a_submission_is_journaled_before_it_is_sent(bench: Bench, service: FakeService) -> None:
    seen: list[tuple[Submission, list[str]]] = []
    service.on_submit = lambda submission: seen.append((submissions(bench.store)[-1], bench.states()))
    service.expect("submit", service.accept)
    bench.submitter.submit_all(bench.attempts[:1])
    [(row, states)] = seen
    assert (row.state, states) == (SubmissionState.OPEN, ["-"] * 3)


def test_the_platform_gets_the_submission_of_the_journal(bench: Bench, service: FakeService) -> None:
    sent: list[Submission] = []
    service.on_submit = sent.append
    service.expect("submit", service.accept)
    bench.submitter.submit_all(bench.attempts[:1])
    [settled] = submissions(bench.store)
    assert (sent[0].token, sent[0].name, sent[0].user, sent[0].pid) == (
        settled.token,
        f"fake-{settled.token}",
        "totoro",
        os.getpid(),
    )


def test_each_job_is_recorded_before_the_next_is_submitted(bench: Bench, service: FakeService) -> None:
    recorded: list[int] = []
    service.on_submit = lambda submission: recorded.append(bench.states().count("SUBMITTED"))
    service.expect("submit", service.accept, service.accept, service.accept)
    bench.submit()
    assert recorded == [0, 1, 2]


def test_no_session_is_open_while_a_job_is_sent(bench: Bench, service: FakeService) -> None:
    """Another process can write meanwhile: SQLite has one lock."""

    def write(submission: Submission) -> None:
        add_group(bench.store, None, name=f"other {submission.id}")

    service.on_submit = write
    service.expect("submit", service.accept)
    outcomes = bench.submitter.submit_all(bench.attempts[:1])
    assert errors(outcomes) == [None]


def test_every_submission_has_its_own_token(bench: Bench, service: FakeService) -> None:
    service.expect("submit", service.accept, service.accept, service.accept)
    bench.submit()
    assert len({row.token for row in submissions(bench.store)}) == 3


def test_a_rerun_is_recorded_with_the_job_that_it_reruns(
    store: Store, platforms: Platforms, reporter: RecordingReporter, service: FakeService
) -> None:
    [experiment] = add_group(store, JobStatus.FAILED).experiments
    service.expect("submit", service.accept)
    assert experiment.latest is not None
    Submitter(store, platforms, reporter, "totoro").submit_all([an_attempt(experiment, Rerun(experiment.latest.id))])
    [row] = submissions(store)
    assert row.resubmits == experiment.latest.id


def test_the_destination_is_journaled(bench: Bench, service: FakeService) -> None:
    service.expect("submit", service.accept)
    bench.submitter.submit_all(bench.attempts[:1])
    assert [row.destination for row in submissions(bench.store)] == [{"zone": "zone-b"}]


def test_a_refused_job_is_recorded_as_failed_with_its_details(bench: Bench, service: FakeService) -> None:
    service.expect("submit", service.refuse)
    [outcome] = bench.submitter.submit_all(bench.attempts[:1])
    assert outcome.job is not None
    assert (outcome.job.status, outcome.job.details.raw, outcome.job.container) == (
        JobStatus.FAILED,
        {"error": "0 left"},
        IMAGE,
    )
    assert outcome.job.details.exit == JobExit(None, FailureCause.REFUSED, "0 left")
    assert latest_reason(bench.store) == "0 left"


def test_a_refusal_is_reported_with_its_cause(bench: Bench, service: FakeService) -> None:
    service.expect("submit", service.refuse)
    [outcome] = bench.submitter.submit_all(bench.attempts[:1])
    assert outcome.error is not None
    assert (outcome.error.id, outcome.error.cause, outcome.error.hint) == ("fake-quota", "0 left", "wait")


def test_a_refusal_is_journaled_with_its_reason(bench: Bench, service: FakeService) -> None:
    service.expect("submit", service.refuse)
    bench.submitter.submit_all(bench.attempts[:1])
    [row] = submissions(bench.store)
    assert (row.state, row.error, row.job_id) == (
        SubmissionState.FAILED,
        "the fake quota is exceeded: 0 left",
        1,
    )


def test_a_lost_answer_leaves_the_submission_open_to_be_looked_up(bench: Bench, service: FakeService) -> None:
    service.expect("submit", service.lose_answer)
    outcomes = bench.submitter.submit_all(bench.attempts[:1])
    assert (errors(outcomes), bench.journal(), bench.states()[0]) == (["fake-timeout"], ["OPEN"], "-")


def test_an_experiment_with_an_unknown_outcome_is_not_submitted_again(bench: Bench, service: FakeService) -> None:
    service.expect("submit", service.lose_answer)
    outcomes = bench.submitter.submit_all([bench.attempts[0], bench.attempts[0]])
    assert errors(outcomes) == ["fake-timeout", "already-being-submitted"]


@pytest.mark.parametrize(
    ("answer", "error"),
    [("refuse", "fake-quota"), ("lose_answer", "fake-timeout"), ("fail_to_connect", "fake-unreachable")],
)
def test_a_failed_submission_does_not_prevent_others(
    answer: str, error: str, bench: Bench, service: FakeService
) -> None:
    service.expect("submit", service.accept, getattr(service, answer), service.accept)
    assert errors(bench.submit()) == [None, error, None]


def test_an_experiment_that_another_process_submits_is_skipped(bench: Bench, service: FakeService) -> None:
    leave_open(bench.store, bench.attempts[1].experiment, host="catbus", pid=4711)
    service.expect("submit", service.accept, service.accept)
    outcomes = bench.submit()
    assert errors(outcomes) == [None, "already-being-submitted", None]
    assert "by totoro on catbus (process 4711)" in str(outcomes[1].error)


def test_a_deleted_experiment_is_reported(bench: Bench, service: FakeService) -> None:
    deleted = replace(bench.attempts[0], experiment=replace(bench.attempts[0].experiment, id=4711))
    assert errors(bench.submitter.submit_all([deleted])) == ["experiment-unknown"]


def test_a_malformed_spec_and_an_unknown_platform_do_not_prevent_other_jobs(
    bench: Bench, service: FakeService, unknown_platform: PlatformId
) -> None:
    one, two, three = bench.attempts
    service.expect("submit", service.accept)
    bad: JsonObject = {"image": IMAGE}
    attempts = [replace(one, spec=bad), replace(two, platform=unknown_platform), three]
    outcomes = bench.submitter.submit_all(attempts)
    assert errors(outcomes) == ["malformed-job-spec", "platform-not-supported", None]
    assert bench.journal() == ["DONE"]


def test_progress_counts_every_attempt(bench: Bench, service: FakeService, reporter: RecordingReporter) -> None:
    service.expect("submit", service.accept, service.refuse, service.lose_answer)
    bench.submit()
    assert (reporter.advanced, reporter.notes) == (3, ["cpu.py"] * 3)


def accept_interrupted(number: signal.Signals, service: FakeService) -> Callable[[JsonObject, Submission], NewJob]:
    """Return an answer that accepts the job after a signal has arrived."""

    def answer(spec: JsonObject, submission: Submission) -> NewJob:
        service.interrupt(number)
        return service.accept(spec, submission)

    return answer


@pytest.mark.parametrize("number", SIGNALS)
def test_an_interrupt_takes_effect_after_the_job_is_recorded(
    number: signal.Signals, bench: Bench, service: FakeService
) -> None:
    service.expect("submit", service.accept, accept_interrupted(number, service))
    with pytest.raises(InterruptedSubmissionError) as caught:
        bench.submit()
    assert (len(caught.value.outcomes), caught.value.not_started) == (2, 1)
    assert (bench.states(), bench.journal()) == (["SUBMITTED", "SUBMITTED", "-"], ["DONE", "DONE", "ABANDONED"])


def test_a_job_in_the_background_is_not_stopped_by_an_interrupt(bench: Bench, service: FakeService) -> None:
    service.expect("submit", accept_interrupted(signal.SIGINT, service))
    with pytest.raises(InterruptedSubmissionError):
        bench.submit()
    assert service.arguments_of("stop") == []


def test_a_foreground_job_is_stopped_after_an_interrupt_during_its_submission(
    bench: Bench, foreground: FakeService
) -> None:
    foreground.expect("submit", accept_interrupted(signal.SIGINT, foreground))
    foreground.expect("stop", end(JobStatus.STOPPED))
    with pytest.raises(InterruptedSubmissionError) as caught:
        bench.submit()
    assert (bench.states(), bench.journal()) == (["STOPPED", "-", "-"], ["DONE", "ABANDONED", "ABANDONED"])
    assert ([outcome.job and outcome.job.status for outcome in caught.value.outcomes], caught.value.not_started) == (
        [JobStatus.STOPPED],
        2,
    )


def test_a_refused_job_is_not_stopped_after_an_interrupt(bench: Bench, foreground: FakeService) -> None:
    def refuse_interrupted(spec: JsonObject, submission: Submission) -> NewJob:
        foreground.interrupt()
        return foreground.refuse(spec, submission)

    foreground.expect("submit", refuse_interrupted)
    with pytest.raises(InterruptedSubmissionError) as caught:
        bench.submit()
    assert (
        [outcome.error and outcome.error.id for outcome in caught.value.outcomes],
        foreground.arguments_of("stop"),
    ) == (
        ["fake-quota"],
        [],
    )


def interrupt_following(job: JobRecord) -> JobUpdate:
    raise KeyboardInterrupt


def interrupt_again(job: JobRecord) -> JobUpdate:
    signal.raise_signal(signal.SIGINT)
    return JobUpdate(JobStatus.STOPPED)


def test_a_foreground_job_is_followed_to_its_end_and_recorded(
    bench: Bench, foreground: FakeService, reporter: RecordingReporter
) -> None:
    foreground.expect("submit", foreground.accept, foreground.accept, foreground.accept)
    foreground.expect(
        "follow", end(JobStatus.SUCCEEDED, ret_code=0), end(JobStatus.FAILED, ret_code=1), end(JobStatus.SUCCEEDED)
    )
    outcomes = bench.submit()
    assert bench.states() == ["SUCCEEDED", "FAILED", "SUCCEEDED"]
    assert [outcome.is_good for outcome in outcomes] == [True, False, True]
    assert reporter.lines[:2] == ["job 1: cpu.py --foo 3 --sleep 0", "job 1: succeeded"]


def test_an_outcome_has_the_final_details_of_the_job(bench: Bench, foreground: FakeService) -> None:
    foreground.expect("submit", foreground.accept)
    foreground.expect("follow", end(JobStatus.FAILED, ret_code=7))
    [outcome] = bench.submitter.submit_all(bench.attempts[:1])
    assert outcome.job is not None
    assert outcome.job.details.raw["ret_code"] == 7


def test_foreground_jobs_run_one_after_the_other(bench: Bench, foreground: FakeService) -> None:
    foreground.expect("submit", foreground.accept, foreground.accept, foreground.accept)
    foreground.expect("follow", *[end(JobStatus.SUCCEEDED)] * 3)
    bench.submit()
    assert [name for name, _ in foreground.calls] == ["submit", "follow"] * 3


def test_each_result_is_recorded_immediately(bench: Bench, foreground: FakeService) -> None:
    seen: list[list[str]] = []
    foreground.on_submit = lambda submission: seen.append(bench.states())
    foreground.expect("submit", foreground.accept, foreground.accept)
    foreground.expect("follow", end(JobStatus.FAILED), end(JobStatus.SUCCEEDED))
    bench.submitter.submit_all(bench.attempts[:2])
    assert seen[1] == ["FAILED", "-", "-"]


def test_a_job_that_had_already_ended_is_not_followed(bench: Bench, foreground: FakeService) -> None:
    foreground.expect("submit", lambda spec, submission: NewJob(IMAGE, JobStatus.SUCCEEDED))
    bench.submitter.submit_all(bench.attempts[:1])
    assert foreground.arguments_of("follow") == []


def test_a_job_stays_unfinished_when_the_connection_is_lost(bench: Bench, foreground: FakeService) -> None:
    foreground.expect("submit", foreground.accept, foreground.accept, foreground.accept)
    foreground.expect("follow", foreground.fail_to_connect, end(JobStatus.SUCCEEDED), end(JobStatus.SUCCEEDED))
    outcomes = bench.submit()
    assert (errors(outcomes), bench.states()) == (
        ["fake-unreachable", None, None],
        ["SUBMITTED", "SUCCEEDED", "SUCCEEDED"],
    )


def test_an_interrupt_stops_the_job_that_is_followed(
    bench: Bench, foreground: FakeService, reporter: RecordingReporter
) -> None:
    foreground.expect("submit", foreground.accept, foreground.accept)
    foreground.expect("follow", end(JobStatus.SUCCEEDED), interrupt_following)
    foreground.expect("stop", end(JobStatus.STOPPED))
    with pytest.raises(InterruptedSubmissionError) as caught:
        bench.submit()
    assert (bench.states(), caught.value.not_started) == (["SUCCEEDED", "STOPPED", "-"], 1)
    assert reporter.lines[-1] == "stopping job 2 ..."


def test_a_second_interrupt_does_not_prevent_the_stop(bench: Bench, foreground: FakeService) -> None:
    foreground.expect("submit", foreground.accept)
    foreground.expect("follow", interrupt_following)
    foreground.expect("stop", interrupt_again)
    with pytest.raises(InterruptedSubmissionError) as caught:
        bench.submit()
    assert bench.states()[0] == "STOPPED"
    assert [outcome.job and outcome.job.status for outcome in caught.value.outcomes] == [JobStatus.STOPPED]


def test_a_job_that_cannot_be_stopped_is_reported(bench: Bench, foreground: FakeService) -> None:
    foreground.expect("submit", foreground.accept)
    foreground.expect("follow", interrupt_following)
    foreground.expect("stop", foreground.fail_to_connect)
    with pytest.raises(InterruptedSubmissionError) as caught:
        bench.submit()
    assert (errors(list(caught.value.outcomes)), bench.states()[0]) == (["fake-unreachable"], "SUBMITTED")


def test_an_interrupted_submission_is_a_keyboard_interrupt() -> None:
    assert issubclass(InterruptedSubmissionError, KeyboardInterrupt)


def test_a_limited_number_of_jobs_is_submitted_in_parallel(
    store: Store, platforms: Platforms, reporter: RecordingReporter, service: FakeService
) -> None:
    in_progress = threading.Semaphore(0)
    most: list[int] = []
    busy = 0
    lock = threading.Lock()

    def wait_for_three(spec: JsonObject, submission: Submission) -> NewJob:
        nonlocal busy
        with lock:
            busy += 1
            most.append(busy)
        if busy == 3:
            in_progress.release(9)
        assert in_progress.acquire(timeout=10), "the others were not submitted meanwhile"
        with lock:
            busy -= 1
        return service.accept(spec, submission)

    group = add_group(store, *[None] * 9)
    service.expect("submit", *[wait_for_three] * 9)
    outcomes = Submitter(store, platforms, reporter, "totoro", parallel=3).submit_all(
        [an_attempt(experiment) for experiment in group.experiments]
    )
    assert max(most) == 3
    assert [outcome.experiment.id for outcome in outcomes] == list(range(1, 10))
    assert latest_states(store) == ["SUBMITTED"] * 9


def test_a_job_that_was_not_sent_is_counted_as_not_started(bench: Bench, service: FakeService) -> None:
    def stop_before_sending(spec: JsonObject, submission: Submission) -> NewJob:
        service.interrupt()
        raise NotSentError("not-sent", "the job was not submitted")

    service.expect("submit", service.accept, stop_before_sending)
    with pytest.raises(InterruptedSubmissionError) as caught:
        bench.submit()
    assert (len(caught.value.outcomes), caught.value.not_started) == (1, 2)
    assert (bench.states(), bench.journal()) == (["SUBMITTED", "-", "-"], ["DONE", "ABANDONED", "ABANDONED"])
