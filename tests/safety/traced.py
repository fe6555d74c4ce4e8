"""The command ``caliban`` in a process that notes where it is, or is killed where it was told to be.

What it does to the world outside are its effects: commits to the store's database, and requests to the service. The
lines of caliban that it passes lie between them.
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
    """Where a process is killed: just before or after its ``nth`` effect, or when it reaches a line the ``nth`` time.

    Attributes:
        place: ``before`` or ``after``; or a file of caliban, relative to its folder.
        line: of that file; 0 for an effect.
        function: the line's, or the effect's name: for people.
        nth: from 1.
    """

    place: str
    line: int
    function: str
    nth: int

    def __str__(self) -> str:
        where = f"{self.place}:{self.line}" if self.line else self.place
        return f"{where} {self.function} (number {self.nth})"


@dataclass(frozen=True)
class Event:
    """What a recording consists of: a line passed, or (``line`` 0, ``place`` empty) an effect begun."""

    place: str
    line: int
    function: str


class Watch:
    """Notes events, and kills its own process at a point: with SIGKILL, as the system does when memory is short."""

    def __init__(self, point: Point | None, recording: Path | None) -> None:
        self._point = point
        self._recording = recording
        self._events: list[Event] = []
        self._counts: Counter[tuple[str, int]] = Counter()
        self._effects = 0
        self._lock = threading.Lock()

    def install(self) -> None:
        """From now on."""
        import requests
        import urllib3
        from sqlalchemy.engine.default import DefaultDialect

        commit, send = DefaultDialect.do_commit, requests.Session.request
        send_directly = urllib3.PoolManager.request

        def watched_commit(dialect: Any, connection: Any) -> None:
            self._effect("commit", lambda: commit(dialect, connection))  # type: ignore[no-untyped-call]

        def watched_send(session: Any, method: str, url: str, **more: Any) -> Any:
            name = f"{method} {'token' if urlsplit(url).path.endswith('/token') else 'service'}"
            return self._effect(name, lambda: send(session, method, url, **more))

        def watched_send_directly(pool: Any, method: str, *given: Any, **more: Any) -> Any:
            return self._effect(f"{method} service", lambda: send_directly(pool, method, *given, **more))

        DefaultDialect.do_commit = watched_commit  # type: ignore[method-assign]
        requests.Session.request = watched_send  # type: ignore[method-assign,assignment]
        # This is how Kubernetes' client sends; requests does not use it.
        urllib3.PoolManager.request = watched_send_directly  # type: ignore[method-assign,assignment]
        if self._recording is not None or (self._point is not None and self._point.line):
            threading.settrace(self._enter)
            sys.settrace(self._enter)

    def save(self) -> None:
        """Write what was recorded."""
        if self._recording is not None:
            events = [[event.place, event.line, event.function] for event in self._events]
            self._recording.write_text(json.dumps(events))

    def _enter(self, frame: FrameType, kind: str, argument: object) -> Callable[..., Any] | None:
        code = frame.f_code
        is_ours = code.co_filename.startswith(SOURCES) and not code.co_name.startswith("<")
        return self._pass if is_ours and _is_function(code) else None

    def _pass(self, frame: FrameType, kind: str, argument: object) -> Callable[..., Any]:
        if kind == "line":
            place = os.path.relpath(frame.f_code.co_filename, SOURCES)
            with self._lock:
                self._events.append(Event(place, frame.f_lineno, frame.f_code.co_name))
                self._counts[place, frame.f_lineno] += 1
                count = self._counts[place, frame.f_lineno]
            point = self._point
            if point is not None and (point.place, point.line, point.nth) == (place, frame.f_lineno, count):
                _die()
        return self._pass

    def _effect(self, name: str, happen: Callable[[], Any]) -> Any:
        with self._lock:
            self._events.append(Event("", 0, name))
            self._effects += 1
            number = self._effects
        self._die_if("before", number)
        try:
            return happen()
        finally:
            self._die_if("after", number)

    def _die_if(self, place: str, number: int) -> None:
        point = self._point
        if point is not None and (point.place, point.line, point.nth) == (place, 0, number):
            _die()


def _is_function(code: CodeType) -> bool:
    return bool(code.co_flags & 0x2)  # CO_NEWLOCALS: neither a module's body nor a class's


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
