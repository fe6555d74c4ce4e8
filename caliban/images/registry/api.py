"""Requests to a registry's HTTP API, version 2: whether it has an image, and whether it allows a push.

Sources: the OCI distribution specification (github.com/opencontainers/distribution-spec) for manifests;
distribution.github.io/distribution/spec/auth/token and .../oauth for bearer tokens.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from caliban.images.registry.auth import Login
from caliban.images.registry.names import is_loopback, manifest_url, registry_host
from caliban.records import ImageRef
from caliban.redaction import redact, strip_userinfo

if TYPE_CHECKING:
    import requests

_MANIFEST_TYPES = (
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.index.v1+json",
)
_DIGEST_HEADER = "Docker-Content-Digest"
_TIMEOUT = (5, 20)
"""Seconds to connect, and to answer."""
_PARAMETER = re.compile(r'(\w+)\s*=\s*(?:"([^"]*)"|([^\s,"]+))')


class AccessDeniedError(Exception):
    """The registry, or its token service, rejects the login or requires one; the message is its own."""


class RegistryUnavailableError(Exception):
    """The registry gave no usable answer; the message says why."""


def find_digest(image: ImageRef, image_id: str, login: Login | None) -> str | None:
    """Return the digest of an image in its registry, if exactly this image has this name there.

    An image's id is the digest of its configuration, which the manifest names; in an engine that stores images in
    containerd it is the digest of the manifest, or index, itself.

    Args:
        image: ``HOST[:PORT]/NAME:TAG``.
        image_id: ``sha256:<64 hex digits>``.
        login: sent when the registry asks for one, over HTTPS or to the loopback interface only.

    Returns:
        The manifest's digest, ``sha256:<64 hex digits>``; None where the registry has no such image.

    Raises:
        AccessDeniedError: there is no login, or it is rejected.
        RegistryUnavailableError: anything else.
    """
    with _session(registry_host(image)) as session:
        response = _Client(session, login).manifest(image, "pull")
        if response.status_code == 404:
            return None
        digest, configuration = _digests(response, login)
        return digest if image_id in (digest, configuration) else None


def request_push_access(repository: str, login: Login | None) -> str | None:
    """Ask a registry for permission to push, as the first request of a push does. Nothing is written there.

    Args:
        repository: ``HOST[:PORT]/NAME``, which images are pushed below.
        login: as for :func:`find_digest`.

    Returns:
        What the registry answers, given the permission, where that is an error: that there is no such repository, or
        only no such image yet. Else None.

    Raises:
        AccessDeniedError: there is no login, or it does not permit a push.
        RegistryUnavailableError: anything else.
    """
    with _session(registry_host(repository)) as session:
        response = _Client(session, login).manifest(f"{repository}/caliban:latest", "pull,push")
        return None if response.status_code == 200 else _error_message(response, login)


@contextmanager
def _session(host: str) -> Iterator[requests.Session]:
    """Open a session.

    Raises:
        RegistryUnavailableError: for what requests and parsers raise.
    """
    import requests

    try:
        with requests.Session() as session:
            # A proxy of the environment cannot reach the loopback interface of this machine.
            session.trust_env = not is_loopback(host)
            yield session
    except (requests.RequestException, UnicodeError) as error:
        raise RegistryUnavailableError(_root_cause(error)) from error


@dataclass(frozen=True)
class _Client:
    session: requests.Session
    login: Login | None

    def manifest(self, image: ImageRef, actions: str) -> requests.Response:
        """Get a manifest, with permission for ``actions``: ``pull`` or ``pull,push``."""
        url = manifest_url(image)
        response = self._get(url, None)
        if response.status_code == 401:
            response = self._get(url, self._authorization(response, actions))
        if response.status_code == 401:
            raise AccessDeniedError(_error_message(response, self.login))
        return response

    def _authorization(self, unauthorized: requests.Response, actions: str) -> str:
        """Return the value of the header Authorization that answers the challenge of a 401 response."""
        challenge = unauthorized.headers.get("WWW-Authenticate", "")
        if bearer := re.search(r"\bbearer\s+(.*)", challenge, re.IGNORECASE):
            found = _PARAMETER.findall(bearer.group(1))
            # The first of each name: those of another challenge may follow.
            parameters = {key.lower(): quoted or plain for key, quoted, plain in reversed(found)}
            name = urlsplit(unauthorized.url).path.removeprefix("/v2/").partition("/manifests/")[0]
            scope = (parameters.get("scope") or f"repository:{name}:pull").rpartition(":")[0]
            return f"Bearer {self._token({**parameters, 'scope': f'{scope}:{actions}'})}"
        if self.login is None or self.login.is_identity_token or not re.match(r"\s*basic\b", challenge, re.IGNORECASE):
            raise AccessDeniedError(_error_message(unauthorized, self.login))
        return f"Basic {self.login.basic}"

    def _token(self, challenge: dict[str, str]) -> str:
        realm = challenge.get("realm", "")
        address = urlsplit(realm)
        if address.scheme != "https" and not (address.scheme == "http" and is_loopback(address.netloc)):
            raise RegistryUnavailableError(f'its token service does not use HTTPS: "{realm}"')
        fields: dict[str, str] = {key: challenge[key] for key in ("service", "scope") if key in challenge}
        response = self._request_token(realm, fields)
        if response.status_code in (401, 403):
            raise AccessDeniedError(_error_message(response, self.login))
        if response.status_code != 200:
            raise RegistryUnavailableError(f"its token service: {_error_message(response, self.login)}")
        answer = response.json()
        token = (answer.get("token") or answer.get("access_token")) if isinstance(answer, dict) else None
        if not isinstance(token, str):
            raise RegistryUnavailableError("its token service returned no token")
        return token

    def _request_token(self, realm: str, fields: dict[str, str]) -> requests.Response:
        if self.login is None:
            return self._get(realm, None, fields)
        if not self.login.is_identity_token:
            return self._get(realm, f"Basic {self.login.basic}", fields)
        form = {"grant_type": "refresh_token", "refresh_token": self.login.password, "client_id": "caliban", **fields}
        return self.session.post(realm, data=form, auth=_unchanged, timeout=_TIMEOUT, allow_redirects=False)

    def _get(self, url: str, authorization: str | None, query: dict[str, str] | None = None) -> requests.Response:
        headers = {"Accept": "application/json" if query is not None else ", ".join(_MANIFEST_TYPES)}
        if authorization is not None:
            headers["Authorization"] = authorization
        # Redirects are not followed: a login is for this host only.
        return self.session.get(
            url, params=query, headers=headers, auth=_unchanged, timeout=_TIMEOUT, allow_redirects=False
        )


def _unchanged(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Leave the request as it is. Without ``auth``, requests sends the login that ``~/.netrc`` has for the host."""
    return request


def _digests(response: requests.Response, login: Login | None) -> tuple[str, str]:
    """Return the digests of the manifest and of the configuration that it names, "" where it names none."""
    if response.status_code != 200:
        raise RegistryUnavailableError(_error_message(response, login))
    manifest = response.json()
    config = manifest.get("config") if isinstance(manifest, dict) else None
    digest = f"sha256:{hashlib.sha256(response.content).hexdigest()}"
    claimed = response.headers.get(_DIGEST_HEADER, digest)
    if claimed.startswith("sha256:") and claimed != digest:
        raise RegistryUnavailableError(f"the manifest does not match its digest {claimed}")
    return digest, str(config.get("digest")) if isinstance(config, dict) else ""


def _root_cause(error: BaseException) -> str:
    """Return the message of the operating system or parser below what requests and urllib3 wrap around it."""
    while below := error.__cause__ or (None if error.__suppress_context__ else error.__context__):
        error = below
    return (error.strerror if isinstance(error, OSError) else None) or strip_userinfo(str(error))


def _error_message(response: requests.Response, login: Login | None) -> str:
    """Return the message of an error object (OCI distribution specification), or the status line; without secrets."""
    status = f"{response.status_code} {response.reason}"
    try:
        errors = response.json()["errors"]
        message = "; ".join(f"{each['code'].replace('_', ' ').lower()}: {each['message']}" for each in errors)
    except (ValueError, LookupError, TypeError, AttributeError):  # not an error object
        message = ""
    message = redact([(response.request.headers.get("Authorization") or "").rpartition(" ")[2]], message or status)
    return login.redact(message) if login else message
