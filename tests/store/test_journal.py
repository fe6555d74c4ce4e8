from __future__ import annotations

import os
import re
import socket
import threading
from collections.abc import Callable
from datetime import datetime, timedelta, timezone

import pytest
from sqlalchemy import func, select, text

from caliban.attempts import AdditionalAttempt, AttemptKind, FirstAttempt, Rerun, Submission, SubmissionState
from caliban.errors import StoreError
from caliban.records import JobDetails, JobStatus, JsonObject, NewJob, PlatformId
from caliban.store.database import Access, Store, open_store
from caliban.store.journal import AlreadyOpen, AlreadyResubmitted, Journal, new_token
from caliban.store.models import JobRow, JobSpecRow, SubmissionRow
from tests.fake_service import FakeDestination
from tests.fakes import RecordingReporter

from .helpers import add_experiments, read_group

DONE = NewJob("sha256:ab", JobStatus.SUBMITTED, JobDetails({"ret_code": None}))
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
    kind: AttemptKind = AdditionalAttempt(),  # noqa: B008 - a frozen value
) -> Submission:
    return journal.open(
        experiment_id=experiment_id,
        platform=platform,
        spec=spec or {"command": ["docker", "run"]},
        destination=FakeDestination("zone-b"),
        name="caliban_mei_1",
        token=token or new_token(),
        kind=kind,
        user="mei",
    )


def _row(store: Store, submission: Submission) -> tuple[str, int | None, str | None]:
    with store.reading() as session:
        row = session.get_one(SubmissionRow, submission.id)
        return str(row.state.value), row.job_id, row.error


def _count(store: Store, table: type[JobRow] | type[JobSpecRow] | type[SubmissionRow]) -> int:
    with store.reading() as session:
        return session.scalars(select(func.count()).select_from(table)).one()


def test_a_token_is_valid_in_labels() -> None:
    assert re.fullmatch(r"[0-9a-f]{16}", new_token())


def test_no_two_tokens_are_the_same() -> None:
    assert len({new_token() for _ in range(1000)}) == 1000


def test_a_submission_has_the_user_host_and_process(journal: Journal) -> None:
    found = _open(journal)
    assert (found.user, found.host, found.pid, found.state) == (
        "mei",
        socket.gethostname(),
        os.getpid(),
        SubmissionState.OPEN,
    )


def test_a_submission_is_recorded_with_the_time_in_utc(journal: Journal) -> None:
    assert abs(_open(journal).created - datetime.now(timezone.utc)) < timedelta(minutes=1)


def test_an_open_submission_is_read_as_it_was_recorded(journal: Journal) -> None:
    assert [_open(journal)] == journal.open_submissions(user="mei", group="g")


def test_open_submissions_are_limited_to_the_group(journal: Journal, store: Store) -> None:
    other = add_experiments(store, "mei", "other", 1)
    _open(journal)
    _open(journal, other.experiments[0].id)
    assert [found.experiment_id for found in journal.open_submissions(user="mei", group="g")] == [1]


def test_without_a_group_open_submissions_are_those_of_the_user(journal: Journal, store: Store) -> None:
    hers = add_experiments(store, "satsuki", "g", 1)
    for experiment in (1, 2, hers.experiments[0].id):
        _open(journal, experiment)
    assert [found.experiment_id for found in journal.open_submissions(user="mei")] == [1, 2]


def test_settled_submissions_are_not_open(journal: Journal) -> None:
    journal.settle(_open(journal), DONE)
    assert journal.open_submissions(user="mei", group="g") == []


def test_a_store_without_a_journal_has_no_open_submissions(peer_url: str, reporter: RecordingReporter) -> None:
    with open_store(peer_url, Access.READ, reporter) as store:
        assert Journal(store).open_submissions(user="mei", group="mixed") == []


def test_an_experiment_is_submitted_once_at_a_time(journal: Journal) -> None:
    first = _open(journal)
    with pytest.raises(AlreadyOpen, match=rf"already being submitted by mei on {re.escape(first.host)}") as caught:
        _open(journal)
    assert (caught.value.id, caught.value.other) == ("already-being-submitted", first)


def test_another_experiment_can_be_submitted_meanwhile(journal: Journal) -> None:
    assert (_open(journal, 1).experiment_id, _open(journal, 2).experiment_id) == (1, 2)


def test_a_settled_experiment_can_be_submitted_again(journal: Journal) -> None:
    journal.settle(_open(journal), DONE)
    assert _open(journal).state is SubmissionState.OPEN


def test_a_job_is_re_run_once_when_two_processes_decide_to(journal: Journal) -> None:
    failed = journal.settle(_open(journal), FAILED)
    again = journal.settle(_open(journal, kind=Rerun(failed.id)), DONE)
    with pytest.raises(AlreadyResubmitted) as caught:
        _open(journal, kind=Rerun(failed.id))
    assert caught.value.message == (
        f"experiment 1 was already submitted again by mei on {socket.gethostname()} (process {os.getpid()}), "
        f"as job {again.id}"
    )


def test_a_re_run_of_the_newest_job_is_recorded_with_it(journal: Journal) -> None:
    failed = journal.settle(_open(journal), FAILED)
    assert _open(journal, kind=Rerun(failed.id)).resubmits == failed.id


def test_a_first_attempt_is_made_once_when_two_processes_decide_to(journal: Journal) -> None:
    journal.settle(_open(journal, kind=FirstAttempt()), DONE)
    with pytest.raises(AlreadyResubmitted):
        _open(journal, kind=FirstAttempt())


def test_a_newer_job_without_a_submission_prevents_a_re_run_too(journal: Journal, store: Store) -> None:
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
    with pytest.raises(AlreadyResubmitted, match="experiment 1 was already submitted again, as job 2"):
        _open(journal, kind=Rerun(failed.id))


def test_of_concurrent_submissions_one_succeeds(journal: Journal, store: Store) -> None:
    results: list[str] = []

    def submit() -> None:
        try:
            results.append(_open(journal).state.value)
        except AlreadyOpen as error:
            results.append(error.id)

    threads = [threading.Thread(target=submit) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(results) == ["OPEN", *["already-being-submitted"] * 4]


def test_the_database_itself_allows_one_open_submission(journal: Journal, store: Store) -> None:
    first = _open(journal)
    with store.reading() as session:
        row = session.get_one(SubmissionRow, first.id)
        columns = {column.name: getattr(row, column.name) for column in SubmissionRow.__table__.columns}
    with pytest.raises(StoreError) as caught, store.writing() as session:
        session.add(SubmissionRow(**{**columns, "id": None, "token": "another"}))
    assert caught.value.id == "store-failed"


def test_a_token_is_unique(journal: Journal) -> None:
    _open(journal, 1, token="same")
    with pytest.raises(StoreError, match="unexpected database error"):
        _open(journal, 2, token="same")


def test_an_unknown_experiment_is_reported(journal: Journal) -> None:
    with pytest.raises(StoreError, match="experiment 4711 is not in the experiment store") as caught:
        _open(journal, 4711)
    assert caught.value.id == "experiment-unknown"


def test_an_equal_job_spec_is_reused(journal: Journal) -> None:
    first = _open(journal, spec={"a": 1, "b": 2})
    journal.settle(first, DONE)
    assert _open(journal, spec={"b": 2, "a": 1}).job_spec_id == first.job_spec_id


@pytest.mark.parametrize(("spec", "platform"), [({"a": 2}, "LOCAL"), ({"a": 1}, "CAIP")], ids=["spec", "platform"])
def test_another_spec_or_platform_is_a_new_job_spec(journal: Journal, spec: JsonObject, platform: PlatformId) -> None:
    first = _open(journal, spec={"a": 1})
    journal.settle(first, DONE)
    assert _open(journal, spec=spec, platform=platform).job_spec_id != first.job_spec_id


def test_a_job_spec_is_not_shared_between_experiments(journal: Journal) -> None:
    assert _open(journal, 1).job_spec_id != _open(journal, 2).job_spec_id


def test_settling_records_the_job(journal: Journal, store: Store) -> None:
    settled = journal.settle(_open(journal), DONE)
    assert read_group(store, "mei", "g", None).experiments[0].jobs == (settled,)


def test_settling_marks_the_submission_with_its_job(journal: Journal, store: Store) -> None:
    submission = _open(journal)
    job = journal.settle(submission, DONE)
    assert _row(store, submission) == ("DONE", job.id, None)


def test_a_refused_submission_is_recorded_with_a_failed_job(journal: Journal, store: Store) -> None:
    submission = _open(journal)
    job = journal.fail(submission, FAILED, "quota exceeded")
    assert (job.status.is_rerunnable, _row(store, submission)) == (True, ("FAILED", job.id, "quota exceeded"))


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
    with pytest.raises(StoreError, match="already settled") as caught:
        again(journal, submission)
    assert (caught.value.id, _count(store, JobRow)) == ("already-settled", 1)


def test_of_concurrent_settlements_one_records_a_job(journal: Journal, store: Store) -> None:
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
    journal.abandon(submission, "its process has ended")
    assert (_row(store, submission), _open(journal).experiment_id) == (("ABANDONED", None, "its process has ended"), 1)


def test_the_job_of_an_abandoned_submission_is_not_lost(journal: Journal, store: Store) -> None:
    submission = _open(journal)
    journal.abandon(submission, "its process seemed to have ended")
    job = journal.settle(submission, DONE)
    assert _row(store, submission) == ("DONE", job.id, None)


def test_a_deleted_submission_cannot_be_settled(journal: Journal, store: Store) -> None:
    submission = _open(journal)
    with store.writing() as session:
        session.execute(text("DELETE FROM submissions"))
    with pytest.raises(StoreError) as caught:
        journal.settle(submission, DONE)
    assert (caught.value.cause, _count(store, JobRow)) == ("it was deleted", 0)
