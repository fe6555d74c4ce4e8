"""Having a job taken on exactly once by a service that may lose requests, and answers."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event
from typing import TypeVar

from caliban.errors import CalibanError
from caliban.platforms.base import NotSentError, RefusedError
from caliban.platforms.patience import Pauses, ServiceError

_Job = TypeVar("_Job")


def deliver(
    send: Callable[[], _Job],
    look_up: Callable[[], _Job | None],
    *,
    name: str,
    pauses: Pauses,
    stopping: Event,
    refused: Callable[[CalibanError], RefusedError],
) -> _Job:
    """Send a job until the service has it, or says no, or patience is at an end.

    After an answer that leaves doubt the job is looked up before it is sent again, and ever after.

    Args:
        send: asks for the job, once.
        look_up: what the service has in the job's place: a job of its name, whoever's it is, or one with its token.
        name: of the job, for messages.
        pauses: between attempts.
        stopping: ends the attempts.
        refused: makes the error for a job that for certain does not run.

    Returns:
        What ``send`` or ``look_up`` gave.

    Raises:
        RefusedError: the service has no such job.
        NotSentError: it has none, and ``stopping`` was set.
        CalibanError: anything else; whether it has one is not known.
    """
    is_in_doubt = False
    while True:
        try:
            return send()
        except CalibanError as error:
            failure = error
        if isinstance(failure, ServiceError):
            is_in_doubt = is_in_doubt or failure.leaves_doubt
        if is_in_doubt:
            there = look_up()
            if there is not None:
                return there
        try:
            pauses.wait(failure)
        except CalibanError as last:
            if is_in_doubt:
                raise
            if stopping.is_set():
                raise NotSentError("not-sent", f"the job {name} was not submitted", cause=last.cause) from last
            raise refused(last) from last
