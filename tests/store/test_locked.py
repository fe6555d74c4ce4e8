"""A store that another process keeps locked: it is waited for, with a word, and Ctrl-C works meanwhile."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import text

from caliban.errors import StoreError
from caliban.store import engines
from caliban.store.database import Access, Store, open_store
from caliban.store.group_stop import newest_batch
from tests.databases import Fill, SqliteFiles, nothing
from tests.fakes import RecordingReporter

from .helpers import WhenReported, add_experiments, peer_history, read_group

REPORT = "the experiment store {} is locked by another process; waiting for up to 5 minutes ..."
WRITE, READ = "BEGIN IMMEDIATE", "BEGIN"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "caliban.db"


@pytest.fixture
def store(file: Path, reporter: RecordingReporter) -> Iterator[Store]:
    with open_store(f"sqlite:///{file}", Access.WRITE, reporter) as opened:
        add_experiments(opened, "mei", "g", 1)
        yield opened


@contextmanager
def locked(file: Path, begin: str) -> Iterator[sqlite3.Connection]:
    """Keep the store locked, as caliban 0.4.2 does while it asks services: by a transaction that reads or writes."""
    with closing(sqlite3.connect(file, isolation_level=None, check_same_thread=False)) as other:
        other.execute(begin)
        other.execute("SELECT count(*) FROM jobs").fetchall()
        yield other


@pytest.mark.parametrize("begin", [READ, WRITE], ids=["reader", "writer"])
def test_a_writer_waits_until_the_lock_is_released_and_says_so_once(
    store: Store,
    file: Path,
    reporter: RecordingReporter,
    quick: WhenReported,
    begin: str,
) -> None:
    store._engine.dispose()
    with locked(file, begin) as other:
        quick(lambda: other.execute("COMMIT"))
        add_experiments(store, "mei", "g", 3)
    assert reporter.lines == [REPORT.format(file)]
    assert len(read_group(store, "mei", "g").experiments) == 3


def test_a_reader_waits_for_a_writer_that_commits(
    store: Store, file: Path, reporter: RecordingReporter, quick: WhenReported
) -> None:
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        quick(lambda: other.execute("COMMIT"))
        with open_store(f"sqlite:///{file}", Access.READ, reporter) as reading:
            assert len(read_group(reading, "mei", "g").experiments) == 1
    assert reporter.lines == [REPORT.format(file)]


@pytest.mark.parametrize("fill", [nothing, peer_history])
def test_tables_that_an_upgrade_made_are_waited_for_and_not_missing(
    file: Path, reporter: RecordingReporter, quick: WhenReported, sqlite_files: SqliteFiles, fill: Fill
) -> None:
    sqlite_files.copy(fill, file)
    with (
        open_store(f"sqlite:///{file}", Access.WRITE, reporter) as store,
        closing(sqlite3.connect(file, isolation_level=None, check_same_thread=False)) as other,
    ):
        other.execute("BEGIN EXCLUSIVE")
        quick(lambda: other.execute("COMMIT"))
        with store.reading() as session:
            newest = newest_batch(session)
    assert (newest, reporter.lines[-1]) == (0, REPORT.format(file))


def test_nothing_is_said_about_a_short_wait(store: Store, file: Path, reporter: RecordingReporter) -> None:
    with locked(file, WRITE) as other:
        timer = threading.Timer(0.1, lambda: other.execute("COMMIT"))
        timer.start()
        add_experiments(store, "mei", "g", 2)
        timer.join()
    assert reporter.lines == []


def test_after_minutes_it_is_an_error_and_nothing_is_written(
    store: Store, file: Path, monkeypatch: pytest.MonkeyPatch, quick: object
) -> None:
    store._engine.dispose()
    monkeypatch.setattr(engines, "BUSY_TIMEOUT", 0.1)
    with locked(file, READ), pytest.raises(StoreError) as caught:
        add_experiments(store, "mei", "g", 3)
    assert caught.value.id == "store-locked"
    assert len(read_group(store, "mei", "g").experiments) == 1


def test_a_store_is_waited_for_longer_than_the_peer_was_seen_to_lock_it() -> None:
    assert engines.BUSY_TIMEOUT > 3 * 34


def test_a_statement_that_ended_its_transaction_is_not_repeated(store: Store, file: Path) -> None:
    connection = sqlite3.connect(file, isolation_level=None, factory=engines._Connection)
    connection.report = lambda: None
    calls = []

    def fail() -> None:
        calls.append(1)
        connection.rollback()
        raise sqlite3.OperationalError("database is locked")

    with closing(connection):
        connection.execute("BEGIN IMMEDIATE")
        with pytest.raises(sqlite3.OperationalError):
            connection.patiently(fail)
    assert calls == [1]


@pytest.mark.slow
def test_ctrl_c_ends_the_wait(store: Store, file: Path) -> None:
    program = (
        "import sys; from caliban.store.database import *; from sqlalchemy import text\n"
        "class Reporter:\n"
        "    def info(self, line): print(line, flush=True)\n"
        "import caliban.store.engines as engines; engines._REPORT_AFTER = 0.25\n"
        f"with open_store('sqlite:///{file}', Access.WRITE, Reporter()) as store, store.writing() as session:\n"
        "    session.execute(text('SELECT 1'))\n"
    )
    with locked(file, WRITE):
        waiting = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert waiting.stdout is not None
        assert b"is locked by another process" in waiting.stdout.readline()
        waiting.send_signal(signal.SIGINT)
        _, stderr = waiting.communicate(timeout=30)
    assert b"KeyboardInterrupt" in stderr


KILLED = """
import os, signal, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA cache_size = 5")
connection.execute("BEGIN IMMEDIATE")
for number in range(2000):
    connection.execute(
        "INSERT INTO experiment_groups (name, created, user) VALUES (?, '2020-05-29 10:53:40', 'mei')", ("x" * 200,)
    )
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(params=["a link to the file", "a link to a link", "a link to the directory", "a relative link"])
def link(request: pytest.FixtureRequest, file: Path, tmp_path: Path) -> Path:
    """Another path of the store."""
    home = tmp_path / "home"
    home.mkdir()
    link = home / "store.db"
    if request.param == "a link to a link":
        (home / "first.db").symlink_to(file)
        link.symlink_to("first.db")
    elif request.param == "a link to the directory":
        (home / "data").symlink_to(tmp_path)
        return home / "data" / file.name
    elif request.param == "a relative link":
        link.symlink_to(Path("..") / file.name)
    else:
        link.symlink_to(file)
    return link


@pytest.mark.parametrize("access", list(Access))
def test_a_linked_store_can_be_used_after_a_crash_inside_a_transaction(
    store: Store, file: Path, link: Path, reporter: RecordingReporter, access: Access
) -> None:
    store.close()
    subprocess.run([sys.executable, "-c", KILLED, str(link)], check=False)
    assert file.with_name("caliban.db-journal").exists(), "the crash left no open transaction"
    with open_store(f"sqlite:///{link}", access, reporter) as opened, opened.reading() as session:
        assert session.scalar(text("SELECT count(*) FROM experiment_groups")) == 1


def test_a_link_to_nothing_becomes_a_store(tmp_path: Path, reporter: RecordingReporter) -> None:
    link, file = tmp_path / "link.db", tmp_path / "real.db"
    link.symlink_to(file)
    open_store(f"sqlite:///{link}", Access.WRITE, reporter).close()
    assert link.is_symlink()
    assert file.stat().st_size > 0


def test_a_loop_of_links_is_reported(tmp_path: Path, reporter: RecordingReporter) -> None:
    (tmp_path / "a.db").symlink_to("b.db")
    (tmp_path / "b.db").symlink_to("a.db")
    for access in Access:
        with pytest.raises(StoreError) as caught:
            open_store(f"sqlite:///{tmp_path}/a.db", access, reporter)
        assert caught.value.id == "store-no-permission"
