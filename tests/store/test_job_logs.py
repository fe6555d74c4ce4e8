"""The output of jobs in the store, on SQLite and PostgreSQL."""

from __future__ import annotations

import os
import zlib
from contextlib import suppress
from datetime import datetime, timezone

import pytest
from sqlalchemy import text

from caliban.clock import SystemClock
from caliban.errors import StoreError
from caliban.outputs.stored import STORED_BYTES, StoredOutput
from caliban.records import OutputError
from caliban.store.database import Access, Store, open_store
from caliban.store.job_logs import output_errors, read_output, record_outputs, unavailable_outputs
from caliban.store.queries import find_job, group_attempts, recent_attempts
from tests.databases import SqliteFiles
from tests.fakes import FakeClock, RecordingReporter

from .helpers import Statements, keep_raw, migrate_down, migrating, upgraded_peer_history

NAN = OutputError("ValueError", "loss is nan", "train.py:41")
FAILED = StoredOutput(1, b"epoch 1\nValueError: loss is nan\n", True, None, NAN)


def record(store: Store, *outputs: StoredOutput) -> None:
    with store.writing() as session:
        record_outputs(session, outputs, FakeClock())


def read(store: Store, job_id: int = 1) -> StoredOutput | None:
    with store.reading() as session:
        return read_output(session, job_id)


@pytest.mark.parametrize(
    "output",
    [
        FAILED,
        StoredOutput(1),
        StoredOutput(1, b"\0\xff\x1b\r\n"),
        StoredOutput(1, os.urandom(STORED_BYTES), False),
        StoredOutput(1, unavailable="the output is gone"),
        StoredOutput(1, b"x", error=OutputError(None, "x: error: bad")),
        StoredOutput(1, b"x", error=OutputError("KeyboardInterrupt", "")),
    ],
    ids=["failed", "empty", "bytes", "large", "unavailable", "no exception", "no message"],
)
def test_an_output_is_read_as_it_was_recorded(output: StoredOutput, peer_store: Store) -> None:
    record(peer_store, output)
    assert read(peer_store) == output


def test_a_job_without_output_has_none(peer_store: Store) -> None:
    assert read(peer_store) is None


def test_more_than_the_store_keeps_is_cut(peer_store: Store) -> None:
    record(peer_store, StoredOutput(1, b"a" * 10 + b"b" * STORED_BYTES))
    assert read(peer_store) == StoredOutput(1, b"b" * STORED_BYTES, False)


def test_the_output_that_was_recorded_first_stays(peer_store: Store) -> None:
    record(peer_store, FAILED)
    record(peer_store, StoredOutput(1, b"other"), StoredOutput(2, b"of 2"))
    record(peer_store, StoredOutput(1, unavailable="gone"))
    assert (read(peer_store, 1), read(peer_store, 2)) == (FAILED, StoredOutput(2, b"of 2"))


def test_an_output_replaces_the_reason_why_there_was_none(peer_store: Store) -> None:
    record(peer_store, StoredOutput(1, unavailable="timed out"))
    record(peer_store, FAILED)
    assert read(peer_store) == FAILED


def test_the_output_of_a_job_that_is_not_recorded_is_left_out(peer_store: Store) -> None:
    record(peer_store, StoredOutput(4711, b"x"), FAILED)
    assert (read(peer_store, 4711), read(peer_store)) == (None, FAILED)


def test_a_text_that_databases_cannot_store_is_escaped(peer_store: Store) -> None:
    record(peer_store, StoredOutput(1, b"x", error=OutputError("E\0", "a\0b\ud800", "f\0:1")))
    output = read(peer_store)
    assert output is not None
    assert output.error == OutputError("E\\x00", "a\\x00b\\ud800", "f\\x00:1")


def test_the_time_of_recording_is_utc(peer_store: Store) -> None:
    with peer_store.writing() as session:
        record_outputs(session, [FAILED], SystemClock())
        found = session.execute(text("SELECT recorded FROM job_logs")).scalar_one()
    recorded = datetime.fromisoformat(str(found)).replace(tzinfo=timezone.utc)
    assert abs((datetime.now(timezone.utc) - recorded).total_seconds()) < 60


@pytest.mark.parametrize(
    "stored",
    [b"", b"not zlib", zlib.compress(b"x" * 100)[:-6], b"x" * (1 << 20)],
    ids=["nothing", "another format", "cut", "long"],
)
def test_a_damaged_row_says_so(stored: bytes, peer_store: Store) -> None:
    record(peer_store, FAILED)
    with peer_store.writing() as session:
        session.execute(text("UPDATE job_logs SET output = :output"), {"output": stored})
    output = read(peer_store)
    assert output is not None
    assert (output.data, output.unavailable) == (b"", "the stored output is damaged")


def test_a_row_that_decompresses_to_gigabytes_is_read_to_the_limit(peer_store: Store) -> None:
    record(peer_store, FAILED)
    with peer_store.writing() as session:
        bomb = zlib.compress(b"x" * (32 << 20), 9)
        session.execute(text("UPDATE job_logs SET output = :output"), {"output": bomb})
    output = read(peer_store)
    assert output is not None
    assert len(output.data) <= STORED_BYTES


def test_errors_and_reasons_are_read_in_one_statement_each(peer_store: Store, statements: Statements) -> None:
    record(peer_store, FAILED, StoredOutput(2, unavailable="gone"), StoredOutput(3, b"x"))
    with peer_store.reading() as session, statements() as sent:
        assert output_errors(session, [1, 2, 3, 4711]) == {1: NAN}
        assert unavailable_outputs(session, [1, 2, 3, 4711]) == {2: "gone"}
    assert len(sent) == 2


def test_no_jobs_are_no_statement(peer_store: Store, statements: Statements) -> None:
    with peer_store.reading() as session, statements() as sent:
        assert (output_errors(session, []), unavailable_outputs(session, [])) == ({}, {})
    assert sent == []


def test_records_have_the_error_of_their_output_in_the_same_statement(
    peer_store: Store, statements: Statements
) -> None:
    with peer_store.reading() as session:
        job = find_job(session, keep_raw, 1)
        assert job is not None
        user, name = session.execute(
            text(
                'SELECT g."user", g.name FROM experiment_groups g JOIN experiments e ON e.xgroup_id = g.id '
                "JOIN jobs j ON j.experiment_id = e.id WHERE j.id = 1"
            )
        ).one()
    record(peer_store, FAILED)
    with peer_store.reading() as session, statements() as sent:
        found = find_job(session, keep_raw, 1)
        group = group_attempts(session, keep_raw, user, name, per_experiment=None)
        recent = recent_attempts(session, keep_raw, str(job.user), None)
    assert len(sent) == 3
    assert found is not None
    assert group is not None
    listed = [job for each in (group, *recent) for experiment in each.experiments for job in experiment.jobs]
    assert {job.output_error for job in (found, *listed) if job.id == 1} == {NAN}
    assert {job.output_error for job in listed if job.id != 1} <= {None}


@pytest.mark.parametrize("revision", ["base", "0001", "0002", "0003", "0004"])
def test_a_store_that_was_not_upgraded_has_no_output(revision: str, peer_url: str) -> None:
    open_store(peer_url, Access.WRITE, RecordingReporter()).close()
    migrate_down(peer_url, revision)
    with open_store(peer_url, Access.READ, RecordingReporter()) as store, store.reading() as session:
        assert read_output(session, 1) is None
        assert (output_errors(session, [1]), unavailable_outputs(session, [1])) == ({}, {})
        found = find_job(session, keep_raw, 1)
        assert found is not None
        assert found.output_error is None


def test_the_output_of_a_deleted_job_is_deleted(peer_store: Store) -> None:
    with peer_store.writing() as session:
        session.execute(text("INSERT INTO jobs (id, created, container) VALUES (900, '2026-01-01 00:00:00', 'x')"))
    record(peer_store, StoredOutput(900, b"x"))
    with peer_store.writing() as session:
        session.execute(text("DELETE FROM jobs WHERE id = 900"))
    assert read(peer_store, 900) is None


def test_a_downgrade_removes_the_table(store_url: str) -> None:
    migrate_down(store_url, "0004")
    with migrating(store_url) as connection:
        assert not connection.dialect.has_table(connection, "job_logs")


@pytest.mark.parametrize("value", ["'text'", "5", "2.5", "x'ff00'"])
@pytest.mark.parametrize(
    "column", ["output", "is_complete", "unavailable", "error_type", "error_message", "error_frame", "recorded"]
)
def test_sqlite_stores_any_type_in_any_column(
    column: str, value: str, sqlite_files: SqliteFiles, reporter: RecordingReporter
) -> None:
    with sqlite_files.database(upgraded_peer_history) as url, open_store(url, Access.WRITE, reporter) as store:
        record(store, FAILED)
        with store.writing() as session:
            session.execute(text(f"UPDATE job_logs SET {column} = {value}"))
        with suppress(StoreError), store.reading() as session:
            assert output_errors(session, [1]).keys() == {1}
            find_job(session, keep_raw, 1)
            assert read_output(session, 1) is not None
