"""Connections to PostgreSQL on which every wait is reported, ends, and is interrupted by Ctrl-C at once.

A statement may wait for a lock that a forgotten session holds, or for a server that has stopped or whose network is
gone. psycopg waits for both without an end. Which of the two it is, another connection finds out: it asks the server
which sessions block this one.
"""

from __future__ import annotations

import selectors
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen

from caliban.bounded import DeadlineExceededError
from caliban.clock import Clock, SystemClock
from caliban.redaction import clean_text
from caliban.store import engines
from caliban.threads import within

_T = TypeVar("_T")

CONNECT_SECONDS = 60.0
"""How long connecting may take in all: a name may have several addresses, and each has ``connect_timeout``."""

PROBE_PERIOD = 30.0
"""Seconds after which it is asked again what a statement waits for."""

_CANCEL_SECONDS = 1.0
_PROBE_SECONDS = 3.0
"""How long a server that answers has to say what is waited for, before it is called slow."""
_PROBE_CONNECT_SECONDS = 5
_BLOCKERS = """
    SELECT blocking.pid, usename, application_name, client_addr::text, state,
           extract(epoch FROM clock_timestamp() - xact_start)::float
    FROM unnest(pg_blocking_pids(%s)) AS blocking (pid) LEFT JOIN pg_stat_activity USING (pid)
"""


@dataclass(frozen=True)
class Waits:
    """What the waits of a store's connections have in common.

    Attributes:
        location: of the store, for messages.
        on_lock: called when a lock of another session is waited for.
        on_slow: called with a line when the server does not answer.
        clock: the time, and waiting.
    """

    location: str
    on_lock: Callable[[], None]
    on_slow: Callable[[str], None]
    clock: Clock = field(default_factory=SystemClock)


def connect(waits: Waits, arguments: Sequence[Any], options: Mapping[str, Any]) -> WatchedConnection:
    """Connect to the server.

    Args:
        waits: of the store.
        arguments: of ``psycopg.connect``.
        options: the same.

    Raises:
        psycopg.Error: it cannot be reached, or refuses.
    """
    slow = f"waiting for the PostgreSQL server of the experiment store {waits.location}"
    try:
        connection = within(
            CONNECT_SECONDS,
            lambda: WatchedConnection.connect(*arguments, **options),
            waits.clock,
            lambda: waits.on_slow(f"{slow} (for up to {CONNECT_SECONDS:.0f} s) ..."),
        )
    except DeadlineExceededError as error:
        raise psycopg.OperationalError(f"connection failed: {error}") from None
    connection.waits = waits
    connection.other = _OtherConnection(connection.info.backend_pid, arguments, options)
    return connection


class WatchedConnection(psycopg.Connection[Any]):
    """A connection whose waits are watched.

    Attributes:
        waits: set once it is connected.
        other: does what another connection has to do for this one.
    """

    waits: Waits | None = None
    other: _OtherConnection

    def wait(self, gen: PQGen[_T], *args: Any, **kwargs: Any) -> _T:  # noqa: ANN401 - as psycopg has them
        """Do what psycopg's does, for as long as :class:`_Wait` allows."""
        if self.waits is None:
            return super().wait(gen, *args, **kwargs)
        wait = _Wait(self.waits, self.other)
        try:
            wanted = next(gen)
            with selectors.DefaultSelector() as selector:
                while True:
                    selector.register(self.pgconn.socket, wanted)
                    ready = wait.until_ready(selector)
                    selector.unregister(self.pgconn.socket)
                    wanted = gen.send(ready)  # the same numbers as psycopg's
        except StopIteration as end:
            result: _T = end.value
            return result
        except (_GivenUpError, KeyboardInterrupt) as error:
            self._abandon()
            raise (error.error if isinstance(error, _GivenUpError) else error) from None

    def _abandon(self) -> None:
        """Let the server stop what nobody waits for any more, as far as it answers, and disconnect."""
        # not by psycopg's cancel(), which connects without a deadline, and lets no other thread run meanwhile
        with suppress(psycopg.Error, DeadlineExceededError):
            within(_CANCEL_SECONDS, self.other.cancel, SystemClock())
        self.close()


class _GivenUpError(Exception):
    """The wait has ended."""

    def __init__(self, error: psycopg.Error) -> None:
        super().__init__(str(error))
        self.error = error


class _Wait:
    """One wait for the server.

    Args:
        waits: of the store.
        other: knows the sessions whose locks the connection waits for.
    """

    def __init__(self, waits: Waits, other: _OtherConnection) -> None:
        self._waits = waits
        self._other = other
        self._started = waits.clock.monotonic()
        self._next_probe = engines._REPORT_AFTER
        self._probe_is_late_at = 0.0
        self._probing: threading.Event | None = None
        self._blockers: list[str] = []
        self._is_reported = False

    def until_ready(self, selector: selectors.BaseSelector) -> int:
        """Wait for the connection, and return what it is ready for.

        Raises:
            _GivenUpError: it took too long, however much has arrived.
        """
        while True:
            waited = self._waits.clock.monotonic() - self._started
            if waited >= engines.BUSY_TIMEOUT:
                raise _GivenUpError(self._error())
            if ready := selector.select(min(engines._SLICE, engines.BUSY_TIMEOUT - waited)):
                return ready[0][1]
            self._look(waited)

    def _look(self, waited: float) -> None:
        """Find out on another thread what is waited for, and say it."""
        if self._probing is None:
            if waited >= self._next_probe:
                self._next_probe = waited + PROBE_PERIOD
                self._probe_is_late_at = waited + _PROBE_SECONDS
                self._probing = threading.Event()
                threading.Thread(target=self._ask, args=(self._probing,), name="probe", daemon=True).start()
        elif self._probing.is_set():
            self._probing = None
            if self._blockers:
                self._waits.on_lock()
            elif not self._is_reported:
                self._report()
        elif waited >= self._probe_is_late_at and not self._is_reported:  # nobody answers the probe either
            self._report()

    def _report(self) -> None:
        self._is_reported = True
        self._waits.on_slow(
            f"waiting for an answer of the PostgreSQL server of the experiment store {self._waits.location} (for up to "
            f"{engines.BUSY_TIMEOUT / 60:.0f} minutes) ..."
        )

    def _ask(self, done: threading.Event) -> None:
        try:
            self._blockers = self._other.blockers()
        except psycopg.Error:
            self._blockers = []
        finally:
            done.set()

    def _error(self) -> psycopg.Error:
        seconds = f"{engines.BUSY_TIMEOUT:.0f} s"
        if self._blockers:
            return psycopg.errors.LockNotAvailable(f"no lock within {seconds}; held by {', '.join(self._blockers)}")
        return psycopg.OperationalError(f"connection closed: the server has not answered within {seconds}")


class _OtherConnection:
    """Asks the server about a session that waits.

    Args:
        pid: the session.
        arguments: of ``psycopg.connect``, for connections of the same user.
        options: the same.
    """

    def __init__(self, pid: int, arguments: Sequence[Any], options: Mapping[str, Any]) -> None:
        self._pid = pid
        self._arguments = arguments
        self._options = {**options, "connect_timeout": _PROBE_CONNECT_SECONDS, "autocommit": True}

    def blockers(self) -> list[str]:
        """Return the sessions that hold the locks that the session waits for, in words.

        Source: https://www.postgresql.org/docs/current/functions-info.html (pg_blocking_pids)
        """
        with psycopg.connect(*self._arguments, **self._options) as connection:
            return [_in_words(*row) for row in connection.execute(_BLOCKERS, [self._pid])]

    def cancel(self) -> None:
        """Cancel what the session does."""
        with psycopg.connect(*self._arguments, **self._options) as connection:
            connection.execute("SELECT pg_cancel_backend(%s)", [self._pid])


def _in_words(
    pid: int, user: str | None, application: str | None, client: str | None, state: str | None, seconds: float | None
) -> str:
    """Return ``session 4711 (user mei, psql, from 10.0.0.3, idle in transaction, began 734 s ago)``."""
    known = (
        f"user {user}" if user else "",
        application or "",
        f"from {client}" if client else "",
        state or "",
        f"began {seconds:.0f} s ago" if seconds is not None else "",
    )
    if not pid:
        return "a prepared transaction (see pg_prepared_xacts)"
    details = clean_text(", ".join(filter(None, known)), limit=200)
    return f"session {pid} ({details})" if details else f"session {pid}"
