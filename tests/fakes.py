"""Fakes of what is outside the process: a terminal, a clock, a reporter, a Docker Engine.

They are strict: a call that the test did not expect fails the test.
"""

from __future__ import annotations

import io
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone

from caliban.errors import CalibanError
from caliban.images.context import collect
from caliban.images.context_stream import Observer
from caliban.images.docker.identity import EngineIdentity
from caliban.images.dockerfile import BuildUser
from caliban.images.spec import BuildSpec
from caliban.input_files import is_dir
from caliban.records import (
    ImageRef,
)
from caliban.reporter import Progress, Reporter


class FakeStream(io.TextIOWrapper):
    """A standard stream in memory, with bytes below the text as real ones have."""

    def __init__(self, content: bytes = b"", *, is_terminal: bool = False) -> None:
        super().__init__(io.BytesIO(content), encoding="utf-8", newline="")
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal

    @property
    def written(self) -> bytes:
        self.flush()
        memory = self.buffer
        assert isinstance(memory, io.BytesIO)
        return memory.getvalue()

    @property
    def text(self) -> str:
        return self.written.decode()


class FakeClock:
    """A clock that advances when a test sets it, and at once when somebody waits."""

    def __init__(self, start: datetime = datetime(2020, 5, 29, 10, 53, 30)) -> None:
        self._start = start
        self.seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self.seconds)

    def utc_now(self) -> datetime:
        return self.now().astimezone(timezone.utc)

    def wait_in_background(self, event: threading.Event, seconds: float) -> bool:
        return event.wait()

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Advance, unless the event is set."""
        if not event.is_set():
            self.seconds += seconds
        return event.is_set()


class RecordingReporter:
    """A reporter that keeps what is reported, in order."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.warnings: list[str] = []
        self.notes: list[str] = []
        self.advanced = 0

    def info(self, *lines: str) -> None:
        self.lines.extend(lines)

    def warn(self, line: str) -> None:
        self.warnings.append(line)

    def job_output(self, data: bytes, *, is_stderr: bool) -> None:
        raise AssertionError("jobs of the fake platform write nothing")

    @contextmanager
    def progress(self, title: str, *, total: int | None, unit: str) -> Iterator[Progress]:
        yield self

    def advance(self, amount: int = 1) -> None:
        self.advanced += amount

    def note(self, text: str) -> None:
        self.notes.append(text)


class FakeEngine:
    """A Docker Engine that builds what the test expects."""

    def __init__(self) -> None:
        self.built: list[BuildSpec] = []
        self.no_cache: list[bool] = []
        self.images: set[ImageRef] = set()
        self._images: deque[ImageRef | CalibanError] = deque()

    def expect(self, *images: ImageRef | CalibanError) -> None:
        self._images.extend(images)

    def build(
        self,
        spec: BuildSpec,
        user: BuildUser,
        reporter: Reporter,
        *,
        no_cache: bool = False,
        observer: Observer | None = None,
    ) -> ImageRef:
        assert user.uid >= 0
        self.built.append(spec)
        self.no_cache.append(no_cache)
        assert self._images, f"unexpected build: {spec}"
        image = self._images.popleft()
        if isinstance(image, CalibanError):
            raise image
        if is_dir(spec.build_path):
            for _ in collect(spec, "", {}).stream(lambda _: None, observer):  # as an engine reads it
                pass
        return image

    def image_exists(self, ref: ImageRef) -> bool:
        return ref in self.images

    def identity(self) -> EngineIdentity:
        return EngineIdentity("a1b2-engine", "catbus")

    def verify(self) -> None:
        assert not self._images, f"builds that were expected and not made: {list(self._images)}"
