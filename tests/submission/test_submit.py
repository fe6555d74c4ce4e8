"""Journal, platform, store: every way in which the submission of a job can go."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest

from caliban.platforms.base import JobUpdate, NotSentError, Platforms
from caliban.records import (
    ExperimentRecord,
    JobRecord,
    JobStatus,
    JsonObject,
    NewJob,
    Outcome,
    PlatformId,
    Submission,
    SubmissionState,
)
from caliban.store.database import Store
from caliban.submission.submit import Attempt, InterruptedSubmissionError, Submitter
from tests.builders import IMAGE, add_group, latest_states, leave_open, submissions
from tests.fakes import FakeService, HeardReporter, end

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


def an_attempt(experiment: ExperimentRecord, resubmits: JobRecord | None = None) -> Attempt:
    spec = {"image": IMAGE, "words": list(experiment.arguments)}
    return Attempt(experiment, "TEST", spec, IMAGE, {"place": "there"}, resubmits)


@pytest.fixture(autouse=True)
def sigterm_as_main_has_it() -> Iterator[None]:
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def bench(store: Store, platforms: Platforms, heard: HeardReporter) -> Bench:
    group = add_group(store, None, None, None)
    submitter = Submitter(store, platforms, heard, "totoro", at_once=1)
    return Bench(store, submitter, [an_attempt(experiment) for experiment in group.experiments])


def errors(outcomes: list[Outcome]) -> list[str | None]:
    return [outcome.error.id if outcome.error else None for outcome in outcomes]


def test_nothing_to_submit_is_no_outcome(bench: Bench, service: FakeService) -> None:
    assert bench.submitter.submit_all([]) == []


def test_every_attempt_has_one_outcome_in_order(bench: Bench, service: FakeService) -> None:
    service.expect("submit", service.accept, service.accept, service.accept)
    outcomes = bench.submit()
    assert [outcome.experiment.id for outcome in outcomes] == [1, 2, 3]
    assert [outcome.job and outcome.job.id for outcome in outcomes] == [1, 2, 3]


def test_what_the_platform_took_on_is_recorded(bench: Bench, service: FakeService) -> None:
    service.expect("submit", service.accept, service.accept, service.accept)
    bench.submit()
    assert (bench.states(), bench.journal()) == (["SUBMITTED"] * 3, ["DONE"] * 3)


def test_a_submission_is_written_down_before_the_platform_is_asked(bench: Bench, service: FakeService) -> None:
    seen: list[tuple[Submission, list[str]]] = []
    service.watch = lambda submission: seen.append((submissions(bench.store)[-1], bench.states()))
    service.expect("submit", service.accept)
    bench.submitter.submit_all(bench.attempts[:1])
    [(row, states)] = seen
    assert (row.state, states) == (SubmissionState.OPEN, ["-"] * 3)


def test_the_journal_s_row_is_what_the_platform_is_given(bench: Bench, service: FakeService) -> None:
    given: list[Submission] = []
    service.watch = given.append
    service.expect("submit", service.accept)
    bench.submitter.submit_all(bench.attempts[:1])
    [settled] = submissions(bench.store)
    assert (given[0].token, given[0].name, given[0].user, given[0].pid) == (
        settled.token,
        f"fake-{settled.token}",
        "totoro",
        os.getpid(),
    )


def test_each_job_is_recorded_before_the_next_is_submitted(bench: Bench, service: FakeService) -> None:
    recorded: list[int] = []
    service.watch = lambda submission: recorded.append(bench.states().count("SUBMITTED"))
    service.expect("submit", service.accept, service.accept, service.accept)
    bench.submit()
    assert recorded == [0, 1, 2]


def test_no_session_is_open_while_the_platform_is_asked(bench: Bench, service: FakeService) -> None:
    """Somebody else can write meanwhile: SQLite has one lock."""

    def write(submission: Submission) -> None:
        add_group(bench.store, None, name=f"other {submission.id}")

    service.watch = write
    service.expect("submit", service.accept)
    outcomes = bench.submitter.submit_all(bench.attempts[:1])
    assert errors(outcomes) == [None]


def test_tokens_are_never_used_twice(bench: Bench, service: FakeService) -> None:
    service.expect("submit", service.accept, service.accept, service.accept)
    bench.submit()
    assert len({row.token for row in submissions(bench.store)}) == 3


def test_a_rerun_is_recorded_with_the_job_that_it_reruns(
    store: Store, platforms: Platforms, heard: HeardReporter, service: FakeService
) -> None:
    [experiment] = add_group(store, JobStatus.FAILED).experiments
    service.expect("submit", service.accept)
    assert experiment.latest is not None
    Submitter(store, platforms, heard, "totoro").submit_all([an_attempt(experiment, experiment.latest)])
    [row] = submissions(store)
    assert row.resubmits == experiment.latest.id


def test_where_a_job_goes_is_written_down(bench: Bench, service: FakeService) -> None:
    service.expect("submit", service.accept)
    bench.submitter.submit_all(bench.attempts[:1])
    assert [row.target for row in submissions(bench.store)] == [{"place": "there"}]


def test_a_refused_job_is_recorded_as_failed_with_its_details(bench: Bench, service: FakeService) -> None:
    service.expect("submit", service.refuse)
    [outcome] = bench.submitter.submit_all(bench.attempts[:1])
    assert outcome.job is not None
    assert (outcome.job.status, outcome.job.details, outcome.job.container) == (
        JobStatus.FAILED,
        {"error": "0 left"},
        IMAGE,
    )


def test_a_refused_job_is_told_with_its_cause(bench: Bench, service: FakeService) -> None:
    service.expect("submit", service.refuse)
    [outcome] = bench.submitter.submit_all(bench.attempts[:1])
    assert outcome.error is not None
    assert (outcome.error.id, outcome.error.cause, outcome.error.hint) == ("fake-quota", "0 left", "wait")


def test_a_refused_job_settles_the_journal_with_the_reason(bench: Bench, service: FakeService) -> None:
    service.expect("submit", service.refuse)
    bench.submitter.submit_all(bench.attempts[:1])
    [row] = submissions(bench.store)
    assert (row.state, row.error, row.job_id) == (
        SubmissionState.FAILED,
        "the fake platform has no room: 0 left",
        1,
    )


def test_a_lost_answer_leaves_the_submission_open_to_be_looked_up(bench: Bench, service: FakeService) -> None:
    service.expect("submit", service.lose_answer)
    outcomes = bench.submitter.submit_all(bench.attempts[:1])
    assert (errors(outcomes), bench.journal(), bench.states()[0]) == (["fake-timeout"], ["OPEN"], "-")


def test_an_experiment_that_is_in_doubt_is_not_submitted_again(bench: Bench, service: FakeService) -> None:
    service.expect("submit", service.lose_answer)
    outcomes = bench.submitter.submit_all([bench.attempts[0], bench.attempts[0]])
    assert errors(outcomes) == ["fake-timeout", "already-being-submitted"]


@pytest.mark.parametrize(
    ("way", "error"),
    [("refuse", "fake-quota"), ("lose_answer", "fake-timeout"), ("be_unreachable", "fake-unreachable")],
)
def test_one_bad_job_never_keeps_the_others_from_being_submitted(
    way: str, error: str, bench: Bench, service: FakeService
) -> None:
    service.expect("submit", service.accept, getattr(service, way), service.accept)
    assert errors(bench.submit()) == [None, error, None]


def test_an_experiment_that_somebody_else_submits_is_left_to_them(bench: Bench, service: FakeService) -> None:
    leave_open(bench.store, bench.attempts[1].experiment, host="catbus", pid=4711)
    service.expect("submit", service.accept, service.accept)
    outcomes = bench.submit()
    assert errors(outcomes) == [None, "already-being-submitted", None]
    assert "from catbus (process 4711)" in str(outcomes[1].error)


def test_an_experiment_that_was_deleted_meanwhile_is_told(bench: Bench, service: FakeService) -> None:
    gone = replace(bench.attempts[0], experiment=replace(bench.attempts[0].experiment, id=4711))
    assert errors(bench.submitter.submit_all([gone])) == ["experiment-unknown"]


def test_a_malformed_spec_and_a_platform_of_a_later_version_are_told_and_the_rest_go_on(
    bench: Bench, service: FakeService, unknown_platform: PlatformId
) -> None:
    one, two, three = bench.attempts
    service.expect("submit", service.accept)
    bad: JsonObject = {"image": IMAGE}
    attempts = [replace(one, spec=bad), replace(two, platform=unknown_platform), three]
    outcomes = bench.submitter.submit_all(attempts)
    assert errors(outcomes) == ["malformed-job-spec", "platform-not-supported", None]
    assert bench.journal() == ["DONE"]


def test_progress_counts_every_attempt(bench: Bench, service: FakeService, heard: HeardReporter) -> None:
    service.expect("submit", service.accept, service.refuse, service.lose_answer)
    bench.submit()
    assert (heard.advanced, heard.notes) == (3, ["cpu.py"] * 3)


def press(number: signal.Signals, service: FakeService) -> Callable[[JsonObject, Submission], NewJob]:
    """A person presses Ctrl-C while the platform is being asked, which takes the job on."""

    def answer(spec: JsonObject, submission: Submission) -> NewJob:
        service.press(number)
        return service.accept(spec, submission)

    return answer


@pytest.mark.parametrize("number", SIGNALS)
def test_an_interrupt_waits_until_the_job_is_recorded(
    number: signal.Signals, bench: Bench, service: FakeService
) -> None:
    service.expect("submit", service.accept, press(number, service))
    with pytest.raises(InterruptedSubmissionError) as caught:
        bench.submit()
    assert (len(caught.value.outcomes), caught.value.not_started) == (2, 1)
    assert (bench.states(), bench.journal()) == (["SUBMITTED", "SUBMITTED", "-"], ["DONE", "DONE"])


def test_an_unattended_job_is_not_stopped_by_an_interrupt(bench: Bench, service: FakeService) -> None:
    service.expect("submit", press(signal.SIGINT, service))
    with pytest.raises(InterruptedSubmissionError):
        bench.submit()
    assert service.asked("stop") == []


def test_an_attended_job_is_stopped_after_an_interrupt_while_it_was_submitted(
    bench: Bench, foreground: FakeService
) -> None:
    foreground.expect("submit", press(signal.SIGINT, foreground))
    foreground.expect("stop", end(JobStatus.STOPPED))
    with pytest.raises(InterruptedSubmissionError) as caught:
        bench.submit()
    assert (bench.states(), bench.journal()) == (["STOPPED", "-", "-"], ["DONE"])
    assert ([outcome.job and outcome.job.status for outcome in caught.value.outcomes], caught.value.not_started) == (
        [JobStatus.STOPPED],
        2,
    )


def test_a_refused_job_is_not_stopped_after_an_interrupt(bench: Bench, foreground: FakeService) -> None:
    def press_and_refuse(spec: JsonObject, submission: Submission) -> NewJob:
        foreground.press()
        return foreground.refuse(spec, submission)

    foreground.expect("submit", press_and_refuse)
    with pytest.raises(InterruptedSubmissionError) as caught:
        bench.submit()
    assert ([outcome.error and outcome.error.id for outcome in caught.value.outcomes], foreground.asked("stop")) == (
        ["fake-quota"],
        [],
    )


def interrupt(job: JobRecord) -> JobUpdate:
    raise KeyboardInterrupt


def interrupted_once_more(job: JobRecord) -> JobUpdate:
    signal.raise_signal(signal.SIGINT)
    return JobUpdate(JobStatus.STOPPED)


def test_an_attended_job_is_followed_to_its_end_and_recorded(
    bench: Bench, foreground: FakeService, heard: HeardReporter
) -> None:
    foreground.expect("submit", foreground.accept, foreground.accept, foreground.accept)
    foreground.expect(
        "follow", end(JobStatus.SUCCEEDED, ret_code=0), end(JobStatus.FAILED, ret_code=1), end(JobStatus.SUCCEEDED)
    )
    outcomes = bench.submit()
    assert bench.states() == ["SUCCEEDED", "FAILED", "SUCCEEDED"]
    assert [outcome.is_good for outcome in outcomes] == [True, False, True]
    assert heard.said[:2] == ["job 1: cpu.py --foo 3 --sleep 0", "job 1: succeeded"]


def test_what_was_learnt_at_the_end_of_a_job_is_in_its_outcome(bench: Bench, foreground: FakeService) -> None:
    foreground.expect("submit", foreground.accept)
    foreground.expect("follow", end(JobStatus.FAILED, ret_code=7))
    [outcome] = bench.submitter.submit_all(bench.attempts[:1])
    assert outcome.job is not None
    assert outcome.job.details["ret_code"] == 7


def test_jobs_run_one_after_the_other(bench: Bench, foreground: FakeService) -> None:
    foreground.expect("submit", foreground.accept, foreground.accept, foreground.accept)
    foreground.expect("follow", *[end(JobStatus.SUCCEEDED)] * 3)
    bench.submit()
    assert [name for name, _ in foreground.calls] == ["submit", "follow"] * 3


def test_each_result_is_recorded_the_moment_it_is_known(bench: Bench, foreground: FakeService) -> None:
    seen: list[list[str]] = []
    foreground.watch = lambda submission: seen.append(bench.states())
    foreground.expect("submit", foreground.accept, foreground.accept)
    foreground.expect("follow", end(JobStatus.FAILED), end(JobStatus.SUCCEEDED))
    bench.submitter.submit_all(bench.attempts[:2])
    assert seen[1] == ["FAILED", "-", "-"]


def test_a_job_that_ended_when_it_was_found_is_not_followed(bench: Bench, foreground: FakeService) -> None:
    foreground.expect("submit", lambda spec, submission: NewJob(IMAGE, JobStatus.SUCCEEDED))
    bench.submitter.submit_all(bench.attempts[:1])
    assert foreground.asked("follow") == []


def test_a_platform_that_is_lost_while_a_job_runs_leaves_it_unfinished(bench: Bench, foreground: FakeService) -> None:
    foreground.expect("submit", foreground.accept, foreground.accept, foreground.accept)
    foreground.expect("follow", foreground.be_unreachable, end(JobStatus.SUCCEEDED), end(JobStatus.SUCCEEDED))
    outcomes = bench.submit()
    assert (errors(outcomes), bench.states()) == (
        ["fake-unreachable", None, None],
        ["SUBMITTED", "SUCCEEDED", "SUCCEEDED"],
    )


def test_an_interrupt_stops_the_job_that_is_followed(
    bench: Bench, foreground: FakeService, heard: HeardReporter
) -> None:
    foreground.expect("submit", foreground.accept, foreground.accept)
    foreground.expect("follow", end(JobStatus.SUCCEEDED), interrupt)
    foreground.expect("stop", end(JobStatus.STOPPED))
    with pytest.raises(InterruptedSubmissionError) as caught:
        bench.submit()
    assert (bench.states(), caught.value.not_started) == (["SUCCEEDED", "STOPPED", "-"], 1)
    assert heard.said[-1] == "stopping job 2 ..."


def test_a_second_interrupt_does_not_keep_the_job_from_being_stopped(bench: Bench, foreground: FakeService) -> None:
    foreground.expect("submit", foreground.accept)
    foreground.expect("follow", interrupt)
    foreground.expect("stop", interrupted_once_more)
    with pytest.raises(InterruptedSubmissionError) as caught:
        bench.submit()
    assert bench.states()[0] == "STOPPED"
    assert [outcome.job and outcome.job.status for outcome in caught.value.outcomes] == [JobStatus.STOPPED]


def test_a_job_that_cannot_be_stopped_is_told(bench: Bench, foreground: FakeService) -> None:
    foreground.expect("submit", foreground.accept)
    foreground.expect("follow", interrupt)
    foreground.expect("stop", foreground.be_unreachable)
    with pytest.raises(InterruptedSubmissionError) as caught:
        bench.submit()
    assert (errors(list(caught.value.outcomes)), bench.states()[0]) == (["fake-unreachable"], "SUBMITTED")


def test_an_interruption_is_a_keyboard_interrupt_to_whoever_does_not_know_it() -> None:
    assert issubclass(InterruptedSubmissionError, KeyboardInterrupt)


def test_several_jobs_are_submitted_at_a_time_and_no_more_than_so_many(
    store: Store, platforms: Platforms, heard: HeardReporter, service: FakeService
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
    outcomes = Submitter(store, platforms, heard, "totoro", at_once=3).submit_all(
        [an_attempt(experiment) for experiment in group.experiments]
    )
    assert max(most) == 3
    assert [outcome.experiment.id for outcome in outcomes] == list(range(1, 10))
    assert latest_states(store) == ["SUBMITTED"] * 9


def test_a_job_that_was_not_sent_counts_as_not_started(bench: Bench, service: FakeService) -> None:
    def wait_for_quota(spec: JsonObject, submission: Submission) -> NewJob:
        service.press()
        raise NotSentError("not-sent", "the job was not submitted")

    service.expect("submit", service.accept, wait_for_quota)
    with pytest.raises(InterruptedSubmissionError) as caught:
        bench.submit()
    assert (len(caught.value.outcomes), caught.value.not_started) == (1, 2)
    assert (bench.states(), bench.journal()) == (["SUBMITTED", "-", "-"], ["DONE", "ABANDONED"])
