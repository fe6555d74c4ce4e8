"""Re-run jobs with other resources: the flags, the step of a plan, its lines, and its JSON fields."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from caliban.errors import CalibanError, PlatformError, UsageError
from caliban.platforms.resource_flags import FORCE, RESOURCE_FLAGS
from caliban.records import JsonObject

if TYPE_CHECKING:
    from caliban.platforms.registry import Platforms
    from caliban.platforms.resources import ResourceRequest
    from caliban.resubmit.plan import PlannedJob

_NAMES = tuple(flag.name for flag in RESOURCE_FLAGS)
DESCRIPTION = (
    "Resources are changed by --more_memory and, as in run, cloud and cluster job submit, by "
    f"{', '.join(f'--{name}' for name in _NAMES)}."
)
"""What help says of the flags that the submitting commands explain."""
_EXCLUSIVE = (
    ("nogpu", "gpu_spec", "gpu-or-not"),
    ("spot", "nonpreemptible", "conflicting-flags"),
)
_MOST_MEMORY = 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags; :data:`DESCRIPTION` lists those that the submitting commands explain."""
    for flag in (*RESOURCE_FLAGS, FORCE):
        flag.add(parser, argparse.SUPPRESS)
    parser.add_argument(
        "--more_memory", type=_factor, metavar="FACTOR", help="multiply the memory that the jobs had, as by 2 or 1.5"
    )


def _factor(text: str) -> Decimal:
    factor = Decimal(text) if re.fullmatch(r"\d{1,4}(\.\d{1,6})?", text, re.ASCII) else Decimal(0)
    if not 1 < factor <= _MOST_MEMORY:
        raise argparse.ArgumentTypeError(f'expected a number > 1 and <= {_MOST_MEMORY}, got "{text}"')
    return factor


def resource_request(args: argparse.Namespace, cwd: Path) -> ResourceRequest | None:
    """Return what is to change; None for nothing.

    Raises:
        UsageError: ``gpu-or-not``, ``conflicting-flags``.
    """
    from caliban.platforms.resources import ResourceRequest

    request = ResourceRequest(cwd, **{name: getattr(args, name) for name in (*_NAMES, "more_memory", FORCE.name)})
    for one, other, error_id in _EXCLUSIVE:
        if len(request.given((one, other))) > 1:
            raise UsageError(error_id, f"--{one} and --{other} cannot be combined", hint="omit one of them")
    return request if request.given((*_NAMES, "more_memory")) else None


def key_of(request: ResourceRequest | None) -> JsonObject:
    """Return what of the command line makes another command the same."""
    if request is None:
        return {}
    return {name: str(getattr(request, name)) for name in request.given((*_NAMES, "more_memory", FORCE.name))}


def change_resources(
    jobs: Sequence[PlannedJob], request: ResourceRequest | None, platforms: Platforms
) -> list[PlannedJob]:
    """Return the jobs with other resources. Nothing is connected to.

    Args:
        jobs: migrated, where another platform is requested.
        request: None leaves them as they are.
        platforms: where they run.

    Raises:
        UsageError: the request is wrong, or not possible for one of them, which the message names.
    """
    if request is None:
        return list(jobs)
    for job in jobs:
        _check_flags(job, request)
    return [_changed(job, request, platforms) for job in jobs]


def _check_flags(job: PlannedJob, request: ResourceRequest) -> None:
    """Check that the platform of a job has the flags.

    Raises:
        UsageError: ``flag-not-on-platform``.
    """
    own = _flags_of(job.template.platform)
    if own is None:  # reported as the problem of the job
        return
    missing = [name for name in request.given((*_NAMES, "more_memory")) if name not in own]
    if missing:
        has = f"{job.template.platform} has {', '.join(f'--{name}' for name in sorted(own))}" if own else ""
        raise UsageError(
            "flag-not-on-platform",
            f"{_name(job)} runs on {job.template.platform}, which does not support --{missing[0]}",
            cause=has or f"{job.template.platform} has no flags for resources",
            hint=f"omit --{missing[0]}, or choose other jobs with --job, --state or --match",
        )


def _name(job: PlannedJob) -> str:
    """Return what errors call a job: by the number of the one whose settings it takes, if that was ever recorded."""
    return f"job {job.template.id}" if job.template.id else f"experiment {job.origin.id}"


def _flags_of(platform: str) -> frozenset[str] | None:
    """Return the flags of a platform; None for one that is not installed, or broken."""
    from caliban.platforms.registry import platform_class
    from caliban.platforms.resources import ChangesResources

    try:
        found = platform_class(platform)
    except PlatformError:
        return None
    return found.resource_flags | {"more_memory"} if issubclass(found, ChangesResources) else frozenset()


def _changed(job: PlannedJob, request: ResourceRequest, platforms: Platforms) -> PlannedJob:
    from caliban.platforms.resources import ChangedResources, ChangesResources, setting_changes
    from caliban.submission.boundary import expected, platform_errors

    template = job.template
    if job.problem is not None:
        return job
    try:
        platform = platforms.get(template.platform)
        assert isinstance(platform, ChangesResources)
        with platform_errors(template.platform, "change the resources of a job"):
            changed = expected(platform.with_resources(template, request), ChangedResources)
            before = platform.resource_settings(template.spec, template.details)
            after = platform.resource_settings(changed.spec, changed.details)
    except UsageError as error:
        raise UsageError(error.id, f"{_name(job)}: {error.message}", cause=error.cause, hint=error.hint) from error
    except CalibanError as error:
        return replace(job, problem=error)
    template = replace(template, spec=changed.spec, details=changed.details)
    return replace(job, template=template, resources=tuple(setting_changes(before, after)))


def line(job: PlannedJob) -> Iterator[str]:
    """Yield what changes in a job's resources."""
    if job.resources:
        yield f"    resources: {', '.join(change.text for change in job.resources)}"


def fields(job: PlannedJob | None) -> list[JsonObject]:
    """Return what changes in a job's resources; of None, nothing."""
    return [
        {"setting": each.setting, "before": each.before, "after": each.after} for each in (job.resources if job else ())
    ]
