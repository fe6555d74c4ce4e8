"""Random sequences of commands, crashes and faults: jobs at the service and job rows in the store always agree.

Commands run in this process, which allows hundreds of them. A crash is an exception that nothing catches, raised before
or after an effect; it also prevents all further effects of the command's other threads.
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
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlalchemy.engine.default import DefaultDialect

from caliban.cli.console import Console
from caliban.cli.context import Context
from caliban.errors import CalibanError
from caliban.store.database import Access, open_store
from tests.calls import call
from tests.fakes import FakeStream, RecordingReporter
from tests.safety.sandbox import RESUBMIT, STATUS, Sandbox
from tests.safety.services import AiPlatform, ServiceJob
from tests.safety.tracing import VirtualClock, replace_time
from tests.sampling import examples
from tests.standins.faults import Fault, Kind

RE_RUN = frozenset({"FAILED", "STOPPED"})


class Crash(BaseException):
    """The simulated death of a process."""


class CrashTrigger:
    """Crashes a command at its ``nth`` effect; :mod:`tests.safety.tracing` defines effects."""

    def __init__(self, nth: int, *, after: bool) -> None:
        self._nth = nth
        self._after = after
        self._count = 0
        self._has_crashed = False
        self._lock = threading.Lock()

    @contextmanager
    def active(self) -> Iterator[None]:
        """Watch the effects of a command during the block."""
        commit, send = DefaultDialect.do_commit, requests.Session.request

        def watched_commit(dialect: Any, connection: Any) -> None:
            self._begin()
            commit(dialect, connection)  # type: ignore[no-untyped-call]
            self._end()

        def watched_send(session: Any, *given: Any, **more: Any) -> Any:
            self._begin()
            result = send(session, *given, **more)
            self._end()
            return result

        with (
            mock.patch.object(DefaultDialect, "do_commit", watched_commit),
            mock.patch.object(requests.Session, "request", watched_send),
        ):
            yield

    def _begin(self) -> None:
        with self._lock:
            self._count += 1
            if self._count >= self._nth and not self._after:
                self._has_crashed = True
            if self._has_crashed:
                raise Crash

    def _end(self) -> None:
        with self._lock:
            if self._count >= self._nth and self._after:
                self._has_crashed = True
            if self._has_crashed:
                raise Crash


CRASH_TRIGGERS = st.none() | st.builds(CrashTrigger, st.integers(1, 14), after=st.booleans())


@cache
def empty_store() -> bytes:
    """Return an empty store of this version."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "caliban.db"
        open_store(f"sqlite:///{file}", Access.WRITE, RecordingReporter()).close()
        return file.read_bytes()


class Commands(RuleBasedStateMachine):
    """What a user, the service and the network do."""

    service: ClassVar[AiPlatform]

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="caliban-test-"))
        file = self.directory / "caliban.db"
        file.write_bytes(empty_store())
        self.service.stand_in.faults.pending.clear()
        self.service.restore([])
        self.service.on_accept(self._accepted)
        # commands run in this process, without a server
        self.sandbox = Sandbox(self.directory, self.service, None, f"sqlite:///{file}")  # type: ignore[arg-type]
        self.is_re_run = False
        self.repeated: list[str] = []

    def teardown(self) -> None:
        try:
            self.settle()
        finally:
            shutil.rmtree(self.directory)

    @initialize(experiments=st.integers(1, 3))
    def begin(self, experiments: int) -> None:
        self.sandbox.experiments(experiments)
        self._run(self.service.command(), None)

    @rule(trigger=CRASH_TRIGGERS, experiments=st.integers(1, 3))
    def submit(self, trigger: CrashTrigger | None, experiments: int) -> None:
        self.sandbox.experiments(experiments)
        self._run(self.service.command(), trigger)

    @rule(trigger=CRASH_TRIGGERS)
    def re_run(self, trigger: CrashTrigger | None) -> None:
        self.is_re_run = True
        self._run(RESUBMIT, trigger)
        self.is_re_run = False

    @rule(trigger=CRASH_TRIGGERS)
    def stop(self, trigger: CrashTrigger | None) -> None:
        self._run(("stop", "--xgroup", "resubmit_test", "--yes"), trigger)

    @rule(trigger=CRASH_TRIGGERS)
    def status(self, trigger: CrashTrigger | None) -> None:
        self._run(STATUS, trigger)

    @rule(number=st.integers(0, 9), state=st.sampled_from(["RUNNING", "SUCCEEDED", "FAILED", "FAILED"]))
    def a_job_changes_state(self, number: int, state: str) -> None:
        unfinished = [job for job in self.service.jobs() if job.state in ("SUBMITTED", "RUNNING")]
        if unfinished:
            self.service.set_state(unfinished[number % len(unfinished)].name, state)

    @rule(
        method=st.sampled_from(["create", "get", "list"]),
        kind=st.sampled_from(["drop", "drop", "refuse", "status", "garbage"]),
        status=st.sampled_from([403, 429, 503]),
        times=st.sampled_from([1, 2, 40]),
    )
    def requests_fail(self, method: str, kind: Kind, status: int, times: int) -> None:
        self.sandbox.add_faults(Fault(method, kind, status=status, times=times))

    @rule()
    def settle(self) -> None:
        """Without faults, one command settles all open submissions."""
        self.service.stand_in.faults.pending.clear()
        self._run(STATUS, None)
        assert self.sandbox.inconsistencies() == []

    @invariant()
    def jobs_are_journaled_before_they_are_sent(self) -> None:
        written = {row[0] for row in self.sandbox.rows("SELECT token FROM submissions")}
        sent = [job.token for job in self.service.jobs()]
        assert set(sent) <= written
        assert len(set(sent)) == len(sent)

    @invariant()
    def unfinished_and_successful_jobs_are_not_rerun(self) -> None:
        assert self.repeated == []

    def _accepted(self, job: ServiceJob) -> None:
        same_arguments = [other for other in self.service.jobs() if other.arguments == job.arguments]
        newest = [other for other in same_arguments if other.name != job.name][-1:]
        if self.is_re_run and newest and newest[0].state not in RE_RUN:
            self.repeated.append(f"{job.name} repeats {newest[0].name}, which is {newest[0].state}")

    def _run(self, arguments: tuple[str, ...], trigger: CrashTrigger | None) -> None:
        """Run a command to its end or its crash; other tests check its errors."""
        console = Console(FakeStream(), FakeStream(), FakeStream())
        cwd, home = self.directory / "cpu", self.directory / "home"
        context = Context(console, self.sandbox.environ, cwd, home, "totoro")
        armed = trigger if trigger is not None else CrashTrigger(10**6, after=False)
        try:
            with armed.active():
                call(context, *arguments)
        except (CalibanError, Crash):
            pass


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_store_and_service_agree_after_any_sequence_of_commands_and_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    replace_time(VirtualClock(0), monkeypatch.setattr)
    budget = settings(
        max_examples=examples(40), stateful_step_count=12, deadline=None, derandomize=True, print_blob=True
    )
    with AiPlatform() as service:
        Commands.service = service
        run_state_machine_as_test(Commands, settings=budget)
