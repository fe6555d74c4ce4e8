"""How to reach an API server, and as whom."""

from __future__ import annotations

import os
import re
import ssl
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from caliban.clock import Clock
from caliban.platforms.kubernetes.proxies import secrets_of
from caliban.platforms.kubernetes.transport import make_pool
from caliban.redaction import register_secrets
from caliban.urls import split_url

if TYPE_CHECKING:
    from urllib3 import PoolManager

_EXPIRY_MARGIN = timedelta(minutes=5)
_EXPIRY_SHARE = 5
"""A credential that lives shortly is fetched again in the last fifth of its life: not for each request."""
_RENEWAL_INTERVAL = 60
"""Seconds after a renewal for which a rejected credential is not renewed again: that has not helped."""
_AUTHORITY = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9.])?)(?::\d{1,5})?")
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----")
_HEADER_VALUE = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True)
class Credential:
    """What a request shows to the API server.

    Attributes:
        authorization: the value of the header: ``Bearer ...``; None for none.
        certificate: a client certificate and its key, in PEM, or None.
        expires: when it ceases to be valid, with a time zone, or None.
    """

    authorization: str | None = field(default=None, repr=False)
    certificate: tuple[str, str] | None = field(default=None, repr=False)
    expires: datetime | None = None

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must not be shown."""
        return (self.authorization.rpartition(" ")[2],) if self.authorization else ()

    def is_expired(self, clock: Clock) -> bool:
        """Return whether it is not valid any more."""
        return self.expires is not None and self.expires <= clock.now().astimezone(timezone.utc)


class Credentials:
    """A credential that is fetched again before it expires. May be shared by threads."""

    def __init__(
        self, fetch: Callable[[], Credential], clock: Clock, is_renewable: Callable[[], bool] = lambda: False
    ) -> None:
        """Fetch nothing yet.

        Args:
            fetch: returns a credential.
            clock: the time.
            is_renewable: whether another one may be accepted where the current one was rejected.
        """
        self._fetch, self._clock, self._is_renewable = fetch, clock, is_renewable
        self._lock = threading.Lock()
        self._current: Credential | None = None
        self._refresh_at: datetime | None = None
        self._renewed_at: float | None = None

    def current(self) -> Credential:
        """Return a credential that is valid for some minutes, if its life is not shorter.

        Raises:
            CalibanError: it cannot be fetched.
        """
        with self._lock:
            if self._current is None or (self._refresh_at is not None and self._refresh_at <= self._now()):
                return self._fetch_again()
            return self._current

    def renewed(self, rejected: Credential) -> Credential | None:
        """Return another credential than one that the API server has just rejected; None where there is none.

        Raises:
            CalibanError: it cannot be fetched.
        """
        with self._lock:
            if self._current is not rejected:
                return self._current  # another thread has renewed it
            now = self._clock.monotonic()
            is_early = self._renewed_at is not None and now - self._renewed_at < _RENEWAL_INTERVAL
            if is_early or not self._is_renewable():
                return None
            self._renewed_at = now
            return self._fetch_again()

    def _fetch_again(self) -> Credential:
        found = self._current = self._fetch()
        self._refresh_at = None
        if found.expires is not None:
            life = max(timedelta(), found.expires - self._now())
            self._refresh_at = found.expires - min(_EXPIRY_MARGIN, life / _EXPIRY_SHARE)
        return found

    def _now(self) -> datetime:
        return self._clock.now().astimezone(timezone.utc)


@dataclass(frozen=True)
class Connection:
    """An API server, and the user.

    Attributes:
        server: its URL, without a slash at the end.
        credentials: of the user.
        authority: the certificates of its CA, in PEM; None for the public CAs.
        tls_server_name: the name in its certificate, where that is not the host of ``server``.
        proxy: the URL of a proxy (see :func:`caliban.platforms.kubernetes.proxies.checked_proxy`), or None.
        impersonation: headers by which requests act as another user; a name may occur several times.
    """

    server: str
    credentials: Credentials = field(repr=False, compare=False)
    authority: str | None = field(default=None, repr=False)
    tls_server_name: str | None = None
    proxy: str | None = field(default=None, repr=False)
    impersonation: tuple[tuple[str, str], ...] = ()

    @property
    def identity(self) -> str:
        """Return what the server is recognised by; see :func:`server_identity`."""
        return server_identity(self.server, self.authority)

    def pool(self, certificate: tuple[str, str] | None) -> PoolManager:
        """Return connections to the server, which show a client certificate, or none. The server's is verified.

        Raises:
            ssl.SSLError, ValueError, OSError: a certificate is malformed.
        """
        options: dict[str, Any] = {"ssl_context": make_tls(self.authority, certificate)}
        if self.tls_server_name:
            # not assert_hostname, too: urllib3 would compare it itself, and report it in another way
            options["server_hostname"] = self.tls_server_name
        if self.proxy and self.server.lower().startswith("https:"):
            register_secrets(*secrets_of(self.proxy))
            # as in kubectl, the cluster's CA may have signed the certificate of an https proxy, too
            proxy_context = make_tls(None)
            _trust(proxy_context, self.authority)
            return make_pool(self.proxy, proxy_ssl_context=proxy_context, **options)
        return make_pool(**options)


def server_identity(server: str, authority: str | None) -> str:
    """Return what tells a server from others: its URL, with a hash of its CA."""
    return f"{server} {sha256(''.join((authority or '').split()).encode()).hexdigest()[:16]}"


def make_tls(authority: str | None, certificate: tuple[str, str] | None = None) -> ssl.SSLContext:
    """Return settings of TLS that verify the server's certificate, with the given CA or the public ones.

    Raises:
        ssl.SSLError, ValueError, OSError: a certificate is malformed.
    """
    import certifi

    # create_default_context, since Python 3.13, demands extensions (VERIFY_X509_STRICT: subject and authority key
    # identifiers) that the CAs of many clusters do not have. Go's client trusts an intermediate CA, too.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if authority is not None:
        _trust(context, authority)
    else:
        context.load_default_certs()
        if not context.cert_store_stats()["x509_ca"]:
            context.load_verify_locations(certifi.where())
    if certificate is not None:
        _load_certificate(context, *certificate)
    return context


def _trust(context: ssl.SSLContext, authority: str | None) -> None:
    """Trust the certificates of a CA; only certificates are passed on: OpenSSL accepts no text outside ASCII."""
    if authority is not None:
        context.load_verify_locations(cadata="\n".join(_PEM.findall(authority)) or "none")


def is_plain_authority(netloc: str) -> bool:
    """Return whether the part of a URL between ``//`` and the path is only a host, with a port or without.

    Clients disagree about who is addressed where there is more in it, such as an ``@`` or a backslash.
    """
    return _AUTHORITY.fullmatch(netloc) is not None and int(netloc.rpartition("]")[2].partition(":")[2] or 1) <= 65535


def is_https(url: str) -> bool:
    """Return whether a URL has TLS, and nothing that clients read in different ways."""
    parts = split_url(url)
    return parts is not None and parts.scheme == "https" and is_plain_authority(parts.netloc)


def bearer(token: object) -> str:
    """Return the header value of a token, without the white space around it that files and plugins add.

    Raises:
        ValueError: it is none; the message does not show it.
    """
    stripped = token.strip() if isinstance(token, str) else ""
    if not stripped:
        raise ValueError("the token is empty")
    if not _HEADER_VALUE.fullmatch(stripped):
        raise ValueError("the token has characters that no token has, such as spaces or line breaks")
    return f"Bearer {stripped}"


def _load_certificate(context: ssl.SSLContext, certificate: str, key: str) -> None:
    """Load a client certificate; OpenSSL reads it only from a file, which is removed at once."""

    def no_password() -> str:
        raise ValueError("the key of the client certificate is encrypted")

    descriptor, name = tempfile.mkstemp(prefix="caliban-")
    try:
        with os.fdopen(descriptor, "w", encoding="ascii", errors="replace") as file:
            file.write(f"{certificate.rstrip()}\n{key.rstrip()}\n")
        context.load_cert_chain(name, password=no_password)
    finally:
        os.unlink(name)  # noqa: PTH108 - one line for one file
