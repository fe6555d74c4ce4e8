"""Only its user can read the store: its directory has mode 0700, it and its copies 0600, whatever the umask."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text

from caliban.store.database import Access, open_store
from tests.fakes import RecordingReporter
from tests.store.helpers import PEER_STORES


@pytest.fixture(autouse=True)
def no_umask() -> Iterator[None]:
    """Files created without an explicit mode are readable and writable by everyone."""
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / ".caliban" / "caliban.db"


def modes(directory: Path) -> dict[str, str]:
    return {path.name: mode(path) for path in directory.iterdir()}


def mode(path: Path) -> str:
    return f"{stat.S_IMODE(path.stat().st_mode):04o}"


def test_a_new_store_is_private(file: Path, reporter: RecordingReporter) -> None:
    open_store(f"sqlite:///{file}", Access.WRITE, reporter).close()
    assert (mode(file.parent), modes(file.parent)) == ("0700", {"caliban.db": "0600"})


def test_the_journal_file_of_sqlite_is_private(file: Path, reporter: RecordingReporter) -> None:
    with open_store(f"sqlite:///{file}", Access.WRITE, reporter) as store, store.writing() as session:
        session.execute(text("INSERT INTO experiment_groups (name, created, user) VALUES ('g', '2020-01-01', 'mei')"))
        assert modes(file.parent) == {"caliban.db": "0600", "caliban.db-journal": "0600"}


def peer_store(file: Path) -> Path:
    """Create a default store as caliban 0.4.2 does with the usual umask."""
    file.parent.mkdir(mode=0o755)
    shutil.copy(PEER_STORES / "mixed.sqlite", file)
    file.chmod(0o644)
    return file


def test_an_upgrade_makes_the_default_store_of_caliban_0_4_2_private(file: Path, reporter: RecordingReporter) -> None:
    open_store(f"sqlite:///{peer_store(file)}", Access.WRITE, reporter).close()
    assert mode(file.parent) == "0700"
    assert set(modes(file.parent).values()) == {"0600"}
    assert len(modes(file.parent)) == 2  # the store and its backup


def test_the_modes_of_a_store_elsewhere_are_kept(tmp_path: Path, reporter: RecordingReporter) -> None:
    file = tmp_path / "caliban.db"
    shutil.copy(PEER_STORES / "mixed.sqlite", file)
    file.chmod(0o660)
    before = mode(tmp_path)
    open_store(f"sqlite:///{file}", Access.WRITE, reporter).close()
    assert (mode(file), mode(tmp_path)) == ("0660", before)


def test_reading_changes_no_mode(file: Path, reporter: RecordingReporter) -> None:
    open_store(f"sqlite:///{peer_store(file)}", Access.READ, reporter).close()
    assert (mode(file.parent), mode(file)) == ("0755", "0644")


def test_the_temporary_copy_of_an_interrupted_store_is_private(
    file: Path, reporter: RecordingReporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_store(f"sqlite:///{file}", Access.WRITE, reporter).close()
    with closing(sqlite3.connect(file, isolation_level=None)) as writer:
        writer.execute("PRAGMA cache_spill = 1")
        writer.execute("PRAGMA cache_size = 1")
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("CREATE TABLE more AS WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i+1 FROM n LIMIT 9999)"
                       " SELECT i, hex(randomblob(50)) FROM n")  # fmt: skip
        left = {name: (file.parent / name).read_bytes() for name in modes(file.parent)}
    for name, content in left.items():
        (file.parent / name).write_bytes(content)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))

    with open_store(f"sqlite:///{file}", Access.READ, reporter):
        assert list(modes(temporary).values()) == ["0700"]
