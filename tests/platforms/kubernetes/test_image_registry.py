"""The registry that images for clusters are pushed to, and the login that is used with it."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from caliban.config import ProjectConfig
from caliban.errors import CalibanError, ImageError, UsageError
from caliban.images.registry.auth import Login
from caliban.images.registry.names import Place
from caliban.images.registry.push import Registry
from caliban.platforms.kubernetes.details import ClusterDestination
from caliban.platforms.kubernetes.gke_platform import GkePlatform
from caliban.platforms.kubernetes.kubeconfig_platform import KubeconfigPlatform
from caliban.platforms.kubernetes.platform import ClusterPlatform
from tests.fakes import RecordingReporter
from tests.platforms.kubernetes.helpers import DESTINATION, GKE_DESTINATION, QUICK, platform_context
from tests.platforms.pushes import DIGEST, IMAGE_ID, OTHERS, Pushes, docker_logins
from tests.standins.container_v1 import ContainerV1

HOST = "us-central1-docker.pkg.dev"
REPOSITORY = f"{HOST}/totoro-project/lab"
STORED = {"auth": base64.b64encode(b"totoro:planted-secret").decode()}


@pytest.fixture
def pushes(monkeypatch: pytest.MonkeyPatch) -> Pushes:
    return Pushes.installed(monkeypatch)


@pytest.fixture
def platform(pushes: Pushes, reporter: RecordingReporter) -> KubeconfigPlatform:
    return KubeconfigPlatform(platform_context(reporter=reporter), QUICK)


@pytest.fixture
def gke_platform(gke: ContainerV1, key: Path, pushes: Pushes) -> GkePlatform:
    return GkePlatform(platform_context(gke=gke, cloud_key=key), QUICK)


def registry_of(
    platform: ClusterPlatform[Any], name: str | None, destination: ClusterDestination = DESTINATION
) -> Registry:
    """Return the registry for images of jobs at a destination."""
    registry = platform.image_registry(ProjectConfig(registry=name), destination)
    assert registry is not None
    return registry


@pytest.mark.parametrize("registry", OTHERS)
def test_a_job_names_exactly_the_image_that_was_pushed(
    registry: str, platform: KubeconfigPlatform, pushes: Pushes
) -> None:
    assert registry_of(platform, registry).push(pushes.engine, IMAGE_ID) == f"{registry}/abababababab@{DIGEST}"


@pytest.mark.parametrize("name", ["ghcr.io/totoro/digits", f"{REPOSITORY}/digits", "gcr.io/totoro-project/digits"])
def test_one_repository_for_all_images_is_used_as_it_is(name: str, gke_platform: GkePlatform) -> None:
    found = gke_platform.image_registry(ProjectConfig(repository=name), GKE_DESTINATION)
    assert found is not None
    assert found.place == Place(name, is_repository=True)
    assert found.place.reference(IMAGE_ID) == f"{name}:abababababab"


def test_a_kubeconfig_cluster_accepts_a_configured_repository(platform: KubeconfigPlatform) -> None:
    assert platform.image_registry(ProjectConfig(repository="ghcr.io/totoro/digits"), None) is not None


@pytest.mark.parametrize(
    ("config", "cause", "key"),
    [
        (ProjectConfig(repository=REPOSITORY), f"expected {HOST}/PROJECT/REPOSITORY/IMAGE", "repository"),
        (ProjectConfig(repository="gcr.io/totoro-project"), "expected gcr.io/PROJECT/IMAGE", "repository"),
        (ProjectConfig(repository="gcr.io/example.com/wonder"), "expected gcr.io/PROJECT/IMAGE", "repository"),
        (ProjectConfig(registry="docker.io/totoro/digits"), "expected docker.io/USER_OR_ORGANIZATION", "registry"),
        (ProjectConfig(registry="hub.docker.com/totoro"), "expected docker.io/totoro", "registry"),
        (ProjectConfig(repository="ghcr.io/totoro"), "expected ghcr.io/OWNER/NAME", "repository"),
    ],
)
def test_a_name_that_the_registry_never_accepts_is_an_error_before_anything_else(
    config: ProjectConfig, cause: str, key: str, platform: KubeconfigPlatform
) -> None:
    with pytest.raises(CalibanError) as caught:
        platform.image_registry(config, None)
    assert (caught.value.id, caught.value.cause) == ("registry-name-malformed", cause)
    assert caught.value.hint == f'correct "{key}" in .calibanconfig.json'


def test_the_default_registry_of_gke_is_that_of_the_cluster_s_project(
    gke_platform: GkePlatform, pushes: Pushes
) -> None:
    registry = registry_of(gke_platform, None, GKE_DESTINATION)
    assert registry.push(pushes.engine, IMAGE_ID) == f"gcr.io/totoro-project/abababababab@{DIGEST}"


def test_without_a_destination_gke_has_only_a_configured_registry(gke_platform: GkePlatform) -> None:
    assert gke_platform.image_registry(ProjectConfig(), None) is None
    assert gke_platform.image_registry(ProjectConfig(registry=REPOSITORY), None) == registry_of(
        gke_platform, REPOSITORY, GKE_DESTINATION
    )


@pytest.mark.parametrize("registry", OTHERS)
def test_a_registry_that_is_not_google_s_is_checked_without_a_google_token(
    registry: str, platform: KubeconfigPlatform, pushes: Pushes
) -> None:
    registry_of(platform, registry).check()
    assert (pushes.checked, pushes.logins) == ([registry], [None])


def test_the_repository_is_checked_with_a_google_token(
    gke_platform: GkePlatform, pushes: Pushes, gke: ContainerV1
) -> None:
    pushes.refusal = ImageError("repository-missing", "there is no such repository")
    with pytest.raises(ImageError, match="no such repository"):
        registry_of(gke_platform, REPOSITORY, GKE_DESTINATION).check()
    [login] = pushes.logins
    assert login is not None
    assert (pushes.checked, gke.account.accepts(login.password)) == ([REPOSITORY], True)


def test_google_credentials_are_preferred_to_a_docker_login(
    gke: ContainerV1, key: Path, pushes: Pushes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    docker_logins(monkeypatch, tmp_path / "docker", **{HOST: STORED})
    platform = KubeconfigPlatform(platform_context(cloud_key=key), QUICK)
    registry_of(platform, REPOSITORY).push(pushes.engine, IMAGE_ID)
    [login] = pushes.logins
    assert login is not None
    assert (login.username, gke.account.accepts(login.password)) == ("oauth2accesstoken", True)


@pytest.mark.usefixtures("no_google_login")
def test_without_google_credentials_the_docker_login_is_used(
    platform: KubeconfigPlatform, pushes: Pushes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    docker_logins(monkeypatch, tmp_path / "docker", **{HOST: STORED})
    registry_of(platform, REPOSITORY).check()
    registry_of(platform, REPOSITORY).push(pushes.engine, IMAGE_ID)
    assert pushes.logins == [Login("totoro", "planted-secret")] * 2


@pytest.mark.usefixtures("no_google_login")
def test_without_either_the_hint_has_both_ways_to_log_in(
    platform: KubeconfigPlatform, pushes: Pushes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    docker_logins(monkeypatch, tmp_path / "docker")
    with pytest.raises(CalibanError) as caught:
        registry_of(platform, REPOSITORY).check()
    assert (caught.value.id, caught.value.message) == (
        "no-credentials",
        f"no Google credentials found, and no docker login stored for {HOST}",
    )
    assert caught.value.hint == (
        "run: gcloud auth application-default login; or pass a service account key with --cloud_key or "
        f"$GOOGLE_APPLICATION_CREDENTIALS; or run: gcloud auth configure-docker {HOST}, or docker login {HOST}"
    )
    assert pushes.checked == []


def test_rejected_google_credentials_are_an_error_despite_a_docker_login(
    gke: ContainerV1, key: Path, pushes: Pushes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    docker_logins(monkeypatch, tmp_path / "docker", **{HOST: STORED})
    gke.account.refusal = ("invalid_grant", "Invalid JWT Signature.")
    with pytest.raises(CalibanError) as caught:
        registry_of(KubeconfigPlatform(platform_context(cloud_key=key), QUICK), REPOSITORY).check()
    assert caught.value.id == "credentials-refused"


def test_a_kubeconfig_cluster_needs_a_configured_registry(platform: KubeconfigPlatform) -> None:
    with pytest.raises(UsageError) as caught:
        platform.image_registry(ProjectConfig(), None)
    assert caught.value.id == "no-registry"
