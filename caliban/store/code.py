"""Store what images were built from, and read it. A store that has no tables for it has nothing of it."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import func, insert, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from caliban.code_record import MAX_TEXT, CodeManifest, CodeRecord, GitState
from caliban.store.chunks import chunks
from caliban.store.database import Store
from caliban.store.models import CodeFileRow, CodeManifestRow, SubmissionBuildRow, SubmissionRow

_MAX_MANIFEST = 64 * 1024**2
"""Bytes of a manifest that are read; the largest of ours, with 50,000 long paths, has less."""

_MAX_MANIFESTS = 200
"""Manifests that are read at a time, the newest ones: each may have some megabytes."""

_MARGIN = 1024
"""Bytes that zlib adds at most to what it cannot compress, of the sizes that are read."""


@dataclass(frozen=True)
class BuildOrigin:
    """From what, and where, the image of a submission is built.

    Attributes:
        code: what entered the image; None where that is not known.
        code_of_job: the job whose image is used again, and with it what is recorded of its code.
        build_path: the project's directory, where that is not the one of the container spec.
    """

    code: CodeRecord | None = None
    code_of_job: int | None = None
    build_path: Path | None = None


@dataclass(frozen=True)
class RecordedBuild:
    """What is recorded of the image of a job.

    Attributes:
        manifest_id: ``code_manifests.id``; None where its files are not recorded.
        git: the commit; None where there was none.
        build_path: the project's directory, where that was not the one of the container spec.
    """

    manifest_id: int | None = None
    git: GitState | None = None
    build_path: Path | None = None


def record_builds(session: Session, builds: Mapping[int, BuildOrigin]) -> None:
    """Record the builds of new submissions by ``submissions.id``, in the transaction that adds the submissions.

    The number of statements depends on the number of different builds, not on that of submissions.
    """
    records = {origin.code.manifest.sha256: origin.code for origin in builds.values() if origin.code}
    _add_texts(session, records.values())
    ids = {sha256: _manifest_id(session, record.manifest) for sha256, record in records.items()}
    earlier = _builds_of_jobs(session, (each.code_of_job for each in builds.values() if each.code_of_job is not None))
    rows = []
    for submission_id, origin in builds.items():
        before = earlier.get(origin.code_of_job or 0, RecordedBuild())
        manifest_id, git = (ids[origin.code.manifest.sha256], origin.code.git) if origin.code else _code_of(before)
        if manifest_id is None and git is None and origin.build_path is None:
            continue
        rows.append(
            {
                "submission_id": submission_id,
                "manifest_id": manifest_id,
                "git_commit": git.commit if git else None,
                "is_dirty": git.is_dirty if git else None,
                "build_path": _storable_path(origin.build_path),
            }
        )
    if rows:
        session.execute(insert(SubmissionBuildRow), rows)


def recorded_builds(store: Store, job_ids: Iterable[int]) -> dict[int, RecordedBuild]:
    """Return what is recorded of the images of jobs, by ``jobs.id``. One statement per 10,000 jobs."""
    if not store.has_code:
        return {}
    with store.reading() as session:
        return _builds_of_jobs(session, job_ids)


def read_manifests(store: Store, manifest_ids: Iterable[int]) -> dict[int, CodeManifest]:
    """Return manifests by their ids; damaged ones are left out, and all but the newest 200."""
    found: dict[int, CodeManifest] = {}
    ids = sorted(set(manifest_ids))[-_MAX_MANIFESTS:]
    if not ids or not store.has_code:
        return found
    with store.reading() as session:
        for chunk in chunks(ids):
            statement = select(CodeManifestRow.id, CodeManifestRow.content).where(
                CodeManifestRow.id.in_(chunk), func.length(CodeManifestRow.content) <= _MAX_MANIFEST
            )
            for manifest_id, content in session.execute(statement):
                data = _decompressed(content, _MAX_MANIFEST)
                manifest = CodeManifest.parse(data) if data is not None else None
                if manifest is not None:
                    found[manifest_id] = manifest
    return found


def read_texts(store: Store, digests: Iterable[str]) -> dict[str, bytes]:
    """Return the contents that are kept, by SHA-256; damaged ones are left out. One statement per 10,000."""
    found: dict[str, bytes] = {}
    wanted = sorted(set(digests))
    if not wanted or not store.has_code:
        return found
    with store.reading() as session:
        for chunk in chunks(wanted):
            statement = select(CodeFileRow.sha256, CodeFileRow.content).where(
                CodeFileRow.sha256.in_(chunk), func.length(CodeFileRow.content) <= MAX_TEXT + _MARGIN
            )
            for sha256, content in session.execute(statement):
                data = _decompressed(content, MAX_TEXT)
                if data is not None and hashlib.sha256(data).hexdigest() == sha256:
                    found[sha256] = data
    return found


def _builds_of_jobs(session: Session, job_ids: Iterable[int]) -> dict[int, RecordedBuild]:
    found: dict[int, RecordedBuild] = {}
    for chunk in chunks(sorted(set(job_ids))):
        statement = (
            select(
                SubmissionRow.job_id,
                SubmissionBuildRow.manifest_id,
                SubmissionBuildRow.git_commit,
                SubmissionBuildRow.is_dirty,
                SubmissionBuildRow.build_path,
            )
            .join(SubmissionBuildRow, SubmissionBuildRow.submission_id == SubmissionRow.id)
            .where(SubmissionRow.job_id.in_(chunk))
        )
        for job_id, manifest_id, commit, is_dirty, build_path in session.execute(statement):
            git = GitState(str(commit), is_dirty) if commit else None
            path = Path(build_path) if build_path else None
            if job_id is not None:
                found[job_id] = RecordedBuild(manifest_id, git, path)
    return found


def _code_of(build: RecordedBuild) -> tuple[int | None, GitState | None]:
    return build.manifest_id, build.git


def _add_texts(session: Session, records: Iterable[CodeRecord]) -> None:
    texts = {sha256: text for record in records for sha256, text in record.compressed.items()}
    known: set[str] = set()
    for chunk in chunks(sorted(texts)):
        known.update(session.scalars(select(CodeFileRow.sha256).where(CodeFileRow.sha256.in_(chunk))))
    # in the order of their digests, so that two writers wait for each other instead of deadlocking
    rows = [{"sha256": sha256, "content": texts[sha256]} for sha256 in sorted(texts) if sha256 not in known]
    if rows:
        session.execute(_insert(session)(CodeFileRow).on_conflict_do_nothing(), rows)


def _manifest_id(session: Session, manifest: CodeManifest) -> int:
    statement = select(CodeManifestRow.id).where(CodeManifestRow.sha256 == manifest.sha256)
    found = session.scalar(statement)
    if found is None:
        values = {"sha256": manifest.sha256, "content": manifest.compressed}
        session.execute(_insert(session)(CodeManifestRow).on_conflict_do_nothing(), [values])
        found = session.scalar(statement)
    assert found is not None
    return found


def _insert(session: Session):  # type: ignore[no-untyped-def]  # noqa: ANN202 - two types without a common one
    return postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert


def _storable_path(path: Path | None) -> str | None:
    if path is None:
        return None
    return str(path).encode("utf-8", "backslashreplace").decode()


def _decompressed(data: object, limit: int) -> bytes | None:
    """Return what was compressed, if it is no longer than ``limit``; None for anything that is damaged."""
    if not isinstance(data, bytes):
        return None
    with suppress(zlib.error):
        reader = zlib.decompressobj()
        found = reader.decompress(data, limit + 1)
        return found if reader.eof and len(found) <= limit else None
    return None
