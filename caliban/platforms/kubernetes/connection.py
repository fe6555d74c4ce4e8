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
from urllib.parse import urlsplit

from caliban.clock import Clock
from caliban.platforms.kubernetes.transport import make_pool
from caliban.urls import split_url

if TYPE_CHECKING:
    from urllib3 import PoolManager

_EXPIRY_MARGIN = timedelta(minutes=5)
_AUTHORITY = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9.])?)(?::\d{1,5})?")
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_PEM = re.compile(r"-----BEGIN [A-Z ]+-----[A-Za-z0-9+/=\s]+-----END [A-Z ]+-----")
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


class Credentials:
    """A credential that is fetched again before it expires. May be shared by threads."""

    def __init__(self, fetch: Callable[[], Credential], clock: Clock) -> None:
        self._fetch, self._clock = fetch, clock
        self._lock = threading.Lock()
        self._current: Credential | None = None

    def current(self) -> Credential:
        """Return a credential that is valid for some minutes.

        Raises:
            CalibanError: it cannot be fetched.
        """
        with self._lock:
            found = self._current
            if found is None or (found.expires is not None and found.expires <= self._soon()):
                found = self._current = self._fetch()
            return found

    def _soon(self) -> datetime:
        return self._clock.now().astimezone(timezone.utc) + _EXPIRY_MARGIN


@dataclass(frozen=True)
class Connection:
    """An API server, and the user.

    Attributes:
        server: its URL, without a slash at the end.
        credentials: of the user.
        authority: the certificates of its CA, in PEM; None for the public CAs.
        tls_server_name: the name in its certificate, where that is not the host of ``server``.
        proxy: the URL of a proxy, or None.
    """

    server: str
    credentials: Credentials = field(repr=False, compare=False)
    authority: str | None = field(default=None, repr=False)
    tls_server_name: str | None = None
    proxy: str | None = field(default=None, repr=False)

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
            options |= {"server_hostname": self.tls_server_name, "assert_hostname": self.tls_server_name}
        return make_pool(self.proxy if self.server.startswith("https:") else None, **options)


def server_identity(server: str, authority: str | None) -> str:
    """Return what tells a server from others: its URL, with a hash of its CA."""
    return f"{server} {sha256(''.join((authority or '').split()).encode()).hexdigest()[:16]}"


def make_tls(authority: str | None, certificate: tuple[str, str] | None = None) -> ssl.SSLContext:
    """Return settings of TLS that verify the server's certificate, with the given CA or the public ones.

    Raises:
        ssl.SSLError, ValueError, OSError: a certificate is malformed.
    """
    import certifi

    # create_default_context demands extensions (VERIFY_X509_STRICT) that the CAs of many clusters do not have
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if authority is not None:
        # only certificates: OpenSSL accepts no text outside ASCII between them
        context.load_verify_locations(cadata="\n".join(_PEM.findall(authority)) or "none")
    else:
        context.load_default_certs()
        if not context.cert_store_stats()["x509_ca"]:
            context.load_verify_locations(certifi.where())
    if certificate is not None:
        _load_certificate(context, *certificate)
    return context


def proxy_of(server: str) -> str | None:
    """Return the proxy for a server that the environment variables name, or None; this machine needs none."""
    from requests.utils import get_environ_proxies, select_proxy

    if urlsplit(server).hostname in LOOPBACK:
        return None
    proxy: str | None = select_proxy(server, get_environ_proxies(server))
    return proxy


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
