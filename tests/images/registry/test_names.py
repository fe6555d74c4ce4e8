from __future__ import annotations

import pytest

from caliban.errors import ExitCode, ImageError
from caliban.images.registry.names import (
    check_registry,
    image_reference,
    is_loopback,
    lower_case_name,
    manifest_url,
    repository_of,
)


@pytest.mark.parametrize(
    ("image", "url"),
    [
        ("localhost:5000/ab:latest", "http://localhost:5000/v2/ab/manifests/latest"),
        ("127.1.2.3/ab:latest", "http://127.1.2.3/v2/ab/manifests/latest"),
        ("gcr.io/p/ab:latest", "https://gcr.io/v2/p/ab/manifests/latest"),
        ("registry.example.com:80/t/ab:latest", "https://registry.example.com:80/v2/t/ab/manifests/latest"),
        ("localhost:5000/ab@sha256:12", "http://localhost:5000/v2/ab/manifests/sha256:12"),
        ("ghcr.io/totoro/digits:0123456789ab", "https://ghcr.io/v2/totoro/digits/manifests/0123456789ab"),
        ("docker.io/totoro/ab:latest", "https://registry-1.docker.io/v2/totoro/ab/manifests/latest"),
    ],
)
def test_manifests_are_requested_over_https_except_from_the_loopback_interface(image: str, url: str) -> None:
    assert manifest_url(image) == url


@pytest.mark.parametrize("host", ["localhost.example.com", "10.0.0.1:5000", "128.0.0.1", "127.0.0.1.example.com"])
def test_hosts_with_similar_names_are_not_the_loopback_interface(host: str) -> None:
    assert not is_loopback(host)


def test_a_configured_registry_is_used_as_it_is() -> None:
    assert check_registry("registry.example.com/team") == "registry.example.com/team"


def test_a_malformed_registry_is_wrong_usage_with_an_example() -> None:
    with pytest.raises(ImageError) as caught:
        check_registry("https://totoro:planted-secret@registry.example.com")
    assert (caught.value.id, caught.value.exit_code) == ("registry-name-malformed", ExitCode.USAGE)
    assert caught.value.message == 'cannot push images to "https://***@registry.example.com"'
    assert 'correct "registry" in .calibanconfig.json' in (caught.value.hint or "")


def test_an_image_is_named_by_the_first_twelve_digits_of_its_id() -> None:
    assert image_reference("gcr.io/p", "sha256:0123456789abcdef" + "0" * 48) == "gcr.io/p/0123456789ab:latest"


@pytest.mark.parametrize(
    ("image", "repository", "lower"),
    [
        ("ghcr.io/Totoro/Digits:Tag", "ghcr.io/Totoro/Digits", "ghcr.io/totoro/digits:Tag"),
        ("Registry.Example.com:5000/Lab", "Registry.Example.com:5000/Lab", "Registry.Example.com:5000/lab"),
        ("Totoro/digits@sha256:12", "Totoro/digits", "totoro/digits@sha256:12"),
        ("Python:3.12", "Python", "python:3.12"),
        ("localhost:5000/lab:A@sha256:12", "localhost:5000/lab", "localhost:5000/lab:A@sha256:12"),
        ("sha256:12ab", "sha256", "sha256:12ab"),
        ("python", "python", "python"),
    ],
)
def test_only_the_tag_and_the_host_of_an_image_may_have_capitals(image: str, repository: str, lower: str) -> None:
    assert (repository_of(image), lower_case_name(image)) == (repository, lower)
