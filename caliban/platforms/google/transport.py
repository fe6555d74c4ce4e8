"""How Google's APIs are talked to: one connection per thread, and one token for all.

google-api-python-client only asks its ``http`` for a ``request`` method. Ours stands on ``requests``: httplib2, the
usual one, silently sends a request again when the connection breaks, which must not happen to a job's submission,
and neither of them may be shared by threads
(https://googleapis.github.io/google-api-python-client/docs/thread_safety.html).
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

from caliban.platforms.google.errors import (
    CredentialsError,
    GoogleRefusedError,
    GoogleUnreachableError,
    misunderstood,
    token_failure,
    unreachable,
    words,
)
from caliban.platforms.retry import RetryPolicy, parse_retry_after
from caliban.records import JsonObject
from caliban.redaction import redact, strip_userinfo

if TYPE_CHECKING:
    from google.auth.credentials import Credentials
    from requests import Session

_T = TypeVar("_T")


class Response(dict[str, str]):
    """An answer as google-api-python-client wants it: a mapping of its headers (lower case), and its status."""

    def __init__(self, status: int, reason: str, headers: Mapping[str, str]) -> None:
        super().__init__({name.lower(): value for name, value in headers.items()})
        self.status = status
        self.reason = reason


class RefreshingCredentials:
    """Credentials that any thread may use: refreshed by one of them at a time, for all."""

    def __init__(self, credentials: Credentials, retry_policy: RetryPolicy) -> None:
        self.credentials = credentials
        self._retry_policy = retry_policy
        self._lock = threading.Lock()
        self._refusal: CredentialsError | None = None

    def apply(self, headers: dict[str, str]) -> str:
        """Add the token to ``headers``, fetching one where needed. Returns the token.

        Raises:
            CredentialsError: ``credentials-refused``; asked for once, not again for each job.
            GoogleUnreachableError: the token endpoint cannot be reached.
        """
        with self._lock:
            if not self.credentials.valid:
                self._refresh()
            self.credentials.apply(headers)  # type: ignore[no-untyped-call]
            return str(self.credentials.token)

    def renew(self, refused_token: str) -> None:
        """Fetch another token, unless another thread did so since ``refused_token`` was used."""
        with self._lock:
            if self.credentials.token == refused_token:
                self._refresh()

    def _refresh(self) -> None:
        import google.auth.exceptions
        import google.auth.transport.requests

        if self._refusal is not None:
            raise self._refusal
        request = partial(google.auth.transport.requests.Request(), timeout=self._retry_policy.read_timeout)
        try:
            self.credentials.refresh(request)  # type: ignore[no-untyped-call]
        except google.auth.exceptions.GoogleAuthError as error:
            failure = token_failure(error, self._secrets())
            if isinstance(failure, CredentialsError):
                self._refusal = failure
            # from None: google-auth's own words, which may repeat what was sent, are the cause, without secrets.
            raise failure from None
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            # What google-auth makes of an answer that is no JSON object, such as the page of a proxy.
            raise misunderstood("fetch an access token", f"{type(error).__name__}: {error}") from error

    def _secrets(self) -> list[object]:
        """What the token endpoint is sent, but for assertions, which are signed anew each time."""
        return [getattr(self.credentials, name, None) for name in ("refresh_token", "client_secret", "token")]


class Transport:
    """The ``http`` of google-api-python-client, for any number of threads. Sends each request once."""

    def __init__(self, authority: RefreshingCredentials, user_agent: str, retry_policy: RetryPolicy) -> None:
        self._credentials = authority
        self._user_agent = user_agent
        self._timeout = (retry_policy.connect_timeout, retry_policy.read_timeout)
        self._local = threading.local()

    @property
    def credentials(self) -> Credentials:
        """Looked at by google-api-python-client to compare universe domains."""
        return self._credentials.credentials

    def request(
        self,
        uri: str,
        method: str = "GET",
        body: str | bytes | None = None,
        headers: Mapping[str, str] | None = None,
        **_: object,
    ) -> tuple[Response, bytes]:
        """One request, and one more with a new token where the first was answered 401.

        Raises:
            CredentialsError, GoogleUnreachableError: see :meth:`RefreshingCredentials.apply`; the latter also
            without an answer.
        """
        for attempt in (1, 2):
            sent = {**(headers or {}), "user-agent": self._user_agent}
            token = self._credentials.apply(sent)
            response, content = self._send(uri, method, body, sent)
            # Proxies that refuse a request tend to show it whole.
            content = redact([token], content.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")
            if response.status != 401 or attempt == 2:
                break
            self._credentials.renew(token)
        return response, content

    def close(self) -> None:
        """Called by google-api-python-client; connections end with their threads."""

    def _send(self, uri: str, method: str, body: str | bytes | None, headers: dict[str, str]) -> tuple[Response, bytes]:
        import requests

        try:
            answer = self._session().request(
                method, uri, data=body, headers=headers, timeout=self._timeout, allow_redirects=False
            )
        except requests.RequestException as error:
            raise unreachable(f"reach {strip_userinfo(uri.partition('?')[0])}", error) from error
        return Response(answer.status_code, answer.reason, answer.headers), answer.content

    def _session(self) -> Session:
        import requests

        if not hasattr(self._local, "session"):
            session = requests.Session()
            session.auth = _leave_as_it_is  # else ~/.netrc would take the place of the token
            self._local.session = session
        made: Session = self._local.session
        return made


def _leave_as_it_is(request: _T) -> _T:
    return request


class ApiRequest(Protocol):
    """A request of google-api-python-client: what ``service.projects().jobs().get(...)`` gives."""

    def execute(self, *, num_retries: int) -> object:
        """Send it."""


def execute_once(request: ApiRequest, doing: str) -> JsonObject:
    """Send a request of google-api-python-client, once.

    Args:
        request: the request.
        doing: what is being done, in the infinitive, for messages: ``submit the job x``.

    Raises:
        GoogleRefusedError: an error was answered, told in Google's own words.
        GoogleUnreachableError: there was no answer, or none that can be understood.
        CredentialsError: nothing was sent.
    """
    from googleapiclient.errors import HttpError  # type: ignore[import-untyped]

    try:
        answer = request.execute(num_retries=0)
    except HttpError as error:
        status, cause = words(error.content, error.resp.reason)
        retry_after = parse_retry_after(error.resp.get("retry-after"))
        raise GoogleRefusedError(int(error.resp.status), status, doing, cause, retry_after) from error
    except GoogleUnreachableError as error:
        raise GoogleUnreachableError(
            error.id, f"cannot {doing}: {error.message}", cause=error.cause, hint=error.hint
        ) from error
    if not isinstance(answer, Mapping):  # a proxy's page, for example
        raise misunderstood(doing, str(answer))
    return answer
