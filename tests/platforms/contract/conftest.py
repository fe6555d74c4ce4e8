from __future__ import annotations

import os
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

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


@pytest.fixture(params=list(_CASES.values()), ids=list(_CASES))
def case(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ContractCase]:
    """Each platform in turn."""
    module, _, name = request.param.partition(":")
    made: ContractCase = getattr(import_module(module), name)(tmp_path, monkeypatch)
    with made.running():
        yield made
