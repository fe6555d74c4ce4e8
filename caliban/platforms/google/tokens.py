"""Access tokens: fetched by google-auth, within our limits, and refreshed for all threads at once."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from caliban.bounded import DeadlineExceededError, parse_json
from caliban.clock import Clock, SystemClock
from caliban.errors import CalibanError
from caliban.platforms.google.endpoints import may_carry_credentials
from caliban.platforms.google.errors import (
    CredentialsError,
    ForeignAnswerError,
    is_transient_status,
    unreachable,
)
from caliban.platforms.google.token_errors import ACTION, REFUSED, kind_of, token_failure
from caliban.platforms.retry import RetryPolicy
from caliban.redaction import exception_text, register_secrets
from caliban.threads import within

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

_TRANSIENT_ERRORS = frozenset({"internal_failure", "server_error", "temporarily_unavailable"})
"""Of an OAuth error response (RFC 6749, 4.1.2.1), and Google's own."""
_BODY_LIMIT = 1 << 20
PROGRAM_SECONDS = 150.0
"""For a program that a credentials file names; google-auth gives it up to 120."""
PROGRAM_SLOW = f"waiting for the program that provides Google credentials (for up to {PROGRAM_SECONDS:.0f} s) ..."
_SECRETS = ("refresh_token", "client_secret", "token")


class RefreshingCredentials:
    """Credentials that threads share; one thread at a time refreshes them, for all."""

    def __init__(
        self,
        credentials: Credentials,
        retry_policy: RetryPolicy,
        clock: Clock | None = None,
        on_slow: Callable[[str], None] = lambda line: None,
    ) -> None:
        """Share credentials.

        Args:
            credentials: of google-auth.
            retry_policy: for the token endpoint.
            clock: the time, and waiting; None for that of this machine.
            on_slow: called with a line for the user when a program for credentials takes long.
        """
        self._on_slow = on_slow
        self.credentials = credentials
        self._retry_policy = retry_policy
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._refusal: CredentialsError | None = None
        self._renewed_token: str | None = None

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

    def renew(self, refused_token: str) -> bool:
        """Fetch another token, unless another thread did so since ``refused_token`` was used.

        Returns:
            Whether there is another one. False where ``refused_token`` was itself fetched in place of another one.

        Raises:
            CredentialsError, GoogleUnreachableError: see :meth:`apply`.
        """
        with self._lock:
            if self.credentials.token != refused_token:
                return True
            if self._renewed_token == refused_token:
                return False
            self._refresh()
            self._renewed_token = str(self.credentials.token)
            return True

    def _refresh(self) -> None:
        import google.auth.exceptions

        if self._refusal is not None:
            raise self._refusal
        secrets = [getattr(self.credentials, name, None) for name in _SECRETS]
        register_secrets(*secrets)
        try:
            self._call_refresh()
        except CalibanError:
            raise
        except google.auth.exceptions.GoogleAuthError as error:
            # from None: the text of google-auth, which may repeat what was sent, is in the cause, without secrets
            raise self._failure(error, secrets) from None
        except (DeadlineExceededError, subprocess.SubprocessError) as error:
            raise unreachable(ACTION, error) from None
        except Exception as error:  # noqa: BLE001 - google-auth reads answers without checking them
            if kind_of(self.credentials) == "external":  # or what a program or file of a workload contains
                raise self._failure(error, secrets) from None
            text = f"{type(error).__name__}: {exception_text(error, secrets)}"
            raise ForeignAnswerError(ACTION, 200, text) from None
        self._check_token()

    def _failure(self, error: Exception, secrets: list[object]) -> CalibanError:
        failure = token_failure(error, self.credentials, secrets)
        # the token of a workload is replaced again and again: it may be accepted later
        if isinstance(failure, CredentialsError) and failure.id == REFUSED and kind_of(self.credentials) != "external":
            self._refusal = failure
        return failure

    def _call_refresh(self) -> None:
        request = single_attempt(self._retry_policy, self._clock, self._on_slow)

        def refresh() -> None:
            self.credentials.refresh(request)  # type: ignore[no-untyped-call]

        # google-auth kills such a program after a while, but waits for what it has started.
        if type(self.credentials).__module__ == "google.auth.pluggable":
            on_slow = partial(self._on_slow, PROGRAM_SLOW)
            within(PROGRAM_SECONDS, refresh, self._clock, on_slow, late="a credential helper did not end")
        else:
            refresh()

    def _check_token(self) -> None:
        """Remove spaces and newlines around the token, which no header can have.

        Raises:
            ForeignAnswerError: what was answered cannot be a token.
        """
        token = self.credentials.token
        stripped = token.strip() if isinstance(token, str) else ""
        register_secrets(token)
        if not stripped or not stripped.isascii() or not stripped.isprintable() or " " in stripped:
            self.credentials.token = None
            raise ForeignAnswerError(ACTION, 200, "the access token is missing or malformed")
        self.credentials.token = stripped


class _TokenResponse:
    """An answer in the form of ``google.auth.transport.Response``."""

    def __init__(self, status: int, headers: Mapping[str, str], data: bytes) -> None:
        self.status = status
        self.headers = headers
        self.data = data


def single_attempt(
    policy: RetryPolicy, clock: Clock, on_slow: Callable[[str], None] = lambda line: None
) -> Callable[..., Any]:
    """Return the ``request`` of google-auth: within our limits, without redirects, and never repeated by google-auth.

    google-auth repeats requests itself, up to three times and with delays of seconds that nothing can shorten or
    interrupt (``google.auth._exponential_backoff``). How often and how long is for the :class:`RetryPolicy` to say.
    """

    def send(
        url: str,
        method: str = "GET",
        body: object = None,
        headers: Mapping[str, str] | None = None,
        timeout: object = None,
        **_: object,
    ) -> _TokenResponse:
        import requests
        from google.auth.exceptions import TransportError

        from caliban.bounded_http import LimitedSession, Limits

        if not may_carry_credentials(url):
            raise TransportError("the URL is neither https nor on this machine")  # type: ignore[no-untyped-call]
        seconds = (policy.connect_timeout, policy.read_timeout)
        slow = f"waiting for an answer of {urlsplit(url).hostname} ..."
        limits = Limits(clock, policy.request_deadline, _BODY_LIMIT, lambda: on_slow(slow))
        session = LimitedSession(limits)
        try:
            with session:
                answer = session.request(method, url, data=body, headers=headers, timeout=seconds)  # type: ignore[arg-type]
        except (requests.RequestException, UnicodeError) as error:
            raise TransportError(exception_text(error)) from None  # type: ignore[no-untyped-call]
        if answer.status_code != 200:
            _check_refusal(method, answer.status_code, answer.reason, answer.content)
        return _TokenResponse(answer.status_code, answer.headers, answer.content)

    return send


def metadata_request(request: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``request`` to find out whether this machine is on Google Cloud: after an odd answer it is not."""

    def send(*args: object, **kwargs: object) -> Any:  # noqa: ANN401 - a response of google.auth.transport
        from google.auth.exceptions import TransportError

        try:
            return request(*args, **kwargs)
        except CalibanError as error:
            raise TransportError(error.message) from None  # type: ignore[no-untyped-call]

    return send


def _check_refusal(method: str, status: int, reason: str, content: bytes) -> None:
    """Check that an error is one of a token service: google-auth takes every other one for a refusal as well.

    Token services are called by POST. What answers a GET is the metadata server of a cloud, or the service that gives a
    workload its token, and has errors of any form.

    Raises:
        GoogleUnreachableError: the service fails for now, or the answer is not its own.
    """
    try:
        answer = parse_json(content)
    except ValueError:
        answer = None
    error = answer.get("error") if isinstance(answer, dict) else None
    text = content.decode("utf-8", "replace").strip() or reason or f"HTTP {status}"
    if is_transient_status(status) or (isinstance(error, str) and error in _TRANSIENT_ERRORS):
        raise unreachable(ACTION, ConnectionError(text))
    if method == "GET":
        return
    if status >= 500 or not (isinstance(error, str | dict) and error):
        raise ForeignAnswerError(ACTION, status, text)
