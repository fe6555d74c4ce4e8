"""A login is sent to the token service of its registry, and to nobody else."""

from __future__ import annotations

import pytest

from caliban.images.registry.realm import TOKEN_HOSTS_VARIABLE, realm_problem


@pytest.mark.parametrize(
    ("registry", "realm"),
    [
        ("registry-1.docker.io", "https://auth.docker.io/token"),
        ("ghcr.io", "https://ghcr.io/token"),
        ("quay.io", "https://quay.io/v2/auth"),
        ("us-central1-docker.pkg.dev", "https://us-central1-docker.pkg.dev/v2/token"),
        ("gcr.io", "https://gcr.io/v2/token"),
        ("eu.gcr.io", "https://eu.gcr.io/v2/token"),
        ("registry.gitlab.com", "https://gitlab.com/jwt/auth"),
        ("registry.example.com:5050", "https://gitlab.example.com/jwt/auth"),
        ("registry.lab.example.co.uk", "https://auth.lab.example.co.uk/token"),
        ("mine.azurecr.io", "https://mine.azurecr.io/oauth2/token"),
        ("public.ecr.aws", "https://public.ecr.aws/token/"),
        ("nvcr.io", "https://nvcr.io/proxy_auth"),
        ("registry.digitalocean.com", "https://api.digitalocean.com/v2/registry/auth"),
        ("registry.cn-hangzhou.aliyuncs.com", "https://dockerauth.cn-hangzhou.aliyuncs.com/auth"),
        ("rg.fr-par.scw.cloud", "https://api.scaleway.com/registry-internal/v1/tokens"),
        ("localhost:5000", "http://127.0.0.1:5001/token"),
        ("127.0.0.1:5000", "http://localhost:5001/token"),
        ("192.168.1.5:5000", "https://192.168.1.5:5001/token"),
    ],
)
def test_the_token_service_of_a_registry_may_have_its_login(registry: str, realm: str) -> None:
    assert realm_problem(realm, registry) is None


@pytest.mark.parametrize(
    ("registry", "realm"),
    [
        ("registry.example.com", "https://evil.test/token"),
        ("registry.example.com", "https://registry.example.com.evil.test/token"),
        ("registry.example.com", "https://registry.example.com@evil.test/token"),
        ("registry.example.com", "https://notexample.com/token"),
        ("registry.example.com", "http://registry.example.com/token"),
        ("registry.example.com", "https://localhost/token"),
        ("registry.example.com", "http://127.0.0.1/token"),
        ("localhost:5000", "http://localhost:80@evil.test/"),
        ("localhost:5000", "http://localhost%00.evil.test/"),
        ("localhost:5000", "http://localhost\\@evil.test/"),
        ("localhost:5000", "https://evil.test/#@localhost/"),
        ("localhost:5000", "http://localhost.evil.test/"),
        ("localhost:5000", "http://169.254.169.254/token"),
        ("ghcr.io", "https://auth.docker.io/token"),
        ("ghcr.io", "https://evil.io/token"),
        ("mine.azurecr.io", "https://evil.azurecr.io/token"),
        ("example.github.io", "https://evil.github.io/token"),
        ("example.co.uk", "https://evil.co.uk/token"),
        ("example.com", "https://evil.com/token"),
        ("10.0.0.1:5000", "https://11.0.0.1/token"),
        ("registry.example.com", "ftp://registry.example.com/"),
        ("registry.example.com", "//registry.example.com/token"),
        ("registry.example.com", "https:///token"),
        ("registry.example.com", "https://registry.example.com:0/"),
        ("registry.example.com", "https://registry.example.com:99999/"),
        ("registry.example.com", "https://registry.example.com\n.evil.test/"),
        ("registry.example.com", "https://[::1"),
        ("registry.example.com", ""),
    ],
)
def test_nobody_else_may(registry: str, realm: str) -> None:
    assert realm_problem(realm, registry) is not None


def test_a_token_service_of_another_site_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN_HOSTS_VARIABLE, "sso.example.org, Auth.Example.NET")
    assert realm_problem("https://auth.example.net/token", "registry.example.com") is None
    assert realm_problem("http://auth.example.net/token", "registry.example.com") is not None
