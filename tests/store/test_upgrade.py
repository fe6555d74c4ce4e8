from __future__ import annotations

import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, inspect, text

from caliban.errors import StoreError
from caliban.records import JobStatus, PlatformId
from caliban.store import upgrade as upgrading
from caliban.store.address import SqliteAddress, parse_address
from caliban.store.database import Access, open_store
from caliban.store.engines import begin_immediate, server_engine, sqlite_engine
from caliban.store.models import HEAD, REVISIONS, VERSION_TABLE, Base
from caliban.store.queries import group_attempts

from .helpers import PEER_STORES, HeardReporter

PEER_TABLES = {"container_specs", "experiment_groups", "experiments", "job_specs", "jobs"}
INSERT_JOB_SPEC = "INSERT INTO job_specs (created, spec, platform) VALUES ('2021-01-01 09:00:00', '{}', :platform)"


@contextmanager
def _migrating(url: str) -> Iterator[Connection]:
    """Give a connection in a transaction as an upgrade uses it."""
    address = parse_address(url)
    engine = (
        begin_immediate(sqlite_engine(address.path, writable=True, foreign_keys=False))
        if isinstance(address, SqliteAddress)
        else server_engine(address, writable=True)
    )
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


def _rows(url: str) -> dict[str, list[tuple[str, ...]]]:
    engine = create_engine(url)
    with engine.connect() as connection:
        found = {
            table: [tuple(map(str, row)) for row in connection.execute(text(f"SELECT * FROM {table} ORDER BY id"))]
            for table in sorted(PEER_TABLES)
        }
    engine.dispose()
    return found


def _shape(url: str) -> dict[str, list[str]]:
    """Give the columns of every table, with type and nullability."""
    engine = create_engine(url)
    tables = inspect(engine)
    found = {
        table: [f"{column['name']} {column['type']} {column['nullable']}" for column in tables.get_columns(table)]
        for table in tables.get_table_names()
        if table != VERSION_TABLE
    }
    engine.dispose()
    return found


def test_the_revisions_that_the_code_knows_are_those_of_alembic() -> None:
    scripts = ScriptDirectory.from_config(upgrading.alembic_config(None))  # type: ignore[arg-type] # asks no database
    assert tuple(script.revision for script in scripts.walk_revisions())[::-1] == REVISIONS


def test_the_models_describe_what_the_migrations_make(url: str, reporter: HeardReporter) -> None:
    open_store(url, Access.WRITE, reporter).close()
    with _migrating(url) as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        assert compare_metadata(context, Base.metadata) == []


def test_the_models_describe_an_upgraded_store_of_the_peer(peer_url: str, reporter: HeardReporter) -> None:
    open_store(peer_url, Access.WRITE, reporter).close()
    with _migrating(peer_url) as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        assert compare_metadata(context, Base.metadata) == []


def test_a_baseline_has_the_tables_of_the_peer_column_for_column(
    peer_url: str, tmp_path: Path, make_empty: Callable[[], str]
) -> None:
    empty = make_empty()
    with _migrating(empty) as connection:
        command.upgrade(upgrading.alembic_config(connection), "0001")
    assert _shape(empty) == _shape(peer_url)


@pytest.fixture
def make_empty(peer_url: str, tmp_path: Path) -> Callable[[], str]:
    """Makes an empty database of the same kind as ``peer_url``, which stays as it is."""

    def make() -> str:
        if peer_url.startswith("sqlite"):
            (tmp_path / "empty.db").touch()
            return f"sqlite:///{tmp_path}/empty.db"
        admin = create_engine(peer_url, isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            connection.execute(text("CREATE SCHEMA fresh"))
        admin.dispose()
        return f"{peer_url}?options=-csearch_path%3Dfresh"

    return make


def test_an_upgrade_keeps_every_row_of_the_peer(peer_url: str, reporter: HeardReporter) -> None:
    before = _rows(peer_url)
    open_store(peer_url, Access.WRITE, reporter).close()
    assert _rows(peer_url) == before


def test_going_down_gives_the_peer_its_store_back(peer_url: str, reporter: HeardReporter) -> None:
    rows, shape = _rows(peer_url), _shape(peer_url)
    open_store(peer_url, Access.WRITE, reporter).close()
    with _migrating(peer_url) as connection:
        command.downgrade(upgrading.alembic_config(connection), "base")
    assert (_rows(peer_url), _shape(peer_url)) == (rows, shape)


def test_what_went_down_goes_up_again(peer_url: str, reporter: HeardReporter) -> None:
    for _ in range(2):
        open_store(peer_url, Access.WRITE, reporter).close()
        with _migrating(peer_url) as connection:
            command.downgrade(upgrading.alembic_config(connection), "base")
    with open_store(peer_url, Access.WRITE, reporter) as store:
        assert store.has_journal


@pytest.mark.parametrize("platform", list(PlatformId))
def test_every_platform_can_be_recorded(peer_url: str, reporter: HeardReporter, platform: PlatformId) -> None:
    with open_store(peer_url, Access.WRITE, reporter) as store:
        with store.writing() as session:
            session.execute(text(INSERT_JOB_SPEC), {"platform": platform.value})
        with store.reading() as session:
            newest = session.scalar(text("SELECT CAST(platform AS VARCHAR) FROM job_specs ORDER BY id DESC LIMIT 1"))
    assert newest == platform.value


def test_a_platform_that_nobody_knows_is_refused(peer_url: str, reporter: HeardReporter) -> None:
    with (
        open_store(peer_url, Access.WRITE, reporter) as store,
        pytest.raises(StoreError),
        store.writing() as session,
    ):
        session.execute(text(INSERT_JOB_SPEC), {"platform": "MAINFRAME"})


def test_after_going_down_a_new_platform_is_refused(peer_url: str, reporter: HeardReporter) -> None:
    open_store(peer_url, Access.WRITE, reporter).close()
    with _migrating(peer_url) as connection:
        command.downgrade(upgrading.alembic_config(connection), "0001")
    with pytest.raises(Exception, match=r"CHECK constraint|invalid input value"), _migrating(peer_url) as connection:
        connection.execute(text(INSERT_JOB_SPEC), {"platform": "VERTEX"})


@pytest.mark.parametrize("name", sorted(file.name for file in PEER_STORES.glob("*.sqlite")))
def test_every_store_of_the_peer_opens(tmp_path: Path, reporter: HeardReporter, name: str) -> None:
    shutil.copy(PEER_STORES / name, tmp_path / "x.db")
    group = {"mixed.sqlite": "mixed", "walkthrough_caip.sqlite": "resubmit_test"}[name]
    with open_store(f"sqlite:///{tmp_path}/x.db", Access.READ, reporter) as store, store.reading() as session:
        as_it_is = group_attempts(session, parse_details, "totoro", group, per_experiment=None)
    with open_store(f"sqlite:///{tmp_path}/x.db", Access.WRITE, reporter) as store, store.reading() as session:
        upgraded = group_attempts(session, parse_details, "totoro", group, per_experiment=None)
    assert as_it_is is not None
    assert as_it_is == upgraded


@pytest.fixture
def peer_file(tmp_path: Path) -> Path:
    file = tmp_path / "caliban.db"
    shutil.copy(PEER_STORES / "mixed.sqlite", file)
    return file


def test_a_file_is_copied_beside_itself_as_it_was(peer_file: Path, reporter: HeardReporter) -> None:
    before = _rows(f"sqlite:///{peer_file}")
    open_store(f"sqlite:///{peer_file}", Access.WRITE, reporter).close()
    copy = peer_file.with_name(f"caliban.db.before-{HEAD}")
    assert (_rows(f"sqlite:///{copy}"), set(_shape(f"sqlite:///{copy}"))) == (before, PEER_TABLES)


def test_the_copy_is_private(peer_file: Path, reporter: HeardReporter) -> None:
    open_store(f"sqlite:///{peer_file}", Access.WRITE, reporter).close()
    assert stat.S_IMODE(peer_file.with_name(f"caliban.db.before-{HEAD}").stat().st_mode) == 0o600


def test_the_person_is_told_where_the_copy_is(peer_file: Path, reporter: HeardReporter) -> None:
    open_store(f"sqlite:///{peer_file}", Access.WRITE, reporter).close()
    assert [line.rpartition(" ")[2] for line in reporter.said] == [f"{peer_file}.before-{HEAD}"]


def test_an_earlier_copy_is_kept(peer_file: Path, reporter: HeardReporter) -> None:
    earlier = peer_file.with_name(f"caliban.db.before-{HEAD}")
    earlier.write_text("precious")
    open_store(f"sqlite:///{peer_file}", Access.WRITE, reporter).close()
    assert (earlier.read_text(), earlier.with_name(earlier.name + ".1").exists()) == ("precious", True)


def test_a_copy_that_cannot_be_made_stops_the_upgrade(
    peer_file: Path, reporter: HeardReporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(_file: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(upgrading, "_new_private_file", no_space)
    with pytest.raises(StoreError, match="could not be copied") as caught:
        open_store(f"sqlite:///{peer_file}", Access.WRITE, reporter)
    assert (caught.value.id, set(_shape(f"sqlite:///{peer_file}"))) == ("store-backup-failed", PEER_TABLES)


def _spoil(url: str) -> None:
    """Make the last step of the newest revision fail: its index exists already, on another table."""
    with _migrating(url) as connection:
        connection.execute(text("CREATE TABLE other (experiment_id INTEGER)"))
        connection.execute(text("CREATE INDEX ix_submissions_one_open ON other (experiment_id)"))


def test_an_upgrade_that_fails_leaves_the_store_as_it_was(peer_url: str, reporter: HeardReporter) -> None:
    _spoil(peer_url)
    rows, shape = _rows(peer_url), _shape(peer_url)
    with pytest.raises(StoreError, match="stays as it was") as caught:
        open_store(peer_url, Access.WRITE, reporter)
    assert caught.value.id == "store-upgrade-failed"
    assert (_rows(peer_url), _shape(peer_url)) == (rows, shape)


def test_an_upgrade_that_fails_leaves_no_copy(peer_file: Path, reporter: HeardReporter) -> None:
    _spoil(f"sqlite:///{peer_file}")
    with pytest.raises(StoreError):
        open_store(f"sqlite:///{peer_file}", Access.WRITE, reporter)
    assert ([file.name for file in peer_file.parent.iterdir()], reporter.said) == (["caliban.db"], [])


def test_a_store_that_another_holds_is_not_upgraded(
    peer_file: Path, reporter: HeardReporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("caliban.store.engines.BUSY_TIMEOUT", 0.1)
    with closing(sqlite3.connect(peer_file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError) as caught:
            open_store(f"sqlite:///{peer_file}", Access.WRITE, reporter)
    assert caught.value.id == "store-locked"


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
    said = sorted(line for process in both for line in process.communicate(timeout=60)[0].split())
    copies = 1 if peer_url.startswith("sqlite") else 0
    assert said == ["True", "True", *["copied"] * copies]


def test_an_experiment_with_no_state_is_unknown(peer_file: Path, reporter: HeardReporter) -> None:
    with closing(sqlite3.connect(peer_file)) as connection, connection:
        connection.execute("UPDATE jobs SET status = NULL, details = NULL WHERE id = 9")
    with open_store(f"sqlite:///{peer_file}", Access.READ, reporter) as store, store.reading() as session:
        view = group_attempts(session, parse_details, "mei", "mixed", per_experiment=1)
    assert view is not None
    latest = view.experiments[0].latest
    assert latest is not None
    assert (latest.status, latest.details) == (JobStatus.UNKNOWN, {})
