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
from caliban.images.registry.access import is_expired
from caliban.images.registry.auth import Login
from caliban.images.registry.names import Place, api_url, manifest_url, repository_of
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
_INDEX_TYPES = _MANIFEST_TYPES[2:]
_LARGEST_INDEX = 16
"""Manifests of an index that are read, to find the one of an image."""
_ATTESTATION = "vnd.docker.reference.type"
"""Annotation of a manifest that is no image (docs.docker.com/build/metadata/attestations/attestation-storage)."""
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_DIGEST_HEADER = "Docker-Content-Digest"
_TOKEN_ERRORS = ("details", "error_description", "message", "error")
"""Where token services put a message: Docker Hub ``details``, OAuth ``error_description`` and ``error`` (RFC 6749,
5.2)."""
_TIMEOUT = (5, 20)
"""Seconds to connect, and to answer."""
_DEADLINE = 60.0
"""Seconds from connecting to the last byte of an answer."""
_BODY_LIMIT = 8 << 20
"""Bytes of an answer. Registries accept manifests of up to 4 MiB."""
_CHALLENGE_LIMIT = 4096
_PARAMETER = re.compile(r'(\w+)\s*=\s*(?:"([^"]*)"|([^\s,"]+))')


class AccessDeniedError(Exception):
    """The registry, or its token service, rejects the login or requires one; the message is its own.

    Attributes:
        is_login_rejected: whether a login was sent, and itself rejected.
    """

    def __init__(self, message: str, *, is_login_rejected: bool = False) -> None:
        super().__init__(message)
        self.is_login_rejected = is_login_rejected


class RegistryUnavailableError(Exception):
    """The registry gave no usable answer; the message says why."""


class RealmRefusedError(RegistryUnavailableError):
    """The registry wants the login to be sent to a host that is not its own; it was not sent."""


def find_digest(image: ImageRef, image_id: str, login: Login | None, clock: Clock | None = None) -> str | None:
    """Return the digest of an image in its registry, if exactly this image has this name there.

    An image's id is the digest of its configuration, which the manifest names; in an engine that stores images in
    containerd it is the digest of the manifest, or index, itself. If the name leads to an index of images for several
    platforms, one of which is this image, its digest is returned, not that of the index: nodes would choose among them.

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
        client = _Client(session, login)
        response = client.manifest(image, "pull")
        if response.status_code == 404:
            return None
        found = _digests(response, login)
        if image_id in (found.digest, found.configuration):
            return found.digest
        return client.find_in_index(repository_of(image), found, image_id, response)


def request_push_access(
    repository: str, login: Login | None, clock: Clock | None = None, *, sample: ImageRef | None = None
) -> str | None:
    """Ask a registry for permission to push, as the first request of a push does. Nothing is written there.

    Args:
        repository: ``HOST[:PORT]/NAME``, which images are pushed below.
        login: as for :func:`find_digest`.
        clock: likewise.
        sample: the image to request access with; None for one below ``repository``.

    Returns:
        What the registry answers, given the permission, where that is an error: that there is no such repository, or
        only no such image yet. Else None.

    Raises:
        AccessDeniedError: there is no login, or it does not permit a push.
        RealmRefusedError, RegistryUnavailableError: as there.
    """
    with _session(clock) as session:
        response = _Client(session, login).manifest(sample or Place(repository).sample, "pull,push")
        return None if response.status_code == 200 else _error_message(response, login)


def has_tags(repository: str, login: Login | None, clock: Clock | None = None) -> bool:
    """Return whether a registry has images in a repository.

    Source: the OCI distribution specification, "Listing Tags".

    Args:
        repository: ``HOST[:PORT]/NAME``.
        login: as for :func:`find_digest`.
        clock: likewise.

    Raises:
        AccessDeniedError, RealmRefusedError, RegistryUnavailableError: as there.
    """
    host, _, name = repository.partition("/")
    with _session(clock) as session:
        response = _Client(session, login).get(f"{api_url(host)}{name}/tags/list?n=1", "pull")
        if response.status_code not in (200, 404):
            raise RegistryUnavailableError(_error_message(response, login))
        answer = _json(response) if response.status_code == 200 else None
        return isinstance(answer, dict) and bool(answer.get("tags"))


def challenge_of(host: str, clock: Clock | None = None) -> str:
    """Return how a registry asks for a login: the header WWW-Authenticate; ``""`` where it does not ask.

    Nothing is sent that is secret.

    Raises:
        RegistryUnavailableError: it does not answer.
    """
    with _session(clock) as session:
        response = session.get(api_url(host), timeout=_TIMEOUT)
        return str(response.headers.get("WWW-Authenticate", ""))[:_CHALLENGE_LIMIT]


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
        return self.get(manifest_url(image), actions)

    def get(self, url: str, actions: str) -> requests.Response:
        """Get something of a repository, with permission for ``actions``."""
        response = self._get(url, None)
        sent = None
        if response.status_code == 401:
            sent = self._authorization(response, actions)
            response = self._get(url, sent)
        words = _error_message(response, self.login) if response.status_code in (401, 403) else ""
        if response.status_code == 401 or is_expired(words):
            is_basic = sent is not None and sent.startswith("Basic ")
            raise AccessDeniedError(words, is_login_rejected=is_basic and response.status_code == 401)
        return response

    def find_in_index(
        self, repository: str, index: _Manifest, image_id: str, response: requests.Response
    ) -> str | None:
        """Return the digest of the manifest of an image, if an index has it.

        Args:
            repository: of the index.
            index: the manifest that may be one.
            image_id: ``sha256:<64 hex digits>``.
            response: the answer that it came in, for the authorization that was sent.
        """
        if image_id in index.images:
            return image_id
        sent = response.request.headers.get("Authorization")
        for digest in index.images[:_LARGEST_INDEX]:
            answer = self._get(manifest_url(f"{repository}@{digest}"), sent)
            found = _digests(answer, self.login) if answer.status_code == 200 else None
            if found is not None and (found.digest, found.configuration) == (digest, image_id):
                return digest
        return None

    def _authorization(self, unauthorized: requests.Response, actions: str) -> str:
        """Return the value of the header Authorization that answers the challenge of a 401 response."""
        challenge = unauthorized.headers.get("WWW-Authenticate", "")[:_CHALLENGE_LIMIT]
        if bearer := re.search(r"\bbearer\s+(.*)", challenge, re.IGNORECASE):
            found = _PARAMETER.findall(bearer.group(1))
            # The first of each name: those of another challenge may follow.
            parameters = {key.lower(): quoted or plain for key, quoted, plain in reversed(found)}
            registry = urlsplit(unauthorized.url)
            name = re.sub(r"/(?:manifests|tags)/[^/]*$", "", registry.path.removeprefix("/v2/"))
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
            is_rejected = response.status_code == 401 and self.login is not None
            raise AccessDeniedError(_error_message(response, self.login), is_login_rejected=is_rejected)
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


@dataclass(frozen=True)
class _Manifest:
    """A manifest, or an index of manifests.

    Attributes:
        digest: its own.
        configuration: the digest of the configuration that it names, ``""`` where it names none.
        images: the digests of the images of an index.
    """

    digest: str
    configuration: str
    images: tuple[str, ...]


def _digests(response: requests.Response, login: Login | None) -> _Manifest:
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
    configuration = str(config.get("digest")) if isinstance(config, dict) else ""
    return _Manifest(digest, configuration, tuple(_images(manifest)))


def _images(manifest: dict[str, object]) -> Iterator[str]:
    """Yield the digests of the images of an index, without what is attached to them."""
    entries = manifest.get("manifests")
    for entry in entries if isinstance(entries, list) else ():
        if not isinstance(entry, dict) or entry.get("mediaType") in _INDEX_TYPES:
            continue
        annotations, digest = entry.get("annotations"), entry.get("digest")
        is_attached = isinstance(annotations, dict) and _ATTESTATION in annotations
        if not is_attached and isinstance(digest, str) and _DIGEST.fullmatch(digest):
            yield digest


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
    if not lines and isinstance(answer, dict):  # token services have errors of their own
        lines = [answer[key] for key in _TOKEN_ERRORS if isinstance(answer.get(key), str) and answer[key].strip()][:1]
    sent = (response.request.headers.get("Authorization") or "").rpartition(" ")[2]
    secrets = (sent, login.password, login.basic) if login else (sent,)
    return clean_text("; ".join(lines) or f"{response.status_code} {response.reason}", secrets)
