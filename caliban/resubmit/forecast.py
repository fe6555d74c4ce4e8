"""How long a re-run takes, from the finished jobs of the same group: machine-hours, no prices."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from statistics import median

from caliban.cli import render
from caliban.platforms.registry import usage
from caliban.records import GroupRecord, JobRecord, JobStatus, JsonObject

_HOUR = 3600
_SHORTEST = 60
"""Seconds from which on a forecast is of interest to people."""
_TOLERANCE = 1
"""Seconds. Docker notes the start of a container after it has started: one that ends at once ended before."""


@dataclass(frozen=True)
class Forecast:
    """What jobs of one kind need: those of one platform with the same accelerators.

    Attributes:
        jobs: how many are planned.
        seconds: the median duration of the siblings.
        siblings: how many jobs of the group of this kind succeeded.
        usage: what each job occupies while it runs, such as ``{"L4": 2}``.
    """

    jobs: int
    seconds: float
    siblings: int
    usage: Mapping[str, int]

    @property
    def hours(self) -> dict[str, float]:
        """The hours of each accelerator, or of machines, of all jobs together."""
        return {name: self.jobs * count * self.seconds / _HOUR for name, count in self.usage.items()}

    @property
    def line(self) -> str:
        """The forecast for people: ``12 jobs, about 3 h each (88 siblings), 36 L4-hours``."""
        each = " each" if self.jobs > 1 else ""
        siblings = f"{self.siblings} sibling{'s' if self.siblings != 1 else ''}"
        hours = ", ".join(f"{_rounded(value)} {name}-hours" for name, value in self.hours.items())
        return f"{render.count(self.jobs, 'job')}, about {_duration(self.seconds)}{each} ({siblings}), {hours}"


def forecasts(templates: Iterable[JobRecord], group: GroupRecord) -> tuple[Forecast, ...]:
    """Return a forecast for each kind of planned jobs that have siblings which succeeded.

    Args:
        templates: the job whose platform and job spec each planned job takes.
        group: with the latest job of each experiment.
    """
    planned: dict[tuple[str, frozenset[tuple[str, int]]], int] = {}
    for job in templates:
        kind = _kind(job)
        planned[kind] = planned.get(kind, 0) + 1
    platforms = {platform for platform, _ in planned}
    durations: dict[object, list[float]] = {}
    for sibling in (job for each in group.experiments for job in each.jobs):
        seconds = _seconds(sibling)
        if seconds is not None and sibling.platform in platforms:
            durations.setdefault(_kind(sibling), []).append(seconds)
    return tuple(
        Forecast(number, median(durations[kind]), len(durations[kind]), dict(sorted(kind[1])))
        for kind, number in planned.items()
        if kind in durations
    )


def lines(found: Iterable[Forecast]) -> Iterator[str]:
    """Yield a line for each kind of jobs that take a minute or more together."""
    yield from (each.line for each in found if each.jobs * each.seconds >= _SHORTEST)


def fields(found: Iterable[Forecast]) -> list[JsonObject]:
    """Return the forecasts as JSON."""
    return [
        {
            "jobs": each.jobs,
            "seconds_each": round(each.seconds, 3),
            "siblings": each.siblings,
            "hours": {name: round(value, 4) for name, value in each.hours.items()},
        }
        for each in found
    ]


def _kind(job: JobRecord) -> tuple[str, frozenset[tuple[str, int]]]:
    return job.platform, frozenset(usage(job.platform, job.spec).items())


def _seconds(job: JobRecord) -> float | None:
    """Return how long a job ran that succeeded; None for any other."""
    started, ended = job.details.started, job.details.ended
    if job.status is not JobStatus.SUCCEEDED or started is None or ended is None:
        return None
    seconds = (ended - started).total_seconds()
    return max(0.0, seconds) if seconds > -_TOLERANCE else None


def _duration(seconds: float) -> str:
    """Return a duration in one unit: ``40 s``, ``12 min``, ``2.5 h``, ``3 h``, ``4 days``."""
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    if seconds < _HOUR:
        return f"{round(seconds / 60)} min"
    if seconds < 48 * _HOUR:
        return f"{_rounded(seconds / _HOUR)} h"
    return f"{_rounded(seconds / (24 * _HOUR))} days"


def _rounded(number: float) -> str:
    """Return a number with few digits: ``36``, ``2.5``, ``0.04``, ``less than 0.01``."""
    if number >= 10:
        return f"{number:,.0f}"
    if number >= 0.95:
        return f"{number:.1f}".removesuffix(".0")
    return f"{number:.2f}" if number >= 0.01 else "less than 0.01"
