"""The output of jobs, when their end is first seen."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from caliban.errors import PlatformError
from caliban.outputs.stored import StoredOutput
from caliban.platforms.registry import Platforms
from caliban.records import FailureCause, JobDetails, JobExit, JobRecord, JobStatus, JobUpdate, OutputError, OutputLine
from caliban.store.database import Store
from caliban.store.job_logs import read_output, record_outputs
from caliban.submission import capture as module
from caliban.submission.capture import capture, capture_recorded
from caliban.submission.refresh import refresh
from caliban.submission.setup import make_platforms
from caliban.submission.stopping import Stopper
from caliban.submission.submit import Submitter
from tests.builders import a_group, a_job, add_group, an_experiment, read_group
from tests.databases import sent_statements
from tests.fake_platform import end, polls, writes
from tests.fake_service import FakeService
from tests.fakes import FakeClock, RecordingReporter
from tests.submission.test_submit import an_attempt

ERROR = OutputError("ValueError", "loss is nan", "train.py:41")
TRACE = (
    b"epoch 1\n",
    b"Traceback (most recent call last):\n",
    b'  File "/usr/app/train.py", line 41, in <module>\n',
    b"ValueError: loss is nan\n",
)
FAILED = a_job(1, JobStatus.FAILED)


def stored(store: Store, job_id: int = 1) -> StoredOutput | None:
    with store.reading() as session:
        return read_output(session, job_id)


def fail_to_read(job: JobRecord) -> list[OutputLine]:
    raise PlatformError("output-gone", "the output of the job is gone", cause="it was removed\nlong ago")


def break_down(job: JobRecord) -> list[OutputLine]:
    raise KeyError("unforeseen")


def test_the_output_of_a_failed_job_has_its_last_error(with_output: FakeService, platforms: Platforms) -> None:
    with_output.expect("logs", writes(*TRACE))
    assert capture([FAILED], platforms) == {1: StoredOutput(1, b"".join(TRACE), True, None, ERROR)}


@pytest.mark.parametrize("status", [JobStatus.SUCCEEDED, JobStatus.STOPPED])
def test_the_output_of_another_job_has_no_error(
    status: JobStatus, with_output: FakeService, platforms: Platforms
) -> None:
    with_output.expect("logs", writes(*TRACE))
    assert capture([a_job(1, status)], platforms) == {1: StoredOutput(1, b"".join(TRACE))}


@pytest.mark.parametrize("status", [status for status in JobStatus if not status.is_final])
def test_a_job_that_has_not_ended_is_not_asked_for_output(
    status: JobStatus, with_output: FakeService, platforms: Platforms
) -> None:
    assert capture([a_job(1, status)], platforms) == {}


def test_a_job_that_was_refused_has_no_output(with_output: FakeService, platforms: Platforms) -> None:
    refused = replace(FAILED, details=JobDetails(exit=JobExit(cause=FailureCause.REFUSED)))
    assert capture([refused], platforms) == {}


def test_a_platform_without_output_is_not_asked(service: FakeService, platforms: Platforms) -> None:
    assert capture([FAILED], platforms) == {}


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (fail_to_read, "the output of the job is gone: it was removed"),
        (break_down, "the platform TEST failed to read the output of a job: KeyError: 'unforeseen'"),
    ],
)
def test_output_that_cannot_be_fetched_has_a_reason(
    answer: Callable[[JobRecord], list[OutputLine]], reason: str, with_output: FakeService, platforms: Platforms
) -> None:
    with_output.expect("logs", answer)
    [output] = capture([FAILED], platforms).values()
    assert (output.data, output.error) == (b"", None)
    assert (output.unavailable or "").startswith(reason)


def test_output_that_its_platform_does_not_have_is_that_of_the_log_file(
    with_output: FakeService, reporter: RecordingReporter, tmp_path: Path
) -> None:
    path = tmp_path / ".caliban" / "logs" / "fake-1.log"
    path.parent.mkdir(parents=True)
    job = replace(FAILED, details=JobDetails(display_name="fake-1"))
    path.write_bytes(b"".join(TRACE))
    with_output.expect("logs", fail_to_read)
    [output] = capture([job], make_platforms({}, tmp_path, reporter)).values()
    assert (output.data, output.error, output.unavailable) == (b"".join(TRACE), ERROR, None)


class LateClock(FakeClock):
    """A clock on which every wait takes its time at once."""

    def wait_in_background(self, event: threading.Event, seconds: float) -> bool:
        return self.wait(event, seconds)


@pytest.fixture
def late_platforms(reporter: RecordingReporter) -> Platforms:
    return make_platforms({}, Path("/nowhere"), reporter, clock=LateClock())


def test_a_platform_that_does_not_answer_is_given_up(with_output: FakeService, late_platforms: Platforms) -> None:
    released = threading.Event()

    def hang(job: JobRecord) -> list[OutputLine]:
        released.wait(60)
        return []

    with_output.expect("logs", hang)
    try:
        outputs = capture([FAILED], late_platforms, shows_progress=True)
    finally:
        released.set()
    assert outputs == {1: StoredOutput(1, is_complete=False, unavailable="not fetched within 20 s")}
    assert late_platforms.context.clock.monotonic() == module.LONGEST


def test_only_a_few_outputs_are_fetched_at_a_time(with_output: FakeService, platforms: Platforms) -> None:
    running, most, lock = [0], [0], threading.Lock()
    several = threading.Event()

    def count(job: JobRecord) -> list[OutputLine]:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
            if most[0] > 1:
                several.set()
        several.wait(10)
        with lock:
            running[0] -= 1
        return []

    with_output.expect("logs", *[count] * 40)
    assert len(capture([a_job(number, JobStatus.FAILED) for number in range(1, 41)], platforms)) == 40
    assert 1 < most[0] <= 8


def test_output_that_an_interrupted_command_reads_is_not_taken_for_complete(
    with_output: FakeService, platforms: Platforms
) -> None:
    platforms.context.stopping.set()
    with_output.expect("logs", writes())
    missing = StoredOutput(1, is_complete=False, unavailable="the command was interrupted")
    assert capture([FAILED], platforms) == {1: missing}


def test_the_output_of_failed_jobs_is_fetched_first(
    with_output: FakeService, platforms: Platforms, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PARALLEL", 1)
    fetched: list[int] = []

    def note(job: JobRecord) -> list[OutputLine]:
        fetched.append(job.id)
        return []

    with_output.expect("logs", *[note] * 3)
    capture([a_job(1, JobStatus.SUCCEEDED), a_job(2, JobStatus.STOPPED), a_job(3, JobStatus.FAILED)], platforms)
    assert fetched == [3, 1, 2]


def lose_connection(job: JobRecord) -> list[OutputLine]:
    raise PlatformError("platform-unreachable", "no route to host")


def lose_output(with_output: FakeService, platforms: Platforms, store: Store) -> None:
    """Record the end of a failed job whose output cannot be fetched."""
    add_group(store, JobStatus.RUNNING)
    with_output.expect("statuses", polls(FAILED=[1]))
    with_output.expect("logs", lose_connection)
    refresh([read_group(store)], platforms).record(store, platforms)


@pytest.fixture
def missing(with_output: FakeService, platforms: Platforms, store: Store) -> Store:
    lose_output(with_output, platforms, store)
    return store


@pytest.fixture
def next_command(reporter: RecordingReporter, missing: Store) -> Platforms:
    return make_platforms({}, Path("/nowhere"), reporter)


def test_output_that_could_not_be_fetched_is_fetched_by_the_next_command(
    with_output: FakeService, next_command: Platforms, missing: Store
) -> None:
    with_output.expect("logs", writes(*TRACE))
    refreshed = refresh([read_group(missing)], next_command)
    [group] = refreshed.record(missing, next_command)
    assert (refreshed.changes, group.experiments[0].jobs[0].output_error) == ({}, ERROR)
    assert refresh([read_group(missing)], next_command).is_recorded


def test_a_command_that_looks_often_asks_once_for_output_that_cannot_be_fetched(
    platforms: Platforms, missing: Store
) -> None:
    assert refresh([read_group(missing)], platforms).is_recorded


def test_output_is_asked_for_again_for_a_day(
    with_output: FakeService, store: Store, reporter: RecordingReporter
) -> None:
    clock = FakeClock()

    def platforms() -> Platforms:
        return make_platforms({}, Path("/nowhere"), reporter, clock=clock)

    lose_output(with_output, platforms(), store)
    for _ in range(2):
        clock.seconds += 10 * 60 * 60
        with_output.expect("logs", lose_connection)
        refresh([read_group(store)], platforms()).record(store, platforms())
    clock.seconds += 10 * 60 * 60
    assert refresh([read_group(store)], platforms()).is_recorded


def test_output_that_is_gone_is_not_asked_for_again(
    with_output: FakeService, next_command: Platforms, missing: Store, reporter: RecordingReporter
) -> None:
    with_output.expect("logs", fail_to_read)
    refresh([read_group(missing)], next_command).record(missing, next_command)
    output = stored(missing)
    assert output is not None
    assert (output.unavailable or "").startswith("the output of the job is gone")
    assert refresh([read_group(missing)], make_platforms({}, Path("/nowhere"), reporter)).is_recorded


def test_status_records_the_output_with_the_end(with_output: FakeService, platforms: Platforms, store: Store) -> None:
    add_group(store, JobStatus.RUNNING)
    with_output.expect("statuses", polls(FAILED=[1]))
    with_output.expect("logs", writes(*TRACE))
    groups = refresh([read_group(store)], platforms).record(store, platforms)
    output = stored(store)
    assert output is not None
    assert (output.data, output.error) == (b"".join(TRACE), ERROR)
    shown = groups[0].experiments[0].latest
    assert (shown and shown.output_error, read_group(store).experiments[0].jobs[0].output_error) == (ERROR, ERROR)


def test_what_cannot_be_fetched_does_not_change_the_state(
    with_output: FakeService, platforms: Platforms, store: Store
) -> None:
    add_group(store, JobStatus.RUNNING)
    with_output.expect("statuses", polls(FAILED=[1]))
    with_output.expect("logs", fail_to_read)
    [group] = refresh([read_group(store)], platforms).record(store, platforms)
    assert group.experiments[0].jobs[0].status is JobStatus.FAILED
    output = stored(store)
    assert output is not None
    assert output.unavailable == "the output of the job is gone: it was removed"


def test_output_is_fetched_once(with_output: FakeService, platforms: Platforms, store: Store) -> None:
    add_group(store, JobStatus.RUNNING)
    with_output.expect("statuses", polls(FAILED=[1]))
    with_output.expect("logs", writes(*TRACE))
    refresh([read_group(store)], platforms).record(store, platforms)
    assert refresh([read_group(store)], platforms).is_recorded


def test_the_output_that_a_killed_command_fetched_is_fetched_again(
    with_output: FakeService, platforms: Platforms, store: Store
) -> None:
    add_group(store, JobStatus.RUNNING)
    with_output.expect("statuses", *[polls(FAILED=[1])] * 2)
    with_output.expect("logs", *[writes(*TRACE)] * 2)
    refresh([read_group(store)], platforms)  # it is killed before it records anything
    assert (read_group(store).experiments[0].jobs[0].status, stored(store)) == (JobStatus.RUNNING, None)
    refresh([read_group(store)], platforms).record(store, platforms)
    assert (read_group(store).experiments[0].jobs[0].status, stored(store) is None) == (JobStatus.FAILED, False)


def test_the_output_is_not_recorded_without_the_end(
    with_output: FakeService, platforms: Platforms, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise KeyboardInterrupt

    add_group(store, JobStatus.RUNNING)
    with_output.expect("statuses", polls(FAILED=[1]))
    with_output.expect("logs", writes(*TRACE))
    refreshed = refresh([read_group(store)], platforms)
    monkeypatch.setattr("caliban.submission.refresh.record_outputs", fail)
    with pytest.raises(KeyboardInterrupt):
        refreshed.record(store, platforms)
    assert read_group(store).experiments[0].jobs[0].status is JobStatus.RUNNING


def test_no_statement_is_sent_while_output_is_fetched(
    with_output: FakeService, platforms: Platforms, store: Store
) -> None:
    add_group(store, JobStatus.RUNNING)
    group = read_group(store)
    with_output.expect("statuses", polls(FAILED=[1]))
    with_output.expect("logs", writes(*TRACE))
    with sent_statements() as statements:
        refresh([group], platforms)
    assert statements == []


@pytest.mark.parametrize("count", [1, 30])
def test_the_end_of_many_jobs_takes_as_many_statements_as_that_of_one(
    count: int, with_output: FakeService, platforms: Platforms, store: Store
) -> None:
    add_group(store, *[JobStatus.RUNNING] * count)
    group = read_group(store)
    with_output.expect("statuses", polls(FAILED=list(range(1, count + 1))))
    with_output.expect("logs", *[writes(*TRACE)] * count)
    refreshed = refresh([group], platforms)
    with sent_statements() as statements:
        refreshed.record(store, platforms)
    assert len(statements) == 4


def test_run_records_the_output_of_a_job_that_it_followed(
    with_output: FakeService, platforms: Platforms, store: Store, reporter: RecordingReporter
) -> None:
    group = add_group(store, None)
    with_output.expect("submit", with_output.accept)
    with_output.expect("follow", end(JobStatus.FAILED, ret_code=1))
    with_output.expect("logs", writes(*TRACE))
    [outcome] = Submitter(store, platforms, reporter, "totoro").submit_all([an_attempt(group.experiments[0])])
    assert outcome.job is not None
    assert outcome.job.output_error == ERROR
    assert stored(store) is not None


def test_output_is_recorded_before_a_job_is_removed(
    with_output: FakeService, platforms: Platforms, store: Store, reporter: RecordingReporter
) -> None:
    group = add_group(store, None)
    seen: list[StoredOutput | None] = []
    with_output.details = {"remove_when_ended": True}
    with_output.expect("submit", with_output.accept)
    with_output.expect("follow", end(JobStatus.SUCCEEDED, ret_code=0))
    with_output.expect("logs", writes(b"bye\n"))
    with_output.expect("remove", lambda job: seen.append(stored(store)))
    Submitter(store, platforms, reporter, "totoro").submit_all([an_attempt(group.experiments[0])])
    assert [output.data for output in seen if output] == [b"bye\n"]


def test_stop_records_the_output_of_the_job(with_output: FakeService, platforms: Platforms, store: Store) -> None:
    add_group(store, JobStatus.RUNNING)
    with_output.expect("stop", end(JobStatus.STOPPED))
    with_output.expect("logs", writes(b"half done\n"))
    Stopper(store, platforms, "totoro").stop(read_group(store).experiments[0].jobs[0])
    output = stored(store)
    assert output is not None
    assert (output.data, output.error) == (b"half done\n", None)


def test_a_job_that_is_still_being_stopped_has_no_output_yet(
    with_output: FakeService, platforms: Platforms, store: Store
) -> None:
    add_group(store, JobStatus.RUNNING)
    with_output.expect("stop", lambda job: JobUpdate(JobStatus.RUNNING))
    Stopper(store, platforms, "totoro").stop(read_group(store).experiments[0].jobs[0])
    assert stored(store) is None


def test_the_output_that_another_command_recorded_stays(
    with_output: FakeService, platforms: Platforms, store: Store
) -> None:
    add_group(store, JobStatus.FAILED)
    with store.writing() as session:
        record_outputs(session, [StoredOutput(1, b"first")], platforms.context.clock)
    with_output.expect("logs", writes(b"second"))
    capture_recorded([FAILED], store, platforms)
    output = stored(store)
    assert output is not None
    assert output.data == b"first"


def test_what_a_platform_reports_of_another_job_is_not_captured(with_output: FakeService, platforms: Platforms) -> None:
    with_output.expect("statuses", polls(RUNNING=[1]))
    group = a_group(an_experiment(1, a_job(1, JobStatus.RUNNING)), an_experiment(2, a_job(2, JobStatus.FAILED)))
    assert refresh([group], platforms).outputs == {}
