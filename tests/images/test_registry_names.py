from __future__ import annotations

import pytest

from caliban.images.registry_names import is_loopback, manifest_url


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
