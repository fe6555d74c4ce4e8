from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from caliban.platforms.kubernetes.gke_platform import GkePlatform
from caliban.platforms.kubernetes.kubeconfig_platform import KubeconfigPlatform
from tests.fakes import RecordingReporter
from tests.platforms.kubernetes.helpers import QUICK, platform_context
from tests.standins.container_v1 import ContainerV1, GkeCluster
from tests.standins.kubernetes import KubeApi


@pytest.fixture
def cluster() -> Iterator[KubeApi]:
    with KubeApi("1.33", {"default", "lab"}) as running:
        yield running


@pytest.fixture
def kubeconfig(cluster: KubeApi, tmp_path: Path) -> Path:
    return cluster.write_kubeconfig(tmp_path / "kubeconfig", "lab")


@pytest.fixture
def reporter() -> RecordingReporter:
    return RecordingReporter()


@pytest.fixture
def platform(kubeconfig: Path, reporter: RecordingReporter) -> KubeconfigPlatform:
    return KubeconfigPlatform(platform_context(kubeconfig=kubeconfig, reporter=reporter), QUICK)


@pytest.fixture
def gke() -> Iterator[ContainerV1]:
    """GKE without clusters."""
    with ContainerV1({"totoro-project", "zoo-project"}) as running:
        yield running


@pytest.fixture
def blueshift(gke: ContainerV1) -> Iterator[KubeApi]:
    """The cluster that caliban 0.4.2 recorded. It accepts only tokens of Google."""
    with KubeApi("1.33", accepts=gke.account.accepts) as running:
        running.access.tokens.clear()
        gke.add("totoro-project", GkeCluster("blueshift", "us-central1-a", running))
        yield running


@pytest.fixture
def key(gke: ContainerV1, tmp_path: Path) -> Path:
    return gke.write_key_file(tmp_path / "key.json")


@pytest.fixture
def gke_platform(gke: ContainerV1, key: Path, reporter: RecordingReporter) -> GkePlatform:
    return GkePlatform(platform_context(gke=gke, cloud_key=key, reporter=reporter), QUICK)
