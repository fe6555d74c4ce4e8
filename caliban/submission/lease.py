"""Leases: how a command shows that it is still running to those who cannot see its process.

Whoever sees the process (:func:`caliban.store.owner.presence`) needs no lease. Everybody else takes it for ended only
if its batch was not renewed for the length of a lease and, watched by a clock of their own that nobody sets, is not
renewed either. A process that did not run for that long, as on a laptop that slept, can be taken for ended; it finds
out before its next request (:data:`caliban.platforms.base.MaySend`).
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from threading import Event, Thread
from types import TracebackType

from caliban.attempts import Batch, Submission
from caliban.clock import Clock
from caliban.errors import StoreError
from caliban.store.journal import Journal
from caliban.store.owner import Presence, has_ended, presence, this_process

RENEWAL_PERIOD = 10.0
"""Seconds between two renewals."""

LEASE = 60.0
"""How long a batch that was renewed counts as in progress, in seconds."""

WATCH = 2.5 * RENEWAL_PERIOD
"""How long a batch whose lease has expired is watched for a renewal, in seconds."""

OLD_WATCH = 60.0
"""The same for submissions of revision 0003, which are not renewed, but settled sooner unless a service fails."""

OLD_AGE = 27 * 3600.0
"""How old a submission of revision 0003 must be to be looked up in any case, in seconds.

Its local time may be of any time zone: they differ by up to 26 hours.
"""

_JOIN = 1.0


class Lease:
    """Renews a batch on a thread of its own, while a block runs and submissions are open."""

    def __init__(self, journal: Journal, batch_id: int, clock: Clock, warn: Callable[[str], None]) -> None:
        self._journal = journal
        self._batch_id = batch_id
        self._clock = clock
        self._warn = warn
        self._ended = Event()
        self._thread = Thread(target=self._run, name="lease", daemon=True)

    def __enter__(self) -> Lease:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join(_JOIN)  # it may wait for the lock of the store

    def _run(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # they interrupt the main thread
        self.renew_until_ended()

    def renew_until_ended(self) -> None:
        """Renew every :data:`RENEWAL_PERIOD`, until the block has ended or no submission is open."""
        while not self._clock.wait_in_background(self._ended, RENEWAL_PERIOD):
            try:
                if not self._journal.renew(self._batch_id):
                    return
            except StoreError as error:
                self._warn(f"other commands may take this one for ended: {error.message}")


def in_progress(submission: Submission, clock: Clock) -> bool | None:
    """Return whether a running process may still be working on an OPEN submission, as far as one look tells.

    Returns:
        None if only watching it tells: see :func:`ended_of`.
    """
    if submission.batch is None:
        return _old_in_progress(submission, clock)
    return batch_in_progress(submission.batch)


def batch_in_progress(batch: Batch) -> bool | None:
    """Return the same for a batch that is not finished."""
    owner = batch.owner
    if owner == this_process():
        return False  # it submits nothing while it asks
    seen = presence(owner)
    if seen is not Presence.OUT_OF_SIGHT:
        return seen is Presence.RUNNING
    return True if 0 <= batch.unrenewed < LEASE else None


def _old_in_progress(submission: Submission, clock: Clock) -> bool | None:
    """Return the same for a row of revision 0003: nothing but a host name and a process id tells whose it is."""
    if abs((clock.utc_now() - submission.created).total_seconds()) > OLD_AGE:
        return False
    if submission.host != socket.gethostname():
        return True
    if submission.pid == os.getpid():
        return False
    return None if has_ended(submission.pid) else True  # its process may run in another container of the same name


def seen_running(submission: Submission) -> Submission:
    """Return a submission whose process is known to be running, whatever clocks say of its last renewal."""
    batch = submission.batch
    return submission if batch is None else replace(submission, batch=replace(batch, unrenewed=0.0))


def ended_of(
    submissions: Sequence[Submission], journal: Journal, clock: Clock, report: Callable[[str], None]
) -> list[Submission]:
    """Return those OPEN submissions whose process has ended; what one look does not tell is watched, all at once.

    Args:
        submissions: as they were just read.
        journal: where they are read again.
        clock: for the time of the watch; neither its date nor that of the other process matters.
        report: gets one line if something is watched.
    """
    seen = {submission.id: in_progress(submission, clock) for submission in submissions}
    undecided = [submission for submission in submissions if seen[submission.id] is None]
    running = _renewed_while_watched(undecided, journal, clock, report) if undecided else set()
    return [each for each in submissions if not seen[each.id] and each.id not in running]


def _renewed_while_watched(
    submissions: Sequence[Submission], journal: Journal, clock: Clock, report: Callable[[str], None]
) -> set[int]:
    """Return the ids of those whose batch is renewed; stop watching once all are."""
    seconds = OLD_WATCH if any(each.batch is None for each in submissions) else WATCH
    owners = dict.fromkeys(f"{each.user} on {each.host} (process {each.pid})" for each in submissions)
    report(f"checking for {seconds:.0f} s whether the command of {', '.join(owners)} is still running ...")
    batches = {each.id: each.batch for each in submissions if each.batch is not None}
    end = clock.monotonic() + seconds
    running: set[int] = set()
    while len(running) < len(submissions) and clock.monotonic() < end:
        clock.wait(Event(), min(RENEWAL_PERIOD / 2, max(0.0, end - clock.monotonic())))
        renewals = journal.renewals([batch.id for batch in batches.values()])
        running = {key for key, batch in batches.items() if renewals.get(batch.id) != batch.renewals}
    return running
