from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.forkserver import ForkServer
from tests.safety.sandbox import Sandbox
from tests.safety.services import SERVICES, Service


@pytest.fixture(scope="session")
def fork_server(fork_server: ForkServer) -> Iterator[ForkServer]:
    """A server without coverage, whose trace function would take the place of ours."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    if environ == dict(os.environ):
        yield fork_server
        return
    with ForkServer(environ) as server:
        yield server


@pytest.fixture
def service_name() -> str:
    """One of :data:`SERVICES`; tests for several are parametrized with it."""
    return "AI Platform"


@pytest.fixture
def job_service(service_name: str) -> Iterator[Service]:
    with SERVICES[service_name]() as running:
        yield running


@pytest.fixture
def sqlite_sandbox(tmp_path: Path, job_service: Service, fork_server: ForkServer) -> Sandbox:
    """A sandbox whose store is an SQLite file that does not exist yet."""
    return Sandbox(tmp_path, job_service, fork_server, f"sqlite:///{tmp_path / 'caliban.db'}")


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def sandbox(request: pytest.FixtureRequest, tmp_path: Path, job_service: Service, fork_server: ForkServer) -> Sandbox:
    """A sandbox whose store is an SQLite file that does not exist yet, or an empty PostgreSQL database."""
    if request.param == "sqlite":
        made: Sandbox = request.getfixturevalue("sqlite_sandbox")
        return made
    return Sandbox(tmp_path, job_service, fork_server, request.getfixturevalue("postgresql_url"))
