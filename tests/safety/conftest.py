from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import create_engine, make_url, text

from tests.safety.nursery import Nursery
from tests.safety.places import PLACES, Place
from tests.safety.worlds import World


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with Nursery() as running:
        yield running


@pytest.fixture
def place_name() -> str:
    """One of :data:`PLACES`; a test that is for several is parametrised by it."""
    return "AI Platform"


@pytest.fixture
def place(place_name: str) -> Iterator[Place]:
    with PLACES[place_name]() as running:
        yield running


@pytest.fixture
def postgresql_url() -> Iterator[str]:
    """A fresh, empty database of a real server."""
    given = os.environ.get("CALIBAN_TEST_POSTGRESQL_URL")
    if not given:
        pytest.fail("CALIBAN_TEST_POSTGRESQL_URL is not set: run `make test`, which brings a server up")
    server = make_url(given)
    name = f"caliban_test_{uuid4().hex}"
    admin = create_engine(server, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield server.set(database=name).render_as_string(hide_password=False)
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


@pytest.fixture
def sqlite_world(tmp_path: Path, place: Place, nursery: Nursery) -> World:
    """A person whose store is an SQLite file that is not there yet."""
    return World(tmp_path, place, nursery, f"sqlite:///{tmp_path / 'caliban.db'}")


@pytest.fixture(params=["sqlite", "postgresql"])
def world(request: pytest.FixtureRequest, tmp_path: Path, place: Place, nursery: Nursery) -> World:
    """A person whose store is an SQLite file that is not there yet, or an empty database."""
    if request.param == "sqlite":
        found: World = request.getfixturevalue("sqlite_world")
        return found
    return World(tmp_path, place, nursery, request.getfixturevalue("postgresql_url"))
