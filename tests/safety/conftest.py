from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.safety.nursery import Nursery
from tests.safety.sandbox import Sandbox
from tests.safety.services import SERVICES, Service


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with Nursery() as running:
        yield running


@pytest.fixture
def service_name() -> str:
    """One of :data:`SERVICES`; tests for several are parametrized with it."""
    return "AI Platform"


@pytest.fixture
def service(service_name: str) -> Iterator[Service]:
    with SERVICES[service_name]() as running:
        yield running


@pytest.fixture
def sqlite_sandbox(tmp_path: Path, service: Service, nursery: Nursery) -> Sandbox:
    """A sandbox whose store is an SQLite file that does not exist yet."""
    return Sandbox(tmp_path, service, nursery, f"sqlite:///{tmp_path / 'caliban.db'}")


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def sandbox(request: pytest.FixtureRequest, tmp_path: Path, service: Service, nursery: Nursery) -> Sandbox:
    """A sandbox whose store is an SQLite file that does not exist yet, or an empty PostgreSQL database."""
    if request.param == "sqlite":
        made: Sandbox = request.getfixturevalue("sqlite_world")
        return made
    return Sandbox(tmp_path, service, nursery, request.getfixturevalue("postgresql_url"))
