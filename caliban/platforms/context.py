"""What a platform gets from the process that uses it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Lock
from typing import TYPE_CHECKING

from caliban.clock import Clock, SystemClock
from caliban.reporter import Reporter

if TYPE_CHECKING:
    from caliban.images.docker.engine import Engine


@dataclass(frozen=True)
class PlatformContext:
    """The process, as far as a platform needs it.

    Attributes:
        environ: the environment variables.
        home: the user's home directory.
        reporter: where to report progress and warnings.
        engine: connects to the Docker Engine, once; raises :class:`~caliban.errors.ImageError`.
        options: the values of the command's flags by name, those that platforms added to it among them
            (:mod:`caliban.platforms.flags`); a platform reads its own.
        clock: the time, and waiting.
        stopping: set once the user wants to stop; whoever waits for something that may take minutes stops waiting.
    """

    environ: Mapping[str, str] = field(repr=False)
    home: Path
    reporter: Reporter
    engine: Callable[[], Engine]
    options: Mapping[str, object] = field(default_factory=dict)
    clock: Clock = field(default_factory=SystemClock, repr=False)
    stopping: Event = field(default_factory=Event)
    _announced: set[str] = field(default_factory=set, repr=False)
    _lock: Lock = field(default_factory=Lock, repr=False, compare=False)

    def announce(self, line: str) -> None:
        """Report a line once, however many jobs and threads want to."""
        if self._is_new(line):
            self.reporter.info(line)

    def warn(self, line: str) -> None:
        """Report a warning once, likewise."""
        if self._is_new(line):
            self.reporter.warn(line)

    def _is_new(self, line: str) -> bool:
        with self._lock:
            is_new = line not in self._announced
            self._announced.add(line)
        return is_new
