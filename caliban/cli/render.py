"""Records -> lines of text, in the words of ``caliban_resubmit.rst``. Pure: it asks nobody and writes nothing."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePath

from caliban.records import ExperimentView, GroupView, JobView, RecordedContainer

Title = Callable[[JobView], "str | None"]
"""What a job is called on its platform: ``caliban.platforms.titles.title``."""


def count(number: int, noun: str) -> str:
    """``1 job``, ``2 jobs``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def short_path(path: str, home: Path) -> str:
    """``path``, with the user's home folder as ``~``."""
    try:
        return str("~" / PurePath(path).relative_to(home))
    except ValueError:
        return path


def command_line(experiment: ExperimentView) -> str:
    """``cpu.py --foo 3 --sleep 1``, quoted as a shell would want it."""
    return " ".join((experiment.container.runs, *map(shlex.quote, experiment.words)))


def job_line(job: JobView, title: Title) -> str:
    """``job 68       FAILED        CAIP 2020-05-29 10:53:40 container: ... name: ...``."""
    name = title(job)
    parts = [
        f"job {job.id:<8d} {job.status:9s} {job.platform:>8s} {job.created:%Y-%m-%d %H:%M:%S}",
        f"container: {job.container}",
    ]
    if name:
        parts.append(f"name: {name}")
    if job.stale:
        parts.append(f"(last known state; {job.stale})")
    return " ".join(parts)


def container_line(container: RecordedContainer, home: Path) -> str:
    """``docker config 1: job_mode: CPU, build url: ~/cpu, extra dirs: None``, or the image where nothing is built."""
    spec = container.spec
    if "image_id" in spec:
        return f"docker config {container.id}: image: {spec['image_id']}"
    extra_dirs = spec.get("extra_dirs")
    dirs = ", ".join(map(str, extra_dirs)) if isinstance(extra_dirs, Sequence) and extra_dirs else "None"
    build_path = short_path(str(spec.get("build_path")), home)
    return f"docker config {container.id}: job_mode: {spec.get('job_mode')}, build url: {build_path}, extra dirs: {dirs}"


def group_lines(group: GroupView, title: Title, home: Path) -> Iterator[str]:
    """The tree that ``caliban status`` prints: group, docker config, experiment, job."""
    yield f"xgroup {group.name}:"
    by_container: dict[int, list[ExperimentView]] = {}
    for experiment in group.experiments:
        by_container.setdefault(experiment.container.id, []).append(experiment)
    for _, experiments in sorted(by_container.items()):
        yield container_line(experiments[0].container, home)
        for experiment in experiments:
            yield f"  experiment id {experiment.id}: {command_line(experiment)}"
            if not experiment.jobs:
                yield "    no job yet"
            for job in experiment.jobs:
                yield f"    {job_line(job, title)}"
