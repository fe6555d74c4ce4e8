"""Jobs with other resources than they had: what a re-run can change, and what a platform has to do for it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from pathlib import Path
from typing import ClassVar

from caliban.errors import UsageError
from caliban.records import JobDetails, JobRecord, JsonObject

Settings = Mapping[str, str | None]
"""The resources of a job by the names of flags, as people write them; None for what it does not set."""


@dataclass(frozen=True)
class ResourceRequest:
    """What is to change; the attributes are the values of the flags of these names.

    Attributes:
        directory: where the command was called, which paths in ``docker_run_args`` are relative to.
        more_memory: what the memory is multiplied by; None to leave it.
        force: do not check machines and GPUs.
    """

    directory: Path
    machine_type: str | None = None
    gpu_spec: str | None = None
    nogpu: bool = False
    min_cpu: int | None = None
    min_mem: int | None = None
    spot: bool = False
    nonpreemptible: bool = False
    timeout: int | None = None
    region: str | None = None
    docker_run_args: str | None = None
    more_memory: Decimal | None = None
    force: bool = False

    def given(self, names: Sequence[str]) -> list[str]:
        """Return which of some flags are given, by their names."""
        return [name for name in names if getattr(self, name) not in (None, False)]


@dataclass(frozen=True)
class SettingChange:
    """A resource that differs.

    Attributes:
        setting: the name of the flag that sets it; of what no flag sets alone, another one: ``memory``.
        before, after: as people write them; None where it is not set.
    """

    setting: str
    before: str | None
    after: str | None

    @property
    def text(self) -> str:
        """For people: ``machine_type n1-standard-4 -> n1-standard-8``."""
        before, after = ("none" if each is None else each for each in (self.before, self.after))
        return f"{self.setting} {before} -> {after}"


def setting_changes(before: Settings, after: Settings) -> Iterator[SettingChange]:
    """Yield what differs."""
    for name in dict.fromkeys((*before, *after)):
        if before.get(name) != after.get(name):
            yield SettingChange(name, before.get(name), after.get(name))


@dataclass(frozen=True)
class ChangedResources:
    """A job with other resources.

    Attributes:
        spec: the job spec.
        details: what :meth:`caliban.platforms.base.Platform.destination` reads to find the destination.
    """

    spec: JsonObject
    details: JobDetails


class ChangesResources(ABC):
    """A platform on which a re-run can have other resources than the attempt before.

    Attributes:
        resource_flags: the names of the flags that it has; ``more_memory`` it always has.
        resource_paths: where a job spec and a destination have what :meth:`resource_settings` returns: beginnings of
            paths such as ``template.spec.nodeSelector``.
    """

    resource_flags: ClassVar[frozenset[str]]
    resource_paths: ClassVar[tuple[str, ...]]

    @abstractmethod
    def with_resources(self, job: JobRecord, request: ResourceRequest) -> ChangedResources:
        """Return the job with other resources. Nothing is connected to.

        Args:
            job: a job of this platform, as recorded or migrated.
            request: has none but ``resource_flags``, ``more_memory`` and ``force``; where it has the values of the job,
                the result is the same job.

        Raises:
            UsageError: the request is wrong, or not possible for this job; or there is no memory to multiply
                (:func:`nothing_to_multiply`).
            PlatformError: ``malformed-job-spec``: the spec is not one of this platform's.
        """

    @classmethod
    @abstractmethod
    def resource_settings(cls, spec: JsonObject, details: JobDetails) -> Settings:
        """Return the resources of a job, for people; what is missing or malformed is not set.

        Args:
            spec: the job spec.
            details: of the job, which say where it runs.
        """


def check_alone(request: ResourceRequest, *names: str) -> None:
    """Check that ``--more_memory`` is not combined with a flag that says how much memory a job gets.

    Raises:
        UsageError: ``conflicting-flags``.
    """
    given = request.given(names)
    if request.more_memory is not None and given:
        raise UsageError(
            "conflicting-flags",
            f"--more_memory and --{given[0]} cannot be combined",
            cause="both say how much memory a job gets",
            hint="omit one of them",
        )


def nothing_to_multiply(what: str, hint: str) -> UsageError:
    """Return the error for a job of which no memory is recorded.

    Args:
        what: what it has none of: ``memory request``.
        hint: what to write instead.
    """
    return UsageError("no-memory-recorded", f"--more_memory: no {what} is recorded", hint=hint)


def scaled(amount: Decimal, unit: str, factor: Decimal, units: Sequence[str], step: int) -> tuple[Decimal, str]:
    """Multiply an amount, rounded up; in the next smaller unit where it is not a whole number in its own.

    Args:
        amount: how many.
        unit: one of ``units``.
        factor: by what.
        units: the smallest first.
        step: what each is worth in the one before.
    """
    value, position = amount * factor, units.index(unit)
    if value != value.to_integral_value() and position > 0:
        value, position = value * step, position - 1
    return value.to_integral_value(rounding=ROUND_CEILING), units[position]
