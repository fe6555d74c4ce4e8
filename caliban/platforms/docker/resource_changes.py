"""Local jobs with other resources: GPUs, arguments of ``docker run``, the time limit, and memory. Connects to nothing.

What ``caliban run`` puts in front of the user's own arguments (``new_job_spec``) stays when those are replaced.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from decimal import Decimal

from caliban.errors import CalibanError
from caliban.platforms.context import PlatformContext
from caliban.platforms.docker import job_spec, run_arguments
from caliban.platforms.docker.errors import rejected_arguments
from caliban.platforms.docker.run_arguments import Flag, RunArgumentsError
from caliban.platforms.docker.typed_arguments import check_timeout, typed_arguments
from caliban.platforms.resources import (
    ChangedResources,
    ChangesResources,
    ResourceRequest,
    Settings,
    check_alone,
    nothing_to_multiply,
    scaled,
)
from caliban.records import JobDetails, JobRecord, JsonObject

_GPUS = "gpus"
_MEMORY = "memory"
_SWAP = "memory-swap"
_OWN = frozenset(("gpus=all", "ipc=host", "env=PYTHONUNBUFFERED=1"))
_AMOUNT = re.compile(r"(\d{1,20}(?:\.\d{1,20})?) ?([bkmgtp]?)(?:i?b)?", re.IGNORECASE)
"""What docker takes for an amount of memory: https://pkg.go.dev/github.com/docker/go-units#RAMInBytes."""
_UNITS = ("b", "k", "m", "g", "t", "p")
_STEP = 1024
_NO_MEMORY = "it could have all memory of its machine; to limit it, write: --docker_run_args '--memory 16g'"


class DockerResources(ChangesResources):
    """Changes the resources of local jobs."""

    context: PlatformContext
    resource_flags = frozenset({"docker_run_args", "nogpu", "timeout"})
    resource_paths = ("command", "timeout")

    def with_resources(self, job: JobRecord, request: ResourceRequest) -> ChangedResources:
        """See :meth:`ChangesResources.with_resources`."""
        return ChangedResources(changed_spec(job.spec, request, self.context), job.details)

    @classmethod
    def resource_settings(cls, spec: JsonObject, details: JobDetails) -> Settings:
        """See :func:`settings`."""
        return settings(spec)


def changed_spec(spec: JsonObject, request: ResourceRequest, context: PlatformContext) -> JsonObject:
    """Return a job spec with other resources; raises what :meth:`ChangesResources.with_resources` does."""
    check_alone(request, "docker_run_args")
    own, given = _arguments(spec, context)
    if request.docker_run_args is not None:
        typed = typed_arguments(request.docker_run_args, request.directory, context.home, context.environ)
        given = list(typed.parsed.flags)  # warnings about paths come with those of the whole spec
    if request.nogpu:
        own, given = ([flag for flag in flags if flag.name != _GPUS] for flags in (own, given))
    if request.more_memory is not None:
        given = _with_more_memory(given, request.more_memory)
    changed = dict(spec)
    if request.timeout is not None:
        changed["timeout"] = request.timeout
    flags = (*own, *given)
    if job_spec.time_limit(changed) is not None and request.given(("timeout", "docker_run_args")):
        check_timeout(run_arguments.RunArguments(flags, ()))
    words = tuple(word for flag in flags for word in flag.words)
    return replace(job_spec.parse_command(spec), docker_arguments=words).to_json(changed)


def settings(spec: JsonObject) -> Settings:
    """Return the resources of a job, as far as the recorded arguments can be read; without secrets."""
    seconds = job_spec.time_limit(spec)
    timeout = None if seconds is None else f"{seconds}s"
    try:
        words = job_spec.parse_command(spec).docker_arguments
        own, given = _split(run_arguments.parse(words).flags)
    except (CalibanError, RunArgumentsError):
        return {"timeout": timeout}
    values = {flag.name: flag.value for flag in (*own, *given)}
    shown = [_shown(flag) for flag in given if flag.name not in (_GPUS, _MEMORY, _SWAP)]
    return {
        "gpus": values.get(_GPUS),
        "memory": values.get(_MEMORY),
        "memory_swap": values.get(_SWAP),
        "docker_run_args": " ".join(shown) or None,
        "timeout": timeout,
    }


def _arguments(spec: JsonObject, context: PlatformContext) -> tuple[list[Flag], list[Flag]]:
    try:
        return _split(job_spec.checked_arguments(job_spec.parse_command(spec), context.environ).flags)
    except RunArgumentsError as error:
        raise rejected_arguments(error) from error


def _split(flags: Sequence[Flag]) -> tuple[list[Flag], list[Flag]]:
    """Return caliban's own arguments, each once at the beginning, and the user's."""
    left = set(_OWN)
    count = 0
    for flag in flags:
        text = f"{flag.name}={flag.value}"
        if text not in left:
            break
        left.discard(text)
        count += 1
    return list(flags[:count]), list(flags[count:])


def _with_more_memory(flags: Iterable[Flag], factor: Decimal) -> list[Flag]:
    """Multiply the limit of memory, and that of memory and swap together, which must not be less."""
    changed = list(_multiplied(flags, factor))
    if not any(flag.name == _MEMORY and _amount(flag) for flag in changed):
        raise nothing_to_multiply("limit of memory", _NO_MEMORY)
    return changed


def _multiplied(flags: Iterable[Flag], factor: Decimal) -> Iterator[Flag]:
    for flag in flags:
        amount = _amount(flag) if flag.name in (_MEMORY, _SWAP) else None
        if amount is None:
            yield flag
        else:
            number, unit = scaled(*amount, factor, _UNITS, _STEP)
            value = f"{int(number)}{unit}"
            yield Flag(flag.name, value, (f"--{flag.name}", value))


def _amount(flag: Flag) -> tuple[Decimal, str] | None:
    """Return how much memory a flag names; None for no limit (0, -1), and for what docker rejects."""
    match = _AMOUNT.fullmatch(flag.value)
    if match is None or not Decimal(match[1]):
        return None
    return Decimal(match[1]), match[2].lower() or "b"


def _shown(flag: Flag) -> str:
    """Return a flag for people, without the value of an environment variable, which may be a secret."""
    name, separator, _ = flag.value.partition("=")
    if flag.name == "env" and separator:
        return f"--env {shlex.quote(name)}=..."
    return shlex.join(flag.words)
