"""Why there is no access token, for each kind of credentials, in the words of who refused it, and what to do."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from caliban.bounded import parse_json
from caliban.platforms.google.errors import CredentialsError, GoogleUnreachableError, unreachable
from caliban.redaction import clean_text, exception_text

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

ACTION = "fetch an access token"
REFUSED = "credentials-refused"
_UNAVAILABLE = "credentials-unavailable"

_KINDS: Mapping[str, str] = {
    "google.oauth2.service_account": "service_account",
    "google.oauth2.credentials": "user",
    "google.auth.external_account_authorized_user": "user",
    "google.auth.impersonated_credentials": "impersonated",
    "google.auth.identity_pool": "external",
    "google.auth.aws": "external",
    "google.auth.pluggable": "external",
    "google.auth.compute_engine.credentials": "machine",
}
"""Module of google-auth -> kind of its credentials."""

_IMPERSONATION = "Unable to acquire impersonated credentials"
"""How google-auth begins what IAM says about an impersonation; IAM's own words are its second argument."""
_NOT_ALLOWED = "GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES"
_EMAIL = re.compile(r"[\w.+-]{1,100}@[\w.-]{1,200}")
_LOGIN = "gcloud auth application-default login"
_FEDERATION = (
    "check the audience of the credentials file, the attribute condition of the workload identity provider, and "
    "whether the token of the credential source has expired"
)
_SOURCE = "check credential_source of the credentials file: its file, URL and headers, or program"


def kind_of(credentials: Credentials) -> str:
    """Return ``service_account``, ``user``, ``impersonated``, ``external`` or ``machine``; "" for other kinds."""
    return _KINDS.get(type(credentials).__module__, "")


def token_failure(
    error: Exception, credentials: Credentials, secrets: Iterable[object] = ()
) -> CredentialsError | GoogleUnreachableError:
    """Return why there is no access token: refused credentials, a source of them that fails, or no answer.

    Args:
        error: raised by google-auth, or by what reads a source of subject tokens for it; it may repeat what was sent.
        credentials: that should have been refreshed.
        secrets: what was sent and must not be shown.
    """
    from google.auth.exceptions import OAuthError, TransportError

    kind, words = kind_of(credentials), _words(error, secrets)
    first = error.args[0] if error.args else None
    if kind == "machine" and isinstance(first, TransportError) and len(first.args) > 1:
        return _machine_failure(first, secrets)
    if isinstance(error, TransportError) or isinstance(first, TransportError) or getattr(error, "retryable", False):
        return unreachable(ACTION, first if isinstance(first, TransportError) else error, secrets)
    is_refused_by_google = isinstance(error, OAuthError) or words.startswith(_IMPERSONATION)
    if kind == "external" and not is_refused_by_google:
        return CredentialsError(
            _UNAVAILABLE,
            "cannot get a token of the workload to exchange with Google",
            cause=words,
            hint=f"set {_NOT_ALLOWED}=1, if the program may be run" if _NOT_ALLOWED in words else _SOURCE,
        )
    hint = _hint(kind, words, getattr(credentials, "service_account_email", None))
    return CredentialsError(REFUSED, "Google does not accept the credentials", cause=words, hint=hint)


def _hint(kind: str, words: str, email: object) -> str:
    account = email if isinstance(email, str) and _EMAIL.fullmatch(email) else "EMAIL"
    if kind == "external":
        if words.startswith(_IMPERSONATION):
            return f"grant the workload the role roles/iam.workloadIdentityUser on {account}"
        return _FEDERATION
    if kind == "impersonated":
        if words.startswith(_IMPERSONATION):
            return f"ask for the role roles/iam.serviceAccountTokenCreator on {account}"
        return f"run: {_LOGIN} --impersonate-service-account {account}"
    if kind == "user":
        return f"run: {_LOGIN}"
    return (
        "for a service account, check whether the key is still valid and this machine's clock is correct; for "
        f"your own account, run: {_LOGIN}"
    )


def _machine_failure(error: Exception, secrets: Iterable[object]) -> CredentialsError:
    """Return the error for an answer of the metadata server that is no token, as where there is no service account."""
    answer = error.args[1]
    data = getattr(answer, "data", b"")
    status = getattr(answer, "status", "")
    said = clean_text(data.decode("utf-8", "replace") if isinstance(data, bytes) else str(data), secrets)
    return CredentialsError(
        _UNAVAILABLE,
        "the metadata server of this machine has no access token",
        cause=f"HTTP {status}\n{said}".rstrip(),
        hint=f"attach a service account to the machine, or run: {_LOGIN}; or pass a service account key with "
        "--cloud_key",
    )


def _words(error: Exception, secrets: Iterable[object]) -> str:
    """Return what an error says, with what the answer in it adds."""
    if not error.args or isinstance(error, OSError):
        return exception_text(error, secrets)
    first, *rest = error.args
    words = str(first)
    added = next((found for found in map(_said, rest) if found and found not in words), None)
    return clean_text(f"{words}: {added}" if added else words, secrets)


def _said(answer: object) -> str | None:
    """Return the message of an answer: of an error object of Google's APIs or of OAuth, or else all of it."""
    if isinstance(answer, bytes):
        answer = answer.decode("utf-8", "replace")
    content = answer
    if isinstance(answer, str):
        try:
            content = parse_json(answer.encode())
        except ValueError:
            return answer.strip()
    if not isinstance(content, Mapping):
        return None
    inner = content.get("error")
    if isinstance(inner, Mapping):
        return str(inner.get("message") or "") or None
    described = content.get("error_description") or content.get("message")
    return str(described) if described else json.dumps(dict(content), default=str) if isinstance(answer, str) else None
