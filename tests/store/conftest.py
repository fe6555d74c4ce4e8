"""Stores for one test each, on SQLite and on a real PostgreSQL server, and a count of the statements sent to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from caliban.store import engines
from caliban.store.database import Access, Store, open_store
from tests.databases import Databases, empty_store, sent_statements
from tests.environment import required_variable
from tests.fakes import RecordingReporter

from .helpers import Statements, WhenReported, peer_history, upgraded_peer_history


@pytest.fixture
def reporter() -> Iterator[RecordingReporter]:
    """A reporter that gets no warnings and no progress from the store."""
    recording = RecordingReporter()
    yield recording
    assert (recording.warnings, recording.notes, recording.advanced) == ([], [], 0)


@pytest.fixture
def peer_executable() -> str:
    """The command ``caliban`` of version 0.4.2."""
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
    """An empty store of this version."""
    with databases.database(empty_store) as made:
        yield made


@pytest.fixture
def peer_url(databases: Databases) -> Iterator[str]:
    """A store of caliban 0.4.2 with the rows of ``mixed.sqlite``."""
    with databases.database(peer_history) as made:
        yield made


@pytest.fixture
def store(store_url: str, reporter: RecordingReporter) -> Iterator[Store]:
    """A new store, open for writing."""
    with open_store(store_url, Access.WRITE, reporter) as opened:
        yield opened


@pytest.fixture
def peer_store(databases: Databases, reporter: RecordingReporter) -> Iterator[Store]:
    """The store of ``mixed.sqlite``, upgraded and open for writing."""
    with databases.database(upgraded_peer_history) as made, open_store(made, Access.WRITE, reporter) as opened:
        yield opened


@pytest.fixture
def statements() -> Statements:
    return sent_statements


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> WhenReported:
    """Makes each slice of a wait short, and lets something happen when the wait is reported."""

    def when_reported(action: Callable[[], object]) -> None:
        real = RecordingReporter.info

        def info(self: RecordingReporter, line: str) -> None:
            real(self, line)
            action()

        monkeypatch.setattr(RecordingReporter, "info", info)

    monkeypatch.setattr(engines, "_SLICE", 0.01)
    monkeypatch.setattr(engines, "_REPORT_AFTER", 0.02)
    return when_reported
