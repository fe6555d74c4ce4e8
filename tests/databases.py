"""Stores of one test's own, cloned from templates that are filled once per test process."""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TypeAlias
from uuid import uuid4

import pytest
from sqlalchemy import Engine, create_engine, event, make_url, text

from caliban.store.database import Access, open_store
from tests.environment import required_variable
from tests.fakes import RecordingReporter

Fill: TypeAlias = Callable[[str], None]
"""Is passed the URL of an empty store, and puts something into it."""


def nothing(url: str) -> None:
    """Leave the store as it is: one that does not exist yet."""


def empty_store(url: str) -> None:
    """Create the tables of this version."""
    open_store(url, Access.WRITE, RecordingReporter()).close()


@contextmanager
def sent_statements() -> Iterator[list[str]]:
    """Collect the statements that any engine sends within the block, without BEGIN."""
    sent: list[str] = []

    def record(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        if not statement.startswith("BEGIN"):
            sent.append(statement)

    event.listen(Engine, "before_cursor_execute", record)
    try:
        yield sent
    finally:
        event.remove(Engine, "before_cursor_execute", record)


class Databases(ABC):
    """Creates databases of one kind, and removes them when it is closed."""

    @abstractmethod
    def database(self, fill: Fill = nothing) -> AbstractContextManager[str]:
        """Yield the URL of a new database with the content that ``fill`` makes; each ``fill`` is called once."""

    @abstractmethod
    def close(self) -> None:
        """Remove the templates."""


class SqliteFiles(Databases):
    """SQLite files in one directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._templates: dict[Fill, Path] = {}

    @contextmanager
    def database(self, fill: Fill = nothing) -> Iterator[str]:
        file = self._new()
        self.copy(fill, file)
        yield f"sqlite:///{file}"

    def copy(self, fill: Fill, file: Path) -> None:
        """Make ``file`` a store with the content that ``fill`` makes."""
        if fill not in self._templates:
            template = self._new()
            fill(f"sqlite:///{template}")
            self._templates[fill] = template
        if self._templates[fill].exists():
            shutil.copy(self._templates[fill], file)

    def close(self) -> None:
        shutil.rmtree(self._directory)

    def _new(self) -> Path:
        directory = self._directory / uuid4().hex
        directory.mkdir()
        return directory / "caliban.db"


class PostgresqlServer(Databases):
    """Databases of a PostgreSQL server.

    Args:
        url: of any of its databases, with the right to create others.
    """

    def __init__(self, url: str) -> None:
        self._url = make_url(url)
        self._admin = create_engine(self._url, isolation_level="AUTOCOMMIT")
        self._templates: dict[Fill, str] = {nothing: "template1"}

    @contextmanager
    def database(self, fill: Fill = nothing) -> Iterator[str]:
        if fill not in self._templates:
            template = self._create("template1")
            fill(self._url_of(template))
            self._templates[fill] = template
        name = self._create(self._templates[fill])
        yield self._url_of(name)
        self._drop(name)

    def close(self) -> None:
        for fill, name in self._templates.items():
            if fill is not nothing:
                self._drop(name)
        self._admin.dispose()

    def _create(self, template: str) -> str:
        name = f"caliban_test_{uuid4().hex}"
        self._execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def _drop(self, name: str) -> None:
        self._execute(f"DROP DATABASE {name} WITH (FORCE)")

    def _execute(self, statement: str) -> None:
        with self._admin.connect() as connection:
            connection.execute(text(statement))

    def _url_of(self, name: str) -> str:
        return self._url.set(database=name).render_as_string(hide_password=False)


@pytest.fixture(scope="session")
def sqlite_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqliteFiles]:
    files = SqliteFiles(tmp_path_factory.mktemp("stores"))
    yield files
    files.close()


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[PostgresqlServer]:
    server = PostgresqlServer(required_variable("CALIBAN_TEST_POSTGRESQL_URL"))
    yield server
    server.close()


@pytest.fixture
def postgresql_url(postgresql_server: PostgresqlServer) -> Iterator[str]:
    """An empty database."""
    with postgresql_server.database() as url:
        yield url
