"""Where images for AI Platform are pushed, with which login, and where its jobs can be looked at."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from caliban.errors import CalibanError, ImageError
from caliban.platforms.caip.platform import CaipPlatform
from caliban.records import ImageRef
from tests.platforms.caip.helpers import PROJECT, QUICK, job_view, platform_context
from tests.platforms.pushes import GOOGLE, IMAGE_ID, OTHERS, Pushes
from tests.standins.ml_v1 import MlV1


@pytest.fixture
def pushes(monkeypatch: pytest.MonkeyPatch) -> Pushes:
    return Pushes.installed(monkeypatch)


@pytest.fixture
def platform(service: MlV1, key: Path, pushes: Pushes) -> CaipPlatform:
    of_person = platform_context(service=service, cloud_key=key)
    return CaipPlatform(replace(of_person, engine=lambda: pushes.engine), QUICK)


def publish(platform: CaipPlatform, registry: str | None = None, project: str = PROJECT) -> ImageRef:
    return platform.publish(IMAGE_ID, registry, {"project": project})


def test_a_job_calls_an_image_by_its_tag_as_caliban_0_4_2_has_it(platform: CaipPlatform) -> None:
    assert publish(platform) == "gcr.io/totoro-project/abababababab:latest"


@pytest.mark.parametrize(
    ("registry", "project", "place"),
    [
        (None, "wonder-project", "gcr.io/wonder-project"),
        (None, "example.com:wonder", "gcr.io/example.com/wonder"),
        ("registry.example.com/lab", "wonder-project", "registry.example.com/lab"),
    ],
)
def test_images_go_to_the_configured_registry_else_to_that_of_the_job_s_project(
    registry: str | None, project: str, place: str, platform: CaipPlatform, pushes: Pushes
) -> None:
    publish(platform, registry, project)
    assert pushes.places == [place]


@pytest.mark.parametrize("registry", GOOGLE)
def test_google_s_registries_get_an_access_token(
    registry: str, platform: CaipPlatform, pushes: Pushes, service: MlV1
) -> None:
    publish(platform, registry)
    [login] = pushes.logins
    assert login is not None
    assert (login.username, service.account.accepts(login.password)) == ("oauth2accesstoken", True)


@pytest.mark.parametrize("registry", OTHERS)
def test_no_other_registry_gets_an_access_token(
    registry: str, platform: CaipPlatform, pushes: Pushes, service: MlV1
) -> None:
    publish(platform, registry)
    assert (pushes.logins, service.counts["oauth.token"]) == ([None], 0)


def test_one_access_token_serves_for_several_images(platform: CaipPlatform, service: MlV1) -> None:
    publish(platform)
    publish(platform, project="wonder-project")
    assert service.counts["oauth.token"] == 1


def test_credentials_that_google_refuses_are_told_before_anything_is_pushed(
    platform: CaipPlatform, pushes: Pushes, service: MlV1
) -> None:
    service.account.refusal = ("invalid_grant", "Invalid JWT Signature.")
    with pytest.raises(CalibanError) as caught:
        publish(platform)
    assert (caught.value.id, pushes.places) == ("credentials-refused", [])


def test_a_registry_that_no_image_can_be_pushed_to_is_told_before_a_token_is_fetched(
    platform: CaipPlatform, pushes: Pushes, service: MlV1
) -> None:
    with pytest.raises(ImageError) as caught:
        publish(platform, "Registry/With Space")
    assert (caught.value.id, pushes.places, service.counts["oauth.token"]) == ("registry-name-malformed", [], 0)


def test_google_s_registry_is_asked_before_an_image_is_built(
    platform: CaipPlatform, pushes: Pushes, service: MlV1
) -> None:
    platform.reach_registry(None, {"project": PROJECT})
    [login] = pushes.logins
    assert login is not None
    assert (pushes.checked, pushes.places, service.account.accepts(login.password)) == (
        ["gcr.io/totoro-project"],
        [],
        True,
    )


def test_what_google_s_registry_lacks_is_told(platform: CaipPlatform, pushes: Pushes) -> None:
    pushes.refusal = ImageError("repository-missing", "there is no such repository")
    with pytest.raises(ImageError, match="no such repository"):
        platform.reach_registry(None, {"project": PROJECT})


@pytest.mark.parametrize("registry", OTHERS)
def test_no_other_registry_is_asked_before_an_image_is_built(
    registry: str, platform: CaipPlatform, pushes: Pushes
) -> None:
    platform.reach_registry(registry, {"project": PROJECT})
    assert pushes.checked == []


def test_an_engine_out_of_reach_is_told(service: MlV1, key: Path) -> None:
    with pytest.raises(ImageError) as caught:
        publish(CaipPlatform(platform_context(service=service, cloud_key=key), QUICK))
    assert caught.value.id == "docker-unreachable"


def test_a_job_can_be_looked_at_in_the_console_and_by_its_log(platform: CaipPlatform) -> None:
    assert list(platform.links(job_view())) == [
        "https://console.cloud.google.com/mlengine/jobs/caliban_totoro_20200529_110259_1?project=totoro-project",
        "gcloud ai-platform jobs stream-logs caliban_totoro_20200529_110259_1 --project totoro-project",
    ]


def test_a_job_is_looked_at_in_the_project_where_it_runs(platform: CaipPlatform) -> None:
    page, command = platform.links(job_view(project="wonder-project"))
    assert page.endswith("?project=wonder-project")
    assert command.endswith(" --project wonder-project")


def test_no_request_is_made_to_say_where_a_job_is(platform: CaipPlatform, service: MlV1) -> None:
    platform.links(job_view())
    assert sum(service.counts.values()) == 0
