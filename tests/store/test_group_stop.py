"""``caliban stop`` ends what other commands have not sent, on SQLite and PostgreSQL."""

from __future__ import annotations

import threading

import pytest

from caliban.attempts import AdditionalAttempt, Submission, SubmissionState
from caliban.clock import SystemClock
from caliban.errors import StoreError
from caliban.records import JobDetails, JobStatus, NewJob
from caliban.store.database import Access, Store, open_store
from caliban.store.group_stop import end_group, newest_batch
from caliban.store.journal import Journal, NewSubmission, new_token
from tests.fake_service import FakeDestination
from tests.fakes import RecordingReporter

from .helpers import add_experiments

CLOCK = SystemClock()


@pytest.fixture
def journal(store: Store) -> Journal:
    """A journal over three experiments in the group g of mei, and one in her group h."""
    add_experiments(store, "mei", "g", 3)
    add_experiments(store, "mei", "h", 1)
    return Journal(store)


def plan(*experiment_ids: int) -> list[NewSubmission]:
    return [
        NewSubmission(number, "LOCAL", {}, FakeDestination(), f"job-{number}", new_token(), AdditionalAttempt())
        for number in experiment_ids
    ]


def opened(journal: Journal, *experiment_ids: int, since: int | None = None) -> list[Submission]:
    results = journal.open_batch(plan(*experiment_ids), user="mei", since=since)
    assert not any(isinstance(result, StoreError) for result in results)
    return [result for result in results if isinstance(result, Submission)]


def now(store: Store) -> int:
    with store.reading() as session:
        return newest_batch(session)


def end(store: Store, user: str = "mei", group: str | None = "g") -> list[int]:
    with store.writing() as session:
        return end_group(session, CLOCK, user, group)


def states(journal: Journal, submissions: list[Submission]) -> list[SubmissionState | None]:
    read = [journal.read(submission) for submission in submissions]
    return [each.state if each else None for each in read]


def test_what_was_not_sent_is_closed_and_cannot_be_sent(store: Store, journal: Journal) -> None:
    sent, *unsent = opened(journal, 1, 2, 3)
    assert journal.mark_sent(sent)
    assert end(store) == [submission.id for submission in unsent]
    assert states(journal, [sent, *unsent]) == ["OPEN", "ABANDONED", "ABANDONED"]
    assert [journal.mark_sent(submission) for submission in [sent, *unsent]] == [True, False, False]


def test_who_stopped_it_is_recorded(store: Store, journal: Journal) -> None:
    [submission] = opened(journal, 1)
    end(store)
    closed = journal.read(submission)
    assert closed is not None
    assert str(closed.error).startswith("stopped by mei on ")


@pytest.mark.parametrize(
    ("user", "group", "expected"),
    [("mei", "g", [1, 2]), ("mei", "h", [3]), ("mei", None, [1, 2, 3]), ("satsuki", None, [])],
)
def test_only_the_group_that_is_meant_is_ended(
    user: str, group: str | None, expected: list[int], store: Store, journal: Journal
) -> None:
    opened(journal, 1, 2)
    opened(journal, 4)
    assert end(store, user, group) == expected


def test_a_job_that_was_accepted_meanwhile_is_recorded(store: Store, journal: Journal) -> None:
    [submission] = opened(journal, 1)
    journal.mark_sent(submission)
    end(store)
    job = journal.settle(submission, NewJob("sha256:ab", JobStatus.RUNNING, JobDetails()))
    assert (job.id, states(journal, [submission])) == (1, ["DONE"])


@pytest.mark.parametrize(("group", "is_stopped"), [("g", True), (None, True), ("h", False)])
def test_a_command_that_began_before_the_stop_journals_nothing_of_the_group(
    group: str | None, is_stopped: bool, store: Store, journal: Journal
) -> None:
    began = now(store)
    end(store, group=group)
    [result] = journal.open_batch(plan(1), user="mei", since=began)
    assert (isinstance(result, StoreError) and result.id == "stopped") is is_stopped


def test_a_command_that_begins_after_the_stop_is_not_concerned(store: Store, journal: Journal) -> None:
    end(store)
    assert len(opened(journal, 1, since=now(store))) == 1


def test_a_stop_does_not_count_as_an_open_batch(store: Store, journal: Journal) -> None:
    end(store)
    assert journal.open_submissions("mei") == []


def test_whatever_comes_first_a_stop_and_a_command_leave_nothing_to_be_sent(
    store: Store, journal: Journal, store_url: str
) -> None:
    """Both at the same moment, many times: either the command finds the stop, or the stop finds its submissions."""
    for _ in range(5):
        began = now(store)
        both = threading.Barrier(2, timeout=30)
        results: list[Submission | StoreError] = []
        thread = threading.Thread(target=_submit, args=(journal, began, both, results))
        with open_store(store_url, Access.WRITE, RecordingReporter()) as other:
            thread.start()
            both.wait()
            end(other)
            thread.join()
        assert len(results) == 2
        assert not any(journal.mark_sent(each) for each in results if isinstance(each, Submission))


def _submit(journal: Journal, began: int, both: threading.Barrier, results: list[Submission | StoreError]) -> None:
    both.wait()
    results.extend(journal.open_batch(plan(1, 2), user="mei", since=began))
