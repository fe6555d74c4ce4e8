"""Make docker-py's client of an endpoint: a socket, TCP with or without TLS, or ssh."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from caliban.images.docker.endpoint import Endpoint

if TYPE_CHECKING:
    import docker
    import requests
    from docker.tls import TLSConfig

_ANY_VERSION = "1.41"


def connected_client(endpoint: Endpoint, environ: Mapping[str, str]) -> docker.DockerClient:
    """Return a client that speaks the version of the engine's API.

    Args:
        endpoint: of the engine.
        environ: the environment of ssh.

    Raises:
        Exception: whatever docker-py raises, or :class:`caliban.images.docker.ssh.SshError`.
    """
    import docker
    import docker.errors

    if not endpoint.is_ssh:
        return docker.DockerClient(endpoint.host, tls=_tls(endpoint))
    client = unconnected_client(endpoint, environ)
    try:
        answer: object = client.api.version(api_version=False)
    finally:
        client.close()
    version = answer.get("ApiVersion") if isinstance(answer, Mapping) else None
    if not isinstance(version, str):
        raise docker.errors.DockerException('the answer to GET /version has no "ApiVersion"')
    return unconnected_client(endpoint, environ, version)


def unconnected_client(
    endpoint: Endpoint, environ: Mapping[str, str], version: str = _ANY_VERSION
) -> docker.DockerClient:
    """Return a client that connects with its first request.

    Raises:
        Exception: whatever docker-py raises where it cannot read the endpoint, or its configuration.
    """
    import docker

    if not endpoint.is_ssh:
        return docker.DockerClient(endpoint.host, tls=_tls(endpoint), version=version)
    from caliban.images.docker.ssh import ssh_client

    return ssh_client(str(endpoint.host), environ, version)


def give_streams_connections(api: docker.APIClient) -> None:
    """Let no other request use the connection of a stream, which is closed under a reader who waits for more.

    A stream that has ended would give its connection back before it is closed.
    """
    for adapter in api.adapters.values():
        adapter.add_headers = _add_headers  # type: ignore[attr-defined]  # it is called with each request


def _add_headers(request: requests.PreparedRequest, **how: object) -> None:
    if how.get("stream") and "Upgrade" not in request.headers:
        request.headers["Connection"] = "close"


def _tls(endpoint: Endpoint) -> TLSConfig | bool:
    """Return the TLS settings, False without TLS. Certificates are verified, whatever a context says.

    Raises:
        docker.errors.TLSParameterError: a certificate or its key is missing.
    """
    from docker.tls import TLSConfig

    class OwnCertificateAuthority(TLSConfig):
        """TLS with the given certificate authority, which $REQUESTS_CA_BUNDLE would replace otherwise."""

        def configure_client(self, client: docker.APIClient) -> None:
            super().configure_client(client)
            client.trust_env = self.ca_cert is None

    if endpoint.certificates is None:
        return False
    certificate, key, authority = (endpoint.certificates / name for name in ("cert.pem", "key.pem", "ca.pem"))
    return OwnCertificateAuthority(
        # An engine may require no client certificate; an empty directory is a mistake, which docker-py reports.
        # Without ca.pem, the certificate authorities that this machine trusts are used.
        client_cert=None if authority.exists() and not certificate.exists() else (str(certificate), str(key)),
        ca_cert=str(authority) if authority.exists() else None,
        verify=True,
    )
