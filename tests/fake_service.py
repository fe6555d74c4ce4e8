"""The service of the fake platform: what it was asked for, and its answers."""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from caliban.attempts import Submission
from caliban.errors import CalibanError, PlatformError
from caliban.platforms.base import (
    NotSentError,
    RefusedError,
)
from caliban.platforms.stored_json import REMOVE_KEY, timestamp
from caliban.records import (
    Destination,
    FailureCause,
    JobDetails,
    JobExit,
    JobStatus,
    JsonObject,
    NewJob,
)


@dataclass
class FakeService:
    """The service behind the fake platform. It knows its jobs by token and name, and answers as expected by the test.

    Attributes:
        calls: every call, in order: the method's name and its first argument.
        jobs: the jobs that it accepted, by token.
        details: what it adds to the details of jobs.
        on_submit: called with each submission before it is answered.
        connections: the destinations that a connection was checked to, in order.
        connection_error: why it cannot be reached, or None.
        registry_checks: the registries that were checked, in order: the configured name and the zone.
        registry_error: why its registries accept no images, or None.
        stopping: of the context of its platform.
        is_detached: whether its jobs run in the background.
    """

    calls: list[tuple[str, object]] = field(default_factory=list)
    jobs: dict[str, NewJob] = field(default_factory=dict)
    details: JsonObject = field(default_factory=dict)
    on_submit: Callable[[Submission], None] | None = None
    connections: list[Destination] = field(default_factory=list)
    connection_error: CalibanError | None = None
    registry_checks: list[tuple[str | None, str]] = field(default_factory=list)
    registry_error: CalibanError | None = None
    stopping: threading.Event | None = None
    is_detached: bool = False
    _names: dict[str, str] = field(default_factory=dict)
    _expected: dict[str, deque[Callable[..., object]]] = field(default_factory=dict)

    def expect(self, method: str, *answers: Callable[..., object]) -> None:
        """Answer the next calls of ``method`` by ``answers``, one after the other."""
        self._expected.setdefault(method, deque()).extend(answers)

    def answer(self, method: str, *arguments: object) -> object:
        self.calls.append((method, arguments[0]))
        expected = self._expected.get(method)
        if not expected:
            raise AssertionError(f"unexpected call of {method}: {arguments}")
        return expected.popleft()(*arguments)

    def verify(self) -> None:
        """Check that every expected call was made."""
        left = {method: len(expected) for method, expected in self._expected.items() if expected}
        assert not left, f"calls that were expected and not made: {left}"

    def arguments_of(self, method: str) -> list[object]:
        """Return the first argument of each call of ``method``."""
        return [argument for name, argument in self.calls if name == method]

    def take(self, spec: JsonObject, submission: Submission) -> NewJob:
        """Accept a job. The same token is the same job, and names are unique."""
        assert len(submission.token) >= 16, "a token that can be guessed or repeated"
        if submission.token in self.jobs:
            return self.jobs[submission.token]
        assert submission.name not in self._names, f"the name {submission.name} is in use"
        self._names[submission.name] = submission.token
        details = fake_details(JobStatus.SUBMITTED, {"name": submission.name, **self.details})
        job = NewJob(str(spec["image"]), JobStatus.SUBMITTED, details)
        self.jobs[submission.token] = job
        return job

    def interrupt(self, number: signal.Signals = signal.SIGINT) -> None:
        """Send a signal as Ctrl-C does while a call is being answered, and wait until it is handled."""
        os.kill(os.getpid(), number)
        if threading.current_thread() is not threading.main_thread():
            assert self.stopping is not None
            assert self.stopping.wait(10), "the signal was not handled"

    # Answers for `expect("submit", ...)`:

    def accept(self, spec: JsonObject, submission: Submission) -> NewJob:
        return self.take(spec, submission)

    def lose_answer(self, spec: JsonObject, submission: Submission) -> NewJob:
        self.take(spec, submission)
        raise PlatformError("fake-timeout", "the fake platform did not answer", cause="timed out")

    @staticmethod
    def refuse(spec: JsonObject, submission: Submission) -> NewJob:
        raise RefusedError(
            "fake-quota", "the fake quota is exceeded", cause="0 left", hint="wait", details={"error": "0 left"}
        )

    @staticmethod
    def fail_to_connect(*arguments: object) -> NewJob:
        raise PlatformError("fake-unreachable", "cannot reach the fake platform", cause="no route")

    # An answer for `expect("find", ...)`:

    def look_up(self, submission: Submission) -> NewJob | None:
        return self.jobs.get(submission.token)


def may_send() -> None:
    """Permit a request: the submission is still its owner's."""


def may_not_send() -> None:
    """Forbid a request: another process settled the submission."""
    raise NotSentError("not-sent", "the submission was already settled by another process")


@dataclass(frozen=True)
class FakeDestination(Destination):
    """A zone of the fake platform."""

    zone: str = "zone-a"

    def check(self) -> None:
        if not self.zone.startswith("zone-"):
            raise PlatformError("fake-zone-malformed", f"not a zone: {self.zone}")

    def to_json(self) -> JsonObject:
        return {"zone": self.zone}


def fake_details(status: JobStatus, raw: JsonObject) -> JobDetails:
    """Return the details of a job of the fake platform: ``name``, ``zone``, ``reason``, ``ret_code``, ``error``,
    ``cause``, ``started``, ``ended``.
    """
    name, zone, code = (raw.get(key) for key in ("name", "zone", "ret_code"))
    reason = raw.get("reason") or raw.get("error")
    end = JobExit(
        code if isinstance(code, int) else None,
        FailureCause.REFUSED if "error" in raw else FailureCause(str(raw["cause"])) if "cause" in raw else None,
        str(reason) if reason else None,
    )
    return JobDetails(
        raw,
        id=str(name) if name else None,
        display_name=str(name) if name else None,
        destination=FakeDestination(str(zone)) if zone else None,
        exit=end if status.is_final else None,
        pending_reason=str(reason) if reason and not status.is_final else None,
        started=timestamp(raw, "started"),
        ended=timestamp(raw, "ended"),
        remove_when_ended=raw.get(REMOVE_KEY) is True,
    )
