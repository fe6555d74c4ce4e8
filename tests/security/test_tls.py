"""Servers with an untrusted certificate get no request: Google APIs, registries, Docker Engines."""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from caliban.errors import CalibanError, ImageError
from caliban.images.docker.engine import Engine
from caliban.images.registry.api import RegistryUnavailableError, find_digest
from caliban.images.registry.auth import Login
from caliban.platforms.caip.details import CaipDestination
from caliban.platforms.caip.platform import CaipPlatform
from caliban.records import StatusUnavailable
from tests.platforms.caip.helpers import recorded_job
from tests.platforms.google.helpers import POLICY, PROJECT, platform_context
from tests.standins.ml_v1 import MlV1

from .servers import Certificate, Request, Response, Server, make_certificate, serving

VERIFY_FAILED = "certificate verify failed"
IMAGE_ID = "sha256:" + "ab" * 32


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    return make_certificate(tmp_path)


@pytest.fixture
def impostor(certificate: Certificate) -> Iterator[Server]:
    """A server with an untrusted certificate, whose response is valid for an engine, an API and a token endpoint."""

    def reply(request: Request) -> Response:
        content = {"ApiVersion": "1.41", "state": "SUCCEEDED", "access_token": "x", "expires_in": 60}
        return 200, {"Content-Type": "application/json"}, json.dumps(content).encode()

    with serving(reply, certificate) as server:
        yield server


@pytest.fixture
def key(tmp_path: Path) -> Iterator[Path]:
    """A key file whose tokens come from a trusted service."""
    with MlV1() as service:
        yield service.write_key_file(tmp_path / "key.json")


def caip_at(server: Server, key: Path) -> CaipPlatform:
    endpoint = {"CLOUDSDK_API_ENDPOINT_OVERRIDES_ML": f"https://127.0.0.1:{server.port}/"}
    return CaipPlatform(platform_context(endpoint, cloud_key=key), POLICY)


def test_a_google_api_with_an_untrusted_certificate_gets_no_request(impostor: Server, key: Path) -> None:
    update = caip_at(impostor, key).statuses([recorded_job()])[1]

    assert isinstance(update, StatusUnavailable)
    assert VERIFY_FAILED in update.reason
    assert impostor.requests == []


def test_a_google_api_with_a_trusted_certificate_gets_requests(
    impostor: Server, key: Path, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate.path))
    caip_at(impostor, key).statuses([recorded_job()])
    assert len(impostor.requests) == 1


def test_a_token_endpoint_with_an_untrusted_certificate_gets_no_assertion(
    impostor: Server, key: Path, tmp_path: Path
) -> None:
    content = json.loads(key.read_text())
    content["token_uri"] = f"https://127.0.0.1:{impostor.port}/token"
    key.write_text(json.dumps(content))

    with pytest.raises(CalibanError) as caught:
        CaipPlatform(platform_context(cloud_key=key), POLICY).connect(CaipDestination(PROJECT))

    assert VERIFY_FAILED in str(caught.value.cause)
    assert impostor.requests == []


@pytest.fixture
def example_host_is_local(monkeypatch: pytest.MonkeyPatch) -> None:
    """Resolve registry.example.com to this machine, because registries on localhost are contacted without TLS."""
    real = socket.getaddrinfo

    def getaddrinfo(host: Any, *more: Any, **options: Any) -> Any:
        return real("127.0.0.1" if host == "registry.example.com" else host, *more, **options)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


@pytest.mark.usefixtures("example_host_is_local")
def test_a_registry_with_an_untrusted_certificate_gets_no_login(impostor: Server) -> None:
    with pytest.raises(RegistryUnavailableError, match=VERIFY_FAILED):
        find_digest(f"registry.example.com:{impostor.port}/a:latest", IMAGE_ID, Login("totoro", "planted-secret"))
    assert impostor.requests == []


@pytest.mark.usefixtures("example_host_is_local")
def test_a_registry_with_a_trusted_certificate_gets_requests(
    impostor: Server, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate.path))
    assert not find_digest(f"registry.example.com:{impostor.port}/a:latest", IMAGE_ID, None)


def docker_directory(directory: Path, authority: Certificate, client: Certificate) -> Path:
    """Create a directory for DOCKER_CERT_PATH."""
    directory.mkdir(parents=True)
    for name, path in (("ca.pem", authority.path), ("cert.pem", client.path), ("key.pem", client.key)):
        (directory / name).write_bytes(path.read_bytes())
    return directory


@pytest.fixture
def other(tmp_path: Path) -> Certificate:
    """The only trusted authority; it did not sign the engine's certificate."""
    return make_certificate(tmp_path, "other")


def environment(server: Server, certificates: Path, **more: str) -> dict[str, str]:
    return {"DOCKER_HOST": f"tcp://127.0.0.1:{server.port}", "DOCKER_CERT_PATH": str(certificates), **more}


@pytest.mark.parametrize("verify", [{"DOCKER_TLS_VERIFY": "1"}, {"DOCKER_TLS_VERIFY": ""}, {}])
def test_an_engine_with_an_untrusted_certificate_gets_no_request(
    impostor: Server, other: Certificate, tmp_path: Path, verify: dict[str, str]
) -> None:
    certificates = docker_directory(tmp_path / "certificates", other, other)

    with pytest.raises(ImageError) as caught:
        Engine.connect(environment(impostor, certificates, **verify))

    assert caught.value.id == "docker-unreachable"
    assert VERIFY_FAILED in str(caught.value.cause)
    assert impostor.requests == []


def test_an_engine_with_a_trusted_certificate_gets_requests(
    impostor: Server, certificate: Certificate, other: Certificate, tmp_path: Path
) -> None:
    certificates = docker_directory(tmp_path / "certificates", certificate, other)
    Engine.connect(environment(impostor, certificates)).close()
    assert len(impostor.requests) == 1


def test_an_engine_is_verified_also_without_a_client_certificate(
    impostor: Server, certificate: Certificate, other: Certificate, tmp_path: Path
) -> None:
    certificates = docker_directory(tmp_path / "certificates", certificate, other)
    (certificates / "cert.pem").unlink()
    Engine.connect(environment(impostor, certificates)).close()
    assert len(impostor.requests) == 1


@pytest.mark.parametrize("endpoint", [{"SkipTLSVerify": True}, {"SkipTLSVerify": False}, {}])
def test_the_engine_of_a_docker_context_is_always_verified(
    impostor: Server, other: Certificate, tmp_path: Path, endpoint: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    context = hashlib.sha256(b"lab").hexdigest()
    meta = tmp_path / "docker" / "contexts" / "meta" / context / "meta.json"
    meta.parent.mkdir(parents=True)
    host = {"Host": f"tcp://127.0.0.1:{impostor.port}", **endpoint}
    meta.write_text(json.dumps({"Name": "lab", "Metadata": {}, "Endpoints": {"docker": host}}))
    docker_directory(tmp_path / "docker" / "contexts" / "tls" / context / "docker", other, other)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))

    with pytest.raises(ImageError) as caught:
        Engine.connect({"DOCKER_CONFIG": str(tmp_path / "docker"), "DOCKER_CONTEXT": "lab"})

    assert (VERIFY_FAILED in str(caught.value.cause), "docker context lab" in caught.value.message) == (True, True)
    assert impostor.requests == []
