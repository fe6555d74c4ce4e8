"""The attempts of experiments: how long each took, and what changed since the one before. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from caliban.records import ExperimentRecord, GroupRecord, JobRecord

_PLAIN = re.compile(r"-?[0-9][0-9.]*[A-Za-z]{0,3}|true|false", re.IGNORECASE)
"""Values that are shown: amounts. Others may be secrets, such as those of environment variables."""

_NOT_COMPARED = frozenset({"labels", "annotations"})
"""What repeats names and images, which differ in every attempt."""


@dataclass(frozen=True)
class Change:
    """What differs from the attempt before.

    Attributes:
        name: what: ``image``, ``platform``, or the path of a value in the job spec.
        before, after: the values; both None where they are not shown.
    """

    name: str
    before: str | None = None
    after: str | None = None

    @property
    def text(self) -> str:
        """For people: ``image``, ``memory 4g -> 8g``."""
        return self.name if self.before is None else f"{self.name} {self.before} -> {self.after}"


@dataclass(frozen=True)
class Resources:
    """The resources of a job, as its platform names them.

    Attributes:
        settings: by name, such as ``memory``; None for what is not set.
        paths: where the job spec has them: beginnings of paths.
    """

    settings: Mapping[str, str | None] = field(default_factory=dict)
    paths: tuple[str, ...] = ()


ResourcesOf = Callable[[JobRecord], Resources]
"""Returns the resources of a job of any platform; none for a platform that does not name them."""


@dataclass(frozen=True)
class Attempt:
    """One job of an experiment.

    Attributes:
        number: which attempt it is, from 1 on.
        job: the job.
        seconds: how long it ran, or has been running; None where that is not recorded.
        changes: since the attempt before, as far as is recorded, without those of ``resources``.
        resources: what changed in its resources.
    """

    number: int
    job: JobRecord
    seconds: float | None
    changes: tuple[Change, ...]
    resources: tuple[Change, ...] = ()


@dataclass(frozen=True)
class ExperimentHistory:
    """The attempts of one experiment, oldest first."""

    experiment: ExperimentRecord
    attempts: tuple[Attempt, ...]


def history_of(
    group: GroupRecord, now: datetime, resources_of: ResourcesOf = lambda job: Resources()
) -> tuple[ExperimentHistory, ...]:
    """Return the history of each experiment of a group.

    Args:
        group: with all attempts of its experiments.
        now: with a time zone.
        resources_of: knows the resources of jobs.
    """
    return tuple(ExperimentHistory(each, tuple(_attempts(each, now, resources_of))) for each in group.experiments)


def _attempts(experiment: ExperimentRecord, now: datetime, resources_of: ResourcesOf) -> Iterator[Attempt]:
    before: JobRecord | None = None
    for number, job in enumerate(experiment.jobs, 1):
        found = tuple(changes(before, job)) if before else ()
        resources = tuple(_resource_changes(before, job, resources_of)) if before else ()
        if resources:
            paths = resources_of(job).paths
            found = tuple(each for each in found if not each.name.startswith(paths))
        yield Attempt(number, job, run_seconds(job, now), found, resources)
        before = job


def _resource_changes(before: JobRecord, after: JobRecord, resources_of: ResourcesOf) -> Iterator[Change]:
    if before.platform != after.platform:
        return
    old, new = resources_of(before).settings, resources_of(after).settings
    for name in dict.fromkeys((*old, *new)):
        if old.get(name) != new.get(name):
            yield Change(name, old.get(name) or "none", new.get(name) or "none")


def run_seconds(job: JobRecord, now: datetime) -> float | None:
    """Return how many seconds a job ran, or has been running at ``now``; None where that is not recorded."""
    started, ended = job.details.started, job.details.ended
    if started is None or (ended is None and job.status.is_final):
        return None
    try:
        return max(0.0, ((ended or now) - started).total_seconds())
    except TypeError:  # one has no time zone
        return None


def changes(before: JobRecord, after: JobRecord) -> Iterator[Change]:
    """Yield what differs between two attempts: image, platform, destination and job spec."""
    if before.container != after.container:
        yield Change("image")
    if before.platform != after.platform:
        yield Change("platform", before.platform, after.platform)
        return  # the specs of different platforms cannot be compared
    old = {**_flat(before.spec, _names(before)), **_flat(_destination(before), {})}
    new = {**_flat(after.spec, _names(after)), **_flat(_destination(after), {})}
    for name in dict.fromkeys((*old, *new)):
        if old.get(name) != new.get(name):
            yield _change(name, old.get(name), new.get(name))


def _destination(job: JobRecord) -> Mapping[str, object]:
    return job.details.destination.to_json() if job.details.destination else {}


def _names(job: JobRecord) -> Mapping[str, str]:
    """Return what differs in every attempt, and what it is compared as."""
    names = {job.container: "\0image"}
    for name in (job.details.display_name, job.details.id):
        if name:
            names[name] = "\0name"
    return names


def _flat(value: object, names: Mapping[str, str], path: str = "") -> dict[str, object]:
    """Return the values of a JSON value by their paths; a list of words is one value."""
    if isinstance(value, Mapping):
        found: dict[str, object] = {}
        for key, inner in value.items():
            if key not in _NOT_COMPARED:
                found.update(_flat(inner, names, f"{path}.{key}" if path else str(key)))
        return found
    if isinstance(value, list):
        if any(isinstance(each, Mapping | list) for each in value):
            found = {}
            for number, inner in enumerate(value):
                found.update(_flat(inner, names, f"{path}[{number}]"))
            return found
        return {path: tuple(names.get(each, each) if isinstance(each, str) else each for each in value)}
    return {path: names.get(value, value) if isinstance(value, str) else value}


def _change(name: str, old: object, new: object) -> Change:
    if isinstance(old, tuple) and isinstance(new, tuple):
        before, after = _difference(tuple(map(str, old)), tuple(map(str, new)))
    else:
        before, after = _shown(old), _shown(new)
    return Change(name) if before is None or after is None else Change(name, before, after)


def _difference(old: tuple[str, ...], new: tuple[str, ...]) -> tuple[str | None, str | None]:
    """Return the one amount that differs between two lists of words; twice None where more does."""
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    different = [each for each in matcher.get_opcodes() if each[0] != "equal"]
    if len(different) == 1 and different[0][2] - different[0][1] == 1 == different[0][4] - different[0][3]:
        return _shown(old[different[0][1]]), _shown(new[different[0][3]])
    return None, None


def _shown(value: object) -> str | None:
    text = str(value)
    return text if value is not None and _PLAIN.fullmatch(text) else None
