"""The HTTP transport of Google's APIs: one connection per thread, one access token for all threads.

google-api-python-client only calls ``request`` of its ``http``. Ours uses ``requests``: httplib2, the default, silently
sends a request again when the connection breaks, which must not happen to a submission, and neither of them may be
shared by threads (https://googleapis.github.io/google-api-python-client/docs/thread_safety.html).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from caliban.bounded import parse_retry_after
from caliban.platforms.google.errors import (
    TRANSIENT_STATUSES,
    CredentialsError,
    GoogleRefusedError,
    GoogleUnreachableError,
    parse_error,
    token_failure,
    unexpected_answer,
    unreachable,
)
from caliban.platforms.retry import RetryPolicy
from caliban.records import JsonObject
from caliban.redaction import redact, strip_userinfo

if TYPE_CHECKING:
    from google.auth.credentials import Credentials
    from requests import Session

_T = TypeVar("_T")

_TRANSIENT_TOKEN_STATUSES = TRANSIENT_STATUSES | {408}
_TRANSIENT_TOKEN_ERRORS = frozenset({"internal_failure", "server_error", "temporarily_unavailable"})
"""Of an OAuth error response (RFC 6749, 4.1.2.1), and Google's own."""


class Response(dict[str, str]):
    """An answer in the form that google-api-python-client expects: its headers (lower case) and its status."""

    def __init__(self, status: int, reason: str, headers: Mapping[str, str]) -> None:
        super().__init__({name.lower(): value for name, value in headers.items()})
        self.status = status
        self.reason = reason


class RefreshingCredentials:
    """Credentials that threads share; one thread at a time refreshes them, for all."""

    def __init__(self, credentials: Credentials, retry_policy: RetryPolicy) -> None:
        self.credentials = credentials
        self._retry_policy = retry_policy
        self._lock = threading.Lock()
        self._refusal: CredentialsError | None = None

    def apply(self, headers: dict[str, str]) -> str:
        """Add the token to ``headers``, and return it. Fetches one, with one request, if there is no valid token.

        Raises:
            CredentialsError: ``credentials-refused``; raised again without a request the next time.
            GoogleUnreachableError: the token endpoint does not answer, or not now.
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
        session = google.auth.transport.requests.Request()
        try:
            self.credentials.refresh(_single_attempt(session, self._retry_policy.read_timeout))  # type: ignore[no-untyped-call]
        except google.auth.exceptions.GoogleAuthError as error:
            failure = token_failure(error, self._secrets())
            if isinstance(failure, CredentialsError):
                self._refusal = failure
            # from None: the text of google-auth, which may repeat what was sent, is in the cause, without secrets
            raise failure from None
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            # raised by google-auth for an answer that is no JSON object, such as a proxy's page
            raise unexpected_answer("fetch an access token", f"{type(error).__name__}: {error}") from error

    def _secrets(self) -> list[object]:
        """Return what the token endpoint is sent, except assertions, none of which is sent twice."""
        return [getattr(self.credentials, name, None) for name in ("refresh_token", "client_secret", "token")]


def _single_attempt(request: Callable[..., Any], timeout: float) -> Callable[..., Any]:
    """Return google-auth's ``request``, raising a retryable RefreshError for an answer that google-auth would retry.

    google-auth repeats such requests itself, up to three times and with delays of seconds that nothing can shorten or
    interrupt (``google.auth._exponential_backoff``). How often and how long is for the :class:`RetryPolicy` to say.
    """
    from google.auth.exceptions import RefreshError

    def send(*args: object, **kwargs: object) -> Any:  # noqa: ANN401 - a response of google.auth.transport
        response = request(*args, **{"timeout": timeout, **kwargs})
        if response.status != 200 and _is_transient(response.status, response.data):
            text = bytes(response.data).decode("utf-8", "replace")
            raise RefreshError(text or f"HTTP {response.status}", retryable=True)  # type: ignore[no-untyped-call]
        return response

    return send


def _is_transient(status: int, content: bytes) -> bool:
    if status in _TRANSIENT_TOKEN_STATUSES:
        return True
    try:
        answer = json.loads(content)
    except ValueError:
        return False
    return isinstance(answer, Mapping) and str(answer.get("error")) in _TRANSIENT_TOKEN_ERRORS


class Transport:
    """The ``http`` of google-api-python-client, for any number of threads. Sends each request once."""

    def __init__(self, credentials: RefreshingCredentials, user_agent: str, retry_policy: RetryPolicy) -> None:
        self._credentials = credentials
        self._user_agent = user_agent
        self._timeout = (retry_policy.connect_timeout, retry_policy.read_timeout)
        self._local = threading.local()

    @property
    def credentials(self) -> Credentials:
        """Read by google-api-python-client to compare universe domains."""
        return self._credentials.credentials

    def request(
        self,
        uri: str,
        method: str = "GET",
        body: str | bytes | None = None,
        headers: Mapping[str, str] | None = None,
        **_: object,
    ) -> tuple[Response, bytes]:
        """Send one request; after 401, send it once more with a new token.

        Raises:
            CredentialsError, GoogleUnreachableError: see :meth:`RefreshingCredentials.apply`; the latter also where
                there is no answer.
        """
        for attempt in (1, 2):
            sent = {**(headers or {}), "user-agent": self._user_agent}
            token = self._credentials.apply(sent)
            response, content = self._send(uri, method, body, sent)
            # a proxy that refuses a request may repeat it
            content = redact([token], content.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")
            if response.status != 401 or attempt == 2:
                break
            self._credentials.renew(token)
        return response, content

    def close(self) -> None:
        """Do nothing: google-api-python-client calls this; connections end with their threads."""

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
            session.auth = _keep_authorization
            self._local.session = session
        made: Session = self._local.session
        return made


def _keep_authorization(request: _T) -> _T:
    """Authenticate nothing: without an ``auth``, requests would replace the token by a login of ``~/.netrc``."""
    return request


class ApiRequest(Protocol):
    """A request of google-api-python-client: what ``service.projects().jobs().get(...)`` returns."""

    def execute(self, *, num_retries: int) -> object:
        """Send it."""


def execute_once(request: ApiRequest, action: str) -> JsonObject:
    """Send a request of google-api-python-client, once, and return the answer.

    Args:
        request: the request.
        action: what it does, in the infinitive, for messages: ``submit the job x``.

    Raises:
        GoogleRefusedError: Google answered with an error.
        GoogleUnreachableError: there was no answer, or none that can be parsed.
        CredentialsError: nothing was sent.
    """
    from googleapiclient.errors import HttpError  # type: ignore[import-untyped]

    try:
        answer = request.execute(num_retries=0)
    except HttpError as error:
        status, cause = parse_error(error.content, error.resp.reason)
        retry_after = parse_retry_after(error.resp.get("retry-after"))
        raise GoogleRefusedError(int(error.resp.status), status, action, cause, retry_after) from error
    except GoogleUnreachableError as error:
        raise GoogleUnreachableError(
            error.id, f"cannot {action}: {error.message}", cause=error.cause, hint=error.hint
        ) from error
    if not isinstance(answer, Mapping):  # a proxy's page, for example
        raise unexpected_answer(action, str(answer))
    return answer
