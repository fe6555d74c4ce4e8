"""What jobs on clusters call an image that was built here, and who pushes it where nobody has logged in to Google."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path

import pytest

from caliban.errors import CalibanError, ImageError, UsageError
from caliban.images.registry.push import Login
from caliban.platforms.kubernetes.gke_platform import GkePlatform
from caliban.platforms.kubernetes.kubeconfig_platform import KubeconfigPlatform
from tests.fakes import HeardReporter
from tests.platforms.kubernetes.helpers import DESTINATION, GKE_DESTINATION, QUICK, platform_context
from tests.platforms.pushes import DIGEST, IMAGE_ID, OTHERS, Pushes, docker_logins
from tests.standins.container_v1 import ContainerV1

HOST = "us-central1-docker.pkg.dev"
PLACE = f"{HOST}/totoro-project/lab"
STORED = {"auth": base64.b64encode(b"totoro:planted-secret").decode()}


@pytest.fixture
def pushes(monkeypatch: pytest.MonkeyPatch) -> Pushes:
    return Pushes.installed(monkeypatch)


@pytest.fixture
def platform(pushes: Pushes, reporter: HeardReporter) -> KubeconfigPlatform:
    return KubeconfigPlatform(replace(platform_context(reporter=reporter), engine=lambda: pushes.engine), QUICK)


@pytest.fixture
def gke_platform(gke: ContainerV1, key: Path, pushes: Pushes) -> GkePlatform:
    return GkePlatform(replace(platform_context(gke=gke, cloud_key=key), engine=lambda: pushes.engine), QUICK)


@pytest.mark.parametrize("registry", OTHERS)
def test_a_job_names_exactly_the_image_that_was_pushed(registry: str, platform: KubeconfigPlatform) -> None:
    assert platform.publish(IMAGE_ID, registry, DESTINATION) == f"{registry}/abababababab@{DIGEST}"


def test_so_does_a_job_on_gke(gke_platform: GkePlatform) -> None:
    assert gke_platform.publish(IMAGE_ID, None, GKE_DESTINATION) == f"gcr.io/totoro-project/abababababab@{DIGEST}"


@pytest.mark.parametrize("registry", OTHERS)
def test_a_registry_that_is_not_google_s_is_not_asked_before(
    registry: str, platform: KubeconfigPlatform, pushes: Pushes
) -> None:
    platform.reach_registry(registry, DESTINATION)
    assert (pushes.checked, pushes.logins) == ([], [])


def test_the_repository_is_asked_for_before_an_image_is_built(
    gke_platform: GkePlatform, pushes: Pushes, gke: ContainerV1
) -> None:
    pushes.refusal = ImageError("repository-missing", "there is no such repository")
    with pytest.raises(ImageError, match="no such repository"):
        gke_platform.reach_registry(PLACE, GKE_DESTINATION)
    [login] = pushes.logins
    assert login is not None
    assert (pushes.checked, gke.account.accepts(login.password)) == ([PLACE], True)


def test_a_google_login_goes_before_what_docker_stored(
    gke: ContainerV1, key: Path, pushes: Pushes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    docker_logins(monkeypatch, tmp_path / "docker", **{HOST: STORED})
    of_person = replace(platform_context(cloud_key=key), engine=lambda: pushes.engine)
    KubeconfigPlatform(of_person, QUICK).publish(IMAGE_ID, PLACE, DESTINATION)
    [login] = pushes.logins
    assert login is not None
    assert (login.username, gke.account.accepts(login.password)) == ("oauth2accesstoken", True)


@pytest.mark.usefixtures("no_google_login")
def test_without_a_google_login_what_docker_stored_is_used(
    platform: KubeconfigPlatform, pushes: Pushes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    docker_logins(monkeypatch, tmp_path / "docker", **{HOST: STORED})
    platform.reach_registry(PLACE, DESTINATION)
    platform.publish(IMAGE_ID, PLACE, DESTINATION)
    assert pushes.logins == [Login("totoro", "planted-secret")] * 2


@pytest.mark.usefixtures("no_google_login")
def test_without_either_login_both_ways_are_told(
    platform: KubeconfigPlatform, pushes: Pushes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    docker_logins(monkeypatch, tmp_path / "docker")
    with pytest.raises(CalibanError) as caught:
        platform.reach_registry(PLACE, DESTINATION)
    assert (caught.value.id, caught.value.message) == (
        "no-credentials",
        f"there are no Google credentials, and no login that docker stored for {HOST}",
    )
    assert caught.value.hint == (
        "run gcloud auth application-default login, or name a key with --cloud_key or "
        f"$GOOGLE_APPLICATION_CREDENTIALS; or run gcloud auth configure-docker {HOST} or docker login {HOST}"
    )
    assert pushes.checked == []


def test_credentials_that_google_refuses_are_told_rather_than_passed_over(
    gke: ContainerV1, key: Path, pushes: Pushes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    docker_logins(monkeypatch, tmp_path / "docker", **{HOST: STORED})
    gke.account.refusal = ("invalid_grant", "Invalid JWT Signature.")
    with pytest.raises(CalibanError) as caught:
        KubeconfigPlatform(platform_context(cloud_key=key), QUICK).reach_registry(PLACE, DESTINATION)
    assert caught.value.id == "credentials-refused"


def test_a_cluster_without_a_registry_is_told(platform: KubeconfigPlatform) -> None:
    with pytest.raises(UsageError) as caught:
        platform.reach_registry(None, DESTINATION)
    assert caught.value.id == "no-registry"
