"""Who decides how a job ended: on SQLite and PostgreSQL, in the transaction that records it."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest
from sqlalchemy import select

from caliban.records import JobDetails, JobStatus, JobUpdate, JsonObject
from caliban.store.database import Store
from caliban.store.models import JobRow, JobSpecRow
from caliban.store.states import (
    STOP_KEY,
    RecordedState,
    StopRequest,
    record_states,
    request_stop,
    settle_stop,
)
from caliban.store.views import json_object

from .helpers import add_experiments

AT = datetime(2026, 11, 27, 9, 0, tzinfo=timezone.utc)
REQUEST = StopRequest("0123456789abcdef", "mei", "catbus", AT)
RUNNING, SUCCEEDED, FAILED, STOPPED = JobStatus.RUNNING, JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.STOPPED


@pytest.fixture
def running(store: Store) -> Store:
    """A store with one running job."""
    add_experiments(store, "mei", "g", 1)
    with store.writing() as session:
        session.add(JobSpecRow(created=datetime.now(), spec={}, platform="LOCAL", experiment_id=1))
        session.flush()
        session.add(
            JobRow(
                created=datetime.now(),
                job_spec_id=1,
                experiment_id=1,
                container="x",
                status=RUNNING,
                details={"name": "a"},
                user="mei",
            )
        )
    return store


def state(store: Store) -> tuple[str, JsonObject]:
    with store.reading() as session:
        [(status, details)] = session.execute(select(JobRow.status, JobRow.details)).all()
    assert status is not None
    return status.value, {key: value for key, value in json_object(details).items() if key != STOP_KEY}


def report(store: Store, status: JobStatus, ended: datetime | None = None, **more: object) -> RecordedState:
    """Record what a command that follows or refreshes the job sees."""
    with store.writing() as session:
        return record_states(session, {1: update(status, ended, **more)}).states[1]


def update(status: JobStatus, ended: datetime | None = None, **more: object) -> JobUpdate:
    return JobUpdate(status, JobDetails({"name": "a", **more}, ended=ended))


def ask(store: Store, request: StopRequest = REQUEST) -> RecordedState | None:
    with store.writing() as session:
        return request_stop(session, 1, request)


def settle(store: Store, answer: JobUpdate, request: StopRequest = REQUEST) -> RecordedState | None:
    with store.writing() as session:
        return settle_stop(session, 1, answer, request)


@pytest.mark.parametrize("seen", [SUCCEEDED, FAILED])
def test_a_job_that_ends_after_a_request_to_stop_it_is_stopped(seen: JobStatus, running: Store) -> None:
    ask(running)
    recorded = report(running, seen, ret_code=0)
    assert (recorded.status, recorded.stop_request) == (STOPPED, REQUEST)
    assert state(running) == ("STOPPED", {"name": "a", "ret_code": 0, "cause": "stopped"})


@pytest.mark.parametrize("seen", [SUCCEEDED, FAILED])
def test_a_stopped_job_stays_stopped_whatever_is_seen_later(seen: JobStatus, running: Store) -> None:
    ask(running)
    settle(running, update(STOPPED))
    assert report(running, seen).status is STOPPED


def test_a_final_state_is_not_replaced_by_another_one(running: Store) -> None:
    report(running, SUCCEEDED)
    assert (report(running, FAILED).status, state(running)[0]) == (SUCCEEDED, "SUCCEEDED")


def test_details_of_a_final_state_can_be_completed(running: Store) -> None:
    report(running, FAILED)
    report(running, FAILED, ret_code=2)
    assert state(running) == ("FAILED", {"name": "a", "ret_code": 2})


def test_a_job_that_had_ended_before_it_could_be_stopped_keeps_its_end(running: Store) -> None:
    """The follower recorded STOPPED, since somebody asked; the platform's answer to that one says otherwise."""
    ask(running)
    report(running, SUCCEEDED, ret_code=0)
    settle(running, update(SUCCEEDED, ret_code=0))
    assert state(running) == ("SUCCEEDED", {"name": "a", "ret_code": 0})


def test_a_job_that_has_ended_is_not_asked_to_stop(running: Store) -> None:
    report(running, SUCCEEDED)
    recorded = ask(running)
    assert recorded is not None
    assert (recorded.status, recorded.stop_request) == (SUCCEEDED, None)


def test_a_request_survives_what_others_record_meanwhile(running: Store) -> None:
    ask(running)
    report(running, RUNNING, node="b")
    assert report(running, SUCCEEDED).status is STOPPED


def test_a_platform_that_stops_later_reports_the_end_itself(running: Store) -> None:
    ask(running)
    settle(running, update(RUNNING))
    assert report(running, SUCCEEDED).status is SUCCEEDED


@pytest.mark.parametrize(
    ("seconds", "expected"), [(-3, SUCCEEDED), (-1, STOPPED), (59, STOPPED), (61, SUCCEEDED), (None, STOPPED)]
)
def test_after_a_request_whose_command_was_killed_the_time_of_the_end_decides(
    seconds: int | None, expected: JobStatus, running: Store
) -> None:
    ask(running)
    ended = None if seconds is None else AT + timedelta(seconds=seconds)
    assert report(running, SUCCEEDED, ended).status is expected


@pytest.mark.parametrize(("seconds", "expected"), [(3659, STOPPED), (3661, SUCCEEDED)])
def test_a_request_counts_for_as_long_as_the_job_may_go_on_after_it(
    seconds: int, expected: JobStatus, running: Store
) -> None:
    ask(running, replace(REQUEST, grace=3600))
    assert report(running, SUCCEEDED, AT + timedelta(seconds=seconds)).status is expected


@pytest.mark.parametrize("grace", [None, "60", -1, True, 1e300, []])
def test_a_request_with_an_odd_grace_period_counts(grace: object, running: Store) -> None:
    with running.writing() as session:
        session.get_one(JobRow, 1).details = {"name": "a", STOP_KEY: {**REQUEST.to_json(), "grace": grace}}
    assert report(running, SUCCEEDED, AT + timedelta(seconds=59)).status is STOPPED


def test_the_answer_to_an_earlier_request_does_not_end_a_later_one(running: Store) -> None:
    later = StopRequest("f" * 16, "totoro", "catbus", AT)
    ask(running)
    ask(running, later)
    settle(running, update(RUNNING))
    assert report(running, SUCCEEDED).stop_request == later


def test_nothing_is_recorded_of_a_job_that_is_not_in_the_store(running: Store) -> None:
    with running.writing() as session:
        assert request_stop(session, 4711, REQUEST) is None
        assert settle_stop(session, 4711, update(STOPPED), REQUEST) is None


@pytest.mark.parametrize("stored", [None, 1, "x", {}, {"id": "a", "user": "b", "host": "c", "at": "noon"}, {"id": 1}])
def test_a_damaged_request_counts_as_none(stored: object, running: Store) -> None:
    with running.writing() as session:
        row = session.get_one(JobRow, 1)
        row.details = {"name": "a", STOP_KEY: stored}
    assert report(running, SUCCEEDED).status is SUCCEEDED
