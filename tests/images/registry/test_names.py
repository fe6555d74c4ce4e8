from __future__ import annotations

import pytest

from caliban.errors import ImageError
from caliban.images.registry.names import ArtifactRepository, artifact_repository, is_loopback, manifest_url
from caliban.images.registry.push import is_google_registry, reference, repository


@pytest.mark.parametrize(
    ("image", "url"),
    [
        ("localhost:5000/ab:latest", "http://localhost:5000/v2/ab/manifests/latest"),
        ("127.1.2.3/ab:latest", "http://127.1.2.3/v2/ab/manifests/latest"),
        ("gcr.io/p/ab:latest", "https://gcr.io/v2/p/ab/manifests/latest"),
        ("registry.example.com:80/t/ab:latest", "https://registry.example.com:80/v2/t/ab/manifests/latest"),
        ("docker.io/totoro/ab:latest", "https://registry-1.docker.io/v2/totoro/ab/manifests/latest"),
    ],
)
def test_a_manifest_is_asked_for_over_tls_but_on_the_loopback(image: str, url: str) -> None:
    assert manifest_url(image) == url


@pytest.mark.parametrize("host", ["localhost.example.com", "10.0.0.1:5000", "128.0.0.1", "127.0.0.1.example.com"])
def test_hosts_that_only_look_like_the_loopback_are_not(host: str) -> None:
    assert not is_loopback(host)


def test_images_go_to_the_projects_registry_by_default() -> None:
    assert repository(None, "totoro-project") == "gcr.io/totoro-project"


def test_the_colon_of_a_domain_scoped_project_becomes_a_slash() -> None:
    assert repository(None, "example.com:proj") == "gcr.io/example.com/proj"


def test_a_configured_registry_replaces_the_default_whole() -> None:
    name = "europe-west4-docker.pkg.dev/totoro-project/images"
    assert repository(name, "other-project") == name


@pytest.mark.parametrize("project", ["", "Totoro", "a b", "a:b:c", "x/"])
def test_a_project_that_cannot_be_one_is_told_as_such(project: str) -> None:
    with pytest.raises(ImageError, match="registry of project") as caught:
        repository(None, project)
    assert caught.value.id == "registry-name-malformed"


def test_a_malformed_registry_is_told_with_what_to_write() -> None:
    with pytest.raises(ImageError) as caught:
        repository("https://totoro:planted-secret@registry.example.com", "p")
    assert caught.value.id == "registry-name-malformed"
    assert caught.value.message == "images cannot be pushed to 'https://***@registry.example.com'"
    assert "registry in .calibanconfig.json" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("us-docker.pkg.dev/p/lab", ArtifactRepository("p", "us", "lab")),
        ("us-west1-docker.pkg.dev/p/lab/sub/ab:latest", ArtifactRepository("p", "us-west1", "lab")),
        ("us-docker.pkg.dev/example.com/p/lab/ab:latest", ArtifactRepository("example.com:p", "us", "lab")),
        ("eu.gcr.io/p/ab:latest", ArtifactRepository("p", "europe", "eu.gcr.io")),
        ("staging-k8s.gcr.io/p/ab:latest", None),
        ("us-docker.pkg.dev/p", None),
        ("registry.example.com/us-docker.pkg.dev/p/lab", None),
    ],
)
def test_the_repository_of_an_image_is_in_its_name(name: str, expected: ArtifactRepository | None) -> None:
    assert artifact_repository(name) == expected


def test_an_image_is_named_by_the_first_twelve_digits_of_its_id() -> None:
    assert reference("gcr.io/p", "sha256:0123456789abcdef" + "0" * 48) == "gcr.io/p/0123456789ab:latest"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gcr.io/p", True),
        ("eu.gcr.io/p", True),
        ("us-docker.pkg.dev/p/r", True),
        ("northamerica-northeast1-docker.pkg.dev/p/r", True),
        ("registry.example.com/gcr.io/p", False),
        ("gcr.io.example.com/p", False),
        ("notgcr.io/p", False),
        ("us-docker.pkg.dev.example.com/p/r", False),
        ("localhost:5000", False),
    ],
)
def test_google_registries_are_told_from_others_by_their_host(name: str, expected: bool) -> None:
    assert is_google_registry(name) is expected
