"""What changed in the code since each job of a plan: compared with the store, as lines, and as JSON fields."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from caliban.causes import cause_of
from caliban.cli import render
from caliban.code_record import CodeManifest, CodeRecord
from caliban.errors import CalibanError
from caliban.images.spec import BuildSpec
from caliban.records import FailureCause, JsonObject
from caliban.resubmit.code_change import CodeChange, FileChange, changed_files, changed_settings, text_of, with_counts
from caliban.resubmit.plan import Plan, PlannedJob
from caliban.resubmit.text_diff import hunks, lines_of
from caliban.store.code import read_manifests, read_texts
from caliban.store.database import Store

_SHOWN_JOBS = 5
_SHOWN_COMMIT = 12

Scan = Callable[[BuildSpec], CodeRecord | None]
"""Reads what a build would record now; see :func:`caliban.images.code.scan`."""


@dataclass(frozen=True)
class Comparison:
    """A plan with what changed, and the texts that differ.

    Attributes:
        plan: its jobs have their :class:`CodeChange`.
        texts: contents by SHA-256, those of the store and the present ones.
    """

    plan: Plan
    texts: Mapping[str, bytes]


def compare_code(plan: Plan, store: Store, scan: Scan) -> Comparison:
    """Compare what each job ran with what would be built now.

    A constant number of statements; each project is read once, however many jobs there are.
    """
    recorded = {job.recorded.manifest_id for job in plan.jobs if job.recorded and _is_built_again(job)}
    manifests = read_manifests(store, (each for each in recorded if each is not None))
    present: dict[BuildSpec, CodeRecord | None] = {}
    found: dict[tuple[int, BuildSpec], tuple[list[FileChange], tuple[str, ...]]] = {}
    texts: dict[str, bytes] = {}
    for job in plan.jobs:
        pair = _pair(job, manifests)
        if pair is None or pair in found:
            continue
        manifest_id, source = pair
        if source not in present:
            present[source] = _scanned(scan, source)
        now = present[source]
        if now is not None:
            before = manifests[manifest_id]
            found[pair] = changed_files(before, now.manifest), changed_settings(before, now.manifest)
            texts.update(now.texts)
    old = {each.before.sha256 for files, _ in found.values() for each in files if each.before}
    kept = read_texts(store, old)
    changes = {
        pair: (tuple(with_counts(each, kept, texts) for each in files), settings)
        for pair, (files, settings) in found.items()
    }
    jobs = tuple(replace(job, code=_change(job, _pair(job, manifests), changes)) for job in plan.jobs)
    return Comparison(replace(plan, jobs=jobs), {**texts, **kept})


def _is_built_again(job: PlannedJob) -> bool:
    return job.problem is None and job.needs_image and isinstance(job.source, BuildSpec)


def _pair(job: PlannedJob, manifests: Mapping[int, CodeManifest]) -> tuple[int, BuildSpec] | None:
    """Return what is compared for a job; None where one of the two is not known."""
    if job.recorded is None or not _is_built_again(job):
        return None
    manifest_id = job.recorded.manifest_id
    if manifest_id is None or manifest_id not in manifests or not isinstance(job.source, BuildSpec):
        return None
    return manifest_id, job.source


def _scanned(scan: Scan, source: BuildSpec) -> CodeRecord | None:
    try:
        return scan(source)
    except CalibanError:  # the build reports it
        return None


def _change(
    job: PlannedJob,
    pair: tuple[int, BuildSpec] | None,
    changes: Mapping[tuple[int, BuildSpec], tuple[tuple[FileChange, ...], tuple[str, ...]]],
) -> CodeChange | None:
    if job.problem is not None:
        return None
    if job.keeps_image:
        return CodeChange(job.template.id, keeps_image=True)
    if pair is None or pair not in changes:
        return None
    return CodeChange(job.template.id, *changes[pair])


def fails_again(job: PlannedJob) -> bool:
    """Return whether a job failed by its own code, and would run the same with the same parameters."""
    latest = job.origin.latest
    if job.code is None or not job.code.is_unchanged or job.is_changed:
        return False
    if latest is None or latest.id != job.code.since:
        return False
    return cause_of(latest) is FailureCause.CODE_ERROR


def warning(plan: Plan) -> str | None:
    """Return a warning about the jobs that would fail again; None where there are none."""
    jobs = [job for job in plan.ready if fails_again(job)]
    if not jobs:
        return None
    if len(jobs) == 1 and jobs[0].code:
        subject, image, pronoun = f"job {jobs[0].code.since}", "its image", "it"
    else:
        subject, image, pronoun = f"{len(jobs)} of these jobs", "their images", "they"
    return (
        f"{subject} failed because of an error in the code, and nothing that enters {image} has changed since: "
        f"{pronoun} would probably fail again"
    )


def is_common(plan: Plan) -> bool:
    """Return whether several jobs have one and the same change, which is shown once."""
    texts = {job.code.text if job.code and _is_shown_once(job) else None for job in plan.jobs}
    return len(plan.jobs) > 1 and len(texts) == 1 and None not in texts


def _is_shown_once(job: PlannedJob) -> bool:
    latest = job.origin.latest
    return job.code is not None and not job.code.keeps_image and latest is not None and latest.id == job.code.since


def line(job: PlannedJob) -> Iterator[str]:
    """Yield what changed since a job, where that is known."""
    if job.code is not None and not job.code.keeps_image:
        yield f"    code: {job.code.text} since job {job.code.since}"


def common_lines(plan: Plan) -> Iterator[str]:
    """Yield what changed since every job, where it is the same for all of them."""
    if is_common(plan) and plan.jobs[0].code is not None:
        yield f"code of these {len(plan.jobs)} jobs: {plan.jobs[0].code.text} since they were submitted"


def fields(job: PlannedJob) -> JsonObject | None:
    """Return what changed as JSON; None where it is not known."""
    change = job.code
    if change is None:
        return None
    git = job.recorded.git if job.recorded else None
    return {
        "since_job": change.since,
        "unchanged": change.is_unchanged,
        "fails_again": fails_again(job),
        "files": [
            {"path": each.path, "change": each.kind, "added": each.added, "removed": each.removed}
            for each in change.files
        ],
        "settings": list(change.settings),
        "commit": git.commit if git else None,
        "is_dirty": git.is_dirty if git else None,
    }


def diff_lines(comparison: Comparison) -> Iterator[str]:
    """Yield the differences as ``diff -u`` writes them, each once with the jobs that it concerns."""
    groups: dict[tuple[int, tuple[str, ...], bool], tuple[CodeChange, list[PlannedJob]]] = {}
    for job in comparison.plan.jobs:
        if job.code is not None:
            # jobs that are compared with the same build share the tuple, which may be long
            key = (id(job.code.files), job.code.settings, job.code.keeps_image)
            groups.setdefault(key, (job.code, []))[1].append(job)
    for change, jobs in groups.values():
        yield f"code since {_jobs_text(jobs)}{_commit(jobs)}:"
        if change.is_unchanged:
            yield "  unchanged"
        for name in change.settings:
            yield f"  {name} changed"
        for each in change.files:
            yield from _file_diff(each, comparison.texts)
    unknown = sum(job.code is None for job in comparison.plan.ready)
    if unknown:
        yield f"no difference can be shown for {render.count(unknown, 'job')}: the code that ran is not recorded"


def _jobs_text(jobs: list[PlannedJob]) -> str:
    numbers = [str(job.code.since) for job in jobs if job.code]
    shown = ", ".join(numbers[:_SHOWN_JOBS])
    left = len(numbers) - _SHOWN_JOBS
    return f"job{'s' if len(numbers) > 1 else ''} {shown}" + (f" and {left} more" if left > 0 else "")


def _commit(jobs: list[PlannedJob]) -> str:
    commits = {job.recorded.git for job in jobs if job.recorded and job.recorded.git}
    if len(commits) != 1:
        return ""
    [git] = commits
    return f" (commit {git.commit[:_SHOWN_COMMIT]}{', with changes' if git.is_dirty else ''})"


def _file_diff(change: FileChange, texts: Mapping[str, bytes]) -> Iterator[str]:
    before, after = text_of(change.before, texts), text_of(change.after, texts)
    old = f"a/{change.path}" if change.before else "/dev/null"
    new = f"b/{change.path}" if change.after else "/dev/null"
    if before is None or after is None:
        yield f"Files {old} and {new} differ"
        return
    if change.before and change.after and change.before.is_executable != change.after.is_executable:
        yield f"mode of {change.path}: {'executable' if change.after.is_executable else 'not executable'}"
    if before != after:
        yield f"--- {old}"
        yield f"+++ {new}"
        yield from hunks(lines_of(before), lines_of(after))
