"""Submit a job exactly once to a service that may lose requests and answers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from threading import Event
from typing import TypeVar

from caliban.clock import Clock
from caliban.errors import CalibanError
from caliban.platforms.base import MaySend, NotSentError, RefusedError
from caliban.platforms.context import PlatformContext
from caliban.platforms.retry import Backoff, ServiceError

_Job = TypeVar("_Job")

_FIRST_DELAY = 0.5
"""Seconds between the first two lookups; each further delay is twice as long."""


def submit_once(
    send: Callable[[], _Job],
    look_up: Callable[[], _Job | None],
    *,
    may_send: MaySend,
    name: str,
    backoff: Backoff,
    context: PlatformContext,
    refused: Callable[[CalibanError], RefusedError],
    consistency_delay: float = 0,
) -> _Job:
    """Send a job until the service has it, refuses it, or the deadline passes.

    After an answer that leaves the outcome unknown the job is looked up before it is sent again, and from then on; and
    where the service says to the last that it is too busy, before the job is given up.
    Where ``look_up`` sees new jobs late, its None counts only once ``consistency_delay`` has passed since that answer;
    and when the job was sent again with success it is looked up once more, as an earlier request may have been
    processed later still.

    Args:
        send: requests the job, once.
        look_up: returns what the service has instead: a job of its name, whoever's it is, or one with its token.
        may_send: called immediately before each ``send``; see :data:`~caliban.platforms.base.MaySend`.
        name: of the job, for messages.
        backoff: between attempts.
        context: its clock, and what ends the attempts.
        refused: makes the error for a job that certainly does not run.
        consistency_delay: how long the service may take to show a job to ``look_up``, in seconds.

    Returns:
        What ``send`` or ``look_up`` returned.

    Raises:
        RefusedError: the service has no such job.
        NotSentError: it has none, and ``PlatformContext.stopping`` was set, or ``may_send`` raised it.
        CalibanError: anything else; whether it has one is unknown.
    """
    clock, stopping = context.clock, context.stopping
    unknown_since: float | None = None
    failure: CalibanError | None = None
    while True:
        _check_permission(may_send, None if unknown_since is None else failure)
        try:
            sent = send()
        except CalibanError as error:
            failure = error
        else:
            return sent if unknown_since is None or not consistency_delay else _earlier(look_up) or sent
        if isinstance(failure, ServiceError) and failure.outcome_unknown:
            unknown_since = clock.monotonic()
        if unknown_since is not None:
            found = poll_until(look_up, unknown_since + consistency_delay, clock, stopping)
            if found is not None:
                return found
        try:
            backoff.wait(failure)
        except CalibanError as last:
            if unknown_since is not None:
                raise
            if stopping.is_set():
                raise NotSentError("not-sent", f"the job {name} was not submitted", cause=last.cause) from last
            return _give_up(last, look_up, refused)


def _check_permission(may_send: MaySend, unknown: CalibanError | None) -> None:
    """Call ``may_send``; where it forbids a further request, raise ``unknown``, if an earlier one may still arrive."""
    try:
        may_send()
    except NotSentError as forbidden:
        if unknown is None:
            raise
        raise unknown from forbidden


def poll_until(look_up: Callable[[], _Job | None], deadline: float, clock: Clock, stopping: Event) -> _Job | None:
    """Look a job up at once, then with growing delays until it is there or the deadline has passed; then once more.

    Args:
        look_up: what the service has, or None.
        deadline: by :meth:`Clock.monotonic`.
        clock: the time, and waiting.
        stopping: ends the delays; None then means nothing.
    """
    delay = _FIRST_DELAY
    while True:
        left = deadline - clock.monotonic()
        found = look_up()
        if found is not None or left <= 0 or clock.wait(stopping, min(delay, left)):
            return found
        delay *= 2


def _give_up(
    last: CalibanError, look_up: Callable[[], _Job | None], refused: Callable[[CalibanError], RefusedError]
) -> _Job:
    """Raise the error for a job that certainly does not run.

    Returns:
        After 429, the job if it is there: a gateway may have throttled only the answer.
    """
    if isinstance(last, ServiceError) and last.is_over_quota and (found := look_up()) is not None:
        return found
    raise refused(last) from last


def _earlier(look_up: Callable[[], _Job | None]) -> _Job | None:
    with suppress(CalibanError):  # a job was accepted in any case
        return look_up()
    return None
