"""Progress on standard error: a bar on a terminal, lines elsewhere. The console creates and removes bars."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING

from caliban.clock import Clock
from caliban.escapes import escaped
from caliban.reporter import Reporter

if TYPE_CHECKING:
    from tqdm import tqdm

_LINE_INTERVAL = 2.0
"""Seconds between two progress lines where no bar can be drawn."""


def draw(step: Callable[[], object]) -> None:
    """Draw, create or remove a bar. What cannot be drawn is not worth more than a bar."""
    with contextlib.suppress(Exception):  # tqdm takes all options from $TQDM_... variables too, and checks none
        step()


class Bar:
    """Progress on a terminal."""

    def __init__(
        self,
        bar: tqdm,  # type: ignore[type-arg]  # tqdm is generic only in its stubs
        lock: AbstractContextManager[object],
        may_draw: Callable[[], bool],
    ) -> None:
        self._bar = bar
        self._lock = lock
        self._may_draw = may_draw

    def advance(self, amount: int = 1) -> None:
        """See :class:`caliban.reporter.Progress`."""
        with self._lock:
            if self._may_draw():
                draw(partial(self._bar.update, amount))
            else:
                self._bar.n += amount

    def note(self, text: str) -> None:
        """See :class:`caliban.reporter.Progress`."""
        with self._lock:
            draw(partial(self._bar.set_postfix_str, escaped(text), refresh=self._may_draw()))


class Lines:
    """Progress where no bar can be drawn."""

    def __init__(self, console: Reporter, title: str, total: int | None, unit: str, clock: Clock) -> None:
        self._console, self._title, self._total, self._unit, self._clock = console, title, total, unit, clock
        self._lock = threading.Lock()
        self._done = 0
        self._note = ""
        self._next = clock.monotonic() + _LINE_INTERVAL

    def advance(self, amount: int = 1) -> None:
        """See :class:`caliban.reporter.Progress`."""
        with self._lock:
            self._done += amount
            self._show_when_due()

    def note(self, text: str) -> None:
        """See :class:`caliban.reporter.Progress`."""
        with self._lock:
            self._note = text
            self._show_when_due()

    def _show_when_due(self) -> None:
        now = self._clock.monotonic()
        if now < self._next:
            return
        self._next = now + _LINE_INTERVAL
        note = f" ({self._note})" if self._note else ""
        self._console.info(f"{self._title}: {_amount(self._done, self._total, self._unit)}{note}")


def _amount(done: int, total: int | None, unit: str) -> str:
    """Return ``3.2 of 15.0 MB``, ``1 of 3 jobs`` or ``7 steps``."""
    if unit == "B":
        return f"{done / 1e6:.1f}{'' if total is None else f' of {total / 1e6:.1f}'} MB"
    return f"{done} {unit}s" if total is None else f"{done} of {total} {unit}s"
