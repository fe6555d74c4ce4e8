"""Format records as lines of text, as ``caliban_resubmit.rst`` shows them. Does no I/O."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePath

from caliban.causes import reason_of
from caliban.errors import CalibanError
from caliban.records import ContainerRecord, ExperimentRecord, GroupRecord, ImageRef, JobRecord, Outcome

_MAX_LINE = 1000
_JOB_INDENT = "    "
# Twelve digits tell images apart and leave room for the rest of the line; the store has all 64.
_OMITTED_DIGITS = re.compile(r"(?<=\bsha256:[0-9a-f]{12})[0-9a-f]{52}(?![0-9a-f])")


def count(number: int, noun: str) -> str:
    """Return the number with its noun: ``1 job``, ``2 jobs``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def short_path(path: str, home: Path) -> str:
    """Return ``path`` with the user's home directory as ``~``."""
    try:
        return str("~" / PurePath(path).relative_to(home))
    except ValueError:
        return path


def error_lines(error: CalibanError) -> list[str]:
    """Format an error: what failed, why, and what to do; the id in brackets is for scripts and for searching."""
    lines = [f"error: {_shortened(error.message)} [{error.id}]"]
    for name, text in (("cause", error.cause), ("hint", error.hint)):
        if text:
            first, *rest = map(_shortened, text.rstrip().splitlines() or [""])
            lines.append(f"  {name}: {first}")
            lines.extend(f"    {line}" for line in rest)
    return lines


def _shortened(line: str) -> str:
    """Return a line without its middle, where somebody passed a path of some thousand characters."""
    if len(line) <= _MAX_LINE:
        return line
    return f"{line[: _MAX_LINE // 2]} ... ({len(line) - _MAX_LINE} characters) ... {line[-_MAX_LINE // 2 :]}"


def command_line(experiment: ExperimentRecord) -> str:
    """Return ``cpu.py --foo 3 --sleep 1``, quoted for a shell."""
    return " ".join((_quoted(experiment.container.entrypoint), *map(shlex.quote, experiment.arguments)))


def _quoted(script: str) -> str:
    return script if script.startswith("(") else shlex.quote(script)  # "(no script recorded)"


def short_image(image: ImageRef) -> str:
    """Return an image with the first twelve digits of its digest, or of its id: ``sha256:85e2b0d315e8``."""
    return _OMITTED_DIGITS.sub("", image)


def job_line(job: JobRecord, width: int | None = None) -> str:
    """Return ``job 68       FAILED       LOCAL 2020-05-29 10:53:40 container: ... name: ... (out of memory)``.

    Args:
        job: the job.
        width: columns that there are; where the line is longer, container and name make room for the reason.
    """
    head = f"job {job.id:<8d} {job.status:9s} {job.platform:>8s} {job.created:%Y-%m-%d %H:%M:%S}"
    name = f" name: {job.details.display_name}" if job.details.display_name else ""
    middle = f" container: {short_image(job.container)}{name}"
    remarks = [reason] if (reason := reason_of(job)) else []
    if job.refresh_error:
        remarks.append(f"last known state; {job.refresh_error}")
    end = f" ({', '.join(remarks)})" if remarks else ""
    is_too_long = width is not None and end and len(head) + len(middle) + len(end) > width
    return f"{head}{' ...' if is_too_long else middle}{end}"


def container_line(container: ContainerRecord, home: Path) -> str:
    """Return ``docker config 1: job_mode: CPU, build url: ~/cpu, extra dirs: None``, or the image if none is built."""
    spec = container.spec
    if "image_id" in spec:
        return f"docker config {container.id}: image: {spec['image_id']}"
    extra_dirs = spec.get("extra_dirs")
    dirs = ", ".join(map(str, extra_dirs)) if isinstance(extra_dirs, list) and extra_dirs else "None"
    build_path = short_path(str(spec.get("build_path")), home)
    return (
        f"docker config {container.id}: job_mode: {spec.get('job_mode')}, build url: {build_path}, extra dirs: {dirs}"
    )


def group_lines(group: GroupRecord, home: Path, width: int | None = None) -> Iterator[str]:
    """Format the tree that ``caliban status`` prints: group, docker config, experiment, job.

    Args:
        group: the group.
        home: the user's home directory.
        width: columns of the terminal; None where it is none.
    """
    room = None if width is None else width - len(_JOB_INDENT)

    def jobs(experiment: ExperimentRecord) -> Iterator[str]:
        if not experiment.jobs:
            yield "never run"
        for job in experiment.jobs:
            yield job_line(job, room)

    return tree_lines(group, home, jobs)


def tree_lines(group: GroupRecord, home: Path, below: Callable[[ExperimentRecord], Iterable[str]]) -> Iterator[str]:
    """Format a group with its experiments, and the lines ``below`` each."""
    yield f"xgroup {group.name}:"
    by_container: dict[int, list[ExperimentRecord]] = {}
    for experiment in group.experiments:
        by_container.setdefault(experiment.container.id, []).append(experiment)
    for _, experiments in sorted(by_container.items()):
        yield container_line(experiments[0].container, home)
        for experiment in experiments:
            yield f"  experiment id {experiment.id}: {command_line(experiment)}"
            for line in below(experiment):
                yield f"{_JOB_INDENT}{line}"


def outcome_lines(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Format each job that was recorded, with its command line and, if it failed, why."""
    for outcome in outcomes:
        if outcome.job is not None:
            yield command_line(outcome.experiment)
            yield f"  {job_line(outcome.job)}"


def count_line(outcomes: Sequence[Outcome]) -> str:
    """Count the jobs of outcomes: ``3 jobs: 2 stopped, 1 succeeded``."""
    counts = Counter(outcome.job.status.lower() if outcome.job else "not submitted" for outcome in outcomes)
    return f"{count(counts.total(), 'job')}: " + ", ".join(f"{number} {what}" for what, number in counts.items())


def failure_lines(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Format each distinct error once, with the first experiment that it affects."""
    affected: dict[tuple[str, ...], list[Outcome]] = {}
    for outcome in outcomes:
        if outcome.error is not None:
            affected.setdefault(tuple(error_lines(outcome.error)), []).append(outcome)
    for lines, same in affected.items():
        yield from lines
        yield f"  in: {command_line(same[0].experiment)}"
        if len(same) > 1:
            yield f"      and {count(len(same) - 1, 'more job')}"
