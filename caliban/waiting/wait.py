"""Look at jobs until they have ended, or the time is over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from threading import Event

from caliban.cli.context import Context
from caliban.errors import CalibanError, ExitCode
from caliban.submission.pipeline import ReadyJob
from caliban.waiting.dispatching import Dispatcher
from caliban.waiting.looks import Look, Looker, is_passing
from caliban.waiting.reporters import Outages, WaitReporter
from caliban.waiting.timing import Elapsed, Pauses
from caliban.waiting.view import View


@dataclass(frozen=True)
class Waited:
    """How the waiting ended.

    Attributes:
        look: the last one.
        seconds: how long it took.
        timed_out: whether the time was over before all had ended.
    """

    look: Look
    seconds: float
    timed_out: bool = False

    @property
    def exit_code(self) -> ExitCode:
        """See :class:`~caliban.errors.ExitCode`."""
        if self.timed_out:
            return ExitCode.TIMED_OUT
        return ExitCode.DONE if self.look.have_succeeded else ExitCode.NOT_DONE


class Waiter:
    """Waits for the experiments of a looker.

    Attributes:
        last: the last look; None before the first.
    """

    def __init__(
        self,
        looker: Looker,
        context: Context,
        reporter: WaitReporter,
        timeout: float | None = None,
        dispatcher: Dispatcher | None = None,
    ) -> None:
        """Begin to count the time.

        Args:
            looker: looks at them.
            context: the process.
            reporter: of platforms and the looker: it is quiet from the second look on.
            timeout: the longest time in seconds; None for as long as it takes.
            dispatcher: submits jobs meanwhile; None where none is.
        """
        self._looker, self._context, self._reporter = looker, context, reporter
        self._timeout, self._dispatcher = timeout, dispatcher
        self._view = View(context)
        self._outages = Outages(context.console, context.clock)
        self._elapsed = Elapsed(context.clock)
        self._was_refused = False
        self.last: Look | None = None

    def wait(self) -> Waited:
        """Wait until all have ended, or the time is over; there is a last look then.

        Raises:
            CalibanError: the first look failed, or a later one for a reason that does not pass: the group was deleted.
            KeyboardInterrupt: after Ctrl-C; jobs that run elsewhere run on.
        """
        pauses, never = Pauses(), Event()
        try:
            while True:
                is_late = self._remaining() <= 0
                look = self._look()
                if look is not None:
                    if self._view.show(look, self._elapsed.seconds):
                        pauses.changed()
                    due = self._dispatcher.due(look) if self._dispatcher and not is_late else ()
                    if due and self._dispatch(due):
                        continue
                    if not due and (self._is_done or self._is_over(look, pauses)):
                        return Waited(look, self._elapsed.seconds, timed_out=is_late and self._has_more)
                if is_late and self.last is not None:
                    return Waited(self.last, self._elapsed.seconds, timed_out=True)
                self._context.clock.wait(never, max(0.0, min(pauses.next(), self._remaining())))
        finally:
            self._reporter.is_quiet = False
            self._view.close()

    @property
    def seconds(self) -> float:
        """How long has been waited."""
        return self._elapsed.seconds

    @property
    def _has_more(self) -> bool:
        return self._dispatcher is not None and bool(self._dispatcher.pending)

    @property
    def _is_done(self) -> bool:
        return self._dispatcher is not None and self._dispatcher.is_done

    def _remaining(self) -> float:
        return float("inf") if self._timeout is None else self._timeout - self._elapsed.seconds

    def _look(self) -> Look | None:
        """Look; return None if that failed and may succeed later."""
        try:
            look = self._looker.look()
        except CalibanError as error:
            if self.last is None or not is_passing(error):
                raise
            self._outages.store_failed(error)
            return None
        finally:
            self._reporter.is_quiet = True
        self._outages.looked(look)
        self.last = look
        return look

    def _dispatch(self, jobs: Sequence[ReadyJob]) -> bool:
        assert self._dispatcher is not None
        self._view.close()  # jobs that run here write to the terminal
        self._reporter.is_quiet = False
        try:
            return self._dispatcher.submit(jobs)
        finally:
            self._reporter.is_quiet = True

    def _is_over(self, look: Look, pauses: Pauses) -> bool:
        """Return whether nothing more is to be expected. A platform that refuses an answer is asked twice."""
        was_refused, self._was_refused = self._was_refused, bool(look.unreachable and not look.unfinished)
        if self._was_refused and not was_refused:
            pauses.changed()
            return False
        return not look.unfinished
