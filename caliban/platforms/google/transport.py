"""The HTTP transport of Google's APIs: one connection per thread, one access token for all threads.

google-api-python-client only makes the requests: its ``execute`` ends in a traceback after some odd answers. They are
sent by ``requests``: httplib2, the default, silently sends a request again when the connection breaks, which must not
happen to a submission, and neither of them may be shared by threads
(https://googleapis.github.io/google-api-python-client/docs/thread_safety.html).
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit, urlunsplit

from caliban.bounded import parse_json, parse_retry_after
from caliban.platforms.context import PlatformContext
from caliban.platforms.google.endpoints import Endpoint
from caliban.platforms.google.errors import (
    ForeignAnswerError,
    GoogleRefusedError,
    GoogleUnreachableError,
    refusal_of,
    unreachable,
)
from caliban.platforms.google.tokens import RefreshingCredentials
from caliban.platforms.retry import RetryPolicy
from caliban.records import JsonObject
from caliban.redaction import redact, strip_userinfo

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

    from caliban.bounded_http import LimitedSession

_LONGEST_URI = 2048
"""Longer ones are sent as the body of a POST request, as google-api-python-client does."""


@dataclass(frozen=True)
class Response:
    """An answer of any status.

    Attributes:
        status: of HTTP.
        reason: its reason phrase.
        headers: by name, in lower case.
        content: the body, decompressed, without the access token of the request.
    """

    status: int
    reason: str
    headers: Mapping[str, str]
    content: bytes


class Transport:
    """The ``http`` of google-api-python-client, for any number of threads. Sends each request once."""

    def __init__(
        self,
        credentials: RefreshingCredentials,
        user_agent: str,
        endpoint: Endpoint,
        policy: RetryPolicy,
        context: PlatformContext,
    ) -> None:
        self._credentials = credentials
        self._user_agent = user_agent
        self._endpoint = endpoint
        self._policy = policy
        self._context = context
        self._local = threading.local()

    @property
    def credentials(self) -> Credentials:
        """Read by google-api-python-client to compare universe domains."""
        return self._credentials.credentials

    def request(self, uri: str, method: str, body: str | bytes | None, headers: Mapping[str, str]) -> Response:
        """Send one request.

        Raises:
            PlatformError: ``endpoint-not-allowed``.
            CredentialsError, GoogleUnreachableError: see :meth:`RefreshingCredentials.apply`; the latter also where
                there is no answer.
        """
        self._endpoint.check(uri)
        sent = {**headers, "user-agent": self._user_agent}
        try:
            token = self._credentials.apply(sent)
        except GoogleUnreachableError as error:
            error.outcome_unknown = False  # the request itself was not sent
            raise
        return self._send(uri, method, body, sent, token)

    def renew(self) -> bool:
        """Fetch another token after an answer that does not accept this thread's last one; see
        :meth:`RefreshingCredentials.renew`.
        """
        return self._credentials.renew(self._local.token)

    def close(self) -> None:
        """Do nothing: google-api-python-client calls this; connections end with their threads."""

    def _send(self, uri: str, method: str, body: str | bytes | None, headers: dict[str, str], token: str) -> Response:
        import requests

        self._local.token = token
        timeout = (self._policy.connect_timeout, self._policy.read_timeout)
        try:
            answer = self._session().request(method, uri, data=body, headers=headers, timeout=timeout)
        except (requests.RequestException, UnicodeError) as error:
            failure = unreachable(f"reach {strip_userinfo(uri.partition('?')[0])}", error)
            if isinstance(error, ValueError):  # a header or URL that cannot be sent
                failure.is_transient = failure.outcome_unknown = False
            raise failure from None  # the text of requests, without secrets, is in the cause
        # a proxy that refuses a request may repeat it
        content = redact([token], answer.content.decode("utf-8", "surrogateescape"))
        return Response(
            answer.status_code,
            str(answer.reason or ""),
            {name.lower(): value for name, value in answer.headers.items()},
            content.encode("utf-8", "surrogateescape"),
        )

    def _session(self) -> LimitedSession:
        from caliban.bounded_http import LimitedSession, Limits

        if not hasattr(self._local, "session"):
            limits = Limits(self._context.clock, self._policy.request_deadline, on_slow=self._report_slow)
            self._local.session = LimitedSession(limits)
        made: LimitedSession = self._local.session
        return made

    def _report_slow(self) -> None:
        self._context.announce(f"waiting for an answer of {urlsplit(self._endpoint.url).netloc} ...")


class ApiRequest(Protocol):
    """A request of google-api-python-client: what ``service.projects().jobs().get(...)`` returns."""

    uri: str
    method: str
    body: str | bytes | None
    headers: Mapping[str, str]
    http: Transport


def execute_once(request: ApiRequest, action: str) -> JsonObject:
    """Send a request of google-api-python-client, once, and return the answer.

    Args:
        request: the request.
        action: what it does, in the infinitive, for messages: ``submit the job x``.

    Raises:
        GoogleRefusedError: Google answered with an error. After 401 it is transient if there is a new token.
        GoogleUnreachableError: there was no answer, or none of Google's API.
        CredentialsError: nothing was sent.
        PlatformError: nothing was sent: ``endpoint-not-allowed``.
    """
    uri, method, body, headers = _as_sent(request)
    try:
        response = request.http.request(uri, method, body, headers)
    except GoogleUnreachableError as error:
        error.args = (f"cannot {action}: {error.message}",)
        error.message = f"cannot {action}: {error.message}"
        raise
    if response.status != 200:
        raise _refusal(request.http, response, action)
    try:
        answer = parse_json(response.content)
    except ValueError:  # a proxy's page, for example
        answer = None
    if not isinstance(answer, dict):
        raise ForeignAnswerError(action, response.status, response.content.decode("utf-8", "replace"))
    return answer


def _as_sent(request: ApiRequest) -> tuple[str, str, str | bytes | None, dict[str, str]]:
    """Return URL, method, body and headers of a request; a long query as a form, which the APIs accept instead."""
    headers = dict(request.headers)
    if request.method != "GET" or len(request.uri) <= _LONGEST_URI:
        return request.uri, request.method, request.body, headers
    parts = urlsplit(request.uri)
    headers["x-http-method-override"] = "GET"
    headers["content-type"] = "application/x-www-form-urlencoded"
    return urlunsplit(parts._replace(query="")), "POST", parts.query, headers


def _refusal(http: Transport, response: Response, action: str) -> Exception:
    headers = response.headers
    retry_after = parse_retry_after(headers.get("retry-after"), headers.get("date"))
    error = refusal_of(response.status, response.reason, response.content, action, retry_after)
    if isinstance(error, GoogleRefusedError) and error.code == 401:
        error.is_transient = http.renew()
    return error
