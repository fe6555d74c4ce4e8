"""What a plan would do that someone else asked for: jobs that another user, or this user on another host, recorded.

Who can write to a store can record a job spec with any options. They are the user's own decision only if the user
recorded them, so they are shown before the question.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from caliban.cli import render
from caliban.errors import CalibanError, one_line
from caliban.images.spec import BuildSpec, ImageSpec
from caliban.platforms.registry import Platforms
from caliban.resubmit.plan import PlannedJob


@dataclass(frozen=True)
class Self:
    """Who runs the command.

    Attributes:
        user: the user whose experiments they are: ``$CALIBAN_USER``, else the login name.
        host: the name of this machine.
    """

    user: str
    host: str

    def stranger(self, job: PlannedJob, submitter: tuple[str, str] | None) -> str | None:
        """Return who recorded the job whose spec is run: ``mei on laptop``; None if this user on this machine did.

        Args:
            job: a planned job.
            submitter: user and host of its submission; None where none is recorded, as by caliban 0.4.2.
        """
        users = [job.template.user, *(submitter or ())[:1]]
        user = next((each for each in users if each is None or each != self.user), "")
        host = submitter[1] if submitter else self.host
        if user == "" and host == self.host:
            return None
        name = self.user if user == "" else user or "an unknown user"
        return name if host == self.host else f"{name} on {host}"


def foreign_lines(
    jobs: Iterable[PlannedJob],
    submitters: Mapping[int, tuple[str, str]],
    own: Self,
    platforms: Platforms,
    home: Path,
) -> Iterator[str]:
    """Yield what the re-run of strangers' jobs would do beyond running their images, with the number of jobs.

    Args:
        jobs: the planned jobs.
        submitters: user and host of the submission of each job that has one, by ``jobs.id``.
        own: who runs the command.
        platforms: know what a job spec does.
        home: the user's home directory.
    """
    found: dict[str, dict[str, int]] = {}
    for job in jobs:
        first = job.submission
        submitter = (first.user, first.host) if first else submitters.get(job.template.id)
        stranger = own.stranger(job, submitter)
        if stranger is None:
            continue
        counts = found.setdefault(stranger, {})
        for line in dict.fromkeys((*_image_effects(job, home), *_effects(job, platforms))):
            counts[line] = counts.get(line, 0) + 1
    for stranger, counts in found.items():
        if counts:
            yield f"recorded by {stranger}, and part of the re-run:"
        for line, number in counts.items():
            yield f"  {line} ({render.count(number, 'job')})"


def _effects(job: PlannedJob, platforms: Platforms) -> tuple[str, ...]:
    try:
        return tuple(platforms.get(job.template.platform).effects(job.template))
    except CalibanError as error:
        return () if job.problem else (f"options that cannot be read: {one_line(error)}",)
    except Exception as error:  # noqa: BLE001 - a platform of another package, or a spec of a shape that nobody foresaw
        return (f"options that cannot be read: {type(error).__name__}",)


def _image_effects(job: PlannedJob, home: Path) -> Iterator[str]:
    source = job.source
    if isinstance(source, ImageSpec) and job.needs_image:
        yield f"run the image {source.image}, which is not built here"
    if not isinstance(source, BuildSpec):
        return
    directories = (source.build_path, *(source.build_path / each for each in source.extra_dirs))
    yield f"build from {', '.join(render.short_path(str(each), home) for each in directories)}"
    registry = job.route.registry if job.route else None
    pushed_to = registry.repository if registry else source.config.registry or source.config.repository
    if pushed_to and job.needs_image:
        yield f"push the image to {pushed_to}"
