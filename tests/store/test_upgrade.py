"""Upgrading a store when it is opened: backups, failures, concurrency."""

from __future__ import annotations

import shutil
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text

from caliban.errors import StoreError
from caliban.records import JobStatus
from caliban.store import upgrade as upgrading
from caliban.store.database import Access, open_store
from caliban.store.models import HEAD
from tests.fakes import RecordingReporter

from .helpers import PEER_STORES, PEER_TABLES, migrate_up, migrating, read_group, rows, shape


@pytest.mark.parametrize("name", sorted(file.name for file in PEER_STORES.glob("*.sqlite")))
def test_every_store_of_the_peer_reads_the_same_before_and_after_an_upgrade(
    tmp_path: Path, reporter: RecordingReporter, name: str
) -> None:
    shutil.copy(PEER_STORES / name, tmp_path / "x.db")
    group = {"mixed.sqlite": "mixed", "walkthrough_caip.sqlite": "resubmit_test"}[name]
    with open_store(f"sqlite:///{tmp_path}/x.db", Access.READ, reporter) as store:
        as_it_is = read_group(store, "totoro", group, None)
    with open_store(f"sqlite:///{tmp_path}/x.db", Access.WRITE, reporter) as store:
        assert read_group(store, "totoro", group, None) == as_it_is


@pytest.fixture
def peer_file(tmp_path: Path) -> Path:
    file = tmp_path / "caliban.db"
    shutil.copy(PEER_STORES / "mixed.sqlite", file)
    return file


def test_a_file_is_backed_up_before_an_upgrade(peer_file: Path, reporter: RecordingReporter) -> None:
    before = rows(f"sqlite:///{peer_file}")
    open_store(f"sqlite:///{peer_file}", Access.WRITE, reporter).close()
    copy = peer_file.with_name(f"caliban.db.before-{HEAD}")
    assert (rows(f"sqlite:///{copy}"), set(shape(f"sqlite:///{copy}"))) == (before, set(PEER_TABLES))


def test_a_file_of_revision_0002_is_backed_up_too(peer_file: Path, reporter: RecordingReporter) -> None:
    migrate_up(f"sqlite:///{peer_file}", "0002")
    before = rows(f"sqlite:///{peer_file}")
    open_store(f"sqlite:///{peer_file}", Access.WRITE, reporter).close()
    assert rows(f"sqlite:///{peer_file}.before-{HEAD}") == before


def test_the_backup_is_private(peer_file: Path, reporter: RecordingReporter) -> None:
    open_store(f"sqlite:///{peer_file}", Access.WRITE, reporter).close()
    assert stat.S_IMODE(peer_file.with_name(f"caliban.db.before-{HEAD}").stat().st_mode) == 0o600


def test_the_path_of_the_backup_is_reported(peer_file: Path, reporter: RecordingReporter) -> None:
    open_store(f"sqlite:///{peer_file}", Access.WRITE, reporter).close()
    assert [line.rpartition(" ")[2] for line in reporter.lines] == [f"{peer_file}.before-{HEAD}"]


def test_an_earlier_backup_is_kept(peer_file: Path, reporter: RecordingReporter) -> None:
    earlier = peer_file.with_name(f"caliban.db.before-{HEAD}")
    earlier.write_text("precious")
    open_store(f"sqlite:///{peer_file}", Access.WRITE, reporter).close()
    assert (earlier.read_text(), earlier.with_name(earlier.name + ".1").exists()) == ("precious", True)


def test_a_failed_backup_prevents_the_upgrade(
    peer_file: Path, reporter: RecordingReporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(_path: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(upgrading, "_new_private_file", no_space)
    with pytest.raises(StoreError, match="could not be backed up") as caught:
        open_store(f"sqlite:///{peer_file}", Access.WRITE, reporter)
    assert (caught.value.id, set(shape(f"sqlite:///{peer_file}"))) == ("store-backup-failed", set(PEER_TABLES))


def _spoil(url: str) -> None:
    """Make the last step of revision 0002 fail: its index exists, on another table."""
    with migrating(url) as connection:
        connection.execute(text("CREATE TABLE other (experiment_id INTEGER)"))
        connection.execute(text("CREATE INDEX ix_submissions_one_open ON other (experiment_id)"))


def test_a_failed_upgrade_leaves_the_store_unchanged(peer_url: str, reporter: RecordingReporter) -> None:
    _spoil(peer_url)
    before = (rows(peer_url), shape(peer_url))
    with pytest.raises(StoreError, match="it is unchanged") as caught:
        open_store(peer_url, Access.WRITE, reporter)
    assert caught.value.id == "store-upgrade-failed"
    assert (rows(peer_url), shape(peer_url)) == before


def test_a_failed_upgrade_leaves_no_backup(peer_file: Path, reporter: RecordingReporter) -> None:
    _spoil(f"sqlite:///{peer_file}")
    with pytest.raises(StoreError):
        open_store(f"sqlite:///{peer_file}", Access.WRITE, reporter)
    assert ([file.name for file in peer_file.parent.iterdir()], reporter.lines) == (["caliban.db"], [])


def test_a_locked_store_is_not_upgraded(
    peer_file: Path, reporter: RecordingReporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("caliban.store.engines.BUSY_TIMEOUT", 0.1)
    with closing(sqlite3.connect(peer_file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError) as caught:
            open_store(f"sqlite:///{peer_file}", Access.WRITE, reporter)
    assert caught.value.id == "store-locked"


@pytest.mark.slow
def test_of_two_processes_one_upgrades_and_the_other_waits(peer_url: str) -> None:
    program = (
        "import sys; from caliban.store.database import *\n"
        "class Reporter:\n"
        "    def info(self, line): print('copied')\n"
        "sys.stdin.readline()\n"
        f"store = open_store({peer_url!r}, Access.WRITE, Reporter()); print(store.has_journal)\n"
    )
    command_line = [sys.executable, "-c", program]
    both = [subprocess.Popen(command_line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    output = sorted(line for process in both for line in process.communicate(timeout=60)[0].split())
    copies = 1 if peer_url.startswith("sqlite") else 0
    assert output == ["True", "True", *["copied"] * copies]


def test_a_job_without_a_state_is_unknown(peer_file: Path, reporter: RecordingReporter) -> None:
    with closing(sqlite3.connect(peer_file)) as connection, connection:
        connection.execute("UPDATE jobs SET status = NULL, details = NULL WHERE id = 9")
    with open_store(f"sqlite:///{peer_file}", Access.READ, reporter) as store:
        latest = read_group(store, "mei", "mixed").experiments[0].latest
    assert latest is not None
    assert (latest.status, latest.details.raw) == (JobStatus.UNKNOWN, {})
