from __future__ import annotations

import dataclasses
import os
import re
import socket
import threading
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from sqlalchemy import func, select, text

from caliban.errors import StoreError
from caliban.records import JobStatus, JsonObject, NewJob, PlatformId, Submission, SubmissionState
from caliban.store.database import Access, Store, open_store
from caliban.store.journal import FirstAttempt(), AlreadyOpen, AlreadyResubmitted, Journal, new_token
from caliban.store.models import JobRow, JobSpecRow, SubmissionRow
from caliban.store.queries import group_attempts

from .helpers import HeardReporter, add_experiments

DONE = NewJob("sha256:ab", JobStatus.SUBMITTED, {"ret_code": None})
FAILED = NewJob("sha256:ab", JobStatus.FAILED)


@pytest.fixture
def journal(store: Store) -> Journal:
    """A journal over two experiments, 1 and 2, in the group g of mei."""
    add_experiments(store, "mei", "g", 2)
    return Journal(store)


def _open(
    journal: Journal,
    experiment_id: int = 1,
    spec: JsonObject | None = None,
    platform: PlatformId = "LOCAL",
    token: str | None = None,
    resubmits: int | None = None,
) -> Submission:
    return journal.open(
        experiment_id=experiment_id,
        platform=platform,
        spec=spec or {"command": ["docker", "run"]},
        target={"project": "p"},
        name="caliban_mei_1",
        token=token or new_token(),
        resubmits=resubmits,
        user="mei",
    )


def _row(store: Store, submission: Submission) -> tuple[str, int | None, str | None]:
    with store.reading() as session:
        row = session.get_one(SubmissionRow, submission.id)
        return str(row.state.value), row.job_id, row.error


def _count(store: Store, table: type[JobRow] | type[JobSpecRow] | type[SubmissionRow]) -> int:
    with store.reading() as session:
        return session.scalars(select(func.count()).select_from(table)).one()


def test_a_token_is_fit_for_labels() -> None:
    assert re.fullmatch(r"[0-9a-f]{16}", new_token())


def test_no_two_tokens_are_the_same() -> None:
    assert len({new_token() for _ in range(1000)}) == 1000


def test_a_submission_tells_who_is_submitting(journal: Journal) -> None:
    found = _open(journal)
    assert (found.user, found.host, found.pid, found.state) == (
        "mei",
        socket.gethostname(),
        os.getpid(),
        SubmissionState.OPEN,
    )


def test_a_submission_is_written_with_the_local_time(journal: Journal) -> None:
    assert abs(_open(journal).created - datetime.now()) < timedelta(minutes=1)


def test_an_open_submission_is_found_as_it_was_written(journal: Journal) -> None:
    assert [_open(journal)] == journal.open_submissions(user="mei", group="g")


def test_open_submissions_are_those_of_the_group(journal: Journal, store: Store) -> None:
    other = add_experiments(store, "mei", "other", 1)
    _open(journal)
    _open(journal, other.experiments[0].id)
    assert [found.experiment_id for found in journal.open_submissions(user="mei", group="g")] == [1]


def test_without_a_group_the_open_submissions_are_those_of_the_user(journal: Journal, store: Store) -> None:
    hers = add_experiments(store, "satsuki", "g", 1)
    for experiment in (1, 2, hers.experiments[0].id):
        _open(journal, experiment)
    assert [found.experiment_id for found in journal.open_submissions(user="mei")] == [1, 2]


def test_settled_submissions_are_not_open(journal: Journal) -> None:
    journal.settle(_open(journal), DONE)
    assert journal.open_submissions(user="mei", group="g") == []


def test_a_store_without_a_journal_has_no_open_submissions(peer_url: str, reporter: HeardReporter) -> None:
    with open_store(peer_url, Access.READ, reporter) as store:
        assert Journal(store).open_submissions(user="mei", group="mixed") == []


def test_an_experiment_is_submitted_once_at_a_time(journal: Journal) -> None:
    first = _open(journal)
    with pytest.raises(AlreadyOpen, match=rf"mei is submitting it already, from {re.escape(first.host)}") as caught:
        _open(journal)
    assert (caught.value.id, caught.value.other) == ("already-being-submitted", first)


def test_another_experiment_is_not_in_the_way(journal: Journal) -> None:
    assert (_open(journal, 1).experiment_id, _open(journal, 2).experiment_id) == (1, 2)


def test_a_settled_experiment_can_be_submitted_again(journal: Journal) -> None:
    journal.settle(_open(journal), DONE)
    assert _open(journal).state is SubmissionState.OPEN


def test_whoever_comes_late_to_a_re_run_does_not_repeat_it(journal: Journal) -> None:
    failed = journal.settle(_open(journal), FAILED)
    again = journal.settle(_open(journal, resubmits=failed.id), DONE)
    with pytest.raises(AlreadyResubmitted) as caught:
        _open(journal, resubmits=failed.id)
    assert (
        f"mei did so already, from {socket.gethostname()} (process {os.getpid()}), as job {again.id}"
        in caught.value.message
    )


def test_a_re_run_of_the_newest_job_is_no_repetition(journal: Journal) -> None:
    failed = journal.settle(_open(journal), FAILED)
    assert _open(journal, resubmits=failed.id).resubmits == failed.id


def test_whoever_comes_late_to_a_first_run_does_not_repeat_it(journal: Journal) -> None:
    journal.settle(_open(journal, resubmits=FirstAttempt()), DONE)
    with pytest.raises(AlreadyResubmitted):
        _open(journal, resubmits=FirstAttempt())


def test_a_late_re_run_of_a_job_that_no_submission_made_is_told_too(journal: Journal, store: Store) -> None:
    failed = journal.settle(_open(journal), FAILED)
    with store.writing() as session:
        session.add(
            JobRow(
                experiment_id=1,
                job_spec_id=failed.spec_id,
                user="mei",
                created=failed.created,
                container=failed.container,
                status=JobStatus.RUNNING,
                details={},
            )
        )
    with pytest.raises(AlreadyResubmitted, match="that was done already, as job 2"):
        _open(journal, resubmits=failed.id)


def test_of_many_who_submit_at_once_one_does(journal: Journal, store: Store) -> None:
    told: list[str] = []

    def submit() -> None:
        try:
            told.append(_open(journal).state.value)
        except AlreadyOpen as error:
            told.append(error.id)

    threads = [threading.Thread(target=submit) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(told) == ["OPEN", *["already-being-submitted"] * 4]


def test_the_database_itself_allows_one_open_submission(journal: Journal, store: Store) -> None:
    first = _open(journal)
    columns = {name: value for name, value in dataclasses.asdict(first).items() if name != "group"}
    second = SubmissionRow(**{**columns, "id": None, "token": "another"})
    with pytest.raises(StoreError) as caught, store.writing() as session:
        session.add(second)
    assert caught.value.id == "store-failed"


def test_a_token_is_used_once(journal: Journal) -> None:
    _open(journal, 1, token="same")
    with pytest.raises(StoreError, match="did not do what was asked"):
        _open(journal, 2, token="same")


def test_an_experiment_that_is_not_there_is_told(journal: Journal) -> None:
    with pytest.raises(StoreError, match="experiment 4711 is not submitted") as caught:
        _open(journal, 4711)
    assert caught.value.id == "experiment-unknown"


def test_an_equal_job_spec_is_used_again(journal: Journal) -> None:
    first = _open(journal, spec={"a": 1, "b": 2})
    journal.settle(first, DONE)
    assert _open(journal, spec={"b": 2, "a": 1}).job_spec_id == first.job_spec_id


@pytest.mark.parametrize(
    ("spec", "platform"), [({"a": 2}, "LOCAL"), ({"a": 1}, "CAIP")], ids=["spec", "platform"]
)
def test_another_spec_or_platform_is_another_job_spec(
    journal: Journal, spec: JsonObject, platform: PlatformId
) -> None:
    first = _open(journal, spec={"a": 1})
    journal.settle(first, DONE)
    assert _open(journal, spec=spec, platform=platform).job_spec_id != first.job_spec_id


def test_the_job_spec_of_another_experiment_is_not_used(journal: Journal) -> None:
    assert _open(journal, 1).job_spec_id != _open(journal, 2).job_spec_id


def test_settling_records_the_job(journal: Journal, store: Store) -> None:
    settled = journal.settle(_open(journal), DONE)
    with store.reading() as session:
        view = group_attempts(session, parse_details, "mei", "g", per_experiment=None)
    assert view is not None
    assert view.experiments[0].jobs == (settled,)


def test_settling_marks_the_submission_with_its_job(journal: Journal, store: Store) -> None:
    submission = _open(journal)
    job = journal.settle(submission, DONE)
    assert _row(store, submission) == ("DONE", job.id, None)


def test_failing_records_a_job_to_be_run_again(journal: Journal, store: Store) -> None:
    submission = _open(journal)
    job = journal.fail(submission, FAILED, "quota exceeded")
    assert (job.status.wants_rerun, _row(store, submission)) == (True, ("FAILED", job.id, "quota exceeded"))


def _settle(journal: Journal, submission: Submission) -> None:
    journal.settle(submission, DONE)


def _fail(journal: Journal, submission: Submission) -> None:
    journal.fail(submission, FAILED, "late")


def _abandon(journal: Journal, submission: Submission) -> None:
    journal.abandon(submission, "late")


@pytest.mark.parametrize("again", [_settle, _fail, _abandon])
def test_a_settled_submission_is_not_settled_again(
    journal: Journal, store: Store, again: Callable[[Journal, Submission], None]
) -> None:
    submission = _open(journal)
    journal.settle(submission, DONE)
    with pytest.raises(StoreError, match="not open any more") as caught:
        again(journal, submission)
    assert (caught.value.id, _count(store, JobRow)) == ("already-settled", 1)


def test_of_many_who_settle_at_once_one_records_a_job(journal: Journal, store: Store) -> None:
    submission = _open(journal)

    def settle() -> None:
        try:
            journal.settle(submission, DONE)
        except StoreError as error:
            refused.append(error.id)

    refused: list[str] = []
    threads = [threading.Thread(target=settle) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (refused, _count(store, JobRow)) == (["already-settled"] * 3, 1)


def test_an_abandoned_submission_frees_the_experiment(journal: Journal, store: Store) -> None:
    submission = _open(journal)
    journal.abandon(submission, "its owner is gone")
    assert (_row(store, submission), _open(journal).experiment_id) == (("ABANDONED", None, "its owner is gone"), 1)


def test_a_job_that_came_of_an_abandoned_submission_is_not_lost(journal: Journal, store: Store) -> None:
    submission = _open(journal)
    journal.abandon(submission, "its owner seemed gone")
    job = journal.settle(submission, DONE)
    assert _row(store, submission) == ("DONE", job.id, None)


def test_a_submission_that_is_gone_cannot_be_settled(journal: Journal, store: Store) -> None:
    submission = _open(journal)
    with store.writing() as session:
        session.execute(text("DELETE FROM submissions"))
    with pytest.raises(StoreError) as caught:
        journal.settle(submission, DONE)
    assert (caught.value.cause, _count(store, JobRow)) == ("it is gone", 0)
