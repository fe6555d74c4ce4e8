"""Requests to an API server as one user, whose credential is renewed where the server rejects it."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib import metadata
from typing import TYPE_CHECKING

from caliban.bounded import parse_json
from caliban.errors import PlatformError
from caliban.platforms.context import PlatformContext
from caliban.platforms.kubernetes.connection import Connection, Credential
from caliban.platforms.kubernetes.errors import (
    KubernetesError,
    KubernetesUnreachableError,
    failure,
    foreign_answer,
    unreachable,
)
from caliban.platforms.kubernetes.streaming import ErrorResponseError, stream
from caliban.platforms.kubernetes.transport import NoResponseError, OversizedError, Request, Response, exchange
from caliban.platforms.kubernetes.warning_headers import warnings_in
from caliban.records import JsonObject
from caliban.redaction import clean_text

if TYPE_CHECKING:
    from urllib3 import PoolManager

_MAX_SHOWN = 100_000
_UNAUTHORIZED = 401


class Session:
    """Sends single requests to one API server. May be shared by threads.

    Every method raises :class:`~caliban.platforms.kubernetes.errors.KubernetesError`, or what the credentials raise.
    """

    def __init__(
        self, connection: Connection, name: str, context: PlatformContext, timeouts: tuple[float, float]
    ) -> None:
        """Send nothing yet.

        Args:
            connection: the server, its CA, and credentials.
            name: of the cluster, for messages.
            context: where it is reported what is waited for, and what ends a stream.
            timeouts: seconds for a connection, and for the response.
        """
        self._connection, self._name = connection, name
        self._context, self._timeouts = context, timeouts
        self._lock = threading.Lock()
        self._pools: dict[tuple[str, str] | None, PoolManager] = {}

    def send(
        self,
        method: str,
        path: str,
        action: str,
        kinds: tuple[str, ...],
        body: JsonObject | None = None,
        on_warning: Callable[[str], None] = lambda text: None,
    ) -> JsonObject:
        """Send one request, and return the object in its response, which is one of ``kinds``.

        A credential that is rejected is renewed once, and the request, which had no effect, sent again.
        """
        credentials, content = self._connection.credentials, json.dumps(body).encode() if body is not None else None
        credential = credentials.current()
        response = self._exchange(self._request(method, path, credential, content), credential.certificate, action)
        renewed = credentials.renewed(credential) if response.status == _UNAUTHORIZED else None
        if renewed is not None:
            credential = renewed
            response = self._exchange(self._request(method, path, credential, content), credential.certificate, action)
        for warning in warnings_in(response.headers):
            on_warning(_redacted(credential.secrets, warning))
        parsed = _parsed(response.content)
        if response.status >= 300 or not isinstance(parsed, Mapping) or parsed.get("kind") not in kinds:
            raise _failure(response, credential.secrets, action)
        return parsed

    def stream(self, path: str, action: str, *, ends_when_silent: bool) -> Iterator[bytes]:
        """Send one request, and yield its response while it comes; a credential is renewed as by :meth:`send`."""
        credentials = self._connection.credentials
        credential: Credential | None = credentials.current()
        is_renewed = False
        while credential is not None:
            try:
                yield from self._stream_once(path, credential, ends_when_silent=ends_when_silent)
                return
            except ErrorResponseError as error:
                secrets, response = credential.secrets, error.response
                may_renew = response.status == _UNAUTHORIZED and not is_renewed
                credential = credentials.renewed(credential) if may_renew else None
                if credential is None:
                    raise _failure(response, secrets, action) from None
                is_renewed = True
            except NoResponseError as error:
                raise self._unreachable(action, error) from error
            except OversizedError as error:
                raise foreign_answer(action, str(error)) from error

    def _stream_once(self, path: str, credential: Credential, *, ends_when_silent: bool) -> Iterator[bytes]:
        request = self._request("GET", path, credential, None)
        pool = self._pool(credential.certificate)
        return stream(pool, request, self._timeouts, self._context.stopping, ends_when_silent=ends_when_silent)

    def _request(self, method: str, path: str, credential: Credential, content: bytes | None) -> Request:
        authorization = {"Authorization": credential.authorization} if credential.authorization else {}
        headers = {
            "Accept": "application/json, */*",
            "Content-Type": "application/json",
            "User-Agent": f"caliban/{metadata.version('caliban')}",
            **authorization,
        }
        url = f"{self._connection.server}/{path}"
        return Request(method, url, headers, content, self._connection.impersonation)

    def _exchange(self, request: Request, certificate: tuple[str, str] | None, action: str) -> Response:
        on_wait = partial(self._context.announce, f"waiting for the {self._name} ...")
        try:
            return exchange(self._pool(certificate), request, self._timeouts, on_wait)
        except NoResponseError as error:
            raise self._unreachable(action, error) from error
        except OversizedError as error:
            raise foreign_answer(action, str(error)) from error

    def _unreachable(self, action: str, error: NoResponseError) -> KubernetesUnreachableError:
        return unreachable(action, error.error, was_sent=error.was_sent, proxy=self._connection.proxy)

    def _pool(self, certificate: tuple[str, str] | None) -> PoolManager:
        with self._lock:
            if certificate not in self._pools:
                try:
                    self._pools[certificate] = self._connection.pool(certificate)
                except (OSError, ValueError) as error:
                    reason = error.reason if isinstance(error, ssl.SSLError) else None
                    raise PlatformError(
                        "kubeconfig-malformed",
                        f"a certificate of the {self._name} cannot be read",
                        cause=str(reason or error or type(error).__name__),
                        hint="check certificate-authority-data, client-certificate-data and client-key-data in the "
                        "kubeconfig",
                    ) from error
            return self._pools[certificate]


def _failure(response: Response, secrets: tuple[str, ...], action: str) -> KubernetesError:
    """Return the error for a response that is not the requested one."""
    redacted = partial(_redacted, secrets)
    text = redacted(response.content[:_MAX_SHOWN].decode("utf-8", "replace"))
    if response.status < 400:
        return foreign_answer(action, text or f"HTTP {response.status}")
    parsed, reason = _parsed(response.content), redacted(response.reason)
    return failure(response.status, parsed, text, reason, response.headers, action, redacted)


def _parsed(content: bytes) -> object:
    """Return the JSON of a response; None where it is none, or nested too deeply."""
    try:
        return parse_json(content)
    except ValueError:
        return None


def _redacted(secrets: tuple[str, ...], text: str) -> str:
    """Return a part of a response without our token, which a proxy before the cluster may repeat."""
    return clean_text(text, secrets)
