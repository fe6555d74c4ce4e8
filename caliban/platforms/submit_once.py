"""Having a job taken on exactly once by a service that may lose requests, and answers."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from threading import Event
from typing import TypeVar

from caliban.errors import CalibanError
from caliban.platforms.base import NotSentError, RefusedError
from caliban.platforms.retry import Backoff, ServiceError

_Job = TypeVar("_Job")

_FIRST_LOOK_S = 0.5
"""The first pause between two looks; each further one is twice as long."""


def submit_once(
    send: Callable[[], _Job],
    look_up: Callable[[], _Job | None],
    *,
    name: str,
    backoff: Backoff,
    stopping: Event,
    refused: Callable[[CalibanError], RefusedError],
    consistency_delay: float = 0,
) -> _Job:
    """Send a job until the service has it, or says no, or retry_policy is at an end.

    After an answer that leaves doubt the job is looked up before it is sent again, and ever after. Where ``look_up``
    sees new jobs late, its None is believed only once ``consistency_delay`` have passed since that answer; and when
    the job was
    sent again with success it is asked once more, for an earlier request may have been heard later still.

    Args:
        send: asks for the job, once.
        look_up: what the service has in the job's place: a job of its name, whoever's it is, or one with its token.
        name: of the job, for messages.
        backoff: between attempts.
        stopping: ends the attempts.
        refused: makes the error for a job that for certain does not run.
        consistency_delay: how long the service may take to show a job to ``look_up``, in seconds.

    Returns:
        What ``send`` or ``look_up`` gave.

    Raises:
        RefusedError: the service has no such job.
        NotSentError: it has none, and ``stopping`` was set.
        CalibanError: anything else; whether it has one is not known.
    """
    doubted: float | None = None
    while True:
        try:
            sent = send()
        except CalibanError as error:
            failure = error
        else:
            return sent if doubted is None or not consistency_delay else _first(look_up) or sent
        if isinstance(failure, ServiceError) and failure.outcome_unknown:
            doubted = time.monotonic()
        if doubted is not None:
            there = poll_until(look_up, doubted + consistency_delay, stopping)
            if there is not None:
                return there
        try:
            backoff.wait(failure)
        except CalibanError as last:
            if doubted is not None:
                raise
            if stopping.is_set():
                raise NotSentError("not-sent", f"the job {name} was not submitted", cause=last.cause) from last
            raise refused(last) from last


def poll_until(look_up: Callable[[], _Job | None], deadline: float, stopping: Event) -> _Job | None:
    """Look for a job at once, and with growing backoff until it is there or the deadline has passed; then once more.

    Args:
        look_up: what the service has, or None.
        deadline: by :func:`time.monotonic`.
        stopping: ends the backoff; None then says nothing.
    """
    pause = _FIRST_LOOK_S
    while True:
        left = deadline - time.monotonic()
        there = look_up()
        if there is not None or left <= 0 or stopping.wait(min(pause, left)):
            return there
        pause *= 2


def _first(look_up: Callable[[], _Job | None]) -> _Job | None:
    with suppress(CalibanError):  # a job was taken on in any case
        return look_up()
    return None
