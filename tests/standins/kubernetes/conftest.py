from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.standins.kubernetes import KubeApi
from tests.standins.kubernetes.callers import Official, Raw


@pytest.fixture
def cluster() -> Iterator[KubeApi]:
    with KubeApi(namespaces={"default", "team"}) as running:
        yield running


@pytest.fixture
def official(cluster: KubeApi, tmp_path: Path) -> Iterator[Official]:
    with Official.of(cluster.write_kubeconfig(tmp_path / "kubeconfig")) as caller:
        yield caller


@pytest.fixture
def raw(cluster: KubeApi, tmp_path: Path) -> Raw:
    return Raw.of(cluster, tmp_path)
