from __future__ import annotations

import os
import shutil
import socket
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Engine, event, make_url, text
from sqlalchemy.orm import Session

from caliban.errors import StoreError
from caliban.store.database import Access, Store, open_store
from caliban.store.models import HEAD, VERSION_TABLE
from caliban.store.queries import find_group, group_attempts, group_names, recent_attempts
from tests.fakes import RecordingReporter

from .helpers import PEER_STORES, Statements, add_experiments, keep_raw, read_group

NOBODY = 65534


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _names_in(directory: Path) -> list[str]:
    return [file.name for file in directory.iterdir()]


@pytest.fixture
def peer_file(tmp_path: Path) -> Path:
    file = tmp_path / "caliban.db"
    shutil.copy(PEER_STORES / "mixed.sqlite", file)
    return file


@contextmanager
def _as_an_ordinary_user() -> Iterator[Path]:
    """Yield an empty directory of a user whose permissions are checked, as those of root are not."""
    with tempfile.TemporaryDirectory() as directory:
        if os.geteuid() == 0:
            os.chown(directory, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, 0)
        try:
            yield Path(directory)
        finally:
            os.setresuid(*[os.getresuid()[2]] * 3)


def test_a_missing_store_is_read_as_an_empty_one(url: str, reporter: RecordingReporter) -> None:
    with open_store(url, Access.READ, reporter) as store, store.reading() as session:
        answers = (
            group_names(session, "mei"),
            find_group(session, "mei", "mixed"),
            group_attempts(session, keep_raw, "mei", "mixed", per_experiment=1),
            recent_attempts(session, keep_raw, "mei", 8),
        )
    assert (store.exists, store.has_journal, answers) == (False, False, ([], None, None, []))


def test_reading_a_missing_file_creates_none(tmp_path: Path, reporter: RecordingReporter) -> None:
    open_store(f"sqlite:///{tmp_path}/.caliban/caliban.db", Access.READ, reporter).close()
    assert list(tmp_path.iterdir()) == []


def test_an_empty_file_is_read_as_an_empty_store(tmp_path: Path, reporter: RecordingReporter) -> None:
    (tmp_path / "x.db").touch()
    with open_store(f"sqlite:///{tmp_path}/x.db", Access.READ, reporter) as store:
        assert not store.exists


def test_a_new_default_directory_is_private(tmp_path: Path, reporter: RecordingReporter) -> None:
    open_store(f"sqlite:///{tmp_path}/.caliban/caliban.db", Access.WRITE, reporter).close()
    assert _mode(tmp_path / ".caliban") == 0o700


def test_a_new_file_is_private(tmp_path: Path, reporter: RecordingReporter) -> None:
    open_store(f"sqlite:///{tmp_path}/caliban.db", Access.WRITE, reporter).close()
    assert _mode(tmp_path / "caliban.db") == 0o600


def test_a_new_store_is_not_copied(tmp_path: Path, reporter: RecordingReporter) -> None:
    open_store(f"sqlite:///{tmp_path}/caliban.db", Access.WRITE, reporter).close()
    assert (_names_in(tmp_path), reporter.lines) == (["caliban.db"], [])


def test_a_new_store_exists_and_has_a_journal(store: Store) -> None:
    assert (store.exists, store.has_journal) == (True, True)


def test_a_store_that_was_never_upgraded_has_no_journal(peer_url: str, reporter: RecordingReporter) -> None:
    with open_store(peer_url, Access.READ, reporter) as store:
        assert (store.exists, store.has_journal) == (True, False)


def test_reading_a_store_changes_no_byte(peer_file: Path, reporter: RecordingReporter) -> None:
    before = peer_file.read_bytes()
    with open_store(f"sqlite:///{peer_file}", Access.READ, reporter) as store:
        read_group(store, "mei", "mixed")
    assert (peer_file.read_bytes(), _names_in(peer_file.parent)) == (before, ["caliban.db"])


def test_a_store_opened_for_reading_refuses_to_write(peer_url: str, reporter: RecordingReporter) -> None:
    with open_store(peer_url, Access.READ, reporter) as store, pytest.raises(StoreError) as caught, store.writing():
        pass
    assert caught.value.id == "store-opened-for-reading"


def test_the_database_refuses_writes_of_a_reader_too(peer_url: str, reporter: RecordingReporter) -> None:
    with (
        open_store(peer_url, Access.READ, reporter) as store,
        pytest.raises(StoreError) as caught,
        store.reading() as session,
    ):
        session.execute(text("DELETE FROM jobs"))
    assert caught.value.id == "store-read-only"


def test_a_read_only_file_in_a_read_only_directory_is_read(reporter: RecordingReporter) -> None:
    content = (PEER_STORES / "mixed.sqlite").read_bytes()
    with _as_an_ordinary_user() as directory:
        file = directory / "caliban.db"
        file.write_bytes(content)
        file.chmod(0o400)
        directory.chmod(0o500)
        with open_store(f"sqlite:///{file}", Access.READ, reporter) as store, store.reading() as session:
            assert group_names(session, "mei") == ["mixed"]


@pytest.mark.parametrize(("file_mode", "directory_mode"), [(0o400, 0o700), (0o600, 0o500)])
def test_a_store_that_cannot_be_written_is_reported_on_opening(
    reporter: RecordingReporter, file_mode: int, directory_mode: int
) -> None:
    with _as_an_ordinary_user() as directory:
        file = directory / "caliban.db"
        open_store(f"sqlite:///{file}", Access.WRITE, reporter).close()
        file.chmod(file_mode)
        directory.chmod(directory_mode)
        with pytest.raises(StoreError) as caught:
            open_store(f"sqlite:///{file}", Access.WRITE, reporter)
    assert caught.value.id == "store-no-permission"


def test_a_directory_without_search_permission_is_reported(reporter: RecordingReporter) -> None:
    with _as_an_ordinary_user() as directory:
        (directory / "a").mkdir()
        (directory / "a").chmod(0)
        with pytest.raises(StoreError) as caught:
            open_store(f"sqlite:///{directory}/a/caliban.db", Access.READ, reporter)
    assert caught.value.id == "store-no-permission"


def test_a_parent_directory_without_search_permission_is_reported(reporter: RecordingReporter) -> None:
    with _as_an_ordinary_user() as directory:
        (directory / "a").mkdir()
        (directory / "a").chmod(0)
        with pytest.raises(StoreError) as caught:
            open_store(f"sqlite:///{directory}/a/b/caliban.db", Access.READ, reporter)
    assert caught.value.id == "store-no-permission"


@pytest.fixture
def interrupted_file(peer_file: Path) -> Path:
    """A store whose writer died during a commit: some pages are changed, and a journal can undo that."""
    with closing(sqlite3.connect(peer_file, isolation_level=None)) as writer:
        writer.execute("CREATE TABLE ballast (text)")
        writer.executemany("INSERT INTO ballast VALUES (?)", [("x" * 3000,)] * 50)
        writer.execute("PRAGMA cache_size = 2")
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("UPDATE jobs SET status = 'RUNNING'")
        writer.execute("UPDATE ballast SET text = 'y' || text")
        file = peer_file.with_name("interrupted.db")
        shutil.copy(peer_file, file)
        shutil.copy(f"{peer_file}-journal", f"{file}-journal")
        writer.execute("ROLLBACK")
    peer_file.unlink()
    return file


def test_an_interrupted_write_is_not_read(interrupted_file: Path, reporter: RecordingReporter) -> None:
    with open_store(f"sqlite:///{interrupted_file}", Access.READ, reporter) as store:
        group = read_group(store, "mei", "mixed")
    assert [str(experiment.latest.status) for experiment in group.experiments if experiment.latest] == ["FAILED"]


def test_reading_does_not_undo_an_interrupted_write(interrupted_file: Path, reporter: RecordingReporter) -> None:
    journal = Path(f"{interrupted_file}-journal")
    before = (interrupted_file.read_bytes(), journal.read_bytes())
    open_store(f"sqlite:///{interrupted_file}", Access.READ, reporter).close()
    assert (interrupted_file.read_bytes(), journal.read_bytes()) == before


def test_the_private_copy_of_an_interrupted_store_is_deleted_on_closing(
    interrupted_file: Path, reporter: RecordingReporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    store = open_store(f"sqlite:///{interrupted_file}", Access.READ, reporter)
    during = len(list((tmp_path / "temporary").iterdir()))
    store.close()
    assert (during, list((tmp_path / "temporary").iterdir())) == (1, [])


def test_an_interrupted_write_is_undone_by_the_next_writer(interrupted_file: Path, reporter: RecordingReporter) -> None:
    open_store(f"sqlite:///{interrupted_file}", Access.WRITE, reporter).close()
    with closing(sqlite3.connect(interrupted_file)) as connection:
        assert connection.execute("SELECT status FROM jobs WHERE user = 'mei'").fetchall() == [("FAILED",)]


def test_opening_a_store_at_head_takes_one_statement(store: Store, store_url: str, reporter: RecordingReporter) -> None:
    store.close()
    with _statements_of_caliban() as sent:
        open_store(store_url, Access.WRITE, reporter).close()
    assert sent == [f"SELECT version_num FROM {VERSION_TABLE}"]


@contextmanager
def _statements_of_caliban() -> Iterator[list[str]]:
    sent: list[str] = []

    def record(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        # SQLAlchemy queries version and settings of a PostgreSQL server once per engine
        if not statement.startswith(("BEGIN", "select pg_catalog", "show ")):
            sent.append(statement)

    event.listen(Engine, "before_cursor_execute", record)
    yield sent
    event.remove(Engine, "before_cursor_execute", record)


@pytest.mark.parametrize("access", ["READ", "WRITE"])
def test_a_store_at_head_is_opened_without_alembic(store: Store, store_url: str, access: str) -> None:
    store.close()
    program = (
        "import sys; from caliban.store.database import *; from caliban.store import journal, queries\n"
        f"open_store({store_url!r}, Access.{access}, None).close()\n"
        "print(sorted({'alembic', 'docker', 'google', 'tqdm'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_newer_store_is_refused(store: Store, store_url: str, reporter: RecordingReporter) -> None:
    with store.writing() as session:
        session.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
    store.close()
    for access in Access:
        with pytest.raises(StoreError, match="newer version of caliban") as caught:
            open_store(store_url, access, reporter)
        assert caught.value.id == "store-newer"


@pytest.mark.parametrize(("directory", "variable"), [("gone", "CALIBAN_DB_URL"), ("gone/.caliban", "HOME")])
def test_a_missing_directory_is_reported(
    directory: str, variable: str, tmp_path: Path, reporter: RecordingReporter
) -> None:
    with pytest.raises(StoreError, match=f"directory not found: {tmp_path}/gone$") as caught:
        open_store(f"sqlite:///{tmp_path}/{directory}/caliban.db", Access.READ, reporter)
    assert (caught.value.id, caught.value.hint) == ("store-folder-missing", f"create it, or correct {variable}")


@pytest.mark.parametrize("access", list(Access))
def test_a_file_that_is_not_a_database_is_reported(tmp_path: Path, reporter: RecordingReporter, access: Access) -> None:
    (tmp_path / "x.db").write_text("this is a shopping list" * 100)
    with pytest.raises(StoreError) as caught:
        open_store(f"sqlite:///{tmp_path}/x.db", access, reporter)
    assert caught.value.id == "store-not-a-database"


@pytest.mark.parametrize("access", list(Access))
def test_a_directory_in_place_of_a_file_is_reported(
    tmp_path: Path, reporter: RecordingReporter, access: Access
) -> None:
    with pytest.raises(StoreError) as caught:
        open_store(f"sqlite:///{tmp_path}", access, reporter)
    assert caught.value.id == "store-no-permission"


def test_an_unreachable_server_is_reported(reporter: RecordingReporter) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        with pytest.raises(StoreError) as caught:
            open_store(f"postgresql://mei:hunter2@127.0.0.1:{port}/lab", Access.READ, reporter)
    assert caught.value.id == "store-unreachable"


def test_a_rejected_login_is_reported(postgresql_url: str, reporter: RecordingReporter) -> None:
    stranger = make_url(postgresql_url).set(username="stranger", password="hunter2")
    with pytest.raises(StoreError) as caught:
        open_store(stranger.render_as_string(hide_password=False), Access.READ, reporter)
    assert caught.value.id == "store-login-refused"
    assert "hunter2" not in f"{caught.value.message} {caught.value.cause} {caught.value.hint}"


def test_a_missing_database_is_reported(postgresql_url: str, reporter: RecordingReporter) -> None:
    missing = make_url(postgresql_url).set(database="no_such_lab")
    with pytest.raises(StoreError) as caught:
        open_store(missing.render_as_string(), Access.WRITE, reporter)
    assert caught.value.id == "store-database-missing"


def _delete_revision_and_fail(session: Session) -> None:
    session.execute(text(f"DELETE FROM {VERSION_TABLE}"))
    session.execute(text("DELETE FROM no_such_table"))


def test_a_block_that_raises_is_rolled_back(store: Store) -> None:
    with pytest.raises(StoreError), store.writing() as session:
        _delete_revision_and_fail(session)
    with store.reading() as session:
        assert session.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}")) == HEAD


def test_foreign_keys_are_enforced(store: Store) -> None:
    with pytest.raises(StoreError) as caught, store.writing() as session:
        session.execute(
            text("INSERT INTO experiments (created, xgroup_id) VALUES ('2021-01-01 09:00:00.000000', 4711)")
        )
    assert caught.value.id == "store-failed"


def test_malformed_json_is_reported(peer_file: Path, reporter: RecordingReporter) -> None:
    with closing(sqlite3.connect(peer_file)) as connection, connection:
        connection.execute("UPDATE job_specs SET spec = '{' WHERE id = 9")
    with open_store(f"sqlite:///{peer_file}", Access.READ, reporter) as store, pytest.raises(StoreError) as caught:
        read_group(store, "mei", "mixed")
    assert caught.value.id == "store-malformed-json"


def test_a_corrupt_file_is_reported(tmp_path: Path, reporter: RecordingReporter) -> None:
    file = tmp_path / "x.db"
    with open_store(f"sqlite:///{file}", Access.WRITE, reporter) as store:
        add_experiments(store, "mei", "mixed", 300)
    content = bytearray(file.read_bytes())
    content[8192:] = b"\xff" * (len(content) - 8192)
    file.write_bytes(content)
    with (
        pytest.raises(StoreError) as caught,
        open_store(f"sqlite:///{file}", Access.READ, reporter) as store,
    ):
        read_group(store, "mei", "mixed")
    assert caught.value.id == "store-corrupt"


@pytest.mark.slow
def test_two_writers_of_one_file_wait_for_each_other(tmp_path: Path, reporter: RecordingReporter) -> None:
    url = f"sqlite:///{tmp_path}/caliban.db"
    program = (
        "import sys; from caliban.records import JobDetails; from caliban.store.database import *\n"
        "from caliban.store.queries import *\n"
        f"with open_store({url!r}, Access.WRITE, None) as store:\n"
        "    for number in range(40):\n"
        "        with store.writing() as session:\n"
        "            experiments_of_flag_sets(session, JobDetails, user='mei', group='g', container_spec={},\n"
        "                flag_sets=[((sys.argv[1],), {'n': number})])\n"
    )
    open_store(url, Access.WRITE, reporter).close()
    writers = [subprocess.Popen([sys.executable, "-c", program, name]) for name in ("a", "b")]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    with open_store(url, Access.READ, reporter) as store:
        assert len(read_group(store, "mei", "g").experiments) == 80


def test_a_timeout_of_a_waiting_writer_is_reported(
    tmp_path: Path, reporter: RecordingReporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("caliban.store.engines.BUSY_TIMEOUT", 0.1)
    file = tmp_path / "caliban.db"
    with (
        open_store(f"sqlite:///{file}", Access.WRITE, reporter) as store,
        closing(sqlite3.connect(file, isolation_level=None)) as other,
    ):
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError) as caught, store.writing() as session:
            session.execute(text("SELECT 1"))
    assert caught.value.id == "store-locked"


def test_a_full_disk_is_reported(tmp_path: Path, reporter: RecordingReporter) -> None:
    with open_store(f"sqlite:///{tmp_path}/caliban.db", Access.WRITE, reporter) as store:
        with store.writing() as session:
            pages = session.scalar(text("PRAGMA page_count"))
            session.execute(text(f"PRAGMA max_page_count = {pages}"))
        with pytest.raises(StoreError) as caught, store.writing() as session:
            session.execute(text("CREATE TABLE more AS SELECT zeroblob(1000000)"))
        assert caught.value.id == "store-full"


def test_statements_are_counted(store: Store, statements: Statements) -> None:
    with statements() as sent, store.reading() as session:
        session.execute(text("SELECT 1"))
    assert sent == ["SELECT 1"]
