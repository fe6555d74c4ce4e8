"""Progress of what usually takes a moment only: nothing is shown before it has taken two seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from caliban.clock import Clock
from caliban.reporter import Progress, Reporter

QUICK = 2.0
"""Seconds without progress that nobody minds."""


@contextmanager
def slow_progress(reporter: Reporter, title: str, unit: str, clock: Clock) -> Iterator[Callable[[], None]]:
    """Count units, and show them once that takes long.

    Args:
        reporter: shows them.
        title: the operation; see :meth:`caliban.reporter.Reporter.progress`.
        unit: the same.
        clock: the time.

    Yields:
        A function that counts one unit.
    """
    ends_at = clock.monotonic() + QUICK
    count = 0
    shown: Progress | None = None
    with ExitStack() as stack:

        def advance() -> None:
            nonlocal count, shown
            count += 1
            if shown is not None:
                shown.advance()
            elif clock.monotonic() >= ends_at:
                shown = stack.enter_context(reporter.progress(title, total=None, unit=unit))
                shown.advance(count)

        yield advance
