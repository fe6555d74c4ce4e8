"""Two questions to a registry: does it have exactly this image, and may one be pushed? By its HTTP API, version 2.

Sources: the OCI distribution specification (github.com/opencontainers/distribution-spec) for manifests, and
distribution.github.io/distribution/spec/auth/token and .../oauth for the way to a bearer token.
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

_MANIFESTS = (
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.index.v1+json",
)
_DIGEST_HEADER = "Docker-Content-Digest"
_SECONDS_TO_CONNECT = 5
_SECONDS_TO_ANSWER = 20
_PARAMETER = re.compile(r'(\w+)\s*=\s*(?:"([^"]*)"|([^\s,"]+))')


class RegistryRefusedError(Exception):
    """The registry, or its token service, does not take the login, or wants one; in its own words."""


class NoAnswerError(Exception):
    """The registry did not say whether it has the image; why."""


def digest_there(image: ImageRef, image_id: str, login: Login | None) -> str | None:
    """Ask the registry for the manifest of exactly this image under this name.

    An image's id is the digest of its configuration, which the manifest names; in an engine that keeps its images in
    containerd it is the digest of the manifest, or index, itself.

    Args:
        image: ``HOST[:PORT]/NAME:TAG``.
        image_id: ``sha256:<64 hex digits>``.
        login: used when the registry asks for one, over https or to the loopback only.

    Returns:
        The manifest's digest, ``sha256:<64 hex digits>``; None where the registry has no such image.

    Raises:
        RegistryRefusedError: there is no login, or it is not taken.
        NoAnswerError: anything else.
    """
    with _told(registry_host(image)) as session:
        response = _Conversation(session, login).manifest(image, "pull")
        if response.status_code == 404:
            return None
        digest, configuration = _digests(response, login)
        return digest if image_id in (digest, configuration) else None


def words_about(repository: str, login: Login | None) -> str | None:
    """Ask a registry for leave to push to a place, as a push does at first. Nothing is written there.

    Args:
        repository: ``HOST[:PORT]/NAME``, which images are pushed below.
        login: as for :func:`digest_there`.

    Returns:
        What it says of the place beside giving leave, where it finds anything amiss: that it knows no such
        repository, or only that it has no such image yet.

    Raises:
        RegistryRefusedError: there is no login, or it gives no leave to push.
        NoAnswerError: anything else.
    """
    with _told(registry_host(repository)) as session:
        response = _Conversation(session, login).manifest(f"{repository}/caliban:latest", "pull,push")
        return None if response.status_code == 200 else _words(response, login)


@contextmanager
def _told(host: str) -> Iterator[requests.Session]:
    """Talk to a registry.

    Raises:
        NoAnswerError: in the words of what failed, for what requests and parsers raise.
    """
    import requests

    try:
        with requests.Session() as session:
            # A proxy of the environment leads away from the loopback.
            session.trust_env = not is_loopback(host)
            yield session
    except (requests.RequestException, UnicodeError) as error:
        raise NoAnswerError(_reason(error)) from error


@dataclass(frozen=True)
class _Conversation:
    session: requests.Session
    login: Login | None

    def manifest(self, image: ImageRef, actions: str) -> requests.Response:
        """Get a manifest, with leave for the ``actions``: ``pull`` or ``pull,push``."""
        url = manifest_url(image)
        response = self._get(url, None)
        if response.status_code == 401:
            response = self._get(url, self._authorization(response, actions))
        if response.status_code == 401:
            raise RegistryRefusedError(_words(response, self.login))
        return response

    def _authorization(self, refusal: requests.Response, actions: str) -> str:
        """Earn what the header Authorization has to say for the ``actions``, by the challenge of a refusal."""
        challenge = refusal.headers.get("WWW-Authenticate", "")
        if bearer := re.search(r"\bbearer\s+(.*)", challenge, re.IGNORECASE):
            found = _PARAMETER.findall(bearer.group(1))
            # The first of each name: those of another challenge may follow.
            parameters = {key.lower(): quoted or plain for key, quoted, plain in reversed(found)}
            name = urlsplit(refusal.url).path.removeprefix("/v2/").partition("/manifests/")[0]
            scope = (parameters.get("scope") or f"repository:{name}:pull").rpartition(":")[0]
            return f"Bearer {self._token({**parameters, 'scope': f'{scope}:{actions}'})}"
        if self.login is None or self.login.is_identity_token or not re.match(r"\s*basic\b", challenge, re.IGNORECASE):
            raise RegistryRefusedError(_words(refusal, self.login))
        return f"Basic {self.login.basic}"

    def _token(self, challenge: dict[str, str]) -> str:
        realm = challenge.get("realm", "")
        address = urlsplit(realm)
        if address.scheme != "https" and not (address.scheme == "http" and is_loopback(address.netloc)):
            raise NoAnswerError(f"its token service is not reached over https: {realm!r}")
        fields: dict[str, str] = {key: challenge[key] for key in ("service", "scope") if key in challenge}
        response = self._ask_for_token(realm, fields)
        if response.status_code in (401, 403):
            raise RegistryRefusedError(_words(response, self.login))
        if response.status_code != 200:
            raise NoAnswerError(f"its token service: {_words(response, self.login)}")
        answer = response.json()
        token = (answer.get("token") or answer.get("access_token")) if isinstance(answer, dict) else None
        if not isinstance(token, str):
            raise NoAnswerError("its token service gave no token")
        return token

    def _ask_for_token(self, realm: str, fields: dict[str, str]) -> requests.Response:
        if self.login is None:
            return self._get(realm, None, fields)
        if not self.login.is_identity_token:
            return self._get(realm, f"Basic {self.login.basic}", fields)
        form = {"grant_type": "refresh_token", "refresh_token": self.login.password, "client_id": "caliban", **fields}
        return self.session.post(
            realm, data=form, auth=_keep, timeout=(_SECONDS_TO_CONNECT, _SECONDS_TO_ANSWER), allow_redirects=False
        )

    def _get(self, url: str, authorization: str | None, query: dict[str, str] | None = None) -> requests.Response:
        headers = {"Accept": "application/json" if query is not None else ", ".join(_MANIFESTS)}
        if authorization is not None:
            headers["Authorization"] = authorization
        # Redirects are not followed: a login is for the host that was asked.
        return self.session.get(
            url,
            params=query,
            headers=headers,
            auth=_keep,
            timeout=(_SECONDS_TO_CONNECT, _SECONDS_TO_ANSWER),
            allow_redirects=False,
        )


def _keep(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Leave the request as it is; without any ``auth``, requests would send what ``~/.netrc`` has for the host."""
    return request


def _digests(response: requests.Response, login: Login | None) -> tuple[str, str]:
    """Find the digests of the manifest and of the configuration that it names, "" where it names none."""
    if response.status_code != 200:
        raise NoAnswerError(_words(response, login))
    manifest = response.json()
    config = manifest.get("config") if isinstance(manifest, dict) else None
    digest = f"sha256:{hashlib.sha256(response.content).hexdigest()}"
    told = response.headers.get(_DIGEST_HEADER, digest)
    if told.startswith("sha256:") and told != digest:
        raise NoAnswerError(f"the manifest that came is not the one that it tells of, {told}")
    return digest, str(config.get("digest")) if isinstance(config, dict) else ""


def _reason(error: BaseException) -> str:
    """Find the operating system's or parser's word at the bottom of what requests and urllib3 wrap around it."""
    while below := error.__cause__ or (None if error.__suppress_context__ else error.__context__):
        error = below
    return (error.strerror if isinstance(error, OSError) else None) or strip_userinfo(str(error))


def _words(response: requests.Response, login: Login | None) -> str:
    """Give a refusal's own words (the specification's error object), or its status line; no token is in them."""
    words = f"{response.status_code} {response.reason}"
    try:
        errors = response.json()["errors"]
        words = "; ".join(f"{each['code'].replace('_', ' ').lower()}: {each['message']}" for each in errors) or words
    except (ValueError, LookupError, TypeError, AttributeError):  # not an error object: the status has to do
        pass
    words = redact([(response.request.headers.get("Authorization") or "").rpartition(" ")[2]], words)
    return login.hidden_in(words) if login else words
