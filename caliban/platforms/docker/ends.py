"""Why a container ended, from its state and exit code."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from caliban.platforms.docker.state import ContainerState
from caliban.platforms.stored_json import parse_time
from caliban.records import FailureCause

OUT_OF_MEMORY = "out of memory"

OF_DOCKER_RUN: Mapping[int | None, FailureCause] = {
    125: FailureCause.REFUSED,
    126: FailureCause.IMAGE,
    127: FailureCause.IMAGE,
}
"""What exit codes of ``docker run`` mean (docs.docker.com/engine/containers/run/#exit-status), as caliban 0.4.2 records
them. Those of a container are its program's: a shell ends with 127 too where it does not find a command."""

_OF_PROGRAMS: Mapping[int, tuple[FailureCause, str]] = {
    124: (FailureCause.TIMEOUT, "ended by the timeout command"),
    126: (FailureCause.CODE_ERROR, "a command cannot be executed"),
    127: (FailureCause.CODE_ERROR, "a command was not found"),
    130: (FailureCause.STOPPED, "interrupted by something other than caliban (SIGINT)"),
    137: (
        FailureCause.STOPPED,
        "killed by something other than caliban: docker kill, or a lack of memory",
    ),
    143: (FailureCause.STOPPED, "ended by something other than caliban: docker stop, or a shutdown of the engine"),
    255: (FailureCause.UNKNOWN, "exited with -1, or the Docker Engine or its machine was restarted"),
}
"""Causes of exit codes of programs, by convention; a job that caliban itself stopped is STOPPED in any case.

An engine that finds after its start that a container ended without it reports 255 (moby, daemon/daemon.go, restore).
"""

_INTERRUPTED = "the Docker Engine or its machine was restarted while the job ran: how it ended is not known"

_IMAGE_FAILURES = (
    'exec: "',  # of runc: the program is missing, or cannot be executed
    "executable file not found",
    "exec format error",
    "no command specified",
    "Unable to find image",
    "No such image",
    "pull access denied",
    "manifest unknown",
)
"""What Docker says of images that cannot be had or started. Others are refusals: mounts, devices, names, arguments."""

_CLOCK = timedelta(seconds=1)


def was_interrupted(state: ContainerState) -> bool:
    """Return whether a container that is not running any more ended while its engine did not, either.

    Such an engine knows no exit code, and reports 0 (moby) with an end that never was, or that was before the start.
    """
    started, ended = parse_time(state.started), parse_time(state.ended)
    if state.is_running or state.exit_code != 0 or started is None:
        return False
    return ended is None or ended < started - _CLOCK


def cause(state: ContainerState, code: int) -> FailureCause:
    """Return why a job failed whose container ended with ``code``.

    The engine reports OOMKilled also where the kernel ended a child of the program, which then ended by itself.
    """
    if state.out_of_memory:
        return FailureCause.OUT_OF_MEMORY
    if not state.was_started:
        return refusal_cause(state.error or "")
    if code == 0:  # or the engine could not remove the container as a whole ("dead")
        return FailureCause.INFRASTRUCTURE if was_interrupted(state) else FailureCause.UNKNOWN
    return _OF_PROGRAMS[code][0] if code in _OF_PROGRAMS else FailureCause.CODE_ERROR


def reason(state: ContainerState, code: int, *, succeeded: bool) -> str | None:
    """Return what there is to say of an end; None where the exit code says it."""
    if state.out_of_memory:
        return OUT_OF_MEMORY
    if state.error or succeeded:
        return state.error
    if was_interrupted(state):
        return _INTERRUPTED
    return _OF_PROGRAMS[code][1] if code in _OF_PROGRAMS and state.was_started else None


def refusal_cause(error: str) -> FailureCause:
    """Return the cause of a container that was not started: whether that is due to its image."""
    is_image = any(text in error for text in _IMAGE_FAILURES)
    return FailureCause.IMAGE if is_image else FailureCause.REFUSED
