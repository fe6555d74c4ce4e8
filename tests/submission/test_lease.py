"""Whether a process is still submitting is decided without its clock, time zone, host name or process id alone."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from threading import Event

import pytest

from caliban.attempts import Batch, Owner, Submission
from caliban.errors import StoreError
from caliban.records import ExperimentRecord, JobStatus
from caliban.store.database import Store
from caliban.store.journal import Journal
from caliban.store.owner import this_process
from caliban.submission.lease import LEASE, OLD_AGE, RENEWAL_PERIOD, WATCH, Lease, ended_of, in_progress
from tests.builders import add_group, elsewhere, leave_open, owner
from tests.fakes import FakeClock, RecordingReporter

NOW = datetime.now(timezone.utc)


@pytest.fixture
def experiment(store: Store) -> ExperimentRecord:
    return add_group(store, JobStatus.FAILED).experiments[0]


@pytest.fixture
def running_process() -> Iterator[int]:
    """The id of another process, which runs as long as the test."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process.pid
    process.communicate()


@pytest.fixture
def ended_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def a_submission(batch: Batch | None, **more: object) -> Submission:
    plain = Submission(
        id=1,
        token="0123456789abcdef",
        experiment_id=38,
        group="resubmit_test",
        job_spec_id=1,
        resubmits=None,
        platform="TEST",
        destination={},
        name="fake",
        user="totoro",
        host=socket.gethostname(),
        pid=os.getpid(),
        created=NOW,
        batch=batch,
    )
    return replace(plain, **more)  # type: ignore[arg-type]


def owned_by(process: Owner, unrenewed: float = 5) -> Submission:
    return a_submission(Batch(1, process, 0, unrenewed))


@pytest.mark.parametrize("unrenewed", [0, -8 * 3600, 8 * 3600, 30, 10**6], ids=["now", "west", "east", "step", "slept"])
def test_a_process_that_can_be_seen_needs_no_clock(running_process: int, clock: FakeClock, unrenewed: float) -> None:
    assert in_progress(owned_by(owner(running_process), unrenewed), clock) is True


@pytest.mark.parametrize("unrenewed", [0, -8 * 3600, 10**6])
def test_nor_does_one_that_has_ended(ended_process: int, clock: FakeClock, unrenewed: float) -> None:
    assert in_progress(owned_by(owner(ended_process), unrenewed), clock) is False


def test_this_process_itself_submits_nothing_while_it_asks(clock: FakeClock) -> None:
    assert in_progress(owned_by(this_process()), clock) is False


@pytest.mark.parametrize("change", ["boot", "namespaces", "machine"])
def test_an_equal_process_id_in_another_place_is_another_process(
    running_process: int, ended_process: int, clock: FakeClock, change: str
) -> None:
    for pid in (running_process, ended_process):
        there = replace(owner(pid), **{change: "another"})  # type: ignore[arg-type]
        assert in_progress(owned_by(there, 5), clock) is True
        assert in_progress(owned_by(there, LEASE + 1), clock) is None


@pytest.mark.parametrize(
    ("unrenewed", "expected"),
    [(0, True), (LEASE - 1, True), (LEASE, None), (-1, None), (-8 * 3600, None), (8 * 3600, None)],
)
def test_out_of_sight_a_lease_decides_and_only_for_its_own_length(
    clock: FakeClock, unrenewed: float, expected: bool | None
) -> None:
    assert in_progress(owned_by(elsewhere(), unrenewed), clock) is expected


def test_a_process_without_proc_has_a_lease(clock: FakeClock) -> None:
    """As on macOS."""
    bare = Owner(None, None, None, os.getpid() + 1, None)
    assert [in_progress(owned_by(bare, unrenewed), clock) for unrenewed in (5, LEASE)] == [True, None]


def test_an_expired_lease_is_watched_before_its_process_counts_as_ended(
    store: Store, experiment: ExperimentRecord, clock: FakeClock, reporter: RecordingReporter
) -> None:
    opened = leave_open(store, experiment, by=elsewhere(), renewed=NOW - timedelta(hours=8), host="catbus", pid=4711)
    assert ended_of([opened], Journal(store), clock, reporter.info) == [opened]
    assert clock.seconds == WATCH > 2 * RENEWAL_PERIOD
    assert reporter.lines == [
        "checking for 25 s whether the command of totoro on catbus (process 4711) is still running ..."
    ]


class RenewingClock(FakeClock):
    """A clock whose waits are used by another process to renew."""

    def __init__(self, renew: Callable[[], object]) -> None:
        super().__init__()
        self._renew = renew

    def wait(self, event: Event, seconds: float) -> bool:
        self._renew()
        return super().wait(event, seconds)


@pytest.mark.parametrize("ahead", [timedelta(hours=8), timedelta(hours=-8), timedelta(seconds=-90)])
def test_a_process_that_renews_while_it_is_watched_has_not_ended_whatever_its_clock_shows(
    store: Store, experiment: ExperimentRecord, reporter: RecordingReporter, ahead: timedelta
) -> None:
    opened = leave_open(store, experiment, by=elsewhere(), renewed=NOW + ahead)
    assert opened.batch is not None
    number = opened.batch.id
    clock = RenewingClock(lambda: Journal(store, FakeClock()).renew(number))
    assert ended_of([opened], Journal(store), clock, reporter.info) == []
    assert clock.seconds < RENEWAL_PERIOD, "it was watched for longer than necessary"


def test_what_has_to_be_watched_is_watched_together(
    store: Store, clock: FakeClock, reporter: RecordingReporter
) -> None:
    experiments = add_group(store, None, None, None).experiments
    opened = [
        leave_open(store, each, by=elsewhere(number), renewed=NOW - timedelta(hours=1), token=f"{number:016}")
        for number, each in enumerate(experiments, 1)
    ]
    assert ended_of(opened, Journal(store), clock, reporter.info) == opened
    assert (clock.seconds, len(reporter.lines)) == (WATCH, 1)


def test_what_was_renewed_recently_is_not_waited_for(
    store: Store, experiment: ExperimentRecord, clock: FakeClock, reporter: RecordingReporter
) -> None:
    opened = leave_open(store, experiment, by=elsewhere())
    assert ended_of([opened], Journal(store), clock, reporter.info) == []
    assert (clock.seconds, reporter.lines) == (0, [])


class TickingClock(FakeClock):
    """A clock whose background waits pass ``ticks`` times, and then end."""

    def __init__(self, ticks: int) -> None:
        super().__init__()
        self.ticks = ticks
        self.periods: list[float] = []

    def wait_in_background(self, event: Event, seconds: float) -> bool:
        self.periods.append(seconds)
        return len(self.periods) > self.ticks


def renewals(store: Store, batch: Batch) -> int:
    return Journal(store).renewals([batch.id])[batch.id]


def test_a_lease_is_renewed_every_ten_seconds(store: Store, experiment: ExperimentRecord) -> None:
    batch = leave_open(store, experiment).batch
    assert batch is not None
    clock = TickingClock(3)
    lease = Lease(Journal(store), batch.id, clock, RecordingReporter().info)
    lease.renew_until_ended()
    assert (renewals(store, batch), clock.periods) == (3, [10.0] * 4)


def test_a_lease_ends_with_its_last_open_submission(store: Store, experiment: ExperimentRecord) -> None:
    opened = leave_open(store, experiment)
    assert opened.batch is not None
    Journal(store).abandon(opened, "the test ended it")
    clock = TickingClock(3)
    Lease(Journal(store), opened.batch.id, clock, RecordingReporter().info).renew_until_ended()
    assert len(clock.periods) == 1


def test_a_lease_that_cannot_be_renewed_is_reported_and_tried_again(
    store: Store, experiment: ExperimentRecord, monkeypatch: pytest.MonkeyPatch, reporter: RecordingReporter
) -> None:
    batch = leave_open(store, experiment).batch
    assert batch is not None
    with monkeypatch.context() as patch:
        journal = Journal(store)
        real, failures = journal.renew, iter([True, False])

        def fail_once(batch_id: int) -> bool:
            if next(failures, False):
                raise StoreError("store-locked", "the store is locked")
            return real(batch_id)

        patch.setattr(journal, "renew", fail_once)
        Lease(journal, batch.id, TickingClock(2), reporter.info).renew_until_ended()
    assert renewals(store, batch) == 1
    assert reporter.lines == ["other commands may take this one for ended: the store is locked"]


def old(**more: object) -> Submission:
    """A row of revision 0003."""
    return a_submission(None, **more)


def test_an_old_submission_of_a_process_id_that_exists_here_is_left_alone(
    running_process: int, clock: FakeClock
) -> None:
    assert in_progress(old(pid=running_process, created=clock.utc_now()), clock) is True


def test_an_old_submission_of_a_process_id_that_does_not_is_watched(
    store: Store, experiment: ExperimentRecord, ended_process: int, clock: FakeClock, reporter: RecordingReporter
) -> None:
    opened = old(pid=ended_process, created=clock.utc_now())
    assert ended_of([opened], Journal(store), clock, reporter.info) == [opened]
    assert clock.seconds == 60


@pytest.mark.parametrize(
    ("age", "expected"), [(0, True), (3601, True), (-8 * 3600, True), (OLD_AGE + 1, False), (-OLD_AGE - 1, False)]
)
def test_an_old_submission_of_another_host_is_left_alone_for_as_long_as_time_zones_differ(
    clock: FakeClock, age: float, expected: bool
) -> None:
    created = clock.utc_now() - timedelta(seconds=age)
    assert in_progress(old(host="catbus", created=created), clock) is expected


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/Los_Angeles", "Europe/Berlin"])
def test_the_time_zone_of_the_observer_does_not_matter(
    store: Store, experiment: ExperimentRecord, time_zone: Callable[[str], None], clock: FakeClock, zone: str
) -> None:
    leave_open(store, experiment, by=elsewhere())
    time_zone(zone)
    [opened] = Journal(store).open_submissions("totoro")
    assert opened.batch is not None
    assert 0 <= opened.batch.unrenewed < 10
