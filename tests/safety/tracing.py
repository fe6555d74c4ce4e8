"""Runs a command traced: records where it is, pauses it at every point, or kills it at one; its waits take no time.

The effects of a command on the outside are commits to the store's database, and requests to the service. The lines of
caliban that it executes lie between them. :func:`setup` is called in a process forked by :mod:`tests.forkserver`.

A command is paused immediately before and after every effect, and in every function that it executes between two
changes (a commit, or a request that creates something), at its first line there. Between two changes nothing that
outlives the process differs, so it does not matter at which line of a function the process dies.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import astuple, dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import CodeType, FrameType
from typing import Any
from urllib.parse import urlsplit

import caliban

SOURCES = str(Path(caliban.__file__).parent)

_CONNECTIONS = frozenset({"bounded.py", "bounded_http.py", "platforms/kubernetes/transport.py"})
"""Files whose lines do not count: in how many pieces an answer arrives, and whether a connection is used again, depends
on real time. Requests are effects."""


@dataclass(frozen=True)
class Point:
    """Where a process is killed: around the ``nth`` effect of a name, or when it reaches a line the ``nth`` time.

    Attributes:
        location: ``before`` or ``after``; or a file of caliban, relative to its directory.
        line: of that file; 0 for an effect.
        function: the line's function, or the effect's name: for people.
        nth: from 1.
    """

    location: str
    line: int
    function: str
    nth: int

    def __str__(self) -> str:
        where = f"{self.location}:{self.line}" if self.line else self.location
        return f"{where} {self.function} (number {self.nth})"


@dataclass(frozen=True)
class Event:
    """An entry of a recording: an executed line, or (``line`` 0, ``location`` empty) the start of an effect."""

    location: str
    line: int
    function: str


def read_recording(path: Path) -> list[Event]:
    """Return the events that a :class:`Tracer` wrote."""
    return [Event(*event) for event in json.loads(path.read_text())]


_CHANGES = frozenset({"commit", "POST service"})


class Pauses:
    """Announces each point to the test that started the process, and waits for its answer.

    Args:
        announcements: the FIFO for points, one line of JSON each.
        answers: the FIFO for answers, one line each.
    """

    def __init__(self, announcements: str, answers: str) -> None:
        self._announcements = Path(announcements).open("w")  # noqa: SIM115 - open until the process ends
        self._answers = Path(answers).open()  # noqa: SIM115
        self._lock = threading.Lock()

    def pause(self, point: Point) -> None:
        with self._lock:
            self._announcements.write(json.dumps(astuple(point)) + "\n")
            self._announcements.flush()
            self._answers.readline()


class VirtualClock:
    """A clock whose waits return at once, as if the time had passed; each thread has its own time.

    What a thread does then depends neither on the speed of the machine nor on what the others wait for.

    Args:
        offset: seconds by which :meth:`now` is ahead of this machine's time.
    """

    def __init__(self, offset: float) -> None:
        self._offset = timedelta(seconds=offset)
        self._thread = threading.local()

    def now(self) -> datetime:
        return datetime.now() + self._offset

    def utc_now(self) -> datetime:
        return self.now().astimezone(timezone.utc)

    def wait_in_background(self, event: threading.Event, seconds: float) -> bool:
        return event.wait()

    def monotonic(self) -> float:
        return float(getattr(self._thread, "seconds", 0.0))

    def wait(self, event: threading.Event, seconds: float) -> bool:
        if not event.is_set():
            self._thread.seconds = self.monotonic() + seconds
        return event.is_set()


class Tracer:
    """Records events, pauses at every point, or kills its own process at one, as the kernel does when memory is short.

    Args:
        point: where to kill the process; None for nowhere.
        recording: the file for a recording, or None.
        pauses: what to do at each point, or None.
    """

    def __init__(self, point: Point | None, recording: Path | None, pauses: Pauses | None) -> None:
        self._point = point
        self._recording = recording
        self._pauses = pauses
        self._entered: set[tuple[str, str]] = set()
        self._events: list[Event] = []
        self._counts: Counter[tuple[str, int]] = Counter()
        self._files: dict[CodeType, str | None] = {}
        self._lock = threading.Lock()

    def install(self) -> None:
        """Trace from now on."""
        import requests
        import urllib3
        from sqlalchemy.engine.default import DefaultDialect

        commit, send = DefaultDialect.do_commit, requests.Session.request
        send_directly = urllib3.PoolManager.request

        def traced_commit(dialect: Any, connection: Any) -> None:
            self._effect("commit", lambda: commit(dialect, connection))  # type: ignore[no-untyped-call]

        def traced_send(session: Any, method: str, url: str, **more: Any) -> Any:
            name = f"{method} {'token' if urlsplit(url).path.endswith('/token') else 'service'}"
            return self._effect(name, lambda: send(session, method, url, **more))

        def traced_send_directly(pool: Any, method: str, *given: Any, **more: Any) -> Any:
            return self._effect(f"{method} service", lambda: send_directly(pool, method, *given, **more))

        DefaultDialect.do_commit = traced_commit  # type: ignore[method-assign]
        requests.Session.request = traced_send  # type: ignore[method-assign,assignment]
        # the client of Kubernetes sends like this; requests does not
        urllib3.PoolManager.request = traced_send_directly  # type: ignore[method-assign,assignment]
        if self._recording or self._pauses or (self._point is not None and self._point.line):
            threading.settrace(self._enter)
            sys.settrace(self._enter)

    def stop(self) -> None:
        """Stop tracing, and write the recording."""
        sys.settrace(None)
        if self._recording is not None:
            events = [[event.location, event.line, event.function] for event in self._events]
            self._recording.write_text(json.dumps(events))

    def _enter(self, frame: FrameType, kind: str, argument: object) -> Callable[..., Any] | None:
        code = frame.f_code
        try:
            file = self._files[code]
        except KeyError:
            file = self._files[code] = self._traced_file(code)
        return self._step if file is not None else None

    def _traced_file(self, code: CodeType) -> str | None:
        """Return the file of a function whose lines count, relative to the sources; else None."""
        if not code.co_filename.startswith(SOURCES) or code.co_name.startswith("<") or not _is_function(code):
            return None
        file = os.path.relpath(code.co_filename, SOURCES)
        if file in _CONNECTIONS:
            return None
        is_wanted = self._recording or self._pauses or (self._point is not None and file == self._point.location)
        return file if is_wanted else None

    def _step(self, frame: FrameType, kind: str, argument: object) -> Callable[..., Any]:
        if kind == "line":
            file, line, function = self._files[frame.f_code] or "", frame.f_lineno, frame.f_code.co_name
            with self._lock:
                if self._recording is not None:
                    self._events.append(Event(file, line, function))
                self._counts[file, line] += 1
                count = self._counts[file, line]
                is_first = (file, function) not in self._entered
                self._entered.add((file, function))
            self._reach(Point(file, line, function, count), is_first=is_first)
        return self._step

    def _effect(self, name: str, happen: Callable[[], Any]) -> Any:
        with self._lock:
            self._events.append(Event("", 0, name))
            self._counts[name, 0] += 1
            number = self._counts[name, 0]
        self._reach(Point("before", 0, name, number))
        try:
            return happen()
        finally:
            if name in _CHANGES:
                self._entered.clear()
            self._reach(Point("after", 0, name, number))

    def _reach(self, point: Point, *, is_first: bool = True) -> None:
        if self._pauses is not None and is_first:
            self._pauses.pause(point)
        if point == self._point:
            os.kill(os.getpid(), signal.SIGKILL)


def _is_function(code: CodeType) -> bool:
    return bool(code.co_flags & 0x2)  # CO_NEWLOCALS: neither the body of a module nor that of a class


def setup(
    *,
    retry_policy: Mapping[str, float],
    clock_offset: float,
    point: list[Any] | None,
    recording: str | None,
    pauses: list[str] | None,
) -> Callable[[], None]:
    """Prepare this process for a command, and return what is called at its end.

    Args:
        retry_policy: the values of the :class:`~caliban.platforms.retry.RetryPolicy` that differ from the default.
        clock_offset: see :class:`VirtualClock`.
        point: where the process is killed: the fields of a :class:`Point`, or None.
        recording: the file for the recording, or None.
        pauses: the FIFOs of :class:`Pauses`, or None.
    """
    replace_time(VirtualClock(clock_offset), setattr)
    _replace_default_policy(retry_policy)
    _remove_deadlines_of_the_engine()
    tracer = Tracer(
        Point(*point) if point else None, Path(recording) if recording else None, Pauses(*pauses) if pauses else None
    )
    tracer.install()
    return tracer.stop


def setup_time(*, clock_offset: float) -> Callable[[], None]:
    """Prepare this process for a command that does not wait, and whose clock is ahead (:class:`VirtualClock`)."""
    replace_time(VirtualClock(clock_offset), setattr)
    return lambda: None


def replace_time(clock: VirtualClock, set_attribute: Callable[[Any, str, Any], None]) -> None:
    """Let every :class:`~caliban.clock.SystemClock` show the time of a clock."""
    from caliban.clock import SystemClock

    for name in ("now", "utc_now", "monotonic", "wait", "wait_in_background"):
        method = getattr(clock, name)
        set_attribute(SystemClock, name, lambda self, *arguments, _method=method: _method(*arguments))


def _replace_default_policy(values: Mapping[str, float]) -> None:
    from caliban.platforms import retry

    _replace_everywhere("DEFAULT", retry.DEFAULT, replace(retry.DEFAULT, **values))


def _remove_deadlines_of_the_engine() -> None:
    """Wait for the Docker Engine, which is a real one, for as long as it takes: its time is not that of the clock."""
    from caliban import threads

    def at_once(seconds: float, call: Callable[[], Any], *given: Any, **named: Any) -> Any:
        return call()

    def unwatched(produce: Callable[[Callable[[], None]], Iterator[Any]], *_: object) -> Iterator[Any]:
        yield from produce(lambda: None)

    _replace_everywhere("within", threads.within, at_once)
    _replace_everywhere("watched", threads.watched, unwatched)


def _replace_everywhere(name: str, old: object, new: object) -> None:
    """Replace what modules of caliban have under a name."""
    modules = [module for known, module in sys.modules.items() if known.startswith("caliban.")]
    for module in modules:
        if vars(module).get(name) is old:
            vars(module)[name] = new
