"""Random sequences of submitting, dying, re-running, stopping, listing and losing answers keep one promise.

Jobs at the service = job rows in the store, token by token. In this process, so that there can be hundreds of
commands: a crash is an exception that nothing catches, raised before or after an effect; from then on no other thread
of the command gets to do anything either.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import pytest
import requests
from cryptography.hazmat.primitives import serialization
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlalchemy.engine.default import DefaultDialect

from caliban.cli.console import Console
from caliban.cli.context import Context
from caliban.errors import CalibanError
from caliban.platforms.google import client as google_client
from caliban.platforms.retry import RetryPolicy
from caliban.store.database import Access, open_store
from tests.calls import call
from tests.fakes import FakeStream, RecordingReporter
from tests.safety.places import AiPlatform, JobThere
from tests.safety.worlds import RESUBMIT, STATUS, World
from tests.standins.faults import Fault, Kind

RETRY_POLICY = RetryPolicy(initial_delay=0.002, max_delay=0.004, deadline=0.4, quota_deadline=0.4)
RE_RUN = frozenset({"FAILED", "STOPPED"})


class Crash(BaseException):
    """The process is dead."""


class Fuse:
    """Lets a command die at its ``nth`` effect; see :mod:`tests.safety.traced` for what is one."""

    def __init__(self, nth: int, *, after: bool) -> None:
        self._nth = nth
        self._after = after
        self._count = 0
        self._is_dead = False
        self._lock = threading.Lock()

    @contextmanager
    def lit(self) -> Iterator[None]:
        """While the command runs."""
        commit, send = DefaultDialect.do_commit, requests.Session.request

        def watched_commit(dialect: Any, connection: Any) -> None:
            self._begin()
            commit(dialect, connection)  # type: ignore[no-untyped-call]
            self._end()

        def watched_send(session: Any, *given: Any, **more: Any) -> Any:
            self._begin()
            answer = send(session, *given, **more)
            self._end()
            return answer

        with (
            mock.patch.object(DefaultDialect, "do_commit", watched_commit),
            mock.patch.object(requests.Session, "request", watched_send),
        ):
            yield

    def _begin(self) -> None:
        with self._lock:
            self._count += 1
            if self._count >= self._nth and not self._after:
                self._is_dead = True
            if self._is_dead:
                raise Crash

    def _end(self) -> None:
        with self._lock:
            if self._count >= self._nth and self._after:
                self._is_dead = True
            if self._is_dead:
                raise Crash


FUSES = st.none() | st.builds(Fuse, st.integers(1, 14), after=st.booleans())


@cache
def empty_store() -> bytes:
    """A store of this version, with nothing in it."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "caliban.db"
        open_store(f"sqlite:///{file}", Access.WRITE, RecordingReporter()).close()
        return file.read_bytes()


class Lives(RuleBasedStateMachine):
    """What a person, the service and bad luck do."""

    place: ClassVar[AiPlatform]

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="caliban-test-"))
        file = self.folder / "caliban.db"
        file.write_bytes(empty_store())
        self.place.service.faults.pending.clear()
        self.place.restore([])
        self.place.tell(self._accepted)
        # Commands are called here, and not in a nursery's process.
        self.world = World(self.folder, self.place, None, f"sqlite:///{file}")  # type: ignore[arg-type]
        self.is_re_run = False
        self.repeated: list[str] = []

    def teardown(self) -> None:
        try:
            self.come_to_rest()
        finally:
            shutil.rmtree(self.folder)

    @initialize(experiments=st.integers(1, 3))
    def begin(self, experiments: int) -> None:
        self.world.experiments(experiments)
        self._do(self.place.command(), None)

    @rule(fuse=FUSES, experiments=st.integers(1, 3))
    def submit(self, fuse: Fuse | None, experiments: int) -> None:
        self.world.experiments(experiments)
        self._do(self.place.command(), fuse)

    @rule(fuse=FUSES)
    def re_run(self, fuse: Fuse | None) -> None:
        self.is_re_run = True
        self._do(RESUBMIT, fuse)
        self.is_re_run = False

    @rule(fuse=FUSES)
    def stop(self, fuse: Fuse | None) -> None:
        self._do(("stop", "--xgroup", "resubmit_test", "--yes"), fuse)

    @rule(fuse=FUSES)
    def look(self, fuse: Fuse | None) -> None:
        self._do(STATUS, fuse)

    @rule(number=st.integers(0, 9), state=st.sampled_from(["RUNNING", "SUCCEEDED", "FAILED", "FAILED"]))
    def a_job_moves(self, number: int, state: str) -> None:
        unfinished = [job for job in self.place.jobs() if job.state in ("SUBMITTED", "RUNNING")]
        if unfinished:
            self.place.set_state(unfinished[number % len(unfinished)].name, state)

    @rule(
        method=st.sampled_from(["create", "get", "list"]),
        kind=st.sampled_from(["drop", "drop", "refuse", "status", "garbage"]),
        status=st.sampled_from([403, 429, 503]),
        times=st.sampled_from([1, 2, 40]),
    )
    def luck_turns(self, method: str, kind: Kind, status: int, times: int) -> None:
        self.world.plant(Fault(method, kind, status=status, times=times))

    @rule()
    def come_to_rest(self) -> None:
        """Luck is good again, and one command that asks nothing finishes what is open."""
        self.place.service.faults.pending.clear()
        self._do(STATUS, None)
        assert self.world.lost_or_twice() == []

    @invariant()
    def nothing_is_sent_that_was_not_written_down(self) -> None:
        written = {row[0] for row in self.world.rows("SELECT token FROM submissions")}
        sent = [job.token for job in self.place.jobs()]
        assert set(sent) <= written
        assert len(set(sent)) == len(sent)

    @invariant()
    def what_runs_or_succeeded_is_not_run_again(self) -> None:
        assert self.repeated == []

    def _accepted(self, job: JobThere) -> None:
        alike = [other for other in self.place.jobs() if other.arguments == job.arguments]
        newest = [other for other in alike if other.name != job.name][-1:]
        if self.is_re_run and newest and newest[0].state not in RE_RUN:
            self.repeated.append(f"{job.name} repeats {newest[0].name}, which is {newest[0].state}")

    def _do(self, words: tuple[str, ...], fuse: Fuse | None) -> None:
        """A command, to its end or its crash; what it says of failures is for other tests."""
        console = Console(FakeStream(), FakeStream(), FakeStream())
        cwd, home = self.folder / "cpu", self.folder / "home"
        context = Context(console, self.world.environ, cwd, home, "totoro")
        alight = fuse if fuse is not None else Fuse(10**6, after=False)
        try:
            with alight.lit():
                call(context, *words)
        except (CalibanError, Crash):
            pass


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_store_and_service_agree_after_any_sequence_of_commands_and_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(google_client, "DEFAULT", RETRY_POLICY)
    # Checking the key's primes takes a third of a command's time, and the key is always the same.
    monkeypatch.setattr(serialization, "load_pem_private_key", cache(serialization.load_pem_private_key))
    budget = settings(max_examples=50, stateful_step_count=12, deadline=None, derandomize=True, print_blob=True)
    with AiPlatform() as place:
        Lives.place = place
        run_state_machine_as_test(Lives, settings=budget)
