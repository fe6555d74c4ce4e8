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

from caliban.bounded import parse_json
from caliban.clock import Clock, SystemClock
from caliban.images.registry.auth import Login
from caliban.images.registry.names import manifest_url
from caliban.images.registry.realm import realm_problem
from caliban.records import ImageRef
from caliban.redaction import clean_text, exception_text, register_secrets

if TYPE_CHECKING:
    import requests

    from caliban.bounded_http import LimitedSession

_MANIFEST_TYPES = (
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.index.v1+json",
)
_DIGEST_HEADER = "Docker-Content-Digest"
_TIMEOUT = (5, 20)
"""Seconds to connect, and to answer."""
_DEADLINE = 60.0
"""Seconds from connecting to the last byte of an answer."""
_BODY_LIMIT = 8 << 20
"""Bytes of an answer. Registries accept manifests of up to 4 MiB."""
_CHALLENGE_LIMIT = 4096
_PARAMETER = re.compile(r'(\w+)\s*=\s*(?:"([^"]*)"|([^\s,"]+))')


class AccessDeniedError(Exception):
    """The registry, or its token service, rejects the login or requires one; the message is its own."""


class RegistryUnavailableError(Exception):
    """The registry gave no usable answer; the message says why."""


class RealmRefusedError(RegistryUnavailableError):
    """The registry wants the login to be sent to a host that is not its own; it was not sent."""


def find_digest(image: ImageRef, image_id: str, login: Login | None, clock: Clock | None = None) -> str | None:
    """Return the digest of an image in its registry, if exactly this image has this name there.

    An image's id is the digest of its configuration, which the manifest names; in an engine that stores images in
    containerd it is the digest of the manifest, or index, itself.

    Args:
        image: ``HOST[:PORT]/NAME:TAG``.
        image_id: ``sha256:<64 hex digits>``.
        login: sent when the registry asks for one, over HTTPS or to the loopback interface only, and to no host but the
            registry's own and its token service (:mod:`caliban.images.registry.realm`).
        clock: counts the seconds of a request; None for that of this machine.

    Returns:
        The manifest's digest, ``sha256:<64 hex digits>``; None where the registry has no such image.

    Raises:
        AccessDeniedError: there is no login, or it is rejected.
        RealmRefusedError: its token service is not its own.
        RegistryUnavailableError: anything else.
    """
    with _session(clock) as session:
        response = _Client(session, login).manifest(image, "pull")
        if response.status_code == 404:
            return None
        digest, configuration = _digests(response, login)
        return digest if image_id in (digest, configuration) else None


def request_push_access(repository: str, login: Login | None, clock: Clock | None = None) -> str | None:
    """Ask a registry for permission to push, as the first request of a push does. Nothing is written there.

    Args:
        repository: ``HOST[:PORT]/NAME``, which images are pushed below.
        login: as for :func:`find_digest`.
        clock: likewise.

    Returns:
        What the registry answers, given the permission, where that is an error: that there is no such repository, or
        only no such image yet. Else None.

    Raises:
        AccessDeniedError: there is no login, or it does not permit a push.
        RealmRefusedError, RegistryUnavailableError: as there.
    """
    with _session(clock) as session:
        response = _Client(session, login).manifest(f"{repository}/caliban:latest", "pull,push")
        return None if response.status_code == 200 else _error_message(response, login)


@contextmanager
def _session(clock: Clock | None) -> Iterator[LimitedSession]:
    """Open a session: without redirects and stored logins, as a login is for this registry only.

    Raises:
        RegistryUnavailableError: for whatever requests and parsers raise.
    """
    from caliban.bounded_http import LimitedSession, Limits

    try:
        with LimitedSession(Limits(clock or SystemClock(), _DEADLINE, _BODY_LIMIT)) as session:
            yield session
    except (AccessDeniedError, RegistryUnavailableError):
        raise
    except Exception as error:  # noqa: BLE001 - the boundary: nothing that a registry answers may end the command
        raise RegistryUnavailableError(_root_cause(error)) from None


@dataclass(frozen=True)
class _Client:
    session: LimitedSession
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
        challenge = unauthorized.headers.get("WWW-Authenticate", "")[:_CHALLENGE_LIMIT]
        if bearer := re.search(r"\bbearer\s+(.*)", challenge, re.IGNORECASE):
            found = _PARAMETER.findall(bearer.group(1))
            # The first of each name: those of another challenge may follow.
            parameters = {key.lower(): quoted or plain for key, quoted, plain in reversed(found)}
            registry = urlsplit(unauthorized.url)
            name = registry.path.removeprefix("/v2/").partition("/manifests/")[0]
            scope = (parameters.get("scope") or f"repository:{name}:pull").rpartition(":")[0]
            return f"Bearer {self._token({**parameters, 'scope': f'{scope}:{actions}'}, registry.netloc)}"
        if self.login is None or self.login.is_identity_token or not re.match(r"\s*basic\b", challenge, re.IGNORECASE):
            raise AccessDeniedError(_error_message(unauthorized, self.login))
        return f"Basic {self.login.basic}"

    def _token(self, challenge: dict[str, str], registry: str) -> str:
        realm = challenge.get("realm", "")
        if (problem := realm_problem(realm, registry)) is not None:
            raise RealmRefusedError(f"its token service {clean_text(realm, limit=200)} {problem}")
        fields: dict[str, str] = {key: challenge[key] for key in ("service", "scope") if key in challenge}
        response = self._request_token(realm, fields)
        if response.status_code in (401, 403):
            raise AccessDeniedError(_error_message(response, self.login))
        if response.status_code != 200:
            raise RegistryUnavailableError(f"its token service: {_error_message(response, self.login)}")
        answer = _json(response)
        token = (answer.get("token") or answer.get("access_token")) if isinstance(answer, dict) else None
        if not isinstance(token, str) or not re.fullmatch(r"[!-~]+", token.strip()):
            raise RegistryUnavailableError("its token service returned no token")
        register_secrets(token)
        return token.strip()

    def _request_token(self, realm: str, fields: dict[str, str]) -> requests.Response:
        if self.login is None:
            return self._get(realm, None, fields)
        if not self.login.is_identity_token:
            return self._get(realm, f"Basic {self.login.basic}", fields)
        form = {"grant_type": "refresh_token", "refresh_token": self.login.password, "client_id": "caliban", **fields}
        return self.session.post(realm, data=form, timeout=_TIMEOUT)

    def _get(self, url: str, authorization: str | None, query: dict[str, str] | None = None) -> requests.Response:
        headers = {"Accept": "application/json" if query is not None else ", ".join(_MANIFEST_TYPES)}
        if authorization is not None:
            headers["Authorization"] = authorization
        return self.session.get(url, params=query, headers=headers, timeout=_TIMEOUT)


def _json(response: requests.Response) -> object:
    """Return the JSON of an answer; None where it is none."""
    try:
        return parse_json(response.content)
    except ValueError:
        return None


def _digests(response: requests.Response, login: Login | None) -> tuple[str, str]:
    """Return the digests of the manifest and of the configuration that it names, "" where it names none."""
    if response.status_code != 200:
        raise RegistryUnavailableError(_error_message(response, login))
    manifest = _json(response)
    if not isinstance(manifest, dict):
        raise RegistryUnavailableError("the answer is not a manifest")
    config = manifest.get("config")
    digest = f"sha256:{hashlib.sha256(response.content).hexdigest()}"
    claimed = response.headers.get(_DIGEST_HEADER, digest)
    if claimed.startswith("sha256:") and claimed != digest:
        raise RegistryUnavailableError(f"the manifest does not match its digest {clean_text(claimed, limit=100)}")
    return digest, str(config.get("digest")) if isinstance(config, dict) else ""


def _root_cause(error: BaseException) -> str:
    """Return the message of the operating system or parser below what requests and urllib3 wrap around it."""
    while below := error.__cause__ or (None if error.__suppress_context__ else error.__context__):
        error = below
    return exception_text(error)


def _error_message(response: requests.Response, login: Login | None) -> str:
    """Return the message of an error object (OCI distribution specification), or the status line; without secrets."""
    answer = _json(response)
    errors = answer.get("errors") if isinstance(answer, dict) else None
    lines = [
        f"{str(each.get('code')).replace('_', ' ').lower()}: {each.get('message')}"
        for each in (errors if isinstance(errors, list) else ())
        if isinstance(each, dict) and {"code", "message"} <= each.keys()
    ]
    sent = (response.request.headers.get("Authorization") or "").rpartition(" ")[2]
    secrets = (sent, login.password, login.basic) if login else (sent,)
    return clean_text("; ".join(lines) or f"{response.status_code} {response.reason}", secrets)
