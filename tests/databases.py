"""Stores of one test's own, cloned from templates that are filled once per test process."""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import TypeAlias
from uuid import uuid4

import pytest
from sqlalchemy import Connection, Engine, NullPool, create_engine, event, make_url, text
from sqlalchemy.exc import DBAPIError

from caliban.store.database import Access, open_store
from caliban.store.models import VERSION_TABLE
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


_TABLES = f"SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> '{VERSION_TABLE}'"
_SCHEMA = f"""
SELECT relname, relkind, relacl::text, attname, atttypid, atttypmod, attnotnull, pg_get_expr(adbin, adrelid), revision
FROM pg_class
JOIN pg_namespace n ON n.oid = relnamespace AND nspname = 'public'
LEFT JOIN pg_attribute a ON attrelid = pg_class.oid AND attnum > 0
LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
CROSS JOIN (SELECT string_agg(version_num, ' ') AS revision FROM {VERSION_TABLE}) v
UNION ALL SELECT conname, 'C', NULL, pg_get_constraintdef(oid), NULL, NULL, convalidated, NULL, NULL FROM pg_constraint
UNION ALL SELECT tgname, 'T', NULL, NULL, NULL, NULL, NULL, NULL, NULL FROM pg_trigger WHERE NOT tgisinternal
UNION ALL SELECT proname, 'P', NULL, NULL, NULL, NULL, NULL, NULL, NULL FROM pg_proc
WHERE pronamespace = 'public'::regnamespace
UNION ALL SELECT 'settings', 'S', setconfig::text, NULL, NULL, NULL, NULL, NULL, NULL FROM pg_db_role_setting
JOIN pg_database d ON d.oid = setdatabase AND datname = current_database()
UNION ALL SELECT 'rights', 'R', datacl::text, NULL, NULL, NULL, NULL, NULL, NULL FROM pg_database
WHERE datname = current_database()
ORDER BY 1, 2, 3, 4
"""


def schema_of(connection: Connection) -> str:
    """Return tables, columns, constraints, triggers, settings and rights of a database, and its store's revision."""
    return repr(connection.execute(text(_SCHEMA)).all())


class PostgresqlServer(Databases):
    """Databases of a PostgreSQL server.

    Args:
        url: of any of its databases, with the right to create others.
    """

    def __init__(self, url: str) -> None:
        self._url = make_url(url)
        self._admin = create_engine(self._url, isolation_level="AUTOCOMMIT")
        self._templates: dict[Fill, str] = {nothing: "template1"}
        self._emptied: list[str] = []
        self._schema = ""  # of an empty store

    @contextmanager
    def database(self, fill: Fill = nothing) -> Iterator[str]:
        if fill not in self._templates:
            template = self._create("template1")
            fill(self._url_of(template))
            self._templates[fill] = template
        # to drop a database takes longer than most tests
        name = self._emptied.pop() if fill is empty_store and self._emptied else self._create(self._templates[fill])
        yield self._url_of(name)
        if fill is empty_store and self._empty(name):
            self._emptied.append(name)
        else:
            self._drop(name)

    def close(self) -> None:
        for name in (*self._emptied, *(name for fill, name in self._templates.items() if fill is not nothing)):
            self._drop(name)
        self._admin.dispose()

    def _empty(self, name: str) -> bool:
        """Make a database an empty store again; return False for one whose tables or rights a test has changed."""
        if not self._schema:
            with self._connected(self._templates[empty_store]) as connection:
                self._schema = schema_of(connection)
        self._execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
        with suppress(DBAPIError), self._connected(name) as connection:
            if schema_of(connection) != self._schema:
                return False
            tables = connection.scalars(text(_TABLES)).all()
            sequences = connection.scalars(text("SELECT sequencename FROM pg_sequences")).all()
            connection.execute(
                text(
                    "SET session_replication_role = replica;"  # the order of foreign keys does not matter then
                    + "".join(f'DELETE FROM "{table}";' for table in tables)
                    + "".join(f'ALTER SEQUENCE "{sequence}" RESTART;' for sequence in sequences)
                )
            )
            return True
        return False

    @contextmanager
    def _connected(self, name: str) -> Iterator[Connection]:
        engine = create_engine(self._url.set(database=name), isolation_level="AUTOCOMMIT", poolclass=NullPool)
        with engine.connect() as connection:
            yield connection

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
