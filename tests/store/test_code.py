"""What images were built from, in the store: shared, bounded, and written with the submissions."""

from __future__ import annotations

import zlib
from hashlib import sha256
from pathlib import Path

import pytest
from sqlalchemy import func, select, text, update

from caliban.attempts import AdditionalAttempt, Submission
from caliban.code_record import CodeFile, CodeManifest, CodeRecord, GitState
from caliban.records import JobStatus, NewJob
from caliban.store.checks import NewSubmission
from caliban.store.code import (
    BuildOrigin,
    read_manifests,
    read_texts,
    recorded_builds,
)
from caliban.store.database import Store
from caliban.store.journal import Journal, new_token
from caliban.store.models import CodeFileRow, CodeManifestRow, SubmissionBuildRow
from tests.fake_service import FakeDestination

from .helpers import Statements, add_experiments

TEXT = b"print(1)\n"


def a_record(name: str = "train.py", content: bytes = TEXT, git: GitState | None = None) -> CodeRecord:
    digest = sha256(content).hexdigest()
    return CodeRecord(
        CodeManifest((CodeFile(name, digest, len(content)),), {"job_mode": "CPU"}), {digest: content}, git
    )


def submit(store: Store, *builds: BuildOrigin) -> list[Submission]:
    entries = [
        NewSubmission(number, "LOCAL", {}, FakeDestination("b"), "name", new_token(), AdditionalAttempt(), build)
        for number, build in enumerate(builds, start=1)
    ]
    opened = Journal(store).open_batch(entries, user="mei")
    return [each for each in opened if isinstance(each, Submission)]


def settled(store: Store, *builds: BuildOrigin) -> list[int]:
    journal = Journal(store)
    return [journal.settle(each, NewJob("sha256:ab", JobStatus.FAILED)).id for each in submit(store, *builds)]


def count(store: Store, table: type[CodeFileRow] | type[CodeManifestRow] | type[SubmissionBuildRow]) -> int:
    with store.reading() as session:
        return session.scalars(select(func.count()).select_from(table)).one()


@pytest.fixture(autouse=True)
def experiments(store: Store) -> None:
    add_experiments(store, "mei", "g", 3)


def test_a_job_has_what_its_image_was_built_from(store: Store) -> None:
    record = a_record(git=GitState("a" * 40, True))
    [job] = settled(store, BuildOrigin(record, build_path=Path("/moved")))
    found = recorded_builds(store, [job])[job]
    assert (found.git, found.build_path) == (record.git, Path("/moved"))
    assert found.manifest_id is not None
    assert list(read_manifests(store, [found.manifest_id]).values()) == [record.manifest]
    assert read_texts(store, record.texts) == record.texts


def test_equal_manifests_and_texts_are_stored_once(store: Store) -> None:
    submit(store, BuildOrigin(a_record()), BuildOrigin(a_record()), BuildOrigin(a_record("other.py")))
    assert (count(store, CodeManifestRow), count(store, CodeFileRow), count(store, SubmissionBuildRow)) == (2, 1, 3)


def test_a_later_attempt_shares_them(store: Store) -> None:
    settled(store, BuildOrigin(a_record()))
    settled(store, BuildOrigin(a_record()))
    assert (count(store, CodeManifestRow), count(store, CodeFileRow)) == (1, 1)


def test_an_image_that_is_used_again_keeps_its_record(store: Store) -> None:
    [first] = settled(store, BuildOrigin(a_record(git=GitState("a" * 40))))
    [second] = settled(store, BuildOrigin(code_of_job=first))
    assert recorded_builds(store, [second])[second] == recorded_builds(store, [first])[first]


def test_a_submission_without_a_build_has_no_record(store: Store) -> None:
    [job] = settled(store, BuildOrigin())
    assert recorded_builds(store, [job]) == {}


def test_what_is_not_journaled_leaves_no_record(store: Store) -> None:
    entry = NewSubmission(
        99, "LOCAL", {}, FakeDestination("b"), "n", new_token(), AdditionalAttempt(), BuildOrigin(a_record())
    )
    Journal(store).open_batch([entry], user="mei")
    assert (count(store, CodeManifestRow), count(store, CodeFileRow)) == (0, 0)


def test_the_statements_do_not_grow_with_the_jobs(store: Store, statements: Statements) -> None:
    add_experiments(store, "mei", "many", 3000)
    record = a_record()
    with statements() as few:
        submit(store, *[BuildOrigin(record)] * 3)
    with statements() as many:
        submit(store, *[BuildOrigin(record)] * 400)
    assert sum("code_" in each or "submission_builds" in each for each in few) == 6
    assert sum("code_" in each or "submission_builds" in each for each in many) <= 3


@pytest.mark.parametrize("content", [b"no zlib", zlib.compress(b"x"), zlib.compress(bytes(100_000_000))])
def test_damaged_records_are_left_out(store: Store, content: bytes) -> None:
    record = a_record()
    [job] = settled(store, BuildOrigin(record))
    with store.writing() as session:
        session.execute(update(CodeFileRow).values(content=content))
        session.execute(update(CodeManifestRow).values(content=content))
    manifest_id = recorded_builds(store, [job])[job].manifest_id
    assert manifest_id is not None
    assert (read_manifests(store, [manifest_id]), read_texts(store, record.texts)) == ({}, {})


def test_a_deleted_submission_takes_its_record_along(store: Store) -> None:
    submit(store, BuildOrigin(a_record()))
    with store.writing() as session:
        session.execute(text("DELETE FROM submissions"))
    assert count(store, SubmissionBuildRow) == 0
