"""Databases for one test each, on SQLite and on a real PostgreSQL server."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Engine, create_engine, event, make_url, text

from caliban.store.database import Access, Store, open_store
from tests.fakes import RecordingReporter

from .helpers import PEER_STORES, Statements

TABLES = ("container_specs", "experiment_groups", "experiments", "job_specs", "jobs")


def _required(variable: str) -> str:
    value = os.environ.get(variable, "")
    assert value, f"{variable} is not set: run make test"
    return value


@pytest.fixture
def reporter() -> Iterator[RecordingReporter]:
    """A reporter that gets no warnings and no progress from the store."""
    recording = RecordingReporter()
    yield recording
    assert (recording.warnings, recording.notes, recording.advanced) == ([], [], 0)


@pytest.fixture
def peer_executable() -> str:
    """The command ``caliban`` of version 0.4.2."""
    return _required("CALIBAN_TEST_PEER")


@pytest.fixture
def postgresql_url() -> Iterator[str]:
    """An empty database of a real server."""
    server = make_url(_required("CALIBAN_TEST_POSTGRESQL_URL"))
    name = f"caliban_test_{uuid4().hex}"
    admin = create_engine(server, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield server.set(database=name).render_as_string(hide_password=False)
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A store that does not exist yet."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'caliban.db'}"
    found: str = request.getfixturevalue("postgresql_url")
    return found


@pytest.fixture
def peer_url(url: str) -> str:
    """A store of caliban 0.4.2 with the rows of ``mixed.sqlite``."""
    if url.startswith("sqlite"):
        shutil.copy(PEER_STORES / "mixed.sqlite", url.removeprefix("sqlite:///"))
    else:
        _fill_postgresql(url)
    return url


def _fill_postgresql(url: str) -> None:
    engine = create_engine(url)
    with engine.begin() as connection, closing(sqlite3.connect(PEER_STORES / "mixed.sqlite")) as source:
        connection.exec_driver_sql((PEER_STORES / "postgresql.sql").read_text())
        source.row_factory = sqlite3.Row
        for table in TABLES:
            for row in source.execute(f"SELECT * FROM {table} ORDER BY id"):
                names = ", ".join(f'"{name}"' for name in row.keys())  # noqa: SIM118 - a Row iterates over values
                places = ", ".join(["%s"] * len(row))
                connection.exec_driver_sql(f"INSERT INTO {table} ({names}) VALUES ({places})", tuple(row))
            connection.exec_driver_sql(
                f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), (SELECT max(id) FROM {table}))"
            )
    engine.dispose()


@pytest.fixture
def store(url: str, reporter: RecordingReporter) -> Iterator[Store]:
    """A new store, open for writing."""
    with open_store(url, Access.WRITE, reporter) as opened:
        yield opened


@pytest.fixture
def peer_store(peer_url: str, reporter: RecordingReporter) -> Iterator[Store]:
    """The store of ``mixed.sqlite``, upgraded and open for writing."""
    with open_store(peer_url, Access.WRITE, reporter) as opened:
        yield opened


@pytest.fixture
def statements() -> Statements:
    """Collects the statements that any engine sends within a block, without BEGIN."""

    @contextmanager
    def counting() -> Iterator[list[str]]:
        sent: list[str] = []

        def record(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
            if not statement.startswith("BEGIN"):
                sent.append(statement)

        event.listen(Engine, "before_cursor_execute", record)
        try:
            yield sent
        finally:
            event.remove(Engine, "before_cursor_execute", record)

    return counting
