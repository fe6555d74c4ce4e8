"""What to do while a Docker daemon that builds, pulls or pushes an image sends nothing.

Such a step may take hours, and only the daemon knows whether it goes on. So it is asked on another connection whether
it still answers anything: one that does is waited for, with a line now and then, and one that does not is given up.
"""

from __future__ import annotations

from collections.abc import Callable

from caliban.bounded import DeadlineExceededError
from caliban.errors import ImageError
from caliban.images.docker.engine import Engine, unreachable
from caliban.threads import within

INTERVAL = 60.0
"""Seconds without a sign of progress after which the daemon is asked, and a line is shown."""

PING_SECONDS = 30.0
"""How long the daemon has to answer; it does nothing for that."""

UNANSWERED_SECONDS = 300.0
"""How long a daemon that answers nothing at all is waited for: it may be restarted, or its machine be overloaded."""

TRANSFER_SECONDS = 3600.0
"""How long a transfer may stand still, which is reported while it moves: a registry may store a large layer."""

STEP_SECONDS = 7200.0
"""How long a step of a build may say nothing: a compiler, a solver, or the copy of a large directory."""

_REPEAT = 4
"""Each line comes after a silence this many times as long as the one before: 1, 4, 16 and 64 minutes."""


class DaemonWatch:
    """Watches over the silence of a daemon; implements :class:`caliban.threads.Watch`.

    Args:
        engine: whose daemon it is; its ``on_slow`` gets the lines.
        doing: returns what the daemon does, and how long that may take in silence, in seconds.
    """

    def __init__(self, engine: Engine, doing: Callable[[], tuple[str, float]]) -> None:
        self._engine = engine
        self._doing = doing
        self._next_word = 0.0
        self._next_warning = 0.0
        self._unanswered_since: float | None = None

    def on_progress(self) -> None:
        """See :meth:`caliban.threads.Watch.on_progress`."""
        self._next_word = self._next_warning = 0.0
        self._unanswered_since = None

    def on_silence(self, seconds: float) -> ImageError | None:
        """See :meth:`caliban.threads.Watch.on_silence`."""
        what, limit = self._doing()
        if seconds >= limit:
            return self._stalled(what, seconds)
        if self._answers():
            self._unanswered_since = None
            if seconds >= self._next_word:
                self._next_word = seconds * _REPEAT
                self._say(seconds, what, f"it answers other requests; waiting for up to {_duration(limit - seconds)}")
            return None
        if self._unanswered_since is None:
            self._unanswered_since = seconds
        left = self._unanswered_since + UNANSWERED_SECONDS - seconds
        if left <= 0:
            return self._unreachable()
        if seconds >= self._next_warning:
            self._next_warning = seconds * _REPEAT
            self._say(seconds, what, f"it answers no other request either; waiting for up to {_duration(left)}")
        return None

    def _answers(self) -> bool:
        engine = self._engine
        try:
            with engine.translate_errors():
                within(PING_SECONDS, engine.client.api.ping, engine.clock)
        except ImageError as error:
            return error.id != "docker-unreachable"
        except OSError:
            return False
        return True

    def _say(self, seconds: float, what: str, rest: str) -> None:
        self._engine.on_slow(
            f"the Docker daemon at {self._engine.host} has reported nothing for {_duration(seconds)} while {what}; "
            f"{rest} (Ctrl-C stops) ..."
        )

    def _unreachable(self) -> ImageError:
        silent = DeadlineExceededError(f"it has answered nothing, no ping either, for {_duration(UNANSWERED_SECONDS)}")
        return unreachable(silent, self._engine.host)

    def _stalled(self, what: str, seconds: float) -> ImageError:
        return ImageError(
            "docker-stalled",
            f"the Docker daemon at {self._engine.host} has reported nothing for {_duration(seconds)} while {what}",
            cause="it answers other requests",
            hint="check what it does with: docker ps, docker stats, journalctl -u docker; the next attempt continues "
            "after the last finished step or layer",
        )


def _duration(seconds: float) -> str:
    """Return ``60 s``, ``5 min`` or ``2 h``."""
    if seconds < 2 * 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 2 * 3600 else f"{seconds / 3600:.0f} h"
