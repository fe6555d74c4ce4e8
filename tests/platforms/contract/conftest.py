from __future__ import annotations

import os
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from caliban.platforms.base import LogSource
from caliban.platforms.resources import ChangesResources
from tests.platforms.contract.case import ContractCase

VARIABLE = "CALIBAN_TEST_PLATFORM"
"""Names the case of a platform of another package, ``module:Class``: the tests are run for that one alone."""

_OURS = {
    "SUBPROCESS": "contract_case:SubprocessCase",
    "LOCAL": "tests.platforms.contract.docker_case:DockerCase",
    "CAIP": "tests.platforms.contract.google_cases:CaipCase",
    "VERTEX": "tests.platforms.contract.google_cases:VertexCase",
    "KUBERNETES": "tests.platforms.contract.kubernetes_cases:KubeconfigCase",
    "GKE": "tests.platforms.contract.kubernetes_cases:GkeCase",
}
_CASES = {os.environ[VARIABLE]: os.environ[VARIABLE]} if VARIABLE in os.environ else _OURS


def _case_class(place: str) -> type[ContractCase]:
    module, _, name = place.partition(":")
    found: type[ContractCase] = getattr(import_module(module), name)
    return found


@pytest.fixture(params=list(_CASES.values()), ids=list(_CASES))
def case(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ContractCase]:
    """Each platform in turn."""
    with _case_class(request.param)(tmp_path, monkeypatch).running() as made:
        yield made


_WITH_OUTPUT = {key: place for key, place in _CASES.items() if issubclass(_case_class(place).platform_class, LogSource)}


@pytest.fixture(params=list(_WITH_OUTPUT.values()), ids=list(_WITH_OUTPUT))
def log_case(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ContractCase]:
    """Each platform that has the output of its jobs, in turn."""
    with _case_class(request.param)(tmp_path, monkeypatch).running() as made:
        yield made


_RESIZING = {
    key: place for key, place in _CASES.items() if issubclass(_case_class(place).platform_class, ChangesResources)
}


@pytest.fixture(params=list(_RESIZING.values()), ids=list(_RESIZING))
def resizing_case(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ContractCase]:
    """Each platform on which re-runs can have other resources, in turn."""
    with _case_class(request.param)(tmp_path, monkeypatch).running() as made:
        yield made
