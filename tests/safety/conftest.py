from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

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
def sqlite_world(tmp_path: Path, place: Place, nursery: Nursery) -> World:
    """A person whose store is an SQLite file that is not there yet."""
    return World(tmp_path, place, nursery, f"sqlite:///{tmp_path / 'caliban.db'}")


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def world(request: pytest.FixtureRequest, tmp_path: Path, place: Place, nursery: Nursery) -> World:
    """A person whose store is an SQLite file that is not there yet, or an empty database."""
    if request.param == "sqlite":
        found: World = request.getfixturevalue("sqlite_world")
        return found
    return World(tmp_path, place, nursery, request.getfixturevalue("postgresql_url"))
