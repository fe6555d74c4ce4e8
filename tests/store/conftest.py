"""Stores of one test's own, on SQLite and on a real PostgreSQL server, and a count of the statements sent to them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Engine, event

from caliban.store.database import Access, Store, open_store
from tests.databases import Databases, empty_store
from tests.environment import required_variable

from .helpers import HeardReporter, Statements, peer_history, upgraded_peer_history


@pytest.fixture
def reporter() -> HeardReporter:
    return HeardReporter()


@pytest.fixture
def peer_executable() -> str:
    """``caliban`` of version 0.4.2, in an environment of its own."""
    return required_variable("CALIBAN_TEST_PEER")


@pytest.fixture(params=["sqlite_files", pytest.param("postgresql_server", marks=pytest.mark.postgresql)])
def databases(request: pytest.FixtureRequest) -> Databases:
    found: Databases = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def url(databases: Databases) -> Iterator[str]:
    """A store that does not exist yet."""
    with databases.database() as made:
        yield made


@pytest.fixture
def store_url(databases: Databases) -> Iterator[str]:
    """A store of this version with nothing in it."""
    with databases.database(empty_store) as made:
        yield made


@pytest.fixture
def peer_url(databases: Databases) -> Iterator[str]:
    """A store with the history of ``mixed.sqlite``, as caliban 0.4.2 left it."""
    with databases.database(peer_history) as made:
        yield made


@pytest.fixture
def store(store_url: str, reporter: HeardReporter) -> Iterator[Store]:
    """A new store, open for writing."""
    with open_store(store_url, Access.WRITE, reporter) as opened:
        yield opened


@pytest.fixture
def peer_store(databases: Databases, reporter: HeardReporter) -> Iterator[Store]:
    """The store of ``mixed.sqlite``, upgraded and open for writing."""
    with databases.database(upgraded_peer_history) as made, open_store(made, Access.WRITE, reporter) as opened:
        yield opened


@pytest.fixture
def statements() -> Statements:
    """Collects the statements sent within a block, by any engine; BEGIN is none."""

    @contextmanager
    def counting() -> Iterator[list[str]]:
        sent: list[str] = []

        def hear(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
            if not statement.startswith("BEGIN"):
                sent.append(statement)

        event.listen(Engine, "before_cursor_execute", hear)
        try:
            yield sent
        finally:
            event.remove(Engine, "before_cursor_execute", hear)

    return counting
