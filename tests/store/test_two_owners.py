"""Two real processes with one store, in other time zones and process namespaces: each knows whether the other runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from caliban.attempts import SubmissionState
from caliban.clock import SystemClock
from caliban.store.database import Store
from caliban.store.journal import Journal
from caliban.submission import lease
from caliban.submission.lease import ended_of, in_progress
from tests.fakes import FakeClock, RecordingReporter

from .helpers import add_experiments

PROGRAM = """
import sys
from caliban.attempts import FirstAttempt
from caliban.clock import SystemClock
from caliban.store.database import Access, open_store
from caliban.store.journal import Journal, NewSubmission, new_token
from caliban.submission import lease
from tests.fake_service import FakeDestination
from tests.fakes import RecordingReporter

lease.RENEWAL_PERIOD = 0.2
with open_store(sys.argv[1], Access.WRITE, RecordingReporter()) as store:
    journal = Journal(store)
    entries = [NewSubmission(1, "TEST", {}, FakeDestination(), "x", new_token(), FirstAttempt())]
    [submission] = journal.open_batch(entries, user="mei")
    with lease.Lease(journal, submission.batch.id, SystemClock(), print):
        print("open", flush=True)
        for line in sys.stdin:
            print(journal.mark_sent(submission), flush=True)
"""
AS_ROOT = () if os.geteuid() == 0 else ("--user", "--map-root-user")
IN_CONTAINER = ("unshare", *AS_ROOT, "--pid", "--fork", "--kill-child", "--mount-proc")
WITH_OUTER_PROC = ("unshare", *AS_ROOT, "--pid", "--fork", "--kill-child")
"""As IN_CONTAINER, except that /proc shows the processes of the outer namespace, under other ids."""

ZONES = ["Pacific/Kiritimati", "Pacific/Pago_Pago"]
"""14 hours east and 11 hours west of UTC."""


@contextmanager
def submitting(url: str, *wrapper: str, zone: str = "UTC") -> Iterator[subprocess.Popen[str]]:
    """Run a process that has an open submission, and sends it for every line that it reads."""
    process = subprocess.Popen(
        [*wrapper, sys.executable, "-c", PROGRAM, url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TZ": zone},
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        assert process.stdout.readline() == "open\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


@pytest.fixture(autouse=True)
def experiments(store: Store) -> None:
    add_experiments(store, "mei", "g", 1)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lease that is shorter than the test, and a watch of a few of the other process's renewals."""
    monkeypatch.setattr(lease, "LEASE", 0.0)
    monkeypatch.setattr(lease, "RENEWAL_PERIOD", 2.0)
    monkeypatch.setattr(lease, "WATCH", 2.0)


def may_send(process: subprocess.Popen[str]) -> bool:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("send\n")
    process.stdin.flush()
    return process.stdout.readline() == "True\n"


def settle(store: Store) -> list[SubmissionState]:
    """Do what the next command does if the platform has no job, and return the states of what is open before."""
    journal = Journal(store)
    opened = journal.open_submissions("mei")
    for submission in ended_of(opened, journal, SystemClock(), RecordingReporter().info):
        journal.abandon_interrupted(submission, "it has ended")
    found = [journal.read(submission) for submission in opened]
    return [submission.state for submission in found if submission]


@pytest.mark.parametrize(
    ("wrapper", "zone"),
    [((), ZONES[0]), ((), ZONES[1]), (IN_CONTAINER, ZONES[0]), (WITH_OUTER_PROC, ZONES[1])],
    ids=["here, east", "here, west", "container", "outer /proc"],
)
def test_a_process_in_another_time_zone_or_container_is_not_taken_for_ended(
    store: Store, store_url: str, wrapper: Sequence[str], zone: str, time_zone: Callable[[str], None]
) -> None:
    with submitting(store_url, *wrapper, zone=zone):
        time_zone("Europe/Berlin")
        [opened] = Journal(store).open_submissions("mei")
        assert in_progress(opened, FakeClock()) is True


@pytest.mark.slow
@pytest.mark.parametrize("wrapper", [IN_CONTAINER, WITH_OUTER_PROC], ids=["container", "outer /proc"])
def test_a_process_that_cannot_be_seen_is_recognised_by_its_renewals(
    store: Store, store_url: str, wrapper: Sequence[str], quick: None
) -> None:
    with submitting(store_url, *wrapper) as other:
        assert settle(store) == [SubmissionState.OPEN]
        assert may_send(other)


def test_a_process_that_is_killed_has_ended_at_once(store: Store, store_url: str) -> None:
    with submitting(store_url) as other:
        other.kill()
        other.wait()
        assert settle(store) == [SubmissionState.ABANDONED]


@pytest.mark.slow
def test_a_container_that_is_killed_has_ended_once_it_was_watched(store: Store, store_url: str, quick: None) -> None:
    with submitting(store_url, *IN_CONTAINER) as other:
        other.kill()
        other.wait()
        assert settle(store) == [SubmissionState.ABANDONED]


def test_a_stopped_process_that_can_be_seen_has_not_ended(store: Store, store_url: str, quick: None) -> None:
    with submitting(store_url) as other:
        other.send_signal(signal.SIGSTOP)
        assert settle(store) == [SubmissionState.OPEN]
        other.send_signal(signal.SIGCONT)
        assert may_send(other)


@pytest.mark.slow
def test_a_process_that_was_taken_for_ended_sends_nothing_when_it_wakes_up(
    store: Store, store_url: str, quick: None
) -> None:
    """As on a laptop that slept while a command on another machine went on."""
    with submitting(store_url, *IN_CONTAINER) as other:
        inner = _child_of(other.pid)
        os.kill(inner, signal.SIGSTOP)
        states = settle(store)
        os.kill(inner, signal.SIGCONT)
        assert states == [SubmissionState.ABANDONED]
        assert not may_send(other)


def _child_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
