"""Traces a command in its process, and kills the process at a given point.

A trace contains the lines of caliban that are executed, and the effects: commits to the store's database, and requests
to the service.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType
from typing import Any
from urllib.parse import urlsplit

import caliban

SOURCES = str(Path(caliban.__file__).parent)


@dataclass(frozen=True)
class Point:
    """Where a process is killed: before or after its ``nth`` effect, or when it reaches a line the ``nth`` time.

    Attributes:
        location: ``before`` or ``after``; or a file of caliban, relative to its directory.
        line: in that file; 0 for an effect.
        function: the function of the line, or the effect, for messages.
        nth: starts at 1.
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
    """An element of a recording: an executed line, or (``line`` 0, ``location`` empty) the start of an effect."""

    location: str
    line: int
    function: str


class Tracer:
    """Records events, and kills its own process at a point with SIGKILL, like the kernel when memory runs out."""

    def __init__(self, point: Point | None, recording: Path | None) -> None:
        self._point = point
        self._recording = recording
        self._events: list[Event] = []
        self._counts: Counter[tuple[str, int]] = Counter()
        self._effects = 0
        self._lock = threading.Lock()

    def install(self) -> None:
        """Start tracing."""
        import requests
        import urllib3
        from sqlalchemy.engine.default import DefaultDialect

        commit, send = DefaultDialect.do_commit, requests.Session.request
        urllib3_request = urllib3.PoolManager.request

        def traced_commit(dialect: Any, connection: Any) -> None:
            self._effect("commit", lambda: commit(dialect, connection))  # type: ignore[no-untyped-call]

        def traced_request(session: Any, method: str, url: str, **more: Any) -> Any:
            name = f"{method} {'token' if urlsplit(url).path.endswith('/token') else 'service'}"
            return self._effect(name, lambda: send(session, method, url, **more))

        def traced_urllib3_request(pool: Any, method: str, *given: Any, **more: Any) -> Any:
            return self._effect(f"{method} service", lambda: urllib3_request(pool, method, *given, **more))

        DefaultDialect.do_commit = traced_commit  # type: ignore[method-assign]
        requests.Session.request = traced_request  # type: ignore[method-assign,assignment]
        # used by the Kubernetes client, not by requests
        urllib3.PoolManager.request = traced_urllib3_request  # type: ignore[method-assign,assignment]
        if self._recording is not None or (self._point is not None and self._point.line):
            threading.settrace(self._trace_call)
            sys.settrace(self._trace_call)

    def save(self) -> None:
        """Write the recording."""
        if self._recording is not None:
            events = [[event.location, event.line, event.function] for event in self._events]
            self._recording.write_text(json.dumps(events))

    def _trace_call(self, frame: FrameType, kind: str, argument: object) -> Callable[..., Any] | None:
        code = frame.f_code
        is_ours = code.co_filename.startswith(SOURCES) and not code.co_name.startswith("<")
        return self._trace_line if is_ours and _is_function(code) else None

    def _trace_line(self, frame: FrameType, kind: str, argument: object) -> Callable[..., Any]:
        if kind == "line":
            location = os.path.relpath(frame.f_code.co_filename, SOURCES)
            with self._lock:
                self._events.append(Event(location, frame.f_lineno, frame.f_code.co_name))
                self._counts[location, frame.f_lineno] += 1
                count = self._counts[location, frame.f_lineno]
            point = self._point
            if point is not None and (point.location, point.line, point.nth) == (location, frame.f_lineno, count):
                _kill()
        return self._trace_line

    def _effect(self, name: str, action: Callable[[], Any]) -> Any:
        with self._lock:
            self._events.append(Event("", 0, name))
            self._effects += 1
            number = self._effects
        self._kill_at("before", number)
        try:
            return action()
        finally:
            self._kill_at("after", number)

    def _kill_at(self, location: str, number: int) -> None:
        point = self._point
        if point is not None and (point.location, point.line, point.nth) == (location, 0, number):
            _kill()


def _is_function(code: CodeType) -> bool:
    return bool(code.co_flags & 0x2)  # CO_NEWLOCALS: neither a module's body nor a class's


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
